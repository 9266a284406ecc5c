"""Masks for many users: what a user costs as their number grows, beside the same rule as a plain NumPy loop.

    python tests/benchmarks/masks.py [--users 10000 100000 1000000] [--length 50] [--items 20000] [--width 64] [--rounds 3]
        [--threads 1]
    python tests/benchmarks/masks.py --tastes [ITEMSxWIDTH]

Histories and vectors are random; all of a history is read and 3 items of it are masked, on one thread, as one actor has.
The loop runs over the smallest number of users. The rounds of every contender are taken in turn, and the best counts.
With --tastes the adaptive rule is tried on 5,000 people whose tastes are known: so many items (20) around one direction or
two of length 1, in so many dimensions (32), with noise of a given length; how many people lose an item, and of how many a stray
item of a third direction is found that is put in place of one.
Prints a table, and one JSON object on the last line.
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from cesrec_core.item_lists import ItemLists
from cesrec_core.rewriting.outliers import SIMILARITY_DECIMALS, OutlierRule, find_outliers

NUM_MASKED = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tastes", nargs="?", const="20x32", metavar="ITEMSxWIDTH")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.tastes:
        return of_known_tastes(*(int(number) for number in options.tastes.split("x")))
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(options.items, options.width)).astype(np.float32)
    rule = OutlierRule(NUM_MASKED, 3, options.length)
    adaptive = OutlierRule(NUM_MASKED, 3, options.length, min_deviations=4.0)
    tensor = torch.from_numpy(vectors)
    numbers = sorted(options.users)
    histories = rng.integers(0, options.items, (numbers[-1], options.length))

    contenders: dict[str, tuple[int, Callable[[], object]]] = {}
    for number in numbers:
        lists = ItemLists(histories[:number].ravel(), np.arange(number + 1) * options.length)
        contenders[f"ours, {number} users"] = number, lambda lists=lists: find_outliers(lists, tensor, rule)
        contenders[f"ours, adaptive, {number} users"] = number, lambda lists=lists: find_outliers(lists, tensor, adaptive)
    fewest = histories[: numbers[0]]
    contenders[f"NumPy loop, {numbers[0]} users"] = numbers[0], lambda: [masked_in_numpy(row, vectors) for row in fewest]

    found = find_outliers(ItemLists(fewest.ravel(), np.arange(len(fewest) + 1) * options.length), tensor, rule)
    differing = sum(
        mask.positions.tolist() != masked_in_numpy(row, vectors).tolist() for row, mask in zip(fewest, found, strict=True)
    )
    seconds = {name: [] for name in contenders}
    for _ in range(options.rounds):
        for name, (_, work) in contenders.items():
            started = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - started)
    print("| | seconds | users a second | microseconds a user |\n|---|---|---|---|")
    result = {"masks that differ from the loop's": differing}
    for name, (number, _) in contenders.items():
        best = min(seconds[name])
        print(f"| {name} | {best:.2f} | {number / best:,.0f} | {best / number * 1e6:.1f} |")
        result[name] = {"seconds": best, "users_per_second": number / best}
    print(json.dumps(result))
    return 0


def masked_in_numpy(items: NDArray[np.int64], vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """The rule as one would write it down, for one user."""
    history = vectors[items].astype(np.float64)
    centre = history.mean(axis=0)
    cosines = history @ centre / (np.linalg.norm(history, axis=1) * np.linalg.norm(centre))
    return np.sort(np.argsort(cosines.round(SIMILARITY_DECIMALS), kind="stable")[:NUM_MASKED])


def of_known_tastes(length: int, width: int, num_users: int = 5000) -> int:
    rng = np.random.default_rng(0)
    tastes = rng.normal(size=(num_users, 3, width))
    tastes /= np.linalg.norm(tastes, axis=2, keepdims=True)
    users = ItemLists(np.arange(num_users * length), np.arange(num_users + 1) * length)
    adaptive = OutlierRule(2, 3, length, min_deviations=4.0)

    def masked(of_item: NDArray[np.int64], noises: NDArray[np.float64]) -> NDArray[np.bool_]:
        vectors = torch.from_numpy((tastes[:, of_item] + noises).reshape(-1, width))
        found = find_outliers(users, vectors, adaptive).positions
        result = np.zeros((num_users, length), bool)
        result[found.row_numbers(), found.idx] = True
        return result

    results = []
    print("| noise | items of the second taste | lose an item | stray found |\n|---|---|---|---|")
    for noise in (0.1, 0.3, 0.6, 1.0):
        noises = rng.normal(scale=noise / width**0.5, size=(num_users, length, width))
        for num_second in range(0, length // 2 + 1, 2):
            of_item = (np.arange(length) < num_second).astype(np.int64)
            losing = float(masked(of_item, noises).any(axis=1).mean())
            of_item[-1] = 2
            found = float(masked(of_item, noises)[:, -1].mean())
            results.append({"noise": noise, "second": num_second, "lose": losing, "found": found})
            print(f"| {noise} | {num_second} | {losing:.2%} | {found:.1%} |", flush=True)
    print(json.dumps(results))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
