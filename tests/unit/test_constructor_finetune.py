"""The training command as it is launched: its artifact, its last line, its exit codes."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from tiny_llama import write_tiny_llama

from cesrec_core.artifacts import read_manifest
from cesrec_core.config import FinetuneConstructorSection, parse_config
from cesrec_core.constructor.artifact import load_constructor
from cesrec_core.constructor.model import ItemFeatures
from cesrec_core.datasets import Catalogue, Dataset, Histories
from cesrec_core.errors import ConfigError

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
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_a_finished_training_leaves_an_artifact_that_loads_and_one_line_of_metrics(world: Path) -> None:
    result = finetune(world)
    assert result.returncode == 0, result.stderr
    metrics = json.loads(result.stdout.strip().splitlines()[-1])
    expected = {"masked_recall_at_10", "masked_recall_at_10_shuffled", "words_worth_low", "words_worth_high"}
    assert expected | {"next_place_recall_at_10", "loss_first", "loss_last"} <= set(metrics)
    assert metrics["words_worth_low"] <= metrics["words_worth"] <= metrics["words_worth_high"]
    manifest = read_manifest(world / "out", "constructor")
    assert (manifest.artifact_id, manifest.split, manifest.parents) == ("c7", "leave_one_out", {"recommender": "r3"})
    assert manifest.metrics == metrics
    assert (world / "out" / "losses.png").stat().st_size > 1000
    attributes = [(("Red", "Blue", "Green")[code % 3],) for code in range(NUM_ITEMS)]
    items = ItemFeatures(
        [f"Thing {code}" for code in range(NUM_ITEMS)], attributes, torch.zeros(NUM_ITEMS, 6), torch.zeros(NUM_ITEMS, 4)
    )
    assert load_constructor(world / "out", world / "llama", items).settings.num_layers == 1
    assert str(world) not in (world / "out" / "manifest.json").read_text()


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


def test_validation_items_are_asked_for_and_not_trained_on(script: ModuleType) -> None:
    """Leave-one-out: the test item is nowhere, the validation item only as the target. `all`: validation users are left out."""
    codes = [np.array([user % 5, 5 + user % 5, 10, 11, 12, 13, 20, 21], dtype=np.int32) for user in range(30)]
    offsets = np.arange(31, dtype=np.int64) * 8
    catalogue = Catalogue([f"i{code:02d}" for code in range(25)], ["t"] * 25, [("Red",)] * 25)
    dataset = Dataset(catalogue, Histories([f"u{user:02d}" for user in range(30)], np.concatenate(codes), offsets))
    items = ItemFeatures(catalogue.titles, catalogue.attributes, torch.zeros(25, 3), torch.randn(25, 3))
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
