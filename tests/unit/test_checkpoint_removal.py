"""A training that has published its artifact does not fail for what it cannot tidy up, or it would be done again."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cesrec_core.constructor.checkpoint import remove_checkpoint as remove_checkpoint_of_constructor
from cesrec_core.locks import release_training_lock, take_training_lock
from cesrec_core.recommenders.checkpoint import remove_checkpoint as remove_checkpoint_of_recommender

REMOVERS = [
    (remove_checkpoint_of_recommender, ["all.safetensors", "leave_one_out.safetensors.unfinished"]),
    (remove_checkpoint_of_constructor, ["latest", "zero_to_fp32.py", "step_8/process_0.safetensors", "step_8/states.pt"]),
]


def training_in(checkpoint: Path, written: list[str]) -> None:
    for name in written:
        (checkpoint / name).parent.mkdir(parents=True, exist_ok=True)
        (checkpoint / name).touch()


@pytest.mark.parametrize(("remove", "written"), REMOVERS)
def test_all_that_training_wrote_goes_and_the_lock_is_last(
    remove: Callable[[Path], None], written: list[str], tmp_path: Path
) -> None:
    checkpoint = tmp_path / "out.checkpoint"
    with take_training_lock(checkpoint):
        training_in(checkpoint, written)
        remove(checkpoint)
        assert [path.name for path in checkpoint.iterdir()] == ["lock"]


@pytest.mark.parametrize(("remove", "written"), REMOVERS)
def test_what_cannot_be_removed_is_told_and_the_lock_let_go(
    remove: Callable[[Path], None],
    written: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    checkpoint = tmp_path / "out.checkpoint"
    lock = take_training_lock(checkpoint)
    training_in(checkpoint, written)
    monkeypatch.setattr(os, "unlink", refuse)
    remove(checkpoint)
    release_training_lock(checkpoint, lock)
    assert f"{checkpoint} stays (Device or resource busy)" in caplog.text
    assert all((checkpoint / name).exists() for name in written)
    take_training_lock(checkpoint).close()
