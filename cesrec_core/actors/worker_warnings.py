"""What workers warn of, told by the job: an actor's own output lies in a file of a machine that may be gone by then."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

log = logging.getLogger(__name__)

# Lines of one map; an endpoint that is down, or a model that makes titles up, has as many as there are users.
MAX_TOLD = 100


@dataclass(frozen=True)
class Warned:
    """What a worker warned of since its last answer: the first lines, and the number of those after them."""

    lines: Sequence[str] = ()
    num_more: int = 0


class WorkerWarnings(logging.Handler):
    """Keeps them in the worker's process until they are taken. What a shard that fails has warned of comes with the next."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._lines: list[str] = []
        self._num_more = 0

    def emit(self, record: logging.LogRecord) -> None:
        if len(self._lines) < MAX_TOLD:
            self._lines.append(record.getMessage())
        else:
            self._num_more += 1

    def take(self) -> Warned:
        taken = Warned(self._lines, self._num_more)
        self._lines, self._num_more = [], 0
        return taken


class Teller:
    """Logs, for all workers of a map together, the first of them, and in the end the number of the others."""

    def __init__(self) -> None:
        self._num_told = self._num_more = 0

    def tell(self, warned: Warned) -> None:
        told = warned.lines[: MAX_TOLD - self._num_told]
        for line in told:
            log.warning("a worker: %s", line)
        self._num_told += len(told)
        self._num_more += len(warned.lines) - len(told) + warned.num_more

    def close(self) -> None:
        if self._num_more:
            log.warning("%d more warnings of workers are not shown", self._num_more)
