"""What a simulated user must not say: anything that gives the target away, beyond its attributes."""

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from cesrec_core.feedback.understanding import understand
from cesrec_core.feedback.vocabulary import FUNCTION_WORDS, CatalogueVocabulary, names_of, singular, words_of

MAX_CHARACTERS = 2000
Leak = Literal["item_id", "title", "unique_word", "unique_words"]


class LeakCheck:
    """Knows for every item of a catalogue which words are its own, alone or one after the other.

    Words of attributes are never a leak, whatever titles hold them: attributes are what a simulated user may speak of.
    Neither are words without content.
    """

    def __init__(self, item_ids: Sequence[str], titles: Sequence[str], attributes: Sequence[Iterable[str]]) -> None:
        self._titles = dict(zip(item_ids, titles, strict=True))
        self._free = {*FUNCTION_WORDS, *(word for values in attributes for value in values for word in _words(value))}
        self._vocabulary = CatalogueVocabulary.from_items(item_ids, titles, attributes)
        self._num_titles = Counter(word for title in titles for word in set(_words(title)))
        self._num_titles_of_pairs = Counter(pair for title in titles for pair in _pairs(_words(title)))

    def leak(self, utterance: str, item_id: str) -> Leak | None:
        """What an utterance gives away of an item, or None.

        A title also counts misspelt, written in one, or with invisible signs in it: whatever `understand` would link.
        """
        utterance = "".join(sign for sign in unicodedata.normalize("NFKC", utterance) if unicodedata.category(sign) != "Cf")
        if re.search(rf"(?<!\w){re.escape(item_id)}(?!\w)", utterance, re.IGNORECASE):
            return "item_id"
        title = self._titles.get(item_id, "")
        said = _words(utterance)
        if any(_holds(said, _words(name)) for name in names_of(title) if not self._free.issuperset(_words(name))):
            return "title"
        written_in_one = {"".join(_words(name)) for name in names_of(title) if " " in name}
        understood = understand(utterance, (), self._vocabulary, MAX_CHARACTERS)
        if written_in_one.intersection(said) or item_id in (*understood.wanted_item_ids, *understood.unwanted_item_ids):
            return "title"
        own = {word for word in _words(title) if self._num_titles[word] == 1 and word not in self._free}
        if own.intersection(said):
            return "unique_word"
        # "A red house": many titles speak of houses, and of what is red, and one of both.
        own_pairs = {pair for pair in _pairs(_words(title)) if self._num_titles_of_pairs[pair] == 1}
        return "unique_words" if any(not self._free.issuperset(pair) for pair in own_pairs & _pairs(said)) else None


def _words(text: str) -> list[str]:
    return [singular(word.text) for word in words_of(text)]


def _pairs(words: Sequence[str]) -> set[tuple[str, str]]:
    """Words with content, each with the next."""
    with_content = [word for word in words if word not in FUNCTION_WORDS]
    return set(itertools.pairwise(with_content))


def _holds(words: Sequence[str], phrase: Sequence[str]) -> bool:
    return any(list(words[start : start + len(phrase)]) == list(phrase) for start in range(len(words) - len(phrase) + 1))
