"""Train the base recommender: `python training/train_recommender.py --dataset FOLDER --out FOLDER`.

Every epoch shows each training window once; after it, the second-last item of every history is ranked against the whole
vocabulary, and the best weights by NDCG@10 are kept. Where `dataset.split` is `all`, that run is kept as
OUT/held_out_twin, and the artifact itself is fitted on everything for the twin's best number of epochs.

The last line of standard output is one JSON object; progress goes to standard error.
"""

import argparse
import hashlib
import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tqdm import tqdm

from cesrec_core.artifacts import Manifest, publishing
from cesrec_core.config import Config, TrainRecommenderSection, load_config
from cesrec_core.datasets import Dataset, read_dataset
from cesrec_core.errors import CesrecError, InputDataError
from cesrec_core.metrics import Ranks, full_ranks, hits, ndcg
from cesrec_core.recommenders import TrainableRecommender, build_recommender
from cesrec_core.recommenders.artifact import KIND, write_recommender
from cesrec_core.recommenders.batches import batches_by_length, cut_windows, inputs_and_targets, left_pad
from cesrec_core.recommenders.losses import full_cross_entropy
from cesrec_core.sequences import Split, input_and_target, training_part

HELD_OUT_TWIN = "held_out_twin"
LEARNING_CURVE = "learning_curve.png"
# Norm at which gradients are cut: healthy training stays under it, one odd batch does not undo an epoch.
MAX_GRADIENT_NORM = 1.0
EVALUATION_BATCH_SIZE = 256

logger = logging.getLogger("train_recommender")


@dataclass(frozen=True)
class TrainingData:
    """Histories in `item_idx`; 0 stands for an item outside the vocabulary.

    Attributes:
        item_ids: vocabulary, sorted.
        sequences: training part of every history.
        validation_inputs: all but the last two items of every history that is long enough.
        validation_targets: int64 [users], the second-last item of those.
    """

    item_ids: list[str]
    sequences: list[NDArray[np.int64]]
    validation_inputs: list[NDArray[np.int64]]
    validation_targets: NDArray[np.int64]


@dataclass(frozen=True)
class Fit:
    """A fitted model and how it came about.

    Attributes:
        model: with the weights of `best_epoch`, counted from 1.
        losses: mean training loss in nats, one per epoch.
        validation_ndcg: NDCG@10, one per epoch; empty where nothing was held out.
    """

    model: TrainableRecommender
    best_epoch: int
    losses: list[float]
    validation_ndcg: list[float]


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    try:
        summary = run(arguments)
    except CesrecError as error:
        logger.error("%s", error)
        print(json.dumps({"status": "failed", "error": str(error)}))
        return error.exit_code
    print(json.dumps(summary))
    return 0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--dataset", type=Path, required=True, help="folder with interactions.parquet and items.parquet")
    parser.add_argument("--out", type=Path, required=True, help="folder of the artifact; replaced when training succeeds")
    parser.add_argument("--config", type=Path, help="such as conf/local.yaml; built-in defaults without it")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="section.key=value")
    parser.add_argument("--artifact-id", help="default: a hash of data, settings and seed")
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace) -> dict[str, object]:
    """Train, publish the artifact, and return the summary that becomes the last line of output."""
    started = time.monotonic()
    config = load_config(arguments.config, arguments.overrides)
    dataset = read_dataset(arguments.dataset)
    artifact_id = arguments.artifact_id or content_hash(dataset, config)
    held_out = prepare(dataset, "leave_one_out")
    twin = fit(held_out, config.train_recommender, config.run.seed)
    metrics = validation_metrics(twin, held_out)
    logger.info("best epoch %d: %s", twin.best_epoch, metrics)
    with publishing(arguments.out) as scratch:
        if config.dataset.split == "leave_one_out":
            publish(scratch, twin, held_out, manifest_of(config, "leave_one_out", artifact_id, held_out, metrics))
        else:
            twin_manifest = manifest_of(config, "leave_one_out", f"{artifact_id}-twin", held_out, metrics)
            (scratch / HELD_OUT_TWIN).mkdir()
            publish(scratch / HELD_OUT_TWIN, twin, held_out, twin_manifest)
            everything = prepare(dataset, "all")
            final = fit(everything, config.train_recommender, config.run.seed, num_epochs=twin.best_epoch)
            publish(scratch, final, everything, manifest_of(config, "all", artifact_id, everything, metrics))
    seconds = round(time.monotonic() - started, 1)
    return {"status": "done", "artifact_id": artifact_id, "out": str(arguments.out), "metrics": metrics, "seconds": seconds}


