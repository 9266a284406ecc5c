"""What a recommender is trained on and validated with: histories cut by a split, items numbered."""

import hashlib
import json
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cesrec_core.datasets import Dataset
from cesrec_core.errors import InputDataError
from cesrec_core.evaluation.metrics import Ranks, full_ranks
from cesrec_core.recommenders.batches import encode_histories
from cesrec_core.recommenders.protocol import Recommender
from cesrec_core.splits import NOWHERE, Cuts

# Scores held at once while ranking: 16 Mi float32 = 64 MiB.
SCORES_PER_BLOCK = 16 * 2**20


@dataclass(frozen=True)
class TrainingData:
    """Histories in `item_idx`; 0 stands for an item outside the vocabulary.

    Attributes:
        item_ids: vocabulary, sorted.
        sequences: training part of every history.
        validation_inputs: what is known before the validation target, for every user who has one.
        validation_targets: int64 [users].
    """

    item_ids: list[str]
    sequences: list[NDArray[np.int64]]
    validation_inputs: list[NDArray[np.int64]]
    validation_targets: NDArray[np.int64]

    def content_hash(self) -> str:
        """Names what is trained on: the vocabulary, and every history's training part in its order."""
        content = hashlib.sha256(json.dumps([self.item_ids, list(map(len, self.sequences))]).encode())
        content.update(np.concatenate(self.sequences).tobytes())
        return content.hexdigest()[:16]

    @property
    def num_reachable_targets(self) -> int:
        """Validation targets that a list can hold: known from training, and not had before."""
        pairs = zip(self.validation_inputs, self.validation_targets, strict=True)
        return sum(bool(target) and target not in items for items, target in pairs)

    def item_counts(self) -> NDArray[np.int64]:
        """Interactions of each item in the training part, int64 [V + 1]; padding has none."""
        counts = np.bincount(np.concatenate(self.sequences), minlength=len(self.item_ids) + 1)
        counts[0] = 0
        return counts


def prepare(dataset: Dataset, cuts: Cuts) -> TrainingData:
    """Cut the histories and number the items.

    Raises:
        InputDataError: no history has two training items, so there is no transition to learn from.
    """
    histories = dataset.histories
    parts = [histories[user][:end] for user, end in enumerate(cuts.training_end)]
    if max(map(len, parts), default=0) < 2:
        raise InputDataError(
            f"No user has two training items under split {cuts.name!r}, so there is nothing to learn. Bring longer histories."
        )
    known = np.unique(np.concatenate(parts))
    idx_of_code = np.zeros(len(dataset.catalogue), np.int64)
    idx_of_code[known] = np.arange(1, len(known) + 1)  # codes and item_ids have the same order
    users = np.flatnonzero(cuts.validation_at != NOWHERE).tolist()
    targets = [histories[user][cuts.validation_at[user]] for user in users]
    return TrainingData(
        item_ids=[dataset.catalogue.item_ids[code] for code in known],
        sequences=[idx_of_code[part] for part in parts],
        validation_inputs=[idx_of_code[histories[user][: cuts.validation_at[user]]] for user in users],
        validation_targets=idx_of_code[np.array(targets, np.int64)],
    )


@torch.inference_mode()
def rank_targets(model: Recommender, inputs: list[NDArray[np.int64]], targets: NDArray[np.int64]) -> Ranks:
    """Rank of every target among the vocabulary, seen items left out.

    Args:
        inputs: histories in item_idx, 0 = outside the vocabulary.
        targets: int64 [users] of item_idx.

    Returns:
        int64 [users].

    Raises:
        ArtifactError: a score is NaN.
    """
    item_vectors = model.item_vectors()
    rows = max(1, SCORES_PER_BLOCK // len(item_vectors))
    ranks = [np.zeros(0, np.int64)]
    for start in range(0, len(inputs), rows):
        block = inputs[start : start + rows]
        scores = encode_histories(model, block) @ item_vectors.T
        ranks.append(full_ranks(scores.float().cpu().numpy(), targets[start : start + rows], block))
    return np.concatenate(ranks)
