"""The outlier mask: the items of a history that lie farthest from the user's core taste (CESRec, section 3.3).

u = mean of the embeddings of the history; s_i = cos(u, e_i); the `num_masked` items of lowest s_i are masked. What is less than
5e-7 apart is a tie, see SIMILARITY_DECIMALS.

Dimensions: B users, N items of the catalogue, D width of a vector, L longest history of a block.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cesrec_core.catalogue import Space
from cesrec_core.config import MaskOutliersSection
from cesrec_core.item_lists import ItemLists

# Similarities are rounded to so many decimals before they are compared, so that a mask does not hang on the order in
# which a batch of another shape adds up its floats.
SIMILARITY_DECIMALS = 6
# Items whose vectors are looked at together: 2 MiB in float64 at width 64, which stays in the cache.
ITEMS_PER_BLOCK = 2**12
# Q_n of a large normal sample is its standard deviation over this; of 2 to 9 numbers, and of an odd or an even number of more,
# it is corrected as Croux & Rousseeuw (1992) found.
DEVIATIONS_PER_QN = 2.2191
SMALL_SAMPLES = (0.399, 0.994, 0.512, 0.844, 0.611, 0.857, 0.669, 0.872)
ODD, EVEN = 1.4, 3.8
# Of the typical angle between two items: in a space where nothing is far from anything, as that of a language model's means,
# less of an angle tells an outlier from a shade of meaning. Where items lie in all directions it is 6 degrees.
MIN_DEVIATION_SHARE = 0.064
# The typical angle is the median of about so many pairs, over all of the catalogue.
MAX_TYPICAL_PAIRS = 1000
# Radians. Rounded similarities tell no smaller angles apart.
ANGLE_RESOLUTION = 2e-3
# Of `min_deviations`: an item is company to another where it lies no farther from it than an item that all but stands out lies
# from the core. The less it is, the more strays are found beside several tastes, and the more of their own items are lost.
COMPANY_SHARE = 0.9


@dataclass(frozen=True)
class Outliers:
    """One user's mask.

    Attributes:
        positions: int64, zero-based from the oldest item, ascending.
        similarities: float32, one per place of the history; NaN where the item has no vector or is too old to be read.
    """

    positions: NDArray[np.int64]
    similarities: NDArray[np.float32]


@dataclass(frozen=True)
class Masks:
    """The masks of B users, one after the other; `masks[user]` is one of them.

    Attributes:
        positions: B lists, zero-based from the oldest item, ascending.
        similarities: float32, parallel to the items of all histories, see `Outliers`.
        offsets: int64 [B + 1], of the histories.
    """

    positions: ItemLists
    similarities: NDArray[np.float32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, user: int) -> Outliers:
        return Outliers(self.positions[user], self.similarities[self.offsets[user] : self.offsets[user + 1]])

    def __iter__(self) -> Iterator[Outliers]:
        return (self[user] for user in range(len(self)))


@dataclass(frozen=True)
class OutlierRule:
    """How much to mask, and where.

    Attributes:
        num_masked: places to mask per history; at most so many with `min_deviations`.
        min_kept_items: a history with fewer than num_masked + min_kept_items items that have a vector is left whole; with
            `min_deviations` no more are masked than leaves so many.
        max_history_items: only so many of the newest items are read; older ones are never masked.
        min_deviations: mask only what lies so far beyond the history's median angle to its core, in robust standard deviations
            of the history's own angles (see `_middle_and_deviation`), and lies alone there: an item that has another close by
            is of another taste, see `_has_company`. None: mask in any case, as the paper does.
        space: which vectors of the catalogue are compared, see `CatalogueFeatures.in_space`.
        random_seed: mask at random places instead, as a control. A user's places hang on the seed and on the history's rows of
            the catalogue, and on no other user.
    """

    num_masked: int
    min_kept_items: int
    max_history_items: int
    min_deviations: float | None = None
    space: Space = "aligned"
    random_seed: int | None = None

    @classmethod
    def of(cls, section: MaskOutliersSection, seed: int) -> "OutlierRule":
        return cls(
            section.num_masked,
            section.min_kept_items,
            section.max_history_items,
            section.min_deviations if section.is_adaptive else None,
            "aligned" if section.space == "random" else section.space,
            seed if section.space == "random" else None,
        )


@dataclass(frozen=True)
class Neighbour:
    """Another place of the same history."""

    position: int
    similarity: float


class WhyKept(StrEnum):
    """Why an item that was compared is not masked."""

    NONE_ASKED_FOR = "num_masked is 0"
    SHORT_HISTORY = "the history is too short"
    CHANCE = "chance chose others"
    WITHIN_SPREAD = "within the user's own spread"
    HAS_COMPANY = "another item like it is there"
    OTHERS_FARTHER = "others lie farther"


@dataclass(frozen=True)
class Explanation:
    """Why a place of a history is masked, or is not.

    Attributes:
        why_kept: None where it is masked.
        similarity: to the core taste.
        rank: 1 = farthest from the core taste, among `num_ranked` items that were read and have a vector.
        deviations: beyond the median of the history's angles, see `OutlierRule.min_deviations`.
        nearest: the places whose items are most like this one, most like it first.
    """

    position: int
    is_masked: bool
    why_kept: WhyKept | None
    similarity: float
    rank: int
    num_ranked: int
    deviations: float
    nearest: list[Neighbour]


def _why_kept(
    items: NDArray[np.int64],
    similarities: NDArray[np.float64],
    space: "_Space",
    rule: OutlierRule,
    here: int,
    num_masked: int,
) -> WhyKept:
    """Of one history's items that were compared."""
    num_spare = len(items) - rule.min_kept_items
    if rule.num_masked == 0:
        return WhyKept.NONE_ASKED_FOR
    if num_spare < (rule.num_masked if rule.min_deviations is None else 1):
        return WhyKept.SHORT_HISTORY
    if rule.random_seed is not None:
        return WhyKept.CHANCE if num_masked else WhyKept.WITHIN_SPREAD
    if rule.min_deviations is not None:
        deviates, is_stray = _strays(similarities[None], ItemLists.of([items]), space, rule.min_deviations)
        if not deviates[0, here]:
            return WhyKept.WITHIN_SPREAD
        if not is_stray[0, here]:
            return WhyKept.HAS_COMPANY
    return WhyKept.OTHERS_FARTHER


