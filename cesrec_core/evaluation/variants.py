"""What the words are worth: the same users, the same feedback, several ways of using it.

Full ranking with seen items filtered comes first; the target against uniform negatives stands beside it. Weights are
chosen on validation items and used once, unchanged, on test items.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cesrec_core.config import Config
from cesrec_core.constructor.model import ItemConstructor
from cesrec_core.datasets import Histories
from cesrec_core.errors import ConfigError
from cesrec_core.evaluation.metrics import Ranks, hits, ndcg, ranks_of_sums, sample_negatives, sampled_ranks
from cesrec_core.evaluation.significance import Interval, PairedTest, bootstrap_interval, paired_test
from cesrec_core.feedback.simulator import simulate_utterance
from cesrec_core.feedback.understanding import Listener, RuleListener, Signals
from cesrec_core.feedback.wishes import settled
from cesrec_core.hashing import short_hash
from cesrec_core.item_lists import ItemLists
from cesrec_core.ranking.feedback_match import FeedbackMatch
from cesrec_core.ranking.next_place import next_place_part
from cesrec_core.ranking.scoring import Scorer
from cesrec_core.ranking.top_k import base_scores
from cesrec_core.rewriting.outliers import OutlierRule, find_outliers
from cesrec_core.rewriting.pseudo_sequences import Placement, apply_rewrite, drop_masked
from cesrec_core.rewriting.rewriter import Remark, Rewriter, RewriteRequest, item_decoder
from cesrec_core.sequences import Moment, input_and_target, training_part

NUM_SHOWN = 10
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Weights:
    """Weights of the parts that are added to the base score."""

    attribute: float = 0.0
    aligned: float = 0.0
    constructor: float = 0.0


@dataclass(frozen=True)
class Variant:
    """One row of the table: which sequence the base recommender reads, and which other parts of the score count."""

    name: str
    sequence: str  # history, masked, popular, one of REWRITINGS, or nothing: the base recommender is not asked
    has_match: bool = False
    has_next_place: bool = False

    @property
    def is_weighted(self) -> bool:
        """Whether it has weights to choose."""
        return self.has_match or self.has_next_place

    @property
    def constructor_reads(self) -> str:
        """The sequence whose next place is asked for: the history as it was, where no base recommender reads any."""
        return "history" if self.sequence == "nothing" else self.sequence


@dataclass(frozen=True)
class Rewriting:
    """How the Constructor rewrites a history; None follows the configuration."""

    space: Literal["semantic", "random"] | None = None
    placement: Placement | None = None
    decoding: Literal["greedy", "foresight"] | None = None


REWRITINGS = {
    "rewritten": Rewriting(),
    "rewritten at random places": Rewriting(space="random"),
    "rewritten without alignment": Rewriting(space="semantic"),
    "rewritten at the recent end": Rewriting(placement="recent_end"),
    "rewritten with foresight": Rewriting(decoding="foresight"),
}
VARIANTS = (
    Variant("base", "history"),
    Variant("base + re-rank", "history", has_match=True),
    Variant("feedback alone", "nothing", has_match=True),
    Variant("mask only", "masked"),
    Variant("random mask + Constructor", "rewritten at random places"),
    Variant("popular items in masked places", "popular"),
    Variant("CESRec", "rewritten"),
    Variant("CESRec without dual alignment", "rewritten without alignment"),
    Variant("CESRec at the recent end", "rewritten at the recent end"),
    Variant("CESRec with foresight", "rewritten with foresight"),
    Variant("next place alone", "nothing", has_next_place=True),
    Variant("CESRec + re-rank", "rewritten", has_match=True),
    Variant("base + re-rank + next place", "history", has_match=True, has_next_place=True),
    Variant("CESRec + re-rank + next place", "rewritten", has_match=True, has_next_place=True),
)
BASE = "base"
# What a variant is tested against.
COMPARISONS = (
    ("mask only", "base"),
    ("CESRec", "base"),
    ("CESRec", "random mask + Constructor"),
    ("CESRec", "popular items in masked places"),
    ("CESRec", "CESRec without dual alignment"),
    ("CESRec with foresight", "base"),
    ("CESRec at the recent end", "base + re-rank"),
    ("next place alone", "base + re-rank"),
    ("CESRec + re-rank", "base + re-rank"),
    ("base + re-rank + next place", "base + re-rank"),
    ("CESRec + re-rank + next place", "base + re-rank"),
    ("CESRec + re-rank + next place", "base + re-rank + next place"),
)


def variants_named(names: Sequence[str]) -> tuple[Variant, ...]:
    """The rows of these names and the base, as they stand in the table; all rows where none is named.

    Raises:
        ConfigError: there is no such row.
    """
    known = [variant.name for variant in VARIANTS]
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"evaluate.variants: there is no row {unknown[0]!r}. There are: {', '.join(known)}.")
    return tuple(variant for variant in VARIANTS if not names or variant.name in {BASE, *names})


# By what: the figure that weights are chosen by, and the one that the paper reports.
TESTED = (("full", "NDCG@10"), ("sampled", "HR@10"))


class Heard(NamedTuple):
    """An utterance, and what was understood of it."""

    utterance: str
    signals: Signals


@dataclass(frozen=True)
class Cases:
    """The users of one moment: what they had, what they want, and what they say.

    Attributes:
        histories: B lists of item ids.
        codes: the same as catalogue codes.
        targets: int64 [B] catalogue codes.
        target_idx: int64 [B] item_idx; 0 where the recommender does not know the target.
        remarks: what each user has said and what was understood of it, one list per round, oldest first.
        num_interactions: int64 [N], training interactions of each item of the catalogue.
    """

    moment: Moment
    user_ids: list[str]
    histories: list[list[str]]
    codes: list[np.ndarray]
    targets: np.ndarray
    target_idx: np.ndarray
    remarks: list[list[Heard]]
    num_interactions: np.ndarray

    @property
    def utterances(self) -> list[str]:
        """What each user said last."""
        return [heard.utterance for heard in self.remarks[-1]]


class Evaluator:
    """Scores the variants for the users of a moment; every part is computed once and combined.

    Models compute where they are; what they made is kept on the CPU.

    Args:
        listener: reads what users say, as the stage understand_feedback does.
    """

    def __init__(self, scorer: Scorer, constructor: ItemConstructor, config: Config, listener: Listener | RuleListener) -> None:
        self.scorer = scorer
        self.constructor = constructor
        self.config = config
        self.listener = listener
        self.features = scorer.features
        self.rule = OutlierRule.of(config.mask_outliers, config.run.seed)

    def cases(self, histories: Histories, moment: Moment) -> Cases:
        """A seeded sample of users with a target, who react to the base recommender's list."""
        item_ids = self.features.catalogue.item_ids
        pairs = {user: input_and_target(histories[user].tolist(), moment) for user in range(len(histories))}
        cut = {user: pair for user, pair in pairs.items() if pair is not None}
        rng = np.random.default_rng(self.config.run.seed)
        users = sorted(rng.permutation(list(cut))[: self.config.evaluate.max_users].tolist())
        codes = [np.asarray(cut[user][0], dtype=np.int64) for user in users]
        targets = [int(cut[user][1]) for user in users]
        known = [[item_ids[code] for code in history] for history in codes]
        shown = self.scorer.top_items(self.scorer.read(known), NUM_SHOWN)
        idx_of = self.scorer.vocabulary.idx_of
        target_idx = np.array([idx_of.get(item_ids[target], 0) for target in targets])
        user_ids = [histories.user_ids[user] for user in users]
        heard = self._hear(user_ids, targets, shown, number=0)
        parts = (training_part(histories[user].tolist(), "leave_one_out") for user in range(len(histories)))
        trained_on = [np.asarray(part, dtype=np.int64) for part in parts]
        num_interactions = np.bincount(np.concatenate(trained_on), minlength=len(item_ids))
        return Cases(moment, user_ids, known, codes, np.array(targets), target_idx, [heard], num_interactions)

    def next_round(self, cases: Cases, shown: Sequence[list[str]]) -> Cases:
        """The same users, who have also reacted to the lists that they were shown after their last words."""
        heard = self._hear(cases.user_ids, cases.targets.tolist(), shown, number=len(cases.remarks))
        return dataclasses.replace(cases, remarks=[*cases.remarks, heard])

    def rewriter(self, rewriting: Rewriting) -> Rewriter:
        section = self.config.construct_pseudo_sequences
        rule = self.rule
        if rewriting.space is not None:
            masks = self.config.mask_outliers.model_copy(update={"space": rewriting.space})
            rule = OutlierRule.of(masks, self.config.run.seed)
        changes = {"placement": rewriting.placement, "decoding": rewriting.decoding}
        section = section.model_copy(update={name: value for name, value in changes.items() if value is not None})
        decoder = item_decoder(self.constructor, section, self.config.run.seed, self.scorer)
        return Rewriter(decoder, self.features, rule, section, self.scorer)

    def parts(self, cases: Cases, advance: Advance = lambda amount: None) -> "Parts":
        """Everything that a variant may be made of, for these users."""
        return Parts(self, cases, advance)

    def _hear(self, user_ids: Sequence[str], targets: Sequence[int], shown: Sequence[list[str]], number: int) -> list[Heard]:
        """What people who want the targets say of what was shown, in round `number` from 0, and what is understood of it."""
        said = [self._say(*row, number) for row in zip(user_ids, targets, shown, strict=True)]
        return [Heard(*one) for one in zip(said, self.listener.read(said, shown), strict=True)]

    def _say(self, user_id: str, target: int, shown: list[str], number: int) -> str:
        attributes = self.features.catalogue.attributes
        of_shown = [attributes[code] for code in self.features.codes(shown)]
        # Keyed by the user: what one person says does not depend on who else is asked.
        rng = np.random.default_rng([self.config.run.seed, int(short_hash([user_id, number]), 16)])
        section = self.config.simulate_feedback
        return simulate_utterance(attributes[target], of_shown, rng, section.max_attributes, section.unwanted_share)


