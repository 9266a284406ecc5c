"""explain_recommendation: why an item stands where it does in the published run. Writes nothing but scratch files."""

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import torch
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import functions as F

from cesrec_core import __version__
from cesrec_core import columns as c
from cesrec_core.actors.open_items import closed_items
from cesrec_core.actors.recommend import Recommend
from cesrec_core.actors.session import RaySession
from cesrec_core.config import Config
from cesrec_core.delta_io.runs import find_run, latest_published
from cesrec_core.delta_io.session import spark_session
from cesrec_core.errors import InputDataError
from cesrec_core.frames.histories import had_before
from cesrec_core.ranking.explanation import FORBIDDEN, GONE, HAD, UNKNOWN, Score, Standing, sentence, turned_down
from cesrec_core.schemas import USER_SEQUENCES
from cesrec_core.stages.context import ARTIFACT_STAGES, RunContext
from cesrec_core.stages.recommend import users_of_run, worker_of_run
from cesrec_core.stages.run_inputs import rejected_of_run
from cesrec_core.stages.runner import open_run


def run_explanation(config: Config, user_id: str, item_id: str) -> dict[str, Any]:
    """Print one sentence, and return what it says.

    Raises:
        InputDataError: there is no such user or item, nothing has been published yet, or what made the published run is gone.
    """
    spark = spark_session(config.spark, "cesrec explain_recommendation")
    with RaySession(config.ray) as ray:
        standing = explain(open_run(config, spark, ray, dt.datetime.now(dt.UTC).date()), user_id, item_id)
    text = sentence(standing)
    print(text + "\n", flush=True)
    return {"status": "done", "explanation": text, **dataclasses.asdict(standing)}


def explain(context: RunContext, user_id: str, item_id: str) -> Standing:
    """Where an item stands for a user in the published run, whether or not it is on their list, and what decides it."""
    of_run = published_context(context)
    users, worker = user_and_worker(of_run, user_id)
    if item_id not in worker.scorer.features.catalogue.code_of:
        raise InputDataError("There is no item of that id in the catalogue. Check --item-id.")
    return _standing(of_run, worker, users, item_id)


def user_and_worker(of_run: RunContext, user_id: str) -> tuple[pa.Table, Recommend]:
    """One user as the stage recommend saw them, and the worker that makes their list.

    Raises:
        InputDataError: there is no such user, or histories are not there any more as the run read them.
    """
    _refuse_lost_histories(of_run, user_id)
    users = users_of_run(of_run).where(F.col(c.USER_ID) == user_id).toArrow()
    if not len(users):
        raise InputDataError("There is no user of that id in user_sequences. Check the user id.")
    user = users.to_pylist()[0]
    if user[c.PSEUDO_ITEM_IDS] is not None:
        refuse_other_history(of_run.run_id, user[c.ITEM_IDS], user[c.PSEUDO_ITEM_IDS])
    worker = worker_of_run(of_run)
    worker.setup()
    return users, worker


def published_context(context: RunContext) -> RunContext:
    """The published run as its stages saw it.

    Raises:
        InputDataError: there is none, or it was made by other models, another configuration or other code.
    """
    run_id = latest_published(context.warehouse)
    run = find_run(context.warehouse, run_id) if run_id is not None else None
    if run is None:
        raise InputDataError("No run has been published yet. Run jobs/nightly_refresh.py first.")
    made_by = (run.config_hash, run.code_version, run.artifact_ids)
    if made_by != (context.config.result_hash(), __version__, {kind: context.artifact_id(kind) for kind in ARTIFACT_STAGES}):
        raise InputDataError(
            f"The published run {run.run_id} was made by other models, or with another configuration or version of the code. "
            "Give the configuration that it was made with, or run jobs/nightly_refresh.py."
        )
    return dataclasses.replace(
        context,
        run_id=run.run_id,
        run_date=run.run_date,
        inputs={**context.inputs, **run.input_versions},
        # A later run, which may be refused, or at work, has other histories.
        sequences_version=context.warehouse.newest_version_like(USER_SEQUENCES, int(run.output_versions[USER_SEQUENCES.name])),
    )


