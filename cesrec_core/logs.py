"""What a job logs to standard error: plain text, or JSON lines that a log service can search by run and stage.

A job runs one stage of one run at a time, in one process, whatever threads its libraries start.
"""

import datetime as dt
import json
import logging
import sys
from dataclasses import dataclass
from typing import Literal

LogFormat = Literal["text", "json"]


@dataclass
class _Place:
    """Where the job is."""

    run_id: str | None = None
    stage: str | None = None


_place = _Place()


def enter_run(run_id: str) -> None:
    """What is logged from here on belongs to this run, and to no stage yet."""
    _place.run_id, _place.stage = run_id, None


def enter_stage(stage: str | None) -> None:
    """What is logged from here on belongs to this stage; None: to the run alone."""
    _place.stage = stage


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, run_id, stage, message, and what `extra={"fields": ...}` adds."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "run_id": _place.run_id,
            "stage": _place.stage,
            "message": record.getMessage().strip(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class StandardError(logging.Handler):
    """Standard error as it is when something is logged: tests and spark-submit exchange it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


def write_logs_as(log_format: LogFormat) -> None:
    """Log to standard error: all of this project from INFO on, and warnings of libraries."""
    root = logging.getLogger()
    handler = _handler()
    if handler is None:
        handler = StandardError()
        root.addHandler(handler)
    text = logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    handler.setFormatter(JsonLines() if log_format == "json" else text)
    # Libraries log to the root: Py4J a traceback whenever an idle connection is opened anew.
    root.setLevel(logging.WARNING)
    # What it could not send or read is raised, too; its log repeats that with all it quotes.
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    logging.captureWarnings(log_format == "json")
    for own in ("cesrec", "cesrec_core"):
        logging.getLogger(own).setLevel(logging.INFO)


def are_json() -> bool:
    handler = _handler()
    return handler is not None and isinstance(handler.formatter, JsonLines)


def has_bars() -> bool:
    """Whether progress is drawn: somebody is looking, and nobody reads lines."""
    return sys.stderr.isatty() and not are_json()


def _handler() -> StandardError | None:
    return next((handler for handler in logging.getLogger().handlers if isinstance(handler, StandardError)), None)
