"""Map Parquet shards to Parquet shards on Ray actors: resumable, bounded in retries, every row accounted for."""

import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.exceptions import RayActorError, RayError

from cesrec_core.config import RaySection
from cesrec_core.errors import CesrecError, StageError

log = logging.getLogger(__name__)


class Worker(Protocol):
    """What a stage does to one shard. Built on the driver, pickled, set up once in each actor."""

    def setup(self) -> None:
        """Load models and side inputs; called once in each actor."""

    def process(self, shard: pa.Table) -> pa.Table:
        """Answer one shard. Must depend on nothing but the shard and what setup loaded."""


@dataclass(frozen=True)
class MapReport:
    """What a map did.

    Attributes:
        num_shards: shards in the input folder.
        num_reused: shards whose answer was there already.
        num_input_rows, num_output_rows: over all shards.
        num_restarts: actors that died and were replaced.
    """

    num_shards: int
    num_reused: int
    num_input_rows: int
    num_output_rows: int
    num_restarts: int


class _ShardActor:
    def __init__(self, worker: Worker, num_threads: int) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", str(num_threads))
        # Loaded together with a worker that computes with it; the others start without it, which is seconds faster.
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(num_threads)
        self.worker = worker
        self.is_set_up = False

    def run(self, source: str, target: str) -> int:
        if not self.is_set_up:
            # Here rather than in the constructor: an error there reaches the driver as nothing but a dead actor.
            self.worker.setup()
            self.is_set_up = True
        answer = self.worker.process(pq.read_table(source))
        # Spark does not read names that begin with a dot.
        scratch = Path(target).with_name(f".{Path(target).name}.unfinished")
        pq.write_table(answer, scratch)
        # The rename is what marks a shard done: a killed actor leaves no half-written answer behind.
        scratch.replace(target)
        return int(answer.num_rows)


def map_shards(
    source: Path, target: Path, worker: Worker, section: RaySection, on_progress: Callable[[int], None] = lambda rows: None
) -> MapReport:
    """Run `worker` over every Parquet file of `source`, writing one file of the same name into `target`.

    Files already in `target` are kept: a killed stage resumes at the shard it was on.

    Args:
        on_progress: called with the number of input rows of each shard as it is done.

    Raises:
        StageError: a shard failed `section.max_attempts_per_shard` times, or a worker could not be set up. What was
            done stays done.
    """
    target.mkdir(parents=True, exist_ok=True)
    shards = sorted(source.glob("*.parquet"))
    rows = {shard: pq.read_metadata(shard).num_rows for shard in shards}
    pending = deque(shard for shard in shards if not (target / shard.name).exists())
    num_reused = len(shards) - len(pending)
    for shard in shards:
        if (target / shard.name).exists():
            on_progress(rows[shard])
    num_restarts = _Pool(worker, section, target).run(pending, lambda shard: on_progress(rows[shard])) if pending else 0
    num_output_rows = sum(pq.read_metadata(target / shard.name).num_rows for shard in shards)
    return MapReport(len(shards), num_reused, sum(rows.values()), num_output_rows, num_restarts)


class _Pool:
    """As many actors as there is work for, each with one shard at a time."""

    def __init__(self, worker: Worker, section: RaySection, target: Path) -> None:
        self.section = section
        self.target = target
        self.worker = ray.put(worker)
        self.num_threads = max(1, int(section.num_cpus_per_actor))
        self.actor_class = ray.remote(num_cpus=section.num_cpus_per_actor, num_gpus=section.num_gpus_per_actor)(_ShardActor)

    def run(self, pending: deque[Path], on_done: Callable[[Path], None]) -> int:
        attempts: dict[Path, int] = {}
        num_restarts = 0
        idle = [self._new_actor() for _ in range(min(self.section.num_actors, len(pending)))]
        running: dict[Any, tuple[Path, Any]] = {}
        try:
            while pending or running:
                while pending and idle:
                    shard, actor = pending.popleft(), idle.pop()
                    running[actor.run.remote(str(shard), str(self.target / shard.name))] = (shard, actor)
                (reference,), _ = ray.wait(list(running), num_returns=1)
                shard, actor = running.pop(reference)
                try:
                    ray.get(reference)
                    idle.append(actor)
                except RayError as error:
                    attempts[shard] = attempts.get(shard, 0) + 1
                    is_dead = isinstance(error, RayActorError)
                    if not is_dead:
                        idle.append(actor)
                    self._refuse_after_last_attempt(shard, attempts[shard], error)
                    pending.append(shard)
                    if is_dead:
                        num_restarts += 1
                        time.sleep(min(2.0 ** attempts[shard], 30.0) / 10)
                        idle.append(self._new_actor())
                else:
                    on_done(shard)
                # Actors without work make room for those that still wait for a place on the cluster with a shard in hand.
                while idle and not pending:
                    ray.kill(idle.pop())
        finally:
            for actor in [*idle, *(actor for _, actor in running.values())]:
                ray.kill(actor)
        return num_restarts

    def _new_actor(self) -> Any:
        return self.actor_class.remote(self.worker, self.num_threads)

    def _refuse_after_last_attempt(self, shard: Path, attempt: int, error: RayError) -> None:
        cause = getattr(error, "cause", None)
        if isinstance(cause, CesrecError):
            raise cause
        # The type alone: a worker's message may quote the data that it failed on.
        kind = type(cause).__name__ if cause is not None else type(error).__name__
        log.warning("Shard %s failed with %s, attempt %d of %d", shard.name, kind, attempt, self.section.max_attempts_per_shard)
        if attempt >= self.section.max_attempts_per_shard:
            raise StageError(
                f"The shard {shard} failed {attempt} times, last with {kind}. Shards done so far are kept: mend the cause and "
                "start the job again."
            ) from error
