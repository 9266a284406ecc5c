"""evaluate: the figures of the artifacts in force on held-out items. Not part of the nightly run; jobs/evaluate.py calls it."""

import dataclasses
import datetime as dt
import logging
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cesrec_core import columns as c
from cesrec_core.actors.session import RaySession
from cesrec_core.artifacts import read_manifest
from cesrec_core.catalogue import CatalogueFeatures
from cesrec_core.config import Config
from cesrec_core.constructor.artifact import load_constructor
from cesrec_core.datasets import Histories, read_dataset
from cesrec_core.delta_io.session import spark_session
from cesrec_core.delta_io.warehouse import local_frame
from cesrec_core.errors import ArtifactError
from cesrec_core.evaluation.rounds import NUM_ROUNDS, ROUND_VARIANTS, SPEAKING, Round, measure_rounds
from cesrec_core.evaluation.tastes import Taste, by_taste
from cesrec_core.evaluation.text import as_text, rounds_as_text, tastes_as_text
from cesrec_core.evaluation.variants import (
    REWRITINGS,
    Cases,
    Evaluator,
    Parts,
    TableRow,
    Tests,
    Variant,
    Weights,
    build_table,
    choose_weights,
    variants_named,
)
from cesrec_core.feedback.listening import check_sentence_model, open_listener
from cesrec_core.feedback.vocabulary import CatalogueVocabulary
from cesrec_core.progress import progress
from cesrec_core.ranking.scoring import Scorer
from cesrec_core.recommenders.artifact import load_recommender
from cesrec_core.schemas import METRICS
from cesrec_core.stages.catalogue_features import export_features
from cesrec_core.stages.context import ARTIFACT_STAGES, RunContext
from cesrec_core.stages.evaluation_files import write_evaluation
from cesrec_core.stages.report import report_of_run
from cesrec_core.stages.runner import open_run
from cesrec_core.stages.tracking import track_run
from cesrec_core.stages.training_process import export_dataset

log = logging.getLogger(__name__)

NAME = "evaluate"
# What the fine-tuning measured on validation items: recall of masked places with the words, without, and with other users'.
WORDS_ROWS = {
    "masked places inside histories": ("masked_recall_at_10", "words_worth"),
    "the masked place of the held-out item": ("next_place_recall_at_10", "next_place_words_worth"),
}


@dataclass(frozen=True)
class Evaluated:
    """What was measured on test items, with the weights that validation chose.

    Attributes:
        tastes: quartiles of users by how diverse their taste is; empty where items have no attributes.
        rounds: of `ROUND_VARIANTS`, after one to three rounds of feedback; empty where `evaluate.variants` leaves out CESRec,
            whose lists users speak of.
    """

    num_users: int
    rows: list[TableRow]
    tests: Tests
    tastes: list[Taste]
    rounds: list[Round]


def run_evaluation(config: Config) -> dict[str, Any]:
    """Choose weights on validation, report on test; print and write the table.

    Raises:
        ArtifactError: an artifact was trained on the very items it would be tested on.
        ConfigError: `evaluate.variants` names a row that there is not, or the sentence model cannot be loaded.
    """
    variants_named(config.evaluate.variants)
    check_sentence_model(config.understand_feedback)
    spark = spark_session(config.spark, "cesrec evaluate")
    with RaySession(config.ray) as ray:
        context = open_run(config, spark, ray, dt.datetime.now(dt.UTC).date())
        return _report(context, evaluate(*open_evaluator(context)))


def open_evaluator(context: RunContext) -> tuple[Evaluator, Histories]:
    """The artifacts in force, ready to be measured, and the histories to measure them on.

    Raises:
        ArtifactError: an artifact was trained on the very items it would be tested on.
    """
    _refuse_artifacts_that_saw_targets(context)
    # A folder of its own: the night that bears this name may run later, on tables that have moved on until then.
    scratch = dataclasses.replace(context, work_name=f"scratch-{uuid.uuid4().hex}")
    try:
        return _evaluator(scratch), read_dataset(export_dataset(scratch)).histories
    finally:
        shutil.rmtree(scratch.work_path, ignore_errors=True)


def evaluate(evaluator: Evaluator, histories: Histories) -> Evaluated:
    """Choose weights on validation, and measure once on test."""
    config = evaluator.config
    variants = variants_named(config.evaluate.variants)
    log.info("validation: choosing weights")
    weights = _chosen_weights(evaluator, histories, variants)
    log.info("test: once, with the weights chosen")
    test = measured(evaluator, evaluator.cases(histories, "test"), variants)
    drawn = config.evaluate.num_bootstrap_samples, config.run.seed
    rows, tests = build_table(test, weights, *drawn, variants)
    has_attributes = any(evaluator.features.catalogue.attributes)
    tastes = by_taste(test, weights, variants, *drawn) if has_attributes else []
    rounds = _rounds(test, weights, variants)
    return Evaluated(len(test.cases.user_ids), rows, tests, tastes, rounds)


def _refuse_artifacts_that_saw_targets(context: RunContext) -> None:
    for kind in ("recommender", "constructor"):
        folder, manifest = context.artifact(kind)
        if manifest.split != "leave_one_out":
            raise ArtifactError(
                f"{folder} was trained on everything, the items to be predicted included. Evaluate a warehouse whose models "
                "were trained with --set dataset.split=leave_one_out."
            )


