"""What a worker warns of reaches the log of the job; the actor is made here without Ray."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cesrec_core.actors.pool import _ShardActor
from cesrec_core.actors.worker_warnings import MAX_TOLD, Teller, Warned

SECRET = "Ada Lovelace"


class MakesTitlesUp:
    """Warns of every number; libraries may warn of whatever they are given."""

    def setup(self) -> None:
        logging.getLogger("cesrec_core.made_up").warning("no title")

    def process(self, shard: pa.Table) -> pa.Table:
        for number in shard["number"].to_pylist():
            logging.getLogger("cesrec_core.made_up").warning("Not the title of a candidate: %r", f"Toy Story {number}")
            logging.getLogger("cesrec_core.made_up").info(SECRET)
            logging.getLogger("transformers").warning(SECRET)
        if 7 in shard["number"].to_pylist():
            raise ValueError
        return shard


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Any]:
    """Gives the actor a shard of numbers."""
    actor = _ShardActor(MakesTitlesUp(), 1, "mark")

    def run(*numbers: int) -> Warned:
        pq.write_table(pa.table({"number": numbers}), tmp_path / "in.parquet")
        return actor.run(str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet"))

    yield run
    logging.getLogger("cesrec_core").removeHandler(actor.warnings)


def test_warnings_of_this_project_come_back_with_the_answer(ask: Any) -> None:
    assert ask(1, 2) == Warned(
        ["no title", "Not the title of a candidate: 'Toy Story 1'", "Not the title of a candidate: 'Toy Story 2'"]
    )
    assert ask() == Warned([])
    with pytest.raises(ValueError):
        ask(7)
    assert [line[-3:-1] for line in ask(8).lines] == [" 7", " 8"]


def test_a_worker_keeps_so_many_and_counts_the_others(ask: Any) -> None:
    # One of setting up, and 103 titles.
    warned = ask(*range(100, 203))
    assert (len(warned.lines), warned.num_more) == (MAX_TOLD, 4)


def test_the_job_logs_the_first_of_all_workers_and_counts_the_others(caplog: pytest.LogCaptureFixture) -> None:
    teller = Teller()
    for _ in range(2):
        teller.tell(Warned(["endpoint is down"] * (MAX_TOLD - 2), num_more=3))
    teller.close()
    *told, last = [record.getMessage() for record in caplog.records]
    assert told == ["a worker: endpoint is down"] * MAX_TOLD
    assert last == "102 more warnings of workers are not shown"


def test_every_line_is_told_where_there_are_few(caplog: pytest.LogCaptureFixture) -> None:
    teller = Teller()
    teller.tell(Warned(["one", "two"]))
    teller.close()
    assert [record.getMessage() for record in caplog.records] == ["a worker: one", "a worker: two"]
