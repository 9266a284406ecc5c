"""Training as a process of its own: never inside the Spark driver, never inside a Ray actor."""

import datetime as dt
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core import logs
from cesrec_core.delta_io.shards import SUCCESS
from cesrec_core.errors import ConfigError, InputDataError, StageError
from cesrec_core.frames.sequences import explode_sequences
from cesrec_core.schemas import INTERACTIONS, ITEMS, USER_SEQUENCES
from cesrec_core.shipped import library_root, shipped_folder
from cesrec_core.stages.context import RunContext, read_state

log = logging.getLogger(__name__)

# More than torchrun gives its own processes.
SECONDS_TO_END = 45
# In the notes of a training: when the newest interaction that it saw happened.
NEWEST = "newest_interaction"


def export_dataset(context: RunContext) -> Path:
    """user_sequences and items as a dataset folder, once per run; the training commands cut it by the split."""
    folder = context.stage_path("training_dataset")
    if not (folder / "interactions.parquet" / SUCCESS).exists():
        items = context.warehouse.read(ITEMS).select(c.ITEM_ID, c.TITLE, c.ATTRIBUTES)
        items.coalesce(1).write.mode("overwrite").parquet(str(folder / "items.parquet"))
        sequences = context.warehouse.read(USER_SEQUENCES)
        explode_sequences(sequences).write.mode("overwrite").parquet(str(folder / "interactions.parquet"))
    return folder


def num_interactions(context: RunContext, after: dt.datetime) -> tuple[int, int]:
    """Number of all, and of those that happened later than `after`.

    Also those that histories have no room for count: somebody whose history is full has new ones, too.
    """
    num_later = F.count_if(F.col(c.INTERACTED_AT) > F.lit(after))
    row = context.warehouse.read(INTERACTIONS).agg(F.count(F.lit(1)), num_later).collect()[0]
    return int(row[0]), int(row[1])


def run_training(context: RunContext, script: str, arguments: Sequence[str], timeout_minutes: int) -> dict[str, float]:
    """Run `training/<script>` with this run's configuration and return the metrics of its last line.

    Args:
        timeout_minutes: of the configuration section that is called like the script.

    Raises:
        ConfigError, InputDataError: it cannot use its configuration, or the data.
        StageError: it failed otherwise, ran out of time, or printed no summary.
    """
    config_path = _write_config(context)
    command = [sys.executable, str(shipped_folder("training") / script), "--config", str(config_path), *arguments]
    log.info("      training/%s in its own process", script)
    try:
        with _standard_error() as messages:
            done = _run(command, messages, timeout_minutes * 60)
    except subprocess.TimeoutExpired:
        raise StageError(
            f"training/{script} was still running after {timeout_minutes} minutes and was stopped. Raise "
            f"{Path(script).stem}.timeout_minutes and start again."
        ) from None
    if done.returncode:
        # What training finds wrong with the configuration or the data is that here, too.
        error = {2: ConfigError, 3: InputDataError}.get(done.returncode, StageError)
        raise error(
            f"training/{script} ended with {done.returncode}; its own messages stand above. Mend their cause and start again."
        )
    lines = done.stdout.strip().splitlines()
    try:
        measured = json.loads(lines[-1])["metrics"]
    except (IndexError, KeyError, TypeError, json.JSONDecodeError):
        raise StageError(f"training/{script} ended without a summary line. Its messages stand above.") from None
    return {name: float(value) for name, value in measured.items() if isinstance(value, int | float)}


def _run(command: Sequence[str], messages: int | None, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run a training to its end, or end it: asked first, since torchrun ends its processes then and only then."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=messages, text=True, env=_environment()) as process:
        try:
            output, _ = process.communicate(timeout=timeout)
        except BaseException:
            process.terminate()
            try:
                process.communicate(timeout=SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
        return subprocess.CompletedProcess(command, process.returncode, output)


@contextmanager
def _standard_error() -> Iterator[int | None]:
    """Where a training's messages go: straight to this job's standard error or, where that holds JSON, line by line into the
    log."""
    if not logs.are_json():
        yield None
        return
    reader, writer = os.pipe()
    relay = threading.Thread(target=_relay, args=(reader,), daemon=True)
    relay.start()
    try:
        yield writer
    finally:
        os.close(writer)
        # A process that training left behind may keep the pipe open for as long as it likes.
        relay.join(timeout=5)


def _relay(reader: int) -> None:
    with os.fdopen(reader, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            log.info("%s", line.rstrip())


def keep_reason(
    context: RunContext, stage: str, settings: dict[str, str], max_age_days: int, max_new_share: float
) -> str | None:
    """Why the artifact in force may stay although data moved on; None where it must be trained again.

    One of a later date may not stay: it was trained on what had not happened yet.

    Args:
        settings: everything whose change alone asks for training, as noted by `training_notes`.
        max_new_share: of today's interactions, the share that the artifact may not have seen.
    """
    state = read_state(context.warehouse.path, stage)
    if state is None or state.artifact_id is None or state.notes.get("settings") != settings:
        return None
    age = (context.run_date - dt.date.fromisoformat(state.notes["run_date"])).days
    new_share = _new_share(context, state.notes)
    if not 0 <= age <= max_age_days or new_share > max_new_share:
        return None
    return (
        f"kept: {age} days old (limit {max_age_days}), {new_share:.1%} of interactions are new to it "
        f"(limit {max_new_share:.0%})"
    )


def _new_share(context: RunContext, notes: Mapping[str, Any]) -> float:
    """Of today's interactions, the share that a training with these notes cannot have seen.

    That is all beyond as many as it saw, and all later than the newest that it saw, whichever are more: a snapshot that drops
    old rows as new ones come stays as long as it was, and rows that come late are not newer.
    """
    total, num_later = num_interactions(context, _seen_up_to(notes))
    return max(num_later, total - int(notes["num_interactions"])) / max(1, total)


def _seen_up_to(notes: Mapping[str, Any]) -> dt.datetime:
    """UTC. Notes of an earlier version tell the day alone, after whose end nothing is read."""
    if notes.get(NEWEST):
        return dt.datetime.fromisoformat(notes[NEWEST])
    return dt.datetime.combine(dt.date.fromisoformat(notes["run_date"]), dt.time.max, tzinfo=dt.UTC)


def training_notes(context: RunContext, settings: dict[str, str]) -> dict[str, object]:
    """What `keep_reason` compares in later runs."""
    interactions = context.warehouse.read(INTERACTIONS)
    total, newest = interactions.agg(F.count(F.lit(1)), F.max(c.INTERACTED_AT)).collect()[0]
    return {
        "settings": settings,
        "run_date": context.run_date.isoformat(),
        "num_interactions": total,
        # PySpark hands out times without a zone, in the zone of this process.
        NEWEST: newest and newest.astimezone(dt.UTC).isoformat(),
    }


def _environment() -> dict[str, str]:
    """The library that this process runs is the one that training imports, wherever spark-submit has put it.

    Threads that spin while they wait make a step several times slower as soon as anything else wants the same cores.
    """
    paths = [str(library_root()), os.environ.get("PYTHONPATH", "")]
    return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _write_config(context: RunContext) -> Path:
    values = context.config.model_dump(mode="json", exclude_none=True)
    values["run"]["run_date"] = context.run_date.isoformat()
    path = context.stage_path("training_config") / "config.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path
