"""Rewriting whole histories, round by round: the mask, the Constructor and the checks in one loop over a batch of users."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from cesrec_core.catalogue import CatalogueFeatures
from cesrec_core.constructor.construction import Construction, ConstructionRequest, construct, validate_rewrite
from cesrec_core.constructor.model import ItemConstructor
from cesrec_core.item_lists import ItemLists
from cesrec_core.outliers import OutlierRule, find_outliers
from cesrec_core.pseudo_sequences import Placement, apply_rewrite, difference

log = logging.getLogger(__name__)

VAGUE_FEEDBACK = "vague_feedback"
NOTHING_MASKED = "nothing_masked"
INVALID_REWRITE = "invalid_rewrite"


@dataclass(frozen=True)
class Remark:
    """One utterance and what was understood of it.

    Attributes:
        unwanted_item_ids, unwanted_attributes: what is turned down; such items are not put into the history.
    """

    feedback_id: str
    utterance: str
    is_vague: bool
    unwanted_item_ids: tuple[str, ...] = ()
    unwanted_attributes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RewriteRequest:
    """One user's history and remarks.

    Attributes:
        codes: int64, the history as catalogue codes, oldest first.
        masked_positions: the mask of the first round; later rounds find their own.
        remarks: one per round, oldest first.
    """

    codes: np.ndarray
    masked_positions: Sequence[int]
    remarks: Sequence[Remark]


@dataclass(frozen=True)
class Round:
    """What one round did to a history.

    Attributes:
        codes: the history after it.
        replaced_positions, replaced_codes: where it differs from the round before, and what stood there.
        probabilities: of each item put in, parallel to replaced_positions where the placement is in place.
        fallback_reason: why the round before was kept, or None.
    """

    feedback_id: str
    codes: np.ndarray
    replaced_positions: list[int] = field(default_factory=list)
    replaced_codes: list[int] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    fallback_reason: str | None = None


class Rewriter:
    """Applies rounds of feedback to batches of histories. A user's result depends on nobody else's."""

    def __init__(
        self, model: ItemConstructor, features: CatalogueFeatures, rule: OutlierRule, placement: Placement, batch_size: int
    ) -> None:
        self.model = model
        self.features = features
        self.rule = rule
        self.placement = placement
        self.batch_size = batch_size
        self.vectors = torch.from_numpy(features.in_space(rule.space))

    def rewrite(self, requests: Sequence[RewriteRequest]) -> list[list[Round]]:
        """The rounds of each user, in order; as many as the user has remarks."""
        current = [np.asarray(request.codes, dtype=np.int64) for request in requests]
        rounds: list[list[Round]] = [[] for _ in requests]
        for number in range(max((len(request.remarks) for request in requests), default=0)):
            users = [user for user, request in enumerate(requests) if len(request.remarks) > number]
            remarks = {user: requests[user].remarks[number] for user in users}
            masks = self._masks(number, users, requests, current)
            asked = {
                user: self._request(remarks[user], current[user], masks[user])
                for user in users
                if not remarks[user].is_vague and masks[user]
            }
            answers = dict(zip(asked, construct(self.model, list(asked.values()), self.batch_size), strict=True))
            for user in users:
                if user in answers:
                    done = self._rewritten(remarks[user], current[user], asked[user], answers[user])
                else:
                    reason = VAGUE_FEEDBACK if remarks[user].is_vague else NOTHING_MASKED
                    done = Round(remarks[user].feedback_id, current[user], fallback_reason=reason)
                rounds[user].append(done)
                current[user] = done.codes
        return rounds

    def _masks(
        self, number: int, users: list[int], requests: Sequence[RewriteRequest], current: list[np.ndarray]
    ) -> dict[int, list[int]]:
        if number == 0:
            return {user: list(requests[user].masked_positions) for user in users}
        outliers = find_outliers(ItemLists.of([current[user] for user in users]), self.vectors, self.rule)
        return {user: outlier.positions.tolist() for user, outlier in zip(users, outliers, strict=True)}

    def _request(self, remark: Remark, codes: np.ndarray, positions: list[int]) -> ConstructionRequest:
        start = self._window_start(codes)
        window_positions = [position - start for position in positions]
        return ConstructionRequest(codes[start:], window_positions, remark.utterance, self._allowed(remark, codes, start))

    def _window_start(self, codes: np.ndarray) -> int:
        return max(0, len(codes) - self.model.settings.history_items)

    def _allowed(self, remark: Remark, codes: np.ndarray, start: int) -> np.ndarray:
        """bool [N]: active, not turned down, and not among the older items that the Constructor does not see."""
        allowed: np.ndarray = self.features.is_active & ~self.features.has_any_attribute(remark.unwanted_attributes)
        allowed[codes[:start]] = False
        allowed[self.features.codes(list(remark.unwanted_item_ids))] = False
        return allowed

    def _rewritten(self, remark: Remark, codes: np.ndarray, request: ConstructionRequest, answer: Construction) -> Round:
        broken = validate_rewrite(request.history, answer.item_codes, request.masked_positions, request.allowed)
        if broken is not None:
            log.warning("A rewrite is dropped: %s", broken)
            return Round(remark.feedback_id, codes, fallback_reason=INVALID_REWRITE)
        start = self._window_start(codes)
        positions = [start + position for position in request.masked_positions]
        new_items = [int(answer.item_codes[position]) for position in request.masked_positions]
        rewritten = apply_rewrite(codes.tolist(), positions, new_items, self.placement)
        change = difference(codes.tolist(), rewritten)
        put_in = (int(answer.item_codes[position]) for position in answer.replaced_positions)
        probability_of = dict(zip(put_in, answer.probabilities, strict=True))
        # With `recent_end` kept items move too; those were not decided, so nothing is said of their probability.
        probabilities = [float(probability_of.get(rewritten[position], 1.0)) for position in change.replaced_positions]
        return Round(remark.feedback_id, np.array(rewritten), change.replaced_positions, change.replaced_items, probabilities)