def prepare(dataset: Dataset, split: Split) -> TrainingData:
    """Cut the splits and number the items.

    Raises:
        InputDataError: no history has two training items, so there is no transition to learn from.
    """
    histories = [dataset.histories[user].tolist() for user in range(len(dataset.histories))]
    parts = [training_part(history, split) for history in histories]
    if max(map(len, parts), default=0) < 2:
        raise InputDataError(
            f"No user has two training items under split {split!r}, so there is nothing to learn. Bring longer histories."
        )
    known = np.unique(np.concatenate([np.array(part, np.int64) for part in parts]))
    idx_of_code = np.zeros(len(dataset.catalogue), np.int64)
    idx_of_code[known] = np.arange(1, len(known) + 1)  # codes and item_ids have the same order
    cases = [case for history in histories if (case := input_and_target(history, "validation")) is not None]
    return TrainingData(
        item_ids=[dataset.catalogue.item_ids[code] for code in known],
        sequences=[idx_of_code[part] for part in parts],
        validation_inputs=[idx_of_code[inputs] for inputs, _ in cases],
        validation_targets=idx_of_code[np.array([target for _, target in cases], np.int64)],
    )


def fit(data: TrainingData, settings: TrainRecommenderSection, seed: int, num_epochs: int | None = None) -> Fit:
    """Train until validation stops rising; or, where nothing is held out, for exactly `num_epochs`."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build_recommender(data.item_ids, settings, seed).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    windows = [window for sequence in data.sequences for window in cut_windows(sequence, settings.max_history_items)]
    lengths = np.array([len(window) for window in windows])
    best_epoch, best_weights = 0, copy_weights(model)
    losses: list[float] = []
    validation_ndcg: list[float] = []

    for epoch in epochs(num_epochs or settings.max_epochs):
        model.train()
        batch_losses = []
        for rows in batches_by_length(lengths, settings.batch_size, rng):
            inputs, targets = inputs_and_targets([windows[row] for row in rows], settings.max_history_items)
            inputs, targets = inputs.to(device), targets.to(device)
            states = model.states(inputs)  # [B, L, D]
            loss = full_cross_entropy(states[targets != 0], model.item_vectors(), targets[targets != 0])
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
            optimizer.step()
            batch_losses.append(loss.item())
        losses.append(float(np.mean(batch_losses)))
        if num_epochs is not None:
            logger.info("epoch %d: loss %.4f", epoch, losses[-1])
            continue

        validation_ndcg.append(float(ndcg(validation_ranks(model, data), 10).mean()))
        logger.info("epoch %d: loss %.4f, validation NDCG@10 %.4f", epoch, losses[-1], validation_ndcg[-1])
        if best_epoch == 0 or validation_ndcg[-1] > validation_ndcg[best_epoch - 1]:
            best_epoch, best_weights = epoch, copy_weights(model)
        elif epoch - best_epoch >= settings.patience_epochs:
            break
    if num_epochs is None:
        model.load_state_dict(best_weights)
    return Fit(model, num_epochs or best_epoch, losses, validation_ndcg)


def epochs(last: int) -> Iterator[int]:
    """1..last, with a progress bar on a terminal."""
    yield from tqdm(range(1, last + 1), unit="epoch", disable=not sys.stderr.isatty())


def copy_weights(model: TrainableRecommender) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


@torch.inference_mode()
def validation_ranks(model: TrainableRecommender, data: TrainingData) -> Ranks:
    """Rank of every validation target among the vocabulary, seen items left out: int64 [users]."""
    model.eval()
    item_vectors = model.item_vectors()
    ranks = [np.zeros(0, np.int64)]
    for start in range(0, len(data.validation_inputs), EVALUATION_BATCH_SIZE):
        inputs = data.validation_inputs[start : start + EVALUATION_BATCH_SIZE]
        known = [items[items != 0] for items in inputs]
        states = model.encode(left_pad(known, model.max_history_items).to(item_vectors.device))
        scores = (states @ item_vectors.T).cpu().numpy()
        ranks.append(full_ranks(scores, data.validation_targets[start : start + EVALUATION_BATCH_SIZE], inputs))
    return np.concatenate(ranks)


def validation_metrics(twin: Fit, data: TrainingData) -> dict[str, float]:
    """What the manifest records; popularity is ranked in the same way, over the same users."""
    ranks = validation_ranks(twin.model, data)
    return {
        "validation_ndcg_at_10": mean(ndcg(ranks, 10)),
        "validation_hr_at_10": mean(hits(ranks, 10)),
        "popularity_ndcg_at_10": mean(ndcg(popularity_ranks(data), 10)),
        "best_epoch": float(twin.best_epoch),
    }


def popularity_ranks(data: TrainingData) -> Ranks:
    """Rank of every validation target when everybody is shown the most popular unseen items: int64 [users]."""
    counts = np.bincount(np.concatenate(data.sequences), minlength=len(data.item_ids) + 1).astype(np.float32)
    ranks = [np.zeros(0, np.int64)]
    for start in range(0, len(data.validation_inputs), EVALUATION_BATCH_SIZE):
        users = slice(start, start + EVALUATION_BATCH_SIZE)
        targets = data.validation_targets[users]
        ranks.append(full_ranks(np.tile(counts, (len(targets), 1)), targets, data.validation_inputs[users]))
    return np.concatenate(ranks)


def publish(folder: Path, fitted: Fit, data: TrainingData, manifest: Manifest) -> None:
    """Write the artifact's files and its learning curve into a folder that is not public yet."""
    write_recommender(folder, fitted.model, manifest)
    figure = Figure(figsize=(7, 4), layout="constrained")
    loss_axis = figure.subplots()
    loss_axis.plot(range(1, len(fitted.losses) + 1), fitted.losses, color="tab:blue")
    loss_axis.set(xlabel="epoch", ylabel="training loss (nats)", title=f"{manifest.artifact_id}, {manifest.split}")
    if fitted.validation_ndcg:
        ndcg_axis = loss_axis.twinx()
        ndcg_axis.plot(range(1, len(fitted.validation_ndcg) + 1), fitted.validation_ndcg, color="tab:orange")
        ndcg_axis.axvline(fitted.best_epoch, color="tab:gray", linestyle="--")
        ndcg_axis.set_ylabel("validation NDCG@10")
    figure.savefig(folder / LEARNING_CURVE, dpi=120)


def manifest_of(config: Config, split: Split, artifact_id: str, data: TrainingData, metrics: dict[str, float]) -> Manifest:
    return Manifest(
        kind=KIND,
        artifact_id=artifact_id,
        split=split,
        settings=config.train_recommender.model_dump(),
        trained_on={
            "run_date": config.run.run_date or "",
            "num_interactions": sum(map(len, data.sequences)),
            "num_users": len(data.sequences),
        },
        metrics=metrics,
    )


def content_hash(dataset: Dataset, config: Config) -> str:
    """Names an artifact by everything it is made from."""
    made_from = hashlib.sha256()
    made_from.update(json.dumps([dataset.catalogue.item_ids, dataset.histories.user_ids]).encode())
    made_from.update(dataset.histories.item_codes.tobytes() + dataset.histories.offsets.tobytes())
    made_from.update(json.dumps([config.train_recommender.model_dump(), config.dataset.split, config.run.seed]).encode())
    return made_from.hexdigest()[:16]


def mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0


if __name__ == "__main__":
    sys.exit(main())
