"""Which stages a run trusts to be done."""

import dataclasses
import datetime as dt
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from cesrec_core.config import Config
from cesrec_core.delta_io.runs import Run
from cesrec_core.errors import BusyError, ConfigError, InputDataError, QualityGateError, StageError, Stopped, run_of
from cesrec_core.schemas import RUNS
from cesrec_core.stages import kept_models, runner
from cesrec_core.stages.context import RunContext, Stage, StageResult, StageState, write_state
from cesrec_core.stages.journal import FAILED, RAN, SKIPPED, Entry, note, read_journal
from cesrec_core.stages.kept_models import keep_reason
from cesrec_core.stages.runner import check_warehouse_folder, decide, execute, open_run, run_stage, was_overtaken


class Folders:
    """A warehouse without tables."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def exists(self, table: object) -> bool:
        return False


def context_of(warehouse: Path, run_id: str, date: str = "2026-03-02") -> RunContext:
    day = dt.date.fromisoformat(date)
    return RunContext(Config(), None, Folders(warehouse), None, run_id, day, {}, {"items": run_id})  # type: ignore[arg-type]


INGEST = Stage("ingest", (), ("items",), lambda context: StageResult(), fingerprint=lambda context: context.inputs)
MASK = Stage("mask_outliers", ("items",), ("outlier_masks",), lambda context: StageResult())


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    first = context_of(tmp_path, "a")
    for stage in (INGEST, MASK):
        assert decide(stage, first).is_needed
        run_stage(stage, first)
        assert decide(stage, context_of(tmp_path, "a")).reason == "done already in this run"
    assert decide(MASK, context_of(tmp_path, "b")).is_needed


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe",
        b"{",
        b"[]",
        b'{"run_id": "a"}',
        *(
            json.dumps({**vars(StageState({}, "a", 1.0, {}, {})), **wrong}).encode()
            for wrong in (
                {"seconds": "long"},
                {"counts": [1]},
                {"counts": {"rows": "many"}},
                {"fingerprint": {"items": 1}},
                {"artifact_id": 7},
                {"notes": None},
            )
        ),
    ],
)
def test_a_damaged_record_is_as_good_as_lost(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    context = context_of(tmp_path, "a")
    run_stage(INGEST, context)
    of_run, of_state = context.stage_path("ingest") / "done.json", tmp_path / "state" / "ingest.json"
    for record in (of_run, of_state):
        record.write_bytes(content)
    decision = decide(INGEST, context_of(tmp_path, "a"))
    assert (decision.is_needed, decision.reason) == (True, "has not run in this warehouse yet")
    decide(INGEST, context_of(tmp_path, "a"))
    assert [message.partition(" is no record of a stage")[0] for message in caplog.messages] == [str(of_run), str(of_state)]
    run_stage(INGEST, context)
    assert not decide(INGEST, context_of(tmp_path, "b")).reason.startswith("has not run")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[]", b'{"ingest": {"outcome": "ran", "reason": "new", "seconds": "long"}}'])
def test_a_damaged_journal_is_left_aside(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    assert read_journal(tmp_path) == {} and not caplog.messages
    (tmp_path / "journal.json").write_bytes(content)
    assert read_journal(tmp_path) == {}
    assert f"{tmp_path / 'journal.json'} is no journal of a run that can be read" in caplog.text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("night\\1", r"Spark would read \\ as a pattern"),
        ("night[1]", r"Spark would read \[ \] as a pattern"),
        ("n" * 256, "which cannot be made: File name too long"),
    ],
    ids=["backslash", "brackets", "too long"],
)
def test_a_warehouse_that_could_not_be_made_is_refused_at_once(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"warehouse.path is .*{message}"):
        check_warehouse_folder(tmp_path / name / "below")


def work_at(moment: int, stage: Stage, context: RunContext) -> None:
    run_stage(stage, context)
    for record in (context.warehouse.path / "state" / f"{stage.name}.json", context.stage_path(stage.name) / "done.json"):
        os.utime(record, (moment, moment))


def test_a_run_is_overtaken_by_what_another_one_wrote_for_all_to_read(tmp_path: Path) -> None:
    first, second = context_of(tmp_path, "a"), context_of(tmp_path, "b")
    work_at(1, INGEST, second)
    work_at(2, INGEST, first)
    work_at(3, MASK, first)
    assert not was_overtaken(first)
    work_at(4, MASK, second)
    assert not was_overtaken(first)
    work_at(5, INGEST, second)
    assert was_overtaken(first)
    assert not was_overtaken(second)
    for stage in (INGEST, MASK):
        assert decide(stage, first, is_resuming=False).is_needed


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_a_run_that_begins_anew_keeps_embeddings_that_no_table_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_interrupted: bool
) -> None:
    context = context_of(tmp_path, "a")
    context.begin_anew()
    for stage in ("ingest", "embed_items", "recommend"):
        (context.stage_path(stage) / "out").mkdir(parents=True)
    (context.work_path / "journal.json").write_text("{}")
    if is_interrupted:

        def stop(folder: Path) -> None:
            raise OSError("the disk has gone")

        with monkeypatch.context() as patched, pytest.raises(OSError, match="gone"):
            patched.setattr(shutil, "rmtree", stop)
            context.begin_anew()
    else:
        context.begin_anew()
    assert not context.work_path.exists()
    (aside,) = (tmp_path / "work").iterdir()
    assert (aside / "embed_items" / "out").is_dir()
    assert is_interrupted or [entry.name for entry in aside.iterdir()] == ["embed_items"]


def test_a_run_that_begins_anew_leaves_nothing_of_embeddings_that_a_table_holds(tmp_path: Path) -> None:
    context = context_of(tmp_path, "a")
    context.stage_path("embed_items").mkdir(parents=True)
    (context.stage_path("embed_items") / "done.json").write_text("{}")
    context.begin_anew()
    assert not list((tmp_path / "work").iterdir())


def test_a_stage_alone_does_not_go_on_with_a_run_that_was_overtaken(tmp_path: Path) -> None:
    """Nor does the one after it; with the first stage the run begins again."""
    first, second = context_of(tmp_path, "a"), context_of(tmp_path, "b")
    work_at(1, INGEST, first)
    work_at(2, INGEST, second)
    for _ in range(2):
        with pytest.raises(InputDataError, match=r"Another run has written .* since run a began, .*run jobs/ingest.py"):
            execute([MASK], first, earlier=[INGEST])
    assert read_journal(first.work_path) == {}


def test_another_version_of_the_code_looks_at_its_data_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_stage(INGEST, context_of(tmp_path, "a"))
    same_inputs = context_of(tmp_path, "a")
    same_inputs.run_id = "next day"
    assert not decide(INGEST, same_inputs).is_needed
    monkeypatch.setattr(runner, "__version__", "another")
    assert "code" in decide(INGEST, same_inputs).reason


@pytest.mark.parametrize(
    ("date", "is_kept"), [("2026-03-02", True), ("2026-03-09", True), ("2026-03-10", False), ("2026-03-01", False)]
)
def test_a_model_is_kept_from_its_day_until_it_is_too_old(
    date: str, is_kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a date before its own it was trained on what had not happened yet."""
    monkeypatch.setattr(kept_models, "num_interactions", lambda context, after: (100, 0))
    notes = {"settings": {"width": "64"}, "run_date": "2026-03-02", "num_interactions": 95}
    write_state(tmp_path, "train_recommender", StageState({}, "a", 1.0, {}, {}, "artifact", notes))
    reason = keep_reason(context_of(tmp_path, "b", date), "train_recommender", {"width": "64"}, 7, 0.1)
    assert (reason is not None) == is_kept


