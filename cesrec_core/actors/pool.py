"""Map Parquet shards to Parquet shards on Ray actors: resumable, bounded in retries, every row accounted for."""

import logging
import math
import os
import re
import shutil
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayActorError, RayError

from cesrec_core.actors.worker_warnings import Teller, Warned, WorkerWarnings
from cesrec_core.arrow import is_readable
from cesrec_core.config import RaySection
from cesrec_core.errors import CesrecError, ConfigError, StageError, is_disk_full, is_out_of_memory, type_and_words
from cesrec_core.token_counts import counted_tokens

log = logging.getLogger(__name__)

# Both under the folder of answers, and hidden from Spark by their dot.
HALVES = ".halves"
REFUSED = ".refused"
OF_HALF = re.compile(r"(\.[01])+$")
# In the metadata of an answer: what language models read for it.
TOKENS = b"cesrec.tokens"


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
        num_restarts: actors that were replaced: those that died, and of those on GPUs all that failed.
        num_refused: rows that no attempt could answer.
        num_tokens: that went through language models for the answers; see `cesrec_core.token_counts`.
    """

    num_shards: int
    num_reused: int
    num_input_rows: int
    num_output_rows: int
    num_restarts: int
    num_refused: int = 0
    num_tokens: int = 0


class _SetupError(Exception):
    """A worker could not be set up: no fault of the shard it was given. Holds the error's type and what it says."""


class _ShardActor:
    def __init__(self, worker: Worker, num_threads: int, mark: str) -> None:
        # Of numeric libraries, and of tokenizers, which would take all cores of the machine for each actor.
        for variable in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
            os.environ.setdefault(variable, str(num_threads))
        # Loaded together with a worker that computes with it; the others start without it, which is seconds faster.
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(num_threads)
        self.worker = worker
        self.mark = mark
        self.is_set_up = False
        self.warnings = WorkerWarnings()
        logging.getLogger("cesrec_core").addHandler(self.warnings)

    def run(self, source: str, target: str) -> Warned:
        if not self.is_set_up:
            self._set_up()
        num_before = counted_tokens()
        answer = self.worker.process(pq.read_table(source))
        told = {**(answer.schema.metadata or {}), TOKENS: str(counted_tokens() - num_before)}
        _write_whole(answer.replace_schema_metadata(told), Path(target), self.mark)
        return self.warnings.take()

    def set_up(self) -> None:
        """Asked for first, so that the driver knows of an actor that dies whether it ever was ready."""
        self._set_up()

    def _set_up(self) -> None:
        """Not in the constructor: an error there reaches the driver as nothing but a dead actor."""
        try:
            self.worker.setup()
        except CesrecError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and is_disk_full(error):
                raise
            raise _SetupError(type_and_words(error)) from error
        self.is_set_up = True


def map_shards(
    source: Path,
    target: Path,
    worker: Worker,
    section: RaySection,
    on_progress: Callable[[int], None] = lambda rows: None,
    max_refused_rows: int = 0,
) -> MapReport:
    """Run `worker` over every Parquet file of `source`, writing one file of the same name into `target`.

    Files already in `target` are kept: a killed stage resumes at the shard it was on. A file that cannot be read whole, as
    a machine that lost its power may leave one, is made again.

    Args:
        on_progress: called with the number of input rows of each shard as it is done.
        max_refused_rows: above 0, a shard that makes the worker fail is halved, and its halves again, until the rows
            that it fails on stand alone; so many of them are laid aside (`refused_rows`), and all others are answered.

    Raises:
        StageError: a shard failed `section.max_attempts_per_shard` times, as often in a row as actors times that no worker
            could be set up, a shard of `source` or a disk cannot be read or written, or more rows would have to be laid
            aside. What was done stays done, but for rows laid aside: they are tried again, since the fault was none of theirs.
    """
    target.mkdir(parents=True, exist_ok=True)
    shards = sorted(source.glob("*.parquet"))
    rows = {shard: _num_rows(shard) for shard in shards}
    for file in (*target.glob("*.parquet"), *target.glob(f"{HALVES}/*.parquet"), *target.glob(f"{REFUSED}/*.parquet")):
        _drop_if_damaged(file)
    parts = [part for shard in shards for part in _parts(shard, target)]
    _drop_strays(shards, parts, target)
    halving = _Halving(target, max_refused_rows, max(rows.values(), default=0))
    open_parts = [part for part in parts if not _is_answered(part, target)]
    if all(_refused(part, target).exists() for part in open_parts):
        open_parts = []
    else:
        # An attempt that did not come to its end cannot tell a bad row from a bad machine.
        halving.forget_refused()
    pending, is_open = deque(open_parts), set(open_parts)
    num_reused = sum(is_open.isdisjoint(_parts(shard, target)) for shard in shards)
    for part in parts:
        if part not in is_open:
            on_progress(pq.read_metadata(part).num_rows)
    pool = _Pool(worker, section, target, halving)
    num_restarts = pool.run(pending, lambda part: on_progress(pq.read_metadata(part).num_rows)) if pending else 0
    answers = [target / part.name for shard in shards for part in _parts(shard, target)]
    told = [pq.read_metadata(answer) for answer in answers if answer.exists()]
    num_output_rows = sum(answer.num_rows for answer in told)
    num_tokens = sum(int((answer.metadata or {}).get(TOKENS, 0)) for answer in told)
    return MapReport(
        len(shards), num_reused, sum(rows.values()), num_output_rows, num_restarts, halving.num_refused(), num_tokens
    )


