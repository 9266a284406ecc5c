import argparse
import errno
import json
import os
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cesrec_core.errors import (
    ArtifactError,
    BusyError,
    CesrecError,
    ConfigError,
    InputDataError,
    QualityGateError,
    SchemaError,
    StageError,
    attach_run,
)
from cesrec_core.job_parser import JobParser
from cesrec_core.logs import write_logs_as
from cesrec_core.stages import command_line
from cesrec_core.stages.command_line import configuration, finish, parser_for, run_one_stage

SECRET = "ada@example.org"
ROOT = Path(__file__).parents[2]


def raising(error: Exception) -> Any:
    def work() -> dict[str, Any]:
        raise error

    return work


def last_line(text: str) -> dict[str, Any]:
    return json.loads(text.splitlines()[-1])


def test_a_summary_is_one_json_object_on_the_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> dict[str, Any]:
        print("Plan of run r")
        return {"run_id": "r", "status": "done", "where": Path("warehouse")}

    assert finish("recommend", work) == 0
    shown = capsys.readouterr().out
    assert last_line(shown) == {"job": "recommend", "run_id": "r", "status": "done", "where": "warehouse"}


def test_a_command_line_that_cannot_be_used_ends_in_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parser_for("a job").parse_args(["--frobnicate"])
    assert end.value.code == 2
    shown = capsys.readouterr()
    assert last_line(shown.out)["error"] == "unrecognized arguments: --frobnicate"
    assert "usage:" in shown.err


@pytest.mark.parametrize("uri", ["s3://bucket/night", "dbfs:/Volumes/night"])
@pytest.mark.parametrize(
    ("job", "option", "besides"),
    [
        ("export_recommendations", "--out", []),
        ("evaluate", "--artifact", ["--dataset", "ml-1m"]),
        ("understand_feedback", "--in", ["--items", "items.parquet"]),
    ],
)
def test_an_ordinary_file_or_folder_is_no_uri(
    job: str, option: str, besides: list[str], uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(__file__).parents[2] / "jobs" / f"{job}.py"
    monkeypatch.setattr(sys, "argv", [str(file), *besides, option, uri])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(file), run_name="__main__")
    assert end.value.code == 2
    assert last_line(capsys.readouterr().out)["error"].startswith(f"argument {option}: {uri} is a URI, but this has to be")


