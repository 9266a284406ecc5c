from pathlib import Path

import pytest
import torch

from cesrec_core.artifacts import (
    MANIFEST,
    TENSORS,
    Manifest,
    load_tensors,
    publishing,
    read_manifest,
    save_tensors,
    write_manifest,
)
from cesrec_core.errors import ArtifactError

A_MANIFEST = Manifest(
    "adapter",
    "a1",
    "all",
    parents={"recommender": "r1"},
    settings={"width": 3},
    trained_on={"run_date": ""},
    metrics={"mse": 0.5},
)


def test_published_in_one_piece(tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    with publishing(folder) as scratch:
        write_manifest(scratch, A_MANIFEST)
        assert not folder.exists()
    assert read_manifest(folder, "adapter") == A_MANIFEST
    assert [path.name for path in tmp_path.iterdir()] == ["artifact"]


def test_a_failure_leaves_the_old_artifact_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    with publishing(folder) as scratch:
        write_manifest(scratch, A_MANIFEST)
    with pytest.raises(KeyboardInterrupt), publishing(folder) as scratch:
        (scratch / "half").touch()
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["artifact"]
    assert [path.name for path in folder.iterdir()] == [MANIFEST]


def test_publishing_replaces_and_ignores_what_a_killed_process_left(tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    left = tmp_path / "artifact.unfinished"
    for stale in (folder, left):
        stale.mkdir()
        (stale / "stale").touch()
    with publishing(folder) as scratch:
        (scratch / "new").touch()
    assert [path.name for path in folder.iterdir()] == ["new"]


def test_tensors_with_shared_storage_survive(tmp_path: Path) -> None:
    table = torch.arange(6.0).view(2, 3)
    save_tensors(tmp_path, {"whole": table, "column": table[:, 1], "tied": table})
    loaded = load_tensors(tmp_path)
    assert torch.equal(loaded["whole"], table)
    assert torch.equal(loaded["tied"], table)
    assert loaded["column"].tolist() == [1.0, 4.0]


def test_unfinished_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"not a finished artifact: it has no manifest\.json"):
        read_manifest(tmp_path, "adapter")


def test_wrong_kind(tmp_path: Path) -> None:
    write_manifest(tmp_path, A_MANIFEST)
    with pytest.raises(ArtifactError, match="holds a adapter, but a recommender was asked for"):
        read_manifest(tmp_path, "recommender")


@pytest.mark.parametrize("text", ["{", '{"kind": "adapter", "surprise": 1}'])
def test_damaged_manifest(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"cannot be read as a manifest .*Train the artifact again"):
        read_manifest(tmp_path, "adapter")


def test_missing_and_damaged_weights(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"tensors\.safetensors is missing"):
        load_tensors(tmp_path)
    (tmp_path / TENSORS).write_bytes(b"not safetensors at all")
    with pytest.raises(ArtifactError, match="is damaged"):
        load_tensors(tmp_path)
