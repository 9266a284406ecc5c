"""export_recommendations: the published lists, and what changed since an earlier run, for a serving store.

Not part of the nightly run; jobs/export_recommendations.py calls it. The table `served_recommendations` is brought to the
published run by one commit, whose change feed says what changed; lists and changes are written to files as well.
"""

import dataclasses
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core.artifacts import aside_of, publishing, scratch_of
from cesrec_core.config import Config
from cesrec_core.delta_io.runs import all_runs, latest_published
from cesrec_core.delta_io.session import spark_session
from cesrec_core.delta_io.warehouse import Warehouse
from cesrec_core.errors import ConfigError, InputDataError, StageError
from cesrec_core.frames.recommendation_lists import CHANGES, changed_lists, lists_around, ranked_lists
from cesrec_core.locks import take_lock
from cesrec_core.schemas import RECOMMENDATIONS, RUNS, SERVED_RECOMMENDATIONS

log = logging.getLogger(__name__)

FORMATS = ("parquet", "jsonl")
MANIFEST = "manifest.json"
CONTENTS = "published recommendations"
LISTS, CHANGED = "recommendations", "changes"
EXPORT_LOCK = "export.lock"
# People in one file; small enough to be loaded again alone.
ROWS_PER_FILE = 500_000


@dataclass(frozen=True)
class ExportManifest:
    """What an export holds: written last, and compared before the next one.

    Attributes:
        since_run_id: the run that `changes` starts from; None where there is none, and everybody is added.
        counts: of users, of items in their lists, and of users by change.
    """

    run_id: str
    since_run_id: str | None
    formats: tuple[str, ...]
    counts: dict[str, int]
    contents: str = CONTENTS


def run_export(config: Config, since: str | None, formats: Sequence[str], out: Path | None) -> dict[str, Any]:
    """Export what consumers read now.

    Args:
        since: a run; None for the one published before.
        out: a folder of its own; None for exports/recommendations under the warehouse.

    Raises:
        InputDataError: nothing has been published yet.
        ConfigError: there is no run `since`, what it recommended is gone, or `out` holds something else.
        BusyError: another export of this warehouse is being made.
    """
    warehouse = Warehouse(spark_session(config.spark, "cesrec export_recommendations"), config.warehouse)
    return export_recommendations(warehouse, since, formats, out or warehouse.path / "exports" / "recommendations")


def export_recommendations(warehouse: Warehouse, since: str | None, formats: Sequence[str], out: Path) -> dict[str, Any]:
    """See `run_export`. Where the same export is there already, nothing is written."""
    out = out.resolve()
    before = _read_manifest(out)
    run_id = latest_published(warehouse) if warehouse.exists(RUNS) else None
    if run_id is None:
        raise InputDataError("No run has been published yet. Run jobs/nightly_refresh.py first.")
    since = since if since is not None else _published_before(warehouse, run_id)
    wanted = ExportManifest(run_id, since, tuple(sorted(set(formats))), {})
    where = {"run_id": run_id, "since_run_id": since, "out": str(out)}
    if before is not None and dataclasses.replace(before, counts={}) == wanted and _is_whole(out, before):
        log.info("%s holds this export already. Nothing to do.", out)
        return {**where, "status": "nothing_to_do", "counts": before.counts}
    with take_lock(warehouse.path / EXPORT_LOCK, f"an export of {warehouse.path} is being made"):
        now = ranked_lists(warehouse.read_run(RECOMMENDATIONS, run_id)).persist()
        changes = _changes_since(warehouse, since, run_id, now).persist()
        try:
            counts = _write(now, changes, wanted, out)
        finally:
            changes.unpersist()
            now.unpersist()
    return {**where, "status": "done", "counts": counts}


def _changes_since(warehouse: Warehouse, since: str | None, run_id: str, now: DataFrame) -> DataFrame:
    """See `changed_lists`. Afterwards `served_recommendations` holds `run_id`.

    Its change feed tells what changed; where it does not reach back to `since`, the two runs are compared.
    """
    warehouse.create(SERVED_RECOMMENDATIONS)
    served = warehouse.versions_holding(SERVED_RECOMMENDATIONS)
    if since is not None and since not in served:
        _rows_of(warehouse, since)
    # Also where the table holds this run already: its rows may have been made again, and what is the same is not written.
    warehouse.merge(SERVED_RECOMMENDATIONS, now, delete_missing=True, holds_run=run_id)
    if since is None:
        return changed_lists(now, now.limit(0))
    feed = _feed_since(warehouse, served[since]) if since in served else None
    if feed is None:
        log.info(
            "The change feed of %s does not reach back to run %s; the runs are compared.", SERVED_RECOMMENDATIONS.name, since
        )
        return changed_lists(now, ranked_lists(_rows_of(warehouse, since)))
    before, after = lists_around(feed)
    return changed_lists(after, before)


def _feed_since(warehouse: Warehouse, version: int) -> DataFrame | None:
    """What changed in `served_recommendations` after a version; None where VACUUM has taken that."""
    newest = warehouse.version(SERVED_RECOMMENDATIONS)
    if version < newest:
        return warehouse.read_changes(SERVED_RECOMMENDATIONS, version, newest)
    itself = warehouse.read_changes(SERVED_RECOMMENDATIONS, version - 1, version)
    return None if itself is None else itself.limit(0)