def drop_damaged(target: Path) -> list[Path]:
    """The answers in a folder that `map_shards` wrote to; those that cannot be read whole are removed."""
    return [answer for answer in sorted(target.glob("*.parquet")) if not _drop_if_damaged(answer)]


def refused_rows(target: Path) -> pa.Table | None:
    """The rows that `map_shards` laid aside when it wrote to `target`; None where there are none."""
    files = sorted((target / REFUSED).glob("*.parquet"))
    return pa.concat_tables([pq.read_table(file) for file in files]) if files else None


def _parts(shard: Path, target: Path) -> Iterator[Path]:
    """A shard, or what it was halved into."""
    halves = _halves(shard, target)
    if _is_answered(shard, target) or not all(half.exists() for half in halves):
        yield shard
        return
    for half in halves:
        yield from _parts(half, target)


def _drop_strays(shards: Sequence[Path], parts: Sequence[Path], target: Path) -> None:
    """Remove answers to halves of what is answered, or asked again, as a whole: their rows would stand there twice."""
    expected, stems = {part.name for part in parts}, {shard.stem for shard in shards}
    for file in (*target.glob("*.parquet"), *target.glob(f"{REFUSED}/*.parquet")):
        if file.name not in expected and OF_HALF.sub("", file.stem) in stems:
            file.unlink()


def _halves(shard: Path, target: Path) -> list[Path]:
    return [target / HALVES / f"{shard.stem}.{number}.parquet" for number in (0, 1)]


def _refused(shard: Path, target: Path) -> Path:
    return target / REFUSED / shard.name


def _num_rows(shard: Path) -> int:
    if not is_readable(shard, advice=f"remove {shard.parent}"):
        raise StageError(f"{shard} cannot be read. Remove {shard.parent} and start the job again.")
    return int(pq.read_metadata(shard).num_rows)


def _is_answered(shard: Path, target: Path) -> bool:
    answer = target / shard.name
    return answer.exists() and not _drop_if_damaged(answer, is_whole=False)


def _drop_if_damaged(file: Path, is_whole: bool = True) -> bool:
    """Remove a file that cannot be read, see `is_readable`, so that it is made again."""
    if is_readable(file, is_whole):
        return False
    log.warning("%s is damaged and made again", file)
    file.unlink(missing_ok=True)
    return True


def _write_whole(table: pa.Table, file: Path, mark: str = "") -> None:
    """All of the file or none of it. The rename is what marks a shard done; Spark does not read names with a dot in front.

    Args:
        mark: of this map: on a cluster a worker that outlived its driver may be writing the same shard.
    """
    scratch = file.with_name(f".{file.name}.{mark}unfinished")
    try:
        with scratch.open("wb") as opened:
            pq.write_table(table, opened, write_page_checksum=True)
            # Before the rename, which may otherwise outlive the content where a machine goes down.
            opened.flush()
            os.fsync(opened.fileno())
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    scratch.replace(file)


