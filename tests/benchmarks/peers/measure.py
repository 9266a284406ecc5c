"""What the runners of peers share: their data and command line, the clock, the ranking, and when to stop.

Runners live in environments of their own: nothing here imports the project, or more than NumPy of either generation.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The one model that everybody trains.
WIDTH = 64
NUM_BLOCKS = 2
NUM_HEADS = 1
MAX_LENGTH = 50

CURVE = "curve.jsonl"
TASK = "task.npz"
VERSIONS = "versions.json"
TOP_K = 10
USERS_PER_BLOCK = 512
UNREACHABLE = np.iinfo(np.int64).max

Lists = list[NDArray[np.int64]]
# Histories, oldest first -> float32 [B, V + 1], a score for every item; column 0 and -inf are no candidates.
Score = Callable[[Lists], NDArray[np.float32]]


@dataclass(frozen=True)
class Task:
    """Items are numbered 1 .. V by the training part; a target of 0 is an item outside of it.

    Attributes:
        histories: training part of every user.
        windows: the same, cut into rows of at most MAX_LENGTH + 1 items, for peers that read a row's newest items only.
        validation_inputs, test_inputs: what is known of each user before the target, and is no candidate.
        validation_targets, test_targets: int64 [users].
    """

    num_items: int
    histories: Lists
    windows: Lists
    validation_inputs: Lists
    validation_targets: NDArray[np.int64]
    test_inputs: Lists
    test_targets: NDArray[np.int64]

    def save(self, folder: Path) -> None:
        arrays = {"num_items": np.array(self.num_items)}
        for name in ("validation_targets", "test_targets"):
            arrays[name] = getattr(self, name)
        for name in ("histories", "windows", "validation_inputs", "test_inputs"):
            lists = getattr(self, name)
            arrays[name] = np.concatenate(lists)
            arrays[f"{name}_ends"] = np.cumsum([len(items) for items in lists])
        np.savez(folder / TASK, **arrays)

    @classmethod
    def load(cls, folder: Path) -> "Task":
        with np.load(folder / TASK) as arrays:
            whole = {name: arrays[name] for name in arrays.files}
        for name in [name for name in whole if name.endswith("_ends")]:
            flat = name[: -len("_ends")]
            whole[flat] = np.split(whole[flat], whole.pop(name)[:-1])
        return cls(**{**whole, "num_items": int(whole["num_items"])})


class Race:
    """One contender's training: its clock, its curve, and whether it goes on.

    The clock stands still while an epoch is scored, ranked and written down.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.task = Task.load(options.data)
        self.rows: Lists = getattr(self.task, options.rows)
        self.out: Path = options.out
        self.seed: int = options.seed
        self.max_epochs: int = options.max_epochs
        self._options = options
        self._seconds = 0.0
        self._running_since = 0.0
        self._curve: list[dict[str, Any]] = []

    def start(self) -> None:
        self._running_since = time.perf_counter()

    def end_epoch(self, score: Score) -> bool:
        """Write down what the epoch brought; whether there is to be another."""
        self._seconds += time.perf_counter() - self._running_since
        task = self.task
        point = {
            "epoch": len(self._curve) + 1,
            "seconds": self._seconds,
            "validation": measures(score, task.validation_inputs, task.validation_targets),
            "test": measures(score, task.test_inputs, task.test_targets),
        }
        self._curve.append(point)
        with (self.out / CURVE).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(point) + "\n")
        self._running_since = time.perf_counter()
        return self._goes_on()

    def _goes_on(self) -> bool:
        ndcg = [point["validation"]["NDCG@10"] for point in self._curve]
        num_epochs, best_epoch = len(ndcg), int(np.argmax(ndcg)) + 1
        return (
            num_epochs < self._options.max_epochs
            and num_epochs - best_epoch < self._options.patience_epochs
            and self._seconds < self._options.max_seconds
        )


def race_from_command_line(distribution: str) -> Race:
    """The race that the harness asks for; what is installed of the named distribution goes on record."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--data", type=Path, required=True, help=f"folder with {TASK}")
    parser.add_argument("--out", type=Path, required=True, help=f"folder for {CURVE}")
    parser.add_argument("--rows", choices=("histories", "windows"), default="histories", help="what a training row is")
    parser.add_argument("--max-epochs", type=int, required=True)
    parser.add_argument("--max-seconds", type=float, required=True)
    parser.add_argument("--patience-epochs", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    sys.argv = sys.argv[:1]  # libraries look for settings of their own there
    versions = {name: version(name) for name in (distribution, "torch", "numpy")}
    (options.out / VERSIONS).write_text(json.dumps(versions), encoding="utf-8")
    return Race(options)


def left_pad(inputs: Lists, padding: int = 0) -> NDArray[np.int64]:
    """The newest MAX_LENGTH items of each list, int64 [B, MAX_LENGTH]."""
    padded = np.full((len(inputs), MAX_LENGTH), padding, np.int64)
    for row, items in enumerate(inputs):
        newest = items[-MAX_LENGTH:]
        padded[row, MAX_LENGTH - len(newest) :] = newest
    return padded


def measures(score: Score, inputs: Lists, targets: NDArray[np.int64]) -> dict[str, float]:
    blocks = [slice(start, start + USERS_PER_BLOCK) for start in range(0, len(inputs), USERS_PER_BLOCK)]
    ranks = np.concatenate([full_ranks(score(inputs[block]), inputs[block], targets[block]) for block in blocks])
    is_hit = ranks <= TOP_K
    gains = np.where(is_hit, 1.0 / np.log2(1.0 + np.minimum(ranks, TOP_K)), 0.0)
    return {"HR@10": float(is_hit.mean()), "NDCG@10": float(gains.mean())}


def full_ranks(scores: NDArray[np.float32], seen: Sequence[NDArray[np.int64]], targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rank of each target among all items but the seen ones, int64 [B] from 1; equal scores by number of the item.

    A target that is no candidate is UNREACHABLE. The project's own rule (`evaluation.metrics.full_ranks`), written anew.
    """
    scores = scores.copy()
    scores[:, 0] = -np.inf
    for row, items in enumerate(seen):
        scores[row, items] = -np.inf
    if np.isnan(scores).any():
        raise ValueError("Scores hold NaN: the training has diverged.")
    of_target = np.take_along_axis(scores, targets[:, None], axis=1)
    is_smaller_number = np.arange(scores.shape[1])[None, :] < targets[:, None]
    is_before = (scores > of_target) | ((scores == of_target) & is_smaller_number)
    return np.where(np.isneginf(of_target[:, 0]), UNREACHABLE, 1 + is_before.sum(axis=1))
