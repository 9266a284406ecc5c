"""Which attributes are meant by words that the catalogue does not have: "scary" in a catalogue of Horror and Comedy.

A sentence model tells, so that no list of words is needed: the nearest attribute, where it is near enough and clearly nearer
than the next.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from cesrec_core.feedback.cues import (
    ADVERBS,
    ASPECTS,
    CONTRASTS,
    COPULAS,
    DEGREES,
    INTERJECTIONS,
    LIGHT_WORDS,
    SHOWN,
    THINGS,
    cue_at,
)
from cesrec_core.feedback.mentions import Mention
from cesrec_core.feedback.speech_acts import Embed, directions
from cesrec_core.feedback.vocabulary import Word, word_set

# How much nearer than the second the nearest attribute has to be, by cosine.
_MIN_MARGIN = 0.06
_MIN_LETTERS = 3
_MAX_WORDS_OF_TERM = 2
# Of one utterance: bounds the work on text without an end.
_MAX_TERMS = 40
# Kept at a time: a night hears many utterances, of mostly the same words.
_MAX_KNOWN = 100_000
# With more, nearly every word is near to several, and each catalogue would be embedded for little.
_MAX_ATTRIBUTES = 20_000
# A name alone is near to whatever is short and common; said to be a category, it is near to what belongs to it.
_AS_CATEGORY = "category: {}"
_WITHOUT_CONTENT = (
    LIGHT_WORDS
    | INTERJECTIONS
    | THINGS
    | SHOWN
    | ASPECTS
    | ADVERBS
    | DEGREES
    | CONTRASTS
    | COPULAS
    | word_set("sound look seem")
)


class Synonyms:
    """The nearest attributes of terms. A term is embedded once.

    Args:
        attributes: as the catalogue spells them.
        embed: texts to vectors, float32 [N, H].
        min_similarity: cosine that an attribute has to reach.
    """

    def __init__(self, attributes: Iterable[str], embed: Embed, min_similarity: float) -> None:
        self._attributes = sorted(set(attributes))
        self._embed = embed
        self._min_similarity = min_similarity
        self._directions: np.ndarray | None = None
        self._known: dict[str, str | None] = {}

    def of(self, terms: Iterable[str]) -> dict[str, str]:
        """The attribute of each term that has one."""
        terms = list(dict.fromkeys(terms))
        if self._attributes and len(self._attributes) <= _MAX_ATTRIBUTES:
            if len(self._known) > _MAX_KNOWN:
                self._known.clear()
            self._look_up([term for term in terms if term not in self._known])
        found = ((term, self._known.get(term)) for term in terms)
        return {term: attribute for term, attribute in found if attribute is not None}

    def _look_up(self, terms: Sequence[str]) -> None:
        if not terms:
            return
        if self._directions is None:
            self._directions = directions(self._embed([_AS_CATEGORY.format(name.lower()) for name in self._attributes]))
        for term, similarities in zip(terms, directions(self._embed(terms)) @ self._directions.T, strict=True):
            nearest = int(similarities.argmax())
            others = np.delete(similarities, nearest)
            is_clear = not len(others) or similarities[nearest] >= others.max() + _MIN_MARGIN
            is_meant = bool(similarities[nearest] >= self._min_similarity) and is_clear
            self._known[term] = self._attributes[nearest] if is_meant else None


def unknown_terms(words: Sequence[Word], mentions: Sequence[Mention]) -> list[str]:
    """Words with content, and pairs of them, that stand for nothing yet: neither known names nor cues, nor names at all."""
    taken = {place for mention in mentions for place in range(mention.start, mention.end)}
    texts = [word.text for word in words]
    place = 0
    while place < len(words):
        cue, after = cue_at(texts, place)
        if cue is not None:
            taken.update(range(place, after))
        place = max(after, place + 1) if cue is not None else place + 1
    has_content = [
        place not in taken
        and len(word.text) >= _MIN_LETTERS
        and word.text.isalpha()
        and word.text not in _WITHOUT_CONTENT
        and not (word.is_capitalised and place > 0 and words[place - 1].after not in (".", "?"))
        for place, word in enumerate(words)
    ]
    return list(dict.fromkeys(_terms(words, has_content)))[:_MAX_TERMS]


def _terms(words: Sequence[Word], has_content: Sequence[bool]) -> Iterator[str]:
    for start in range(len(words)):
        for end in range(start + 1, min(start + _MAX_WORDS_OF_TERM, len(words)) + 1):
            if not has_content[end - 1]:
                break
            yield " ".join(word.text for word in words[start:end])
            if words[end - 1].after not in ("", "-"):
                break
