"""The training command as it is launched: its artifact, its last line, its exit codes."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_llama import write_tiny_llama

from cesrec_core.artifacts import read_manifest
from cesrec_core.config import FinetuneConstructorSection, parse_config
from cesrec_core.constructor.artifact import load_constructor
from cesrec_core.constructor.model import ItemFeatures
from cesrec_core.datasets import Catalogue, Dataset, Histories
from cesrec_core.errors import ConfigError, InputDataError

ROOT = Path(__file__).parents[2]
NUM_ITEMS = 30


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """60 users, 30 items, item features and a tiny language model."""
    rng = np.random.default_rng(0)
    rows = [
        (f"u{user}", f"i{code:02d}", place)
        for user in range(60)
        for place, code in enumerate(rng.permutation(NUM_ITEMS)[: rng.integers(6, 20)])
    ]
    users, items, places = zip(*rows, strict=True)
    pq.write_table(pa.table({"user_id": users, "item_id": items, "position": places}), tmp_path / "interactions.parquet")
    catalogue = {
        "item_id": [f"i{code:02d}" for code in range(NUM_ITEMS)],
        "title": [f"Thing {code}" for code in range(NUM_ITEMS)],
        "attributes": [[("Red", "Blue", "Green")[code % 3]] for code in range(NUM_ITEMS)],
    }
    pq.write_table(pa.table(catalogue), tmp_path / "items.parquet")
    save_file(
        {"semantic": torch.randn(NUM_ITEMS, 6), "collaborative": torch.randn(NUM_ITEMS, 4)}, tmp_path / "features.safetensors"
    )
    (tmp_path / "config.yaml").write_text("dataset: {split: leave_one_out}\n")
    write_tiny_llama(tmp_path / "llama")
    return tmp_path


def finetune(world: Path, **values: object) -> subprocess.CompletedProcess[str]:
    command, environment = finetune_command(world, **values)
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)


def finetune_command(world: Path, **values: object) -> tuple[list[str], dict[str, str]]:
    section = {
        "model_path": world / "llama",
        "num_layers": 1,
        "num_steps": 4,
        "batch_size": 4,
        "num_validation_users": 8,
        **values,
    }
    command = [sys.executable, "training/finetune_constructor.py", "--config", str(world / "config.yaml")]
    command += ["--dataset", str(world), "--item-features", str(world / "features.safetensors"), "--out", str(world / "out")]
    command += ["--artifact-id", "c7", "--parent", "recommender=r3"]
    command += [part for key, value in section.items() for part in ("--set", f"finetune_constructor.{key}={value}")]
    return command, {**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"}


def test_a_finished_training_leaves_an_artifact_that_loads_and_one_line_about_it(world: Path) -> None:
    result = finetune(world)
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout.strip().splitlines()[-1])
    assert (summary["job"], summary["status"], summary["artifact_id"]) == ("finetune_constructor", "done", "c7")
    metrics = summary["metrics"]
    expected = {
        "masked_recall_at_10",
        "masked_recall_at_10_without",
        "masked_recall_at_10_shuffled",
        "words_worth_low",
        "words_worth_high",
    }
    assert expected | {"next_place_recall_at_10", "loss_first", "loss_last"} <= set(metrics)
    assert metrics["words_worth_low"] <= metrics["words_worth"] <= metrics["words_worth_high"]
    manifest = read_manifest(world / "out", "constructor")
    assert (manifest.artifact_id, manifest.split, manifest.parents) == ("c7", "leave_one_out", {"recommender": "r3"})
    # What it cost is told of this process alone: another that went on would have read less.
    assert metrics.pop("model_tokens") > 0
    assert manifest.metrics == metrics
    assert (world / "out" / "losses.png").stat().st_size > 1000
    header, *steps = (world / "out" / "losses.csv").read_text().splitlines()
    assert (header, len(steps)) == ("deciding,copying", 4)
    # A tenth of four steps is one.
    assert float(steps[0].split(",")[0]) == pytest.approx(metrics["loss_first"], abs=1e-6)
    assert re.findall(r"step (\d) of 4: .* nats; [1-9]\d* slots/s", result.stderr) == ["1", "4"]
    attributes = [(("Red", "Blue", "Green")[code % 3],) for code in range(NUM_ITEMS)]
    items = ItemFeatures(
        [f"Thing {code}" for code in range(NUM_ITEMS)], attributes, torch.zeros(NUM_ITEMS, 6), torch.zeros(NUM_ITEMS, 4)
    )
    assert load_constructor(world / "out", world / "llama", items).settings.num_layers == 1
    assert str(world) not in (world / "out" / "manifest.json").read_text()


REMOVES_LIKE_NFS = """
import os, runpy, sys
import like_nfs
os.unlink, os.rmdir = like_nfs.unlink, like_nfs.rmdir
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_training_on_nfs_ends_well_and_leaves_no_checkpoint(world: Path) -> None:
    (world / "on_nfs.py").write_text(REMOVES_LIKE_NFS)
    (interpreter, *command), environment = finetune_command(world, checkpoint_every_steps=2)
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    command = [interpreter, str(world / "on_nfs.py"), *command]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert read_manifest(world / "out", "constructor").artifact_id == "c7"
    assert not (world / "out.checkpoint").exists()


