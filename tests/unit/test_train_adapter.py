"""The command as a person runs it, on vectors whose relation is known."""

import dataclasses
import json
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cesrec_core.adapter import Attempt, load_adapter
from cesrec_core.config import Config
from cesrec_core.stages import train_adapter

COMMAND = Path(__file__).parents[2] / "training" / "train_adapter.py"
# The built-in defaults: what is chosen for the demo does not suit so small a world.
CONFIG = COMMAND.parents[1] / "conf" / "base.yaml"


def command_line(features: Path, out: Path, *more: str) -> list[str]:
    quick = ["max_epochs=60", "learning_rate=0.01", "batch_size=32", "hidden_width=32"]
    settings = [argument for value in quick for argument in ("--set", f"train_adapter.{value}")]
    return ["--config", str(CONFIG), "--item-features", str(features), "--out", str(out), *settings, *more]


def train(features: Path, out: Path, *more: str) -> int:
    """In this process, since starting one costs seconds; the first test starts a real one."""
    exit_code: int = runpy.run_path(str(COMMAND))["main"](command_line(features, out, *more))
    return exit_code


def write_features(path: Path, is_related: bool) -> dict[str, torch.Tensor]:
    """The last 50 of 300 items have no collaborative vector; the file holds NaN there."""
    generator = torch.Generator().manual_seed(0)
    semantic = torch.randn(300, 8, generator=generator)
    collaborative = torch.randn(300, 4, generator=generator)
    if is_related:
        collaborative = semantic[:, :4] * 0.1
    has_collaborative = torch.ones(300, dtype=torch.uint8)
    has_collaborative[250:] = 0
    collaborative[250:] = torch.nan
    tensors = {"semantic": semantic, "collaborative": collaborative, "has_collaborative": has_collaborative}
    save_file(tensors, path)
    return tensors


def test_more_time_names_no_other_artifact() -> None:
    content_hash, vectors = runpy.run_path(str(COMMAND))["content_hash"], torch.zeros(2, 3)
    sections = ({}, {"timeout_minutes": 1}, {"max_epochs": 1})
    one, more_time, other = (content_hash(vectors, vectors, Config(train_adapter=section)) for section in sections)
    assert one == more_time != other


