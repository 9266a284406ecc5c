"""What a model wrote instead of candidates' titles: how often, and which titles of the catalogue come nearest."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cesrec_core.constructor.titles import normalised

NUM_NEAREST = 3


@dataclass(frozen=True)
class NearTitle:
    """A title and the Dice coefficient of its set of words and the text's: 1 for the same words, in whatever order."""

    title: str
    overlap: float


class TitleIndex:
    """Titles by their words."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._num_words: list[int] = []
        self._places: dict[str, list[int]] = {}
        for place, label in enumerate(labels):
            words = _words(label)
            self._num_words.append(len(words))
            for word in words:
                self._places.setdefault(word, []).append(place)

    def nearest(self, text: str, number: int = NUM_NEAREST) -> list[NearTitle]:
        """Titles that share a word with the text, those with the greatest overlap first, equals by their place."""
        words = _words(text)
        shared = Counter(place for word in words for place in self._places.get(word, ()))
        overlaps = {place: 2 * count / (len(words) + self._num_words[place]) for place, count in shared.items()}
        best = sorted(overlaps, key=lambda place: (-overlaps[place], place))[:number]
        return [NearTitle(self._labels[place], overlaps[place]) for place in best]


def most_frequent(counts: Mapping[str, int], labels: Sequence[str], number: int) -> list[dict[str, object]]:
    """The texts that were written most often, each with its count and the titles that come nearest; equals by text."""
    index = TitleIndex(labels)
    texts = sorted(counts, key=lambda text: (-counts[text], text))[:number]
    return [{"text": text, "count": counts[text], "nearest": [vars(near) for near in index.nearest(text)]} for text in texts]


def _words(text: str) -> set[str]:
    """Runs of letters and digits, in one form; a year in brackets is a word."""
    return set("".join(character if character.isalnum() else " " for character in normalised(text)).split())