@dataclass
class _Halving:
    """Finds the rows that a worker fails on.

    Attributes:
        max_refused: rows that may be laid aside; 0: shards are not halved.
        num_rows: of the largest shard.
        num_halved: so far in this map. A row is found by halving log2(num_rows) times, so that more than that for each row
            that may be refused means that the fault is not with a few rows.
    """

    target: Path
    max_refused: int
    num_rows: int
    num_halved: int = 0

    def is_open_to(self, shard: Path) -> bool:
        limit = (self.max_refused + 1) * (math.ceil(math.log2(max(2, self.num_rows))) + 1)
        return self.max_refused > 0 and self.num_halved < limit and pq.read_metadata(shard).num_rows > 1

    def num_refused(self) -> int:
        return len(list((self.target / REFUSED).glob("*.parquet")))

    def forget_refused(self) -> int:
        """How many rows were laid aside, and are so no more: only a map that comes to its end knows that they are at fault."""
        number = self.num_refused()
        shutil.rmtree(self.target / REFUSED, ignore_errors=True)
        return number

    def halve(self, shard: Path) -> list[Path]:
        self.num_halved += 1
        table = pq.read_table(shard)
        middle = len(table) // 2
        halves = _halves(shard, self.target)
        halves[0].parent.mkdir(exist_ok=True)
        for half, rows in zip(halves, (table.slice(0, middle), table.slice(middle)), strict=True):
            _write_whole(rows, half)
        return halves

    def refuse(self, shard: Path) -> bool:
        """Lay a shard of one row aside; False where as many as may be have been."""
        if pq.read_metadata(shard).num_rows != 1 or self.num_refused() >= self.max_refused:
            return False
        (self.target / REFUSED).mkdir(exist_ok=True)
        _write_whole(pq.read_table(shard), _refused(shard, self.target))
        return True


@dataclass(frozen=True)
class _Member:
    """An actor, the answer to whether it was set up, and how often in a row nothing could be set up in its place."""

    handle: Any
    ready: Any
    num_failed: int = 0

    def was_ready(self) -> bool | None:
        """Whether it was set up; None where nothing is known of that yet."""
        try:
            ray.get(self.ready, timeout=0)
        except GetTimeoutError:
            return None
        except (RayError, _SetupError):
            return False
        return True