@torch.inference_mode()
def find_outliers(histories: ItemLists, vectors: Tensor, rule: OutlierRule) -> Masks:
    """The masks of B users. Among equal similarities the older place is masked first.

    Args:
        histories: rows of `vectors`, oldest first.
        vectors: float [N, D]; a row of NaN or of zeros is an item without a vector, which is never masked.
        rule: how much to mask.
    """
    similarities = np.full(len(histories.idx), np.nan, np.float32)
    num_positions = np.zeros(len(histories) + 1, np.int64)
    positions: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    longest = min(rule.max_history_items, int(np.diff(histories.offsets).max(initial=0)))
    space = _Space(vectors)
    similarities_of = _Similarities(space, max(ITEMS_PER_BLOCK, longest))
    for block, users, items in _blocks(histories):
        lengths = np.diff(block.offsets)
        places = np.arange(len(block.idx)) - np.repeat(block.offsets[:-1], lengths)
        is_read = places >= np.repeat(lengths - rule.max_history_items, lengths)
        newest = ItemLists(block.idx[is_read], np.concatenate([[0], np.cumsum(is_read)])[block.offsets])
        cosines = similarities_of(newest)
        is_masked = _lowest(newest, cosines, space, rule)
        similarities[items][is_read] = cosines
        positions.append(places[is_read][is_masked])
        num_positions[1:][users] = np.add.reduceat(np.append(is_masked, False), newest.offsets[:-1]) * (lengths > 0)
    return Masks(ItemLists(np.concatenate(positions), np.cumsum(num_positions)), similarities, histories.offsets)