def _evaluator(context: RunContext) -> Evaluator:
    features = CatalogueFeatures.load(export_features(context))
    recommender, _ = load_recommender(context.artifact("recommender")[0])
    base = Path(context.config.finetune_constructor.model_path)
    constructor = load_constructor(context.artifact("constructor")[0], base, features.for_constructor())
    settings = context.config.recommend
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    scorer = Scorer(recommender.to(device), features, settings.include_cold_items, settings.cold_item_bonus)
    words = CatalogueVocabulary.of(features.catalogue)
    listener = open_listener(context.config.understand_feedback, words, device.type, context.warehouse.path / "state")
    return Evaluator(scorer, constructor.to(device), context.config, listener)


def _chosen_weights(evaluator: Evaluator, histories: Histories, variants: Sequence[Variant]) -> dict[str, Weights]:
    validation = measured(evaluator, evaluator.cases(histories, "validation"), [v for v in variants if v.is_weighted])
    return {variant.name: choose_weights(validation, variant, evaluator.config.evaluate.weight_grid) for variant in variants}


def measured(evaluator: Evaluator, cases: Cases, variants: Sequence[Variant]) -> Parts:
    """All parts of the scores, with progress: rewriting and the next place are the long steps."""
    rewritten = sorted({variant.sequence for variant in variants} & set(REWRITINGS))
    asked = sorted({variant.constructor_reads for variant in variants if variant.has_next_place})
    num_passes = len(rewritten) + len(asked)
    with progress(f"evaluate {cases.moment}", num_passes * len(cases.user_ids), "histories") as advance:
        parts = evaluator.parts(cases, advance)
        for sequence in rewritten:
            parts.sequences(sequence)
        for sequence in asked:
            parts.next_place(sequence)
    return parts


def _rounds(test: Parts, weights: dict[str, Weights], variants: Sequence[Variant]) -> list[Round]:
    of_rounds = [variant for variant in ROUND_VARIANTS if variant in variants]
    if SPEAKING not in {variant.name for variant in of_rounds}:
        return []
    num_rewritten = len({variant.sequence for variant in of_rounds} & set(REWRITINGS))
    # The first round is that of the table.
    num_histories = (NUM_ROUNDS - 1) * num_rewritten * len(test.cases.user_ids)
    with progress("evaluate rounds", num_histories, "histories") as advance:
        return measure_rounds(test, weights, of_rounds, advance)


def _report(context: RunContext, evaluated: Evaluated) -> dict[str, Any]:
    rows, tests, rounds = evaluated.rows, evaluated.tests, evaluated.rounds
    title = f"Test items of {evaluated.num_users} users: full ranking, seen items filtered; mean [95 % interval]"
    tables = [as_text(rows, tests, title)]
    if evaluated.tastes:
        tables.append(tastes_as_text(evaluated.tastes, "By how diverse a taste is: entropy of the attributes of a history"))
    if rounds:
        tables.append(rounds_as_text(rounds, "One to three rounds of feedback, each of what was shown after the one before"))
    tables.append(_worth_of_words(context))
    text = "\n\n".join(tables) + "\n"
    print(text, flush=True)
    figures = {
        "num_users": evaluated.num_users,
        "rows": [dataclasses.asdict(row) for row in rows],
        "tastes": [dataclasses.asdict(taste) for taste in evaluated.tastes],
        "rounds": [dataclasses.asdict(of_round) for of_round in rounds],
        "tests": {name: {by: dataclasses.asdict(test) for by, test in found.items()} for name, found in tests.items()},
        "artifacts": {kind: context.artifact_id(kind) for kind in ARTIFACT_STAGES},
    }
    file = write_evaluation(context.warehouse.path, context.run_id, text, figures)
    _write_metrics(context, rows)
    # Where it is the evaluation of a night that has a page and a record, its figures and files belong there.
    told = report_of_run(context.warehouse, context.config, context.run_id)
    recorded = track_run(context.warehouse, context.config, context.run_id)
    # Of the night's page the summary tells only if it could not be written: this job's own report is the evaluation.
    return {"run_id": context.run_id, "status": "done", **told, "report": str(file), **recorded, **figures}


def _worth_of_words(context: RunContext) -> str:
    measured = read_manifest(context.artifact("constructor")[0], "constructor").metrics
    lines = [
        f"### What the words are worth: recall@10 on validation, {measured['num_validation_users']:.0f} users",
        "",
        "| places | with the user's words | without words | with another user's | worth of the words [95 % interval] |",
        "|---|---|---|---|---|",
    ]
    for label, (recall, worth) in WORDS_ROWS.items():
        if f"{recall}_without" not in measured:  # trained before this was measured
            continue
        difference = f"{measured[worth]:+.3f} [{measured[worth + '_low']:+.3f}, {measured[worth + '_high']:+.3f}]"
        cells = [f"{measured[recall + name]:.3f}" for name in ("", "_without", "_shuffled")]
        lines.append(f"| {label} | {' | '.join(cells)} | {difference} |")
    return "\n".join(lines)


def _write_metrics(context: RunContext, rows: list[TableRow]) -> None:
    values = [
        {
            c.RUN_ID: context.run_id,
            c.STAGE: NAME,
            c.NAME: f"{row.variant.name} | {protocol} | {name}",
            c.VALUE: interval.mean,
        }
        for row in rows
        for protocol, intervals in row.intervals.items()
        for name, interval in intervals.items()
    ]
    context.warehouse.merge(METRICS, local_frame(context.spark, values, METRICS))
