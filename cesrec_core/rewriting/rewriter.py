"""Rewriting whole histories, round by round: the mask, the Constructor and the checks in one loop over a batch of users."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from cesrec_core.catalogue import CatalogueFeatures
from cesrec_core.config import ConstructSection
from cesrec_core.constructor.construction import Construction, Decoder, ItemDecoder, validate_rewrite
from cesrec_core.constructor.decoding import NO_ITEM, ConstructionRequest, Decoding
from cesrec_core.constructor.model import ItemConstructor
from cesrec_core.feedback.clarity import reason_not_to_act
from cesrec_core.feedback.wishes import settled
from cesrec_core.hashing import short_hash
from cesrec_core.item_lists import ItemLists
from cesrec_core.ranking.scoring import Scorer
from cesrec_core.rewriting.fallbacks import (
    BUDGET_EXHAUSTED,
    DRIFT,
    ENDPOINT_FAILED,
    INVALID_REWRITE,
    NOTHING_MASKED,
    SAME_WORDS,
)
from cesrec_core.rewriting.foresight import ForesightDecoder
from cesrec_core.rewriting.likelihood import likelihood_drops
from cesrec_core.rewriting.outliers import OutlierRule, find_outliers
from cesrec_core.rewriting.pseudo_sequences import apply_rewrite, difference

log = logging.getLogger(__name__)

# The same question, asked again, may be answered.
NOT_ANSWERED = (BUDGET_EXHAUSTED, ENDPOINT_FAILED)


@dataclass(frozen=True)
class Remark:
    """One utterance and what was understood of it.

    Attributes:
        unwanted_item_ids, unwanted_attributes: what is turned down; such items are not put into the history, in this round or
            in a later one, unless they are asked for meanwhile.
        wanted_item_ids, wanted_attributes: what is asked for. Where something stands on both sides, nothing is done.
    """

    feedback_id: str
    utterance: str
    is_vague: bool
    unwanted_item_ids: tuple[str, ...] = ()
    unwanted_attributes: tuple[str, ...] = ()
    wanted_item_ids: tuple[str, ...] = ()
    wanted_attributes: tuple[str, ...] = ()

    @property
    def reason_not_to_act(self) -> str | None:
        """See `feedback.clarity`."""
        wanted = self.wanted_attributes, self.wanted_item_ids
        unwanted = self.unwanted_attributes, self.unwanted_item_ids
        return reason_not_to_act(self.utterance, self.is_vague, wanted, unwanted)

    @property
    def is_clear(self) -> bool:
        return self.reason_not_to_act is None


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
        probabilities, margins: of each item put in and its lead over the runner-up, parallel to replaced_positions. 1 for
            items that nobody decided on: with the placement at the recent end, kept items move up.
            NaN where the decoder does not know them.
        runner_ups: codes, NO_ITEM where there is none.
        fallback_reason: why the round before was kept, or None.
        rejected: what a decoder of titles wrote in the stead of a candidate's; untrusted.
    """

    feedback_id: str
    codes: np.ndarray
    replaced_positions: list[int] = field(default_factory=list)
    replaced_codes: list[int] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    runner_ups: list[int] = field(default_factory=list)
    fallback_reason: str | None = None
    rejected: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Asked:
    """What the Constructor is asked for one user.

    Attributes:
        request: the newest items; with the placement at the recent end its masked places stand last.
        positions: int64, where each place of the request stands in the whole history.
    """

    request: ConstructionRequest
    positions: np.ndarray


