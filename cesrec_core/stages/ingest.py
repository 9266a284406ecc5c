"""ingest: raw sources -> interactions, items, feedback; what cannot be used -> quarantine."""

import datetime as dt
import logging
import shutil
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StringType, StructField, StructType
from pyspark.sql.window import Window

from cesrec_core import columns as c
from cesrec_core.config import DatasetSection
from cesrec_core.delta_io.shards import read_parquet
from cesrec_core.delta_io.warehouse import spark_schema
from cesrec_core.errors import ConfigError, InputDataError
from cesrec_core.frames.derived_feedback import derived_rows, feedback_of_interactions
from cesrec_core.frames.ingest import (
    CLEANING_VERSION,
    FUTURE_TIMESTAMP,
    clean_feedback,
    clean_items,
    judge_interactions,
    split_interactions,
)
from cesrec_core.hashing import content_hash, short_hash
from cesrec_core.raw_sources.discover import PATTERNS, find_sources
from cesrec_core.raw_sources.formats import ALWAYS_THERE, is_uri, read_source, readable, recognise
from cesrec_core.raw_sources.tables import newest_version
from cesrec_core.raw_sources.uris import listing_hash
from cesrec_core.schemas import FEEDBACK, INTERACTIONS, ITEMS, QUARANTINE, Table
from cesrec_core.stages.context import RunContext, Stage, StageResult, read_state

log = logging.getLogger(__name__)

NAME = "ingest"

TABLE_OF = {"items": ITEMS, "interactions": INTERACTIONS, "feedback": FEEDBACK}


def locate_sources(section: DatasetSection) -> dict[str, str]:
    """Location of each raw source, by kind; all but interactions and items may be absent.

    Raises:
        ConfigError: neither a folder nor single sources are configured, or a location cannot be one.
        InputDataError: the folder is missing or incomplete.
    """
    named = {kind: location for kind in PATTERNS if (location := getattr(section, kind)) is not None}
    found = find_sources(Path(section.path)) if section.path is not None else {}
    sources = {**found, **named}
    for kind in ALWAYS_THERE:
        if kind not in sources:
            raise ConfigError(
                f"There is no source of {kind}: set dataset.path to a dataset folder, or dataset.{kind} to a file or table."
            )
    for location in sources.values():
        recognise(location)
    return sources


def pin_sources(spark: SparkSession, sources: dict[str, str]) -> dict[str, str]:
    """What each source holds now: `version:N` of a table, `content:HASH` of files, `listing:HASH` of files at a URI."""
    pins = {}
    for kind, location in sources.items():
        if recognise(location) in ("delta", "table"):
            pins[kind] = f"version:{newest_version(spark, location)}"
        elif is_uri(location):
            pins[kind] = f"listing:{listing_hash(spark, location)}"
        else:
            pins[kind] = f"content:{content_hash(Path(location))}"
    return pins


def fingerprint(context: RunContext) -> dict[str, str]:
    return {
        **{name: pin for name, pin in context.inputs.items() if name in TABLE_OF},
        "ingest settings": context.section_hash("ingest"),
        "cleaning": str(CLEANING_VERSION),
        "rows after the run date": short_hash(context.run_date.isoformat()) if _date_decides(context) else "none",
    }


def _date_decides(context: RunContext) -> bool:
    """Whether another date means other rows: some were left out as later than an earlier date, or this is an earlier date."""
    state = read_state(context.warehouse.path, NAME)
    if state is None:
        return False
    is_earlier = context.run_date.isoformat() < str(state.notes.get(c.RUN_DATE, ""))
    return is_earlier or bool(state.counts.get("future", 0))


