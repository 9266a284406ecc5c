"""training/train_recommender.py, unchanged, with a clock: its log of epochs becomes a curve as the peers' runners write it.

Like theirs, the clock starts just before the first epoch. Unlike theirs it never stands still, so validation and the
checkpoint of every epoch before the last one count as well.
"""

import argparse
import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from measure import CURVE

sys.path.insert(0, str(Path(__file__).parents[3] / "training"))
import train_recommender

EPOCH = re.compile(r"epoch (?P<epoch>\d+): .*validation NDCG@10 (?P<ndcg>[\d.]+)")


class CurveWriter(logging.Handler):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.started = time.perf_counter()

    def emit(self, record: logging.LogRecord) -> None:
        if (found := EPOCH.match(record.getMessage())) is None:
            return
        seconds = time.perf_counter() - self.started
        point = {"epoch": int(found["epoch"]), "seconds": seconds, "validation": {"NDCG@10": float(found["ndcg"])}}
        with self.path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(point) + "\n")


def timed(epochs_left: Callable[..., Iterator[int]], curve: CurveWriter, max_seconds: float) -> Callable[..., Iterator[int]]:
    """The same epochs, until the time is over."""

    def epochs_in_time(*arguments: object) -> Iterator[int]:
        curve.started = time.perf_counter()
        for epoch in epochs_left(*arguments):
            if time.perf_counter() - curve.started >= max_seconds:
                return
            yield epoch

    return epochs_in_time


def main() -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--curve", type=Path, required=True, help=f"folder for {CURVE}")
    parser.add_argument("--max-seconds", type=float, required=True)
    options, of_training = parser.parse_known_args()
    curve = CurveWriter(options.curve / CURVE)
    train_recommender.logger.addHandler(curve)
    train_recommender.epochs_left = timed(train_recommender.epochs_left, curve, options.max_seconds)
    return train_recommender.main(of_training)


if __name__ == "__main__":
    sys.exit(main())