def test_the_journal_keeps_why_a_stage_ran_and_drops_a_failure_that_was_mended(tmp_path: Path) -> None:
    context = context_of(tmp_path, "a")
    assert read_journal(context.work_path) == {}
    note(context, "ingest", RAN, "changed: items (1 -> 2)")
    note(context, "mask_outliers", FAILED, "the power went out")
    note(context, "ingest", SKIPPED, "done already in this run")
    note(context, "embed_items", SKIPPED, "nothing it reads changed since run z")
    note(context, "mask_outliers", RAN, "every run writes its own rows")
    assert read_journal(context.work_path) == {
        "ingest": Entry(RAN, "changed: items (1 -> 2)"),
        "mask_outliers": Entry(RAN, "every run writes its own rows"),
        "embed_items": Entry(SKIPPED, "nothing it reads changed since run z"),
    }
    (context.work_path / "journal.json").write_text("[", encoding="utf-8")
    assert read_journal(context.work_path) == {}


def test_the_journal_tells_whose_rows_a_run_stands_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the work of that run is gone."""
    monkeypatch.setattr(Folders, "exists", lambda self, table: table is not RUNS)
    same = dataclasses.replace(INGEST, fingerprint=lambda context: {"items": "as before"})
    for run_id in ("first", "second", "third"):
        execute([same, MASK], context_of(tmp_path, run_id))
    shutil.rmtree(tmp_path / "work" / "first")
    execute([same, MASK], context_of(tmp_path, "fourth"))
    stands_on = {
        run_id: read_journal(tmp_path / "work" / run_id)["ingest"].stands_on for run_id in ("second", "third", "fourth")
    }
    assert stands_on == dict.fromkeys(("second", "third", "fourth"), "first")
    assert read_journal(tmp_path / "work" / "fourth")["mask_outliers"] == Entry(RAN, "every run writes its own rows")


INGESTING = dataclasses.replace(INGEST, run=lambda context: StageResult({"items": 40}, {"share": 0.5}))
RECOMMEND = Stage("recommend", ("outlier_masks",), ("recommendations",), lambda context: StageResult({"users": 60}))


@pytest.fixture
def statuses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What would be written to `runs`, in order."""
    written: list[str] = []
    monkeypatch.setattr(runner, "_mark", lambda context, started_at, status: written.append(status))
    return written