def explain(history: NDArray[np.int64], vectors: Tensor, rule: OutlierRule, position: int, num_nearest: int = 3) -> Explanation:
    """Why the item at a place of a history is masked, or is not.

    Raises:
        ValueError: there is no such place, or its item was not read or has no vector, so there is nothing to say.
    """
    found = find_outliers(ItemLists.of([history]), vectors, rule)[0]
    if not 0 <= position < len(history) or np.isnan(found.similarities[position]):
        raise ValueError(f"position {position} of a history of {len(history)} was not read, or its item has no vector")
    read = np.flatnonzero(~np.isnan(found.similarities))
    # As they were when they were compared.
    similarities = found.similarities[read].astype(np.float64).round(SIMILARITY_DECIMALS)
    here = int(np.flatnonzero(read == position)[0])
    order = similarities.argsort(kind="stable")
    of_history = torch.nn.functional.normalize(vectors[torch.from_numpy(history[read])].double(), dim=1)
    likeness = (of_history @ of_history[here]).numpy()
    likeness[here] = -np.inf
    space, angles = _Space(vectors), np.arccos(similarities)
    middle, deviation = _middle_and_deviation(angles[None], space.least_deviation)
    nearest = (-likeness).argsort(kind="stable")[: min(num_nearest, len(read) - 1)]
    is_masked = position in found.positions
    return Explanation(
        position=position,
        is_masked=is_masked,
        why_kept=None if is_masked else _why_kept(history[read], similarities, space, rule, here, len(found.positions)),
        similarity=float(similarities[here]),
        rank=1 + int(np.flatnonzero(order == here)[0]),
        num_ranked=len(read),
        deviations=float((angles[here] - middle[0, 0]) / deviation[0, 0]),
        nearest=[Neighbour(int(read[place]), float(likeness[place])) for place in nearest],
    )


def _blocks(lists: ItemLists) -> Iterator[tuple[ItemLists, slice, slice]]:
    """All lists in blocks of about ITEMS_PER_BLOCK items, which lists they are, and where in `idx` their items stand.

    All that is made on the way is as small as a block: arrays of all users' items would fall out of the cache.
    """
    start = 0
    while start < len(lists):
        end = int(np.searchsorted(lists.offsets, lists.offsets[start] + ITEMS_PER_BLOCK, side="right")) - 1
        end = max(end, start + 1)
        yield lists.rows(start, end), slice(start, end), slice(int(lists.offsets[start]), int(lists.offsets[end]))
        start = end


