"""Rewriting histories: unmasked places are copied, masked ones decided left to right over allowed items only."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from cesrec_core.constructor.decoding import ConstructionRequest, Decision, Decoding, Reader, open_row, search
from cesrec_core.constructor.model import ItemConstructor

GREEDY = Decoding()


@dataclass(frozen=True, eq=False)
class Construction:
    """One rewritten history.

    Attributes:
        item_codes: int32 [L].
        decisions: one for each masked place, by position; none where the history is kept for a reason.
        fallback_reason: why the history is kept, where the answer could not be used; None where it could.
        rejected: what was written and is not the title of a candidate; cleaned and capped, and still untrusted.
    """

    item_codes: np.ndarray
    decisions: tuple[Decision, ...]
    fallback_reason: str | None = None
    rejected: tuple[str, ...] = ()

    @property
    def replacements(self) -> list[Decision]:
        """The decisions that changed an item."""
        return [decision for decision in self.decisions if decision.item != decision.before]


class Decoder(Protocol):
    """Decides masked places. The result of a request depends on no other."""

    @property
    def history_items(self) -> int:
        """Newest items of a history that it reads; a request holds no more."""

    def construct(self, requests: Sequence[ConstructionRequest]) -> list[Construction]:
        """One answer for each request, in order; only masked places may differ, and hold allowed items."""


class ItemDecoder:
    """Reads and writes items: see `construct`."""

    def __init__(self, model: ItemConstructor, batch_size: int = 32, decoding: Decoding = GREEDY) -> None:
        self.model = model
        self.batch_size = batch_size
        self.decoding = decoding

    @property
    def history_items(self) -> int:
        return self.model.settings.history_items

    def construct(self, requests: Sequence[ConstructionRequest]) -> list[Construction]:
        """See `Decoder`."""
        return construct(self.model, requests, self.batch_size, self.decoding)


@torch.inference_mode()
def construct(
    model: ItemConstructor, requests: Sequence[ConstructionRequest], batch_size: int = 32, decoding: Decoding = GREEDY
) -> list[Construction]:
    """Rewrite histories; the result of a request does not depend on the others.

    At a masked place the softmax runs over exactly the allowed items that do not stand at another place of the sequence. The
    item that stood there takes part like any other, since keeping it may be right. Where no item is left, it is kept.
    """
    results: list[Construction | None] = [None] * len(requests)
    was_training = model.training
    model.eval()
    for indices in _buckets(requests, batch_size):
        for index, draft in zip(indices, search(model, [requests[index] for index in indices], decoding), strict=True):
            results[index] = Construction(draft.codes, draft.decisions)
    model.train(was_training)
    return [result for result in results if result is not None]


@torch.inference_mode()
def next_place_scores(model: ItemConstructor, requests: Sequence[ConstructionRequest], batch_size: int = 32) -> torch.Tensor:
    """Score every item for the place after the history; `masked_positions` are not used.

    Returns:
        float32 [len(requests), N] on the CPU, log-probabilities over the allowed items; -inf for the others, which is all
        where nothing is allowed. Items of the history are not removed: that is the ranking's business.
    """
    scores = torch.empty(len(requests), model.num_items)
    was_training = model.training
    model.eval()
    for indices in _buckets(requests, batch_size):
        asked = [_with_next_place(requests[index]) for index in indices]
        rows = [open_row(model, request, known_until=len(request.history) - 1) for request in asked]
        logits = Reader(model).advance(rows).cpu()
        for logit, index in zip(logits, indices, strict=True):
            allowed = requests[index].allowed
            if allowed is not None:
                logit = logit.masked_fill(~torch.from_numpy(allowed), float("-inf"))
            # Of nothing but -inf, a softmax is NaN, which any ranking would take for a score.
            scores[index] = logit if (logit == float("-inf")).all() else torch.log_softmax(logit, -1)
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
