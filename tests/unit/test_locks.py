import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import like_nfs
import pytest

from cesrec_core.errors import BusyError, ConfigError
from cesrec_core.locks import release_training_lock, take_lock, take_training_lock

HOLDER = """
import sys, time
from pathlib import Path
from typing import Any
from cesrec_core.locks import take_lock
held = take_lock(Path(sys.argv[1]), "out is being made")
print("held", flush=True)
time.sleep(60)
"""


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    with take_lock(tmp_path / "folder" / "lock", "out is being made"), pytest.raises(BusyError, match="out is being made by"):
        take_lock(tmp_path / "folder" / "lock", "out is being made")
    take_lock(tmp_path / "folder" / "lock", "out is being made").close()


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match=f"by process {holder.pid} on "):
            take_lock(tmp_path / "lock", "out is being made")
        holder.kill()
    take_lock(tmp_path / "lock", "out is being made").close()


def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    take_lock(tmp_path / "lock", "out is being made").close()
    assert "file system without locks" in caplog.text


def test_a_volume_that_cannot_append_is_told_of_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    open_file = Path.open

    def refuse_appending(self: Path, mode: str = "r", **options: Any) -> Any:
        if mode == "a+" and self.name == "lock":
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return open_file(self, mode, **options)

    monkeypatch.setattr(Path, "open", refuse_appending)
    with take_lock(tmp_path / "lock", "the warehouse is being written to"):
        assert "file system without locks" in caplog.text


def test_a_volume_that_cannot_cut_files_off_still_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "ftruncate", refuse)
    with take_lock(tmp_path / "lock", "out is being made"), pytest.raises(BusyError, match="by another process already"):
        take_lock(tmp_path / "lock", "out is being made")


@pytest.mark.parametrize("file_system", ["local", "nfs"])
def test_a_training_that_is_done_leaves_no_folder(tmp_path: Path, file_system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = tmp_path / "out.checkpoint"
    lock = take_training_lock(checkpoint)
    if file_system == "nfs":
        monkeypatch.setattr(os, "unlink", like_nfs.unlink)
        monkeypatch.setattr(os, "rmdir", like_nfs.rmdir)
    release_training_lock(checkpoint, lock)
    assert not checkpoint.exists()
    take_training_lock(checkpoint).close()


def test_what_somebody_left_in_the_folder_of_a_training_stays_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = tmp_path / "out.checkpoint"
    lock = take_training_lock(checkpoint)
    (checkpoint / "notes.txt").touch()
    release_training_lock(checkpoint, lock)
    assert [path.name for path in checkpoint.iterdir()] == ["notes.txt"]
    assert f"{checkpoint} stays (Directory not empty)" in caplog.text
    take_training_lock(checkpoint).close()


@pytest.mark.parametrize("place", ["below a file", "/proc/x/y"])
def test_where_nothing_can_be_made_another_folder_is_asked_for(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" if place == "below a file" else Path(place)
    with pytest.raises(ConfigError, match=r"cannot be made: .*Name another folder"):
        take_lock(folder / "lock", "out is being made")
