"""When a trained model may stay: what of today's interactions it has not seen."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from cesrec_core.config import Config
from cesrec_core.delta_io.warehouse import Warehouse, local_frame
from cesrec_core.schemas import INTERACTIONS
from cesrec_core.stages.context import RunContext, StageState, write_state
from cesrec_core.stages.kept_models import keep_reason, training_notes

STAGE, SETTINGS = "train_recommender", {"width": "64"}
MONDAY = dt.date(2026, 3, 2)
FIRST = dt.datetime(2026, 2, 10, 6, tzinfo=dt.UTC)
Night = Callable[[range], RunContext]


@pytest.fixture
def night(spark: SparkSession, tmp_path: Path) -> Night:
    """A run whose snapshot holds one interaction for each day of the given ones, counted from the first, at six o'clock."""
    config = Config.model_validate({"warehouse": {"path": str(tmp_path)}})
    warehouse = Warehouse(spark, config.warehouse)
    warehouse.create(INTERACTIONS)

    def begin(days: range) -> RunContext:
        rows = [
            {"user_id": "u", "item_id": f"i{day}", "interacted_at": FIRST + dt.timedelta(days=day), "source_position": 0}
            for day in days
        ]
        warehouse.merge(INTERACTIONS, local_frame(spark, rows, INTERACTIONS), delete_missing=True)
        return RunContext(config, spark, warehouse, None, "run", MONDAY, {}, {})  # type: ignore[arg-type]

    return begin


def trained(context: RunContext, **changes: Any) -> None:
    notes = {name: value for name, value in (training_notes(context, SETTINGS) | changes).items() if value is not None}
    write_state(context.warehouse.path, STAGE, StageState({}, "a", 1.0, {}, {}, "artifact", notes))


def reason(context: RunContext) -> str | None:
    return keep_reason(context, STAGE, SETTINGS, max_age_days=7, max_new_share=0.1)


def test_a_snapshot_that_rolls_on_has_new_rows_though_no_more_of_them(night: Night) -> None:
    """20 rows, of which 2 or 3 are later than all that were trained on."""
    trained(night(range(20)))
    assert reason(night(range(20))) == "kept: 0 days old (limit 7), 0.0% of interactions are new to it (limit 10%)"
    assert reason(night(range(2, 22))) == "kept: 0 days old (limit 7), 10.0% of interactions are new to it (limit 10%)"
    assert reason(night(range(3, 23))) is None


def test_rows_that_come_late_are_new_too(night: Night) -> None:
    """None of 20 is later than what was trained on; without 17 seen, 3 of them cannot have been."""
    trained(night(range(3, 20)))
    assert reason(night(range(20))) is None


def test_notes_of_an_earlier_version_know_the_day_alone(night: Night) -> None:
    """Trained on Monday, the 20th day from the first: what came from Tuesday on is new, Monday may have been seen."""
    trained(night(range(20)), newest_interaction=None)
    assert reason(night(range(1, 21))) is not None
    assert reason(night(range(2, 22))) == "kept: 0 days old (limit 7), 5.0% of interactions are new to it (limit 10%)"
    assert reason(night(range(5, 25))) is None
