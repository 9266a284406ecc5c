"""audit: reads back what the run wrote, refuses what consumers must not see, and records the run's numbers -> metrics."""

from collections.abc import Iterator
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from cesrec_core import __version__
from cesrec_core import columns as c
from cesrec_core.artifacts import read_manifest
from cesrec_core.catalogue import CatalogueFeatures
from cesrec_core.config import Config
from cesrec_core.delta_io.runs import Run, find_run, latest_published
from cesrec_core.delta_io.warehouse import local_frame
from cesrec_core.drift import WATCHED_NORMS, changes, vector_health
from cesrec_core.errors import ArtifactError, QualityGateError
from cesrec_core.extractor.identity import extractor_id
from cesrec_core.feedback.clarity import CONFLICTING_FEEDBACK, OFF_TOPIC_FEEDBACK, VAGUE_FEEDBACK
from cesrec_core.frames.histories import had_before, observed_histories
from cesrec_core.frames.item_rules import against_rules
from cesrec_core.frames.masks import mask_pairs
from cesrec_core.rewriting.fallbacks import BUDGET_EXHAUSTED, NOTHING_MASKED
from cesrec_core.schemas import (
    ALIGNED_EMBEDDINGS,
    ITEMS,
    METRICS,
    OUTLIER_MASKS,
    PSEUDO_SEQUENCES,
    RECOMMENDATIONS,
    USER_SEQUENCES,
)
from cesrec_core.stages.catalogue_features import export_features
from cesrec_core.stages.context import ARTIFACT_STAGES, RunContext, Stage, StageResult
from cesrec_core.stages.run_inputs import rejected_of_run, rules_of, segments_of
from cesrec_core.stages.understand_feedback import feedback_of_run

NAME = "audit"
# A note: the run that consumers read meanwhile; None where there was none.
COMPARED_WITH = "compared_with"
# Reasons for keeping a history that are no fault of the Constructor's.
EXPECTED_FALLBACKS = (VAGUE_FEEDBACK, CONFLICTING_FEEDBACK, OFF_TOPIC_FEEDBACK, NOTHING_MASKED, BUDGET_EXHAUSTED)


def run(context: RunContext) -> StageResult:
    histories = observed_histories(context.warehouse.read(USER_SEQUENCES), context.config.dataset.split)
    recommendations = context.warehouse.read_run(RECOMMENDATIONS, context.run_id)
    measured = {
        **_of_recommendations(context, histories, recommendations),
        **_of_rewrites(context, histories),
        **_of_recommender(context),
        **_of_adapter(context),
        **vector_health(CatalogueFeatures.load(export_features(context))),
        **_of_masks(context),
    }
    measured |= since_published(context, measured)
    _write_metrics(context, measured)
    complaints = list(_complaints(context, measured))
    if complaints:
        raise QualityGateError(
            f"Run {context.run_id} is not published: {'; '.join(complaints)}. Consumers go on reading the run before. "
            "The numbers stand in the table metrics."
        )
    # Pages compare with it. What `runs` says of who was read changes with every roll-back.
    notes = {COMPARED_WITH: latest_published(context.warehouse)}
    return StageResult({"checks": len(CHECKS) + len(LIMITS)}, measured, notes=notes)


# What must be zero in any run.
CHECKS = {
    "items_recommended_although_seen": "recommend items that the user has had",
    "items_recommended_although_inactive": "recommend items that are not in the catalogue any more",
    "items_recommended_against_rules": "recommend items that an allow- or block-list forbids",
    "items_recommended_although_rejected": "recommend items that the user has turned down",
    "users_with_gaps_in_ranks": "have users whose ranks are not 1, 2, 3, ...",
    "users_recommended_but_unknown": "are for users without a history",
    "users_without_mask": "leave users without a row in outlier_masks",
    "users_with_feedback_but_no_round": "leave users with feedback without a row in pseudo_sequences",
    "rewrites_of_another_length": "hold rewritten histories of another length",
}


