"""What an utterance means, in the catalogue's own vocabulary: what is wanted, what is not, and whether it can be acted on.

Three steps: find what is spoken of (titles, ordinals, pronouns, attributes), walk through the clauses while keeping track of
whether they approve or reject, then settle every mention. Plain rules, so that the same words always mean the same and a new
catalogue needs no training. A `Listener` has a model of sentences as well. It tells what people are doing when they say so
(`intents`), which rules alone tell worse, and which attributes are meant by words that the catalogue lacks. The cost is linear
in the utterance, which is cut first, and does not depend on the catalogue.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cesrec_core.feedback.clarity import contradicted
from cesrec_core.feedback.clauses import BARE_REJECTION, DISMISSAL, Opinion, Reader
from cesrec_core.feedback.intents import ACCEPT, CRITIQUE_ADD, CRITIQUE_COMPARE, INQUIRY, OTHER, REJECT, is_actionable
from cesrec_core.feedback.mentions import Mention, find_mentions
from cesrec_core.feedback.plain_text import plain_text
from cesrec_core.feedback.speech_acts import Embed, Head, Spoken, intents_of, spoken
from cesrec_core.feedback.synonyms import Synonyms, unknown_terms
from cesrec_core.feedback.vocabulary import CatalogueVocabulary, Word, words_of

PARSER_VERSION = "rules-9"

_EXPLICIT = 0.9
_IMPLIED = 0.6
# What the clauses say counts beside the probability that something should change.
_OF_WHAT_IS_TURNED_DOWN = 0.25
_OF_WHAT_IS_ASKED_FOR = 0.15

Shown = Sequence[Mapping[str, str]]

_ACCEPTANCE = re.compile(
    r"\b(check (\w+ )?out|look(ing)? for?ward|sounds? (good|great|interesting|perfect|awesome|fun)|perfect|"
    r"(ill|i will|going to|gonna|want to|have to|definitely) (watch|see|try|take|get|buy|play|go with))\b"
)


@dataclass(frozen=True)
class Signals:
    """What was understood. Attributes are spelled as in the catalogue; all tuples are in the order of mention.

    Attributes:
        intents: of `cesrec_core.feedback.intents`, in the order that stands there; other where none of these.
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

    @property
    def is_actionable(self) -> bool:
        """Whether something else should be recommended because of it, be it known what or not."""
        return is_actionable(self.intents)

    @property
    def is_clear(self) -> bool:
        """Whether something can be acted on, and nothing is both wanted and unwanted."""
        contradicts = set(self.wanted_attributes) & set(self.unwanted_attributes)
        return not self.is_vague and not contradicts and not set(self.wanted_item_ids) & set(self.unwanted_item_ids)


def model_id(vocabulary: CatalogueVocabulary, head: str = "") -> str:
    """What understood: the version of these rules, what tells intents beside them, and the catalogue they were applied to."""
    return "-".join(part for part in (PARSER_VERSION, head, vocabulary.fingerprint) if part)


def understand(
    utterance: str, recommended_item_ids: Sequence[str], vocabulary: CatalogueVocabulary, max_characters: int
) -> Signals:
    """Read one utterance by rules alone. Never raises on text, whatever it holds.

    Args:
        utterance: the words, untrusted.
        recommended_item_ids: what they react to, best first; "the second one" is counted here.
        max_characters: longer utterances are cut.
    """
    return _read(utterance, recommended_item_ids, vocabulary, max_characters).signals


class RuleListener:
    """Reads utterances by rules alone, intents included; see `Listener`."""

    def __init__(self, vocabulary: CatalogueVocabulary, max_characters: int) -> None:
        self.vocabulary = vocabulary
        self.max_characters = max_characters

    def read(self, utterances: Sequence[str], recommended: Sequence[Sequence[str]], shown: Shown = ()) -> list[Signals]:
        vocabularies = _vocabularies(self.vocabulary, shown, len(utterances))
        said = zip(utterances, recommended, vocabularies, strict=True)
        return [understand(utterance, item_ids, vocabulary, self.max_characters) for utterance, item_ids, vocabulary in said]


