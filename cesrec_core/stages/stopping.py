"""SIGTERM, by which schedulers stop a job. Python would end at once, and leave a training behind with its GPUs and its lock."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from cesrec_core.errors import Stopped


@contextmanager
def stopping_in_order() -> Iterator[None]:
    """Turn SIGTERM into `Stopped`, so that whatever has to be ended and let go is. What handled it before does so afterwards.

    Python takes handlers in its main thread only; in others all stays as it was.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        # None is a handler that Python did not put there and cannot put back.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _stop(number: int, frame: FrameType | None) -> None:
    # A second one would interrupt what the first one began. Not SIG_IGN, which processes started meanwhile would inherit.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    raise Stopped