class Parts:
    """Parts of scores, each made when it is first asked for.

    Scores are float32 [B, V + 1].
    """

    def __init__(self, evaluator: Evaluator, cases: Cases, advance: Advance) -> None:
        self.evaluator = evaluator
        self.cases = cases
        self.advance = advance

    def masks(self, rule: OutlierRule) -> list[list[int]]:
        """Masked places of each user."""
        vectors = torch.from_numpy(self.evaluator.features.in_space(rule.space))
        return [outliers.positions.tolist() for outliers in find_outliers(ItemLists.of(self.cases.codes), vectors, rule)]

    def _rewrite(self, rewriting: Rewriting) -> list[list[str]]:
        rewriter = self.evaluator.rewriter(rewriting)
        masks = self.masks(rewriter.rule)
        requests = [
            RewriteRequest(codes, mask, [_remark(heard) for heard in of_user])
            for codes, mask, *of_user in zip(self.cases.codes, masks, *self.cases.remarks, strict=True)
        ]
        item_ids = self.evaluator.features.catalogue.item_ids
        result = []
        size = self.evaluator.config.construct_pseudo_sequences.batch_size
        for start in range(0, len(requests), size):
            rounds = rewriter.rewrite(requests[start : start + size])
            result += [[item_ids[code] for code in of_user[-1].codes] for of_user in rounds]
            self.advance(len(rounds))
        return result

    @cached_property
    def match(self) -> FeedbackMatch:
        """By all that was said, as the stage `recommend` hears it."""
        wishes = [settled(heard.signals for heard in of_user) for of_user in zip(*self.cases.remarks, strict=True)]
        return self.evaluator.scorer.match(
            [of_user.wanted_attributes for of_user in wishes],
            [of_user.unwanted_attributes for of_user in wishes],
            [of_user.wanted_item_ids for of_user in wishes],
            [of_user.unwanted_item_ids for of_user in wishes],
        )

    def _with_popular_items(self) -> list[list[str]]:
        """Histories with the most popular items that the user has not had in the masked places."""
        features = self.evaluator.features
        order = np.argsort(-self.cases.num_interactions, kind="stable")
        popular = order[features.is_active[order]]
        item_ids = features.catalogue.item_ids
        result = []
        for codes, mask in zip(self.cases.codes, self.masks(self.evaluator.rule), strict=True):
            new = [item_ids[code] for code in popular[~np.isin(popular, codes)][: len(mask)]]
            history = [item_ids[code] for code in codes]
            result.append(apply_rewrite(history, mask[: len(new)], new, "in_place"))
        return result

    def next_place(self, sequence: str) -> Tensor:
        """The Constructor's log-probabilities of the place after one kind of sequence."""
        if sequence not in self._next_place:
            self._next_place[sequence] = self._score_next_place(self.sequences(sequence))
        return self._next_place[sequence]

    @cached_property
    def _next_place(self) -> dict[str, Tensor]:
        return {}

    def _score_next_place(self, histories: list[list[str]]) -> Tensor:
        evaluator = self.evaluator
        codes = [evaluator.features.codes(history) for history in histories]
        size = evaluator.config.construct_pseudo_sequences.batch_size
        return next_place_part(evaluator.constructor, evaluator.scorer, codes, self.cases.utterances, size, self.advance)

    def base(self, sequence: str) -> Tensor:
        """The base recommender's log-probabilities after one kind of sequence; 0 for every item after nothing."""
        if sequence == "nothing":
            return torch.zeros(len(self.cases.codes), len(self.evaluator.scorer.allowed))
        if sequence not in self._base:
            scorer = self.evaluator.scorer
            vectors = scorer.encode(scorer.read(self.sequences(sequence)))
            allowed = scorer.allowed.to(vectors.device)
            self._base[sequence] = base_scores(vectors, scorer.item_vectors, allowed).float().cpu()
        return self._base[sequence]

    @cached_property
    def _base(self) -> dict[str, Tensor]:
        return {}

    def sequences(self, sequence: str) -> list[list[str]]:
        """Each user's history as a variant reads it, item ids, oldest first."""
        if sequence not in self._made:
            self._made[sequence] = self._make(sequence)
        return self._made[sequence]

    @cached_property
    def _made(self) -> dict[str, list[list[str]]]:
        return {}

    def _make(self, sequence: str) -> list[list[str]]:
        if sequence == "history":
            return self.cases.histories
        if sequence == "masked":
            masks = self.masks(self.evaluator.rule)
            return [drop_masked(history, mask) for history, mask in zip(self.cases.histories, masks, strict=True)]
        if sequence == "popular":
            return self._with_popular_items()
        return self._rewrite(REWRITINGS[sequence])

    def _terms(self, variant: Variant) -> list[tuple[str, Tensor]]:
        """What is added to the base recommender's scores, each by the name of its weight."""
        terms = []
        if variant.has_match:
            terms += [("attribute", self.match.attributes), ("aligned", self.match.aligned)]
        if variant.has_next_place:
            terms.append(("constructor", self.next_place(variant.constructor_reads)))
        return terms

    def scores(self, variant: Variant, weights: Weights) -> np.ndarray:
        total = self.base(variant.sequence)
        for name, term in self._terms(variant):
            total = total + getattr(weights, name) * term
        result: np.ndarray = total.numpy()
        return result

    def full_ranks(self, variant: Variant, choices: Sequence[Weights]) -> Ranks:
        """Ranks of the targets by full ranking for each choice of weights, [len(choices), B]."""
        scorer, terms = self.evaluator.scorer, self._terms(variant)
        by_choice = [[getattr(weights, name) for name, _ in terms] for weights in choices]
        seen = list(scorer.read(self.cases.histories).idx)
        return ranks_of_sums(
            self.base(variant.sequence),
            [term for _, term in terms],
            by_choice,
            self.cases.target_idx,
            seen,
            scorer.allowed.numpy(),
            self.evaluator.constructor.device,
        )

    def sampled_ranks(self, variant: Variant, weights: Weights, full: Ranks) -> Ranks:
        """Ranks of the targets among `evaluate.num_negatives` items that each user could have been shown as well, [B].

        Args:
            full: [B], by full ranking with the same weights.
        """
        scorer = self.evaluator.scorer
        config = self.evaluator.config
        no_negatives = [
            np.append(seen, target)
            for seen, target in zip(scorer.read(self.cases.histories).idx, self.cases.target_idx, strict=True)
        ]
        num_negatives, seed = config.evaluate.num_negatives, config.run.seed
        negatives = sample_negatives(len(scorer.vocabulary), no_negatives, num_negatives, seed, scorer.allowed.numpy())
        return sampled_ranks(full, self.scores(variant, weights), self.cases.target_idx, negatives)


