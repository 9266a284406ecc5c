"""SIGTERM, by which schedulers stop a job. Python would end at once, and leave a training behind with its GPUs and its lock.

spark-submit may be killed alone, and cannot pass that on: its job would work for nobody, and keep others from the warehouse.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from cesrec_core.errors import Stopped

SECONDS_UNTIL_AGAIN = 0.1
SECONDS_BETWEEN_LOOKS = 2.0

_launcher_is_gone = threading.Event()


@contextmanager
def stopping_in_order() -> Iterator[None]:
    """Turn SIGTERM into `Stopped`, so that whatever has to be ended and let go is. What handled it before does so afterwards.
    Under spark-submit its end is taken for a SIGTERM.

    Python takes handlers in its main thread only; in others all stays as it was.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, hook = signal.signal(signal.SIGTERM, _stop), sys.unraisablehook
    sys.unraisablehook = lambda lost: _again() if isinstance(lost.exc_value, Stopped) else hook(lost)
    try:
        with _ending_with_launcher():
            yield
    except Exception as error:
        # What is let go may fail on the way, as PySpark does where an answer of Spark's was interrupted.
        if (behind := _stop_behind(error)) is not None:
            stopped = Stopped(because=behind.because)
            vars(stopped).update(vars(error))
            stopped.code = Stopped.exit_code
            raise stopped from error
        raise
    finally:
        sys.unraisablehook = hook
        # None is a handler that Python did not put there and cannot put back.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _stop(number: int, frame: FrameType | None) -> None:
    # A second one would interrupt what the first one began. Not SIG_IGN, which processes started meanwhile would inherit.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    # On a connection of its own: on this thread's, PySpark would wait for the job at work before it lets go.
    threading.Thread(target=_cancel_jobs, daemon=True).start()
    raise _stopped()


def _stopped() -> Stopped:
    return Stopped(because="spark-submit has ended, and this job with it.") if _launcher_is_gone.is_set() else Stopped()


@contextmanager
def _ending_with_launcher() -> Iterator[None]:
    _launcher_is_gone.clear()
    is_over = threading.Event()
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        threading.Thread(target=_watch, args=(os.getppid(), is_over), daemon=True).start()
    try:
        yield
    finally:
        is_over.set()


def _watch(launcher: int, is_over: threading.Event) -> None:
    while not is_over.wait(SECONDS_BETWEEN_LOOKS):
        if os.getppid() != launcher and not _is_handling_an_error():
            _launcher_is_gone.set()
            os.kill(os.getpid(), signal.SIGTERM)
            return


def _is_handling_an_error() -> bool:
    """Whether the main thread does: the job has been stopped already, by Ctrl-C or since Spark has gone, and is letting go."""
    # Of a thread that handles nothing: a triple of None in Python 3.11, None in 3.12.
    handled = sys._current_exceptions().get(threading.main_thread().ident or 0)
    return handled is not None and handled != (None, None, None)


def _again() -> None:
    """Python ignores what is raised while an object is done away with, as those of Java are all the time."""
    signal.signal(signal.SIGTERM, _stop)
    threading.Timer(SECONDS_UNTIL_AGAIN, os.kill, (os.getpid(), signal.SIGTERM)).start()


def _cancel_jobs() -> None:
    from pyspark import SparkContext

    with suppress(Exception):
        if (active := SparkContext._active_spark_context) is not None:
            active.cancelAllJobs()


def _stop_behind(error: BaseException | None) -> Stopped | None:
    while error is not None and not isinstance(error, Stopped):
        error = error.__context__
    return error
