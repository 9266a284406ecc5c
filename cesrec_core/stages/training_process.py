"""Training as a process of its own: never inside the Spark driver, never inside a Ray actor."""

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from cesrec_core import columns as c
from cesrec_core import logs
from cesrec_core.child_processes import ending
from cesrec_core.delta_io.shards import SUCCESS
from cesrec_core.errors import ConfigError, InputDataError, StageError
from cesrec_core.frames.sequences import explode_sequences
from cesrec_core.schemas import ITEMS, USER_SEQUENCES
from cesrec_core.shipped import library_root, shipped_folder
from cesrec_core.stages.context import RunContext

log = logging.getLogger(__name__)

# More than `end_as_torchrun` gives torchrun.
SECONDS_TO_END = 45


def export_dataset(context: RunContext) -> Path:
    """user_sequences and items as a dataset folder, once per run; the training commands cut it by the split."""
    folder = context.stage_path("training_dataset")
    if not (folder / "interactions.parquet" / SUCCESS).exists():
        items = context.warehouse.read(ITEMS).select(c.ITEM_ID, c.TITLE, c.ATTRIBUTES)
        items.coalesce(1).write.mode("overwrite").parquet(str(folder / "items.parquet"))
        sequences = context.warehouse.read(USER_SEQUENCES)
        explode_sequences(sequences).write.mode("overwrite").parquet(str(folder / "interactions.parquet"))
    return folder


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
    """Run a training to its end, or end it."""
    settings: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": messages, "text": True, "env": _environment()}
    with subprocess.Popen(command, **settings) as process, ending(process, SECONDS_TO_END):
        output, _ = process.communicate(timeout=timeout)
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
