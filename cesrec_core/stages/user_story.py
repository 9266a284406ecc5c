"""user_story: everything that the published run knows of one person. Reads, and writes nothing but scratch files."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core.actors.recommend import Recommend
from cesrec_core.catalogue import CatalogueFeatures
from cesrec_core.delta_io.runs import latest_published
from cesrec_core.errors import InputDataError
from cesrec_core.report.rewrites import replacements
from cesrec_core.report.story import HistoryPlace, Listed, Said, StoryRound, UserStory
from cesrec_core.rewriting.outliers import Explanation, OutlierRule, explain
from cesrec_core.schemas import CLARIFICATIONS, OUTLIER_MASKS, PSEUDO_SEQUENCES, RECOMMENDATIONS
from cesrec_core.stages.context import RunContext
from cesrec_core.stages.explain_recommendation import published_context, refuse_other_history, user_and_worker
from cesrec_core.stages.understand_feedback import feedback_of_run, signals_of_run

# What `Recommend` is told of those who spoke, and of nobody else.
OF_SPEAKERS = (
    c.PSEUDO_ITEM_IDS,
    c.ROUND,
    c.UTTERANCE,
    c.WANTED_ATTRIBUTES,
    c.UNWANTED_ATTRIBUTES,
    c.WANTED_ITEM_IDS,
    c.UNWANTED_ITEM_IDS,
    c.IS_VAGUE,
)


def somebody_rewritten(context: RunContext) -> str:
    """user_id of somebody whose history the published run has rewritten; always the same one.

    Raises:
        InputDataError: nothing has been published, or no history was rewritten.
    """
    run_id = latest_published(context.warehouse)
    if run_id is None:
        raise InputDataError("No run has been published yet. Run jobs/nightly_refresh.py first.")
    rounds = context.warehouse.read_run(PSEUDO_SEQUENCES, run_id)
    changed = rounds.where(~F.col(c.IS_FALLBACK) & (F.size(c.REPLACED_POSITIONS) > 0))
    row = changed.orderBy(F.xxhash64(c.RUN_ID, c.USER_ID), c.USER_ID).select(c.USER_ID).first()
    if row is None:
        raise InputDataError(f"Run {run_id} has rewritten no history. Name a user to look at another's.")
    return str(row[0])


def read_story(context: RunContext, user_id: str) -> UserStory:
    """One person in the published run.

    Raises:
        InputDataError: there is no such user, nothing has been published yet, or what made the published run is gone.
    """
    of_run = published_context(context)
    users, worker = user_and_worker(of_run, user_id)
    catalogue = worker.scorer.features.catalogue
    titles = dict(zip(catalogue.item_ids, catalogue.titles, strict=True))
    rounds = _rows(of_run, PSEUDO_SEQUENCES, user_id, c.ROUND)
    question = _rows(of_run, CLARIFICATIONS, user_id, c.USER_ID)
    return UserStory(
        run_id=of_run.run_id,
        history=tuple(_history(of_run, worker.scorer.features, user_id, users.to_pylist()[0])),
        said=tuple(_said(of_run, user_id, titles)),
        rounds=tuple(
            StoryRound(row[c.ROUND], () if row[c.IS_FALLBACK] else replacements(row, titles), row[c.FALLBACK_REASON])
            for row in rounds
        ),
        before=_list_of(worker.process(without_words(users)).to_pylist(), worker),
        after=_list_of(_rows(of_run, RECOMMENDATIONS, user_id, c.RANK), worker),
        question=question[0][c.QUESTION] if question else None,
    )


def without_words(users: pa.Table) -> pa.Table:
    """What `Recommend` is told, as if they had said nothing; what they turned down before stays away."""
    for name in OF_SPEAKERS:
        place = users.schema.get_field_index(name)
        users = users.set_column(place, users.schema.field(place), pa.nulls(len(users), users.schema.field(place).type))
    return users


def said_in_run(context: RunContext, num_utterances: int) -> list[Said]:
    """A draw of what the run acts on, and how it was understood; always the same one."""
    heard = feedback_of_run(context).join(signals_of_run(context), on=c.FEEDBACK_ID, how="inner")
    rows = heard.orderBy(F.xxhash64(F.lit(context.run_id), c.FEEDBACK_ID), c.FEEDBACK_ID).limit(num_utterances).collect()
    return [_said_of(row.asDict(), {}) for row in rows]


def intents_in_run(context: RunContext) -> dict[str, int]:
    """Utterances by intent, most first; one that says several things counts to each."""
    heard = feedback_of_run(context).join(signals_of_run(context), on=c.FEEDBACK_ID, how="inner")
    counted = heard.select(F.explode(c.INTENTS).alias(c.NAME)).groupBy(c.NAME).count()
    return {row[c.NAME]: row["count"] for row in counted.orderBy(F.desc("count"), c.NAME).collect()}


def _rows(context: RunContext, table: Any, user_id: str, *order: str) -> list[dict[str, Any]]:
    rows = context.warehouse.read_run(table, context.run_id).where(F.col(c.USER_ID) == user_id)
    return [row.asDict() for row in rows.orderBy(*order).collect()]


def _history(context: RunContext, features: CatalogueFeatures, user_id: str, user: Mapping[str, Any]) -> Iterable[HistoryPlace]:
    history: list[str] = user[c.ITEM_IDS]
    rewritten: list[str] = user[c.PSEUDO_ITEM_IDS] or history
    masks = _rows(context, OUTLIER_MASKS, user_id, c.USER_ID)
    masked: list[int] = masks[0][c.MASKED_POSITIONS] if masks else []
    similarities: list[float | None] = masks[0][c.SIMILARITIES] if masks else [None] * len(history)
    refuse_other_history(context.run_id, history, similarities)
    explained = _explained(context, features, history)
    catalogue = features.catalogue
    for position, (item, new, similarity) in enumerate(zip(history, rewritten, similarities, strict=True)):
        code, new_code = catalogue.code_of.get(item), catalogue.code_of.get(new)
        yield HistoryPlace(
            position=position,
            item_id=item,
            title=item if code is None else catalogue.titles[code],
            attributes=() if code is None else tuple(catalogue.attributes[code]),
            is_masked=position in masked,
            similarity=None if similarity is None or np.isnan(similarity) else float(similarity),
            explained=explained.get(position),
            replaced_by=None if new == item else new if new_code is None else catalogue.titles[new_code],
        )


def _explained(context: RunContext, features: CatalogueFeatures, history: list[str]) -> dict[int, Explanation]:
    """Of every place that can be explained; none where the catalogue lacks an item, since places would be others then."""
    rule = OutlierRule.of(context.config.mask_outliers, context.config.run.seed)
    codes = features.codes(history)
    if len(codes) != len(history):
        return {}
    vectors = torch.from_numpy(features.in_space(rule.space))
    result = {}
    for position in range(len(codes)):
        try:
            result[position] = explain(codes, vectors, rule, position)
        except ValueError:
            continue
    return result


def _said(context: RunContext, user_id: str, titles: Mapping[str, str]) -> Iterable[Said]:
    of_user = feedback_of_run(context).where(F.col(c.USER_ID) == user_id)
    heard = of_user.join(signals_of_run(context), on=c.FEEDBACK_ID, how="inner").orderBy(c.ROUND).collect()
    return (_said_of(row.asDict(), titles) for row in heard)


def _said_of(row: Mapping[str, Any], titles: Mapping[str, str]) -> Said:
    items = ([titles.get(item, item) for item in row[name]] for name in (c.WANTED_ITEM_IDS, c.UNWANTED_ITEM_IDS))
    wanted_items, unwanted_items = (tuple(of_kind) for of_kind in items)
    return Said(
        round=row[c.ROUND],
        utterance=row[c.UTTERANCE],
        source=row[c.SOURCE],
        intents=tuple(row[c.INTENTS]),
        wanted=tuple(row[c.WANTED_ATTRIBUTES]),
        unwanted=tuple(row[c.UNWANTED_ATTRIBUTES]),
        wanted_items=wanted_items,
        unwanted_items=unwanted_items,
        is_vague=row[c.IS_VAGUE],
        confidence=row[c.CONFIDENCE],
        restated=row[c.RESTATED],
    )


def _list_of(rows: Iterable[Mapping[str, Any]], worker: Recommend) -> tuple[Listed, ...]:
    catalogue = worker.scorer.features.catalogue
    result = []
    for row in rows:
        code = catalogue.code_of[row[c.ITEM_ID]]
        parts = {
            "base": row[c.BASE_SCORE],
            "attributes": row[c.ATTRIBUTE_SCORE] or 0.0,
            "aligned": row[c.ALIGNED_SCORE] or 0.0,
            "constructor": row[c.CONSTRUCTOR_SCORE],
        }
        result.append(
            Listed(row[c.RANK], row[c.ITEM_ID], catalogue.titles[code], tuple(catalogue.attributes[code]), row[c.SCORE], parts)
        )
    return tuple(sorted(result, key=lambda item: item.rank))
