"""Seconds for the top 10 of every user, exactly, seen items removed; beside the bare matrix product, and other libraries.

    python tests/benchmarks/top_k_of_everybody.py [--users 200000] [--items 20000] [--width 64] [--threads 2]

Peers run where they are installed (`pip install implicit` beside the project). Prints one JSON object on the last line.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from cesrec_core.item_lists import ItemLists
from cesrec_core.product_search import top_products

SEEN_PER_USER = 50
TOP_K = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    users = rng.normal(size=(options.users, options.width)).astype(np.float32)
    items = rng.normal(size=(options.items + 1, options.width)).astype(np.float32)
    items[0] = 0.0
    idx = rng.integers(1, options.items + 1, size=options.users * SEEN_PER_USER)
    seen = ItemLists(idx, np.arange(0, len(idx) + 1, SEEN_PER_USER))

    contenders: dict[str, Callable[[], object]] = {
        "bare product": lambda: bare_product(users, items),
        "top_products": lambda: ours(users, items, seen, is_normalised=False),
        "top_products with log-probabilities": lambda: ours(users, items, seen, is_normalised=True),
        "plain blocked product and topk": lambda: plain(users, items, seen),
    }
    if (implicit := implicit_top_k(users, items, seen, options.threads)) is not None:
        contenders["implicit"] = implicit
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(options.rounds):
        for name, run in contenders.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
            print(f"round {number + 1}: {name} {seconds[name][-1]:.2f} s", file=sys.stderr)
    fastest = {name: min(values) for name, values in seconds.items()}
    print(json.dumps({"seconds": fastest, "over_bare_product": {n: s / fastest["bare product"] for n, s in fastest.items()}}))
    return 0


def bare_product(users: np.ndarray, items: np.ndarray) -> None:
    rows = 4 * 2**20 // len(items)  # the fastest of 1, 2, 4 and 8 Mi scores at once
    buffer, vectors, transposed = torch.empty(rows, len(items)), torch.from_numpy(users), torch.from_numpy(items).T
    for start in range(0, len(users), rows):
        block = vectors[start : start + rows]
        torch.mm(block, transposed, out=buffer[: len(block)])


def ours(users: np.ndarray, items: np.ndarray, seen: ItemLists, is_normalised: bool) -> np.ndarray:
    allowed = torch.ones(len(items), dtype=torch.bool)
    vectors = torch.from_numpy(users), torch.from_numpy(items)
    return top_products(*vectors, seen, allowed, TOP_K, is_normalised=is_normalised).item_idx.numpy()


def plain(users: np.ndarray, items: np.ndarray, seen: ItemLists) -> None:
    rows = 16 * 2**20 // len(items)
    vectors, transposed = torch.from_numpy(users), torch.from_numpy(items).T
    for start in range(0, len(users), rows):
        scores = vectors[start : start + rows] @ transposed
        scores[:, 0] = -torch.inf
        of_block = seen.rows(start, start + rows)
        scores[torch.from_numpy(of_block.row_numbers()), torch.from_numpy(of_block.idx)] = -torch.inf
        scores.topk(TOP_K, dim=1)


def implicit_top_k(users: np.ndarray, items: np.ndarray, seen: ItemLists, num_threads: int) -> Callable[[], object] | None:
    try:
        from implicit.cpu.topk import topk
    except ImportError:
        print("implicit is not installed here; its figure is left out", file=sys.stderr)
        return None
    from scipy.sparse import csr_matrix

    filtered = csr_matrix((np.ones(len(seen.idx), np.float32), seen.idx, seen.offsets), shape=(len(users), len(items)))
    return lambda: topk(items, users, TOP_K, filter_query_items=filtered, num_threads=num_threads)


if __name__ == "__main__":
    sys.exit(main())
