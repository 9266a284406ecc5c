"""Processes that this one has started."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ending(process: "subprocess.Popen[str]", seconds: float) -> Iterator[None]:
    """The process ends where the block is left by an error, a signal's among them.

    It is asked first, since torchrun ends its own processes then and only then, and killed where it has not ended after so many
    seconds.
    """
    try:
        yield
    except BaseException:
        process.terminate()
        try:
            # And not only waited for: what it says meanwhile must not fill the pipe.
            process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
        raise
