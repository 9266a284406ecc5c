"""What an utterance means, in the catalogue's own vocabulary: what is wanted, what is not, and whether it can be acted on.

Three steps: find what is spoken of (titles, ordinals, pronouns, attributes), walk through the clauses while keeping track of
whether they approve or reject, then settle every mention. Plain rules, so that the same words always mean the same and a new
catalogue needs no training. The cost is linear in the utterance, which is cut first, and does not depend on the catalogue.
"""

import html
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cesrec_core.feedback.clarity import contradicted
from cesrec_core.feedback.clauses import DISMISSAL, Opinion, Reader
from cesrec_core.feedback.mentions import find_mentions
from cesrec_core.feedback.vocabulary import Vocabulary, Word, words_of

PARSER_VERSION = "rules-2"

ACCEPT = "accept"
REJECT = "reject"
CRITIQUE = "critique"
INQUIRE = "inquire"
OTHER = "other"

_EXPLICIT = 0.9
_IMPLIED = 0.6

_CONTRACTED_NOT = re.compile(
    r"\b(do|does|did|is|are|was|were|ca|could|wo|would|should|have|has|had|ai|must|need)n['’]?t\b", re.I
)
# "A > B": neither an arrow, nor a smiley, nor the end of a tag.
_TAG = re.compile(r"</?[a-z][^<>]*>", re.I)
_GREATER = re.compile(r"(?<![<=:;-])>{1,3}(?=\s*\w)")
_LESS = re.compile(r"<{1,3}(?=\s*[^\W\d])")
_ACCEPTANCE = re.compile(
    r"\b(check (\w+ )?out|look(ing)? for?ward|sounds? (good|great|interesting|perfect|awesome|fun)|perfect|"
    r"(ill|i will|going to|gonna|want to|have to|definitely) (watch|see|try|take|get|buy|play|go with))\b"
)


@dataclass(frozen=True)
class Signals:
    """What was understood. Attributes are spelled as in the catalogue; all tuples are in the order of mention.

    Attributes:
        intents: accept, reject, critique, inquire; other where none of these.
        is_vague: nothing can be acted on.
        confidence: between 0 and 1; 0 where vague.
    """

    intents: tuple[str, ...]
    wanted_attributes: tuple[str, ...]
    unwanted_attributes: tuple[str, ...]
    wanted_item_ids: tuple[str, ...]
    unwanted_item_ids: tuple[str, ...]
    is_vague: bool
    confidence: float


def model_id(vocabulary: Vocabulary) -> str:
    """What understood: the version of these rules and the catalogue they were applied to."""
    return f"{PARSER_VERSION}-{vocabulary.fingerprint}"


def understand(utterance: str, recommended_item_ids: Sequence[str], vocabulary: Vocabulary, max_characters: int) -> Signals:
    """Read one utterance. Never raises on text, whatever it holds.

    Args:
        utterance: the words, untrusted.
        recommended_item_ids: what they react to, best first; "the second one" is counted here.
        max_characters: longer utterances are cut.
    """
    words = words_of(_plain(utterance[:max_characters]))
    mentions = find_mentions(words, recommended_item_ids, vocabulary)
    reader = Reader(words, {mention.start: mention for mention in mentions}, recommended_item_ids)
    settled = reader.read()
    return _signals(settled, words, set(recommended_item_ids))


def _plain(utterance: str) -> str:
    unescaped = html.unescape(utterance)
    visible = "".join(" " if unicodedata.category(character)[0] == "C" else character for character in unescaped)
    spelled = _LESS.sub(" below ", _GREATER.sub(" over ", _TAG.sub(" ", visible)))
    return _CONTRACTED_NOT.sub(r"\1 not", spelled.replace("…", ".").replace("’", "'"))


def _signals(opinions: list[Opinion], words: list[Word], recommended: set[str]) -> Signals:
    attributes, items = _settled(opinions, "attributes"), _settled(opinions, "item_ids")
    acted_on = [
        opinion for opinion in opinions if opinion.polarity and (opinion.mention.attributes or opinion.mention.item_ids)
    ]
    is_vague = not any(attributes.values()) and not any(items.values())
    evidence = [(_EXPLICIT if opinion.is_explicit else _IMPLIED) * opinion.mention.evidence for opinion in acted_on]
    return Signals(
        intents=_intents(attributes, items, words, recommended),
        wanted_attributes=_with(attributes, 1, contradicted(opinions, "attributes", words)),
        unwanted_attributes=_with(attributes, -1, contradicted(opinions, "attributes", words)),
        wanted_item_ids=_with(items, 1, contradicted(opinions, "item_ids", words)),
        unwanted_item_ids=_with(items, -1, contradicted(opinions, "item_ids", words)),
        is_vague=is_vague,
        confidence=0.0 if is_vague else round(sum(evidence) / len(evidence), 3),
    )


def _settled(opinions: Iterable[Opinion], name: str) -> dict[str, int]:
    """Value → polarity. Where people contradict themselves, an explicit word outweighs an implied one, then the last counts."""
    polarity: dict[str, int] = {}
    is_explicit: dict[str, bool] = {}
    for opinion in opinions:
        for value in getattr(opinion.mention, name):
            if opinion.polarity and (opinion.is_explicit or not is_explicit.get(value, False)):
                polarity[value] = opinion.polarity
                is_explicit[value] = opinion.is_explicit
    return polarity


def _with(polarities: dict[str, int], wanted: int, on_both_sides: set[str]) -> tuple[str, ...]:
    return tuple(value for value, polarity in polarities.items() if polarity == wanted or value in on_both_sides)


def _intents(attributes: dict[str, int], items: dict[str, int], words: list[Word], recommended: set[str]) -> tuple[str, ...]:
    text = " ".join(word.text for word in words)
    is_rejected = any(polarity < 0 and item_id in recommended for item_id, polarity in items.items())
    is_accepted = any(polarity > 0 and item_id in recommended for item_id, polarity in items.items())
    found = {
        ACCEPT: is_accepted or bool(_ACCEPTANCE.search(text)),
        REJECT: is_rejected or bool(DISMISSAL.search(text)) or text.startswith(("no ", "nope")) or text == "no",
        CRITIQUE: bool(attributes) or any(item_id not in recommended for item_id in items),
        INQUIRE: any(word.after == "?" for word in words) and not attributes and not items,
    }
    return tuple(intent for intent, holds in found.items() if holds) or (OTHER,)
