"""What a job's log lines look like to a log service."""

import json
import logging
import sys
import warnings
from collections.abc import Iterator

import pytest

from cesrec_core import logs
from cesrec_core.config import Config
from cesrec_core.logs import are_json, enter_run, enter_stage, write_logs_as


@pytest.fixture
def json_lines() -> Iterator[None]:
    write_logs_as("json")
    yield
    write_logs_as("text")
    enter_run("")


def test_every_line_names_time_level_run_and_stage(json_lines: None, capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("cesrec_core.somewhere")
    enter_run("a75b")
    log.info("the plan")
    enter_stage("recommend")
    log.warning("   %d users\nof two kinds", 3, extra={"fields": {"seconds": 1.5}})
    enter_stage(None)
    logging.getLogger("some.library").info("chatter")
    logging.getLogger("some.library").error("trouble")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["level"], line["run_id"], line["stage"], line["message"]) for line in lines] == [
        ("INFO", "a75b", None, "the plan"),
        ("WARNING", "a75b", "recommend", "3 users\nof two kinds"),
        ("ERROR", "a75b", None, "trouble"),
    ]
    assert lines[1]["seconds"] == 1.5
    assert all(line["time"].endswith("+00:00") for line in lines)


def test_warnings_and_tracebacks_are_lines_too(json_lines: None, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError("odd")
    except ValueError:
        logging.getLogger("cesrec").error("All of it:", exc_info=True)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning("old", DeprecationWarning, "file.py", 3)
    trouble, warning = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert trouble["traceback"].endswith("ValueError: odd")
    assert "DeprecationWarning: old" in warning["message"]


def test_text_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert Config().run.log_format == "text"
    write_logs_as("text")
    logging.getLogger("cesrec").info("      ingest in 2.0 s")
    assert capsys.readouterr().err.endswith(" INFO       ingest in 2.0 s\n")


def test_lines_are_not_mixed_with_bars(json_lines: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert are_json()
    assert not logs.has_bars()
    write_logs_as("text")
    assert logs.has_bars()


def test_how_it_logs_does_not_change_what_comes_out() -> None:
    assert Config.model_validate({"run": {"log_format": "json"}}).result_hash() == Config().result_hash()