def _refuse_lost_histories(of_run: RunContext, user_id: str) -> None:
    """Read the user's history as it was: of older versions maintenance deletes the files, and Delta forgets that they were."""
    try:
        history = of_run.user_sequences().where(F.col(c.USER_ID) == user_id)
        history.write.format("noop").mode("overwrite").save()
    except (PySparkException, Py4JJavaError) as error:
        raise InputDataError(
            f"The published run {of_run.run_id} read version {of_run.sequences_version} of user_sequences, which cannot be "
            f"read any more ({type(error).__name__}). Run jobs/nightly_refresh.py, and look again when its run is published."
        ) from None


def refuse_other_history(run_id: str, history: Sequence[str], in_run: Sequence[Any]) -> None:
    """Refuse a history that has not one item for each place that the run knows.

    Raises:
        InputDataError: it was not from this history that the run was made.
    """
    if len(history) != len(in_run):
        raise InputDataError(
            f"The history has {len(history)} items in user_sequences, and had {len(in_run)} in run {run_id}: the table was "
            "made anew, or a stage of that run alone. Run jobs/nightly_refresh.py, and look again when its run is published."
        )


def _standing(context: RunContext, worker: Recommend, users: pa.Table, item_id: str) -> Standing:
    user, catalogue = users.to_pylist()[0], worker.scorer.features.catalogue
    code, item_idx = catalogue.code_of[item_id], worker.scorer.vocabulary.idx_of.get(item_id)
    is_it = (F.col(c.USER_ID) == user[c.USER_ID]) & (F.col(c.ITEM_ID) == item_id)
    rejected_at = rejected_of_run(context).where(is_it).first()
    before = had_before(context.user_sequences()).where(is_it)
    reasons = [HAD] if item_id in user[c.ITEM_IDS] or not before.isEmpty() else []
    if rejected_at is not None:
        days = dt.timedelta(days=context.config.recommend.rejected_days)
        reasons.append(turned_down((rejected_at[c.CREATED_AT].astimezone(dt.UTC) + days).date()))
    reasons += [] if worker.scorer.features.is_active[code] else [GONE]
    score = rank = None
    if item_idx is None:
        reasons.append(UNKNOWN)
    elif GONE not in reasons:
        parts, allowed = worker.parts(users)
        reasons += [] if allowed[item_idx] else [FORBIDDEN]
        rank = _rank(parts.total[0], allowed, worker.scorer.read(closed_items(users)).idx[0], item_idx)
        own = worker.base_part(
            users.set_column(users.schema.get_field_index(c.PSEUDO_ITEM_IDS), c.PSEUDO_ITEM_IDS, users[c.ITEM_IDS])
        )
        values = (parts.base, own, parts.attributes, parts.aligned, parts.constructor)
        score = Score(*(float(part[0, item_idx]) for part in values))
    title = dict(zip(catalogue.item_ids, catalogue.titles, strict=True))
    history, rewritten = user[c.ITEM_IDS], user[c.PSEUDO_ITEM_IDS] or user[c.ITEM_IDS]
    return Standing(
        title[item_id],
        rank,
        context.config.recommend.top_k,
        score,
        user[c.WANTED_ATTRIBUTES] or [],
        user[c.UNWANTED_ATTRIBUTES] or [],
        catalogue.attributes[code],
        [(title.get(old, old), title.get(new, new)) for old, new in zip(history, rewritten, strict=True) if old != new],
        reasons,
    )


def _rank(scores: torch.Tensor, allowed: torch.Tensor, closed: Any, item_idx: int) -> int:
    """Place from 1 among the items that may be shown, equal scores by item_idx; [V + 1] each."""
    is_open = allowed.clone()
    is_open[torch.as_tensor(closed)] = False
    is_open[[0, item_idx]] = False
    is_before = torch.arange(len(scores)) < item_idx
    is_ahead = (scores > scores[item_idx]) | ((scores == scores[item_idx]) & is_before)
    return 1 + int((is_open & is_ahead).sum())