class _Pool:
    """As many actors as there is work for, each with one shard at a time."""

    def __init__(self, worker: Worker, section: RaySection, target: Path, halving: _Halving) -> None:
        self.section = section
        self.target = target
        self.halving = halving
        self.worker = ray.put(worker)
        self.num_threads = max(1, int(section.num_cpus_per_actor))
        self.actor_class = ray.remote(num_cpus=section.num_cpus_per_actor, num_gpus=section.num_gpus_per_actor)(_ShardActor)
        self.num_actors = section.num_actors
        # In a row, over all actors: what cannot start for one shard will not start for the next.
        self.num_failed_starts = 0
        self.teller = Teller()
        self.mark = f"{uuid.uuid4().hex}."

    def run(self, pending: deque[Path], on_done: Callable[[Path], None]) -> int:
        attempts: dict[Path, int] = {}
        num_restarts = 0
        self._tell_of_missing_places()
        self.num_actors = min(self.num_actors, len(pending))
        idle = [self._new_actor() for _ in range(self.num_actors)]
        running: dict[Any, tuple[Path, _Member]] = {}
        try:
            while pending or running:
                while pending and idle:
                    shard, actor = pending.popleft(), idle.pop()
                    running[actor.handle.run.remote(str(shard), str(self.target / shard.name))] = (shard, actor)
                (reference,), _ = ray.wait(list(running), num_returns=1)
                shard, actor = running.pop(reference)
                try:
                    self.teller.tell(ray.get(reference))
                    idle.append(actor)
                except RayError as error:
                    is_dead = isinstance(error, RayActorError | OutOfMemoryError)
                    # A GPU that has failed once may fail this process for good.
                    is_over = is_dead or self.section.num_gpus_per_actor > 0
                    if is_over:
                        ray.kill(actor.handle)
                    if isinstance(getattr(error, "cause", None), _SetupError) or (is_dead and not actor.was_ready()):
                        pending.appendleft(shard)
                        num_restarts += is_over
                        has_others = any(member.was_ready() is not False for _, member in running.values())
                        idle += self._after_failed_start(actor, is_over, error, has_others)
                        continue
                    attempts[shard] = attempts.get(shard, 0) + 1
                    if not is_over:
                        idle.append(actor)
                    again = self._after_failure(shard, attempts[shard], error, bool(actor.was_ready()))
                    # Halves come first: one row after the other is found, and not all of them at the end. What fails whole
                    # comes last, when its cause may have passed.
                    if again == [shard] and shard.parent.name != HALVES:
                        pending.append(shard)
                    else:
                        pending.extendleft(again)
                    if not again:
                        on_done(shard)
                    if is_over:
                        num_restarts += 1
                        time.sleep(min(2.0 ** attempts[shard], 30.0) / 10)
                        idle.append(self._new_actor())
                else:
                    self.num_failed_starts = 0
                    on_done(shard)
                # Actors without work make room for those that still wait for a place on the cluster with a shard in hand.
                while idle and not pending:
                    ray.kill(idle.pop().handle)
        finally:
            for actor in [*idle, *(actor for _, actor in running.values())]:
                ray.kill(actor.handle)
            self.teller.close()
        return num_restarts

    def _tell_of_missing_places(self) -> None:
        """Actors wait for a place without a word; on a cluster that grows, one may come."""
        cores, gpus = self.section.num_cpus_per_actor, self.section.num_gpus_per_actor
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        machines = [node["Resources"] for node in nodes if node["Alive"]]
        if any(machine.get("CPU", 0.0) >= cores and machine.get("GPU", 0.0) >= gpus for machine in machines):
            return
        present = max((machine.get("GPU", 0.0) for machine in machines), default=0.0)
        if gpus > present and not self.section.address:
            raise ConfigError(
                f"ray.num_gpus_per_actor is {gpus:g}, and this machine has {present:g} GPUs. Set it to 0, or ray.address to "
                "a cluster that has them."
            )
        log.warning(
            "No machine of Ray has %g CPUs and %g GPUs, as ray.num_cpus_per_actor and ray.num_gpus_per_actor ask for: workers "
            "wait until one has",
            cores,
            gpus,
        )

    def _new_actor(self, num_failed: int = 0) -> _Member:
        handle: Any = self.actor_class.remote(self.worker, self.num_threads, self.mark)
        return _Member(handle, handle.set_up.remote(), num_failed)

    def _after_failed_start(self, actor: _Member, is_over: bool, error: RayError, has_others: bool) -> list[_Member]:
        """Who tries next in the place of an actor that could not be set up: nobody, after some attempts, where others work.

        Raises:
            StageError: there are no others, and as often as may be nothing could be set up.
        """
        kind = _kind(error)
        num_failed, most = actor.num_failed + 1, self.section.max_attempts_per_shard
        self.num_failed_starts += 1
        log.warning("A worker could not be set up (%s), attempt %d of %d", kind, num_failed, most)
        if has_others and num_failed >= most:
            log.warning("The others go on with one worker fewer")
            if not is_over:
                ray.kill(actor.handle)
            return []
        if not has_others and self.num_failed_starts >= most * self.num_actors:
            raise StageError(
                f"No worker could be set up, {self.num_failed_starts} times in a row, last with {kind}. Shards done so far are "
                "kept: mend the cause and start the job again."
            ) from error
        time.sleep(min(2.0**num_failed, 30.0) / 10)
        return [self._new_actor(num_failed) if is_over else replace(actor, num_failed=num_failed)]

    def _after_failure(self, shard: Path, attempt: int, error: RayError, was_ready: bool) -> list[Path]:
        """What to try next: the shard again, its halves, or nothing where it was laid aside.

        Raises:
            StageError, or what a worker raised on purpose: it is no use to try again.
        """
        if _is_answered(shard, self.target):  # and died before it could say so
            return []
        cause = getattr(error, "cause", None)
        if isinstance(cause, CesrecError):
            raise cause
        kind = _kind(error)
        if isinstance(cause, OSError) and is_disk_full(cause):
            raise StageError(
                f"There is no room for the answer to {shard.name} in {self.target} ({kind}). Shards done so far are "
                "kept: make room and start the job again."
            ) from error
        log.warning("Shard %s failed with %s, attempt %d of %d", shard.name, kind, attempt, self.section.max_attempts_per_shard)
        self.num_failed_starts = 0
        # A worker that is not there, and files that cannot be read, are no fault of some row.
        is_about_rows = was_ready and not isinstance(cause, OSError)
        if is_about_rows and self.halving.is_open_to(shard):
            return self.halving.halve(shard)
        if attempt < self.section.max_attempts_per_shard:
            return [shard]
        # Nor is want of memory, though less of them may find room.
        if is_about_rows and not is_out_of_memory(cause or error) and self.halving.refuse(shard):
            log.warning("Shard %s is one row that no attempt could answer: it is laid aside", shard.name)
            return []
        num_refused = self.halving.forget_refused()
        others = f", after {num_refused} rows that failed alone and will be tried again" if num_refused else ""
        raise StageError(
            f"The shard {shard} failed {attempt} times, last with {kind}{others}. Shards done so far are kept: mend the cause "
            "and start the job again."
        ) from error


def _kind(error: RayError) -> str:
    """The type alone, what the operating system says, and what helps where memory is wanting: a worker's own message may quote
    the data that it failed on."""
    cause = getattr(error, "cause", None) or error
    if isinstance(cause, _SetupError):
        return str(cause)
    name = type(cause).__name__
    if isinstance(cause, OSError) and cause.errno is not None:
        return f"{name} ({os.strerror(cause.errno)})"
    if is_out_of_memory(cause):
        return f"{name} (there is no room in memory; a smaller ray.num_actors or ray.rows_per_shard takes less)"
    return name
