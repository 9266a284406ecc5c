"""The map over shards: every row once, whatever dies, and no data in what it says of a failure."""

import errno
import logging
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from ray.exceptions import ActorDiedError, OutOfMemoryError

from cesrec_core.actors.pool import MapReport, _Halving, _Pool, map_shards, refused_rows
from cesrec_core.actors.session import RaySession
from cesrec_core.config import RaySection
from cesrec_core.errors import ArtifactError, ConfigError, StageError, type_and_words
from cesrec_core.token_counts import count_tokens

SECRET = "Ada Lovelace"

# The workers below travel by value: Ray's processes do not find this file.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(300)]


class Double:
    """number -> number, twice."""

    def setup(self) -> None:
        self.factor = 2

    def process(self, shard: pa.Table) -> pa.Table:
        return pa.table({"number": [number * self.factor for number in shard["number"].to_pylist()]})


class Reads(Double):
    """As with a language model that reads ten tokens for each number."""

    def process(self, shard: pa.Table) -> pa.Table:
        count_tokens(10 * len(shard))
        return super().process(shard)


class Warns(Double):
    """Of every number that it answers with."""

    def process(self, shard: pa.Table) -> pa.Table:
        answer = super().process(shard)
        for number in answer["number"].to_pylist():
            logging.getLogger("cesrec_core.made_up").warning("%d is even", number)
        return answer


class FailsOnSeven(Double):
    def process(self, shard: pa.Table) -> pa.Table:
        if 7 in shard["number"].to_pylist():
            raise ValueError(f"cannot read what {SECRET} said")
        return super().process(shard)


class DiesOnce(Double):
    """Kills its process on the first shard that holds a 7, once it has read it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def process(self, shard: pa.Table) -> pa.Table:
        if 7 in shard["number"].to_pylist() and not self.marker.exists():
            self.marker.touch()
            os._exit(1)
        return super().process(shard)


class DiesOnSeven(Double):
    """As a text may that makes native code crash."""

    def process(self, shard: pa.Table) -> pa.Table:
        if 7 in shard["number"].to_pylist():
            os._exit(1)
        return super().process(shard)


class FailsOnOdd(Double):
    def process(self, shard: pa.Table) -> pa.Table:
        if any(number % 2 for number in shard["number"].to_pylist()):
            raise ValueError(SECRET)
        return super().process(shard)


class AlwaysDies(Double):
    def process(self, shard: pa.Table) -> pa.Table:
        os._exit(1)


class OneIsNeverReady(Double):
    """Whichever process is set up first cannot be; the others take their time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def setup(self) -> None:
        super().setup()
        taken = self.folder / "taken-by"
        try:
            with taken.open("x") as opened:
                opened.write(str(os.getpid()))
        except FileExistsError:
            pass
        if taken.read_text() in ("", str(os.getpid())):
            raise OSError("this GPU is taken")

    def process(self, shard: pa.Table) -> pa.Table:
        time.sleep(0.5)
        return super().process(shard)


class NeverReady(Double):
    def __init__(self, message: str = "no model in /models") -> None:
        self.message = message

    def setup(self) -> None:
        raise OSError(self.message)


class DiesInSetup(Double):
    def setup(self) -> None:
        os._exit(1)


class HasNoMemory(Double):
    def process(self, shard: pa.Table) -> pa.Table:
        raise MemoryError(SECRET)


class CannotReadItsDisk(Double):
    def process(self, shard: pa.Table) -> pa.Table:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


class WrongArtifact(Double):
    def setup(self) -> None:
        raise ArtifactError("The adapter was trained on another extractor. Train it again.")


class RefusesShards(Double):
    def process(self, shard: pa.Table) -> pa.Table:
        raise ArtifactError("The catalogue lacks an item. Export it again.")


class MustNotRun(Double):
    def setup(self) -> None:
        raise AssertionError("a finished shard was worked on again")


class CountsSetups(Double):
    """Leaves one file per set-up in a folder, and fails on a second one in the same actor."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def setup(self) -> None:
        super().setup()
        (self.folder / f"setup-{ray.get_runtime_context().get_actor_id()}").touch(exist_ok=False)


class CountsFailedSetups(Double):
    """Leaves a file for each attempt to set it up, none of which works."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def setup(self) -> None:
        (self.folder / f"setup-{uuid.uuid4().hex}").touch()
        raise OSError("no model in /models")