@dataclass(frozen=True)
class Limit:
    """A number that must not leave a range that the configuration gives.

    Attributes:
        name: of the number; where it was not measured, nothing is wrong.
        setting: where in the configuration its limit stands.
        is_lowest: whether less than the limit is wrong, rather than more.
        fault: what is said of a run outside of it; {} is the number.
        form: how the number and the limit are written.
    """

    name: str
    setting: str
    is_lowest: bool
    fault: str
    form: str = ".1%"

    def allowed(self, config: Config) -> float:
        section, key = self.setting.split(".")
        return float(getattr(getattr(config, section), key))

    def complaint(self, measured: dict[str, float], config: Config) -> str | None:
        value, limit = measured.get(self.name), self.allowed(config)
        if value is None or (value >= limit if self.is_lowest else value <= limit):
            return None
        return f"{self.fault.format(format(value, self.form))} (limit {format(limit, self.form)}, {self.setting})"


SINCE = "since the published run"
SEMANTIC_NORM_CHANGE = "semantic_norm_change"
LIMITS = (
    Limit(
        "users_without_recommendations_share",
        "audit.max_users_without_recommendations_share",
        False,
        "{} of users have no recommendations",
    ),
    Limit("fallback_share", "audit.max_fallback_share", False, "{} of rewrites had to be dropped"),
    Limit(
        "ndcg_over_popularity",
        "audit.min_ndcg_over_popularity",
        True,
        "the recommender's validation NDCG@10 is {} times that of popularity",
        ".2f",
    ),
    Limit("aligned_coverage_share", "audit.min_aligned_coverage_share", True, "{} of active items have an aligned vector"),
    Limit(
        "alignment_normalised_mse",
        "audit.max_alignment_error",
        False,
        "the error of aligned vectors is {} times the variance of the recommender's",
        ".2f",
    ),
    Limit(
        "alignment_median_rank_share",
        "audit.max_alignment_rank_share",
        False,
        "the median item is found behind {} of the others by its aligned vector",
    ),
    Limit(
        "held_out_alignment_error",
        "audit.max_alignment_error",
        False,
        "of items that the Adapter has not seen, the error is {} times the variance of the recommender's vectors",
        ".2f",
    ),
    Limit(
        "held_out_median_rank_share",
        "audit.max_alignment_rank_share",
        False,
        "the median item that the Adapter has not seen is found behind {} of the others by its aligned vector",
    ),
    Limit(SEMANTIC_NORM_CHANGE, "audit.max_norm_change", False, f"the length of semantic vectors moved by {{}} {SINCE}"),
    Limit("aligned_norm_change", "audit.max_norm_change", False, f"the length of aligned vectors moved by {{}} {SINCE}"),
    Limit(
        "users_masked_share_change",
        "audit.max_users_masked_share_change",
        False,
        f"the share of users with masked items moved by {{}} {SINCE}",
    ),
    Limit("mask_stability_share", "audit.min_mask_stability_share", True, f"{{}} of masks are what they were {SINCE}"),
)
# In front of what is recorded where it was meant to change: no limit has such a name.
UNGATED = "ungated_"
# In front of a number's name: the limit that it was judged by. Limits are no part of a run's name, and may be others tomorrow.
LIMIT_OF = "limit_of_"
# Of fewer held-out items an Adapter that has learned something may look like chance.
MIN_HELD_OUT_ITEMS = 50
# Of fewer users a share of masks that stayed says little.
MIN_COMPARED_USERS = 100