def test_a_stage_in_a_job_of_its_own_sees_what_those_before_it_measured(tmp_path: Path, statuses: list[str]) -> None:
    execute([INGESTING], context_of(tmp_path, "a"))
    execute([MASK], context_of(tmp_path, "a"), [INGESTING])
    context = context_of(tmp_path, "a")
    summary = execute([RECOMMEND], context, [INGESTING, MASK])
    assert context.results["ingest"] == StageResult({"items": 40}, {"share": 0.5})
    assert set(context.results) == {"ingest", "mask_outliers", "recommend"}
    # The summary is of the job itself.
    assert (summary["counts"], summary["metrics"]) == ({"recommend": {"users": 60}}, {})
    assert statuses == ["running", "partial"] * 3


def test_a_stage_whose_rows_of_this_run_are_missing_is_named(tmp_path: Path, statuses: list[str]) -> None:
    execute([INGESTING], context_of(tmp_path, "a"))
    execute([MASK], context_of(tmp_path, "a"), [INGESTING])
    statuses.clear()
    # What ingest writes is shared by all runs; masks belong to one.
    with pytest.raises(InputDataError, match=r"Run b of 2026-03-02 has not been through mask_outliers, which recommend needs"):
        execute([RECOMMEND], context_of(tmp_path, "b"), [INGESTING, MASK])
    assert statuses == []


def refuse(context: RunContext) -> StageResult:
    raise QualityGateError("not good enough")


def test_a_stage_that_is_refused_is_told_of_unless_it_is_the_first_of_all(tmp_path: Path, statuses: list[str]) -> None:
    with pytest.raises(QualityGateError):
        execute([dataclasses.replace(INGEST, run=refuse)], context_of(tmp_path, "a"))
    assert statuses == []
    with pytest.raises(QualityGateError):
        execute([dataclasses.replace(MASK, run=refuse)], context_of(tmp_path, "a"), [INGESTING])
    assert statuses == ["running", "refused"]


class ServerError(Exception):
    """As of Py4J: what it says quotes what it was given."""

    def __str__(self) -> str:
        raise AssertionError("asked what it says")


def stop_with(error: BaseException) -> Any:
    def run(context: RunContext) -> StageResult:
        raise error

    return run


@pytest.mark.parametrize("error", [ServerError(), MemoryError()], ids=lambda error: type(error).__name__)
def test_an_error_that_nobody_foresaw_ends_its_run_too(error: Exception, tmp_path: Path, statuses: list[str]) -> None:
    context = context_of(tmp_path, "a")
    with pytest.raises(type(error)) as caught:
        execute([INGESTING, dataclasses.replace(MASK, run=stop_with(error))], context)
    assert caught.value is error
    assert statuses == ["running", "failed"]
    entry = read_journal(context.work_path)["mask_outliers"]
    assert entry.outcome == FAILED
    assert re.fullmatch(rf"{type(error).__name__} at .*test_runner\.py:\d+\.", entry.reason)


def test_whoever_is_asked_to_end_says_so(tmp_path: Path, statuses: list[str]) -> None:
    context = context_of(tmp_path, "a")
    with pytest.raises(Stopped) as caught:
        runner._execute_and_tell([dataclasses.replace(MASK, run=stop_with(Stopped()))], context, [INGESTING])
    assert run_of(caught.value) == {"run_id": "a"}
    assert statuses == ["running", "failed"]
    assert read_journal(context.work_path)["mask_outliers"].reason.startswith("Stopped by SIGTERM.")


def test_what_cannot_be_recorded_does_not_hide_why_a_run_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    marked: list[str] = []

    def mark(context: RunContext, started_at: dt.datetime, status: str) -> None:
        marked.append(status)
        if status == "failed":
            raise ConnectionError("Ada Lovelace")

    def refuse_to_note(*_: object, **__: object) -> None:
        raise OSError("Ada Lovelace")

    monkeypatch.setattr(runner, "_mark", mark)
    monkeypatch.setattr(runner, "note", refuse_to_note)
    with pytest.raises(ServerError):
        execute([dataclasses.replace(MASK, run=stop_with(ServerError()))], context_of(tmp_path, "a"), [INGESTING])
    assert marked == ["running", "failed"]
    assert caplog.text.count("The end of run a could not be recorded") == 2
    assert "ConnectionError at" in caplog.text and "OSError at" in caplog.text
    assert "Ada" not in caplog.text