def _remark(heard: Heard) -> Remark:
    signals = heard.signals
    return Remark(
        feedback_id=heard.utterance,  # drawn by, where decoding samples
        utterance=heard.utterance,
        is_vague=signals.is_vague,
        unwanted_item_ids=signals.unwanted_item_ids,
        unwanted_attributes=signals.unwanted_attributes,
        wanted_item_ids=signals.wanted_item_ids,
        wanted_attributes=signals.wanted_attributes,
    )


def choose_weights(parts: Parts, variant: Variant, grid: Sequence[float]) -> Weights:
    """The weights with the best full-ranking NDCG@10; among equals the smallest, tried in ascending order."""
    if not variant.is_weighted:
        return Weights()
    of_match = sorted(grid) if variant.has_match else [0.0]
    of_next_place = sorted(grid) if variant.has_next_place else [0.0]
    candidates = [Weights(*values) for values in itertools.product(of_match, of_match, of_next_place)]
    values = ndcg(parts.full_ranks(variant, candidates), 10).mean(axis=1)
    return candidates[int(np.argmax(values))]


Measures = Mapping[str, np.ndarray]
# By comparison ("CESRec against base"), then by protocol and measure ("full NDCG@10").
Tests = dict[str, dict[str, PairedTest]]


def per_user_measures(ranks: Ranks) -> dict[str, np.ndarray]:
    """HR and NDCG at 5 and 10 of each user."""
    return {f"{name}@{k}": measure(ranks, k) for k in (5, 10) for name, measure in (("HR", hits), ("NDCG", ndcg))}