def _of_recommendations(context: RunContext, histories: DataFrame, recommendations: DataFrame) -> dict[str, float]:
    had = histories.select(c.USER_ID, F.explode(c.ITEM_IDS).alias(c.ITEM_ID))
    seen = had.unionByName(had_before(context.warehouse.read(USER_SEQUENCES))).distinct()
    active = context.warehouse.read(ITEMS).where(c.IS_ACTIVE).select(c.ITEM_ID)
    per_user = recommendations.groupBy(c.USER_ID).agg(F.count(F.lit(1)).alias("rows"), F.max(c.RANK).alias("last"))
    masks = context.warehouse.read_run(OUTLIER_MASKS, context.run_id)
    num_users = histories.count()
    num_served = per_user.join(histories.select(c.USER_ID), on=c.USER_ID, how="left_semi").count()
    return {
        "users": num_users,
        "recommendations": recommendations.count(),
        "items_recommended_although_seen": recommendations.join(seen, on=[c.USER_ID, c.ITEM_ID], how="left_semi").count(),
        "items_recommended_although_inactive": recommendations.join(active, on=c.ITEM_ID, how="left_anti").count(),
        "items_recommended_against_rules": _against_rules(context, recommendations),
        "items_recommended_although_rejected": recommendations.join(
            rejected_of_run(context), on=[c.USER_ID, c.ITEM_ID], how="left_semi"
        ).count(),
        "users_with_gaps_in_ranks": per_user.where("rows != last").count(),
        "users_recommended_but_unknown": per_user.count() - num_served,
        "users_without_recommendations_share": 1.0 - num_served / max(1, num_users),
        "users_without_mask": histories.join(masks, on=c.USER_ID, how="left_anti").count(),
        "catalogue_coverage_share": recommendations.select(c.ITEM_ID).distinct().count() / max(1, active.count()),
    }


def _against_rules(context: RunContext, recommendations: DataFrame) -> int:
    if "item_rules" not in context.sources:
        return 0
    return against_rules(recommendations, rules_of(context), segments_of(context)).count()


def _of_rewrites(context: RunContext, histories: DataFrame) -> dict[str, float]:
    rewrites = context.warehouse.read_run(PSEUDO_SEQUENCES, context.run_id)
    with_feedback = feedback_of_run(context).select(c.USER_ID).distinct().join(histories, on=c.USER_ID, how="left_semi")
    lengths = histories.select(c.USER_ID, F.size(c.ITEM_IDS).alias("before"))
    num_rounds = rewrites.count()
    is_failure = F.col(c.IS_FALLBACK) & ~F.col(c.FALLBACK_REASON).isin(*EXPECTED_FALLBACKS)
    return {
        "rounds": num_rounds,
        "users_with_feedback": with_feedback.count(),
        "users_rewritten": rewrites.where(F.size(c.REPLACED_POSITIONS) > 0).select(c.USER_ID).distinct().count(),
        "users_with_feedback_but_no_round": with_feedback.join(rewrites, on=c.USER_ID, how="left_anti").count(),
        "rewrites_of_another_length": rewrites.join(lengths, on=c.USER_ID, how="inner")
        .where(F.size(c.ITEM_IDS) != F.col("before"))
        .count(),
        "fallback_share": rewrites.where(is_failure).count() / max(1, num_rounds),
    }


def _of_recommender(context: RunContext) -> dict[str, float]:
    trained = context.artifact("recommender")[1].metrics
    popularity = trained["popularity_ndcg_at_10"]
    ratio = trained["validation_ndcg_at_10"] / popularity if popularity > 0 else float("inf")
    return {"ndcg_over_popularity": min(ratio, 1e9)}


def _of_adapter(context: RunContext) -> dict[str, float]:
    """Of the items that it learned from, any Adapter is better than chance."""
    trained = context.artifact("adapter")[1].metrics
    if trained.get("num_held_out_items", 0.0) < MIN_HELD_OUT_ITEMS:
        return {}
    return {
        "held_out_alignment_error": trained["held_out_normalised_mse"],
        "held_out_median_rank_share": trained["held_out_median_rank_share"],
    }


def _of_masks(context: RunContext) -> dict[str, float]:
    masks = context.warehouse.read_run(OUTLIER_MASKS, context.run_id)
    return {"users_masked_share": masks.where(F.size(c.MASKED_POSITIONS) > 0).count() / max(1, masks.count())}


