"""Locks between processes, which the operating system lifts when the holder ends, however it ends."""

import errno
import fcntl
import logging
import os
import socket
from pathlib import Path
from typing import IO

from cesrec_core.errors import BusyError, ConfigError

log = logging.getLogger(__name__)

TRAINING_LOCK = "lock"
# What file systems say that know no such locks, as some mounted object stores do.
UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
# And where nothing can be made at all, however often one tries.
IMPOSSIBLE = (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.EROFS, errno.ENAMETOOLONG)
NO_LOCKS = "%s lies on a file system without locks: see to it that %s by one process at a time"


def take_lock(file: Path, busy_with: str) -> IO[str]:
    """Keep others away until the file that is returned is closed, or this process ends.

    Where the file system knows no locks, a warning says so, and nobody is kept away.

    Args:
        file: made where it is missing, with its folder; who holds the lock stands in it.
        busy_with: what its holder is doing, for the message to others: "out is being trained".

    Raises:
        BusyError: another process holds it.
        ConfigError: this user may not write there, or nobody can.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = file.open("a+", encoding="utf-8")
    except PermissionError as error:
        raise ConfigError(
            f"{error.filename} cannot be written by this user. Ask for the right to, or name another folder."
        ) from None
    except OSError as error:
        if error.errno in IMPOSSIBLE:
            raise ConfigError(
                f"{file.parent} cannot be made: {error.filename} ({error.strerror}). Name another folder."
            ) from None
        # A volume of an object store may not even know how to append.
        if error.errno not in UNSUPPORTED:
            raise
        log.warning(NO_LOCKS, file, busy_with)
        return Path(os.devnull).open("a+", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read() or "another process"
        lock.close()
        raise BusyError(f"{busy_with} by {holder} already. Wait for it, or stop it.") from None
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            lock.close()
            raise
        log.warning(NO_LOCKS, file, busy_with)
        return lock
    try:
        os.ftruncate(lock.fileno(), 0)
        os.write(lock.fileno(), f"process {os.getpid()} on {socket.gethostname()}".encode())
    except OSError as error:
        # It is held all the same; others are not told by whom.
        if error.errno not in UNSUPPORTED:
            lock.close()
            raise
    return lock


def checkpoint_folder(out: Path) -> Path:
    """Where the training of an artifact keeps what it needs to go on after an interruption: beside the artifact to be."""
    return out.with_name(out.name + ".checkpoint")


def take_training_lock(checkpoint: Path) -> IO[str]:
    """Keep others from training the same artifact, until the file that is returned is closed or this process ends.

    Raises:
        BusyError: somebody is training it.
    """
    return take_lock(checkpoint / TRAINING_LOCK, f"{checkpoint.name.removesuffix('.checkpoint')} is being trained")


def release_training_lock(checkpoint: Path, lock: IO[str]) -> None:
    """End a training whose artifact is published: remove the lock, and the folder where nothing else lies in it.

    What cannot be removed is told and stays; it is no reason to train again.
    """
    try:
        with lock:
            (checkpoint / TRAINING_LOCK).unlink(missing_ok=True)
        # After it is closed: a file that is open stays on NFS under another name, and its folder with it.
        checkpoint.rmdir()
    except OSError as error:
        if checkpoint.exists():
            log.warning("%s stays (%s): remove it, if nothing in it is needed", checkpoint, error.strerror)
