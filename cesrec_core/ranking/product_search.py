"""The items with the greatest dot products, exactly: every item is scored for every user, block by block.

Scores are made in float32; what decides the order are dot products of the best few in float64. So from the same vectors a user
gets the same list, whatever the size of a block and the order in which a processor adds numbers up: alone or among a million,
on a CPU or on a GPU. Equal products go by item_idx. (Vectors that two devices make of the same history differ by rounding; and
where only float64's rounding tells two products apart, another make of processor may tell them apart otherwise.)

Dimensions: B users, D embedding_dim, V items, C items that may be chosen, k length of a list.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from cesrec_core.errors import ArtifactError
from cesrec_core.item_lists import ItemLists

# Scores in float32 at once. Few of them are still in the cache when they are looked through, many make a faster product. What
# counts for more hangs on the processor: one took least time with 2 Mi, another 1.7 times as long with those as with 32 Mi.
SCORES_PER_BLOCK = {"cpu": (2 * 2**20, 8 * 2**20, 32 * 2**20), "cuda": (256 * 2**20,)}
# Exponentials of scores that are held at once: few enough to be added up where they were made, in the cache.
EXPONENTIALS_AT_ONCE = {"cpu": 2**19, "cuda": 2**26}
# Numbers in float64 that are multiplied at once: few enough to stay in the cache.
FACTORS_AT_ONCE = {"cpu": 2**18, "cuda": 2**26}
# Terms that float32 cannot hold add less than a billionth to a sum above this, for any number of items there may be.
LEAST_PLAIN_SUM = 1e-18
# Candidates beyond k whose products are made in float64; a tie or a near tie at the end of those takes the wider net.
SPARE_CANDIDATES = 2
# Levels of groups that are looked through from the top: at each, the best groups are opened and the others left closed.
NUM_LEVELS = 2
WIDE_NET = 256
# Bound on the relative error of a float32 dot product, in units of |u| |v|, is D * 2^-24; this much more is allowed for.
ERROR_FACTOR = 2.0


@dataclass(frozen=True)
class TopProducts:
    """The best of each user, best first.

    Attributes:
        item_idx: int64 [B, k]; 0 where a user has fewer candidates.
        products: float64 [B, k]; -inf there.
        log_normaliser: float32 [B], log of the sum of exp(product) over all items that are allowed, seen ones included; None
            where it was not asked for.
    """

    item_idx: Tensor
    products: Tensor
    log_normaliser: Tensor | None


def top_products(
    user_vectors: Tensor,
    item_vectors: Tensor,
    seen: ItemLists,
    allowed: Tensor,
    k: int,
    is_normalised: bool = False,
) -> TopProducts:
    """The k items of each user with the greatest dot products. Memory beyond the result does not grow with B.

    Args:
        user_vectors: float32 [B, D].
        item_vectors: float32 [V + 1, D]; row 0 is padding.
        seen: B lists of item_idx that the user must not be shown again.
        allowed: bool [V + 1], True where an item may be chosen.
        k: length of the lists.
        is_normalised: whether to work out `log_normaliser`.

    Raises:
        ArtifactError: a vector of a user, or of an item that may be chosen, is not finite, or so long that a product is not.
    """
    refuse_unless(item_vectors[allowed].isfinite().all())
    num_users = len(user_vectors)
    search = _Search(item_vectors, allowed, k, num_users)
    item_idx = torch.zeros(num_users, k, dtype=torch.int64, device=item_vectors.device)
    products = torch.full((num_users, k), -torch.inf, dtype=torch.float64, device=item_vectors.device)
    normaliser = torch.empty(num_users, device=item_vectors.device) if is_normalised else None
    pace = Pace(search.rows_per_block)
    start = 0
    while start < num_users:
        started = time.perf_counter()
        block = slice(start, min(start + pace.rows, num_users))
        vectors = user_vectors[block]
        refuse_unless(vectors.isfinite().all())
        scores = search.scores(vectors)
        if normaliser is not None:
            search.log_sums(scores, out=normaliser[block])
        search.remove_seen(scores, seen.rows(block.start, block.stop))
        item_idx[block], products[block] = search.best(vectors, scores)
        pace.tell(len(vectors), time.perf_counter() - started)
        start = block.stop
    return TopProducts(item_idx, products, normaliser)


def refuse_unless(is_finite: Tensor | bool) -> None:
    """Of vectors and of scores: a NaN compares with nothing, so that who has one would have no list, without a word."""
    if not is_finite:
        raise ArtifactError(
            "A vector or a score of somebody is not finite: the model that gave it has diverged. Train it again."
        )


@contextmanager
def _all_of_float32() -> Iterator[None]:
    """Shorter numbers, as some environments allow for products, err by more than ERROR_FACTOR says."""
    products = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    allowed = [product.fp32_precision for product in products]
    try:
        for product in products:
            product.fp32_precision = "ieee"
        yield
    finally:
        for product, precision in zip(products, allowed, strict=True):
            product.fp32_precision = precision


class Pace:
    """How many rows to take at once: each number is tried, and the one that takes least time per row stays.

    Tried twice, since memory is slow when it is first written.
    """

    def __init__(self, numbers: Sequence[int]) -> None:
        self._untried = [*numbers, *numbers] if len(numbers) > 1 else []
        self._seconds_per_row = dict.fromkeys(numbers, float("inf"))

    @property
    def rows(self) -> int:
        return self._untried[0] if self._untried else min(self._seconds_per_row, key=self._seconds_per_row.__getitem__)

    def tell(self, rows: int, seconds: float) -> None:
        """What a block took. One that was cut short by the end of the users tells nothing."""
        if self._untried and rows == self._untried[0]:
            del self._untried[0]
            self._seconds_per_row[rows] = min(self._seconds_per_row[rows], seconds / rows)


class _Search:
    """The items that may be chosen, laid out in columns. Columns beyond C fill up the last group and are never chosen."""

    def __init__(self, item_vectors: Tensor, allowed: Tensor, k: int, num_users: int) -> None:
        is_candidate = allowed.clone()
        is_candidate[0] = False
        self.k = k
        idx = torch.nonzero(is_candidate).flatten()  # [C], ascending
        self.num_items = len(idx)
        # Members of a group: with this many, as many values are looked at on every level, and least of all in sum.
        self.fan_out = max(1, round((self.num_items / (k + SPARE_CANDIDATES)) ** (1 / (NUM_LEVELS + 1))))
        per_group = self.fan_out**NUM_LEVELS
        num_columns = per_group * (self.num_items // per_group + 1)  # one at least is no item's
        device = item_vectors.device
        self.vectors = torch.zeros(num_columns, item_vectors.shape[1], device=device)
        self.vectors[: self.num_items] = item_vectors[idx]
        self.idx_of_column = torch.zeros(num_columns, dtype=torch.int64, device=device)
        self.idx_of_column[: self.num_items] = idx
        self.column_of_idx = torch.full((len(item_vectors),), self.num_items, dtype=torch.int64, device=device)
        self.column_of_idx[idx] = torch.arange(self.num_items, device=device)
        self.longest_item = self.vectors.norm(dim=1).max()
        self.rows_per_block = [max(1, scores // num_columns) for scores in SCORES_PER_BLOCK[device.type]]
        most_rows = min(max(self.rows_per_block), num_users)
        # Made once: a fresh tensor of this size costs more in page faults than it takes to fill.
        self._buffer = torch.empty(most_rows, num_columns, device=device)
        exponentials = max(1, min(EXPONENTIALS_AT_ONCE[device.type] // num_columns, most_rows))
        self._exponentials = torch.empty(exponentials, num_columns, device=device)
        widths = [num_columns // self.fan_out**level for level in range(1, NUM_LEVELS + 1)]
        self._maxima = [torch.empty(most_rows, width, device=device) for width in widths]

    def scores(self, vectors: Tensor) -> Tensor:
        """float32 [b, columns]; overwritten by the next call."""
        scores = self._buffer[: len(vectors)]
        with _all_of_float32():
            torch.mm(vectors, self.vectors.T, out=scores)
        scores[:, self.num_items :] = -torch.inf
        return scores

    def log_sums(self, scores: Tensor, out: Tensor) -> None:
        """Logarithms of the sums of exp(score), float32 [b].

        Plain exponentials, without the passes that find the greatest score and take it off first; where these leave what
        float32 can hold, the row is done again.
        """
        for start in range(0, len(scores), len(self._exponentials)):
            part = scores[start : start + len(self._exponentials)]
            exponentials = torch.exp(part, out=self._exponentials[: len(part)])
            torch.sum(exponentials, dim=1, out=out[start : start + len(part)])
        is_plain = (out > LEAST_PLAIN_SUM) & (out < torch.inf)
        out.log_()
        for rows in torch.split(torch.nonzero(~is_plain).flatten(), len(self._exponentials)):
            out[rows] = scores[rows].logsumexp(dim=1)

    def remove_seen(self, scores: Tensor, seen: ItemLists) -> None:
        starts = torch.from_numpy(seen.row_numbers()).to(scores.device).mul_(scores.shape[1])
        columns = self.column_of_idx[torch.from_numpy(seen.idx).to(scores.device)]
        scores.view(-1).index_fill_(0, starts.add_(columns), -torch.inf)

    def best(self, vectors: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """item_idx int64 and products float64, both [b, k]."""
        refuse_unless(self._error(vectors).isfinite().all())
        columns, outside = self._candidates(scores, self.k + SPARE_CANDIDATES, level=0)
        chosen, products = self._in_order(vectors, scores, columns)
        doubtful = self._doubtful(vectors, products, outside)
        if len(doubtful):
            wider, outside = self._topmost(scores[doubtful], max(WIDE_NET, 2 * self.k))
            chosen[doubtful], products[doubtful] = self._in_order(vectors[doubtful], scores[doubtful], wider)
            doubtful = doubtful[self._doubtful(vectors[doubtful], products[doubtful], outside)]
        lowest = products[:, self.k - 1] - self._error(vectors)
        for row in doubtful.tolist():  # hundreds of items tie
            alone = slice(row, row + 1)
            columns = torch.nonzero(scores[row, : self.num_items] >= lowest[row]).T
            chosen[alone], products[alone] = self._in_order(vectors[alone], scores[alone], columns)
        return chosen, products

    def _candidates(self, scores: Tensor, count: int, level: int) -> tuple[Tensor, Tensor]:
        """Columns [b, count] of the greatest scores, and the greatest score outside of them [b].

        The best `count` items lie in the `count` groups with the best best, which are found among the groups as items are
        among the items. Groups are interleaved (column modulo their number), so that their best come from an elementwise
        maximum of long rows.
        """
        num_groups = scores.shape[1] // self.fan_out
        if level == NUM_LEVELS or num_groups <= count:
            return self._topmost(scores, count)
        best_of_groups = self._maxima[level][: len(scores)]
        torch.amax(scores.view(len(scores), self.fan_out, num_groups), dim=1, out=best_of_groups)
        groups, outside_groups = self._candidates(best_of_groups, count, level + 1)
        members = torch.arange(0, scores.shape[1], num_groups, device=scores.device)
        columns = (groups[:, :, None] + members).flatten(1)
        places, outside = self._topmost(scores.gather(1, columns), count)
        return columns.gather(1, places), torch.maximum(outside, outside_groups)

    @staticmethod
    def _topmost(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Columns of the greatest scores, at most `count`, and the greatest score outside of them; -inf if none is."""
        count = min(count, scores.shape[1])
        values, columns = scores.topk(min(count + 1, scores.shape[1]), dim=1)
        outside = values[:, count] if values.shape[1] > count else torch.full_like(values[:, 0], -torch.inf)
        return columns[:, :count], outside

    def _in_order(self, vectors: Tensor, scores: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """item_idx and products [b, k] of the best among the columns [b, c], whose products are made in float64."""
        columns, _ = columns.sort(dim=1)
        # Not a matrix product: that adds up in an order which hangs on its shape, and equal items would differ in the last bit.
        exact = torch.empty(columns.shape, dtype=torch.float64, device=columns.device)  # [b, c]
        step = max(1, FACTORS_AT_ONCE[columns.device.type] // max(1, columns.shape[1] * vectors.shape[1]))
        for start in range(0, len(vectors), step):
            rows = slice(start, start + step)
            factors = self.vectors[columns[rows]].double().mul_(vectors[rows].double()[:, None])
            torch.sum(factors, dim=2, out=exact[rows])
        exact = exact.masked_fill(scores.gather(1, columns) == -torch.inf, -torch.inf)
        in_order, places = exact.sort(dim=1, descending=True, stable=True)
        in_order, places = in_order[:, : self.k], places[:, : self.k]
        item_idx = torch.where(in_order > -torch.inf, self.idx_of_column[columns.gather(1, places)], 0)
        missing = (0, self.k - item_idx.shape[1])
        padded = torch.nn.functional.pad(in_order, missing, value=-torch.inf)
        return torch.nn.functional.pad(item_idx, missing), padded

    def _doubtful(self, vectors: Tensor, products: Tensor, outside: Tensor) -> Tensor:
        """Rows int64 where an item outside the candidates may belong to the list, for all that float32 can tell."""
        is_doubtful = (outside > -torch.inf) & (outside >= products[:, self.k - 1] - self._error(vectors))
        return torch.nonzero(is_doubtful).flatten()

    def _error(self, vectors: Tensor) -> Tensor:
        """What float32 may be off by, [b]."""
        error: Tensor = ERROR_FACTOR * vectors.shape[1] * 2.0**-24 * vectors.norm(dim=1) * self.longest_item
        return error