def saved_tensors(folder: Path) -> dict[str, torch.Tensor]:
    files = sorted(folder.glob("*.safetensors"))
    assert len(files) == 2
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def killed(world: Path, **values: object) -> None:
    """Train until a checkpoint is whole, and stop as a crash would."""
    command, environment = finetune_command(world, **values)
    running = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (world / "out.checkpoint" / "latest").is_file() and running.poll() is None:
        time.sleep(0.005)
    running.kill()
    assert running.wait() == -signal.SIGKILL


def test_a_training_that_was_killed_ends_with_the_weights_of_one_that_was_not(world: Path) -> None:
    values = {"num_steps": 60, "checkpoint_every_steps": 7}
    assert finetune(world, **values).returncode == 0
    (world / "out").rename(world / "whole")
    killed(world, **values)
    resumed = finetune(world, **values)
    assert resumed.returncode == 0, resumed.stderr
    assert "going on after step" in resumed.stderr
    assert not (world / "out.checkpoint").exists()
    whole, again = saved_tensors(world / "whole"), saved_tensors(world / "out")
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert read_manifest(world / "out", "constructor").metrics == read_manifest(world / "whole", "constructor").metrics
    assert (world / "out" / "losses.csv").read_bytes() == (world / "whole" / "losses.csv").read_bytes()


def test_a_training_that_was_killed_while_it_was_validated_takes_no_step_again(world: Path) -> None:
    killed(world, checkpoint_every_steps=100)
    resumed = finetune(world, checkpoint_every_steps=100)
    assert resumed.returncode == 0, resumed.stderr
    assert "going on after step 4" in resumed.stderr and " of 4: loss" not in resumed.stderr
    assert len((world / "out" / "losses.csv").read_text().splitlines()) == 1 + 4


def test_a_checkpoint_of_other_settings_is_not_gone_on_from(world: Path) -> None:
    (world / "out.checkpoint" / "step_2").mkdir(parents=True)
    (world / "out.checkpoint" / "latest").write_text("step_2")
    rows = {"losses": torch.zeros(2, 2, dtype=torch.float64), "cpu_generator": torch.get_rng_state()}
    save_file(rows, world / "out.checkpoint" / "step_2" / "process_0.safetensors", {"made_from": "other", "position": ""})
    result = finetune(world)
    assert result.returncode == 0, result.stderr
    assert "of other data or settings: training begins anew" in result.stderr


@pytest.mark.parametrize("states", ["model_states", "optim_states"])
def test_a_checkpoint_that_lacks_files_is_refused_by_name(world: Path, states: str) -> None:
    killed(world, num_steps=60, checkpoint_every_steps=7)
    (checkpoint,) = (world / "out.checkpoint").glob("step_*")
    for file in checkpoint.glob(f"*{states}.pt"):
        file.unlink()
    result = finetune(world, num_steps=60, checkpoint_every_steps=7)
    assert result.returncode == 1
    assert f"The checkpoint {checkpoint} is damaged (" in result.stderr
    assert f"Remove {world / 'out.checkpoint'} to begin the training anew." in result.stderr


def test_a_checkpoint_whose_name_was_never_written_is_not_gone_on_from(world: Path) -> None:
    (world / "out.checkpoint").mkdir()
    (world / "out.checkpoint" / "latest").touch()
    result = finetune(world)
    assert result.returncode == 0, result.stderr
    assert "latest is empty: training begins anew" in result.stderr


@pytest.mark.parametrize("stage", ["zero2", "zero3"])
def test_checkpointed_activations_change_memory_and_not_the_weights(world: Path, stage: str) -> None:
    values = {"deepspeed_config": f"conf/deepspeed/{stage}.json", "num_layers": 2}
    for folder, is_checkpointed in (("without", "false"), ("with", "true")):
        result = finetune(world, gradient_checkpointing=is_checkpointed, **values)
        assert result.returncode == 0, result.stderr
        assert "deprecated" not in result.stderr
        (world / "out").rename(world / folder)
    without = saved_tensors(world / "without")
    for name, tensor in saved_tensors(world / "with").items():
        torch.testing.assert_close(tensor, without[name], rtol=1e-4, atol=1e-6)


