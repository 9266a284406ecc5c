"""What is made on this machine's own disk and copied from there: as volumes take it, and for all who may read."""

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tiny_features import tiny_features
from tiny_llama import write_tiny_llama

from cesrec_core.artifacts import Manifest, save_tensors
from cesrec_core.constructor import checkpoint as constructor_checkpoint
from cesrec_core.constructor.artifact import save_constructor
from cesrec_core.constructor.model import ConstructorSettings, ItemConstructor
from cesrec_core.errors import StageError
from cesrec_core.feedback.intents import INTENTS
from cesrec_core.feedback.speech_acts import Head
from cesrec_core.local_scratch import copied_from_local_disk
from cesrec_core.recommenders import checkpoint as recommender_checkpoint


def write_tensors(folder: Path) -> None:
    save_tensors(folder, {"weight": torch.ones(3)})


def write_catalogue(folder: Path) -> None:
    tiny_features().save(folder)


def write_head(folder: Path) -> None:
    Head(np.ones((3, len(INTENTS))), {"one": 0}, 0.5).save(folder / "head.npz")


def write_constructor(folder: Path) -> None:
    base = write_tiny_llama(folder.with_name("llama"))
    model = ItemConstructor.build(base, ConstructorSettings(num_layers=1, lora_rank=2), tiny_features().for_constructor())
    save_constructor(folder, model, base, Manifest("constructor", "c1", "all"))


def write_checkpoint_of_recommender(folder: Path) -> None:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    progress = recommender_checkpoint.Progress("made from")
    recommender_checkpoint.save_checkpoint(folder / "all.safetensors", progress, model, model, model.state_dict(), optimizer)


def write_checkpoint_of_constructor(folder: Path) -> None:
    """Beside what DeepSpeed writes, which is not ours."""
    engine = SimpleNamespace(save_checkpoint=lambda *_, **__: None)
    progress = constructor_checkpoint.Progress("made from", [(1.0, 2.0)], "place")
    with pytest.MonkeyPatch.context() as alone:
        alone.setattr(torch.distributed, "get_rank", lambda: 0)
        alone.setattr(torch.distributed, "barrier", lambda: None)
        constructor_checkpoint.save_checkpoint(folder, engine, progress)


WRITERS = [
    write_tensors,
    write_catalogue,
    write_head,
    write_constructor,
    write_checkpoint_of_recommender,
    write_checkpoint_of_constructor,
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


@pytest.fixture
def files_for_the_group() -> Iterator[None]:
    """A umask that keeps others out, and lets the group read."""
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.usefixtures("files_for_the_group")
def test_who_may_read_other_files_of_this_user_may_read_these(write: Callable[[Path], None], folder: Path) -> None:
    write(folder)
    modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in folder.rglob("*") if path.is_file()}
    assert modes == dict.fromkeys(modes, "0o640")
    assert any(name.endswith((".safetensors", ".npz")) for name in modes)


@pytest.mark.parametrize("write", WRITERS)
def test_nothing_is_written_in_its_place_but_by_copying(
    write: Callable[[Path], None], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Volumes of object stores refuse what safetensors and numpy do to a file while they write it."""

    def copy(_: Path, target: Path) -> None:
        with target.open("xb") as file:
            file.write(b"copied")

    monkeypatch.setattr(shutil, "copyfile", copy)
    write(folder)
    written = [path for path in folder.rglob("*") if path.suffix in (".safetensors", ".npz")]
    assert written and {path.read_bytes() for path in written} == {b"copied"}


def test_its_folder_is_not_touched_before_the_copy(folder: Path) -> None:
    os.utime(folder, (0, 0))
    with copied_from_local_disk(folder / "weights.safetensors") as scratch:
        save_file({"weight": torch.ones(3)}, scratch)
        # Of whatever is made, renamed or removed in a folder, its time tells.
        assert folder.stat().st_mtime == 0
    assert load_file(folder / "weights.safetensors")["weight"].tolist() == [1.0, 1.0, 1.0]
    assert not scratch.parent.exists()


def test_a_failure_leaves_what_was_there(folder: Path) -> None:
    (folder / "file").write_text("old")
    with pytest.raises(KeyboardInterrupt), copied_from_local_disk(folder / "file") as scratch:
        scratch.write_text("half")
        raise KeyboardInterrupt
    assert [path.read_text() for path in folder.iterdir()] == ["old"]
    assert not scratch.parent.exists()


@pytest.mark.usefixtures("files_for_the_group")
def test_what_was_there_goes_as_a_whole(folder: Path) -> None:
    """Its mode does not stay, and who is reading it reads on."""
    file = folder / "file"
    file.write_text("old")
    file.chmod(0o600)
    with file.open() as reader:
        with copied_from_local_disk(file) as scratch:
            scratch.write_text("new")
        assert (reader.read(), file.read_text()) == ("old", "new")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_a_copy_without_room_leaves_no_part_of_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(_: Path, target: Path) -> None:
        target.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", fill)
    with pytest.raises(OSError, match="No space left"), copied_from_local_disk(folder / "file") as scratch:
        scratch.write_text("whole")
    assert list(folder.iterdir()) == []


def test_a_full_local_disk_is_told_by_name(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    expected = f"no room in {tmp_path}, where file is made before it is copied to {folder}. .*TMPDIR"
    with pytest.raises(StageError, match=expected), copied_from_local_disk(folder / "file"):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(SafetensorError, match="share memory"), copied_from_local_disk(folder / "file"):
        raise SafetensorError("Tensors share memory")
