"""What a training command's end means to the job that started it."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from cesrec_core.config import Config
from cesrec_core.errors import CesrecError, ConfigError, InputDataError, StageError
from cesrec_core.logs import enter_run, enter_stage, write_logs_as
from cesrec_core.stages import train_adapter, train_recommender, training_process
from cesrec_core.stages.context import RunContext
from cesrec_core.stages.training_process import run_training

Run = Any


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the given lines of Python as a training command."""
    monkeypatch.setattr(training_process, "shipped_folder", lambda name: tmp_path)
    config = Config.model_validate({"warehouse": {"path": str(tmp_path / "warehouse")}})

    class Folders:
        path = tmp_path / "warehouse"

    context = RunContext(config, None, Folders(), None, "run", dt.date(2026, 3, 2), {}, {})  # type: ignore[arg-type]

    def run(script: str, timeout_minutes: float = 1) -> dict[str, float]:
        (tmp_path / "train.py").write_text(script, encoding="utf-8")
        return run_training(context, "train.py", ["--quick"], timeout_minutes)  # type: ignore[arg-type]

    return run


def test_the_metrics_of_the_last_line_come_back(training: Run) -> None:
    script = 'print(\'epoch 1\')\nprint(\'{"metrics": {"loss": 0.5, "steps": 3, "name": "x"}}\')'
    assert training(script) == {"loss": 0.5, "steps": 3.0}


def test_it_is_told_the_configuration_and_its_own_arguments(training: Run) -> None:
    script = """
import json, sys, yaml
_, option, path, quick = sys.argv
assert (option, quick) == ("--config", "--quick")
is_date_of_run = int(yaml.safe_load(open(path))["run"]["run_date"] == "2026-03-02")
print(json.dumps({"metrics": {"is_date_of_run": is_date_of_run}}))
"""
    assert training(script) == {"is_date_of_run": 1.0}


@pytest.mark.parametrize(
    ("code", "kind", "exit_code"), [(1, StageError, 1), (2, ConfigError, 2), (3, InputDataError, 3), (137, StageError, 1)]
)
def test_what_is_wrong_there_is_wrong_here(training: Run, code: int, kind: type[CesrecError], exit_code: int) -> None:
    with pytest.raises(kind, match=f"train.py ended with {code}") as caught:
        training(f"raise SystemExit({code})")
    assert type(caught.value) is kind
    assert caught.value.exit_code == exit_code


@pytest.mark.parametrize("script", ["", "print('all went well')", "print('7')", "print('{\"loss\": 0.5}')"])
def test_an_end_without_a_summary_is_none(training: Run, script: str) -> None:
    with pytest.raises(StageError, match="without a summary line"):
        training(script)


def test_it_is_stopped_when_its_time_is_over(training: Run) -> None:
    with pytest.raises(StageError, match=r"still running after 0 minutes .* Raise train\.timeout_minutes and start again"):
        training("import time; time.sleep(60)", timeout_minutes=0)


def test_a_training_that_is_stopped_may_end_its_own_processes(training: Run, tmp_path: Path) -> None:
    """As torchrun does when it is asked to end, and cannot when it is killed."""
    script = f"""
import pathlib, signal, sys, time
def end(*_):
    pathlib.Path({str(tmp_path / "ended")!r}).touch()
    sys.exit(1)
signal.signal(signal.SIGTERM, end)
pathlib.Path({str(tmp_path / "began")!r}).touch()
time.sleep(60)
"""
    with pytest.raises(StageError, match="still running"):
        training(script, timeout_minutes=0.05)
    assert (tmp_path / "began").exists() and (tmp_path / "ended").exists()


def test_more_time_asks_for_no_other_model(training: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it reach a training as anything but its limit."""
    monkeypatch.setattr(train_adapter, "extractor_id", lambda section: "extractor")
    given: list[float] = []
    monkeypatch.setattr(train_adapter, "export_features_for_adapter", lambda context, folder: folder)
    monkeypatch.setattr(train_recommender, "export_dataset", lambda context: Path("dataset"))
    monkeypatch.setattr(train_recommender, "training_notes", lambda context, settings: {})
    for stage in (train_adapter, train_recommender):
        monkeypatch.setattr(stage, "run_training", lambda context, script, arguments, minutes: given.append(minutes) or {})

    class Artifacts(RunContext):
        def artifact_id(self, kind: str) -> str:
            return kind

    class Tables:
        path = Path("warehouse")

        def version(self, table: object) -> int:
            return 1

    made = []
    for minutes in (5, 7):
        config = Config.model_validate({name: {"timeout_minutes": minutes} for name in ("train_recommender", "train_adapter")})
        context = Artifacts(config, None, Tables(), None, "run", dt.date(2026, 3, 2), {}, {})  # type: ignore[arg-type]
        made.append([stage.run(context) for stage in (train_adapter, train_recommender)])
    assert made[0] == made[1]
    assert given == [5, 5, 7, 7]


def test_what_training_says_becomes_lines_of_the_log_where_they_are_json(
    training: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    write_logs_as("json")
    enter_run("a75b")
    enter_stage("train_adapter")
    try:
        training("import sys\nprint('epoch 1', file=sys.stderr)\nprint('{\"metrics\": {}}')")
    finally:
        write_logs_as("text")
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [(line["run_id"], line["stage"], line["message"]) for line in lines][-1] == ("a75b", "train_adapter", "epoch 1")