class TellsThreads(Double):
    """number -> threads of its tokenizers."""

    def process(self, shard: pa.Table) -> pa.Table:
        return pa.table({"number": [int(os.environ["RAYON_NUM_THREADS"])] * len(shard)})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Numbers 0 to 9 in shards of 4, 4 and 2."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number, start in enumerate((0, 4, 8)):
        pq.write_table(pa.table({"number": list(range(start, min(start + 4, 10)))}), folder / f"part-{number}.parquet")
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out"


def section(**values: float) -> RaySection:
    return RaySection(**{"num_actors": 2, "num_cpus_per_actor": 1.0, "max_attempts_per_shard": 2, **values})


def numbers(folder: Path) -> list[int]:
    return sorted(number for path in folder.glob("*.parquet") for number in pq.read_table(path)["number"].to_pylist())


DOUBLED = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]


def test_every_row_is_answered_once_and_finished_shards_are_kept(source: Path, target: Path) -> None:
    told: list[int] = []
    report = map_shards(source, target, Double(), section(), told.append)
    assert numbers(target) == DOUBLED
    assert report == MapReport(num_shards=3, num_reused=0, num_input_rows=10, num_output_rows=10, num_restarts=0)
    assert sorted(told) == [2, 4, 4]
    assert sorted(path.name for path in target.iterdir()) == ["part-0.parquet", "part-1.parquet", "part-2.parquet"]

    told.clear()
    report = map_shards(source, target, MustNotRun(), section(), told.append)
    assert report == MapReport(num_shards=3, num_reused=3, num_input_rows=10, num_output_rows=10, num_restarts=0)
    assert sum(told) == 10


def test_tokens_of_all_shards_are_told_also_of_those_that_were_done(source: Path, target: Path) -> None:
    first = map_shards(source, target, Reads(), RaySection())
    assert first.num_tokens == 10 * first.num_input_rows
    next(target.glob("*.parquet")).unlink()
    assert map_shards(source, target, Reads(), RaySection()).num_tokens == first.num_tokens


def test_only_missing_shards_are_worked_on(source: Path, target: Path) -> None:
    target.mkdir()
    pq.write_table(pa.table({"number": [-1]}), target / "part-1.parquet")
    (target / ".part-2.parquet.unfinished").write_bytes(b"half a file")
    report = map_shards(source, target, Double(), section())
    assert report.num_reused == 1
    assert numbers(target) == [-1, 0, 2, 4, 6, 16, 18]


def test_an_actor_that_dies_is_replaced_and_nothing_is_lost_or_doubled(source: Path, target: Path, tmp_path: Path) -> None:
    report = map_shards(source, target, DiesOnce(tmp_path / "has_died"), section(num_actors=1))
    assert (tmp_path / "has_died").exists()
    assert report.num_restarts == 1
    assert numbers(target) == DOUBLED