def since_published(context: RunContext, measured: dict[str, float]) -> dict[str, float]:
    """What changed since the run that consumers read.

    Limits hold where both come of the same artifacts, configuration and code. Otherwise vectors and masks are meant to change,
    and what can be compared is recorded under names with UNGATED in front; but for the lengths of semantic vectors, which no
    training moves: texts that went wrong may be what asked for it. `mask_stability_share`: of users who have as many
    items as they had, and of whose items some are masked now or were then, those whose masked places are the same. Histories
    that are full are left out: their places move with every new item.
    """
    published = latest_published(context.warehouse)
    before = find_run(context.warehouse, published) if published not in (None, context.run_id) else None
    if before is None:
        return {}
    rows = context.warehouse.read_run(METRICS, before.run_id).where(F.col(c.STAGE) == NAME).collect()
    result = changes(measured, {row[c.NAME]: row[c.VALUE] for row in rows}, _norms_of_one_space(context, before))
    now, then = (context.warehouse.read_run(OUTLIER_MASKS, run_id) for run_id in (context.run_id, before.run_id))
    is_full = F.col(c.OLDER_ITEM_IDS).isNotNull()
    full = context.warehouse.read(USER_SEQUENCES).where(is_full).select(c.USER_ID)
    now = now.join(full, on=c.USER_ID, how="left_anti")
    row = mask_pairs(now, then).agg(F.count(F.lit(1)).alias("users"), F.count_if("is_same").alias("same")).collect()[0]
    if row["users"] >= MIN_COMPARED_USERS:
        result |= {"mask_stability_share": row["same"] / row["users"]}
    is_alike = _is_made_alike(context, before)
    is_gated = is_alike and before.artifact_ids == _artifact_ids(context)
    gated = set(result) if is_gated else {SEMANTIC_NORM_CHANGE} if is_alike else set()
    return {name if name in gated else UNGATED + name: value for name, value in result.items()}


def _is_made_alike(context: RunContext, before: Run) -> bool:
    return (before.config_hash, before.code_version) == (context.config.result_hash(), __version__)


def _artifact_ids(context: RunContext) -> dict[str, str]:
    return {kind: context.artifact_id(kind) for kind in ARTIFACT_STAGES}


def _norms_of_one_space(context: RunContext, before: Run) -> tuple[str, ...]:
    """Norms can be compared within one space only: semantic ones of one extractor, and aligned ones of one recommender,
    whatever Adapter made them."""
    if not _is_made_alike(context, before):
        return ()
    has_same_recommender = before.artifact_ids.get("recommender") == context.artifact_id("recommender")
    is_of_one_space = {"semantic_norm": _has_same_extractor(context, before), "aligned_norm": has_same_recommender}
    return tuple(name for name in WATCHED_NORMS if is_of_one_space[name])


def _has_same_extractor(context: RunContext, before: Run) -> bool:
    """By what its Adapter was made for: where a model is replaced in its folder, the configuration stays the same."""
    adapter_id = before.artifact_ids.get("adapter", "")
    try:
        parents = read_manifest(context.artifact_path("adapter", adapter_id), "adapter").parents
    except ArtifactError:  # gone: the configuration is the same, at least
        return True
    return parents.get("extractor") == extractor_id(context.config.embed_items)


def _complaints(context: RunContext, measured: dict[str, float]) -> Iterator[str]:
    for name, fault in CHECKS.items():
        if measured[name]:
            yield f"{int(measured[name])} rows {fault}"
    yield from filter(None, (limit.complaint(measured, context.config) for limit in LIMITS))


def _write_metrics(context: RunContext, measured: dict[str, float]) -> None:
    of_stages = {stage: {**result.counts, **result.metrics} for stage, result in context.results.items()}
    limits = {LIMIT_OF + limit.name: limit.allowed(context.config) for limit in LIMITS}
    rows = [
        {c.RUN_ID: context.run_id, c.STAGE: stage, c.NAME: name, c.VALUE: float(value)}
        for stage, values in [(NAME, measured | limits), *of_stages.items()]
        for name, value in values.items()
    ]
    context.warehouse.replace_run(METRICS, local_frame(context.spark, rows, METRICS), context.run_id)


STAGE = Stage(
    name=NAME,
    reads=(
        RECOMMENDATIONS.name,
        PSEUDO_SEQUENCES.name,
        OUTLIER_MASKS.name,
        USER_SEQUENCES.name,
        ITEMS.name,
        ALIGNED_EMBEDDINGS.name,
        *ARTIFACT_STAGES,
    ),
    writes=(METRICS.name,),
    run=run,
)
