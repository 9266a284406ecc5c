"""Seconds for the top 10 of every user, exactly, seen items removed; beside the bare matrix product, and other libraries.

    python tests/benchmarks/top_k_of_everybody.py [--users 200000] [--items 20000] [--width 64] [--threads 2]
        [--als] [--device cpu]

Peers run where they are installed (`pip install implicit` beside the project). --als adds Spark's recommendForAllUsers, which
removes nothing that was seen: its factors come of one iteration over the seen items, which takes minutes outside the clock.
With --device cuda the same is run on an accelerator, without peers, and its lists are compared with the CPU's. Prints one JSON
object on the last line.
"""

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cesrec_core.item_lists import ItemLists
from cesrec_core.ranking.product_search import SCORES_PER_BLOCK, top_products

SEEN_PER_USER = 50
TOP_K = 10
# Mebi scores a block; which is fastest, hangs on the processor.
BARE_PRODUCTS = {"bare product": 2, "bare product, larger blocks": 8, "bare product, largest blocks": 32}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--als", action="store_true")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    users = rng.normal(size=(options.users, options.width)).astype(np.float32)
    items = rng.normal(size=(options.items + 1, options.width)).astype(np.float32)
    items[0] = 0.0
    idx = rng.integers(1, options.items + 1, size=options.users * SEEN_PER_USER)
    seen = ItemLists(idx, np.arange(0, len(idx) + 1, SEEN_PER_USER))

    on = functools.partial(torch.as_tensor, device=options.device)
    vectors = on(users), on(items)
    # Others need no row for padding, and products take up to twice as long for an odd number of items.
    others, seen_by_others = (vectors[0], vectors[1][1:].contiguous()), ItemLists(seen.idx - 1, seen.offsets)
    contenders: dict[str, Callable[[], object]] = {
        **{name: functools.partial(bare_product, *others, mebi) for name, mebi in BARE_PRODUCTS.items()},
        "top_products": lambda: ours(*vectors, seen, is_normalised=False),
        "top_products with log-probabilities": lambda: ours(*vectors, seen, is_normalised=True),
        "plain blocked product and topk": lambda: plain(*others, seen_by_others),
    }
    if options.device == "cuda":
        for run in contenders.values():
            run()
    elif (implicit := implicit_top_k(users, items[1:].copy(), seen_by_others, options.threads)) is not None:
        contenders["implicit"] = implicit
    if options.als:
        contenders["Spark ALS, nothing removed"] = als_top_k(options, seen)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(options.rounds):
        for name, run in contenders.items():
            started = time.perf_counter()
            run()
            if options.device == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - started)
            print(f"round {number + 1}: {name} {seconds[name][-1]:.2f} s", file=sys.stderr)
    fastest = {name: min(values) for name, values in seconds.items()}
    bare = min(fastest[name] for name in BARE_PRODUCTS)
    result = {"seconds": fastest, "over_bare_product": {name: value / bare for name, value in fastest.items()}}
    if options.device == "cuda":
        here, there = (
            ours(*vectors, seen, is_normalised=False),
            ours(*(one.cpu() for one in vectors), seen, is_normalised=False),
        )
        result |= {"card": torch.cuda.get_device_name(), "users_with_another_list": int((here != there).any(1).sum())}
    print(json.dumps(result))
    return 0


def bare_product(users: Tensor, items: Tensor, mebi: int) -> None:
    rows = scores_at_once(users, mebi) // len(items)
    buffer, transposed = torch.empty(rows, len(items), device=users.device), items.T
    for start in range(0, len(users), rows):
        block = users[start : start + rows]
        torch.mm(block, transposed, out=buffer[: len(block)])


def ours(users: Tensor, items: Tensor, seen: ItemLists, is_normalised: bool) -> np.ndarray:
    allowed = torch.ones(len(items), dtype=torch.bool, device=items.device)
    return top_products(users, items, seen, allowed, TOP_K, is_normalised=is_normalised).item_idx.cpu().numpy()


def plain(users: Tensor, items: Tensor, seen: ItemLists) -> None:
    rows, transposed = scores_at_once(users, 16) // len(items), items.T
    for start in range(0, len(users), rows):
        scores = users[start : start + rows] @ transposed
        of_block = seen.rows(start, start + rows)
        places = torch.from_numpy(of_block.row_numbers()), torch.from_numpy(of_block.idx)
        scores[tuple(place.to(users.device) for place in places)] = -torch.inf
        scores.topk(TOP_K, dim=1)


def scores_at_once(users: Tensor, mebi_on_a_cpu: int) -> int:
    return (mebi_on_a_cpu if users.device.type == "cpu" else SCORES_PER_BLOCK["cuda"][0] // 2**20) * 2**20


def implicit_top_k(users: np.ndarray, items: np.ndarray, seen: ItemLists, num_threads: int) -> Callable[[], object] | None:
    try:
        from implicit.cpu.topk import topk
    except ImportError:
        print("implicit is not installed here; its figure is left out", file=sys.stderr)
        return None
    from scipy.sparse import csr_matrix

    filtered = csr_matrix((np.ones(len(seen.idx), np.float32), seen.idx, seen.offsets), shape=(len(users), len(items)))
    return lambda: topk(items, users, TOP_K, filter_query_items=filtered, num_threads=num_threads)


def als_top_k(options: argparse.Namespace, seen: ItemLists) -> Callable[[], object]:
    """Spark's own search over as many factors of the same width, its lists made and counted."""
    from pyspark.ml.recommendation import ALS
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master(f"local[{options.threads}]").config("spark.driver.memory", "6g")
    options_of_spark = {"spark.ui.enabled": "false", "spark.sql.execution.arrow.pyspark.enabled": "true"}
    # The project's Spark does without the JVM's second compiler, which Spark's products of matrices are made for.
    options_of_spark |= {"spark.driver.extraJavaOptions": "-XX:ReservedCodeCacheSize=240m"}
    spark = builder.config(map=options_of_spark).getOrCreate()
    pairs = pd.DataFrame({"user": seen.row_numbers(), "item": seen.idx, "rating": np.float32(1.0)})
    ratings = spark.createDataFrame(pairs).repartition(8 * options.threads)
    als = ALS(rank=options.width, maxIter=1, implicitPrefs=True, userCol="user", itemCol="item", ratingCol="rating", seed=0)
    model = als.fit(ratings)
    # Factors that are computed on demand would be computed within the clock.
    assert model.userFactors.cache().count() == options.users and model.itemFactors.cache().count() <= options.items
    return lambda: model.recommendForAllUsers(TOP_K).write.format("noop").mode("overwrite").save()


if __name__ == "__main__":
    sys.exit(main())