def test_a_shard_that_always_fails_is_named_without_its_data(
    source: Path, target: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole_cluster = section(num_actors=1, num_cpus_per_actor=float(total_cpus()))
    with pytest.raises(
        StageError, match=r"part-1\.parquet failed 2 times, last with ValueError.*start the job again"
    ) as caught:
        map_shards(source, target, FailsOnSeven(), whole_cluster)
    assert SECRET not in str(caught.value)
    assert SECRET not in caplog.text
    assert numbers(target) == [0, 2, 4, 6, 16, 18]

    # The error still holds the stack: an actor that only it kept alive would keep its place, and this map would wait for it.
    map_shards(source, target, CountsSetups(tmp_path), whole_cluster)
    assert numbers(target) == DOUBLED


@pytest.mark.parametrize("worker", [FailsOnSeven(), DiesOnSeven()], ids=["raises", "crashes"])
def test_a_row_that_a_worker_fails_on_is_laid_aside(source: Path, target: Path, worker: Double) -> None:
    told: list[int] = []
    report = map_shards(source, target, worker, section(), told.append, max_refused_rows=1)
    assert numbers(target) == [number for number in DOUBLED if number != 14]
    refused = refused_rows(target)
    assert refused is not None
    assert refused["number"].to_pylist() == [7]
    assert (report.num_input_rows, report.num_output_rows, report.num_refused) == (10, 9, 1)
    assert sum(told) == 10
    # What was found out is not found out again.
    told.clear()
    report = map_shards(source, target, MustNotRun(), section(), told.append, max_refused_rows=1)
    assert (report.num_reused, report.num_output_rows, report.num_refused) == (3, 9, 1)
    assert sum(told) == 10


def test_halves_that_were_answered_stay_answered_and_rows_that_failed_with_many_are_tried_again(
    source: Path, target: Path, tmp_path: Path
) -> None:
    """Where the machine was at fault, and is mended, no row is worse than another."""
    expected = r"failed 2 times, last with ValueError, after 1 rows that failed alone and will be tried again"
    with pytest.raises(StageError, match=rf"part-\d\.[01]\.[01]\.parquet {expected}"):
        map_shards(source, target, FailsOnOdd(), section(num_actors=1), max_refused_rows=1)
    answered = set(numbers(target))
    assert answered
    report = map_shards(source, target, Double(), section(num_actors=1), max_refused_rows=1)
    assert report.num_refused == 0
    assert answered < set(numbers(target)) == set(DOUBLED)


def test_a_half_that_is_damaged_doubles_no_row(source: Path, target: Path) -> None:
    """The whole is asked again, and what the other half had answered must not stand beside it."""
    with pytest.raises(StageError, match="failed 2 times"):
        map_shards(source, target, FailsOnOdd(), section(num_actors=1), max_refused_rows=1)
    assert numbers(target)
    for half in sorted((target / ".halves").glob("*.1.parquet")):
        half.write_bytes(half.read_bytes()[:20])
    report = map_shards(source, target, Double(), section(num_actors=1), max_refused_rows=1)
    assert numbers(target) == DOUBLED
    assert report.num_output_rows == len(DOUBLED)


def test_a_row_laid_aside_whose_file_is_damaged_is_tried_again(
    source: Path, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    map_shards(source, target, FailsOnSeven(), section(), max_refused_rows=1)
    [file] = (target / ".refused").glob("*.parquet")
    file.write_bytes(file.read_bytes()[:20])
    report = map_shards(source, target, FailsOnSeven(), section(), max_refused_rows=1)
    assert f"{file} is damaged and made again" in caplog.messages
    refused = refused_rows(target)
    assert refused is not None and refused["number"].to_pylist() == [7]
    assert (report.num_output_rows, report.num_refused) == (9, 1)


def test_rows_laid_aside_by_an_attempt_that_did_not_end_are_tried_again(source: Path, target: Path) -> None:
    """As where its driver was killed before it could see that all rows failed."""
    map_shards(source, target, FailsOnSeven(), section(num_actors=1), max_refused_rows=1)
    settled = map_shards(source, target, Double(), section(num_actors=1), max_refused_rows=1)
    assert settled.num_refused == 1
    next(target.glob("*.parquet")).unlink()
    report = map_shards(source, target, Double(), section(num_actors=1), max_refused_rows=1)
    assert report.num_refused == 0
    assert numbers(target) == DOUBLED


def test_a_place_that_no_machine_has_is_told_of(
    target: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """32 cores in all are no machine with nine, and half a GPU on each of four is no whole one."""
    machines = [{"Alive": True, "Resources": {"CPU": 8.0, "GPU": 0.5}}] * 4
    monkeypatch.setattr(ray, "nodes", lambda: machines)
    for asked, is_told in (({"num_gpus_per_actor": 1.0}, True), ({"num_cpus_per_actor": 9.0}, True), ({}, False)):
        caplog.clear()
        wanted = section(num_actors=1, address="ray://cluster", **asked)
        _Pool(Double(), wanted, target, _Halving(target, 0, 0))._tell_of_missing_places()
        assert ("wait until one has" in caplog.text) == is_told


def test_halving_ends_where_more_than_a_few_rows_fail(tmp_path: Path, target: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    pq.write_table(pa.table({"number": list(range(1, 2001, 2))}), folder / "part-0.parquet")
    with pytest.raises(StageError, match="after 2 rows"):
        map_shards(folder, target, FailsOnOdd(), section(num_actors=1), max_refused_rows=2)


@pytest.mark.parametrize(
    ("worker", "kind"),
    [(NeverReady(), "OSError: no model in /models"), (DiesInSetup(), "ActorDiedError")],
    ids=["raises", "crashes"],
)
def test_a_worker_that_cannot_be_set_up_is_no_reason_to_lay_rows_aside(
    source: Path, target: Path, worker: Double, kind: str
) -> None:
    with pytest.raises(StageError, match=rf"No worker could be set up, 2 times in a row, last with {kind}\."):
        map_shards(source, target, worker, section(num_actors=1), max_refused_rows=10)
    assert refused_rows(target) is None


@pytest.mark.parametrize(
    ("worker", "told"),
    [(HasNoMemory(), r"MemoryError \(there is no room in memory; "), (CannotReadItsDisk(), r"OSError \(Input/output error\)")],
    ids=["memory", "disk"],
)
def test_what_a_machine_lacks_is_no_reason_to_lay_rows_aside(source: Path, target: Path, worker: Double, told: str) -> None:
    with pytest.raises(StageError, match=rf"failed 2 times, last with {told}"):
        map_shards(source, target, worker, section(num_actors=1), max_refused_rows=10)
    assert refused_rows(target) is None


def test_as_many_starts_are_tried_as_there_are_workers(source: Path, target: Path) -> None:
    """However many more could have been started for more shards."""
    for shard in sorted(source.glob("*.parquet"))[1:]:
        shard.unlink()
    with pytest.raises(StageError, match="No worker could be set up, 2 times in a row"):
        map_shards(source, target, NeverReady(), section(num_actors=8, num_cpus_per_actor=0.1))


def test_workers_that_cannot_be_set_up_are_not_started_for_every_shard(tmp_path: Path, target: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(30):
        pq.write_table(pa.table({"number": [number]}), folder / f"part-{number:02d}.parquet")
    with pytest.raises(StageError, match="No worker could be set up, 4 times in a row"):
        map_shards(folder, target, CountsFailedSetups(tmp_path), section(num_actors=2))
    # Each of two actors once when it starts, once for each of four failures, and once for a shard still in the other's hand.
    assert 4 <= len(list(tmp_path.glob("setup-*"))) <= 7


def test_one_worker_that_cannot_be_set_up_does_not_end_what_others_do(
    tmp_path: Path, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As where one of eight GPUs is taken: it fails at once, again and again, while the others have minutes for each shard."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(8):
        pq.write_table(pa.table({"number": [number]}), folder / f"part-{number:02d}.parquet")
    report = map_shards(folder, target, OneIsNeverReady(tmp_path), section(num_actors=2))
    assert numbers(target) == [0, 2, 4, 6, 8, 10, 12, 14] and report.num_output_rows == 8
    assert "A worker could not be set up (OSError: this GPU is taken), attempt 2 of 2" in caplog.text
    assert "The others go on with one worker fewer" in caplog.text


def test_a_full_disk_is_named_and_what_is_done_stays_done(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device's kernel driver says `no space` to whoever writes there."""
    target.mkdir()
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=0))
    (target / f".part-2.parquet.{'0' * 32}.unfinished").symlink_to("/dev/full")
    with pytest.raises(StageError, match=r"no room for the answer to part-2\.parquet .*No space left on device.*make room"):
        map_shards(source, target, Double(), section(num_actors=1), max_refused_rows=10)
    assert not [path for path in target.iterdir() if path.name.startswith(".part")]
    assert numbers(target) == DOUBLED[:8]
    monkeypatch.undo()
    map_shards(source, target, Double(), section(num_actors=1))
    assert numbers(target) == DOUBLED


def test_an_answer_that_is_damaged_inside_is_made_again(source: Path, target: Path, caplog: pytest.LogCaptureFixture) -> None:
    map_shards(source, target, Double(), section())
    answer = target / "part-0.parquet"
    whole = answer.read_bytes()
    # A single bit of a value, which stands in the dictionary right before the first page: footer and headers are whole.
    place = pq.read_metadata(answer).row_group(0).column(0).data_page_offset - 4
    answer.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    report = map_shards(source, target, Double(), section())
    assert report.num_reused == 2
    assert f"{answer} is damaged and made again" in caplog.text
    assert numbers(target) == DOUBLED


def test_a_damaged_shard_to_work_on_is_named(source: Path, target: Path) -> None:
    (source / "part-1.parquet").write_bytes(b"PAR1")
    with pytest.raises(StageError, match=rf"part-1\.parquet cannot be read\. Remove {source} and start the job again"):
        map_shards(source, target, Double(), section())


def test_a_damaged_answer_is_made_again(source: Path, target: Path) -> None:
    target.mkdir()
    pq.write_table(pa.table({"number": [0, 2, 4, 6]}), target / "part-0.parquet")
    whole = (target / "part-0.parquet").read_bytes()
    (target / "part-0.parquet").write_bytes(whole[: len(whole) // 2])
    (target / "part-1.parquet").write_bytes(b"")
    report = map_shards(source, target, Double(), section())
    assert report.num_reused == 0
    assert numbers(target) == DOUBLED


KILLED_DRIVER = """
import sys, time
from pathlib import Path
import pyarrow as pa
from cesrec_core.actors.pool import map_shards
from cesrec_core.actors.session import RaySession
from cesrec_core.config import RaySection

class Slow:
    def setup(self):
        pass
    def process(self, shard):
        time.sleep(0.5)
        return shard

section = RaySection(num_actors=int(sys.argv[3]), object_store_mib=100)
with RaySession(section) as session:
    session.start()
    map_shards(Path(sys.argv[1]), Path(sys.argv[2]), Slow(), section)
"""


@pytest.mark.parametrize("num_actors", [1, 2])
def test_a_killed_driver_loses_no_more_than_the_shards_it_was_on(tmp_path: Path, target: Path, num_actors: int) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(40):
        pq.write_table(pa.table({"number": [number]}), folder / f"part-{number:02d}.parquet")
    command = [sys.executable, "-c", KILLED_DRIVER, str(folder), str(target), str(num_actors)]
    driver = subprocess.Popen(command, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while len(list(target.glob("*.parquet"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
    done = {path.name: path.stat().st_mtime_ns for path in target.glob("*.parquet")}
    assert 3 <= len(done) < 40
    report = map_shards(folder, target, Double(), section())
    assert report.num_reused >= len(done)
    assert (report.num_input_rows, report.num_output_rows) == (40, 40)
    assert all((target / name).stat().st_mtime_ns == moment for name, moment in done.items())
    answers = {path.name: pq.read_table(path)["number"].to_pylist() for path in target.glob("*.parquet")}
    # What stood there, and at most the shard that each actor still had in hand.
    kept = [name for name, answer in answers.items() if answer == [int(name[5:7])] and name != "part-00.parquet"]
    assert len(done) - 1 <= len(kept) <= len(done) - 1 + num_actors
    assert all(answer in ([int(name[5:7])], [2 * int(name[5:7])]) for name, answer in answers.items())


def test_a_worker_that_ray_ended_once_for_want_of_memory_is_replaced(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[object] = []

    def get(reference: object, **options: float) -> object:
        if not failed and not options:
            failed.append(reference)
            raise OutOfMemoryError("as long as a page")
        return get_of_ray(reference, **options)

    get_of_ray = ray.get
    monkeypatch.setattr(ray, "get", get)
    report = map_shards(source, target, Double(), section(num_actors=1))
    assert (len(failed), report.num_restarts) == (1, 1)
    assert numbers(target) == DOUBLED


def test_a_shard_whose_worker_died_once_it_had_answered_is_not_asked_again(source: Path, target: Path) -> None:
    """Its halves would stand beside the answer, and rows be doubled."""
    shard = min(source.glob("*.parquet"))
    map_shards(source, target, Double(), section())
    pool = _Pool(Double(), section(), target, _Halving(target, max_refused=10, num_rows=4))
    assert pool._after_failure(shard, 1, ActorDiedError(), was_ready=True) == []
    (target / shard.name).unlink()
    assert len(pool._after_failure(shard, 1, ActorDiedError(), was_ready=True)) == 2


OUT_OF_MEMORY = """
import os, sys, time
from pathlib import Path
# Of the machine: all processes together always take more.
os.environ["RAY_memory_usage_threshold"] = "0.001"
os.environ["RAY_memory_monitor_refresh_ms"] = "100"
from cesrec_core.actors.pool import map_shards
from cesrec_core.actors.session import RaySession
from cesrec_core.config import RaySection
from cesrec_core.errors import StageError

class Waits:
    def setup(self):
        pass
    def process(self, shard):
        time.sleep(60)
        return shard

section = RaySection(num_actors=1, object_store_mib=100, max_attempts_per_shard=2)
with RaySession(section) as session:
    session.start()
    try:
        map_shards(Path(sys.argv[1]), Path(sys.argv[2]), Waits(), section)
    except StageError as error:
        print(error)
"""


def test_memory_is_named_where_ray_ends_workers_for_want_of_it(source: Path, target: Path) -> None:
    """In a process of its own: which limit Ray has is settled when it starts."""
    command = [sys.executable, "-c", OUT_OF_MEMORY, str(source), str(target)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert "last with OutOfMemoryError (there is no room in memory; a smaller ray.num_actors or" in ended.stdout, ended.stderr


def test_actors_that_keep_dying_are_given_up(source: Path, target: Path) -> None:
    with pytest.raises(StageError, match="failed 1 times, last with ActorDiedError"):
        map_shards(source, target, AlwaysDies(), section(num_actors=1, max_attempts_per_shard=1))
    assert numbers(target) == []


def test_gpus_that_this_machine_lacks_are_not_waited_for(source: Path, target: Path) -> None:
    with pytest.raises(ConfigError, match=r"ray\.num_gpus_per_actor is 1, and this machine has 0 GPUs"):
        map_shards(source, target, NeverReady(), section(num_gpus_per_actor=1.0))


def test_a_key_that_setting_up_did_not_find_is_not_told() -> None:
    """It may be a title of a catalogue."""
    assert type_and_words(KeyError("Somebody's film")) == "KeyError"
    assert type_and_words(ValueError("no such layer.\nmore")) == "ValueError: no such layer"


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("\nno model in /models.\na trace", r"OSError: no model in /models\. Shards"),
        ("x" * 301, rf"OSError: {'x' * 300}\. Shards"),
        ("", r"OSError\. Shards"),
    ],
    ids=["lines", "long", "none"],
)
def test_a_worker_that_cannot_be_set_up_says_why(source: Path, target: Path, message: str, told: str) -> None:
    """It has read nobody's words yet, and the type alone helps nobody."""
    with pytest.raises(StageError, match=f"2 times in a row, last with {told}"):
        map_shards(source, target, NeverReady(message), section(num_actors=1))


@pytest.mark.parametrize("worker", [WrongArtifact(), RefusesShards()], ids=["set up", "process"])
def test_an_error_raised_on_purpose_keeps_its_class_and_words(source: Path, target: Path, worker: Double) -> None:
    with pytest.raises(ArtifactError, match=r"^The (adapter was trained on|catalogue lacks an item)"):
        map_shards(source, target, worker, section(num_actors=1))


def test_more_actors_than_shards(source: Path, target: Path, tmp_path: Path) -> None:
    for name in ("part-1.parquet", "part-2.parquet"):
        (source / name).unlink()
    map_shards(source, target, CountsSetups(tmp_path), section(num_actors=50, num_cpus_per_actor=0.01))
    assert numbers(target) == [0, 2, 4, 6]
    assert len(list(tmp_path.glob("setup-*"))) == 1


def test_a_worker_is_set_up_once_per_actor(source: Path, target: Path, tmp_path: Path) -> None:
    map_shards(source, target, CountsSetups(tmp_path), section(num_actors=1))
    assert len(list(tmp_path.glob("setup-*"))) == 1
    assert numbers(target) == DOUBLED


def test_a_worker_has_as_many_threads_as_it_was_given_cpus(source: Path, target: Path) -> None:
    map_shards(source, target, TellsThreads(), section(num_actors=1, num_cpus_per_actor=float(total_cpus())))
    assert set(numbers(target)) == {total_cpus()}
    assert total_cpus() > 1


def test_more_actors_than_the_cluster_has_room_for(source: Path, target: Path) -> None:
    map_shards(source, target, Double(), section(num_actors=2, num_cpus_per_actor=float(total_cpus())))
    assert numbers(target) == DOUBLED


def test_what_workers_warn_of_is_told(source: Path, target: Path, caplog: pytest.LogCaptureFixture) -> None:
    map_shards(source, target, Warns(), section(num_actors=2))
    told = [record.getMessage() for record in caplog.records]
    assert sorted(told) == sorted(f"a worker: {number} is even" for number in DOUBLED)


def test_no_shards_are_no_work(tmp_path: Path, target: Path) -> None:
    (tmp_path / "in").mkdir()
    report = map_shards(tmp_path / "in", target, MustNotRun(), section())
    assert (report.num_shards, report.num_input_rows, report.num_output_rows) == (0, 0, 0)


def test_starting_ray_a_second_time_does_nothing(ray_session: RaySession) -> None:
    with RaySession(ray_session.section) as second:
        second.start()
    assert ray.is_initialized()


def total_cpus() -> int:
    return int(ray.cluster_resources()["CPU"])
