"""The command as a person runs it, on a world of 12 items whose order can be learned."""

import errno
import inspect
import itertools
import json
import math
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from matplotlib.figure import Figure
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch.optim.swa_utils import AveragedModel

import cesrec_core.recommenders.losses
import cesrec_core.recommenders.training_data
from cesrec_core.config import TrainRecommenderSection, load_config
from cesrec_core.locks import checkpoint_folder, take_training_lock
from cesrec_core.processes import ProcessGroup
from cesrec_core.recommenders import RECOMMENDERS, checkpoint
from cesrec_core.recommenders.artifact import load_recommender
from cesrec_core.recommenders.losses import NegativeSampler

COMMAND = Path(__file__).parents[2] / "training" / "train_recommender.py"
# The built-in defaults: what is chosen for the demo does not suit so small a world.
CONFIG = COMMAND.parents[1] / "conf" / "base.yaml"
SMALL = ["embedding_dim=16", "num_blocks=1", "dropout=0.0", "max_history_items=8", "batch_size=16", "learning_rate=0.02"]
NEVER_TRAINED_ON = "zz"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 users walk round a ring of 12 items; one more item is only ever a test target."""
    folder = tmp_path_factory.mktemp("ring")
    ring = [f"i{item:02d}" for item in range(12)]
    walks = [[ring[(user + step) % 12] for step in range(9)] for user in range(40)]
    walks[0][-1] = NEVER_TRAINED_ON
    users = [f"u{user:02d}" for user in range(40) for _ in range(9)]
    items = [item for walk in walks for item in walk]
    interactions = {"user_id": users, "item_id": items, "timestamp": list(range(len(items)))}
    pq.write_table(pa.table(interactions), folder / "interactions.parquet")
    catalogue = [*ring, NEVER_TRAINED_ON, "unused"]
    pq.write_table(pa.table({"item_id": catalogue, "title": catalogue}), folder / "items.parquet")
    return folder


def command_line(dataset: Path, out: Path, *more: str) -> list[str]:
    small = [argument for value in SMALL for argument in ("--set", f"train_recommender.{value}")]
    return ["--config", str(CONFIG), "--dataset", str(dataset), "--out", str(out), *small, *more]


def train(dataset: Path, out: Path, *more: str) -> int:
    """In this process, since starting one costs seconds; `trained` below starts a real one."""
    exit_code: int = runpy.run_path(str(COMMAND))["main"](command_line(dataset, out, *more))
    return exit_code


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """To draw a learning curve takes ten times as long as these trainings do; `trained`, a process of its own, draws them."""
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kwargs: None)


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    out = tmp_path_factory.mktemp("artifacts") / "recommender"
    arguments = ["--set", "train_recommender.max_epochs=25", "--set", "run.run_date='2024-05-06'", "--artifact-id", "r7"]
    command = [sys.executable, str(COMMAND), *command_line(dataset, out, *arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    return out, json.loads(done.stdout)


def test_artifact_and_its_held_out_twin(trained: tuple[Path, dict[str, object]]) -> None:
    out, summary = trained
    model, manifest = load_recommender(out)
    twin, twin_manifest = load_recommender(out / "held_out_twin")
    assert summary["status"] == "done"
    assert (manifest.artifact_id, manifest.split, twin_manifest.split) == ("r7", "all", "leave_one_out")
    assert manifest.metrics == twin_manifest.metrics == summary["metrics"]
    of_content = {"content_hash": manifest.trained_on["content_hash"]}
    assert manifest.trained_on == {"run_date": "2024-05-06", "num_interactions": 40 * 9, "num_users": 40, **of_content}
    assert twin_manifest.trained_on["num_interactions"] == 40 * 7
    for folder in (out, out / "held_out_twin"):
        assert (folder / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert not (model.encode(torch.tensor([[1, 2]])) == twin.encode(torch.tensor([[1, 2]]))).all()


def test_ndcg_has_its_interval_over_users(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ranks 1, 1, 3 and beyond the list: mean 0.625, standard deviation sqrt(0.171875)."""
    script = runpy.run_path(str(COMMAND))
    monkeypatch.setitem(script["validation_metrics"].__globals__, "rank_targets", lambda *_: np.array([1, 1, 3, 11]))
    fitted = SimpleNamespace(model=None, progress=SimpleNamespace(best_epoch=1))
    data = SimpleNamespace(item_ids=["a"], sequences=[np.array([1])], validation_inputs=[], validation_targets=[])
    metrics = script["validation_metrics"](fitted, data)
    reach = 1.96 * math.sqrt(0.171875) / 2
    ends = [metrics[f"validation_ndcg_at_10{end}"] for end in ("_low", "", "_high")]
    assert ends == pytest.approx([0.625 - reach, 0.625, 0.625 + reach])


def test_vocabulary_is_what_was_trained_on(trained: tuple[Path, dict[str, object]]) -> None:
    """The test target of one user is unknown to the twin, which may not see it."""
    out, _ = trained
    ring = [f"i{item:02d}" for item in range(12)]
    assert load_recommender(out)[0].item_ids == [*ring, NEVER_TRAINED_ON]
    assert load_recommender(out / "held_out_twin")[0].item_ids == ring


def test_order_is_learned_and_beats_popularity(trained: tuple[Path, dict[str, object]]) -> None:
    metrics = load_recommender(trained[0])[1].metrics
    assert metrics["validation_ndcg_at_10"] > 0.9
    assert metrics["validation_hr_at_10"] == 1.0
    assert metrics["popularity_ndcg_at_10"] < 0.8
    assert 1 <= metrics["best_epoch"] <= 25


