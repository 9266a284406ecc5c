"""The command line that all jobs share: arguments, logging, exit codes, and the JSON object on the last line."""

import argparse
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cesrec_core.config import Config, load_config
from cesrec_core.errors import ConfigError
from cesrec_core.job_parser import DEFAULT_CONFIG, JobParser, end_in_json, reclaim_standard_error
from cesrec_core.logs import write_logs_as
from cesrec_core.run_dates import is_date
from cesrec_core.stages.context import Stage
from cesrec_core.stages.nightly import NIGHTLY
from cesrec_core.stages.runner import run_job
from cesrec_core.stages.stopping import stopping_in_order

EXIT_CODES = """\
exit status:
  0  done, or nothing to do
  2  configuration or command line cannot be used
  3  input data refused; where ingest refused it, no table was changed
  4  a quality gate refused to publish; consumers go on reading the run before
  1  anything else: another run holds the warehouse, a training failed, a disk is full
  130  stopped by Ctrl-C
  143  stopped by SIGTERM; trainings and workers were ended first
  What ended with 1 or 143 is worth another try with the same run date: it resumes. 2, 3 and 4 come back until somebody has
  looked.

output:
  The last line of standard output is one JSON object; plans and tables stand before it. Everything else goes to standard
  error: as text, or with --set run.log_format=json as JSON lines that name run and stage.

files:
  conf/base.yaml explains every value of the configuration; CLUSTER.md how to run on Spark standalone, YARN, Kubernetes,
  Databricks and from Airflow. CESREC_DEBUG=1 in the environment shows the whole of an error, also of one in a worker; it may
  quote what people said."""


# Of stages after the first, in the description of their jobs.
WITHIN_A_RUN = (
    "; goes on with the unfinished run of the same date and configuration, even where inputs have changed since that began"
)


def parser_for(description: str, examples: Sequence[str] = ("",), has_date: bool = True) -> argparse.ArgumentParser:
    """The arguments of every job.

    Args:
        has_date: whether the job stands for a date; others take what is there.
        examples: what may stand behind the job's name, or whole commands; each may have a remark after two spaces and #.
    """
    prog = f"spark-submit jobs/{Path(sys.argv[0]).name}"
    whole = [example if example.startswith(("python ", "spark-submit ")) else f"{prog} {example}" for example in examples]
    shown = "\n".join(f"  {command.rstrip()}" for command in whole)
    parser = JobParser(
        prog=prog,
        description=description,
        epilog=f"examples:\n{shown}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", default=DEFAULT_CONFIG, help="YAML configuration (default: %(default)s)")
    if has_date:
        parser.add_argument(
            "--run-date",
            metavar="YYYY-MM-DD",
            help="date the run stands for: nothing later is used (default: today in UTC); give it with retries and "
            "backfills: another date is another run",
        )
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="SECTION.KEY=VALUE",
        action="append",
        default=[],
        help="override one value of the configuration, such as warehouse.path=/mnt/warehouse; may be repeated",
    )
    return parser


def configuration(arguments: argparse.Namespace) -> Config:
    """What the command line asks for; from here on the job logs as it says."""
    overrides = list(arguments.overrides)
    pairs = [override.partition("=") for override in overrides]
    formats = [value.strip(" '\"") for key, _, value in pairs if key.strip() == "run.log_format"]
    if formats[-1:] == ["json"]:
        # A scheduler's log service finds what is wrong with a configuration as it finds all else.
        write_logs_as("json")
    if (run_date := getattr(arguments, "run_date", None)) is not None:
        if not is_date(run_date):
            raise ConfigError(f"--run-date {run_date}: give a date as YYYY-MM-DD, such as 2026-03-02.")
        overrides.append(f"run.run_date='{run_date}'")
    config = load_config(Path(arguments.config), overrides)
    write_logs_as(config.run.log_format)
    return config


def finish(job: str, work: Callable[[], dict[str, Any]]) -> int:
    """The whole of a job; see `end_in_json`."""
    reclaim_standard_error()
    write_logs_as("text")

    def stoppable() -> dict[str, Any]:
        with stopping_in_order():
            return work()

    return end_in_json(job, stoppable)


def end_with(code: int) -> None:
    """The end of a job. One that went well just ends: Databricks takes any SystemExit for a failure, also that of 0."""
    if code:
        sys.exit(code)


def run_stages(
    job: str, description: str, stages: Sequence[Stage], examples: Sequence[str] = ("",), earlier: Sequence[Stage] = ()
) -> int:
    """The whole of a stage job."""
    return _run(job, _parser_with_plan(description, examples).parse_args(), stages, earlier)


def run_one_stage(name: str) -> int:
    """The job of a single stage, so that a scheduler can retry it alone."""
    return run_alone(name, parser_for_stage(name).parse_args())


def parser_for_stage(name: str, besides: str = "", more_examples: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The command line of a single stage's job; `besides` says what else the job does."""
    place = _place_of(name)
    description = describe_stage(NIGHTLY[place], place)
    examples = [
        "",
        "--run-date 2026-03-02 --set run.log_format=json  # as a scheduler runs it",
        "--run-date 2026-03-02 --dry-run",
        *more_examples,
    ]
    return _parser_with_plan(f"{description}\n\n{besides}" if besides else description, examples)


def run_alone(name: str, arguments: argparse.Namespace) -> int:
    """A single stage, as its job's command line says."""
    place = _place_of(name)
    return _run(name, arguments, [NIGHTLY[place]], NIGHTLY[:place])


def _place_of(name: str) -> int:
    return next(number for number, stage in enumerate(NIGHTLY) if stage.name == name)


def _parser_with_plan(description: str, examples: Sequence[str]) -> argparse.ArgumentParser:
    parser = parser_for(description, examples)
    parser.add_argument("--dry-run", action="store_true", help="print what would run and why, and change nothing")
    return parser


def _run(job: str, arguments: argparse.Namespace, stages: Sequence[Stage], earlier: Sequence[Stage]) -> int:
    app_name = f"cesrec {job}"
    return finish(job, lambda: run_job(configuration(arguments), stages, arguments.dry_run, app_name, earlier))


def describe_stage(stage: Stage, place: int) -> str:
    """What a stage is for, reads, writes and can be told, as the description of its job.

    Args:
        place: of the stage in the nightly job, from 0.
    """
    module = sys.modules[stage.run.__module__]
    purpose = " ".join((module.__doc__ or "").split("\n\n")[0].split())
    keys = list(type(section).model_fields) if (section := getattr(Config(), stage.name, None)) is not None else []
    when = (
        "where something that it reads, or its configuration, has changed since it ran last"
        if stage.fingerprint is not None
        else "once in every run"
    )
    if stage.good_enough is not None:
        when += ", by more than its limits for keeping what it made then"
    paragraphs = {
        "": f"Stage {place + 1} of {len(NIGHTLY)} of the nightly job, alone. {purpose}",
        "reads: ": ", ".join(stage.reads) or "the sources of the dataset",
        "writes: ": ", ".join(stage.writes),
        "runs: ": f"{when}; started again after a crash, where it stopped" + (WITHIN_A_RUN if place else ""),
        f"configuration, section {stage.name}: ": ", ".join(keys) or "none",
    }
    return "\n\n".join(textwrap.fill(title + text, width=110, break_on_hyphens=False) for title, text in paragraphs.items())
