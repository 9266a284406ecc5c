"""export_recommendations: the published lists, and what changed since an earlier run, for a serving store.

Not part of the nightly run; jobs/export_recommendations.py calls it. The table `served_recommendations` is brought to the
published run by one commit, whose change feed says what changed; lists and changes are written to files as well.
"""

import dataclasses
import errno
import json
import logging
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core.artifacts import aside_of, publishing, scratch_of
from cesrec_core.config import Config
from cesrec_core.delta_io.runs import all_runs, latest_published
from cesrec_core.delta_io.session import refuse_pattern, spark_session
from cesrec_core.delta_io.warehouse import Warehouse
from cesrec_core.errors import ConfigError, InputDataError, StageError
from cesrec_core.frames.recommendation_lists import CHANGES, changed_lists, has_same_scores, lists_around, ranked_lists
from cesrec_core.hashing import sha256_of
from cesrec_core.locks import take_lock
from cesrec_core.schemas import RECOMMENDATIONS, RUNS, SERVED_RECOMMENDATIONS

log = logging.getLogger(__name__)

FORMATS = ("parquet", "jsonl")
MANIFEST = "manifest.json"
CONTENTS = "published recommendations"
LISTS, CHANGED = "recommendations", "changes"
EXPORT_LOCK = "export.lock"
# Files of a folder of lists, as `_write_files` names them.
PART = re.compile(r"part-\d+\.(parquet|jsonl)")
# People in one file; small enough to be loaded again alone.
ROWS_PER_FILE = 500_000


@dataclass(frozen=True)
class ExportManifest:
    """What an export holds: written last, and compared before the next one.

    Attributes:
        since_run_id: the run that `changes` starts from; None where there is none, and everybody is added.
        counts: of users, of items in their lists, and of users by change.
        content: a hash of the lists: those of one run may have been made again.
        sha256: of each file, by its path in the folder: a store that has loaded a copy can check it with `sha256sum`.
    """

    run_id: str
    since_run_id: str | None
    formats: tuple[str, ...]
    counts: dict[str, int]
    content: str = ""
    sha256: dict[str, str] = dataclasses.field(default_factory=dict)
    contents: str = CONTENTS


def run_export(config: Config, since: str | None, formats: Sequence[str], out: Path | None) -> dict[str, Any]:
    """Export what consumers read now.

    Args:
        since: a run; None for what `out` holds or, where it is empty, the one published before.
        out: a folder of its own; None for exports/recommendations under the warehouse.

    Raises:
        InputDataError: nothing has been published yet, or the rows of the published run are gone.
        ConfigError: there is no run `since`, what it recommended is gone, or `out` holds something else.
        BusyError: another export of this warehouse is being made.
    """
    warehouse = Warehouse(spark_session(config.spark, "cesrec export_recommendations"), config.warehouse)
    return export_recommendations(warehouse, since, formats, out or warehouse.path / "exports" / "recommendations")


def export_recommendations(warehouse: Warehouse, since: str | None, formats: Sequence[str], out: Path) -> dict[str, Any]:
    """See `run_export`. Where the same export is there already, nothing is written."""
    try:
        out = out.resolve()
    except (OSError, RuntimeError):
        raise ConfigError(f"--out {out}: a link in it leads round in a circle. Name a folder.") from None
    _read_manifest(out)
    _published(warehouse)
    # What is read from here on stays as it is while the export lasts, whoever else exports.
    with export_lock(warehouse.path):
        return _export(warehouse, since, tuple(sorted(set(formats))), out)


def export_lock(warehouse: Path) -> IO[str]:
    """Raises BusyError while an export is being made, or what exports write is being compacted."""
    return take_lock(warehouse / EXPORT_LOCK, f"{SERVED_RECOMMENDATIONS.name} of {warehouse} is being written")


def _published(warehouse: Warehouse) -> str:
    run_id = latest_published(warehouse) if warehouse.exists(RUNS) else None
    if run_id is None:
        raise InputDataError(f"No run has been published in {warehouse.path} yet. Run jobs/nightly_refresh.py first.")
    return run_id