def test_two_processes_under_zero3_save_what_they_save_under_zero2(world: Path) -> None:
    """ZeRO-3 spreads every tensor over the processes, ZeRO-2 none: what is gathered has to be what was never apart."""
    for stage in ("zero2", "zero3"):
        settings = json.loads((ROOT / "conf" / "deepspeed" / f"{stage}.json").read_text())
        if stage == "zero3":
            # So small a model is kept whole otherwise, and there would be nothing to gather.
            settings["zero_optimization"]["stage3_param_persistence_threshold"] = 0
        (world / f"{stage}.json").write_text(json.dumps(settings))
        result = finetune(world, deepspeed_config=world / f"{stage}.json", num_processes=2)
        assert result.returncode == 0, result.stderr
        (world / "out").rename(world / stage)
    together, gathered = saved_tensors(world / "zero2"), saved_tensors(world / "zero3")
    assert together.keys() == gathered.keys()
    # The two add up gradients in another order, and Adam divides a gradient by its own size: of one that nearly cancels, the
    # last digits become a share of the step. A part that was lost or taken from elsewhere is off by whole steps.
    for name, tensor in gathered.items():
        torch.testing.assert_close(tensor, together[name], rtol=1e-4, atol=0.05 * FinetuneConstructorSection().learning_rate)
    # LoRA's second half starts at zero.
    assert any(name.endswith("lora_B.weight") and tensor.abs().max() > 0 for name, tensor in gathered.items())


def test_a_training_that_diverges_is_not_published(world: Path) -> None:
    result = finetune(world, learning_rate=1, lora_alpha=10**60)
    assert result.returncode == 1
    assert "Training diverged: the loss of step 1 is not finite. Lower finetune_constructor.learning_rate" in result.stderr
    assert not (world / "out").exists()


@pytest.mark.parametrize(
    ("values", "is_there", "is_not_there"),
    [
        ({"lora_targets": "[q_proj, v_proj]"}, "v_proj.lora_A", "k_proj.lora_A"),
        ({"use_dora": "true"}, "lora_magnitude_vector", "no such"),
        ({"use_rslora": "true"}, "k_proj.lora_A", "lora_magnitude_vector"),
    ],
)
def test_kinds_of_lora_are_trained_saved_and_loaded(
    world: Path, values: dict[str, object], is_there: str, is_not_there: str
) -> None:
    result = finetune(world, **values)
    assert result.returncode == 0, result.stderr
    names = " ".join(saved_tensors(world / "out"))
    assert is_there in names
    assert is_not_there not in names
    written = json.loads((world / "out" / "adapter_config.json").read_text())
    assert (written["use_dora"], written["use_rslora"]) == ("use_dora" in values, "use_rslora" in values)


def test_layers_that_the_model_lacks_are_refused_by_name(world: Path) -> None:
    result = finetune(world, lora_targets="[q_proj, query]")
    assert result.returncode == 2
    assert "the linear layers of the language model are named down_proj, gate_proj, k_proj" in result.stderr
    assert json.loads(result.stdout.strip().splitlines()[-1])["status"] == "failed"


def test_a_missing_model_is_a_configuration_error(world: Path) -> None:
    result = finetune(world, model_path=world / "nowhere")
    assert result.returncode == 2
    assert "There is no language model in" in result.stderr
    assert not (world / "out").exists()


def test_features_of_another_catalogue_are_refused(world: Path) -> None:
    save_file({"semantic": torch.zeros(29, 6), "collaborative": torch.zeros(29, 4)}, world / "features.safetensors")
    result = finetune(world)
    assert result.returncode == 3
    assert "should have one row for each of the 30 items" in result.stderr


