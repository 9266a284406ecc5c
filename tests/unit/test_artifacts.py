from pathlib import Path

import pytest
import torch

from cesrec_core.artifacts import (
    MANIFEST,
    TENSORS,
    Manifest,
    check_replaceable,
    load_tensors,
    publishing,
    read_manifest,
    save_tensors,
    write_manifest,
)
from cesrec_core.errors import ArtifactError, ConfigError

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


def test_an_artifact_that_a_killed_process_had_moved_aside_comes_back(tmp_path: Path) -> None:
    folder, aside = tmp_path / "artifact", tmp_path / "artifact.replaced"
    aside.mkdir()
    (aside / "old").touch()
    with pytest.raises(KeyboardInterrupt), publishing(folder):
        raise KeyboardInterrupt
    assert [path.name for path in folder.iterdir()] == ["old"]
    with publishing(folder) as scratch:
        (scratch / "new").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["artifact"]
    assert [path.name for path in folder.iterdir()] == ["new"]


def test_only_artifacts_and_empty_folders_are_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "work" / "artifact"
    check_replaceable(folder)
    folder.mkdir(parents=True)
    check_replaceable(folder)
    (folder / "thesis.txt").touch()
    for something_else in (folder, folder.parent):
        with pytest.raises(ConfigError, match="holds something that is no trained artifact"):
            check_replaceable(something_else)
    with pytest.raises(ConfigError, match="is a file"):
        check_replaceable(folder / "thesis.txt")
    with pytest.raises(ConfigError, match="Name one of its own"):
        check_replaceable(Path("/"))
    with pytest.raises(ConfigError, match=r"cannot be made.*thesis\.txt"):
        check_replaceable(folder / "thesis.txt" / "artifact")
    (folder / "thesis.txt").unlink()
    write_manifest(folder, A_MANIFEST)
    check_replaceable(folder)


@pytest.mark.parametrize("ending", ["", ".replaced", ".unfinished"])
def test_what_somebody_put_beside_or_into_an_artifact_is_not_lost(tmp_path: Path, ending: str) -> None:
    folder = tmp_path / "artifact"
    place = folder.with_name(folder.name + ending)
    place.mkdir()
    write_manifest(place, A_MANIFEST)
    # What trainings write beside weights.
    for name in ("tensors.safetensors", "learning_curve.png", "losses.csv"):
        (place / name).touch()
    check_replaceable(folder)
    (place / "more").mkdir()
    (place / "more" / "interactions.parquet").touch()
    with pytest.raises(ConfigError, match=f"{place.name}.* holds something"):
        check_replaceable(folder)


@pytest.mark.parametrize("manifest", ['{"name": "a web application"}', "[]", '"kind"', "{"])
def test_another_programs_manifest_is_no_artifact(tmp_path: Path, manifest: str) -> None:
    (tmp_path / MANIFEST).write_text(manifest)
    with pytest.raises(ConfigError, match="holds something that is no trained artifact"):
        check_replaceable(tmp_path)


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
    with pytest.raises(ArtifactError, match="artifact of kind adapter, where recommender was asked for"):
        read_manifest(tmp_path, "recommender")


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"\xff\xfe",
        b'{"kind": "adapter", "surprise": 1}',
        b'{"kind": "adapter", "artifact_id": "a", "split": "all", "trained_on": null}',
    ],
)
def test_damaged_manifest(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(ArtifactError, match=r"cannot be read as a manifest .*Train the artifact again"):
        read_manifest(tmp_path, "adapter")


def test_missing_and_damaged_weights(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"tensors\.safetensors is missing"):
        load_tensors(tmp_path)
    (tmp_path / TENSORS).write_bytes(b"not safetensors at all")
    with pytest.raises(ArtifactError, match="is damaged"):
        load_tensors(tmp_path)