@pytest.mark.parametrize(
    ("kind", "code", "status"),
    [
        (CesrecError, 1, "failed"),
        (StageError, 1, "failed"),
        (ArtifactError, 1, "failed"),
        (BusyError, 1, "failed"),
        (ConfigError, 2, "failed"),
        (InputDataError, 3, "failed"),
        (SchemaError, 3, "failed"),
        (QualityGateError, 4, "refused"),
    ],
)
def test_an_error_raised_on_purpose_has_its_exit_code_and_words(
    kind: type[CesrecError], code: int, status: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finish("ingest", raising(kind("what to do"))) == code
    assert last_line(capsys.readouterr().out) == {"job": "ingest", "status": status, "error": "what to do"}


@pytest.mark.parametrize("error", [StageError("what to do"), MemoryError()], ids=["ours", "unforeseen"])
def test_a_run_that_failed_names_itself(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    attach_run(error, "r", {"report": "reports/r.html"})
    assert finish("ingest", raising(error)) == 1
    summary = last_line(capsys.readouterr().out)
    assert (summary["run_id"], summary["status"], summary["report"]) == ("r", "failed", "reports/r.html")


def test_every_error_of_the_tree_was_tried() -> None:
    assert {error.__name__ for error in (*CesrecError.__subclasses__(), *InputDataError.__subclasses__())} == {
        "StageError",
        "ArtifactError",
        "BusyError",
        "ConfigError",
        "InputDataError",
        "SchemaError",
        "QualityGateError",
    }


def test_an_unforeseen_error_is_told_by_type_and_place_alone(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CESREC_DEBUG", raising=False)
    assert finish("ingest", raising(ValueError(f"no such user: {SECRET}"))) == 1
    shown = capsys.readouterr()
    assert last_line(shown.out) == {"job": "ingest", "status": "failed", "error": "ValueError"}
    assert SECRET not in shown.out + shown.err + caplog.text
    assert "Unforeseen ValueError at" in caplog.text
    assert "test_command_line.py" in caplog.text


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "no room"), RuntimeError(f"java.io.IOException: No space left on device {SECRET}")],
    ids=["Python", "JVM"],
)
def test_a_full_disk_is_told_as_such(
    error: Exception, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert finish("ingest", raising(error)) == 1
    shown = capsys.readouterr()
    assert last_line(shown.out)["error"].startswith("A disk is full (No space left on device). Make room")
    assert SECRET not in shown.out + shown.err + caplog.text


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError(f"[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory {SECRET}"),
        RuntimeError(f"An error occurred while calling o1.collect: java.lang.OutOfMemoryError: Java heap space {SECRET}"),
    ],
    ids=["Python", "system", "PyTorch", "JVM"],
)
def test_memory_that_is_full_is_told_as_such(
    error: Exception, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert finish("ingest", raising(error)) == 1
    shown = capsys.readouterr()
    assert last_line(shown.out)["error"].startswith("There was no room in memory for what was asked. Give the job more")
    assert SECRET not in shown.out + shown.err + caplog.text


ON_SPARK = """
import sys
from py4j.java_gateway import GatewayParameters, JavaGateway
from cesrec_core.job_parser import end_in_json
from cesrec_core.logs import write_logs_as

class OfJava(Exception):
    def __str__(self):
        return ask()

def ask():
    return JavaGateway(gateway_parameters=GatewayParameters(port=9)).jvm.System.currentTimeMillis()

def fail():
    raise OfJava

write_logs_as("text")
sys.exit(end_in_json("ingest", locals()[sys.argv[1]]))
"""


@pytest.mark.parametrize("work", ["ask", "fail"], ids=["asked", "asked what an error of Java says"])
def test_a_spark_that_is_gone_is_told_as_such_also_where_nobody_listens(work: str) -> None:
    """As where SIGTERM ends spark-submit: its process takes both Spark and the reader of standard output along."""
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", ON_SPARK, work]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment, check=False, timeout=60)
    os.close(writer)
    assert done.returncode == 1
    assert " ERROR Spark has ended under this job" in done.stderr
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr


@pytest.mark.parametrize("is_caused", [False, True], ids=["unforeseen", "the cause of one of ours"])
@pytest.mark.parametrize("is_debugging", [False, True])
def test_debugging_shows_all_of_it(
    is_debugging: bool, is_caused: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> dict[str, Any]:
        try:
            raise ValueError(SECRET)
        except ValueError as error:
            if is_caused:
                raise StageError("The shard failed 3 times, last with ValueError.") from error
            raise

    monkeypatch.setenv("CESREC_DEBUG", "1" if is_debugging else "")
    finish("ingest", work)
    shown = capsys.readouterr()
    assert (f"ValueError: {SECRET}" in shown.err) == is_debugging
    assert SECRET not in shown.out


def test_arguments_become_configuration(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("mask_outliers: {num_masked: 1}\n", encoding="utf-8")
    arguments = ["--config", str(tmp_path / "c.yaml"), "--run-date", "2026-03-02", "--set", "mask_outliers.num_masked=2"]
    config = configuration(parser_for("x").parse_args(arguments))
    assert config.run.run_date == "2026-03-02"
    assert config.mask_outliers.num_masked == 2


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["--set", "run.log_format=json", "--set", "mask_outliers.num_masked=-1"], "mask_outliers.num_masked"),
        (["--run-date", "2026-02-30", "--set", "run.log_format='json'"], "--run-date 2026-02-30"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_told_as_json_where_that_was_asked_for(
    asked: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["jobs/recommend.py", *asked])
    try:
        assert run_one_stage("recommend") == 2
    finally:
        write_logs_as("text")
    line = json.loads(capsys.readouterr().err.strip())
    assert line["level"] == "ERROR" and told in line["message"]


@pytest.mark.parametrize("date", ["2026-02-30", "yesterday", "it's late", "20260302", "2026-W10-1"])
def test_a_date_that_is_none_is_refused(date: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("{}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"--run-date .*YYYY-MM-DD"):
        configuration(parser_for("x").parse_args(["--config", str(tmp_path / "c.yaml"), "--run-date", date]))


@pytest.mark.parametrize(
    ("job", "needed"),
    [
        ("report", []),
        ("export_recommendations", []),
        ("roll_back", ["--run-id", "x"]),
        ("maintain", []),
        ("explain_mask", ["--user-id", "x"]),
        ("explain_recommendation", ["--user-id", "x", "--item-id", "x"]),
    ],
)
def test_a_job_that_takes_what_is_there_is_given_no_date(
    job: str, needed: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(__file__).parents[2] / "jobs" / f"{job}.py"
    monkeypatch.setattr(sys, "argv", [str(file), *needed, "--run-date", "2026-03-02"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(file), run_name="__main__")
    assert end.value.code == 2
    assert last_line(capsys.readouterr().out)["error"] == "unrecognized arguments: --run-date 2026-03-02"


def test_an_unknown_argument_exits_with_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["jobs/recommend.py", "--dry"])
    with pytest.raises(SystemExit) as caught:
        run_one_stage("recommend")
    assert caught.value.code == 2
    assert "unrecognized arguments: --dry" in capsys.readouterr().err


def test_help_tells_reads_writes_and_exit_codes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["jobs/recommend.py", "--help"])
    with pytest.raises(SystemExit):
        run_one_stage("recommend")
    shown = capsys.readouterr().out
    assert "\nwrites: recommendations\n" in shown
    assert "section recommend: base, top_k, " in shown
    assert "once in every run" in shown
    assert "  spark-submit jobs/recommend.py --run-date 2026-03-02 --dry-run\n" in shown
    assert "4  a quality gate refused to publish" in shown


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "jobs").glob("*.py")), ids=lambda path: path.stem)
def test_every_job_has_a_manual(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(path), run_name="__main__")
    assert end.value.code == 0
    shown = capsys.readouterr().out
    parts = ("usage: ", "options:", "examples:", "exit status:", "output:", "files:")
    assert [shown.index(part) for part in parts] == sorted(shown.index(part) for part in parts)
    examples = shown.split("examples:\n")[1].split("\n\n")[0].splitlines()
    assert f"  spark-submit jobs/{path.name}" in examples[0]
    assert max(len(line) for line in shown.splitlines()) <= 128
    for example in examples:
        try_out(path, example.split("  #")[0], monkeypatch)


def try_out(path: Path, example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that a manual names is one that its job takes."""
    taken: list[tuple[argparse.Namespace, list[str]]] = []

    def parse(parser: argparse.ArgumentParser) -> None:
        words = shlex.split(example)
        taken.append(parser.parse_known_args(words[words.index(f"jobs/{path.name}") + 1 :]))
        raise SystemExit(0)

    with monkeypatch.context() as replaced:
        replaced.setattr(JobParser, "parse_args", parse)
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(path), run_name="__main__")
    assert end.value.code == 0, example
    ((_, not_known),) = taken
    assert not_known == [], example


@pytest.mark.parametrize(("arguments", "is_dry_run"), [(["--dry-run"], True), ([], False)])
def test_the_job_of_a_stage_runs_that_stage(
    arguments: list[str], is_dry_run: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "c.yaml").write_text("{}\n", encoding="utf-8")
    asked: list[Any] = []

    def record(config: object, stages: list[Any], dry: bool, app_name: str, earlier: list[Any]) -> dict[str, Any]:
        asked.append(([stage.name for stage in stages], dry, app_name, earlier[-1].name, len(earlier)))
        return {"status": "done"}

    monkeypatch.setattr(command_line, "run_job", record)
    monkeypatch.setattr(sys, "argv", ["jobs/recommend.py", "--config", str(tmp_path / "c.yaml"), *arguments])
    assert run_one_stage("recommend") == 0
    assert asked == [(["recommend"], is_dry_run, "cesrec recommend", "construct_pseudo_sequences", 11)]