def test_recommends_the_next_item_of_the_ring(trained: tuple[Path, dict[str, object]]) -> None:
    model, _ = load_recommender(trained[0])
    histories = torch.tensor([[3, 4, 5], [10, 11, 12]])
    scores = model.encode(histories) @ model.item_vectors().T
    scores[:, 0] = -torch.inf
    assert scores.scatter(1, histories, -torch.inf).argmax(dim=1).tolist() == [6, 1]


def test_everything_is_fitted_for_as_long_as_was_best_for_the_twin(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert train(dataset, tmp_path / "out", "--set", "train_recommender.max_epochs=12") == 0
    _, manifest = load_recommender(tmp_path / "out")
    epochs = [record.getMessage() for record in caplog.records if record.getMessage().startswith("epoch ")]
    fitted_on_everything = [message for message in epochs if "validation" not in message]
    assert len(fitted_on_everything) == manifest.metrics["best_epoch"] < 12


def test_split_leave_one_out_has_no_twin_and_the_same_seed_gives_the_same_weights(dataset: Path, tmp_path: Path) -> None:
    arguments = ["--set", "train_recommender.max_epochs=2", "--set", "dataset.split=leave_one_out"]
    models = []
    for name in ("first", "again"):
        assert train(dataset, tmp_path / name, *arguments) == 0
        model, manifest = load_recommender(tmp_path / name)
        models.append((model, manifest))
        assert manifest.split == "leave_one_out"
        assert not (tmp_path / name / "held_out_twin").exists()
    (first, first_manifest), (again, again_manifest) = models
    assert first_manifest == again_manifest
    assert np.array_equal(first.item_vectors().numpy(), again.item_vectors().numpy())


@pytest.mark.parametrize(
    ("model", "loss"),
    [
        *((model, "cross_entropy") for model in sorted(RECOMMENDERS)),
        *(("sasrec", loss) for loss in ("sampled_softmax", "gbce", "bce")),
    ],
)
def test_every_model_and_every_loss_learns_the_ring(dataset: Path, tmp_path: Path, model: str, loss: str) -> None:
    arguments = [f"model={model}", f"loss={loss}", "max_epochs=60", "patience_epochs=20", "num_negatives=4"]
    overrides = [argument for value in arguments for argument in ("--set", f"train_recommender.{value}")]
    assert train(dataset, tmp_path / "out", *overrides, "--split", "leave_one_out") == 0
    metrics = load_recommender(tmp_path / "out")[1].metrics
    if model == "popularity":
        assert metrics["validation_ndcg_at_10"] == metrics["popularity_ndcg_at_10"]
    else:
        assert metrics["validation_ndcg_at_10"] > 0.9


@pytest.mark.parametrize("model", sorted(RECOMMENDERS))
def test_an_interrupted_training_goes_on_to_the_same_weights(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, model: str
) -> None:
    caplog.set_level("INFO")
    arguments = [f"model={model}", "loss=sampled_softmax", "max_epochs=4", "dropout=0.3", "averaged_epochs=1.5"]
    arguments += ["max_history_items=4", "shift_windows=true"]
    overrides = [argument for value in arguments for argument in ("--set", f"train_recommender.{value}")]
    assert train(dataset, tmp_path / "whole", *overrides) == 0

    save, num_saved = checkpoint.save_checkpoint, 0

    def save_and_fail(*args: object) -> None:
        nonlocal num_saved
        save(*args)
        num_saved += 1
        # Once while the twin is trained, once while everything is fitted.
        if num_saved in (2, 5):
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_checkpoint", save_and_fail)
    for _ in range(3):
        if (code := train(dataset, tmp_path / "parts", *overrides)) == 0:
            break
        assert code == 130
        assert not (tmp_path / "parts").exists()
    assert (num_saved > 4) == (model not in ("markov", "popularity"))
    assert ("going on after epoch 2" in caplog.text) == (num_saved > 4)
    for folder in ("", "held_out_twin"):
        whole, parts = (load_recommender(tmp_path / name / folder)[0].state_dict() for name in ("whole", "parts"))
        assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert not (tmp_path / "parts.checkpoint").exists()


@pytest.mark.parametrize("model", ["sasrec", "esasrec", "hstu", "gru4rec"])
def test_mixed_precision_takes_nearly_the_same_steps(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, model: str
) -> None:
    """Forward passes are rounded to the three digits of bfloat16; weights and losses stay in float32."""
    caplog.set_level("INFO")
    curves = []
    for precision in ("float32", "bfloat16"):
        caplog.clear()
        settings = [f"model={model}", "positions=rotary", "max_epochs=3", f"precision={precision}"]
        values = [argument for setting in settings for argument in ("--set", f"train_recommender.{setting}")]
        assert train(dataset, tmp_path / precision, "--split", "leave_one_out", *values) == 0
        curves.append([record.args[1] for record in caplog.records if record.msg.startswith("epoch ")])
        weights = load_recommender(tmp_path / precision)[0].state_dict()
        assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    whole, rounded = curves
    assert len(whole) == 3
    assert rounded == pytest.approx(whole, abs=0.05)
    assert rounded != pytest.approx(whole, abs=1e-6)


def test_what_a_model_does_not_read_is_named_and_its_artifact_loads(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = [f"train_recommender.{value}" for value in ("model=gru4rec", "positions=rotary", "num_heads=2", "max_epochs=1")]
    assert train(dataset, tmp_path / "out", *(argument for value in values for argument in ("--set", value))) == 0
    assert "train_recommender.num_heads, train_recommender.positions: not read with model gru4rec" in caplog.text
    assert load_recommender(tmp_path / "out")[1].settings["model"] == "gru4rec"


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("kind", [["model=sasrec"], ["model=esasrec", "positions=rotary"], ["model=hstu"], ["model=gru4rec"]])
def test_compiled_training_takes_the_same_steps(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, kind: list[str]
) -> None:
    caplog.set_level("INFO")
    compiled = []
    compile_states = torch.compile
    monkeypatch.setattr(torch, "compile", lambda *args, **kwargs: compiled.append(args) or compile_states(*args, **kwargs))
    curves = []
    for is_compiled in ("false", "true"):
        caplog.clear()
        settings = [*kind, "max_epochs=3", f"is_compiled={is_compiled}"]
        values = [argument for setting in settings for argument in ("--set", f"train_recommender.{setting}")]
        assert train(dataset, tmp_path / is_compiled, "--split", "leave_one_out", *values) == 0
        assert len(compiled) == (is_compiled == "true")
        curves.append([record.args for record in caplog.records if record.getMessage().startswith("epoch ")])
    eager, made_into_code = ([numbers[1] for numbers in curve] for curve in curves)
    assert len(eager) == 3
    assert made_into_code == pytest.approx(eager, abs=1e-4)


def test_the_seed_decides_the_weights(dataset: Path, tmp_path: Path) -> None:
    settings = ("--split", "leave_one_out", "--set", "train_recommender.max_epochs=1")
    for name, seed in (("first", 3), ("again", 3), ("other", 4)):
        assert train(dataset, tmp_path / name, *settings, "--set", f"run.seed={seed}") == 0
    first, again, other = (load_recommender(tmp_path / name)[0].state_dict() for name in ("first", "again", "other"))
    assert all(torch.equal(weight, again[name]) for name, weight in first.items())
    assert not all(torch.equal(weight, other[name]) for name, weight in first.items())


def test_every_epoch_has_negatives_of_its_own(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[torch.Tensor] = []
    draw = NegativeSampler.draw

    def remember(self: NegativeSampler, num_positions: int, generator: torch.Generator) -> torch.Tensor:
        drawn.append(draw(self, num_positions, generator))
        return drawn[-1]

    monkeypatch.setattr(NegativeSampler, "draw", remember)
    values = ("loss=sampled_softmax", "max_epochs=2", "batch_size=1000", "patience_epochs=5")
    more = [word for value in values for word in ("--set", f"train_recommender.{value}")]
    assert train(dataset, tmp_path / "out", "--split", "leave_one_out", *more) == 0
    first, second = drawn
    assert first.shape == second.shape and not torch.equal(first, second)


def test_every_epoch_has_dropout_of_its_own(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which torch draws from the seed that was set last."""
    seeds = []
    seed_all = torch.manual_seed
    monkeypatch.setattr(torch, "manual_seed", lambda seed: seeds.append(seed) or seed_all(seed))
    assert train(dataset, tmp_path / "out", "--split", "leave_one_out", "--set", "train_recommender.max_epochs=4") == 0
    assert len(set(seeds[-4:])) == 4


def test_a_missing_compiler_is_named(dataset: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(COMMAND), *command_line(dataset, tmp_path / "out")]
    environment = {**os.environ, "CXX": str(tmp_path / "g++"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [*command, "--set", "train_recommender.is_compiled=true"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 2
    assert "Install one, or set it to false." in json.loads(done.stdout.splitlines()[-1])["error"]
    assert not (tmp_path / "out").exists()


def test_moving_average_by_hand() -> None:
    """Over two steps, each step moves the average halfway to the weights; below one step it is the weights."""
    moving_average = runpy.run_path(str(COMMAND))["moving_average"]
    model = torch.nn.Linear(1, 1, bias=False)
    halfway, at_once = moving_average(model, 2.0), moving_average(model, 0.0)
    for weight, average in ((4.0, 4.0), (0.0, 2.0), (3.0, 2.5)):
        torch.nn.init.constant_(model.weight, weight)
        for averaged in (halfway, at_once):
            averaged.update_parameters(model)
        assert halfway.module.weight.item() == average
        assert at_once.module.weight.item() == weight


def stop_after_an_epoch(monkeypatch: pytest.MonkeyPatch, dataset: Path, out: Path, *more: str) -> None:
    """As somebody does who presses Ctrl-C: a checkpoint is left."""
    save = checkpoint.save_checkpoint

    def save_and_stop(*args: object) -> None:
        save(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_checkpoint", save_and_stop)
        assert train(dataset, out, *more) == 130


def with_two_items_swapped(dataset: Path, folder: Path) -> Path:
    """As much data as before, of the same users and items, in another order."""
    folder.mkdir()
    shutil.copyfile(dataset / "items.parquet", folder / "items.parquet")
    columns = pq.read_table(dataset / "interactions.parquet").to_pydict()
    items = columns["item_id"]
    other = next(
        place for place, item in enumerate(items) if item != items[0] and columns["user_id"][place] == columns["user_id"][0]
    )
    items[0], items[other] = items[other], items[0]
    pq.write_table(pa.table(columns), folder / "interactions.parquet")
    return folder


@pytest.mark.parametrize("what", ["data", "run.seed=9", "train_recommender.max_epochs=2"])
def test_a_checkpoint_of_something_else_is_not_continued(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    caplog.set_level("INFO")
    settings = ("--set", "train_recommender.max_epochs=3")
    stop_after_an_epoch(monkeypatch, dataset, tmp_path / "out", *settings)
    if what == "data":
        dataset = with_two_items_swapped(dataset, tmp_path / "swapped")
    else:
        settings = (*settings, "--set", what)
    assert train(dataset, tmp_path / "out", *settings) == 0
    assert "going on" not in caplog.text
    assert "of other data or other settings: training begins anew" in caplog.text


def test_a_training_that_ran_out_of_time_goes_on_with_more(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    settings = ("--split", "leave_one_out", "--set", "train_recommender.max_epochs=2")
    stop_after_an_epoch(monkeypatch, dataset, tmp_path / "out", *settings)
    assert train(dataset, tmp_path / "out", *settings, "--set", "train_recommender.timeout_minutes=9") == 0
    assert "going on" in caplog.text


def test_a_damaged_checkpoint_is_not_continued(dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    damaged = tmp_path / "out.checkpoint" / "leave_one_out.safetensors"
    damaged.parent.mkdir()
    damaged.write_bytes(b"half a file")
    assert train(dataset, tmp_path / "out", "--split", "leave_one_out", "--set", "train_recommender.max_epochs=1") == 0
    assert "leave_one_out.safetensors cannot be read" in caplog.text
    assert "training begins anew" in caplog.text


def test_a_checkpoint_of_another_version_of_the_code_is_not_continued(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One whose model had a tensor that it has no more."""
    settings = ("--split", "leave_one_out", "--set", "train_recommender.max_epochs=2")
    assert train(dataset, tmp_path / "whole", *settings) == 0
    stop_after_an_epoch(monkeypatch, dataset, tmp_path / "out", *settings)
    [file] = (tmp_path / "out.checkpoint").glob("*.safetensors")
    with safe_open(file, framework="pt") as opened:
        told = opened.metadata()
    save_file({**load_file(file), "model/scale": torch.ones(1)}, file, told)
    assert train(dataset, tmp_path / "out", *settings) == 0
    assert "of another version of the code: training begins anew" in caplog.text
    whole, again = (load_recommender(tmp_path / name)[0].state_dict() for name in ("whole", "out"))
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize("num_rows", [1, 2, 7])
def test_shares_of_a_batch_add_up_to_its_mean(num_rows: int) -> None:
    """What DistributedDataParallel makes of the shares, the mean over processes, is the mean over the batch's positions."""
    share_of_batch = runpy.run_path(str(COMMAND))["share_of_batch"]
    lengths = np.array([2, 9, 3, 5, 2, 4, 8])
    loss_of_row = np.array([0.3, 1.0, 0.2, 0.7, 0.9, 0.1, 0.4])
    rows = np.arange(num_rows)

    def mean_loss(chosen: np.ndarray) -> float:
        return float(np.average(loss_of_row[chosen], weights=lengths[chosen] - 1))

    shares = [share_of_batch(rows, lengths, ProcessGroup(rank, 2, torch.device("cpu"))) for rank in range(2)]
    assert np.mean([weight * mean_loss(mine) for mine, weight in shares]) == pytest.approx(mean_loss(rows))


def test_what_two_processes_are_refused_is_said_once(dataset: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(COMMAND), *command_line(tmp_path / "nowhere", tmp_path / "out")]
    command += ["--set", "train_recommender.num_processes=2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 3
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_two_processes_take_the_steps_that_one_does(dataset: Path, tmp_path: Path) -> None:
    """Without dropout and draws of negatives both see the same batches, so that weights differ by rounding alone."""
    arguments = ["--set", "train_recommender.max_epochs=4", "--split", "leave_one_out"]
    assert train(dataset, tmp_path / "1", *arguments) == 0
    arguments += ["--set", "train_recommender.num_processes=2"]
    command = [sys.executable, str(COMMAND), *command_line(dataset, tmp_path / "2", *arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    artifacts = [load_recommender(tmp_path / number) for number in ("1", "2")]
    assert json.loads(done.stdout.splitlines()[-1])["metrics"] == artifacts[1][1].metrics
    metrics = [manifest.metrics for _, manifest in artifacts]
    weights = [model.state_dict() for model, _ in artifacts]
    one, two = metrics
    assert two["validation_ndcg_at_10"] == pytest.approx(one["validation_ndcg_at_10"], abs=1e-6)
    assert two["popularity_ndcg_at_10"] == one["popularity_ndcg_at_10"]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=2e-3, rtol=0)


def every_item_once(sampler: NegativeSampler, num_positions: int, generator: torch.Generator) -> torch.Tensor:
    """Stands in for `NegativeSampler.draw`: what a position is compared with hangs on nothing."""
    items = torch.arange(1, len(sampler.probabilities))
    return items.repeat(-(-num_positions // len(items)), 1)


TRAINED_BY_TWO = f"""
import json, runpy, sys, torch
from torch import distributed
from cesrec_core.recommenders.losses import NegativeSampler
# One group for all trainings: one that was left may still hold the ports of the next.
leave, distributed.destroy_process_group = distributed.destroy_process_group, lambda: None
{inspect.getsource(every_item_once)}
draw = NegativeSampler.draw
for is_drawn, arguments in json.loads(sys.argv[1]):
    NegativeSampler.draw = draw if is_drawn else every_item_once
    assert runpy.run_path({str(COMMAND)!r})["main"](arguments) == 0
leave()
"""


@pytest.mark.slow
def test_two_processes_with_sampled_losses(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every item is everybody's negative they take the steps of one; with draws of their own they learn as well."""
    cases = [("sampled_softmax", False), ("gbce", False), ("sampled_softmax", True)]

    def arguments(number: str, loss: str, is_drawn: bool) -> list[str]:
        values = [f"loss={loss}", "num_negatives=12", f"max_epochs={12 if is_drawn else 4}"]
        overrides = [argument for value in values for argument in ("--set", f"train_recommender.{value}")]
        return command_line(dataset, tmp_path / f"{loss}-{is_drawn}-{number}", *overrides, "--split", "leave_one_out")

    script = tmp_path / "two.py"
    script.write_text(TRAINED_BY_TWO)
    lines = json.dumps([(is_drawn, arguments("2", loss, is_drawn)) for loss, is_drawn in cases])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script), lines]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    for loss, is_drawn in cases:
        with monkeypatch.context() as patch:
            if not is_drawn:
                patch.setattr(NegativeSampler, "draw", every_item_once)
            assert runpy.run_path(str(COMMAND))["main"](arguments("1", loss, is_drawn)) == 0
        (one, of_one), (two, of_two) = (load_recommender(tmp_path / f"{loss}-{is_drawn}-{number}") for number in ("1", "2"))
        assert of_two.metrics["validation_ndcg_at_10"] == pytest.approx(of_one.metrics["validation_ndcg_at_10"], abs=0.02)
        if not is_drawn:
            for name, tensor in one.state_dict().items():
                torch.testing.assert_close(two.state_dict()[name], tensor, atol=2e-3, rtol=0)


def test_training_stops_when_validation_does_and_keeps_the_best(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A learning rate that makes it jump, so that the best epoch is not the last."""
    caplog.set_level("INFO")
    values = ["max_epochs=40", "patience_epochs=2", "learning_rate=0.3"]
    overrides = [argument for value in values for argument in ("--set", f"train_recommender.{value}")]
    assert train(dataset, tmp_path / "out", "--split", "leave_one_out", *overrides) == 0
    curve = [record.args[2] for record in caplog.records if record.msg.startswith("epoch ")]
    curve = [float(measured.rsplit(" ", 1)[1]) for measured in curve]
    best = int(np.argmax(curve)) + 1
    metrics = load_recommender(tmp_path / "out")[1].metrics
    assert metrics["best_epoch"] == best
    assert len(curve) == best + 2 < 40
    assert curve[-1] < curve[best - 1]
    assert metrics["validation_ndcg_at_10"] == pytest.approx(curve[best - 1], abs=1e-4)


def test_gradients_are_clipped(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms = []
    step = torch.optim.Adam.step

    def watched(self: torch.optim.Adam, *args: object, **kwargs: object) -> object:
        gradients = [weight.grad.flatten() for group in self.param_groups for weight in group["params"]]
        norms.append(float(torch.cat(gradients).norm()))
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    values = ["max_epochs=1", "similarity=cosine", "temperature=0.01"]
    overrides = [argument for value in values for argument in ("--set", f"train_recommender.{value}")]
    assert train(dataset, tmp_path / "out", "--split", "leave_one_out", *overrides) == 0
    assert max(norms) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("num_healthy", "split", "is_kept"), [(0, "leave_one_out", False), (6, "leave_one_out", True), (12, "all", False)]
)
def test_a_training_that_diverges_is_not_published(
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    num_healthy: int,
    split: str,
    is_kept: bool,
) -> None:
    """Of the first steps the loss is finite. What validation had chosen before is kept; the epochs of a refit are fixed."""
    make_loss, losses = cesrec_core.recommenders.losses.make_loss, itertools.count(1)

    def make_diverging(*settings: Any) -> Any:
        loss = make_loss(*settings)
        return lambda *batch: loss(*batch) * (1.0 if next(losses) <= num_healthy else float("nan"))

    monkeypatch.setattr("cesrec_core.recommenders.losses.make_loss", make_diverging)
    out, settings = tmp_path / "out", ("--split", split, "--set", "train_recommender.max_epochs=3")
    assert train(dataset, out, *settings) == (0 if is_kept else 1)
    assert out.exists() == is_kept
    if is_kept:
        model, manifest = load_recommender(out)
        assert manifest.metrics["best_epoch"] <= 2
        assert all(bool(tensor.isfinite().all()) for tensor in model.state_dict().values())
    else:
        assert "Training diverged" in caplog.text


@pytest.mark.parametrize(("split", "max_epochs", "is_kept"), [("leave_one_out", 2, True), ("leave_last_out", 1, False)])
def test_a_last_step_that_spoils_the_weights_is_noticed(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str, max_epochs: int, is_kept: bool
) -> None:
    """The loss is that before the step, and a refit is never validated. An epoch is one step here, and the first is sound."""
    step, number = torch.optim.Adam.step, itertools.count(1)

    def spoiling(self: torch.optim.Adam) -> None:
        if next(number) > 1:
            for group in self.param_groups:
                for weight in group["params"]:
                    weight.grad = torch.full_like(weight, torch.nan)
        step(self)

    monkeypatch.setattr(torch.optim.Adam, "step", spoiling)
    out = tmp_path / "out"
    few = [f"train_recommender.{value}" for value in (f"max_epochs={max_epochs}", "batch_size=100000")]
    overrides = [word for value in few for word in ("--set", value)]
    assert train(dataset, out, "--split", split, *overrides) == (0 if is_kept else 1)
    assert out.exists() == is_kept
    if is_kept:
        model, manifest = load_recommender(out)
        assert manifest.metrics["best_epoch"] == 1
        assert all(bool(tensor.isfinite().all()) for tensor in model.state_dict().values())


def test_averaged_weights_are_what_is_validated_and_published(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside averages that are made here, of every step's weights."""
    made, ranked = [], []
    update, rank = AveragedModel.update_parameters, cesrec_core.recommenders.training_data.rank_targets
    expected: dict[str, torch.Tensor] = {}
    num_steps = 0

    def updating(self: AveragedModel, model: torch.nn.Module) -> None:
        nonlocal num_steps
        update(self, model)
        num_steps += 1
        for name, weight in model.named_parameters():
            now = weight.detach().clone()
            expected[name] = now if num_steps == 1 else expected[name] + (now - expected[name]) / per_average
        made.append(dict(expected))

    def ranking(model: Any, *targets: Any) -> Any:
        ranked.append({name: weight.detach().clone() for name, weight in model.named_parameters()})
        return rank(model, *targets)

    monkeypatch.setattr(AveragedModel, "update_parameters", updating)
    monkeypatch.setattr("cesrec_core.recommenders.training_data.rank_targets", ranking)
    per_average = 3.0
    few = [f"train_recommender.{value}" for value in ("max_epochs=3", "batch_size=100000", "averaged_epochs=3")]
    overrides = [word for value in few for word in ("--set", value)]
    assert train(dataset, tmp_path / "out", "--split", "leave_one_out", *overrides) == 0
    model, manifest = load_recommender(tmp_path / "out")
    assert num_steps == 3
    best = int(manifest.metrics["best_epoch"])
    for name, weight in model.named_parameters():
        assert torch.allclose(weight, made[best - 1][name], atol=1e-6), name
        for epoch in range(3):
            assert torch.allclose(ranked[epoch][name], made[epoch][name], atol=1e-6), (epoch, name)


@contextmanager
def endless_training(dataset: Path, out: Path, num_processes: int) -> Iterator[subprocess.Popen[str]]:
    """A process of its own, once its first epoch is kept."""
    values = ["max_epochs=100000", "patience_epochs=100000", f"num_processes={num_processes}"]
    many = [argument for value in values for argument in ("--set", f"train_recommender.{value}")]
    command = [sys.executable, str(COMMAND), *command_line(dataset, out, *many)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        while not list(checkpoint_folder(out).glob("*.safetensors")):
            assert process.poll() is None
            time.sleep(0.1)
        yield process


@pytest.mark.parametrize("num_processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_sigterm_ends_a_training_with_its_code_and_a_summary(num_processes: int, dataset: Path, tmp_path: Path) -> None:
    with endless_training(dataset, tmp_path / "out", num_processes) as process:
        process.terminate()
        told = json.loads(process.communicate(timeout=120)[0].splitlines()[-1])
    assert process.returncode == 143
    assert (told["job"], told["status"]) == ("train_recommender", "failed")
    assert told["error"] == "Stopped by SIGTERM. Give the same command again: it goes on from its last checkpoint."
    assert list((tmp_path / "out.checkpoint").glob("*.safetensors"))
    # Nobody goes on with it: the lock of the training is free.
    take_training_lock(checkpoint_folder(tmp_path / "out")).close()


@pytest.mark.slow
def test_a_process_that_is_killed_ends_all_and_is_told_of(dataset: Path, tmp_path: Path) -> None:
    """As the kernel does where memory runs out."""
    with endless_training(dataset, tmp_path / "out", num_processes=2) as process:
        torchrun, *workers = psutil.Process(process.pid).children(recursive=True)
        next(worker for worker in workers if worker.environ().get("RANK") == "1").kill()
        told = json.loads(process.communicate(timeout=120)[0].splitlines()[-1])
    assert (process.returncode, told["job"], told["status"]) == (1, "train_recommender", "failed")
    assert not any(each.is_running() for each in (torchrun, *workers))
    take_training_lock(checkpoint_folder(tmp_path / "out")).close()


def test_more_processes_than_gpus_are_refused(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert train(dataset, tmp_path / "out", "--set", "train_recommender.num_processes=2") == 2
    assert "this machine has 1 GPUs" in json.loads(capsys.readouterr().out)["error"]


def test_epochs_cut_long_histories_at_other_places_where_asked_to() -> None:
    windows_of_epoch = runpy.run_path(str(COMMAND))["windows_of_epoch"]
    sequences = [np.arange(1, 31), np.arange(1, 5)]

    def epoch(is_shifted: bool, seed: int) -> list[list[int]]:
        settings = TrainRecommenderSection(max_history_items=8, shift_windows=is_shifted)
        return [window.tolist() for window in windows_of_epoch(sequences, settings, np.random.default_rng(seed))]

    assert epoch(False, 0) == epoch(False, 1)
    assert len({str(epoch(True, seed)) for seed in range(6)}) > 2
    for windows in (epoch(False, 0), *(epoch(True, seed) for seed in range(6))):
        assert sorted(item for window in windows for item in window[1:]) == sorted([*range(2, 31), *range(2, 5)])


def test_negatives_are_drawn_by_how_often_items_occur_in_training(dataset: Path, tmp_path: Path) -> None:
    main = runpy.run_path(str(COMMAND))["main"]
    make_loss, given = main.__globals__["make_loss"], []
    main.__globals__["make_loss"] = lambda settings, counts: given.append(counts) or make_loss(settings, counts)
    more = ["--split", "leave_one_out", "--set", "train_recommender.max_epochs=1"]
    assert main(command_line(dataset, tmp_path / "out", *more)) == 0
    ring = [(user + step) % 12 for user in range(40) for step in range(7)]
    assert given[0].tolist() == [0, *np.bincount(ring, minlength=12).tolist()]


@pytest.mark.parametrize("model", ["sasrec", "hstu", "gru4rec", "markov", "popularity"])
def test_who_has_no_history_gets_what_is_popular(tmp_path: Path, model: str) -> None:
    """Item 0 is in every history, 1 in all but a few, and so on: a list made from nothing begins with the popular half."""
    random = np.random.default_rng(0)
    rows = [
        (f"u{user:03d}", f"i{item:02d}", place)
        for user in range(150)
        for place, item in enumerate(random.permutation([item for item in range(16) if random.random() < 0.97 - 0.06 * item]))
    ]
    users, items, times = zip(*rows, strict=True)
    pq.write_table(pa.table({"user_id": users, "item_id": items, "timestamp": times}), tmp_path / "interactions.parquet")
    ids = [f"i{item:02d}" for item in range(16)]
    pq.write_table(pa.table({"item_id": ids, "title": ids}), tmp_path / "items.parquet")
    more = ["--split", "leave_one_out", "--set", f"train_recommender.model={model}", "--set", "train_recommender.max_epochs=20"]
    assert train(tmp_path, tmp_path / "out", *more) == 0
    recommender, _ = load_recommender(tmp_path / "out")
    scores = recommender.item_vectors()[1:] @ recommender.average_state
    best = [recommender.item_ids[row] for row in scores.topk(5).indices.tolist()]
    assert all(item_id < "i08" for item_id in best)


def test_two_trainings_of_one_artifact_do_not_meet(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = runpy.run_path(str(COMMAND))
    mine = tmp_path / "out.checkpoint" / "notes.txt"
    held = script["take_training_lock"](script["checkpoint_folder"](tmp_path / "out"))
    mine.touch()
    assert train(dataset, tmp_path / "out") == 1
    assert f"out is being trained by process {os.getpid()} on" in json.loads(capsys.readouterr().out)["error"]
    held.close()
    assert train(dataset, tmp_path / "out", "--set", "train_recommender.max_epochs=1") == 0
    assert [path.name for path in mine.parent.iterdir()] == ["notes.txt"]


def test_the_dataset_is_not_looked_for_in_what_is_replaced(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    assert train(tmp_path / "out" / "data", tmp_path / "out") == 2
    assert "which the artifact" in json.loads(capsys.readouterr().out)["error"]


def test_what_nobody_foresaw_ends_in_a_line_of_json(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(dataset, tmp_path / "out", "--set", "train_recommender.embedding_dim=100000000000") == 1
    assert json.loads(capsys.readouterr().out)["status"] == "failed"


@pytest.mark.parametrize(
    ("module", "writer", "expected"),
    [
        (
            checkpoint,
            "save_file",
            f"There is no room in {tempfile.gettempdir()}, where leave_one_out.safetensors.unfinished is made",
        ),
        (shutil, "copyfile", "A disk is full (No space left on device). Make room"),
    ],
)
def test_a_disk_that_fills_up_is_told_and_the_training_goes_on_when_there_is_room(
    dataset: Path,
    tmp_path: Path,
    module: ModuleType,
    writer: str,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    settings = ("--split", "leave_one_out", "--set", "train_recommender.max_epochs=2")
    stop_after_an_epoch(monkeypatch, dataset, tmp_path / "out", *settings)

    def write_to_full_disk(*args: object) -> None:
        """Safetensors has words of its own for a file system without room, and no OSError."""
        if module is checkpoint:
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(module, writer, write_to_full_disk)
        assert train(dataset, tmp_path / "out", *settings) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["error"].startswith(expected)
    assert not (tmp_path / "out").exists()
    caplog.clear()
    assert train(dataset, tmp_path / "out", *settings) == 0
    assert "going on" in caplog.text


def test_a_refit_with_the_validation_item_keeps_its_twin(dataset: Path, tmp_path: Path) -> None:
    arguments = ["--set", "train_recommender.max_epochs=3", "--split", "leave_last_out"]
    assert train(dataset, tmp_path / "out", *arguments) == 0
    refit, twin = (load_recommender(tmp_path / "out" / folder)[1] for folder in ("", "held_out_twin"))
    assert (refit.split, twin.split) == ("leave_last_out", "leave_one_out")
    assert (refit.trained_on["num_interactions"], twin.trained_on["num_interactions"]) == (40 * 8, 40 * 7)


def test_who_has_nothing_in_training_is_no_user_of_it(dataset: Path, tmp_path: Path) -> None:
    """Users come one after the other here: those behind the moment of the split have no training interaction."""
    few = ["--set", "train_recommender.model=markov", "--set", "dataset.has_real_timestamps=true"]
    assert train(dataset, tmp_path / "out", *few, "--split", "global_timeline") == 0
    manifest = load_recommender(tmp_path / "out")[1]
    trained_on = manifest.trained_on
    # Nor is there anybody to validate with, and an interval of nobody.
    assert manifest.metrics["validation_ndcg_at_10"] == 0.0
    assert "validation_ndcg_at_10_low" not in manifest.metrics and np.isfinite(list(manifest.metrics.values())).all()
    num_users, remainder = divmod(trained_on["num_interactions"], 9)
    assert 20 < num_users < 40
    assert trained_on["num_users"] == num_users + (remainder > 0)


def test_processes_that_torchrun_was_asked_for_by_hand_make_another_artifact(dataset: Path, tmp_path: Path) -> None:
    script = runpy.run_path(str(COMMAND))
    arguments = script["parse_arguments"](command_line(dataset, tmp_path / "out"))
    names = []
    for configured, number in ((1, 1), (1, 2), (2, 2)):
        config = load_config(CONFIG, [f"train_recommender.num_processes={configured}"])
        names.append(script["content_hash"](script["read_inputs"](arguments, config), config, number))
    assert names[0] != names[1] == names[2]


def test_missing_data_is_exit_code_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path / "nowhere", tmp_path / "out") == 3
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["status"] == "failed"
    assert "items.parquet is missing" in summary["error"]
    assert not (tmp_path / "out").exists()


def test_the_folder_one_stands_in_may_become_the_artifact(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert train(dataset, Path(), "--split", "leave_one_out", "--set", "train_recommender.model=markov") == 0
    assert load_recommender(folder)[1].split == "leave_one_out"


def test_the_dataset_is_not_replaced_by_the_artifact(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(path.name for path in dataset.iterdir())
    assert train(dataset, dataset) == 2
    assert "holds something that is no trained artifact" in json.loads(capsys.readouterr().out)["error"]
    assert sorted(path.name for path in dataset.iterdir()) == before


def test_without_validation_items_only_counting_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    interactions = {"user_id": ["u", "u", "v", "v"], "item_id": ["a", "b", "a", "b"], "timestamp": [1, 2, 3, 4]}
    pq.write_table(pa.table(interactions), tmp_path / "interactions.parquet")
    pq.write_table(pa.table({"item_id": ["a", "b"], "title": ["A", "B"]}), tmp_path / "items.parquet")
    for split in ("leave_one_out", "all"):
        assert train(tmp_path, tmp_path / "out", "--split", split) == 3
        assert "has a validation item under split 'leave_one_out' that could be recommended: of 0, 0 were had" in caplog.text
        caplog.clear()
    assert train(tmp_path, tmp_path / "out", "--split", "all", "--set", "train_recommender.model=markov") == 0


def test_validation_items_that_nobody_can_be_recommended_are_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Who only ever has the same again: every epoch would score 0, and the first would be the best."""
    users = [f"u{user}" for user in range(9) for _ in range(8)]
    interactions = {"user_id": users, "item_id": ["a", "b"] * 36, "timestamp": list(range(72))}
    pq.write_table(pa.table(interactions), tmp_path / "interactions.parquet")
    pq.write_table(pa.table({"item_id": ["a", "b"], "title": ["A", "B"]}), tmp_path / "items.parquet")
    assert train(tmp_path, tmp_path / "out") == 3
    assert "of 9, 9 were had by their user before, and 0 stand in nobody's training part" in caplog.text
    assert "Bring people who come to items that are new to them" in caplog.text
    assert train(tmp_path, tmp_path / "out", "--set", "train_recommender.model=markov") == 0


def test_histories_without_a_transition_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    interactions = {"user_id": ["u", "u", "u"], "item_id": ["a", "b", "c"], "timestamp": [1, 2, 3]}
    pq.write_table(pa.table(interactions), tmp_path / "interactions.parquet")
    pq.write_table(pa.table({"item_id": ["a", "b", "c"], "title": ["A", "B", "C"]}), tmp_path / "items.parquet")
    assert train(tmp_path, tmp_path / "out") == 3
    assert "No user has two training items under split 'leave_one_out'" in caplog.text


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train_recommender.learning_rat=1", "Did you mean train_recommender.learning_rate?"),
        ("train_recommender.embedding_dim=many", "train_recommender.embedding_dim is 'many'"),
        ("seed=1", "not of the form section.key=value"),
    ],
)
def test_unusable_settings_are_exit_code_2(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, override: str, message: str
) -> None:
    assert train(dataset, tmp_path / "out", "--set", override) == 2
    assert message in caplog.text


def test_configuration_file_is_read(dataset: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("dataset: {split: leave_one_out}\ntrain_recommender: {max_epochs: 1}\n", encoding="utf-8")
    assert train(dataset, tmp_path / "out", "--config", str(config)) == 0
    _, manifest = load_recommender(tmp_path / "out")
    assert manifest.settings["max_epochs"] == 1
    assert manifest.settings["embedding_dim"] == 16


def test_each_curve_has_a_name_and_an_axis_of_its_colour() -> None:
    learning_curve = runpy.run_path(str(COMMAND))["learning_curve"]
    figure = learning_curve(checkpoint.Progress("", [3.0, 2.0, 1.5], [0.1, 0.3, 0.2], 2), "Training")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["training loss", "validation NDCG@10", "best epoch: 2"]
    losses, ndcg = figure.axes
    assert losses.yaxis.label.get_color() == losses.lines[0].get_color() != ndcg.lines[0].get_color()
    assert ndcg.yaxis.label.get_color() == ndcg.lines[0].get_color()
