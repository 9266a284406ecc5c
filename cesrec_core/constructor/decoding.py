"""Deciding masked places: drafts of a rewrite, the cache they share, and the search for the best of them."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch
from transformers import DynamicCache

from cesrec_core.constructor.layout import PADDING, Slots, joined, padded, reading_slots, writing_slots
from cesrec_core.constructor.model import ItemConstructor

NO_ITEM = -1
# Of a judge's ratings. Items that the recommender does not know are all as good as each other; what rounding makes of that must
# not choose among them.
RATING_DECIMALS = 5


@dataclass(frozen=True)
class Decoding:
    """How items are chosen.

    Attributes:
        method: greedy takes the likeliest item of each place; beam keeps the `num_beams` likeliest partial rewrites and takes
            the likeliest whole one; sampling draws each item by its probability; foresight takes the one that the request's
            judge rates best.
        num_proposals: of foresight, the likeliest items of a place that are rated.
        temperature: of sampling; below 1 likely items are drawn more often, above 1 less often.
        seed: of sampling; what a request draws hangs on this and on the request's own seed, on no other request.
    """

    method: Literal["greedy", "beam", "sampling", "foresight"] = "greedy"
    num_beams: int = 4
    num_proposals: int = 32
    temperature: float = 1.0
    seed: int = 0

    @property
    def width(self) -> int:
        """Drafts that are kept of each request."""
        return self.num_beams if self.method == "beam" else 1


class Judge(Protocol):
    """Rates what may stand at a place of one user's history.

    Attributes:
        proposals: item codes that are worth rating, however likely they are.
    """

    @property
    def proposals(self) -> Sequence[int]: ...

    def rate(self, codes: np.ndarray, place: int, items: Sequence[int]) -> np.ndarray:
        """float64 [len(items)], higher is better, of each item at `place` of the history `codes`, int [L]."""
        ...


@dataclass(frozen=True, eq=False)
class ConstructionRequest:
    """One user's history and words.

    Attributes:
        history: int [L], item codes, oldest first; at most the newest `settings.history_items`.
        masked_positions: places to decide, zero-based in `history`; any order.
        feedback: utterance; untrusted.
        allowed: bool [N], True for items that may be put in (active, in the candidate list); None allows all.
        seed: of this request's draws, where they are sampled.
        older: int [K], item codes before `history`, which the Constructor does not read and a judge may.
        judge: needed with foresight alone.
    """

    history: np.ndarray
    masked_positions: Sequence[int]
    feedback: str
    allowed: np.ndarray | None = None
    seed: int = 0
    older: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    judge: Judge | None = None


@dataclass(frozen=True)
class Decision:
    """What was chosen for one masked place, and how sure the choice was.

    Attributes:
        position: zero-based place in the request's history.
        before, item: item codes, what stood there and what was chosen; equal where the item was kept.
        probability: of the chosen item among the candidates of the place; NaN where the decoder does not know it.
        runner_up: the likeliest other candidate, NO_ITEM where there is none or it is not known.
        margin: probability minus that of the runner-up; below 0 where another way than greedy chose a less likely item. NaN
            where it is not known.
    """

    position: int
    before: int
    item: int
    probability: float
    runner_up: int
    margin: float


class Reader:
    """Feeds a batch to the language model piece by piece, each row at its own pace, with one key-value cache.

    Pieces are padded on the right; padded columns stay in the cache and are masked out for good, and positions count only
    real slots, so a row's numbers are those it would have alone.
    """

    def __init__(self, model: ItemConstructor) -> None:
        self._model = model
        self._cache = DynamicCache(config=model.trunk.config)
        self._seen = torch.zeros(0)
        self.wish = torch.zeros(0)

    def advance(self, pieces: Sequence[Slots]) -> torch.Tensor:
        """Read one piece per row, as `read` does.

        Returns:
            Logits [B, N] of what the last real slot of each piece decides; meaningless for rows whose piece was empty.
        """
        return self._model.score(self.read(pieces), self.wish)

    def read(self, pieces: Sequence[Slots]) -> torch.Tensor:
        """Read one piece per row; the first holds the words, after which `wish` is what they ask for, [B, H].

        Returns:
            States [B, H] of the last real slot of each piece; meaningless for rows whose piece was empty.
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
            self.wish = self._model.wish(slots, states)
        return states[torch.arange(len(pieces), device=states.device), (is_real.sum(1) - 1).clamp(min=0)]

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows, in this order; a row may go on more than once, or not at all."""
        if list(rows) == list(range(len(self._seen))):
            return
        chosen = torch.tensor(rows, dtype=torch.int64, device=self._seen.device)
        self._cache.batch_select_indices(chosen)
        self._seen, self.wish = self._seen[chosen], self.wish[chosen]


class Draft:
    """A rewrite in the making: decides one masked place after the other.

    Attributes:
        codes: int32 [L], with what was decided so far.
        log_probability: of all decisions so far, in nats.
    """

    def __init__(self, request: ConstructionRequest, num_items: int) -> None:
        self.request = request
        self.places = sorted({int(place) for place in request.masked_positions})
        self.codes = np.asarray(request.history, dtype=np.int32).copy()
        self.decisions: tuple[Decision, ...] = ()
        self.log_probability = 0.0
        self._masked = mask_of(request)
        self._allowed = np.ones(num_items, dtype=bool) if request.allowed is None else request.allowed.astype(bool)

    @property
    def next_place(self) -> int | None:
        """The next place to decide; None when all are decided."""
        return self.places[len(self.decisions)] if len(self.decisions) < len(self.places) else None

    def probabilities(self, logits: torch.Tensor) -> np.ndarray:
        """float64 [N], of the items for the next place; 0 for all where there is no candidate."""
        candidates = torch.from_numpy(self._candidates())
        if not candidates.any():
            return np.zeros(len(candidates))
        result: np.ndarray = torch.softmax(logits.double().masked_fill(~candidates, float("-inf")), -1).numpy()
        return result

    def _candidates(self) -> np.ndarray:
        """bool [N], of the next place."""
        place = self.next_place
        if place is None:
            raise RuntimeError("every masked place of this draft is decided")
        return candidates_of(self.codes, place, self._allowed)

    def decided(self, item: int, probabilities: np.ndarray) -> "Draft":
        """The draft that goes on from this one with `item` in the next place."""
        place = self.next_place
        if place is None:
            raise RuntimeError("every masked place of this draft is decided")
        # Only the two likeliest can be the runner-up.
        others = [code for code in _likeliest(probabilities, 2) if code != item]
        runner_up = others[0] if others else NO_ITEM
        margin = float(probabilities[item] - probabilities[runner_up]) if others else 1.0
        result = copy.copy(self)
        result.codes = self.codes.copy()
        result.codes[place] = item
        decision = Decision(place, int(self.request.history[place]), item, float(probabilities[item]), runner_up, margin)
        result.decisions = (*self.decisions, decision)
        result.log_probability = self.log_probability + float(np.log(probabilities[item]))
        return result

    def kept(self) -> "Draft":
        """The draft that goes on with the item that stands in the next place, for want of any candidate."""
        item = int(self.codes[self.next_place])
        certain = np.zeros(len(self._allowed))
        certain[item] = 1.0
        return self.decided(item, certain)

    def next_piece(self) -> Slots:
        """v* from the place just decided up to the next to decide; empty when all are decided."""
        place = self.next_place
        if place is None:
            return writing_slots(self.codes, self._masked, 0, 0)
        return writing_slots(self.codes, self._masked, self.places[len(self.decisions) - 1], place)


def candidates_of(codes: np.ndarray, place: int, allowed: np.ndarray) -> np.ndarray:
    """bool [N]: allowed, and at no other place. Later masked places still hold what stood there and may keep it.

    Args:
        codes: int [L], with what was decided so far.
        allowed: bool [N].
    """
    candidates = allowed.copy()
    candidates[codes[np.arange(len(codes)) != place]] = False
    return candidates


def mask_of(request: ConstructionRequest) -> np.ndarray:
    """bool [L], True at the places to decide."""
    masked = np.zeros(len(request.history), dtype=bool)
    masked[list(request.masked_positions)] = True
    return masked


def open_row(model: ItemConstructor, request: ConstructionRequest, known_until: int) -> Slots:
    """The prompt, the history with masked places hidden, the separator, and v* before place `known_until`."""
    masked = mask_of(request)
    read = reading_slots(model.prompt(request.feedback), request.history, masked)
    return joined(read, writing_slots(request.history, masked, 0, known_until))


def search(model: ItemConstructor, requests: Sequence[ConstructionRequest], decoding: Decoding) -> list[Draft]:
    """The best finished draft of each request; among equals the one with the smaller item codes."""
    beams = [[Draft(request, model.num_items)] for request in requests]
    draws = [np.random.default_rng([decoding.seed, request.seed]) for request in requests]
    reader = Reader(model)
    pieces = [open_row(model, draft.request, draft.next_place or 0) for (draft,) in beams]
    while any(drafts[0].next_place is not None for drafts in beams):
        logits = iter(reader.advance(pieces).cpu())
        rows, first_row = [], 0
        for number, drafts in enumerate(beams):
            proposed = [
                (draft, first_row + place)
                for place, parent in enumerate(drafts)
                for draft in _continued(parent, next(logits), decoding, draws[number])
            ]
            first_row += len(drafts)
            proposed.sort(key=lambda pair: -pair[0].log_probability)  # stable: equals stay in order
            beams[number] = [draft for draft, _ in proposed[: decoding.width]]
            rows += [row for _, row in proposed[: decoding.width]]
        reader.select(rows)
        pieces = [draft.next_piece() for drafts in beams for draft in drafts]
    return [drafts[0] for drafts in beams]


def _continued(draft: Draft, logits: torch.Tensor, decoding: Decoding, draws: np.random.Generator) -> Iterator[Draft]:
    """The drafts that one draft may go on as; itself when it is finished."""
    if draft.next_place is None:
        yield draft
        return
    probabilities = draft.probabilities(logits)
    if not probabilities.any():
        yield draft.kept()
    elif decoding.method == "sampling":
        yield draft.decided(_drawn(probabilities, decoding.temperature, draws), probabilities)
    elif decoding.method == "foresight":
        yield draft.decided(_best_rated(draft, probabilities, decoding.num_proposals), probabilities)
    else:
        yield from (draft.decided(item, probabilities) for item in _likeliest(probabilities, decoding.width))


def _likeliest(probabilities: np.ndarray, k: int) -> list[int]:
    """The k likeliest items, likeliest first, equals by item code; fewer where fewer are possible. No sort of them all."""
    k = min(k, len(probabilities))
    least = np.partition(probabilities, -k)[-k]
    enough = np.flatnonzero((probabilities >= least) & (probabilities > 0))
    return [int(item) for item in enough[np.argsort(-probabilities[enough], kind="stable")][:k]]


def _best_rated(draft: Draft, probabilities: np.ndarray, num_proposals: int) -> int:
    """The candidate that the judge rates best, among equals the likelier one; what stands there is rated, too."""
    judge, place = draft.request.judge, draft.next_place
    if judge is None or place is None:
        raise ValueError("Foresight decides a place of a draft by the judge of its request: give the request one.")
    others = [code for code in (int(draft.codes[place]), *judge.proposals) if probabilities[code] > 0]
    items = list(dict.fromkeys([*_likeliest(probabilities, num_proposals), *others]))
    return items[int(np.argmax(judge.rate(draft.codes, place, items).round(RATING_DECIMALS)))]


def _drawn(probabilities: np.ndarray, temperature: float, draws: np.random.Generator) -> int:
    """An item drawn from p^(1 / temperature), normalised."""
    with np.errstate(divide="ignore"):
        tempered = np.log(probabilities) / temperature
    weights = np.exp(tempered - tempered.max())
    # Not `weights.sum()`, which adds in another order and may end above the last of these.
    cumulative = np.cumsum(weights)
    return int(np.searchsorted(cumulative, draws.random() * cumulative[-1], side="right"))
