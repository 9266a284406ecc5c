"""The one error tree. Every error says what was found, where, and what to do; its class decides the exit code of a job."""

import errno
import os
import signal
import traceback
from collections.abc import Mapping
from typing import Any

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
# Of the processor's allocator, of the driver, of the library of matrix products, and of the JVM.
SIGNS_OF_NO_MEMORY = ("DefaultCPUAllocator", "CUDA error: out of memory", "STATUS_ALLOC_FAILED", "java.lang.OutOfMemoryError")
# Of an error's message.
MAX_TOLD_CHARACTERS = 300


class CesrecError(Exception):
    """Base of all errors raised on purpose. Exit code 1."""

    exit_code = 1


class ConfigError(CesrecError):
    """The configuration or the command line cannot be used as written. Exit code 2."""

    exit_code = 2


class InputDataError(CesrecError):
    """Input data is missing, empty or of the wrong shape. Exit code 3."""

    exit_code = 3


class SchemaError(InputDataError):
    """A table or file does not have the columns and types that its schema declares. Exit code 3."""


class QualityGateError(CesrecError):
    """The audit refused to publish this run; what consumers read is still the run before. Exit code 4."""

    exit_code = 4


class ArtifactError(CesrecError):
    """A trained artifact is missing, incomplete, or does not fit what it is asked to do. Exit code 1."""


class BusyError(CesrecError):
    """Another process is writing what this one was to write. Exit code 1."""


class StageError(CesrecError):
    """A stage could not finish its work, for example because a shard failed on every attempt. Exit code 1."""


class Stopped(SystemExit):
    """The job was asked to end by SIGTERM, or as if, and what it had begun is ended. No failure of anything. Exit code 143."""

    exit_code = 128 + signal.SIGTERM

    def __init__(
        self,
        what_to_do: str = "Start again with the same run date: what is done is kept.",
        because: str = "Stopped by SIGTERM.",
    ) -> None:
        super().__init__(f"{because} {what_to_do}")
        self.because = because
        self.code = self.exit_code


def attach_run(error: BaseException, run_id: str, told: Mapping[str, Any]) -> None:
    """Let any error, also one of a library, say which run it stopped, and what the summary of the job tells of that."""
    vars(error)["cesrec_run"] = {"run_id": run_id, **told}


def run_of(error: BaseException) -> Mapping[str, Any]:
    """What `attach_run` has left with an error."""
    run: Mapping[str, Any] = vars(error).get("cesrec_run", {})
    return run


def is_disk_full(error: BaseException) -> bool:
    """Whether it says that a disk is full; what comes from the JVM says so in words alone."""
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return True
    return any(os.strerror(number) in str(error) for number in DISK_FULL)


def is_no_answer(error: BaseException) -> bool:
    """Whether a file could not be looked at, which says nothing of what it holds: no memory or descriptor is left, or a disk
    does not answer. What Arrow finds wrong with a content is an OSError, too, but has no number of the operating system's."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, OSError) and error.errno is not None and not isinstance(error, FileNotFoundError)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was no room in memory, or on an accelerator: not all of what says so has a class."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return any(sign in str(error) for sign in SIGNS_OF_NO_MEMORY)


def is_spark_gone(error: BaseException) -> bool:
    """Whether it says that Spark's process answers no more: py4j's own error, or a connection that its code could not have."""
    try:
        # What an error of Java says is asked for in Java.
        str(error)
    except Exception as unanswered:
        error = unanswered
    last = traceback.extract_tb(error.__traceback__)[-1:]
    is_refused = isinstance(error, ConnectionError) and any(f"{os.sep}py4j{os.sep}" in frame.filename for frame in last)
    return is_refused or type(error).__name__ == "Py4JNetworkError"


def type_and_words(error: BaseException) -> str:
    """Type, and the first line of the message, of an error before any row was read: later it may quote one. A key that is not
    found may be a title all the same."""
    lines = [] if isinstance(error, LookupError) else str(error).strip().splitlines()
    words = lines[0][:MAX_TOLD_CHARACTERS].rstrip(" .") if lines else ""
    return f"{type(error).__name__}: {words}" if words else type(error).__name__
