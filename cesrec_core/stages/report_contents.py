"""Reads what the page of a run says from the tables, the records beside the shards, and the evaluations."""

import datetime as dt
import json
import logging
import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core import run_status
from cesrec_core.artifacts import read_manifest
from cesrec_core.catalogue import CatalogueFeatures
from cesrec_core.config import Config
from cesrec_core.delta_io.runs import Run, all_runs, latest_published
from cesrec_core.delta_io.warehouse import Warehouse
from cesrec_core.errors import ArtifactError, ConfigError
from cesrec_core.feedback.clarity import CONFLICTING_FEEDBACK, OFF_TOPIC_FEEDBACK, VAGUE_FEEDBACK
from cesrec_core.frames.raw import BRAND, RAW_COLUMNS, RELEASE_YEAR, TIMESTAMP
from cesrec_core.frames.recommendation_lists import RESCORED, changed_lists, ranked_lists
from cesrec_core.report.bins import COSINES, NUM_FINE_BINS, fine_bins, histogram_of
from cesrec_core.report.contents import (
    Artifact,
    Check,
    EvaluatedVariant,
    Evaluation,
    Histogram,
    Point,
    Report,
    Rewrite,
    RunLine,
    StageLine,
    Tally,
    Trend,
)
from cesrec_core.report.measures import QUALITY, TILES, Measure
from cesrec_core.report.rewrites import replacements
from cesrec_core.report.text import record_without_people, shown
from cesrec_core.rewriting.fallbacks import (
    BUDGET_EXHAUSTED,
    DRIFT,
    ENDPOINT_FAILED,
    ENDPOINT_REFUSED,
    INVALID_REWRITE,
    NOT_A_CANDIDATE,
    NOTHING_MASKED,
    SAME_WORDS,
    TRUNCATED_ANSWER,
    WRONG_NUMBER_OF_TITLES,
)
from cesrec_core.schemas import (
    CLARIFICATIONS,
    FEEDBACK,
    ITEMS,
    METRICS,
    OUTLIER_MASKS,
    PSEUDO_SEQUENCES,
    QUARANTINE,
    RECOMMENDATIONS,
    Table,
)
from cesrec_core.stages import audit, embed_items, ingest
from cesrec_core.stages.construct_pseudo_sequences import rejected_titles_path
from cesrec_core.stages.context import StageState, read_record, warn_of_damage
from cesrec_core.stages.evaluation_files import evaluations_of, ndcg_by_variant
from cesrec_core.stages.journal import FAILED, RAN, SKIPPED, Entry, read_journal
from cesrec_core.stages.nightly import NIGHTLY

# Earlier runs that figures are shown beside.
NUM_EARLIER_RUNS = 13
NUM_EARLIER_EVALUATIONS = 2
NUM_REWRITES = 20
NUM_EXAMPLES = 3
MAX_UTTERANCE_CHARACTERS, MAX_TITLE_CHARACTERS, MAX_RECORD_CHARACTERS = 280, 120, 240
# Fields of raw records that name no person; the others are shown as outlines.
HARMLESS = {
    c.ITEM_ID,
    c.TITLE,
    c.ATTRIBUTES,
    c.DESCRIPTION,
    c.ITEM_TEXT,
    c.RATING,
    c.RULE,
    TIMESTAMP,
    RELEASE_YEAR,
    BRAND,
}
HARMLESS_FIELDS = frozenset(
    name
    for columns in RAW_COLUMNS.values()
    for column in columns
    if column.name in HARMLESS
    for name in (column.name, *column.aliases)
) | {c.ITEM_TEXT}
FALLBACKS = {
    VAGUE_FEEDBACK: "The words name nothing that could be acted on; the person is asked.",
    CONFLICTING_FEEDBACK: "The words ask for what they turn down; the person is asked.",
    OFF_TOPIC_FEEDBACK: "The words are about something else; the person is asked.",
    NOTHING_MASKED: "No item of the history lies outside of the person's core taste.",
    SAME_WORDS: "The same words had changed nothing in the round before.",
    INVALID_REWRITE: "The Constructor's answer broke a rule: an item that does not exist, was turned down or was there before.",
    NOT_A_CANDIDATE: "A hallucination: the language model wrote a title that no candidate has.",
    WRONG_NUMBER_OF_TITLES: "The language model wrote more or fewer titles than there are masked items.",
    TRUNCATED_ANSWER: "The language model's answer was cut off (construct_pseudo_sequences.max_title_tokens).",
    ENDPOINT_REFUSED: "The endpoint refused the question (construct_pseudo_sequences.endpoint.options).",
    ENDPOINT_FAILED: "The endpoint gave no answer (construct_pseudo_sequences.endpoint.max_attempts), or was given up before.",
    BUDGET_EXHAUSTED: "The run had asked all it may (construct_pseudo_sequences.endpoint.max_requests, .max_tokens).",
    DRIFT: "The items that stayed had become too unlikely (construct_pseudo_sequences.max_likelihood_drop).",
}
UNCHANGED = "nothing better"

