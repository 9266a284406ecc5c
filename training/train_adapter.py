"""Train the Adapter: `python training/train_adapter.py --item-features FILE.safetensors --out FOLDER`.

FILE holds `semantic` [N, H] and `collaborative` [N, D], row by row of the same items, and may hold `has_collaborative`
[N], 0 where an item has no collaborative vector to learn from. Where no hidden width is configured, two are tried; where the
best of these does not align the validation items, more pairs, a smaller width and a lower learning rate are tried, too. The
manifest records every attempt (figures as `attempt_1_...` in its metrics, what was tried in `trained_on.attempts`), and the
best one is published.

The last line of standard output is one JSON object; progress goes to standard error.
"""

import os

# Threads that spin while they wait make a step several times slower as soon as anything else wants the same cores. Read when
# torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import hashlib
import json
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cesrec_core.adapter import KIND, AdapterFit, Attempt, check_pairs, fit_until_aligned, write_adapter
from cesrec_core.artifacts import Manifest, publishing
from cesrec_core.config import WHEN_TO_TRAIN, Config
from cesrec_core.errors import ArtifactError, InputDataError
from cesrec_core.job_parser import local_path
from cesrec_core.report.ticks import whole_numbers
from cesrec_core.training_command import Trained, run_training_command, training_parser

LEARNING_CURVE = "learning_curve.png"
# What the manifest keeps of every attempt, beside what was tried with it.
RECORDED = (
    "hidden_width",
    "learning_rate",
    "num_training_items",
    "best_epoch",
    "validation_mse",
    "validation_normalised_mse",
    "held_out_mse",
    "held_out_normalised_mse",
    "held_out_median_rank_share",
    "held_out_neighbour_rank_share",
)

JOB = "train_adapter"
logger = logging.getLogger(JOB)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    return run_training_command(JOB, arguments, lambda config: run(arguments, config))


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = training_parser(str(__doc__).splitlines()[0], "vectors, settings and seed", has_parents=True)
    parser.add_argument(
        "--item-features", type=local_path, required=True, help="safetensors file with semantic and collaborative"
    )
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace, config: Config) -> Trained:
    """Train and publish the artifact.

    Raises:
        ArtifactError: every training diverged.
    """
    semantic, collaborative = read_features(arguments.item_features)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    vectors = semantic.to(device), collaborative.to(device)
    attempts = fit_until_aligned(*vectors, config.train_adapter, config.run.seed, tell)
    best = min(range(len(attempts)), key=lambda number: attempts[number].order)
    settings, fitted = attempts[best].settings, attempts[best].fitted
    if not math.isfinite(attempts[best].error):
        raise ArtifactError(
            f"None of {len(attempts)} trainings came to a finite error: the vectors are too large for float32, or "
            "train_adapter.learning_rate is. Scale them, or lower it."
        )
    metrics = {**fitted.metrics, "num_attempts": float(len(attempts)), "published_attempt": float(best + 1)}
    for number, attempt in enumerate(attempts, start=1):
        metrics |= {f"attempt_{number}_{name}": attempt.fitted.metrics[name] for name in RECORDED}
    if metrics["is_alignment_weak"]:
        logger.warning("alignment is weak after %d attempts: give more items, or texts that say more", len(attempts))
    manifest = Manifest(
        kind=KIND,
        artifact_id=arguments.artifact_id or content_hash(semantic, collaborative, config),
        split=config.dataset.split,
        parents=arguments.parents,
        settings=settings.model_dump(),
        trained_on={
            "run_date": config.run.run_date or "",
            "num_items": len(semantic),
            "attempts": [attempt.remedy for attempt in attempts],
        },
        metrics=metrics,
    )
    with publishing(arguments.out) as scratch:
        write_adapter(scratch, fitted.model, manifest)
        draw_curve(fitted, scratch / LEARNING_CURVE)
    return Trained(manifest.artifact_id, metrics)


def tell(attempt: Attempt) -> None:
    figures = ", ".join(f"{name} {value:.4g}" for name, value in attempt.fitted.metrics.items())
    logger.info("attempt (%s): %s", attempt.remedy, figures)


def read_features(path: Path) -> tuple[Tensor, Tensor]:
    """Semantic [N, H] and collaborative [N, D] vectors, float32, of the items that have both.

    Raises:
        InputDataError: the file is missing or damaged, lacks a tensor, or its tensors do not pair up.
    """
    if not path.is_file():
        raise InputDataError(f"There is no file {path}. Name the safetensors file that the embedding stage exports.")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise InputDataError(f"{path} is not a readable safetensors file ({error}). Export it again.") from None
    for name in ("semantic", "collaborative"):
        if name not in tensors:
            raise InputDataError(f"{path} lacks the tensor {name!r}; it has {', '.join(sorted(tensors))}. Export it again.")
    semantic, collaborative = tensors["semantic"].float(), tensors["collaborative"].float()
    check_pairs(semantic, collaborative)
    if "has_collaborative" not in tensors:
        return semantic, collaborative
    has_both = tensors["has_collaborative"].bool()
    if has_both.shape != semantic.shape[:1]:
        raise InputDataError(
            f"{path}: has_collaborative is {list(has_both.shape)} beside {len(semantic)} items; not one each. Export it again."
        )
    return semantic[has_both], collaborative[has_both]


def draw_curve(fitted: AdapterFit, path: Path) -> None:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    axis.plot(range(1, len(fitted.losses) + 1), fitted.losses, label="training")
    axis.plot(range(1, len(fitted.validation_losses) + 1), fitted.validation_losses, label="validation")
    axis.axvline(fitted.metrics["best_epoch"], color="tab:gray", linestyle="--", label="best epoch")
    axis.axhline(1.0, color="tab:gray", linewidth=0.5)
    axis.set(xlabel="epoch", ylabel="squared error / variance", title="Training of the Adapter")
    axis.xaxis.set_major_locator(whole_numbers())
    axis.legend()
    figure.savefig(path, dpi=120)


def content_hash(semantic: Tensor, collaborative: Tensor, config: Config) -> str:
    """Names an artifact by everything it is made from."""
    made_from = hashlib.sha256(semantic.numpy().tobytes() + collaborative.numpy().tobytes())
    settings = config.train_adapter.model_dump(exclude=set(WHEN_TO_TRAIN[JOB]))
    made_from.update(json.dumps([settings, config.dataset.split, config.run.seed]).encode())
    return made_from.hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main())
