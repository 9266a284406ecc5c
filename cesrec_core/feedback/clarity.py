"""Whether feedback can be acted on, and if not, why: it says too little, contradicts itself, or is about something else."""

from collections.abc import Iterable, Sequence

from cesrec_core.feedback.clauses import Opinion
from cesrec_core.feedback.mentions import Mention
from cesrec_core.feedback.vocabulary import FUNCTION_WORDS, Word, singular, word_set, words_of

VAGUE_FEEDBACK = "vague_feedback"
CONFLICTING_FEEDBACK = "conflicting_feedback"
OFF_TOPIC_FEEDBACK = "off_topic_feedback"

# Words with which people speak of their taste, of what they were shown and of wishes, whatever a shop sells.
_OF_TASTE = word_set(
    "like love hate enjoy prefer want wish hope fancy crave need mood feel taste fan favourite favorite care mind interest "
    "interested bored boring dull tired sick enough good great nice fine okay ok bad better best worse worst awful terrible "
    "amazing wonderful perfect cool interesting fun funny meh hmm mm wow exciting similar different close closer else "
    "suggest suggestion suggested recommend recommended recommendation option choice pick choose list idea surprise show "
    "shown find seen saw try tried watch watched play played read heard looking sort kind type thing stuff something anything "
    "nothing everything whatever know think guess sure unsure depend matter really quite maybe perhaps probably again instead "
    "meant rather too usual usually dunno dont pass skip happy not no yes yeah nah awesome excellent fantastic lovely classic "
    "that those these they them it ones"
)

_CHANGES_OF_MIND = word_set(
    "actually wait sorry correction scratch mean meant nevermind used usually normally always generally often sometimes before "
    "now today tonight lately currently anymore moment week just recently"
)


def reason_not_to_act(
    utterance: str, is_vague: bool, wanted: Sequence[Iterable[str]], unwanted: Sequence[Iterable[str]]
) -> str | None:
    """Why nothing shall be done about an utterance, or None.

    Args:
        is_vague: nothing was understood that could be acted on.
        wanted, unwanted: attributes and item ids that were asked for and turned down, as parallel collections.
    """
    if is_vague:
        return OFF_TOPIC_FEEDBACK if is_off_topic(utterance) else VAGUE_FEEDBACK
    is_conflicting = any(set(first) & set(second) for first, second in zip(wanted, unwanted, strict=True))
    return CONFLICTING_FEEDBACK if is_conflicting else None


def is_off_topic(utterance: str) -> bool:
    """Whether words that nothing was understood of are about something else: they have content, and none of it is of taste.

    Wishes for what the catalogue has no word for are not off topic.
    """
    texts = [word.text for word in words_of(utterance)]
    content = [text for text in texts if text not in FUNCTION_WORDS or text in _OF_TASTE]
    return bool(content) and not any(text in _OF_TASTE or singular(text) in _OF_TASTE for text in content)


def contradicted(opinions: Iterable[Opinion], kind: str, words: Sequence[Word]) -> set[str]:
    """Attributes (`kind` "attributes") or items ("item_ids") that the same words expressly ask for and turn down.

    Not where people say that they correct themselves, or that now is not always: then their last word counts.
    """
    if any(word.text in _CHANGES_OF_MIND for word in words):
        return set()
    wanted, unwanted = set(), set()
    for opinion in opinions:
        if opinion.is_explicit and opinion.polarity > 0:
            wanted.update(getattr(opinion.mention, kind))
        elif opinion.is_explicit and opinion.polarity < 0 and _is_whole(opinion.mention, words):
            unwanted.update(getattr(opinion.mention, kind))
    return wanted & unwanted


def _is_whole(mention: Mention, words: Sequence[Word]) -> bool:
    """False where a word before the mention makes it a special kind of the thing, and the rest may still be welcome."""
    if mention.start == 0:
        return True
    before = words[mention.start - 1]
    return (bool(before.after) and before.after != "-") or before.text in FUNCTION_WORDS | _OF_TASTE