class Listener:
    """Reads utterances in batches: what is wanted by rules, intents by a head over sentence vectors.

    Args:
        embed: texts to vectors, float32 [N, H], of the model that `head` was fitted with.
        min_similarity: of words that the catalogue lacks to the attribute that they stand for, by cosine; None: to none.
    """

    def __init__(
        self,
        vocabulary: CatalogueVocabulary,
        embed: Embed,
        head: Head,
        max_characters: int,
        min_similarity: float | None = None,
    ) -> None:
        self.vocabulary = vocabulary
        self.embed = embed
        self.head = head
        self.max_characters = max_characters
        self.synonyms = None if min_similarity is None else Synonyms(vocabulary.spelled_attributes(), embed, min_similarity)

    def read(self, utterances: Sequence[str], recommended: Sequence[Sequence[str]], shown: Shown = ()) -> list[Signals]:
        """What each utterance means; see `understand`.

        Args:
            recommended: for each utterance the items it reacts to, best first.
            shown: for each utterance titles by item, of items that the catalogue does not have; none where left out.
        """
        vocabularies = _vocabularies(self.vocabulary, shown, len(utterances))
        read = [
            _read(utterance, item_ids, vocabulary, self.max_characters)
            for utterance, item_ids, vocabulary in zip(utterances, recommended, vocabularies, strict=True)
        ]
        meant = read
        if self.synonyms is not None:
            meant = self._read_by_meaning(self.synonyms, read, utterances, recommended, vocabularies)
        probabilities = self._probabilities([reading.spoken for reading in read])
        result = []
        for reading, by_meaning, item_ids in zip(read, meant, recommended, strict=True):
            # What is only likely to be meant is no evidence of what somebody is doing when they say so.
            signals, said = reading.signals, reading.spoken
            of_sentences = np.stack([probabilities[sentence] for sentence in said.sentences])
            evidence = _evidence_of_change(signals, item_ids)
            of_whole, names_unwanted = probabilities[said.whole], bool(signals.unwanted_attributes)
            item_only = reading.hints_at_shown_alone
            intents = (REJECT,) if said.is_bare_rejection else intents_of(of_sentences, of_whole, evidence, names_unwanted)
            meaning = by_meaning.signals
            if item_only and REJECT in intents and ACCEPT not in intents:
                # No cue of the rules says what was thought of it ("the first one broke after a day"), but the sentence does.
                meaning = replace(meaning, wanted_item_ids=(), unwanted_item_ids=meaning.wanted_item_ids)
            result.append(replace(meaning, intents=intents))
        return result

    def _read_by_meaning(
        self,
        synonyms: Synonyms,
        read: Sequence["_Reading"],
        utterances: Sequence[str],
        recommended: Sequence[Sequence[str]],
        vocabularies: Sequence[CatalogueVocabulary],
    ) -> list["_Reading"]:
        """Once more what names no attribute of the catalogue, with those that other words are near to in meaning.

        It counts where somebody says outright that they want it or do not: "something scary", but not "we were scared".
        """
        terms = [unknown_terms(reading.words, reading.mentions) if not reading.names_attributes else [] for reading in read]
        known = synonyms.of(term for of_one in terms for term in of_one)
        result = []
        for reading, of_one, utterance, item_ids, vocabulary in zip(
            read, terms, utterances, recommended, vocabularies, strict=True
        ):
            meant = {term: known[term] for term in of_one if term in known}
            again = _read(utterance, item_ids, vocabulary.with_synonyms(meant), self.max_characters) if meant else reading
            result.append(again if again.names_attributes else reading)
        return result

    def _probabilities(self, spoken_texts: Iterable[Spoken]) -> dict[str, np.ndarray]:
        """Every text once: people say the same, and most utterances are a single sentence."""
        texts = list(dict.fromkeys(text for said in spoken_texts for text in (*said.sentences, said.whole)))
        return dict(zip(texts, self.head.probabilities(texts, self.embed), strict=True)) if texts else {}


