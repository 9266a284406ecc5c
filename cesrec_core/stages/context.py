"""What a stage is given, what it says of itself, and what it hands back."""

import datetime as dt
import functools
import json
import logging
import math
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pyspark.sql import DataFrame, SparkSession

from cesrec_core.actors.session import RaySession
from cesrec_core.artifacts import Manifest, read_manifest
from cesrec_core.config import Config
from cesrec_core.delta_io.warehouse import Warehouse
from cesrec_core.errors import InputDataError
from cesrec_core.hashing import short_hash
from cesrec_core.locks import take_lock
from cesrec_core.schemas import USER_SEQUENCES

# What trained artifacts are made by, and what they are called in manifests and in `Stage.reads` and `writes`.
ARTIFACT_STAGES = {"recommender": "train_recommender", "adapter": "train_adapter", "constructor": "finetune_constructor"}
# The stage whose answers are good for every run.
OF_NO_RUN = "embed_items"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageResult:
    """What a stage did: rows by name, numbers for the table `metrics`, and notes that its next decision compares."""

    counts: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    artifact_id: str | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class RunContext:
    """One run of the job. `inputs` are its pinned sources; paths lie under the warehouse.

    Attributes:
        sources: location of each raw source, by kind.
        inputs: what each source was pinned to: a table version or a hash of files.
        results: what the stages of this run did so far, by stage.
        num_tokens: that language models have read for the stage at work.
        work_name: of the folder for its shards and scratch files; the run's id where left out.
        listener_ids: what reads utterances, by the folder with the catalogue that it knows; see `understand_feedback`.
        sequences_version: of user_sequences, in a run that is over; None where the newest is its own.
    """

    config: Config
    spark: SparkSession
    warehouse: Warehouse
    ray: RaySession
    run_id: str
    run_date: dt.date
    sources: dict[str, str]
    inputs: dict[str, str]
    results: dict[str, StageResult] = field(default_factory=dict)
    num_tokens: int = 0
    work_name: str = ""
    listener_ids: dict[Path, str] = field(default_factory=dict)
    sequences_version: int | None = None

    @property
    def run_end(self) -> dt.datetime:
        """First moment after the run date, UTC."""
        return dt.datetime.combine(self.run_date + dt.timedelta(days=1), dt.time(), tzinfo=dt.UTC)

    @property
    def work_path(self) -> Path:
        """Shards and scratch files of this run; safe to delete once the run is published."""
        return self.warehouse.path / "work" / (self.work_name or self.run_id)

    def user_sequences(self) -> DataFrame:
        """The table as this run has it."""
        return self.warehouse.read(USER_SEQUENCES, self.sequences_version)

    def stage_path(self, stage: str) -> Path:
        return self.work_path / stage

    def artifact_path(self, kind: str, artifact_id: str) -> Path:
        return self.warehouse.path / "artifacts" / kind / artifact_id

    def artifact_id(self, kind: str) -> str:
        """Id of the artifact in force.

        Raises:
            InputDataError: there is none yet.
        """
        state = read_state(self.warehouse.path, ARTIFACT_STAGES[kind])
        if state is None or not state.artifact_id:
            raise InputDataError(
                f"There is no {kind} yet. Run jobs/{ARTIFACT_STAGES[kind]}.py, or jobs/nightly_refresh.py, which trains what "
                "is missing."
            )
        return state.artifact_id

    def artifact(self, kind: str) -> tuple[Path, Manifest]:
        """Folder and manifest of the artifact in force."""
        folder = self.artifact_path(kind, self.artifact_id(kind))
        return folder, read_manifest(folder, kind)

    def begin_anew(self) -> None:
        """Drop what this run has done so far, but for embeddings that no table holds yet.

        They belong to texts and an extractor, and to no run: they stay in a folder of another name, from which the stage takes
        them over.
        """
        if not self.work_path.exists():
            return
        # First of all, so that nothing of it is gone on with, wherever this ends.
        aside = self.work_path.with_name(f"{self.work_path.name}-{uuid.uuid4().hex[:8]}")
        self.work_path.rename(aside)
        embeddings = aside / OF_NO_RUN
        is_kept = embeddings.is_dir() and not (embeddings / "done.json").exists()
        for entry in aside.iterdir() if is_kept else ():
            if entry.is_dir() and entry != embeddings:
                shutil.rmtree(entry)
            elif entry.is_file():
                entry.unlink()
        if not is_kept:
            shutil.rmtree(aside)

    def forget(self) -> None:
        """Drop all records of earlier work but those of artifacts that are there, since tables that it filled are gone.

        Versions count from 0 again in a table that is made anew, so a record of the old one could seem to be up to date.
        """
        self.begin_anew()
        self.listener_ids.clear()
        for record in (self.warehouse.path / "state").glob("*.json"):
            if not self.is_kept_when_forgetting(record.stem):
                record.unlink()

    def is_kept_when_forgetting(self, stage: str) -> bool:
        """Whether the stage made an artifact, and that is still there."""
        kind = next((kind for kind, maker in ARTIFACT_STAGES.items() if maker == stage), None)
        state = read_state(self.warehouse.path, stage)
        if kind is None or state is None or not state.artifact_id:
            return False
        return self.artifact_path(kind, state.artifact_id).is_dir()

    def section_hash(self, stage: str) -> str:
        """Hash of a stage's own configuration section; stages without one depend on nothing there."""
        section = getattr(self.config, stage, None)
        return short_hash(section.model_dump(mode="json")) if section is not None else ""


