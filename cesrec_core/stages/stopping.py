"""SIGTERM, by which schedulers stop a job. Python would end at once, and leave a training behind with its GPUs and its lock."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    except Exception as error:
        # What is let go may fail on the way, as PySpark does where an answer of Spark's was interrupted.
        if _is_stop_behind(error):
            stopped = Stopped()
            vars(stopped).update(vars(error))
            stopped.code = Stopped.exit_code
            raise stopped from error
        raise
    finally:
        # None is a handler that Python did not put there and cannot put back.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _stop(number: int, frame: FrameType | None) -> None:
    # A second one would interrupt what the first one began. Not SIG_IGN, which processes started meanwhile would inherit.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    # On a connection of its own: on this thread's, PySpark would wait for the job at work before it lets go.
    threading.Thread(target=_cancel_jobs, daemon=True).start()
    raise Stopped


def _cancel_jobs() -> None:
    from pyspark import SparkContext

    with suppress(Exception):
        if (active := SparkContext._active_spark_context) is not None:
            active.cancelAllJobs()


def _is_stop_behind(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, Stopped):
        error = error.__context__
    return error is not None