def _export(warehouse: Warehouse, since: str | None, formats: tuple[str, ...], out: Path) -> dict[str, Any]:
    run_id, before = _published(warehouse), _read_manifest(out)
    # One version for all that is read: jobs/maintain.py may drop rows meanwhile.
    rows = warehouse.read(RECOMMENDATIONS, warehouse.version(RECOMMENDATIONS))
    now = ranked_lists(_of_run(rows, run_id)).persist()
    try:
        content, num_users = now.agg(F.sum(F.xxhash64(*now.columns).cast("decimal(38,0)")), F.count(F.lit(1))).collect()[0]
        if num_users == 0:
            raise InputDataError(
                f"Run {run_id} is published, but {RECOMMENDATIONS.name} in {warehouse.path} holds no rows of it. Run "
                "jobs/nightly_refresh.py, which makes them again, or publish another by jobs/roll_back.py. Nothing was changed."
            )
        has_table = warehouse.exists(SERVED_RECOMMENDATIONS)
        is_served = has_table and warehouse.run_held(SERVED_RECOMMENDATIONS) == run_id
        if is_served and before is not None and _is_this(before, run_id, since, formats, str(content), out):
            log.info("%s holds this export already. Nothing to do.", out)
            done = {"run_id": run_id, "since_run_id": before.since_run_id, "out": str(out)}
            return {**done, "status": "nothing_to_do", "counts": before.counts}
        served = warehouse.versions_holding(SERVED_RECOMMENDATIONS) if has_table else {}
        old = _lists_before(warehouse, rows, run_id, since, before, served)
        wanted = ExportManifest(run_id, old.run_id, formats, {}, content=str(content))
        where = {"run_id": run_id, "since_run_id": old.run_id, "out": str(out)}
        _check_place(out)
        warehouse.create(SERVED_RECOMMENDATIONS)
        # Also where the table holds this run already: its rows may have been made again, and what is the same is not written.
        same = {c.SCORES: has_same_scores}
        warehouse.merge(SERVED_RECOMMENDATIONS, now, delete_missing=True, same=same, holds_run=run_id)
        changes = _changes_since(warehouse, old, now).persist()
        try:
            return {**where, "status": "done", "counts": _write(now, changes, wanted, out)}
        finally:
            changes.unpersist()
    finally:
        now.unpersist()


def _is_this(export: ExportManifest, run_id: str, since: str | None, formats: tuple[str, ...], content: str, out: Path) -> bool:
    """Whether an export that is there is the one asked for; also where the rows of the run that it starts from are gone."""
    is_since = since in (None, export.since_run_id)
    is_same = (export.run_id, export.formats, export.content) == (run_id, formats, content)
    return is_since and is_same and _checksums(out) == export.sha256


@dataclass(frozen=True)
class _Before:
    """Where changes begin: at a version of `served_recommendations` whose feed is whole, or else at the rows of a run."""

    run_id: str | None
    version: int | None
    rows: DataFrame


def _lists_before(
    warehouse: Warehouse,
    rows: DataFrame,
    run_id: str,
    since: str | None,
    manifest: ExportManifest | None,
    served: dict[str, int],
) -> _Before:
    """Of `since`; without one, of what the folder holds, or of the newest run published before whose lists are still known.

    Where there is none, everybody is added.
    """
    known = {row[0] for row in rows.select(c.RUN_ID).distinct().collect()}

    def known_as(wanted: str) -> _Before | None:
        version = served.get(wanted)
        if version is not None and not _reaches_back(warehouse, version):
            version = None
        return _Before(wanted, version, _of_run(rows, wanted)) if version is not None or wanted in known else None

    if since is not None:
        asked = known_as(since)
        if asked is None:
            raise ConfigError(
                f"--since {since}: no recommendations of such a run are there (any more; see maintain.keep_runs). Name a newer "
                "run, or leave --since away."
            )
        return asked
    candidates = _published_before(warehouse, run_id)
    if manifest is not None:
        held = manifest.since_run_id if manifest.run_id == run_id else manifest.run_id
        candidates = [] if held is None else [held, *candidates]
    found = (known_as(candidate) for candidate in candidates)
    return next((before for before in found if before is not None), _Before(None, None, rows.limit(0)))


def _reaches_back(warehouse: Warehouse, version: int) -> bool:
    newest = warehouse.version(SERVED_RECOMMENDATIONS)
    return version == newest or warehouse.read_changes(SERVED_RECOMMENDATIONS, version, newest) is not None


def _of_run(rows: DataFrame, run_id: str) -> DataFrame:
    return rows.where(F.col(c.RUN_ID) == run_id)


def _changes_since(warehouse: Warehouse, old: _Before, now: DataFrame) -> DataFrame:
    """See `changed_lists`. The change feed tells what changed; where it does not reach back, the two runs are compared."""
    feed = None if old.version is None else _feed_since(warehouse, old.version)
    if feed is not None:
        before, after = lists_around(feed)
        return changed_lists(after, before)
    if old.run_id is not None:
        log.info(
            "The change feed of %s does not reach back to run %s; the runs are compared.",
            SERVED_RECOMMENDATIONS.name,
            old.run_id,
        )
    return changed_lists(now, ranked_lists(old.rows))