def _is_whole(out: Path, manifest: ExportManifest) -> bool:
    """Whether the files that a manifest speaks of are still there."""
    lists, changes = ([out / f"{name}.{format_}" for format_ in manifest.formats] for name in (LISTS, CHANGED))
    return all(any(folder.glob("part-*")) for folder in lists) and all(folder.is_dir() for folder in changes)


def _published_before(warehouse: Warehouse, run_id: str) -> str | None:
    """Of the runs that consumers have read, the last one before this whose lists are still known."""
    read = [run for run in all_runs(warehouse) if run.published_at is not None and run.run_id != run_id]
    known = {row[0] for row in warehouse.read(RECOMMENDATIONS).select(c.RUN_ID).distinct().collect()}
    if warehouse.exists(SERVED_RECOMMENDATIONS):
        known |= warehouse.versions_holding(SERVED_RECOMMENDATIONS).keys()
    newest_first = sorted(read, key=lambda run: (str(run.published_at), run.run_id), reverse=True)
    return next((run.run_id for run in newest_first if run.run_id in known), None)


def _rows_of(warehouse: Warehouse, since: str) -> DataFrame:
    rows = warehouse.read_run(RECOMMENDATIONS, since)
    if rows.isEmpty():
        raise ConfigError(
            f"--since {since}: no recommendations of such a run are there (any more; see maintain.keep_runs). Name a newer "
            "run, or load all of recommendations instead of the changes."
        )
    return rows


def _write(now: DataFrame, changes: DataFrame, manifest: ExportManifest, out: Path) -> dict[str, int]:
    by_change = {row[c.CHANGE]: row["count"] for row in changes.groupBy(c.CHANGE).count().collect()}
    row = now.agg(F.count(F.lit(1)).alias("users"), F.coalesce(F.sum(F.size(c.ITEM_IDS)), F.lit(0)).alias("items")).collect()[0]
    counts = {"users": row["users"], "items": row["items"], **{change: by_change.get(change, 0) for change in CHANGES}}
    with publishing(out) as scratch:
        for name, frame, num_rows in ((LISTS, now, row["users"]), (CHANGED, changes, sum(by_change.values()))):
            num_files = max(1, -(-num_rows // ROWS_PER_FILE))
            sharded = frame.repartition(num_files, c.USER_ID).sortWithinPartitions(c.USER_ID)
            for format_ in manifest.formats:
                folder = scratch / f"{name}.{format_}"
                _write_files(sharded, folder, format_)
                _check_rows(frame, folder, format_, num_rows, out)
        text = json.dumps(dataclasses.asdict(dataclasses.replace(manifest, counts=counts)), indent=1)
        (scratch / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return counts


def _write_files(frame: DataFrame, folder: Path, format_: str) -> None:
    """A folder of part-00000.<format>, part-00001.<format>, ...: names that depend on nothing but their number."""
    parts = folder.with_name(f"{folder.name}.parts")
    if format_ == "parquet":
        frame.write.parquet(str(parts))
    else:
        frame.write.option("ignoreNullFields", "false").json(str(parts))
    folder.mkdir()
    for number, file in enumerate(sorted(file for file in parts.iterdir() if file.name.startswith("part-"))):
        file.replace(folder / f"part-{number:05d}.{format_}")
    shutil.rmtree(parts)


def _check_rows(frame: DataFrame, folder: Path, format_: str, num_rows: int, out: Path) -> None:
    """Raises StageError where executors wrote to disks of their own, whose files nobody finds here."""
    reader = frame.sparkSession.read.schema(frame.schema)
    files = [str(file) for file in folder.iterdir()]
    num_written = (reader.parquet(*files) if format_ == "parquet" else reader.json(files)).count() if files else 0
    if num_written != num_rows:
        raise StageError(
            f"--out {out}: of {num_rows} users of {folder.name} {num_written} have arrived. Name a folder that every node of "
            "Spark sees."
        )


def _read_manifest(out: Path) -> ExportManifest | None:
    """Of the export that is there already; None where there is none.

    Raises:
        ConfigError: there is something else.
    """
    if ":/" in str(out):
        raise ConfigError(f"--out {out} is a URI, but exports are ordinary files. Name a folder, such as a mounted volume.")
    if file := next((place for place in (out, *out.parents) if place.is_file()), None):
        raise ConfigError(f"--out {out}: {file} is a file. Name a folder.")
    for beside in (scratch_of(out), aside_of(out)):
        if beside.exists() and any(beside.iterdir()) and not _is_ours(beside):
            raise ConfigError(f"--out {out}: {beside} is in the way, and holds no export. Move it, or name another folder.")
    if not out.is_dir() or not any(out.iterdir()):
        return None
    manifest = _manifest_in(out)
    if manifest is None:
        raise ConfigError(
            f"--out {out} holds something that is no export of recommendations, and would be replaced. Name another."
        )
    return manifest


def _is_ours(beside: Path) -> bool:
    """Whether an export, or what a killed one left, is all that a folder holds: it is removed before the next one."""
    ours = {f"{name}.{format_}{end}" for name in (LISTS, CHANGED) for format_ in FORMATS for end in ("", ".parts")}
    return {path.name for path in beside.iterdir()} <= {*ours, MANIFEST}


def _manifest_in(out: Path) -> ExportManifest | None:
    try:
        values = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        manifest = ExportManifest(**{**values, "formats": tuple(values["formats"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest if manifest.contents == CONTENTS else None
