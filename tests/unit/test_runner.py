"""Which stages a run trusts to be done."""

import datetime as dt
from pathlib import Path

import pytest

from cesrec_core.config import Config
from cesrec_core.stages import runner, training_process
from cesrec_core.stages.context import RunContext, Stage, StageResult, StageState, write_state
from cesrec_core.stages.runner import decide, run_stage
from cesrec_core.stages.training_process import keep_reason


class Folders:
    def __init__(self, path: Path) -> None:
        self.path = path


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


def test_what_another_run_has_overwritten_is_not_done(tmp_path: Path) -> None:
    run_stage(INGEST, context_of(tmp_path, "a"))
    run_stage(MASK, context_of(tmp_path, "a"))
    run_stage(INGEST, context_of(tmp_path, "b"))
    again = context_of(tmp_path, "a")
    assert decide(INGEST, again).is_needed
    assert not decide(MASK, again).is_needed
    assert decide(MASK, again, is_resuming=False).is_needed


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
    monkeypatch.setattr(training_process, "num_interactions", lambda context: 100)
    notes = {"settings": {"width": "64"}, "run_date": "2026-03-02", "num_interactions": 95}
    write_state(tmp_path, "train_recommender", StageState({}, "a", 1.0, {}, {}, "artifact", notes))
    reason = keep_reason(context_of(tmp_path, "b", date), "train_recommender", {"width": "64"}, 7, 0.1)
    assert (reason is not None) == is_kept
