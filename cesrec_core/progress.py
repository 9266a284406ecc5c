"""Progress of long steps: a bar on a terminal, a plain log line every few seconds elsewhere."""

import logging
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from tqdm import tqdm

from cesrec_core.logs import has_bars

log = logging.getLogger("cesrec.progress")

SECONDS_BETWEEN_LINES = 10.0


class Advance(Protocol):
    def __call__(self, amount: int, /) -> None: ...


@contextmanager
def progress(label: str, total: int, unit: str) -> Iterator[Advance]:
    """Yield a function that is told how many more units are done."""
    if has_bars():
        # Some pseudo-terminals say that they have no columns, and tqdm then draws nothing; here that means 80.
        columns = shutil.get_terminal_size().columns
        with tqdm(total=total, desc=label, unit=unit, file=sys.stderr, ncols=columns) as bar:

            def advance_bar(amount: int, /) -> None:
                bar.update(amount)

            yield advance_bar
        return
    yield lines(label, total, unit)


def lines(label: str, total: int, unit: str, tells_end: bool = True) -> Advance:
    """The plain lines, on a terminal too: where what is told of are parts of something that has lines of its own."""
    done = 0
    last_line = time.monotonic()

    def advance(amount: int, /) -> None:
        nonlocal done, last_line
        done += amount
        is_end = done >= total
        if (is_end and tells_end) or (not is_end and time.monotonic() - last_line > SECONDS_BETWEEN_LINES):
            last_line = time.monotonic()
            log.info("%s: %d of %d %s", label, done, total, unit)

    return advance