log = logging.getLogger(__name__)


def made_up_titles(file: Path) -> tuple[str, ...]:
    """The most frequent of a run's hallucinations, each with the title that comes nearest."""
    if not file.is_file():
        return ()
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))[:NUM_EXAMPLES]
        return tuple(
            f"{shown(entry['text'], MAX_TITLE_CHARACTERS)} ({entry['count']} times); nearest: "
            + (shown(entry["nearest"][0]["title"], MAX_TITLE_CHARACTERS) if entry["nearest"] else "none")
            for entry in entries
        )
    except (OSError, ValueError, LookupError, TypeError) as error:
        warn_of_damage(file, "list of titles", type(error).__name__)
        return ()


class RunReader:
    """One run of a warehouse and the published runs before it.

    Args:
        unrecorded: the run, where no table tells of it: its first stage refused what it read, and has changed nothing.

    Raises:
        ConfigError: there is no such run.
    """

    def __init__(self, warehouse: Warehouse, config: Config, run_id: str, unrecorded: Run | None = None) -> None:
        self.warehouse = warehouse
        self.config = config
        runs = all_runs(warehouse)
        published_id = latest_published(warehouse)
        self.published = next((run for run in runs if run.run_id == published_id), None)
        named = [run for run in runs if run.run_id == run_id] or ([] if unrecorded is None else [unrecorded])
        if not named:
            raise ConfigError(f"There is no run {run_id} here. Name one of the table runs.")
        self.run = named[0]
        # A run that was finished for an older date, and kept, is nobody's night before.
        published = [run for run in runs if run.published_at is not None and run.started_at < self.run.started_at]
        self.earlier = self._as_compared(sorted(published, key=self._read_since), runs)[-NUM_EARLIER_RUNS:]
        self.before = self.earlier[-1] if self.earlier else None

    def _read_since(self, run: Run) -> tuple[dt.datetime, str]:
        """What earlier runs are ordered by: who was rolled back to before this run began was read when it did."""
        was_read = run.published_at is not None and run.published_at < self.run.started_at
        return (run.published_at if was_read else run.started_at), run.run_id  # type: ignore[return-value]

    def _as_compared(self, earlier: list[Run], runs: Sequence[Run]) -> list[Run]:
        """With the run last that consumers read when this one was audited, which only its audit still knows for certain: a
        later roll-back puts another time into `published_at`."""
        audited = self._records(self.run.run_id).get(audit.NAME)
        if audited is None or audit.COMPARED_WITH not in audited.notes:
            return earlier
        read_then = audited.notes[audit.COMPARED_WITH]
        if read_then is None:
            return []
        # Of a run that is audited once more after it was published, that says nothing.
        found = next((run for run in runs if run.run_id == read_then and run.run_id != self.run.run_id), None)
        return earlier if found is None else [*(run for run in earlier if run != found), found]

    def contents(self) -> Report:
        """Everything the page says."""
        journal = read_journal(self._work_of(self.run.run_id))
        artifacts = tuple(self._artifacts())
        histograms = tuple(found for found in (self.masks(), self._of_alignment(artifacts)) if found is not None)
        num_rewrites, fallbacks = self.rounds()
        return Report(
            made_at=dt.datetime.now(dt.UTC),
            run_id=self.run.run_id,
            run_date=self.run.run_date,
            status=self.run.status,
            started_at=self.run.started_at,
            finished_at=self.run.finished_at,
            code_version=self.run.code_version,
            config_hash=self.run.config_hash,
            published_run_id=None if self.published is None else self.published.run_id,
            published_run_date=None if self.published is None else self.published.run_date,
            is_dropped=not self._is_kept(self.run.run_id),
            error=next((entry.reason for entry in journal.values() if entry.outcome == FAILED), None),
            compared_with=None if self.before is None else self.before.run_id,
            changed_people=self._changed_people(),
            changed_since=tuple(self._changed_since()),
            stages=tuple(self.stages()),
            checks=tuple(self.checks()),
            tiles=tuple(self._tiles()),
            quality=tuple(trend for trend in map(self._trend, QUALITY) if trend is not None),
            evaluation=self._evaluation(),
            histograms=histograms,
            rewrites=tuple(self.rewrites()),
            num_rewrites=num_rewrites,
            fallbacks=fallbacks,
            clarifications=tuple(self.clarifications()),
            quarantine=tuple(self.quarantine()),
            input_versions=self.run.input_versions,
            output_versions=self.run.output_versions,
            artifacts=artifacts,
        )

    def _work_of(self, run_id: str) -> Path:
        return self.warehouse.path / "work" / run_id

    def _is_kept(self, run_id: str) -> bool:
        """Whether jobs/maintain.py has left what is known of a run beside its row in `runs`."""
        return self._work_of(run_id).is_dir()

    def _rows(self, table: Table) -> DataFrame:
        return self.warehouse.read_run(table, self.run.run_id)

    @cached_property
    def _numbers(self) -> dict[str, dict[tuple[str, str], float]]:
        """Of this run and the earlier ones: value by stage and name."""
        run_ids = [run.run_id for run in (*self.earlier, self.run)]
        found: dict[str, dict[tuple[str, str], float]] = {run_id: {} for run_id in run_ids}
        for row in self.warehouse.read(METRICS).where(F.col(c.RUN_ID).isin(run_ids)).collect():
            found[row[c.RUN_ID]][row[c.STAGE], row[c.NAME]] = row[c.VALUE]
        return found

    def _trend(self, measure: Measure) -> Trend | None:
        """None where this run has no such number: the last point of a trend is this run's."""
        stage, name = measure.source
        low, high = ((stage, end) for end in measure.interval) if measure.interval else (None, None)
        points = [
            Point(run.run_id, run.run_date, numbers[stage, name], numbers.get(low), numbers.get(high))  # type: ignore[arg-type]
            for run in (*self.earlier, self.run)
            if np.isfinite((numbers := self._numbers[run.run_id]).get((stage, name), np.nan))
        ]
        if not points or points[-1].run_id != self.run.run_id:
            return None
        return Trend(measure.title, measure.meaning, tuple(points), measure.form, measure.is_better)

    def _tiles(self) -> Iterator[Trend]:
        yield from (trend for trend in map(self._trend, TILES) if trend is not None)
        if self.run.status not in run_status.AT_AN_END or not self._is_kept(self.run.run_id):
            # Of what a run did not come to, or what has been dropped, 0 would be no measurement.
            return
        yield self._of_every_run("Rows refused", self._num_refused())
        seconds = {run.run_id: sum(s.seconds for s in self._records(run.run_id).values()) for run in (*self.earlier, self.run)}
        yield self._of_every_run("Seconds of work", {run_id: total for run_id, total in seconds.items() if total})

    def _num_refused(self) -> dict[str, int]:
        """Of this run and the earlier ones: how many refused rows their data came with."""
        refused_by = {
            run.run_id: (self._refused_by(ingest.NAME, run.run_id), self._refused_by(embed_items.NAME, run.run_id))
            for run in (*self.earlier, self.run)
            if self._is_kept(run.run_id)
        }
        asked = self._quarantined({run_id for pair in refused_by.values() for run_id in pair})
        rows = asked.groupBy(c.RUN_ID, _is_of_texts().alias("is_of_texts")).count().collect()
        counts = {(row[c.RUN_ID], row["is_of_texts"]): row["count"] for row in rows}
        return {
            run_id: counts.get((of_ingest, False), 0) + counts.get((of_texts, True), 0)
            for run_id, (of_ingest, of_texts) in refused_by.items()
        }

    def _quarantined(self, run_ids: Collection[str]) -> DataFrame:
        return self.warehouse.read(QUARANTINE).where(F.col(c.RUN_ID).isin(list(run_ids)))

    def _refused_by(self, stage: str, run_id: str) -> str:
        """The run whose refused rows a run stands on: its own or, where it had no reason to run the stage, an earlier one's."""
        entry = read_journal(self._work_of(run_id)).get(stage)
        return run_id if entry is None or entry.stands_on is None else entry.stands_on

    def _of_every_run(self, title: str, values: Mapping[str, float]) -> Trend:
        runs = [run for run in (*self.earlier, self.run) if run.run_id in values or run is self.run]
        points = tuple(Point(run.run_id, run.run_date, float(values.get(run.run_id, 0.0))) for run in runs)
        return Trend(title, "", points, ",.0f")

    def _records(self, run_id: str) -> dict[str, StageState]:
        """What stages that ran in a run remember of it; nothing where its work folder has been dropped."""
        records = {stage.name: read_record(self._work_of(run_id) / stage.name / "done.json") for stage in NIGHTLY}
        return {name: record for name, record in records.items() if record is not None}

    def stages(self) -> Iterator[StageLine]:
        """What became of every stage of the nightly job."""
        journal = read_journal(self._work_of(self.run.run_id))
        records = self._records(self.run.run_id)
        earlier = [self._records(run.run_id) for run in self.earlier]
        for stage in NIGHTLY:
            record, entry = records.get(stage.name), journal.get(stage.name)
            if record is not None and (entry is None or entry.outcome == SKIPPED):
                entry = Entry(RAN, "ran before the run was interrupted")
            elif entry is None:
                entry = Entry("not reached", "the run did not come to it, or its records were dropped")
            seconds = record.seconds if record is not None and entry.outcome == RAN else entry.seconds
            usual = [of_run[stage.name].seconds for of_run in earlier if stage.name in of_run]
            yield StageLine(
                name=stage.name,
                outcome=entry.outcome,
                reason=entry.reason,
                seconds=seconds,
                usual_seconds=statistics.median(usual) if usual else None,
                counts=record.counts if record is not None and entry.outcome != SKIPPED else {},
                tokens=None if record is None else _tokens(record),
            )

    def checks(self) -> Iterator[Check]:
        """By the limits that the run was judged by; of a run of which none are recorded, by those of today's configuration."""
        measured = {name: value for (stage, name), value in self._numbers[self.run.run_id].items() if stage == audit.NAME}
        if not measured:
            return
        for name, fault in audit.CHECKS.items():
            yield Check(f"{{}} rows {fault}", measured.get(name), 0.0, False, ",.0f")
        for limit in audit.LIMITS:
            allowed = measured.get(audit.LIMIT_OF + limit.name, limit.allowed(self.config))
            yield Check(limit.fault, measured.get(limit.name), allowed, limit.is_lowest, limit.form, limit.setting)

    def _changed_since(self) -> Iterator[str]:
        if self.before is None:
            return
        if self.before.code_version != self.run.code_version:
            yield "code"
        if self.before.config_hash != self.run.config_hash:
            yield "configuration"
        for kind, artifact_id in self.run.artifact_ids.items():
            if self.before.artifact_ids.get(kind, artifact_id) != artifact_id:
                yield kind

    def _changed_people(self) -> float | None:
        """Share of the people served whose items or their order are others than in the run before."""
        if self.before is None:
            return None
        now = ranked_lists(self._rows(RECOMMENDATIONS))
        before = ranked_lists(self.warehouse.read_run(RECOMMENDATIONS, self.before.run_id))
        num_now, num_before = now.count(), before.count()
        if not num_now or not num_before:
            return None
        others = changed_lists(now, before).where(F.col(c.ITEM_IDS).isNotNull() & (F.col(c.CHANGE) != RESCORED))
        return float(others.count() / num_now)

    def _artifacts(self) -> Iterator[Artifact]:
        for kind, artifact_id in sorted(self.run.artifact_ids.items()):
            try:
                parents = read_manifest(self.warehouse.path / "artifacts" / kind / artifact_id, kind).parents
            except ArtifactError:
                parents = {"": "removed since"}
            yield Artifact(kind, artifact_id, parents)

    def masks(self) -> Histogram | None:
        """How similar the items of histories are to their core, masked ones apart."""
        places = self._rows(OUTLIER_MASKS).select(c.MASKED_POSITIONS, F.posexplode(c.SIMILARITIES).alias("place", "cosine"))
        places = places.where(F.col("cosine").isNotNull() & ~F.isnan("cosine"))
        low, high = COSINES
        number = F.floor((F.col("cosine") - low) / (high - low) * NUM_FINE_BINS).cast("int")
        number = F.least(F.greatest(number, F.lit(0)), F.lit(NUM_FINE_BINS - 1))
        is_masked = F.array_contains(c.MASKED_POSITIONS, F.col("place"))
        counts = {"kept": np.zeros(NUM_FINE_BINS, np.int64), "masked": np.zeros(NUM_FINE_BINS, np.int64)}
        for row in places.groupBy(number.alias("bin"), is_masked.alias("is_masked")).count().collect():
            counts["masked" if row["is_masked"] else "kept"][row["bin"]] = row["count"]
        return histogram_of(
            counts,
            "Items of histories: similarity to the core taste",
            "Masked places are what the Constructor may replace. The farther left of the kept ones they lie, the better.",
            "cosine to the mean of the history",
        )

    def _of_alignment(self, artifacts: Sequence[Artifact]) -> Histogram | None:
        """How near aligned vectors lie to the recommender's; the same with another item's as what chance would give."""
        adapter = next((artifact.artifact_id for artifact in artifacts if artifact.kind == "adapter"), None)
        folder = self._work_of(self.run.run_id) / "catalogue" / str(adapter)
        if not folder.is_dir():
            return None
        try:
            features = CatalogueFeatures.load(folder)
        except (OSError, ArtifactError) as error:
            log.warning("The page of run %s has no histogram of alignment: %s", self.run.run_id, error)
            return None
        has_both = features.is_active & features.has_collaborative & features.aligned.any(axis=1)
        aligned, collaborative = _directions(features.aligned[has_both]), _directions(features.collaborative[has_both])
        others = np.roll(collaborative, 1, axis=0)
        return histogram_of(
            {
                "another item's vector": fine_bins((aligned * others).sum(axis=1)),
                "its own": fine_bins((aligned * collaborative).sum(axis=1)),
            },
            "Items: aligned vector and the recommender's vector",
            "The farther its own lies to the right of another's, the more the Adapter knows of an item from its text.",
            "cosine of the two vectors",
        )

    def rounds(self) -> tuple[int, tuple[Tally, ...]]:
        """Number of rounds that changed something, and the others by reason."""
        rows = self._rows(PSEUDO_SEQUENCES)
        reason = F.when(F.col(c.IS_FALLBACK), F.coalesce(c.FALLBACK_REASON, F.lit("not said")))
        reason = reason.when(F.size(c.REPLACED_POSITIONS) == 0, UNCHANGED)
        counts = {row["reason"]: row["count"] for row in rows.groupBy(reason.alias("reason")).count().collect()}
        num_changed = counts.pop(None, 0)
        meanings = FALLBACKS | {UNCHANGED: "The Constructor left every masked item where it was."}
        names = [*meanings, *sorted(counts.keys() - meanings)]
        examples = {NOT_A_CANDIDATE: made_up_titles(rejected_titles_path(self.warehouse.path, self.run.run_id))}
        tallies = (Tally(name, counts.get(name, 0), meanings.get(name, ""), examples.get(name, ())) for name in names)
        return num_changed, tuple(tallies)

    def rewrites(self) -> Iterator[Rewrite]:
        """A draw of rounds that changed something."""
        changed = self._rows(PSEUDO_SEQUENCES).where(~F.col(c.IS_FALLBACK) & (F.size(c.REPLACED_POSITIONS) > 0))
        drawn = changed.orderBy(*_drawn(c.USER_ID, c.ROUND)).limit(NUM_REWRITES)
        rows = drawn.join(self._words(), on=c.FEEDBACK_ID, how="left").orderBy(*_drawn(c.USER_ID, c.ROUND)).collect()
        titles = self._titles(rows)
        for row in rows:
            yield Rewrite(_utterance(row), row[c.ROUND], replacements(row.asDict(), titles))

    def _words(self) -> DataFrame:
        return self.warehouse.read(FEEDBACK).select(c.FEEDBACK_ID, c.UTTERANCE)

    def _titles(self, rows: Sequence[Row]) -> dict[str, str]:
        """Of the items that left or came, and of their runners-up."""
        needed = {item for row in rows for item in (*row[c.REPLACED_ITEM_IDS], *(row[c.RUNNER_UP_ITEM_IDS] or ()))}
        needed |= {row[c.ITEM_IDS][place] for row in rows for place in row[c.REPLACED_POSITIONS]}
        found = self.warehouse.read(ITEMS).where(F.col(c.ITEM_ID).isin(sorted(needed - {None}))).select(c.ITEM_ID, c.TITLE)
        return {row[c.ITEM_ID]: shown(row[c.TITLE], MAX_TITLE_CHARACTERS) for row in found.collect()}

    def clarifications(self) -> Iterator[Tally]:
        """What people are asked, by reason."""
        rows = self._rows(CLARIFICATIONS)
        counts = {row[c.REASON]: row["count"] for row in rows.groupBy(c.REASON).count().collect()}
        first = rows.orderBy(*_drawn(c.USER_ID)).limit(NUM_EXAMPLES).join(self._words(), on=c.FEEDBACK_ID, how="left").collect()
        for reason in sorted(counts):
            examples = [f"{_utterance(row)} → {shown(row[c.QUESTION], 200)}" for row in first if row[c.REASON] == reason]
            yield Tally(reason, counts[reason], examples=tuple(sorted(examples)))

    def quarantine(self) -> Iterator[Tally]:
        """Refused rows by source and reason, with outlines of the first.

        A stage that is skipped refuses nothing again: its rows are those of the run that was through it.
        """
        of_ingest, of_texts = (self._refused_by(stage, self.run.run_id) for stage in (ingest.NAME, embed_items.NAME))
        is_its_own = F.when(_is_of_texts(), F.col(c.RUN_ID) == of_texts).otherwise(F.col(c.RUN_ID) == of_ingest)
        rows = self._quarantined({of_ingest, of_texts}).where(is_its_own)
        of_reason = Window.partitionBy(c.SOURCE, c.REASON)
        numbered = rows.withColumn("place", F.row_number().over(of_reason.orderBy(c.ROW)))
        numbered = numbered.withColumn("rows", F.count(F.lit(1)).over(of_reason))
        first = numbered.where(F.col("place") <= NUM_EXAMPLES).orderBy(F.desc("rows"), c.SOURCE, c.REASON, "place").collect()
        found: dict[tuple[str, str], list[Row]] = {}
        for row in first:
            found.setdefault((row[c.SOURCE], row[c.REASON]), []).append(row)
        for (source, reason), of_group in found.items():
            examples = (record_without_people(row[c.RECORD], HARMLESS_FIELDS, MAX_RECORD_CHARACTERS) for row in of_group)
            yield Tally(f"{source}: {reason}", of_group[0]["rows"], examples=tuple(examples))

    def _evaluation(self) -> Evaluation | None:
        """The newest evaluation of this run's artifacts, and the newest of others before it."""
        if not self.run.artifact_ids:
            return None
        found = evaluations_of(self.warehouse.path, self.run.artifact_ids, NUM_EARLIER_EVALUATIONS)
        if not found:
            return None
        columns = [
            {name: Point(record.run_id, self.run.run_date, *ndcg) for name, ndcg in ndcg_by_variant(record.figures).items()}
            for record in found
        ]
        variants = tuple(EvaluatedVariant(name, tuple(column.get(name) for column in columns)) for name in columns[0])
        return Evaluation(tuple(record.run_id for record in found), found[0].figures["num_users"], variants)


