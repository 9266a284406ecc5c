"""The exact search against a full sort in float64."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from cesrec_core.errors import ArtifactError
from cesrec_core.item_lists import ItemLists
from cesrec_core.ranking import product_search
from cesrec_core.ranking.product_search import Pace, top_products


def by_full_sort(users: torch.Tensor, items: torch.Tensor, seen: ItemLists, allowed: torch.Tensor, k: int) -> list[list[int]]:
    """The definition: every product in float64, a stable sort, what may not be shown left out."""
    lists = []
    for row, vector in enumerate(users.double().numpy()):
        products = (items.double().numpy() * vector).sum(axis=1)
        order = np.argsort(-products, kind="stable")
        closed = {0, *np.flatnonzero(~allowed.numpy()).tolist(), *seen[row].tolist()}
        best = [int(idx) for idx in order if int(idx) not in closed]
        lists.append((best + [0] * k)[:k])
    return lists


@pytest.mark.parametrize("num_items", [1, 7, 40, 5000])
@pytest.mark.parametrize("k", [1, 10])
def test_is_the_full_sort(num_items: int, k: int) -> None:
    rng = np.random.default_rng(num_items)
    users = torch.from_numpy(rng.normal(size=(30, 8)).astype(np.float32))
    items = torch.from_numpy(rng.normal(size=(num_items + 1, 8)).astype(np.float32))
    seen = ItemLists.of([rng.integers(1, num_items + 1, size=row) for row in range(30)])
    allowed = torch.from_numpy(rng.random(num_items + 1) < 0.8)
    found = top_products(users, items, seen, allowed, k)
    assert found.item_idx.tolist() == by_full_sort(users, items, seen, allowed, k)
    expected = torch.einsum("bd,bkd->bk", users.double(), items[found.item_idx].double())
    is_item = found.item_idx > 0
    assert torch.allclose(found.products[is_item], expected[is_item], atol=1e-12)
    assert (found.products[~is_item] == -torch.inf).all()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31), st.integers(1, 700), st.integers(1, 12), st.integers(1, 3))
def test_ties_go_by_item_idx(seed: int, num_items: int, k: int, num_values: int) -> None:
    """Vectors of few small whole numbers: products are exact and most of them tie, hundreds at a time."""
    rng = np.random.default_rng(seed)
    users = torch.from_numpy(rng.integers(-1, 2, size=(5, 3)).astype(np.float32))
    items = torch.from_numpy(rng.integers(0, num_values, size=(num_items + 1, 3)).astype(np.float32))
    seen = ItemLists.of([rng.integers(1, num_items + 1, size=3) for _ in range(5)])
    allowed = torch.ones(num_items + 1, dtype=torch.bool)
    assert top_products(users, items, seen, allowed, k).item_idx.tolist() == by_full_sort(users, items, seen, allowed, k)


@pytest.mark.parametrize("k", [5, 10, 20])
def test_ties_of_equal_vectors_go_by_item_idx_in_company_and_alone(k: int) -> None:
    """Every item has a twin. Sums of real numbers are rounded, and by an order of summation that is not always the same."""
    rng = np.random.default_rng(k)
    half = torch.from_numpy(rng.normal(size=(1500, 64)).astype(np.float32))
    items = torch.cat([torch.zeros(1, 64), half, half])
    users = torch.from_numpy(rng.normal(size=(50, 64)).astype(np.float32))
    allowed = torch.ones(len(items), dtype=torch.bool)
    together = top_products(users, items, ItemLists.of([np.zeros(0, np.int64)] * 50), allowed, k)
    for row, vector in enumerate(users):
        order = torch.argsort((half.double() * vector.double()).sum(dim=1), descending=True)[: -(-k // 2)] + 1
        assert together.item_idx[row].tolist() == torch.stack([order, order + 1500], dim=1).flatten()[:k].tolist()
        alone = top_products(vector[None], items, ItemLists.of([np.zeros(0, np.int64)]), allowed, k)
        assert torch.equal(alone.item_idx[0], together.item_idx[row])
        assert torch.equal(alone.products[0], together.products[row])


def test_hundreds_of_ties_at_the_top_are_told_apart_without_the_rest_of_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    items = torch.from_numpy(rng.normal(size=(4001, 16)).astype(np.float32))
    users = torch.from_numpy(rng.normal(size=(3, 16)).astype(np.float32))
    items[1000:1300] = 10 * users[0]
    widths = []
    in_order = product_search._Search._in_order

    def noted(search, vectors, scores, columns):  # type: ignore[no-untyped-def]
        widths.append(columns.shape[1])
        return in_order(search, vectors, scores, columns)

    monkeypatch.setattr(product_search._Search, "_in_order", noted)
    nothing = ItemLists.of([np.zeros(0, np.int64)] * 3)
    allowed = torch.ones(4001, dtype=torch.bool)
    found = top_products(users, items, nothing, allowed, 10).item_idx
    assert found[0].tolist() == list(range(1000, 1010))
    assert found.tolist() == by_full_sort(users, items, nothing, allowed, 10)
    assert max(widths) == 300


def test_order_is_that_of_float64_where_float32_cannot_tell() -> None:
    """Large parts that cancel: in float32 the small part, which decides, drowns in rounding."""
    rng = np.random.default_rng(1)
    small = rng.normal(size=2000).astype(np.float32) * 1e-3
    large = rng.normal(size=2000).astype(np.float32) * 1e3
    items = torch.from_numpy(np.stack([large, large, small], axis=1))
    users = torch.tensor([[1.0, -1.0, 1.0]])
    seen, allowed = ItemLists.of([np.zeros(0, np.int64)]), torch.ones(2000, dtype=torch.bool)
    assert top_products(users, items, seen, allowed, 10).item_idx.tolist() == by_full_sort(users, items, seen, allowed, 10)


def crowded(num_users: int, num_items: int, width: int) -> tuple[torch.Tensor, torch.Tensor, ItemLists, torch.Tensor]:
    """Items in clusters whose members differ by little more than float32 can tell, so that most lists end within one."""
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(num_items // 25, width))
    items = centres[rng.integers(0, len(centres), num_items + 1)] * (1 + 1e-6 * rng.normal(size=(num_items + 1, 1)))
    users = torch.from_numpy(rng.normal(size=(num_users, width)).astype(np.float32))
    seen = ItemLists.of([rng.integers(1, num_items + 1, size=20) for _ in range(num_users)])
    return users, torch.from_numpy(items.astype(np.float32)), seen, torch.ones(num_items + 1, dtype=torch.bool)


def test_another_processors_rounding_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for one: float32 scores off by as much as a dot product's rounding may be at most."""
    users, items, seen, allowed = crowded(num_users=60, num_items=4000, width=64)
    here = top_products(users, items, seen, allowed, 10)
    multiply, generator, num_changed = torch.mm, torch.Generator().manual_seed(0), 0

    def multiply_elsewhere(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        nonlocal num_changed
        multiply(left, right, out=out)
        before = out.topk(10, dim=1).indices
        at_most = left.shape[1] * 2.0**-24 * left.norm(dim=1)[:, None] * right.norm(dim=0)
        out += at_most * (2 * torch.rand(out.shape, generator=generator) - 1)
        num_changed += int((before != out.topk(10, dim=1).indices).any(dim=1).sum())
        return out

    monkeypatch.setattr(torch, "mm", multiply_elsewhere)
    elsewhere = top_products(users, items, seen, allowed, 10)
    assert num_changed > 50  # lists that such rounding would have changed
    assert torch.equal(elsewhere.item_idx, here.item_idx)
    assert torch.equal(elsewhere.products, here.products)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_lists() -> None:
    users, items, seen, allowed = crowded(num_users=3000, num_items=20_000, width=64)
    here = top_products(users, items, seen, allowed, 10)
    there = top_products(users.cuda(), items.cuda(), seen, allowed.cuda(), 10)
    assert torch.equal(there.item_idx.cpu(), here.item_idx)
    assert torch.allclose(there.products.cpu(), here.products, rtol=1e-12)


@pytest.mark.parametrize("scores_per_block", [(1,), (3 * 500,), (10**7,), (1, 2000, 10**7), (4000, 1000, 2000)])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, scores_per_block: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    users, items = (torch.from_numpy(rng.normal(size=(rows, 16)).astype(np.float32)) for rows in (40, 500))
    seen = ItemLists.of([rng.integers(1, 500, size=20) for _ in range(40)])
    allowed = torch.ones(500, dtype=torch.bool)
    whole = top_products(users, items, seen, allowed, 10, is_normalised=True)
    monkeypatch.setitem(product_search.SCORES_PER_BLOCK, "cpu", scores_per_block)
    blocked = top_products(users, items, seen, allowed, 10, is_normalised=True)
    assert torch.equal(whole.item_idx, blocked.item_idx)
    assert torch.equal(whole.products, blocked.products)
    assert torch.allclose(whole.log_normaliser, blocked.log_normaliser, atol=1e-5)


class LargestTensor(TorchDispatchMode):
    """Watches what operations return."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return result


def test_memory_does_not_grow_with_the_number_of_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is made is larger than a block of scores, though vectors and lists of all users together would be."""
    monkeypatch.setitem(product_search.SCORES_PER_BLOCK, "cpu", (60_000,))
    largest = {}
    items, allowed = torch.randn(201, 16), torch.ones(201, dtype=torch.bool)
    for num_users in (1000, 5000):
        users = torch.randn(num_users, 16)
        with LargestTensor() as watched:
            top_products(users, items, ItemLists.of([np.array([1])] * num_users), allowed, 10, is_normalised=True)
        largest[num_users] = watched.numel
    assert largest[1000] == largest[5000] <= 60_000


def test_every_size_of_block_is_tried_twice_and_the_cheapest_stays() -> None:
    pace = Pace([10, 40, 160])
    seconds_per_row = {10: [9.0, 2.0], 40: [5.0, 1.0], 160: [3.0, 4.0]}
    tried = []
    for _ in range(6):
        rows = pace.rows
        tried.append(rows)
        pace.tell(rows, rows * seconds_per_row[rows].pop(0))
    assert tried == [10, 40, 160] * 2
    pace.tell(40, 1e9)
    assert pace.rows == 40


def test_a_block_that_was_cut_short_tells_nothing_of_its_size() -> None:
    pace = Pace([10, 40])
    pace.tell(7, 0.0)
    assert pace.rows == 10


@pytest.mark.parametrize("place", ["user", "item", "closed item"])
def test_vectors_that_are_not_finite_are_refused(place: str) -> None:
    users, items, allowed = torch.ones(2, 3), torch.ones(6, 3), torch.ones(6, dtype=torch.bool)
    allowed[5] = False
    (users if place == "user" else items)[{"user": 1, "item": 2, "closed item": 5}[place], 0] = torch.nan
    nothing = ItemLists.of([np.zeros(0, np.int64)] * 2)
    if place == "closed item":
        assert top_products(users, items, nothing, allowed, 2).item_idx.tolist() == [[1, 2], [1, 2]]
        return
    with pytest.raises(ArtifactError, match="not finite"):
        top_products(users, items, nothing, allowed, 2)


def test_vectors_whose_products_float32_cannot_hold_are_refused() -> None:
    users, items = torch.full((1, 2), 1e20), torch.full((4, 2), 1e19)
    with pytest.raises(ArtifactError, match="not finite"):
        top_products(users, items, ItemLists.of([np.zeros(0, np.int64)]), torch.ones(4, dtype=torch.bool), 2)


@pytest.mark.parametrize("is_new_way", [False, True])
def test_products_are_made_in_all_of_float32_whatever_is_allowed_elsewhere(
    monkeypatch: pytest.MonkeyPatch, is_new_way: bool
) -> None:
    """As where an image of PyTorch lets them be made of shorter numbers, which is faster."""
    users, items, seen, allowed = crowded(num_users=5, num_items=300, width=8)
    multiply, products, told = torch.mm, torch.backends.cuda.matmul, []

    def tell(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        told.append(products.fp32_precision)
        return multiply(left, right, out=out)

    before = products.fp32_precision
    monkeypatch.setattr(torch, "mm", tell)
    try:
        if is_new_way:
            products.fp32_precision = "tf32"
        else:
            torch.set_float32_matmul_precision("high")
        at_first = products.fp32_precision
        top_products(users, items, seen, allowed, 10)
        assert set(told) == {"ieee"} and products.fp32_precision == at_first == "tf32"
    finally:
        products.fp32_precision = before
        torch.set_float32_matmul_precision("highest")


def test_normaliser_is_over_what_is_allowed_seen_or_not() -> None:
    items = torch.tensor([[9.0], [0.0], [1.0], [2.0]])
    allowed = torch.tensor([True, True, False, True])
    found = top_products(torch.ones(1, 1), items, ItemLists.of([np.array([3])]), allowed, 2, is_normalised=True)
    assert found.item_idx.tolist() == [[1, 0]]
    assert found.log_normaliser.tolist() == pytest.approx([np.log(1.0 + np.exp(2.0))])


def test_normaliser_where_float32_cannot_hold_exponentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores near 0, 500 and -500 nats, and around 82, where single exponentials fit and their sum does not."""
    monkeypatch.setitem(product_search.EXPONENTIALS_AT_ONCE, "cpu", 3 * 4000)  # several rows at a time, and one left over
    rng = np.random.default_rng(0)
    items = torch.from_numpy(np.column_stack([np.ones(4000), rng.normal(size=4000)]).astype(np.float32))
    levels = [0.0, 500.0, -500.0, 82.0, -82.0, 0.0, 88.0]
    users = torch.tensor([[level, 1.0] for level in levels])
    allowed = torch.from_numpy(rng.random(4000) < 0.9)
    allowed[0] = False
    nothing_seen = ItemLists.of([np.zeros(0, np.int64)] * len(users))
    found = top_products(users, items, nothing_seen, allowed, 2, is_normalised=True).log_normaliser
    expected = np.logaddexp.reduce(users.double().numpy() @ items[allowed].double().numpy().T, axis=1)
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-6, abs=1e-5)
    assert 82.0 + float(items[:, 1].max()) < np.log(np.finfo(np.float32).max) < expected[3]


def test_nobody_and_nothing() -> None:
    items = torch.randn(4, 2)
    nobody = top_products(torch.zeros(0, 2), items, ItemLists.of([]), torch.ones(4, dtype=torch.bool), 3)
    assert nobody.item_idx.shape == (0, 3)
    closed = top_products(
        torch.ones(2, 2), items, ItemLists.of([np.array([1]), np.array([2])]), torch.zeros(4, dtype=torch.bool), 3, True
    )
    assert closed.log_normaliser.tolist() == [-np.inf] * 2
    assert closed.item_idx.tolist() == [[0, 0, 0]] * 2


def test_lists_in_two_arrays() -> None:
    lists = ItemLists.of([np.array([3, 0, 5]), np.array([], np.int64), np.array([0, 7])])
    assert len(lists) == 3
    assert [row.tolist() for row in lists] == [[3, 0, 5], [], [0, 7]]
    assert [row.tolist() for row in lists.rows(1, 9)] == [[], [0, 7]]
    assert lists.row_numbers().tolist() == [0, 0, 0, 2, 2]
    assert [row.tolist() for row in lists.without(0)] == [[3, 5], [], [7]]
    assert len(ItemLists.of([])) == 0
