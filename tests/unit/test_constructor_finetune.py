"""The training command as it is launched: its artifact, its last line, its exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from tiny_llama import write_tiny_llama

from cesrec_core.artifacts import read_manifest
from cesrec_core.constructor.artifact import load_constructor
from cesrec_core.constructor.model import ItemFeatures

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