def _feed_since(warehouse: Warehouse, version: int) -> DataFrame | None:
    """What changed in `served_recommendations` after a version; None where VACUUM has taken that."""
    newest = warehouse.version(SERVED_RECOMMENDATIONS)
    if version < newest:
        return warehouse.read_changes(SERVED_RECOMMENDATIONS, version, newest)
    itself = warehouse.read_changes(SERVED_RECOMMENDATIONS, version - 1, version)
    return None if itself is None else itself.limit(0)


def _checksums(out: Path) -> dict[str, str]:
    """Of each file of an export but its manifest."""
    return {str(file.relative_to(out)): sha256_of(file) for file in sorted(out.glob("*/*"))}


def _published_before(warehouse: Warehouse, run_id: str) -> list[str]:
    """The other runs that consumers have read, newest first."""
    read = [run for run in all_runs(warehouse) if run.published_at is not None and run.run_id != run_id]
    return [run.run_id for run in sorted(read, key=lambda run: (str(run.published_at), run.run_id), reverse=True)]


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
        written = dataclasses.replace(manifest, counts=counts, sha256=_checksums(scratch))
        text = json.dumps(dataclasses.asdict(written), indent=1)
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
    refuse_pattern("--out", out)
    if out == Path(out.anchor):
        raise ConfigError(f"--out {out}: an export replaces its folder as a whole. Name one of its own.")
    _refuse_unreachable(out)
    if file := next((place for place in (out, *out.parents) if place.is_file()), None):
        raise ConfigError(f"--out {out}: {file} is a file. Name a folder.")
    for beside in (scratch_of(out), aside_of(out)):
        if beside.is_file() or (beside.is_dir() and _foreign_in(beside)):
            raise ConfigError(f"--out {out}: {beside} is in the way, and holds no export. Move it, or name another folder.")
    if not out.exists() and aside_of(out).is_dir():
        return _manifest_in(aside_of(out))  # a process was killed between moving the old one aside and the new one in
    if not out.is_dir() or not any(out.iterdir()):
        return None
    manifest = _manifest_in(out)
    if manifest is None:
        raise ConfigError(
            f"--out {out} holds something that is no export of recommendations, and would be replaced. Name another."
        )
    if foreign := _foreign_in(out):
        raise ConfigError(f"--out {out} holds {foreign[0]} beside an export, which would be removed. Move it, or name another.")
    return manifest


def _refuse_unreachable(out: Path) -> None:
    """Raises ConfigError where no folder can have such a name, or this user may not look at it."""
    for place in (out, scratch_of(out), aside_of(out)):
        try:
            place.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise _cannot_be_made(out, error) from None


def _cannot_be_made(out: Path, error: OSError) -> ConfigError:
    if error.errno == errno.ENAMETOOLONG:
        return ConfigError(
            f"--out {out}: a name in it is too long for a disk, or becomes so with {scratch_of(out).suffix} behind it, as the "
            "export is called until it is whole. Name a folder with a shorter name."
        )
    return ConfigError(
        f"--out {out} cannot be made: {error.filename} ({error.strerror}). Name a folder that this user may write to."
    )


def _check_place(out: Path) -> None:
    """Before the table is moved: a store that follows it and one that loads files shall see the same run."""
    scratch, aside = scratch_of(out), aside_of(out)
    try:
        for leftover in (scratch, *((aside,) if out.exists() else ())):
            if leftover.exists():
                shutil.rmtree(leftover)
        scratch.mkdir(parents=True)
        scratch.rmdir()
    except OSError as error:
        raise _cannot_be_made(out, error) from None
    # What was exported before is removed with its folders, which may be somebody else's.
    foreign = next(
        (folder for folder in (out, *out.glob("*/")) if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK)), None
    )
    if foreign is not None:
        raise ConfigError(f"--out {out} cannot be replaced: this user may not write to {foreign}. Name another.")


def _foreign_in(folder: Path) -> list[str]:
    """What a folder holds beside an export, or beside what a killed one left: all else is removed before the next one."""
    lists = [f"{name}.{format_}" for name in (LISTS, CHANGED) for format_ in FORMATS]
    ours = {*lists, *(f"{name}.parts" for name in lists), MANIFEST}
    beside = {path.name for path in folder.iterdir()} - ours
    within = {
        path for name in lists for path in (folder / name).glob("*") if not (PART.fullmatch(path.name) and path.is_file())
    }
    return sorted(beside | {f"{path.parent.name}/{path.name}" for path in within})


def _manifest_in(out: Path) -> ExportManifest | None:
    try:
        values = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        # Of another version it may say more, or less: it is no export like today's then, and is replaced.
        known = {field.name for field in dataclasses.fields(ExportManifest)}
        told = {name: value for name, value in values.items() if name in known}
        manifest = ExportManifest(**{**told, "formats": tuple(told["formats"])})
        if not isinstance(manifest.run_id, str) or not isinstance(manifest.since_run_id, str | None):
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return manifest if manifest.contents == CONTENTS else None