def writing_to(warehouse: Path) -> IO[str]:
    """A context manager in which nobody else writes to the warehouse.

    Raises:
        BusyError: somebody does.
    """
    return take_lock(warehouse / "lock", f"{warehouse} is being written to")


@dataclass(frozen=True)
class Stage:
    """One stage of the job.

    Attributes:
        name: verb_noun; the name of its module, job, configuration section and test.
        reads, writes: tables, artifacts and, where a table has two writers, the part of each; by name.
        run: computes and writes.
        fingerprint: what its outcome depends on, by name; the stage is skipped while nothing of it changes. None for
            stages whose rows belong to one run: every run writes its own.
        good_enough: for training: says why the artifact in force is kept although its data moved on, or None.
        check: raises where the configuration or a source names something unusable; asked of all stages before any runs.
    """

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    run: Callable[[RunContext], StageResult]
    fingerprint: Callable[[RunContext], dict[str, str]] | None = None
    good_enough: Callable[[RunContext], str | None] | None = None
    check: Callable[["RunContext"], None] | None = None


@dataclass(frozen=True)
class StageState:
    """What is remembered of a stage's last success. A cache: losing it costs work, never correctness."""

    fingerprint: dict[str, str]
    run_id: str
    seconds: float
    counts: dict[str, int]
    metrics: dict[str, float]
    artifact_id: str | None = None
    notes: dict[str, Any] = field(default_factory=dict)


def read_state(warehouse: Path, stage: str) -> StageState | None:
    return read_record(warehouse / "state" / f"{stage}.json")


def write_state(warehouse: Path, stage: str, state: StageState) -> None:
    write_record(warehouse / "state" / f"{stage}.json", state)


def read_record(path: Path) -> StageState | None:
    """None where there is none, or none that can be read: a damaged one is as good as lost."""
    try:
        state = StageState(**json.loads(path.read_text(encoding="utf-8")))
        if not _is_as_written(state):
            raise TypeError
    except FileNotFoundError:
        return None
    # Of bytes that are no text, too.
    except (IsADirectoryError, ValueError, TypeError) as error:
        warn_of_damage(path, "record of a stage", type(error).__name__)
        return None
    return state


def _is_as_written(state: StageState) -> bool:
    """Whether its values are of the types that it was written with."""
    if not all(isinstance(values, dict) for values in (state.fingerprint, state.counts, state.metrics, state.notes)):
        return False
    numbers = (*state.counts.values(), *state.metrics.values())
    texts = (state.run_id, *state.fingerprint.values(), state.artifact_id or "")
    # A metric may be no number, as of an artifact of which nothing could be measured.
    return (
        is_number(state.seconds)
        and all(isinstance(number, int | float) for number in numbers)
        and all(isinstance(text, str) for text in texts)
    )


def is_number(value: Any) -> bool:
    """Whether it can be shown as one: JSON as Python writes it knows NaN and infinity, too."""
    return isinstance(value, int | float) and math.isfinite(value)


@functools.cache
def warn_of_damage(file: Path, what: str, reason: str) -> None:
    """Say of a file beside the tables that it is done without. Once: a stage's state is asked for many times a night."""
    log.warning("%s is no %s that can be read (%s), and left aside", file, what, reason)


def write_record(path: Path, state: StageState) -> None:
    write_whole(path, json.dumps(state.__dict__, indent=1, sort_keys=True))


def write_whole(path: Path, text: str) -> None:
    """Write a file at once: who reads it meanwhile, or after a crash, finds all of it or what was there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".unfinished")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)