def _vocabularies(vocabulary: CatalogueVocabulary, shown: Shown, count: int) -> list[CatalogueVocabulary]:
    return [vocabulary.with_titles(titles) if titles else vocabulary for titles in shown] or [vocabulary] * count


def _evidence_of_change(signals: Signals, recommended: Sequence[str]) -> float:
    turned_down = bool(signals.unwanted_attributes) or not set(signals.unwanted_item_ids).isdisjoint(recommended)
    return _OF_WHAT_IS_TURNED_DOWN * turned_down + _OF_WHAT_IS_ASKED_FOR * bool(signals.wanted_attributes)


@dataclass(frozen=True)
class _Reading:
    """What an utterance means, and what that was read from.

    `names_attributes`: by their own words, or outright by others. `hints_at_shown_alone`: all that is wanted is something that
    was shown, and only because it was named.
    """

    signals: Signals
    spoken: Spoken
    words: Sequence[Word]
    mentions: Sequence[Mention]
    names_attributes: bool
    hints_at_shown_alone: bool


def _read(utterance: str, recommended: Sequence[str], vocabulary: CatalogueVocabulary, max_characters: int) -> _Reading:
    text = plain_text(utterance[:max_characters])
    words = words_of(text)
    mentions = find_mentions(words, recommended, vocabulary)
    opinions = Reader(words, {mention.start: mention for mention in mentions}, recommended).read()
    for opinion in opinions:
        if opinion.mention.is_by_meaning and not opinion.is_explicit:
            opinion.polarity = 0
    is_item_wanted = any(opinion.polarity > 0 and opinion.mention.item_ids for opinion in opinions)
    for opinion in opinions:
        if opinion.mention.is_by_meaning and opinion.polarity < 0 and is_item_wanted:
            opinion.polarity = 0  # "more like the second one, less violent": less of it than there, not none of its kind
    shown = frozenset(recommended)
    is_bare = bool(BARE_REJECTION.fullmatch(" ".join(word.text for word in words)))
    return _Reading(
        _signals(opinions, words, shown),
        replace(spoken(text, words, mentions, shown), is_bare_rejection=is_bare),
        words,
        mentions,
        names_attributes=any(mention.attributes and not mention.is_by_meaning for mention in mentions)
        or any(opinion.polarity for opinion in opinions if opinion.mention.is_by_meaning),
        hints_at_shown_alone=_hint_at_shown_alone(opinions, shown),
    )


def _hint_at_shown_alone(opinions: Iterable[Opinion], shown: frozenset[str]) -> bool:
    acted_on = [
        opinion for opinion in opinions if opinion.polarity and (opinion.mention.attributes or opinion.mention.item_ids)
    ]
    return bool(acted_on) and all(
        opinion.polarity > 0
        and not opinion.is_explicit
        and shown.issuperset(opinion.mention.item_ids)
        and not opinion.mention.attributes
        for opinion in acted_on
    )


def _signals(opinions: list[Opinion], words: list[Word], recommended: frozenset[str]) -> Signals:
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


def _intents(
    attributes: dict[str, int], items: dict[str, int], words: list[Word], recommended: frozenset[str]
) -> tuple[str, ...]:
    text = " ".join(word.text for word in words)
    is_rejected = any(polarity < 0 and item_id in recommended for item_id, polarity in items.items())
    is_accepted = any(polarity > 0 and item_id in recommended for item_id, polarity in items.items())
    found = {
        ACCEPT: is_accepted or bool(_ACCEPTANCE.search(text)),
        REJECT: is_rejected
        or bool(DISMISSAL.search(text))
        or text.startswith(("no ", "nope"))
        or bool(BARE_REJECTION.fullmatch(text)),
        CRITIQUE_ADD: bool(attributes),
        CRITIQUE_COMPARE: any(item_id not in recommended for item_id in items),
        INQUIRY: any(word.after == "?" for word in words) and not attributes and not items,
    }
    return tuple(intent for intent, holds in found.items() if holds) or (OTHER,)
