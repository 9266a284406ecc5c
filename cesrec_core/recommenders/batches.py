"""Histories of uneven length as tensors: left padding, training windows, batches of similar length, user vectors."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cesrec_core.recommenders.protocol import PADDING_IDX, Recommender

# Batches sorted together by length: enough that a batch is nearly free of padding, few enough that its members vary.
BATCHES_PER_BUCKET = 8
# Histories encoded at once. What attention looks at grows with the square of their length, and with it the memory: so many rows
# of up to 200 places, fewer of longer ones. At width 64 that is 220 MiB for SASRec and 480 MiB for HSTU with two heads.
ROWS_PER_BATCH = 256
PAIRS_PER_BATCH = ROWS_PER_BATCH * 200**2


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
    device = model.average_state.device
    known = [items[items != 0][-model.max_history_items :] for items in histories]
    lengths = np.array([len(items) for items in known], np.int64)
    order = np.argsort(lengths, kind="stable")
    vectors = torch.zeros(len(known), model.embedding_dim, device=device)
    num_empty = sum(not len(items) for items in known)
    vectors[torch.from_numpy(order[:num_empty]).to(device)] = model.average_state.to(vectors)
    order = order[num_empty:]
    for rows in _batches_in_room(order, lengths):
        padded = left_pad([known[row] for row in rows], model.max_history_items)
        vectors[torch.from_numpy(rows).to(device)] = model.encode(padded.to(device)).float()
    return vectors


def _batches_in_room(order: NDArray[np.int64], lengths: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Row numbers in the order given, by ascending length, as many at once as there is room for."""
    start = 0
    while start < len(order):
        rows = order[start : start + ROWS_PER_BATCH]
        rows = rows[: max(1, PAIRS_PER_BATCH // int(lengths[rows[-1]]) ** 2)]
        yield rows
        start += len(rows)