class _Space:
    """The vectors of the catalogue, and what is the same for all histories."""

    def __init__(self, vectors: Tensor) -> None:
        self.vectors = vectors

    @cached_property
    def norms(self) -> Tensor:
        """float64 [N]; 0 where an item has no vector."""
        norms = self.vectors.norm(dim=1, dtype=torch.float64)
        return torch.where(torch.isfinite(norms), norms, 0.0)

    @cached_property
    def least_deviation(self) -> float:
        """In radians, what the deviation of a history's angles is taken for where it is less: see MIN_DEVIATION_SHARE."""
        items = torch.nonzero(self.norms)[:, 0]
        some = items[:: max(1, len(items) // (2 * MAX_TYPICAL_PAIRS))]
        half = len(some) // 2
        if half == 0:
            return ANGLE_RESOLUTION
        directions = torch.nn.functional.normalize(self.vectors[some].double(), dim=1)
        cosines = torch.linalg.vecdot(directions[:half], directions[half : 2 * half])
        return max(ANGLE_RESOLUTION, MIN_DEVIATION_SHARE * float(cosines.clamp(-1.0, 1.0).arccos().median()))


class _Similarities:
    """cos(u, e_i) of items in a block. Buffers are made once: fresh ones cost more in page faults than to fill them."""

    def __init__(self, space: _Space, max_items: int) -> None:
        vectors = space.vectors
        self.vectors, self.norms = vectors, space.norms
        self.picked = torch.empty(max_items, vectors.shape[1], dtype=vectors.dtype)
        self.exact, self.of_users = (torch.empty(max_items, vectors.shape[1], dtype=torch.float64) for _ in range(2))

    def __call__(self, block: ItemLists) -> NDArray[np.float64]:
        """float64, parallel to `block.idx`; NaN where an item has no vector."""
        idx, rows = torch.from_numpy(block.idx), torch.from_numpy(block.row_numbers())
        norms = self.norms[idx]
        has_none = norms == 0
        exact = self.exact[: len(idx)].copy_(torch.index_select(self.vectors, 0, idx, out=self.picked[: len(idx)]))
        if has_none.any():
            exact[has_none] = 0.0
        # The sum points where the mean does, and the cosine asks for no more.
        centres = torch.zeros(len(block), exact.shape[1], dtype=torch.float64).index_add_(0, rows, exact)
        products = torch.linalg.vecdot(exact, torch.index_select(centres, 0, rows, out=self.of_users[: len(idx)]))
        lengths = norms * centres.norm(dim=1)[rows]
        cosines = torch.where(lengths > 0, products / lengths, 0.0).round(decimals=SIMILARITY_DECIMALS)
        return cosines.masked_fill(has_none, torch.nan).numpy()


def _lowest(block: ItemLists, cosines: NDArray[np.float64], space: _Space, rule: OutlierRule) -> NDArray[np.bool_]:
    """Which items of the block are masked, bool, parallel to `block.idx`."""
    lengths = np.diff(block.offsets)
    places = np.arange(len(block.idx)) - np.repeat(block.offsets[:-1], lengths)
    cells = block.row_numbers(), places
    padded = np.full((len(block), int(lengths.max(initial=1))), np.nan)
    padded[cells] = cosines
    is_compared = ~np.isnan(padded)
    num_spare = is_compared.sum(axis=1) - rule.min_kept_items
    if rule.min_deviations is None:
        stands_out, num_masked = is_compared, np.where(num_spare >= rule.num_masked, rule.num_masked, 0)
    else:
        _, stands_out = _strays(padded, block, space, rule.min_deviations)
        num_masked = np.minimum(stands_out.sum(axis=1), num_spare.clip(0, rule.num_masked))
    if rule.random_seed is not None:
        # As many as the rule would mask, anywhere: only where they lie is left to chance.
        padded[cells], stands_out = _noise(block, places, rule.random_seed), is_compared
    left = np.where(stands_out, padded, np.inf)
    is_masked = np.zeros(padded.shape, bool)
    everybody = np.arange(len(block))
    for number in range(int(num_masked.max(initial=0))):
        lowest = left.argmin(axis=1)  # the first of equals
        is_masked[everybody, lowest] |= number < num_masked
        left[everybody, lowest] = np.inf
    return is_masked[cells]


def _strays(
    similarities: NDArray[np.float64], block: ItemLists, space: _Space, min_deviations: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which items lie so many deviations from the median, and which of these have no company; both [B, L]. NaN = no item."""
    angles = np.arccos(similarities)
    middle, deviation = _middle_and_deviation(angles, space.least_deviation)
    deviates = angles - middle >= min_deviations * deviation
    close = np.cos(np.minimum(middle + COMPANY_SHARE * min_deviations * deviation, np.pi))
    return deviates, deviates & ~_has_company(deviates, similarities, close, block, space.vectors)


def _middle_and_deviation(
    angles: NDArray[np.float64], least_deviation: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Median and robust standard deviation of each row of [B, L], NaN = no item; both [B, 1].

    Of angles, since similarities of items of one taste have a long tail below: they cannot exceed 1, so that the spread of most
    makes an ordinary item of the tail seem to stand out. Angles lie evenly around theirs.
    """
    count = (~np.isnan(angles)).sum(axis=1)
    in_order = np.sort(angles, axis=1)  # puts NaN last
    rows = np.arange(len(angles))
    low, high = in_order[rows, (np.maximum(count, 1) - 1) // 2], in_order[rows, np.minimum(count // 2, in_order.shape[1] - 1)]
    middle = np.where(count > 0, (low + high) / 2, 0.0)
    return middle[:, None], np.maximum(_spread(in_order, count), least_deviation)[:, None]


@lru_cache(64)
def _pairs_of(number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs of so many places, the smaller place first."""
    lower, upper = np.triu_indices(number, 1)
    return lower, upper


def _spread(in_order: NDArray[np.float64], count: NDArray[np.int64]) -> NDArray[np.float64]:
    """Q_n (Rousseeuw & Croux 1993) of each row's first `count` numbers, [B]: the first quartile of all pairs' differences.

    Strays do not move it while they are fewer than half. The median absolute deviation is as robust, but varies half as much
    again: of 20 angles it is by chance often so small that an ordinary item seems to stand out.
    """
    result = np.zeros(len(in_order))
    for number in np.unique(count[count > 1]).tolist():
        rows = np.flatnonzero(count == number)
        lower, upper = _pairs_of(number)
        half = number // 2 + 1
        nearest = half * (half - 1) // 2 - 1
        differences = np.partition(in_order[rows[:, None], upper] - in_order[rows[:, None], lower], nearest, axis=1)
        in_small = SMALL_SAMPLES[number - 2] if number < 10 else number / (number + (ODD if number % 2 else EVEN))
        result[rows] = differences[:, nearest] * DEVIATIONS_PER_QN * in_small
    return result


def _has_company(
    stands_out: NDArray[np.bool_],
    similarities: NDArray[np.float64],
    close: NDArray[np.float64],
    block: ItemLists,
    vectors: Tensor,
) -> NDArray[np.bool_]:
    """Which items that stand out are no strays; [B, L].

    The median knows the larger of two tastes alone, and would give up items of the smaller one. They have company: another item
    of the history whose similarity to them is at least `close`, [B, 1], or one that stands out, too, and is nearer to them than
    the core. An item that somebody had twice is no company to itself.
    """
    result = np.zeros_like(stands_out)
    users = np.flatnonzero(stands_out.any(axis=1))
    if len(users) == 0:
        return result
    # Items that stand out come first, in their order, and a row keeps as many places as the longest has of them.
    order = np.argsort(~stands_out[users], axis=1, kind="stable")
    places = order[:, : int(stands_out.sum(axis=1).max())]
    num_out = stands_out[users].sum(axis=1)[:, None]
    is_there = np.arange(places.shape[1]) < num_out
    has_vector = ~np.isnan(np.take_along_axis(similarities[users], order, axis=1))
    items = np.where(has_vector, block.idx[block.offsets[users][:, None] + np.where(has_vector, order, 0)], 0)
    directions = torch.nn.functional.normalize(vectors[torch.from_numpy(items)].double(), dim=2)
    # [users, those that stand out, all items of the history in that order]
    likeness = (directions[:, : places.shape[1]] @ directions.transpose(1, 2)).round(decimals=SIMILARITY_DECIMALS).numpy()
    is_another = has_vector[:, None] & (items[:, : places.shape[1], None] != items[:, None, :])
    to_nearest = np.where(is_another, likeness, -np.inf).max(axis=2)
    also_stands_out = is_another & (np.arange(items.shape[1]) < num_out)[:, None]
    to_nearest_out = np.where(also_stands_out, likeness, -np.inf).max(axis=2)
    has_company = to_nearest >= close[users]
    has_company |= to_nearest_out > np.take_along_axis(similarities[users], places, axis=1)
    user, place = np.nonzero(has_company & is_there)
    result[users[user], places[user, place]] = True
    return result


def _noise(block: ItemLists, places: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each item, from the seed, its place and its whole history."""
    start = np.uint64(seed) + places.astype(np.uint64)
    of_history = np.zeros(len(block), np.uint64)
    np.add.at(of_history, block.row_numbers(), _mixed(_mixed(start) + block.idx.astype(np.uint64)))
    return _mixed(_mixed(of_history)[block.row_numbers()] + start) / 2.0**64


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea & Flood 2014): neighbouring numbers become unrelated ones."""
    z = numbers + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
