"""Removing files as NFS does it: one that this process has open stays in its folder under another name until it is closed."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

PREFIX = ".nfs"
_unlink, _rmdir = os.unlink, os.rmdir


def unlink(path: Any, *, dir_fd: int | None = None) -> None:
    if _is_open(os.stat(path, dir_fd=dir_fd, follow_symlinks=False)):
        os.rename(path, Path(path).with_name(PREFIX + Path(path).name), src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    else:
        _unlink(path, dir_fd=dir_fd)


def rmdir(path: Any, *, dir_fd: int | None = None) -> None:
    for renamed in Path(path).glob(f"{PREFIX}*") if dir_fd is None else ():
        if not _is_open(renamed.stat()):
            _unlink(renamed)
    _rmdir(path, dir_fd=dir_fd)


def _is_open(found: os.stat_result) -> bool:
    for file in Path("/proc/self/fd").iterdir():
        # The one that lists the others is closed by now.
        with suppress(OSError):
            if os.path.samestat(found, os.fstat(int(file.name))):
                return True
    return False
