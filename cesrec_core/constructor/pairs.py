"""Self-supervised training pairs for the Constructor: a true window, places hidden in it, and what a person would say.

Only interactions that the caller passes are ever used: give training histories, and no held-out item can leak.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cesrec_core.config import FinetuneConstructorSection
from cesrec_core.feedback.simulator import off_topic_utterance, simulate_utterance, vague_utterance
from cesrec_core.sequences import Split

MASKED = -1
MIN_CONTEXT_ITEMS = 2
# Of somebody who validates: two may be held out, and a place to hide is more than a context.
MIN_ITEMS_TO_VALIDATE = MIN_CONTEXT_ITEMS + 3
# Of the users, where those who validate are left out of training: a small catalogue would have nobody left to learn from.
MAX_VALIDATING_SHARE = 0.1
# For messages.
HISTORIES_NEEDED = (
    f"It takes a user with {MIN_ITEMS_TO_VALIDATE} items or more and, with dataset.split all, another with "
    f"{MIN_CONTEXT_ITEMS + 1} or more. Give more interactions."
)
# A near miss is one of this many nearest items in the collaborative space.
_NUM_NEIGHBOURS = 50
_NUM_REMEMBERED = 1 << 14
# What a recommender would have shown: this many popular items, for feedback about the place after the history.
_NUM_SHOWN = 10
# Of the words that say nothing.
_OFF_TOPIC_SHARE = 0.4


@dataclass(frozen=True)
class PairSettings:
    """How pairs are drawn.

    Attributes:
        history_items: longest history, without a place appended after it.
        next_place_share: share of pairs that ask for the place after the history; the others ask for 1 to
            `max_masked` places inside it.
        vague_share: share of pairs whose words say nothing, so that the history alone must answer.
        near_miss_share: share of the items put into masked places that are near what was there; the others are popular.
        max_attributes: at most this many wishes in an utterance.
        unwanted_share: probability that an utterance also turns something down.
    """

    history_items: int
    next_place_share: float = 0.5
    vague_share: float = 0.05
    near_miss_share: float = 0.5
    max_masked: int = 3
    max_attributes: int = 2
    unwanted_share: float = 0.5

    @classmethod
    def of(cls, section: FinetuneConstructorSection) -> "PairSettings":
        return cls(section.history_items, section.next_place_share, section.vague_share, section.near_miss_share)


@dataclass(frozen=True, eq=False)
class TrainingPair:
    """One example: the words, the history with places hidden, and the true sequence v*.

    Attributes:
        feedback: utterance.
        history: int32 [L], item codes; MASKED (-1) at masked places.
        masked: bool [L], True at the places to decide.
        target: int32 [L], the true item codes; equal to `history` where not masked.
    """

    feedback: str
    history: np.ndarray
    masked: np.ndarray
    target: np.ndarray


def most_validating(num_wanted: int, num_users: int, split: Split) -> int:
    """How many of the users may validate: one at least, however few there are."""
    if split == "leave_one_out":
        return num_wanted
    return min(num_wanted, max(1, int(MAX_VALIDATING_SHARE * num_users)))


class PairDrawer:
    """Draws training pairs from the history of one user at a time.

    Args:
        titles, attributes: of each of the N items of the catalogue.
        collaborative: float [N, D], the space in which near misses are near.
        num_interactions: int [N], how often training histories hold each item: what popular items are drawn by.
    """

    def __init__(
        self,
        titles: Sequence[str],
        attributes: Sequence[Sequence[str]],
        collaborative: np.ndarray,
        num_interactions: np.ndarray,
        settings: PairSettings,
    ) -> None:
        self.titles = titles
        self.attributes = attributes
        self.settings = settings
        norms = np.linalg.norm(collaborative, axis=1, keepdims=True)
        self._directions = (collaborative / np.maximum(norms, 1e-12)).astype(np.float32)
        self._attribute_sets = [frozenset(of_item) for of_item in attributes]
        # Of popular items they are asked for again and again, and finding them is a pass over the catalogue.
        self._near_misses = lru_cache(_NUM_REMEMBERED)(self._find_near_misses)
        self._popularity = np.cumsum(num_interactions / max(1, num_interactions.sum()))  # float64 [N]

    def draw(self, history: np.ndarray, rng: np.random.Generator) -> TrainingPair:
        """A pair from a random moment of a history of more than MIN_CONTEXT_ITEMS item codes, oldest first."""
        end = int(rng.integers(MIN_CONTEXT_ITEMS + 1, len(history) + 1))
        if rng.random() < self.settings.next_place_share:
            return self.next_place(history[: end - 1], int(history[end - 1]), rng)
        return self.masked_places(history[:end], rng)

    def next_place(self, history: np.ndarray, target: int, rng: np.random.Generator) -> TrainingPair:
        """Ask for the place after the history: the wishes are the target's, the dislikes of popular and recent items."""
        context = history[-self.settings.history_items :]
        shown = [*self._draw_popular(_NUM_SHOWN, rng), *context[-_NUM_SHOWN:]]
        sequence = np.append(context, target).astype(np.int32)
        masked = np.zeros(len(sequence), dtype=bool)
        masked[-1] = True
        return self._pair(sequence, masked, [int(code) for code in shown], rng)

    def masked_places(self, history: np.ndarray, rng: np.random.Generator) -> TrainingPair:
        """Corrupt some places of a window: the wishes are of what was there, the dislikes of what was put in."""
        window = history[-self.settings.history_items :].astype(np.int32)
        most = min(self.settings.max_masked, len(window) - MIN_CONTEXT_ITEMS)
        positions = self._draw_positions(window, int(rng.integers(1, max(most, 1) + 1)), rng)
        masked = np.zeros(len(window), dtype=bool)
        masked[positions] = True
        put_in = [self._draw_corruption(int(window[position]), rng) for position in positions]
        return self._pair(window, masked, put_in, rng)

    def _pair(self, target: np.ndarray, masked: np.ndarray, shown: Sequence[int], rng: np.random.Generator) -> TrainingPair:
        return TrainingPair(self._say(target[masked], shown, rng), np.where(masked, MASKED, target), masked, target)

    def _say(self, wanted: np.ndarray, shown: Sequence[int], rng: np.random.Generator) -> str:
        if rng.random() < self.settings.vague_share:
            return off_topic_utterance(rng) if rng.random() < _OFF_TOPIC_SHARE else vague_utterance(rng)
        true_codes = wanted.tolist()
        truths = [self.attributes[code] for code in true_codes]
        # The wish is of one of the places; nothing true of any of them is turned down.
        wish = truths[int(rng.integers(len(truths)))]
        true_of_any = {attribute for attributes in truths for attribute in attributes}
        others = [[attribute for attribute in self.attributes[code] if attribute not in true_of_any] for code in shown]
        titles = [self.titles[code] for code in shown if code not in true_codes]
        return simulate_utterance(wish, others, rng, self.settings.max_attributes, self.settings.unwanted_share, titles)

    def _draw_positions(self, window: np.ndarray, num_masked: int, rng: np.random.Generator) -> np.ndarray:
        """Places to hide, ascending. One utterance is to fit them all, so the later ones share an attribute with the
        first where the window has such places."""
        first = int(rng.integers(len(window)))
        wish = self._attribute_sets[int(window[first])]
        order = [place for place in rng.permutation(len(window)).tolist() if place != first]
        order.sort(key=lambda place: wish.isdisjoint(self._attribute_sets[int(window[place])]))
        return np.array(sorted([first, *order[: num_masked - 1]]))

    def _draw_corruption(self, true_code: int, rng: np.random.Generator) -> int:
        if rng.random() >= self.settings.near_miss_share:
            return int(self._draw_popular(1, rng)[0])
        candidates = self._near_misses(true_code)
        if not candidates:  # the catalogue holds no other
            return true_code
        return candidates[int(rng.integers(len(candidates)))]

    def _find_near_misses(self, true_code: int) -> list[int]:
        """Of the nearest items those that share no attribute with the true one, or all where there is none, by item code."""
        similarities = self._directions @ self._directions[true_code]
        similarities[true_code] = -np.inf
        num_neighbours = min(_NUM_NEIGHBOURS, len(similarities) - 1)
        if not num_neighbours:
            return []
        # Sorted, because argpartition leaves the order open and a draw must be reproducible.
        near: list[int] = np.sort(np.argpartition(-similarities, num_neighbours - 1)[:num_neighbours]).tolist()
        wish = self._attribute_sets[true_code]
        return [code for code in near if wish.isdisjoint(self._attribute_sets[code])] or near

    def _draw_popular(self, num_items: int, rng: np.random.Generator) -> np.ndarray:
        codes = np.searchsorted(self._popularity, rng.random(num_items), side="right")
        return np.minimum(codes, len(self.attributes) - 1)


class PairSource:
    """Draws training pairs from histories in memory; those too short for a context are left out."""

    def __init__(self, histories: Sequence[np.ndarray], drawer: PairDrawer) -> None:
        self.histories = [history for history in histories if len(history) > MIN_CONTEXT_ITEMS]
        self.drawer = drawer

    @classmethod
    def over(
        cls,
        histories: Sequence[np.ndarray],
        titles: Sequence[str],
        attributes: Sequence[Sequence[str]],
        collaborative: np.ndarray,
        settings: PairSettings,
    ) -> "PairSource":
        """Pairs of these training histories, int item codes, oldest first; popular is what they hold often."""
        usable = [history for history in histories if len(history) > MIN_CONTEXT_ITEMS]
        codes = np.concatenate([np.zeros(0, np.int64), *usable]).astype(np.int64)
        num_interactions = np.bincount(codes, minlength=len(titles))
        return cls(usable, PairDrawer(titles, attributes, collaborative, num_interactions, settings))

    def draw(self, rng: np.random.Generator) -> TrainingPair:
        """One pair from a random user and a random moment of the user's history."""
        return self.drawer.draw(self.histories[int(rng.integers(len(self.histories)))], rng)
