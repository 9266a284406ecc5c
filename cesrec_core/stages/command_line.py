"""The command line that all jobs share: arguments, logging, exit codes, and the JSON object on the last line."""

import argparse
import json
import logging
import math
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from cesrec_core.config import Config, load_config
from cesrec_core.errors import CesrecError, is_disk_full
from cesrec_core.stages.context import Stage
from cesrec_core.stages.nightly import NIGHTLY
from cesrec_core.stages.runner import run_job

log = logging.getLogger("cesrec")

DEFAULT_CONFIG = "conf/local.yaml"
EXIT_CODES = """\
exit codes:
  0  done, or nothing to do
  2  configuration or command line cannot be used
  3  input data refused; where ingest refused it, no table was changed
  4  a quality gate refused to publish; consumers go on reading the run before
  1  anything else

The last line of standard output is one JSON object; plans and tables stand before it. Everything else goes to standard
error."""


class JobParser(argparse.ArgumentParser):
    """Keeps the promise of a JSON object on the last line for a command line that cannot be used, too."""

    def error(self, message: str) -> NoReturn:
        reclaim_standard_error()
        self.print_usage(sys.stderr)
        print(f"{self.prog}: {message}", file=sys.stderr)
        print(json.dumps({"job": Path(self.prog).stem, "status": "failed", "error": message}), flush=True)
        self.exit(2)


def parser_for(description: str) -> argparse.ArgumentParser:
    parser = JobParser(
        description=description, epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", default=DEFAULT_CONFIG, help="YAML configuration (default: %(default)s)")
    parser.add_argument("--run-date", metavar="YYYY-MM-DD", help="date the run stands for (default: today in UTC)")
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="SECTION.KEY=VALUE",
        action="append",
        default=[],
        help="override one value of the configuration; may be repeated",
    )
    return parser


def configuration(arguments: argparse.Namespace) -> Config:
    overrides = list(arguments.overrides)
    if arguments.run_date is not None:
        overrides.append(f"run.run_date='{arguments.run_date}'")
    return load_config(Path(arguments.config), overrides)


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
    sys.stderr.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def finish(job: str, work: Callable[[], dict[str, Any]]) -> int:
    """Run `work()`, print its summary as the last line, and turn errors into messages and exit codes."""
    reclaim_standard_error()
    # Libraries log to the root: Py4J a traceback whenever an idle connection is opened anew.
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"
    )
    for own in ("cesrec", "cesrec_core"):
        logging.getLogger(own).setLevel(logging.INFO)
    try:
        summary = work()
        code = 0
    except CesrecError as error:
        log.error("%s", error)
        run = {"run_id": error.run_id} if error.run_id is not None else {}
        summary = {**run, "status": "refused" if error.exit_code == 4 else "failed", "error": str(error)}
        code = error.exit_code
    except Exception as error:
        reason = type(error).__name__
        if is_disk_full(error):
            reason = "A disk is full (No space left on device). Make room, and start again: what is done is kept."
            log.error("%s", reason)
        else:
            # The type and place, without the message: what an unforeseen error quotes may be people's data.
            place = traceback.extract_tb(error.__traceback__)[-1]
            log.error(
                "Unforeseen %s at %s:%d. Run again with CESREC_DEBUG=1 to see all of it.", reason, place.filename, place.lineno
            )
        if _is_debugging():
            traceback.print_exc()
        summary, code = {"status": "failed", "error": reason}, 1
    print(json.dumps(_without_nan({"job": job, **summary}), default=str), flush=True)
    return code


def _without_nan(value: Any) -> Any:
    """The same with null for numbers that JSON does not know."""
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def run_stages(job: str, description: str, stages: Sequence[Stage]) -> int:
    """The whole of a stage job."""
    return _run(job, _parser_with_plan(description).parse_args(), stages)


def run_one_stage(name: str) -> int:
    """The job of a single stage, so that a scheduler can retry it alone."""
    return run_stage(name, parser_for_stage(name).parse_args())


def parser_for_stage(name: str, besides: str = "") -> argparse.ArgumentParser:
    """The command line of a single stage's job; `besides` says what else the job does."""
    stage = _stage(name)
    reads, writes = ", ".join(stage.reads) or "the sources of the dataset", ", ".join(stage.writes)
    description = f"Run the stage {name} of the nightly job. Reads: {reads}. Writes: {writes}."
    return _parser_with_plan(f"{description}\n\n{besides}" if besides else description)


def run_stage(name: str, arguments: argparse.Namespace) -> int:
    return _run(name, arguments, [_stage(name)])


def _stage(name: str) -> Stage:
    return next(stage for stage in NIGHTLY if stage.name == name)


def _parser_with_plan(description: str) -> argparse.ArgumentParser:
    parser = parser_for(description)
    parser.add_argument("--dry-run", action="store_true", help="print the plan and change nothing")
    return parser


def _run(job: str, arguments: argparse.Namespace, stages: Sequence[Stage]) -> int:
    return finish(job, lambda: run_job(configuration(arguments), stages, arguments.dry_run, f"cesrec {job}"))


def _is_debugging() -> bool:
    return bool(os.environ.get("CESREC_DEBUG"))