def test_validation_goes_on_without_the_device_when_its_memory_is_full(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    class TooLarge(torch.nn.Module):
        def to(self, device: torch.device) -> "TooLarge":
            raise torch.OutOfMemoryError(f"{device} is full")

    model = TooLarge()
    monkeypatch.setattr(script, "measure", lambda *arguments: arguments)
    assert script.validated(model, torch.device("cuda"), "examples", 4, 7) == (model, "examples", 4, 7)
    moved = script.validated(torch.nn.Linear(2, 2), torch.device("meta"), "examples", 4, 7)[0]
    assert moved.weight.device.type == "meta"


def test_features_that_are_no_numbers_are_refused(script: ModuleType, tmp_path: Path) -> None:
    vectors = {"semantic": torch.ones(3, 6), "collaborative": torch.ones(3, 4)}
    vectors["collaborative"][1:, 2] = torch.tensor([torch.nan, torch.inf])
    save_file(vectors, tmp_path / "features.safetensors")
    catalogue = Catalogue(["a", "b", "c"], ["A", "B", "C"], [(), (), ()])
    with pytest.raises(InputDataError, match="`collaborative` of 2 items is not finite"):
        script.read_item_features(tmp_path / "features.safetensors", catalogue)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("finetune_constructor", ROOT / "training" / "finetune_constructor.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_learning_rate_warms_up_and_falls_in_straight_lines(script: ModuleType) -> None:
    """100 steps, 10 of warm-up: a tenth at the first, all at the tenth, half of it half way down, 5 % at the end."""
    section = FinetuneConstructorSection(num_steps=100, warmup_share=0.1)
    shares = [script.rate_share(step, section) for step in (0, 9, 10, 55, 99)]
    assert shares == pytest.approx([0.1, 1.0, 1.0, 0.5, 0.05])


def test_a_missing_deepspeed_configuration_is_named(script: ModuleType) -> None:
    with pytest.raises(
        ConfigError, match=r"no DeepSpeed configuration nowhere\.json\. Set finetune_constructor\.deepspeed_config"
    ):
        script.deepspeed_config(FinetuneConstructorSection(deepspeed_config="nowhere.json"))


@pytest.mark.parametrize(("content", "message"), [(b"{", "not valid JSON"), (b"\xff\xfe", "not valid JSON"), (b"[]", "a list")])
def test_a_damaged_deepspeed_configuration_is_named(script: ModuleType, tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "zero.json"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"{file} .*{message}.* Correct it"):
        script.deepspeed_config(FinetuneConstructorSection(deepspeed_config=str(file)))


@pytest.mark.parametrize("name", ["zero2", "zero3"])
def test_batch_size_and_rate_come_from_the_section(script: ModuleType, name: str) -> None:
    section = FinetuneConstructorSection(
        deepspeed_config=str(ROOT / f"conf/deepspeed/{name}.json"), batch_size=7, learning_rate=0.5
    )
    config = script.deepspeed_config(section)
    assert config["train_micro_batch_size_per_gpu"] == 7
    assert config["optimizer"]["params"]["lr"] == 0.5
    assert config["zero_optimization"]["stage"] == int(name[-1])


@pytest.mark.skipif(torch.cuda.is_available(), reason="bfloat16 is fine on an accelerator")
def test_bfloat16_without_an_accelerator_is_refused(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    section = FinetuneConstructorSection(dtype="bfloat16", deepspeed_config=str(ROOT / "conf/deepspeed/zero2.json"))
    with pytest.raises(ConfigError, match=r"dtype is bfloat16, which needs an accelerator\. Set it to float32"):
        script.start_deepspeed(section, ROOT, None, 0)


def dataset_of(histories: Sequence[Sequence[int]]) -> tuple[Dataset, ItemFeatures]:
    """Users with these items of 25."""
    catalogue = Catalogue([f"i{code:02d}" for code in range(25)], ["t"] * 25, [("Red",)] * 25)
    user_ids = [f"u{user:02d}" for user in range(len(histories))]
    codes, offsets = np.concatenate(histories).astype(np.int32), np.cumsum([0, *map(len, histories)])
    items = ItemFeatures(catalogue.titles, catalogue.attributes, torch.zeros(25, 3), torch.randn(25, 3))
    return Dataset(catalogue, Histories(user_ids, codes, offsets)), items


def test_validation_items_are_asked_for_and_not_trained_on(script: ModuleType) -> None:
    """Leave-one-out: the test item is nowhere, the validation item only as the target. `all`: validation users are left out."""
    dataset, items = dataset_of([[user % 5, 5 + user % 5, 10, 11, 12, 13, 20, 21] for user in range(30)])
    held_back = parse_config(
        {"dataset": {"split": "leave_one_out"}, "finetune_constructor": {"num_validation_users": 9}}, "test"
    )
    source, examples = script.training_and_validation(held_back, dataset, items)
    assert all({20, 21}.isdisjoint(history.tolist()) for history in source.histories)
    assert [int(pair.target[-1]) for pair in examples.next_place] == [20] * 9
    assert all({20, 21}.isdisjoint(pair.target.tolist()) for pair in examples.masked)
    everything = parse_config({"dataset": {"split": "all"}, "finetune_constructor": {"num_validation_users": 9}}, "test")
    source, examples = script.training_and_validation(everything, dataset, items)
    assert (len(source.histories), len(examples.masked)) == (27, 3)
    assert [int(pair.target[-1]) for pair in examples.next_place] == [21] * 3


def test_of_two_users_one_is_trained_on_and_one_validates(script: ModuleType) -> None:
    everything = parse_config({"dataset": {"split": "all"}}, "test")
    source, examples = script.training_and_validation(everything, *dataset_of([[1, 2, 3, 4, 5], [6, 7, 8]]))
    assert [history.tolist() for history in source.histories] == [[6, 7, 8]]
    assert [pair.target.tolist() for pair in examples.next_place] == [[1, 2, 3, 4, 5]]
    with pytest.raises(
        InputDataError, match=r"2 users to learn from and 0 to be validated with\. It takes a user with 5 items"
    ):
        script.training_and_validation(everything, *dataset_of([[1, 2, 3, 4], [6, 7, 8]]))
