"""Training pairs as tensors, and batches of similar length."""

import json
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from cesrec_core.constructor.layout import Prompt, Slots, joined, padded, reading_slots, writing_slots
from cesrec_core.constructor.model import ScoredBatch
from cesrec_core.constructor.pairs import TrainingPair

# Copied places scored per sequence at each step, drawn at random: an unbiased estimate of the copying loss. Scoring all of
# them would cost 10 to 20 times the output layer for a part that a step or two of induction-like copying saturates.
COPIED_PLACES_PER_SEQUENCE = 2
# Batches are cut from a pool of this many, sorted by length, so that little padding is computed.
_BATCHES_PER_POOL = 16


class Pairs(Protocol):
    """Where training pairs come from: drawn from histories, or drawn beforehand."""

    def draw(self, rng: np.random.Generator) -> TrainingPair: ...


class BatchStream:
    """Endless batches of pairs of similar length, in random order; it can be stopped and taken up again.

    Attributes:
        rng: source of every draw.
    """

    def __init__(self, source: Pairs, prompt: Prompt, batch_size: int, rng: np.random.Generator) -> None:
        self.rng = rng
        self._source = source
        self._prompt = prompt
        self._batch_size = batch_size
        self._at_pool_start = rng.bit_generator.state
        self._num_taken = 0
        self._batches: list[list[TrainingPair]] = []

    def next(self) -> ScoredBatch:
        if not self._batches:
            self._fill()
        self._num_taken += 1
        return scored_batch(self._batches.pop(0), self._prompt, self.rng)

    def position(self) -> str:
        """Where it stands, as JSON."""
        return json.dumps({"at_pool_start": self._at_pool_start, "num_taken": self._num_taken})

    def go_to(self, position: str) -> None:
        """Stand where another stream over the same pairs stood; at most a pool of pairs is drawn again."""
        values = json.loads(position)
        self.rng.bit_generator.state = values["at_pool_start"]
        self._batches = []
        for _ in range(values["num_taken"]):
            self.next()

    def _fill(self) -> None:
        self._at_pool_start = self.rng.bit_generator.state
        self._num_taken = 0
        pool = [self._source.draw(self.rng) for _ in range(self._batch_size * _BATCHES_PER_POOL)]
        pool.sort(key=lambda pair: len(pair.history))
        order = self.rng.permutation(_BATCHES_PER_POOL)
        self._batches = [pool[batch * self._batch_size : (batch + 1) * self._batch_size] for batch in order]


def scored_batch(pairs: Sequence[TrainingPair], prompt: Prompt, rng: np.random.Generator | None) -> ScoredBatch:
    """Tensors of a batch: every masked place is scored, and with an `rng` some copied places."""
    rows = [_row(pair, prompt) for pair in pairs]
    places = [_scored_places(pair, rng) for pair in pairs]
    is_masked = [pair.masked[chosen] for pair, chosen in zip(pairs, places, strict=True)]
    longest = max(len(pair.target) for pair in pairs)
    columns = [start + chosen for (_, start), chosen in zip(rows, places, strict=True)]
    targets = [pair.target[chosen] for pair, chosen in zip(pairs, places, strict=True)]
    taken = [
        np.tile(np.pad(pair.target, (0, longest - len(pair.target)), constant_values=-1), (len(chosen), 1))
        for pair, chosen in zip(pairs, places, strict=True)
    ]
    return ScoredBatch(
        slots=padded([slots for slots, _ in rows]),
        rows=torch.from_numpy(np.repeat(np.arange(len(pairs)), [len(chosen) for chosen in places])),
        columns=torch.from_numpy(np.concatenate(columns)),
        targets=torch.from_numpy(np.concatenate(targets).astype(np.int64)),
        is_masked_place=torch.from_numpy(np.concatenate(is_masked)),
        taken=torch.from_numpy(np.concatenate(taken).astype(np.int64)),
    )


def _row(pair: TrainingPair, prompt: Prompt) -> tuple[Slots, int]:
    """Slots of one pair, and the slot whose state decides place 0: the separator, the last one read."""
    read = reading_slots(prompt(pair.feedback), pair.history, pair.masked)
    # Nothing after the last scored place is read; the last item of v* is never an input.
    write = writing_slots(pair.target, pair.masked, 0, len(pair.target) - 1)
    return joined(read, write), len(read.kinds) - 1


def _scored_places(pair: TrainingPair, rng: np.random.Generator | None) -> np.ndarray:
    """Ascending places whose loss is wanted, int64."""
    masked = np.flatnonzero(pair.masked)
    if rng is None:
        return masked
    copied = np.flatnonzero(~pair.masked)
    chosen = rng.choice(copied, size=min(COPIED_PLACES_PER_SEQUENCE, len(copied)), replace=False)
    return np.sort(np.concatenate([masked, chosen]))