def _is_of_texts() -> Column:
    """Of quarantine: refused by embed_items; all other rows are by ingest."""
    return F.col(c.SOURCE) == embed_items.NAME


def run_lines(warehouse: Warehouse) -> tuple[RunLine, ...]:
    """The newest runs, oldest first, and which one consumers read."""
    read = latest_published(warehouse)
    lines = []
    for run in all_runs(warehouse)[-NUM_EARLIER_RUNS - 1 :]:
        seconds = None if run.finished_at is None else (run.finished_at - run.started_at).total_seconds()
        lines.append(RunLine(run.run_id, run.run_date, run.status, seconds, run.run_id == read))
    return tuple(lines)


def _drawn(*keys: str) -> list[Any]:
    """An order that is nobody's choice and always the same."""
    return [F.xxhash64(c.RUN_ID, *keys), *(F.col(key) for key in keys)]


def _utterance(row: Row) -> str:
    return shown(row[c.UTTERANCE] or "(these words are not in the table feedback any more)", MAX_UTTERANCE_CHARACTERS)


def _directions(vectors: np.ndarray) -> np.ndarray:
    """float32 [N, D] of length 1; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: np.ndarray = vectors / np.where(lengths > 0, lengths, 1.0)
    return result


def _tokens(record: StageState) -> int | None:
    """Of counts and metrics, all that count tokens."""
    found = [int(value) for name, value in {**record.metrics, **record.counts}.items() if f"_{name}".endswith("_tokens")]
    return sum(found) if found else None