def run(context: RunContext) -> StageResult:
    parked = _park(context)
    counts = {kind: frame.count() for kind, frame in parked.items() if kind in TABLE_OF}
    refused = _refused_rows(parked["refused"])
    # For a date that is made up for, what came after it is not wrong.
    is_past = context.run_date < dt.datetime.now(dt.UTC).date()
    wrong = parked["refused"].where(F.col(c.REASON) != FUTURE_TIMESTAMP) if is_past else parked["refused"]
    _refuse_bad_sources(context, counts, refused, _refused_rows(wrong))

    # Nothing above has touched a table: a source that is refused leaves the warehouse as it was.
    warehouse = context.warehouse
    warehouse.create_missing_tables()
    is_snapshot = context.config.ingest.mode == "snapshot"
    _merge_items(context, parked["items"], is_snapshot)
    warehouse.merge(INTERACTIONS, parked["interactions"], delete_missing=is_snapshot)
    if "feedback" in parked:
        warehouse.merge(FEEDBACK, parked["feedback"])
    num_derived = _merge_derived(context, parked["with_reviews"], is_snapshot)
    warehouse.replace_run(QUARANTINE, _numbered(parked["refused"], context.run_id), context.run_id)
    future = parked["refused"].where(F.col(c.REASON) == FUTURE_TIMESTAMP).count()
    metrics = {f"quarantined_{kind}_share": _share(refused.get(kind, 0), counts[kind]) for kind in counts}
    counts |= {"quarantined": sum(refused.values()), "future": future}
    if context.config.ingest.feedback_from:
        counts["feedback_from_interactions"] = num_derived
    return StageResult(counts, metrics, notes={c.RUN_DATE: context.run_date.isoformat()})


def _refused_rows(refused: DataFrame) -> dict[str, int]:
    """Number of rows by source."""
    return {row[c.SOURCE]: row["count"] for row in refused.groupBy(c.SOURCE).count().collect()}


def _park(context: RunContext) -> dict[str, DataFrame]:
    """Clean every source once, into Parquet: what follows reads the same rows however often it looks."""
    folder = context.stage_path(NAME)
    shutil.rmtree(folder, ignore_errors=True)
    raw = {kind: read_pinned(context, kind) for kind in context.sources if kind in TABLE_OF}
    refused_frames = []
    parked: dict[str, DataFrame] = {}

    def write(kind: str, frame: DataFrame) -> None:
        with readable(context.sources[kind]):
            frame.write.parquet(str(folder / kind))

    def keep(kind: str, clean: DataFrame, refused: DataFrame) -> None:
        write(kind, clean)
        parked[kind] = read_parquet(context.spark, folder / kind, TABLE_OF[kind])
        refused_frames.append(refused.select(c.SOURCE, c.REASON, c.RECORD))

    keep("items", *clean_items(raw["items"], context.config.ingest))
    known_items = _known(context, ITEMS, parked["items"], c.ITEM_ID)
    write("interactions", judge_interactions(raw["interactions"], known_items, context.run_end))
    texts = [StructField(name, StringType()) for name in (c.REVIEW, c.REASON, c.RECORD)]
    judged = context.spark.read.schema(StructType([*spark_schema(INTERACTIONS), *texts])).parquet(str(folder / "interactions"))
    parked["with_reviews"], refused_interactions = split_interactions(judged)
    parked["interactions"] = parked["with_reviews"].drop(c.REVIEW)
    refused_frames.append(refused_interactions)
    if "feedback" in raw:
        known_users = _known(context, INTERACTIONS, parked["interactions"], c.USER_ID)
        keep("feedback", *clean_feedback(raw["feedback"], known_users, context.run_end))
    refused = refused_frames[0]
    for frame in refused_frames[1:]:
        refused = refused.unionByName(frame)
    refused.write.parquet(str(folder / "refused"))
    schema = StructType([StructField(name, StringType()) for name in (c.SOURCE, c.REASON, c.RECORD)])
    parked["refused"] = context.spark.read.schema(schema).parquet(str(folder / "refused"))
    return parked


def _known(context: RunContext, table: Table, parked: DataFrame, column: str) -> DataFrame:
    """Values that other sources may refer to: those of this source and, where sources only add, of the rows there are."""
    values = parked.select(column)
    if _adds_to(context, table):
        values = values.unionByName(context.warehouse.read(table).select(column))
    return values.distinct()


def _adds_to(context: RunContext, table: Table) -> bool:
    return context.config.ingest.mode == "append" and context.warehouse.exists(table)


