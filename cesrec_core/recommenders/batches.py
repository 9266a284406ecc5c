"""Histories of uneven length as tensors: left padding, training windows, batches of similar length, user vectors."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cesrec_core.recommenders.protocol import PADDING_IDX, Recommender

# Batches sorted together by length: enough that a batch is nearly free of padding, few enough that its members vary.
BATCHES_PER_BUCKET = 8
# Histories encoded at once: at 200 places and width 64, attention over them takes 60 MiB.
ROWS_PER_BATCH = 256


def left_pad(histories: Sequence[NDArray[np.int64]], max_items: int) -> Tensor:
    """Cut every history to its newest `max_items` and pad on the left.

    Returns:
        int64 [B, L]; L is the longest history after cutting, at least 1. Zero is padding.
    """
    longest = max((min(len(history), max_items) for history in histories), default=1)
    padded = np.full((len(histories), max(longest, 1)), PADDING_IDX, np.int64)
    for row, history in enumerate(histories):
        newest = history[-max_items:]
        if len(newest):
            padded[row, -len(newest) :] = newest
    return torch.from_numpy(padded)


def cut_windows(history: NDArray[np.int64], max_inputs: int, shift: int = 0) -> list[NDArray[np.int64]]:
    """Cut a history into windows of at most `max_inputs` + 1 items, from the recent end backwards.

    Neighbouring windows share one item, so that every item but the oldest is the target of exactly one window.
    A history of one item teaches nothing about order and gives no window.

    Args:
        shift: moves all cuts towards the past by so many items, fewer than `max_inputs`; the newest get a window of their own.
    """
    newest = history[max(0, len(history) - shift - 1) :]
    windows = [newest] if shift and len(newest) > 1 else []
    ends = range(len(history) - shift, 1, -max_inputs)
    return windows + [history[max(0, end - max_inputs - 1) : end] for end in ends]


def inputs_and_targets(windows: Sequence[NDArray[np.int64]], max_inputs: int) -> tuple[Tensor, Tensor]:
    """Two int64 [B, L], left-padded: at every place, an item and the one that follows it."""
    padded = left_pad(windows, max_inputs + 1)
    inputs, targets = padded[:, :-1], padded[:, 1:]
    return inputs, torch.where(inputs == PADDING_IDX, PADDING_IDX, targets)


def batches_by_length(lengths: NDArray[np.int64], batch_size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Every row number once, in batches of similar length and random order."""
    shuffled = rng.permutation(len(lengths))
    per_bucket = batch_size * BATCHES_PER_BUCKET
    buckets = [shuffled[start : start + per_bucket] for start in range(0, len(shuffled), per_bucket)]
    in_order = np.concatenate([bucket[np.argsort(lengths[bucket], kind="stable")] for bucket in buckets])
    starts = np.arange(0, len(in_order), batch_size)
    for start in rng.permutation(starts):
        yield in_order[start : start + batch_size]


@torch.inference_mode()
def encode_histories(model: Recommender, histories: Sequence[NDArray[np.int64]]) -> Tensor:
    """User vectors, float32 [B, D], on the model's device; similar lengths share a batch.

    Of somebody without items the model knows what people are like on average.
    """
    device = model.item_vectors().device
    known = [items[items != 0][-model.max_history_items :] for items in histories]
    order = np.argsort([len(items) for items in known], kind="stable")
    vectors = torch.zeros(len(known), model.embedding_dim, device=device)
    num_empty = sum(not len(items) for items in known)
    vectors[torch.from_numpy(order[:num_empty]).to(device)] = model.average_state.to(vectors)
    order = order[num_empty:]
    for start in range(0, len(order), ROWS_PER_BATCH):
        rows = order[start : start + ROWS_PER_BATCH]
        padded = left_pad([known[row] for row in rows], model.max_history_items)
        vectors[torch.from_numpy(rows).to(device)] = model.encode(padded.to(device)).float()
    return vectors
