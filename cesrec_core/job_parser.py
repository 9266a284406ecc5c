"""Command lines that end in a JSON object, also where they cannot be used: of jobs, and of training commands without Spark."""

import argparse
import json
import logging
import math
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from cesrec_core.config import is_uri
from cesrec_core.errors import CesrecError, Stopped, is_disk_full, is_out_of_memory, is_spark_gone, run_of

DEFAULT_CONFIG = "conf/local.yaml"
# Exit code after Ctrl-C.
INTERRUPTED = 128 + signal.SIGINT

log = logging.getLogger("cesrec")


class JobParser(argparse.ArgumentParser):
    """Keeps the promise of a JSON object on the last line for a command line that cannot be used, too."""

    def error(self, message: str) -> NoReturn:
        reclaim_standard_error()
        self.print_usage(sys.stderr)
        print(f"{self.prog}: {message}", file=sys.stderr)
        print(json.dumps({"job": Path(self.prog).stem, "status": "failed", "error": message}), flush=True)
        self.exit(2)


def local_path(text: str) -> Path:
    """The type of arguments that name a file or folder.

    Raises:
        argparse.ArgumentTypeError: it is a URI, of which Path would make a folder of that name below this one.
    """
    if is_uri(text):
        raise argparse.ArgumentTypeError(
            f"{text} is a URI, but this has to be an ordinary file or folder. Name one, such as on a mounted volume."
        )
    return Path(text)


def end_in_json(job: str, work: Callable[[], dict[str, Any]], is_heard: bool = True) -> int:
    """Run `work()`, print its summary as the last line, and turn errors into messages and exit codes.

    Args:
        is_heard: False for processes that work for one that prints.
    """
    try:
        summary, code = work(), 0
    except (Exception, Stopped, KeyboardInterrupt) as error:
        code = error.exit_code if isinstance(error, CesrecError | Stopped) else 1
        if isinstance(error, KeyboardInterrupt):
            code = INTERRUPTED
        summary = {"status": "refused" if code == 4 else "failed", "error": _tell(error), **run_of(error)}
    if is_heard:
        _print_last(json.dumps(_without_nan({"job": job, **summary}), default=str))
    return code


def _print_last(line: str) -> None:
    try:
        print(line, flush=True)
    except BrokenPipeError:
        # Whoever listened is gone, spark-submit for one. Python would flush once more at its end, and complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell(error: BaseException) -> str:
    """Log an error, and return what the summary may say of it."""
    if isinstance(error, CesrecError | Stopped):
        reason = str(error)
        log.error("%s", reason)
    elif isinstance(error, KeyboardInterrupt):
        reason = "Interrupted. Start again as before: what is done is kept."
        log.error("%s", reason)
    elif is_spark_gone(error):
        reason = "Spark has ended under this job: its process was stopped, or killed. Start again: what is done is kept."
        log.error("%s", reason)
    elif is_disk_full(error):
        reason = "A disk is full (No space left on device). Make room, and start again: what is done is kept."
        log.error("%s", reason)
    elif is_out_of_memory(error):
        reason = (
            "There was no room in memory for what was asked. Give the job more, or lower lengths and batch sizes of the "
            "section that was at work (max_history_items, batch_size, tokens_per_batch). Then start again: what is done is "
            "kept."
        )
        log.error("%s", reason)
    else:
        # The type and place, without the message: what an unforeseen error quotes may be people's data.
        reason, place = type(error).__name__, traceback.extract_tb(error.__traceback__)[-1]
        log.error(
            "Unforeseen %s at %s:%d. Run again with CESREC_DEBUG=1 to see all of it.", reason, place.filename, place.lineno
        )
    if is_debugging():
        # Where a worker failed, what it failed on is the cause of an error of ours.
        log.error("All of it:", exc_info=error)
    return reason


def is_debugging() -> bool:
    """Whether somebody asked to see the whole of errors, whatever they quote."""
    return bool(os.environ.get("CESREC_DEBUG"))


def _without_nan(value: Any) -> Any:
    """The same with null for numbers that JSON does not know."""
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def reclaim_standard_error() -> None:
    """Undo spark-submit's merging of a job's standard error into its standard output.

    Its launcher gives both to one pipe, so that logs would stand among results and no progress bar would see a terminal.
    The launcher's own standard error is what the caller meant. Where it cannot be opened, all stays as it was.
    """
    if "PYSPARK_GATEWAY_PORT" not in os.environ or not os.path.sameopenfile(1, 2):
        return
    try:
        # Appending, since the launcher keeps an offset of its own into the same file.
        file = os.open(f"/proc/{os.getppid()}/fd/2", os.O_WRONLY | os.O_APPEND)
    except OSError:
        return
    os.dup2(file, 2)
    os.close(file)
    if hasattr(sys.stderr, "reconfigure"):
        sys.stderr.reconfigure(line_buffering=True)
