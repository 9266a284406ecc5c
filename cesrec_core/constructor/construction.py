"""Rewriting histories: unmasked places are copied, masked ones decided left to right, greedily, over allowed items only."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import DynamicCache

from cesrec_core.constructor.layout import PADDING, Slots, joined, padded, reading_slots, writing_slots
from cesrec_core.constructor.model import ItemConstructor


@dataclass(frozen=True, eq=False)
class ConstructionRequest:
    """One user's history and words.

    Attributes:
        history: int [L], item codes, oldest first; at most the newest `settings.history_items`.
        masked_positions: places to decide, zero-based in `history`; any order.
        feedback: utterance; untrusted.
        allowed: bool [N], True for items that may be put in (active, in the candidate list); None allows all.
    """

    history: np.ndarray
    masked_positions: Sequence[int]
    feedback: str
    allowed: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Construction:
    """One rewritten history.

    Attributes:
        item_codes: int32 [L].
        replaced_positions: ascending places whose item differs from the request's.
        probabilities: of the item put in, parallel to `replaced_positions`.
        margin: smallest lead of a decided item over the runner-up, in probability; 1 where nothing was decided.
    """

    item_codes: np.ndarray
    replaced_positions: tuple[int, ...]
    probabilities: tuple[float, ...]
    margin: float


def construct(model: ItemConstructor, requests: Sequence[ConstructionRequest], batch_size: int = 32) -> list[Construction]:
    """Rewrite histories; the result of a request does not depend on the others.

    At a masked place the softmax runs over exactly the allowed items that do not stand at another place of the sequence. The
    item that stood there takes part like any other, since keeping it may be right. Where no item is left, it is kept.
    """
    results: list[Construction | None] = [None] * len(requests)
    for indices in _buckets(requests, batch_size):
        for index, result in zip(indices, _construct_bucket(model, [requests[index] for index in indices]), strict=True):
            results[index] = result
    return [result for result in results if result is not None]


@torch.inference_mode()
def next_place_scores(model: ItemConstructor, requests: Sequence[ConstructionRequest], batch_size: int = 32) -> torch.Tensor:
    """Score every item for the place after the history; `masked_positions` are not used.

    Returns:
        float32 [len(requests), N] on the CPU, log-probabilities over the allowed items; -inf for the others. Items of the
        history are not removed: that is the ranking's business.
    """
    scores = torch.empty(len(requests), model.num_items)
    was_training = model.training
    model.eval()
    for indices in _buckets(requests, batch_size):
        asked = [_with_next_place(requests[index]) for index in indices]
        rows = [_open_row(model, request, known_until=len(request.history) - 1) for request in asked]
        logits = _Reader(model).advance(rows).cpu()
        for logit, index in zip(logits, indices, strict=True):
            allowed = requests[index].allowed
            if allowed is not None:
                logit = logit.masked_fill(~torch.from_numpy(allowed), float("-inf"))
            scores[index] = torch.log_softmax(logit, -1)
    model.train(was_training)
    return scores


def validate_rewrite(
    original: np.ndarray, rewritten: np.ndarray, masked_positions: Sequence[int], allowed: np.ndarray | None
) -> str | None:
    """The contract of every rewrite: same length, unmasked places unchanged, every item put in allowed.

    Args:
        original, rewritten: int [L] item codes.
        masked_positions: places that may differ.
        allowed: bool [N]; None allows every item. An item that was kept need not be allowed.

    Returns:
        None for a valid rewrite, else the reason.
    """
    if len(rewritten) != len(original):
        return f"length changed from {len(original)} to {len(rewritten)}"
    changed = np.flatnonzero(np.asarray(rewritten) != np.asarray(original))
    outside = [int(place) for place in changed if place not in set(masked_positions)]
    if outside:
        return f"place {outside[0]} changed, which was not masked"
    for place in changed:
        code = int(rewritten[place])
        if code < 0 or (allowed is not None and (code >= len(allowed) or not allowed[code])):
            return f"item {code} at place {int(place)} is not allowed"
        if np.count_nonzero(np.asarray(rewritten) == code) > 1:
            return f"item {code} at place {int(place)} stands in the sequence twice"
    return None


def _buckets(requests: Sequence[ConstructionRequest], batch_size: int) -> Iterator[list[int]]:
    """Indices of requests of similar length, longest first, so that memory runs out at once or not at all."""
    order = sorted(range(len(requests)), key=lambda index: -len(requests[index].history))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def _with_next_place(request: ConstructionRequest) -> ConstructionRequest:
    """The same history with a place to decide after it; the code there is never read."""
    history = np.append(request.history, 0)
    return ConstructionRequest(history, (len(history) - 1,), request.feedback, request.allowed)


def _open_row(model: ItemConstructor, request: ConstructionRequest, known_until: int) -> Slots:
    """The prompt, the history with masked places hidden, the separator, and v* before place `known_until`."""
    masked = _mask_of(request)
    read = reading_slots(model.prompt(request.feedback), request.history, masked)
    return joined(read, writing_slots(request.history, masked, 0, known_until))


def _mask_of(request: ConstructionRequest) -> np.ndarray:
    masked = np.zeros(len(request.history), dtype=bool)
    masked[list(request.masked_positions)] = True
    return masked


class _Reader:
    """Feeds a batch to the language model piece by piece, each row at its own pace, with one key-value cache.

    Pieces are padded on the right; padded columns stay in the cache and are masked out for good, and positions count only
    real slots, so a row's numbers are those it would have alone.
    """

    def __init__(self, model: ItemConstructor) -> None:
        self._model = model
        self._cache = DynamicCache(config=model.trunk.config)
        self._seen = torch.zeros(0)
        self._wish = torch.zeros(0)

    def advance(self, pieces: Sequence[Slots]) -> torch.Tensor:
        """Read one piece per row; the first holds the words.

        Returns:
            Logits [B, N] of what the last real slot of each piece decides; meaningless for rows whose piece was empty.
        """
        slots = padded(pieces).to(self._model.device)
        is_real = (slots.kinds != PADDING).long()
        is_first = self._seen.numel() == 0
        if is_first:
            self._seen = is_real.new_zeros(len(pieces), 0)
        num_seen = self._seen.sum(1, keepdim=True)
        self._seen = torch.cat([self._seen, is_real], 1)
        continuing = {
            "attention_mask": self._seen,
            "position_ids": num_seen + (is_real.cumsum(1) - 1).clamp(min=0),
            "past_key_values": self._cache,
            "use_cache": True,
        }
        states = self._model.read(slots, continuing)
        if is_first:
            self._wish = self._model.wish(slots, states)
        last = states[torch.arange(len(pieces), device=states.device), (is_real.sum(1) - 1).clamp(min=0)]
        return self._model.score(last, self._wish)


@torch.inference_mode()
def _construct_bucket(model: ItemConstructor, requests: Sequence[ConstructionRequest]) -> list[Construction]:
    was_training = model.training
    model.eval()
    drafts = [_Draft(request, model.num_items) for request in requests]
    reader = _Reader(model)
    pieces = [_open_row(model, draft.request, draft.next_place or 0) for draft in drafts]
    for _ in range(max(len(draft.places) for draft in drafts)):
        logits = reader.advance(pieces).cpu().double()
        for draft, logit in zip(drafts, logits, strict=True):
            draft.decide(logit)
        pieces = [draft.next_piece() for draft in drafts]
    model.train(was_training)
    return [draft.finished() for draft in drafts]


class _Draft:
    """A rewrite in the making: decides one masked place after the other."""

    def __init__(self, request: ConstructionRequest, num_items: int) -> None:
        self.request = request
        self.places = sorted({int(place) for place in request.masked_positions})
        self._codes = np.asarray(request.history, dtype=np.int32).copy()
        self._masked = _mask_of(request)
        self._allowed = np.ones(num_items, dtype=bool) if request.allowed is None else request.allowed.astype(bool)
        self._probabilities: list[float] = []
        self._margin = 1.0

    @property
    def next_place(self) -> int | None:
        """The next place to decide; None when all are decided."""
        return self.places[len(self._probabilities)] if len(self._probabilities) < len(self.places) else None

    def decide(self, logits: torch.Tensor) -> None:
        """Put the likeliest candidate into the next place; logits float64 [N]. Does nothing when all are decided."""
        place = self.next_place
        if place is None:
            return
        candidates = self._candidates(place)
        if not candidates.any():
            self._probabilities.append(1.0)
            return
        probabilities = torch.softmax(logits.masked_fill(~torch.from_numpy(candidates), float("-inf")), -1).numpy()
        self._codes[place] = int(probabilities.argmax())
        best = float(probabilities.max())
        runner_up = float(np.partition(probabilities, -2)[-2]) if len(probabilities) > 1 else 0.0
        self._probabilities.append(best)
        self._margin = min(self._margin, best - runner_up)

    def _candidates(self, place: int) -> np.ndarray:
        """bool [N]: allowed, and at no other place. Later masked places still hold what stood there and may keep it."""
        candidates = self._allowed.copy()
        candidates[np.delete(self._codes, place)] = False
        return candidates

    def next_piece(self) -> Slots:
        """v* from the place just decided up to the next to decide; empty when all are decided."""
        place = self.next_place
        if place is None:
            return writing_slots(self._codes, self._masked, 0, 0)
        return writing_slots(self._codes, self._masked, self.places[len(self._probabilities) - 1], place)

    def finished(self) -> Construction:
        replaced = [
            (place, probability)
            for place, probability in zip(self.places, self._probabilities, strict=True)
            if self._codes[place] != self.request.history[place]
        ]
        return Construction(
            item_codes=self._codes,
            replaced_positions=tuple(place for place, _ in replaced),
            probabilities=tuple(probability for _, probability in replaced),
            margin=self._margin,
        )