@dataclass(frozen=True)
class TableRow:
    """One variant's figures: intervals by protocol (`full`, `sampled`) and measure."""

    variant: Variant
    weights: Weights
    intervals: dict[str, dict[str, Interval]]


def build_table(
    parts: Parts,
    weights: Mapping[str, Weights],
    num_samples: int,
    seed: int,
    variants: Sequence[Variant],
    comparisons: Sequence[tuple[str, str]] = COMPARISONS,
) -> tuple[list[TableRow], Tests]:
    """Figures of variants, and paired tests by what is TESTED, of those comparisons that are among them."""
    rows = []
    measured: dict[str, dict[str, Measures]] = {}
    for variant in variants:
        chosen = weights[variant.name]
        full = parts.full_ranks(variant, [chosen])[0]
        by_protocol: dict[str, Measures] = {
            "full": per_user_measures(full),
            "sampled": per_user_measures(parts.sampled_ranks(variant, chosen, full)),
        }
        measured[variant.name] = by_protocol
        intervals = {
            protocol: {name: bootstrap_interval(values, num_samples, seed) for name, values in measures.items()}
            for protocol, measures in by_protocol.items()
        }
        rows.append(TableRow(variant, chosen, intervals))
    tests = {
        f"{name} against {baseline}": {
            f"{protocol} {measure}": paired_test(
                measured[name][protocol][measure], measured[baseline][protocol][measure], num_samples, seed
            )
            for protocol, measure in TESTED
        }
        for name, baseline in comparisons
        if {name, baseline} <= measured.keys()
    }
    return rows, tests