def test_aligned_at_the_first_attempt(tmp_path: Path) -> None:
    features = write_features(tmp_path / "features.safetensors", is_related=True)
    arguments = ["--artifact-id", "a7", "--parent", "recommender=r7", "--parent", "extractor=e7"]
    command = [sys.executable, str(COMMAND), *command_line(tmp_path / "features.safetensors", tmp_path / "adapter", *arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    model, manifest = load_adapter(tmp_path / "adapter")
    assert json.loads(line)["metrics"] == manifest.metrics
    assert (manifest.kind, manifest.artifact_id) == ("adapter", "a7")
    assert manifest.parents == {"recommender": "r7", "extractor": "e7"}
    assert manifest.trained_on["num_items"] == 250
    assert manifest.metrics["is_alignment_weak"] == 0.0
    assert manifest.metrics["num_attempts"] == 1.0
    aligned = model(features["semantic"][250:])
    assert (aligned - features["semantic"][250:, :4] * 0.1).abs().mean() < 0.04
    assert (tmp_path / "adapter" / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


def test_weak_alignment_is_tried_four_times_recorded_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="train_adapter")
    write_features(tmp_path / "features.safetensors", is_related=False)
    assert train(tmp_path / "features.safetensors", tmp_path / "adapter") == 0
    _, manifest = load_adapter(tmp_path / "adapter")
    assert manifest.metrics["is_alignment_weak"] == 1.0
    assert manifest.metrics["num_attempts"] == 4.0
    losses = [manifest.metrics[f"attempt_{number}_validation_normalised_mse"] for number in (1, 2, 3, 4)]
    published = int(manifest.metrics["published_attempt"])
    assert losses[published - 1] == min(losses) == manifest.metrics["validation_normalised_mse"]
    assert [manifest.metrics[f"attempt_{number}_hidden_width"] for number in (1, 2, 3, 4)] == [32, 32, 16, 16]
    assert "alignment is weak after 4 attempts" in caplog.text
    remedies = ["width", "more pairs", "smaller width", "lower learning rate"]
    assert manifest.trained_on["attempts"] == remedies
    told = [record.message for record in caplog.records if record.message.startswith("attempt")]
    assert [line.partition(":")[0] for line in told] == [f"attempt ({remedy})" for remedy in remedies]
    for figure in ("mse", "normalised_mse", "median_rank_share", "neighbour_rank_share"):
        of_attempts = [manifest.metrics[f"attempt_{number}_held_out_{figure}"] for number in (1, 2, 3, 4)]
        assert of_attempts[published - 1] == manifest.metrics[f"held_out_{figure}"]
        assert len(set(of_attempts)) > 1


def test_held_out_items_do_not_choose_what_is_published(tmp_path: Path) -> None:
    write_features(tmp_path / "features.safetensors", is_related=True)
    main = runpy.run_path(str(COMMAND))["main"]
    real = main.__globals__["fit_until_aligned"]

    def with_another(*arguments: Any) -> list[Attempt]:
        """The attempt, and one that is worse on validation items and looks better on those held out."""
        [attempt] = real(*arguments)
        figures = dict(attempt.fitted.metrics)
        figures |= {"validation_normalised_mse": 0.8, "held_out_normalised_mse": 0.0, "held_out_mse": 0.0}
        return [dataclasses.replace(attempt, fitted=dataclasses.replace(attempt.fitted, metrics=figures)), attempt]

    main.__globals__["fit_until_aligned"] = with_another
    assert main(command_line(tmp_path / "features.safetensors", tmp_path / "adapter")) == 0
    assert load_adapter(tmp_path / "adapter")[1].metrics["published_attempt"] == 2.0


@pytest.mark.parametrize(
    ("now", "before", "is_kept"),
    [
        (0.54, 0.5, True),
        (0.56, 0.5, False),  # by more than a tenth
        (0.995, 0.95, False),  # by less, but no audit would publish it
        (1.02, 0.995, True),  # nor would it have been published when it was trained: another training is no help
    ],
)
def test_an_adapter_is_kept_while_it_aligns_about_as_well_and_can_be_published(
    now: float, before: float, is_kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = SimpleNamespace(path=None)
    manifest = SimpleNamespace(metrics={"all_normalised_mse": before})
    context = SimpleNamespace(config=Config(), warehouse=warehouse, artifact=lambda kind: (None, manifest))
    monkeypatch.setattr(train_adapter, "settings", lambda _: {"seed": "1"})
    monkeypatch.setattr(train_adapter, "read_state", lambda *_: SimpleNamespace(notes={"settings": {"seed": "1"}}))
    monkeypatch.setattr(train_adapter, "alignment_now", lambda _: now)
    assert (train_adapter.good_enough(context) is not None) == is_kept


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["--item-features", "nowhere.safetensors"], 3, "There is no file nowhere.safetensors"),
        (["--parent", "recommender"], 2, "not of the form kind=id"),
        (["--set", "train_adapter=3"], 2, "not of the form section.key=value"),
    ],
)
def test_exit_codes_and_messages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], exit_code: int, message: str
) -> None:
    write_features(tmp_path / "features.safetensors", is_related=True)
    assert train(tmp_path / "features.safetensors", tmp_path / "adapter", *arguments) == exit_code
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["status"] == "failed"
    assert message in summary["error"]


def test_file_without_the_vectors(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_file({"semantic": torch.zeros(3, 2)}, tmp_path / "features.safetensors")
    assert train(tmp_path / "features.safetensors", tmp_path / "adapter") == 3
    assert "lacks the tensor 'collaborative'; it has semantic" in caplog.text


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"semantic": torch.zeros(300)}, "vectors are [300] and [300, 4]; they must be [N, H] and [N, D]"),
        ({"semantic": torch.zeros(299, 8)}, "vectors are [299, 8] and [300, 4]"),
        ({"has_collaborative": torch.ones(299)}, "has_collaborative is [299] beside 300 items"),
    ],
)
def test_tensors_that_do_not_pair_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, torch.Tensor], message: str
) -> None:
    file = tmp_path / "features.safetensors"
    save_file({**write_features(file, is_related=True), **changed}, file)
    assert train(file, tmp_path / "adapter") == 3
    assert message in json.loads(capsys.readouterr().out)["error"]


def test_an_adapter_that_diverged_is_not_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Squares of such vectors are beyond float32."""
    file = tmp_path / "features.safetensors"
    features = write_features(file, is_related=True)
    save_file({name: features[name][:40] * (1e25 if name == "collaborative" else 1) for name in features}, file)
    assert train(file, tmp_path / "adapter", "--set", "train_adapter.max_epochs=2") == 1
    assert "None of 4 trainings came to a finite error" in json.loads(capsys.readouterr().out)["error"]
    assert not (tmp_path / "adapter").exists()
