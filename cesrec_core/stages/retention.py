"""What maintenance keeps of a warehouse, told from its runs and its files, and what nothing needs any more.

Needed is what the newest runs and the published one were made by, what is in force, all that these were built on, and whatever
is younger than the newest runs: it may belong to a run that somebody goes on with, or to an evaluation at work.
"""

import datetime as dt
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cesrec_core.artifacts import is_of_artifact, read_manifest
from cesrec_core.delta_io.runs import Run
from cesrec_core.errors import ArtifactError
from cesrec_core.stages import embed_items, ingest
from cesrec_core.stages.context import ARTIFACT_STAGES, read_state
from cesrec_core.stages.evaluation_files import FOLDER as EVALUATIONS
from cesrec_core.stages.evaluation_files import read_evaluation
from cesrec_core.stages.journal import read_journal

# Where files and folders are called by the run that they belong to, and how; what people put beside them is theirs.
# Evaluations and explanations have ids of their own there.
ROOMS_OF_RUNS = {"work": "", "reports": ".html", "rejected_titles": ".json"}
# Behind the id of an artifact: what an interrupted training left beside it.
LEFTOVERS = (".unfinished", ".replaced", ".checkpoint")


@dataclass(frozen=True)
class Retention:
    """What is kept.

    Attributes:
        run_ids: the newest runs and the published one.
        dropped: the other runs of the table `runs`.
        since: when the first of the newest runs began; what is younger stays.
        models: ids of the artifacts by kind: of each run that is kept, and those in force.
    """

    run_ids: frozenset[str]
    dropped: frozenset[str]
    since: dt.datetime
    models: tuple[Mapping[str, str], ...]

    def is_old(self, path: Path) -> bool:
        return _changed_at(path) < self.since.timestamp()


def retention_of(runs: Sequence[Run], published: str | None, keep_runs: int, in_force: Mapping[str, str]) -> Retention:
    """Keep the newest `keep_runs` of the runs, and the published one."""
    newest = sorted(runs, key=lambda run: (-run.started_at.timestamp(), run.run_id))[:keep_runs]
    run_ids = {run.run_id for run in newest} | ({published} if published is not None else set())
    return Retention(
        run_ids=frozenset(run_ids),
        dropped=frozenset(run.run_id for run in runs if run.run_id not in run_ids),
        # Before the first run nothing is old.
        since=min((run.started_at for run in newest), default=dt.datetime.min.replace(tzinfo=dt.UTC)),
        models=(*(run.artifact_ids for run in runs if run.run_id in run_ids), in_force),
    )


def runs_stood_on(warehouse: Path, run_ids: Iterable[str]) -> set[str]:
    """The runs whose refused rows the pages of these show, since they had no reason to read the sources again."""
    journals = [read_journal(warehouse / "work" / run_id) for run_id in run_ids]
    entries = [journal[stage] for journal in journals for stage in (ingest.NAME, embed_items.NAME) if stage in journal]
    return {entry.stands_on for entry in entries if entry.stands_on is not None}


def artifacts_in_force(warehouse: Path) -> dict[str, str]:
    """Ids by kind; not of kinds that have not been trained yet."""
    states = {kind: read_state(warehouse, stage) for kind, stage in ARTIFACT_STAGES.items()}
    return {kind: state.artifact_id for kind, state in states.items() if state is not None and state.artifact_id}


def artifacts_to_keep(warehouse: Path, retention: Retention) -> set[tuple[str, str]]:
    """Kind and id of every artifact that is needed, also of those that somebody has removed."""
    left = [entry for models in retention.models for entry in models.items()]
    left += [_kind_and_id(folder) for folder in _artifact_folders(warehouse) if not retention.is_old(folder)]
    kept: set[tuple[str, str]] = set()
    while left:
        kind, artifact_id = left.pop()
        if (kind, artifact_id) not in kept:
            kept.add((kind, artifact_id))
            left += _built_on(warehouse / "artifacts" / kind / artifact_id, kind)
    return kept


def artifacts_to_remove(warehouse: Path, kept: set[tuple[str, str]]) -> list[Path]:
    """Folders of all others, with what interrupted trainings left; not those that hold what no training writes."""
    return [
        folder
        for folder in _artifact_folders(warehouse)
        if _kind_and_id(folder) not in kept and (folder.name.endswith(LEFTOVERS) or is_of_artifact(folder))
    ]


def files_to_remove(warehouse: Path, retention: Retention) -> list[Path]:
    """Work folders, pages and made-up titles of runs that are dropped, and old ones of what never was in the table `runs`."""
    entries = (
        entry for room, suffix in ROOMS_OF_RUNS.items() for entry in _entries(warehouse / room) if entry.suffix == suffix
    )
    others = (entry for entry in entries if entry.stem not in retention.run_ids)
    return [entry for entry in others if entry.stem in retention.dropped or retention.is_old(entry)]


def evaluations_to_remove(warehouse: Path, retention: Retention) -> list[Path]:
    """Old evaluations, but for those of models that are kept: the pages of their runs show them."""
    return [
        folder
        for folder in _entries(warehouse / EVALUATIONS)
        if folder.name not in retention.run_ids and retention.is_old(folder) and _measured(folder) not in retention.models
    ]


def _measured(evaluation: Path) -> object:
    """Ids of artifacts by kind, as `evaluate` wrote them; None where that cannot be read."""
    record = read_evaluation(evaluation)
    return None if record is None else record.figures.get("artifacts")


def _built_on(folder: Path, kind: str) -> list[tuple[str, str]]:
    try:
        parents = read_manifest(folder, kind).parents
    except ArtifactError:  # unfinished, or somebody has removed it
        return []
    return [(parent, parents[parent]) for parent in ARTIFACT_STAGES if parent in parents]


def _artifact_folders(warehouse: Path) -> Iterator[Path]:
    for kind in ARTIFACT_STAGES:
        yield from (folder for folder in _entries(warehouse / "artifacts" / kind) if folder.is_dir())


def _kind_and_id(folder: Path) -> tuple[str, str]:
    name = folder.name
    for suffix in LEFTOVERS:
        name = name.removesuffix(suffix)
    return folder.parent.name, name


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _changed_at(path: Path) -> float:
    """When anything in it was written last, in seconds since 1970: a folder's own time stays while its files are replaced."""
    try:
        return max(entry.lstat().st_mtime for entry in (path, *path.rglob("*")))
    except FileNotFoundError:  # an evaluation is at work in it
        return math.inf
