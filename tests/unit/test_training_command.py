"""What the three training commands share: one default configuration, one last line, one way to fail."""

import argparse
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cesrec_core.artifacts import Manifest, write_manifest
from cesrec_core.config import Config, load_config
from cesrec_core.errors import CesrecError, InputDataError
from cesrec_core.training_command import Trained, run_training_command, training_parser

FOLDER = Path(__file__).parents[2] / "training"
OPTIONS = {
    "train_recommender": ["--dataset", "d", "--out", "o"],
    "train_adapter": ["--item-features", "f", "--out", "o"],
    "finetune_constructor": ["--dataset", "d", "--item-features", "f", "--out", "o"],
}
SECRET = "ada@example.org"
Train = Callable[[Config], Trained]


def run(out: Path, train: Train, *more: str) -> int:
    parser = training_parser("a training", "its data", has_parents=True)
    return run_training_command("a_training", parser.parse_args(["--out", str(out), *more]), train)


def succeed(config: Config) -> Trained:
    return Trained("a7", {"loss": 0.5, "unknown": float("nan")})


def failing(error: Exception) -> Train:
    def train(config: Config) -> Trained:
        raise error

    return train


def test_every_training_command_is_tried() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == {*OPTIONS, "__init__"}


@pytest.mark.parametrize("name", OPTIONS)
def test_all_of_them_go_this_way(name: str) -> None:
    given: list[tuple[str, argparse.Namespace]] = []

    def run_instead(job: str, options: argparse.Namespace, train: Train) -> int:
        given.append((job, options))
        return 5

    main = runpy.run_path(str(FOLDER / f"{name}.py"))["main"]
    main.__globals__["run_training_command"] = run_instead
    assert main(OPTIONS[name]) == 5
    [(job, options)] = given
    # As the jobs without arguments.
    assert (job, options.config, options.artifact_id) == (name, "conf/local.yaml", None)


@pytest.mark.parametrize("name", OPTIONS)
def test_an_artifact_lies_in_no_bucket(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(FOLDER / f"{name}.py"))["main"]([*OPTIONS[name], "--out", "s3://bucket/o"])
    assert end.value.code == 2
    assert "argument --out: s3://bucket/o is a URI" in json.loads(capsys.readouterr().out)["error"]


def test_without_a_configuration_it_is_that_of_the_jobs(tmp_path: Path) -> None:
    given: list[Config] = []
    assert run(tmp_path / "out", lambda config: given.append(config) or succeed(config), "--set", "run.seed=3") == 0
    assert given == [load_config("conf/local.yaml", ["run.seed=3"])]


def test_the_last_line_tells_what_was_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "out", succeed) == 0
    summary = json.loads(capsys.readouterr().out)
    assert 0 <= summary.pop("seconds") < 60
    assert summary == {
        "job": "a_training",
        "status": "done",
        "artifact_id": "a7",
        "out": str(tmp_path / "out"),
        "metrics": {"loss": 0.5, "unknown": None},
    }


def test_of_several_processes_the_first_alone_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert run(tmp_path / "out", succeed) == 0
    assert run(tmp_path / "out", failing(InputDataError("too few items"))) == 3
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("RANK", "0")
    assert run(tmp_path / "out", succeed) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "done"


@pytest.mark.parametrize("error", [InputDataError("too few items"), CesrecError("too little of it")])
def test_what_it_refuses_is_said_in_its_words(tmp_path: Path, capsys: pytest.CaptureFixture[str], error: CesrecError) -> None:
    assert run(tmp_path / "out", failing(error)) == error.exit_code
    assert json.loads(capsys.readouterr().out) == {"job": "a_training", "status": "failed", "error": str(error)}


def test_what_nobody_foresaw_is_told_by_type_and_place_alone(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CESREC_DEBUG", raising=False)
    assert run(tmp_path / "out", failing(ValueError(f"no such user: {SECRET}"))) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"job": "a_training", "status": "failed", "error": "ValueError"}
    assert SECRET not in shown.err + caplog.text
    assert "Unforeseen ValueError at" in caplog.text and "test_training_command.py" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "nowhere.yaml"], "There is no configuration file nowhere.yaml"),
        (["--set", "run=3"], "not of the form section.key=value"),
        (["--parent", "recommender"], "not of the form kind=id"),
        (["--parent", "=r7"], "not of the form kind=id"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(tmp_path / "out", failing(AssertionError("trained all the same")), *arguments) == 2
    assert message in json.loads(capsys.readouterr().out)["error"]


def test_only_another_artifact_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "letters.txt").touch()
    assert run(tmp_path, succeed) == 2
    assert "holds something that is no trained artifact" in json.loads(capsys.readouterr().out)["error"]
    (tmp_path / "letters.txt").unlink()
    write_manifest(tmp_path, Manifest("adapter", "a1", "all"))
    assert run(tmp_path, succeed) == 0


def test_parents_are_known_by_kind(tmp_path: Path) -> None:
    parser = training_parser("a training", "its data", has_parents=True)
    parents = ["--parent", "recommender=r7", "--parent", "extractor=e=7"]
    options = parser.parse_args(["--out", str(tmp_path / "out"), *parents])
    given: list[Any] = []
    assert run_training_command("a_training", options, lambda config: given.append(options.parents) or succeed(config)) == 0
    assert given == [{"recommender": "r7", "extractor": "e=7"}]
