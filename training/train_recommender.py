"""Train the base recommender: `python training/train_recommender.py --dataset FOLDER --out FOLDER`.

Every epoch shows each training window once; after it, the second-last item of every history is ranked against the whole
vocabulary, and the best weights by NDCG@10 are kept. Where `dataset.split` is `all`, that run is kept as
OUT/held_out_twin, and the artifact itself is fitted on everything for the twin's best number of epochs.

The last line of standard output is one JSON object; progress goes to standard error.
"""

import argparse
import dataclasses
import hashlib
import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from cesrec_core.artifacts import Manifest, publishing
from cesrec_core.config import Config, TrainRecommenderSection, load_config, parse_config
from cesrec_core.datasets import Dataset, read_dataset
from cesrec_core.errors import CesrecError, InputDataError
from cesrec_core.metrics import Ranks, full_ranks, hits, ndcg
from cesrec_core.recommenders import TrainableRecommender, build_recommender
from cesrec_core.recommenders.artifact import KIND, write_recommender
from cesrec_core.recommenders.batches import batches_by_length, cut_windows, inputs_and_targets, left_pad
from cesrec_core.recommenders.losses import full_cross_entropy
from cesrec_core.sequences import Split, input_and_target, training_part

HELD_OUT_TWIN = "held_out_twin"
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

    @property
    def num_interactions(self) -> int:
        return sum(map(len, self.sequences))


@dataclass
class Fit:
    """A fitted model and how it came about; `losses` and `validation_ndcg` hold one value per epoch, from epoch 1."""

    model: TrainableRecommender
    best_epoch: int
    losses: list[float]
    validation_ndcg: list[float]
    metrics: dict[str, float]


def prepare(dataset: Dataset, split: Split) -> TrainingData:
    """Cut the splits and number the items.

    Raises:
        InputDataError: no history has two training items, so there is no transition to learn from.
    """
    histories = [dataset.histories[user] for user in range(len(dataset.histories))]
    parts = [training_part(history, split) for history in histories]
    if max(map(len, parts), default=0) < 2:
        raise InputDataError(
            f"No user has two training items under split {split!r}, so there is nothing to learn. Bring longer histories."
        )
    known = np.unique(np.concatenate(parts))
    idx_of_code = np.zeros(len(dataset.catalogue), np.int64)
    idx_of_code[known] = np.arange(1, len(known) + 1)  # codes and item_ids have the same order
    cases = [case for history in histories if (case := input_and_target(history, "validation")) is not None]
    return TrainingData(
        item_ids=[dataset.catalogue.item_ids[code] for code in known],
        sequences=[idx_of_code[part] for part in parts],
        validation_inputs=[idx_of_code[inputs] for inputs, _ in cases],
        validation_targets=idx_of_code[[target for _, target in cases]] if cases else np.zeros(0, np.int64),
    )


def fit(data: TrainingData, settings: TrainRecommenderSection, seed: int, num_epochs: int | None) -> Fit:
    """Train until validation stops rising, or for exactly `num_epochs` where given (there is nothing held out then)."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build_recommender(data.item_ids, settings, seed).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    windows = [window for sequence in data.sequences for window in cut_windows(sequence, settings.max_history_items)]
    lengths = np.array([len(window) for window in windows])
    best = Fit(model, 0, [], [], {})
    best_weights = copy_weights(model)
    with tqdm(total=num_epochs or settings.max_epochs, unit="epoch", disable=not sys.stderr.isatty()) as progress:
        for epoch in range(1, (num_epochs or settings.max_epochs) + 1):
            model.train()
            total_loss = 0.0
            for rows in batches_by_length(lengths, settings.batch_size, rng):
                inputs, targets = inputs_and_targets([windows[row] for row in rows], settings.max_history_items)
                is_target = targets != 0
                states = model.states(inputs.to(device))[is_target.to(device)]  # [P, D]
                loss = full_cross_entropy(states, model.item_vectors(), targets[is_target].to(device))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
                optimizer.step()
                total_loss += loss.item() * len(rows)
            best.losses.append(total_loss / len(windows))
            progress.update()
            if num_epochs is not None:
                best.best_epoch = epoch
                continue
            ranks = validation_ranks(model, data)
            best.validation_ndcg.append(float(ndcg(ranks, 10).mean()))
            logger.info("epoch %d: loss %.4f, validation NDCG@10 %.4f HR@10 %.4f", epoch, best.losses[-1], best.validation_ndcg[-1], hits(ranks,10).mean())
            if best.validation_ndcg[-1] > max(best.validation_ndcg[:-1], default=-1.0):
                best.best_epoch, best_weights = epoch, copy_weights(model)
            elif epoch - best.best_epoch >= settings.patience_epochs:
                break
    if num_epochs is None:
        model.load_state_dict(best_weights)
    return best


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