class Rewriter:
    """Applies rounds of feedback to batches of histories. A user's result depends on nobody else's.

    Args:
        decoder: decides the masked places; whatever it answers is checked here.
        scorer: of the base recommender. Needed where a candidate list or a limit on drift is configured.
    """

    def __init__(
        self,
        decoder: Decoder,
        features: CatalogueFeatures,
        rule: OutlierRule,
        settings: ConstructSection,
        scorer: Scorer | None = None,
    ) -> None:
        self.decoder = decoder
        self.features = features
        self.rule = rule
        self.settings = settings
        self.vectors = torch.from_numpy(features.in_space(rule.space))
        self._scorer = scorer

    @property
    def scorer(self) -> Scorer:
        if self._scorer is None:
            raise ValueError("num_candidates and max_likelihood_drop need the base recommender: give the rewriter a scorer.")
        return self._scorer

    def rewrite(self, requests: Sequence[RewriteRequest]) -> list[list[Round]]:
        """The rounds of each user, in order; as many as the user has remarks."""
        current = [np.asarray(request.codes, dtype=np.int64) for request in requests]
        rounds: list[list[Round]] = [[] for _ in requests]
        for number in range(max((len(request.remarks) for request in requests), default=0)):
            users = [user for user, request in enumerate(requests) if len(request.remarks) > number]
            remarks = {user: requests[user].remarks[number] for user in users}
            masks = self._masks(number, users, requests, current)
            idle = {
                user: reason
                for user in users
                if (reason := _reason_to_keep(requests[user].remarks[:number], rounds[user], remarks[user], masks[user]))
            }
            asking = [user for user in users if user not in idle]
            candidates = self._candidates([current[user] for user in asking])
            asked = {
                user: self._request(requests[user].remarks[: number + 1], current[user], masks[user], allowed)
                for user, allowed in zip(asking, candidates, strict=True)
            }
            answers = self.decoder.construct([asked[user].request for user in asking])
            done = {
                user: self._rewritten(remarks[user], current[user], asked[user], answer)
                for user, answer in zip(asking, answers, strict=True)
            }
            done = self._without_drift(done, current)
            for user in users:
                if user in idle:
                    done[user] = Round(remarks[user].feedback_id, current[user], fallback_reason=idle[user])
                rounds[user].append(done[user])
                current[user] = done[user].codes
        return rounds

    def _masks(
        self, number: int, users: list[int], requests: Sequence[RewriteRequest], current: list[np.ndarray]
    ) -> dict[int, list[int]]:
        if number == 0:
            return {user: list(requests[user].masked_positions) for user in users}
        outliers = find_outliers(ItemLists.of([current[user] for user in users]), self.vectors, self.rule)
        return {user: outlier.positions.tolist() for user, outlier in zip(users, outliers, strict=True)}

    def _candidates(self, histories: list[np.ndarray]) -> list[np.ndarray]:
        """bool [N] for each history: active, and among the user's best by the base recommender where that is configured."""
        if not self.settings.num_candidates or not histories:
            return [self.features.is_active for _ in histories]
        item_ids = self.features.catalogue.item_ids
        read = self.scorer.read([[item_ids[code] for code in history] for history in histories])
        result = []
        for best in self.scorer.top_items(read, self.settings.num_candidates):
            is_candidate = np.zeros(len(item_ids), dtype=bool)
            is_candidate[self.features.codes(best)] = True
            result.append(is_candidate & self.features.is_active)
        return result

    def _request(self, said: Sequence[Remark], codes: np.ndarray, masked: list[int], candidates: np.ndarray) -> _Asked:
        """What is asked because of the last of these remarks."""
        start = max(0, len(codes) - self.decoder.history_items)
        is_masked = np.zeros(len(codes), dtype=bool)
        is_masked[masked] = True
        positions = np.arange(start, len(codes))
        if self.settings.placement == "recent_end":
            # What is asked for is what comes after the kept items: that is where the answer will stand.
            positions = np.concatenate([positions[~is_masked[start:]], positions[is_masked[start:]]])
        places = np.flatnonzero(is_masked[positions]).tolist()
        remark, allowed = said[-1], self._allowed(said, codes[:start], candidates)
        # Enough digits of the words' own name to draw by, whoever else is in the batch.
        seed = int(short_hash(remark.feedback_id), 16)
        request = ConstructionRequest(codes[positions], places, remark.utterance, allowed, seed, older=codes[:start])
        return _Asked(request, positions)

    def _allowed(self, said: Sequence[Remark], older: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """bool [N]: candidates not turned down, and not among the older items that the Constructor does not see."""
        wishes = settled(said)
        allowed: np.ndarray = candidates & ~self.features.has_any_attribute(wishes.unwanted_attributes)
        allowed[older] = False
        allowed[self.features.codes(list(wishes.unwanted_item_ids))] = False
        return allowed

    def _rewritten(self, remark: Remark, codes: np.ndarray, asked: _Asked, answer: Construction) -> Round:
        if answer.fallback_reason is not None:
            return Round(remark.feedback_id, codes, fallback_reason=answer.fallback_reason, rejected=answer.rejected)
        request = asked.request
        broken = validate_rewrite(request.history, answer.item_codes, request.masked_positions, request.allowed)
        if broken is not None:
            log.warning("A rewrite is dropped: %s", broken)
            return Round(remark.feedback_id, codes, fallback_reason=INVALID_REWRITE)
        # An item that the Constructor keeps stays where it is, at the recent end too.
        decisions = answer.replacements
        positions = [int(asked.positions[decision.position]) for decision in decisions]
        new_items = [decision.item for decision in decisions]
        rewritten = apply_rewrite(codes.tolist(), positions, new_items, self.settings.placement)
        change = difference(codes.tolist(), rewritten)
        decision_on = {decision.item: decision for decision in decisions}
        decided = [decision_on.get(rewritten[position]) for position in change.replaced_positions]
        return Round(
            remark.feedback_id,
            np.array(rewritten),
            change.replaced_positions,
            change.replaced_items,
            probabilities=[decision.probability if decision else 1.0 for decision in decided],
            margins=[decision.margin if decision else 1.0 for decision in decided],
            runner_ups=[decision.runner_up if decision else NO_ITEM for decision in decided],
        )

    def _without_drift(self, done: dict[int, Round], current: list[np.ndarray]) -> dict[int, Round]:
        """The rounds, with those undone after which the items that a user kept are far less likely than before."""
        limit = self.settings.max_likelihood_drop
        changed = [user for user, of_user in done.items() if of_user.replaced_positions]
        if limit is None or not changed:
            return done
        before = ItemLists.of([current[user] for user in changed])
        after = ItemLists.of([done[user].codes for user in changed])
        drops = likelihood_drops(self.scorer, before, after)
        return done | {
            user: Round(done[user].feedback_id, current[user], fallback_reason=DRIFT)
            for user, drop in zip(changed, drops, strict=True)
            if drop > limit
        }


def _reason_to_keep(said: Sequence[Remark], rounds: Sequence[Round], remark: Remark, mask: list[int]) -> str | None:
    """Why a user's history needs no Constructor in this round."""
    if reason := remark.reason_not_to_act:
        return reason
    if not mask:
        return NOTHING_MASKED
    # The same words of the same things on the same history, to the same effect: none.
    was_asked = bool(rounds) and rounds[-1].fallback_reason not in NOT_ANSWERED
    if was_asked and not rounds[-1].replaced_positions and replace(said[-1], feedback_id=remark.feedback_id) == remark:
        return SAME_WORDS
    return None


def item_decoder(model: ItemConstructor, settings: ConstructSection, seed: int, scorer: Scorer | None = None) -> ItemDecoder:
    """The decoder of items that the configuration asks for.

    Args:
        scorer: of the base recommender, needed for foresight.
    """
    decoding = Decoding(settings.decoding, settings.num_beams, settings.num_proposals, settings.temperature, seed)
    if settings.decoding != "foresight":
        return ItemDecoder(model, settings.batch_size, decoding)
    if scorer is None:
        raise ValueError("Foresight needs the base recommender: give the decoder a scorer.")
    return ForesightDecoder(model, settings.batch_size, decoding, scorer)