def read_pinned(context: RunContext, kind: str) -> DataFrame:
    """A raw source as this run has pinned it."""
    kind_of_pin, _, value = context.inputs[kind].partition(":")
    version = int(value) if kind_of_pin == "version" else None
    return read_source(context.spark, kind, context.sources[kind], version)


def _refuse_bad_sources(
    context: RunContext, counts: dict[str, int], refused: dict[str, int], held_against: dict[str, int]
) -> None:
    """By source, `refused` counts all rows that cannot be used, `held_against` those of them that the limit is for."""
    limit = context.config.ingest.max_quarantined_share
    for kind, num_clean in counts.items():
        may_be_empty = kind == "feedback" or (kind not in refused and _adds_to(context, TABLE_OF[kind]))
        if num_clean == 0 and not may_be_empty:
            found = f"all of its {refused[kind]} rows were refused" if kind in refused else "it has no rows"
            raise InputDataError(
                f"{context.sources[kind]} gives no {kind}: {found}. {_reasons(context, kind)}Mend it, or name another in "
                "the dataset section. No table was changed."
            )
        num_refused = held_against.get(kind, 0)
        if _share(num_refused, num_clean) <= limit:
            continue
        if kind == "feedback":
            # Some remarks that cannot be used are no reason to recommend nothing to anybody.
            log.warning(
                "%s: %d of %d rows of feedback were refused and are not acted on. %s",
                context.sources[kind],
                num_refused,
                num_clean + num_refused,
                _reasons(context, kind),
            )
        else:
            raise InputDataError(
                f"{context.sources[kind]}: {num_refused} of {num_clean + num_refused} rows of {kind} were refused, more than "
                f"the {limit:.0%} that ingest.max_quarantined_share allows. {_reasons(context, kind)}Mend it, or raise that "
                "share. No table was changed."
            )


def _reasons(context: RunContext, kind: str) -> str:
    refused = context.spark.read.parquet(str(context.stage_path(NAME) / "refused")).where(F.col(c.SOURCE) == kind)
    rows = refused.groupBy(c.REASON).count().orderBy(F.desc("count"), c.REASON).collect()
    text = ", ".join(f"{row[c.REASON]} {row['count']}" for row in rows)
    return f"Reasons: {text}. " if text else ""


def _merge_items(context: RunContext, items: DataFrame, is_snapshot: bool) -> None:
    """Items that left the source stay, inactive: histories still hold them."""
    if is_snapshot:
        gone = context.warehouse.read(ITEMS).join(items.select(c.ITEM_ID), on=c.ITEM_ID, how="left_anti")
        items = items.unionByName(gone.withColumn(c.IS_ACTIVE, F.lit(False)).select(items.columns))
    context.warehouse.merge(ITEMS, items)


def _merge_derived(context: RunContext, interactions: DataFrame, is_snapshot: bool) -> int:
    """Write ratings and reviews as feedback, and drop those whose interaction is gone; returns the number of rows."""
    section, warehouse = context.config.ingest, context.warehouse
    derived = feedback_of_interactions(interactions, warehouse.read(ITEMS), section)
    num_rows = warehouse.merge(FEEDBACK, derived) if section.feedback_from else 0
    if is_snapshot or not section.feedback_from:
        gone = derived_rows(warehouse.read(FEEDBACK)).join(derived, on=c.FEEDBACK_ID, how="left_anti")
        if not gone.isEmpty():
            warehouse.delete_rows(FEEDBACK, gone, on=[c.FEEDBACK_ID])
    return num_rows


def _numbered(refused: DataFrame, run_id: str) -> DataFrame:
    order = Window.partitionBy(c.SOURCE).orderBy(c.REASON, c.RECORD)
    numbered = refused.withColumn(c.RUN_ID, F.lit(run_id)).withColumn(c.ROW, F.row_number().over(order).cast(LongType()))
    return numbered.select(QUARANTINE.column_names)


def _share(num_refused: int, num_clean: int) -> float:
    return num_refused / max(1, num_refused + num_clean)


STAGE = Stage(
    name=NAME,
    reads=(),
    writes=(INTERACTIONS.name, ITEMS.name, FEEDBACK.name, QUARANTINE.name),
    run=run,
    fingerprint=fingerprint,
)