@pytest.mark.parametrize("published", ["a", "another", None])
def test_a_run_that_is_done_tries_again_to_make_the_views(
    published: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what consumers read, which may be another run."""
    made: list[str] = []
    context = context_of(tmp_path, "a")
    monkeypatch.setattr(Folders, "create_published_views", lambda self, run_id: made.append(run_id), raising=False)
    monkeypatch.setattr(runner, "_is_done", lambda context: True)
    monkeypatch.setattr(runner, "latest_published", lambda warehouse: published)
    summary = execute([dataclasses.replace(MASK, name="publish")], context)
    assert (summary["status"], summary["published_run_id"]) == ("nothing_to_do", published)
    assert made == ([] if published is None else [published])


@pytest.mark.parametrize("stage", ["publish", "recommend"])
@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (ServerError(), "failed", {"report": "page"}),
        (StageError("x"), "failed", {"report": "page"}),
        (QualityGateError("x"), "refused", {"report": "page"}),
        (InputDataError("x"), "partial", {}),
        (BusyError("x"), "failed", {}),
        (Stopped(), "failed", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_run_that_has_ended_badly_has_a_page_whoever_ended_it(
    error: BaseException, status: str, told: dict[str, str], stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is refused before any work leaves the run as it was, and no page of a night on which nothing failed."""
    run = Run("a", dt.date(2026, 3, 2), status, {}, "hash", "0.1", dt.datetime(2026, 3, 2, tzinfo=dt.UTC))
    monkeypatch.setattr(Folders, "exists", lambda self, table: True, raising=False)
    monkeypatch.setattr(runner, "find_run", lambda warehouse, run_id: run)
    monkeypatch.setattr(runner, "execute", lambda stages, context, earlier: stop_with(error)(context))
    monkeypatch.setattr(runner, "tell_of_run", lambda context: {"report": "page"})
    with pytest.raises(type(error)) as caught:
        runner._execute_and_tell([dataclasses.replace(MASK, name=stage)], context_of(tmp_path, "a"))
    assert run_of(caught.value) == {"run_id": "a", **told}


@pytest.mark.parametrize(
    ("goes_on", "known", "begun", "expected"),
    [(True, False, True, "begun"), (True, True, True, "own"), (True, False, False, "own"), (False, False, True, "own")],
    ids=["a later stage", "a later stage of a run that has begun", "nothing has begun", "a job that begins a run"],
)
def test_later_stages_go_on_with_the_run_that_was_begun(
    goes_on: bool, known: bool, begun: bool, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has written feedback since: version 4, where the run began with 3."""
    now = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
    run = Run("begun", now.date(), "partial", {"items": "content:x", "feedback_table": "3"}, "hash", "0.1", now)

    class Tables(Folders):
        def __init__(self, *_: Any) -> None:
            super().__init__(tmp_path)

        def exists(self, table: object) -> bool:
            return True

        def version_by_others(self, table: object) -> int:
            return 4

    monkeypatch.setattr(runner, "Warehouse", Tables)
    monkeypatch.setattr(runner, "locate_sources", lambda section: {"items": "items.parquet"})
    monkeypatch.setattr(runner, "pin_sources", lambda spark, sources: {"items": "content:x"})
    monkeypatch.setattr(runner, "find_run", lambda warehouse, run_id: run if known else None)
    monkeypatch.setattr(runner, "latest_begun", lambda *_: run if begun else None)
    context = open_run(Config(), None, None, now.date(), goes_on)  # type: ignore[arg-type]
    is_begun = context.run_id == "begun"
    assert is_begun == (expected == "begun")
    assert context.inputs["feedback_table"] == ("3" if is_begun else "4")


@pytest.mark.parametrize(
    ("names", "goes_on", "or_ended"),
    [(["publish"], True, True), (["recommend"], True, False), (["ingest", "publish"], False, False)],
)
def test_only_a_job_that_publishes_alone_goes_on_with_a_run_that_has_ended(
    names: list[str], goes_on: bool, or_ended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first try may have been lost after its commit; every other job would have to make rows of a run anew."""
    asked: list[tuple[bool, bool]] = []

    def opened(*_: Any, or_ended: bool) -> RunContext:
        asked.append((_[-1], or_ended))
        raise InputDataError("far enough")

    monkeypatch.setattr(runner, "spark_session", lambda *_: None)
    monkeypatch.setattr(runner, "open_run", opened)
    stages = [dataclasses.replace(MASK, name=name) for name in names]
    with pytest.raises(InputDataError, match="far enough"):
        runner.run_job(Config(), stages, False, "a job", [MASK] if goes_on else [])
    assert asked == [(goes_on, or_ended)]
