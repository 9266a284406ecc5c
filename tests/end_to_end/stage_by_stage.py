"""Stages as a scheduler runs them: each in a job of its own, which knows of the others by the warehouse alone."""

import dataclasses
import datetime as dt
from typing import Any

import pytest
from conftest import World
from pyspark.sql import functions as F
from tiny_world import RUN_DATE

from cesrec_core.config import load_config
from cesrec_core.delta_io.runs import find_run, latest_published
from cesrec_core.errors import InputDataError, QualityGateError
from cesrec_core.stages.context import RunContext, StageResult
from cesrec_core.stages.nightly import NIGHTLY
from cesrec_core.stages.runner import execute, open_run

# A night and thirteen stages, each read back from the warehouse: a slow machine takes longer than tests of the suite may.
pytestmark = pytest.mark.timeout(3000)

NAMES = [stage.name for stage in NIGHTLY]
NEXT_DAY = "run.run_date='2026-03-03'"


def run_alone(world: World, name: str, *overrides: str, **replaced: Any) -> dict[str, Any]:
    """What jobs/<name>.py does, in the session that is there."""
    place = NAMES.index(name)
    config = load_config(world.config_path, [NEXT_DAY, *overrides])
    context = open_run(config, world.spark, world.ray, dt.date.fromisoformat(RUN_DATE), place > 0, or_ended=name == "publish")
    return execute([dataclasses.replace(NIGHTLY[place], **replaced)], context, NIGHTLY[:place])


def say_in_the_table(world: World, feedback_id: str) -> None:
    """What an application does that appends to the Delta table while the night is under way."""
    frame = world.table("feedback").limit(1).withColumn("feedback_id", F.lit(feedback_id)).withColumn("source", F.lit("human"))
    frame.write.format("delta").mode("append").save(str(world.warehouse_path / "tables" / "feedback"))


def refuse(context: RunContext) -> StageResult:
    raise QualityGateError("not good enough")


def test_a_night_of_single_stages_is_one_run_whatever_is_said_meanwhile(
    copied_world: World, first_night: tuple[World, dict[str, Any]]
) -> None:
    world, night_before = copied_world, first_night[1]["run_id"]
    begun = run_alone(world, "ingest")
    run_id = begun["run_id"]

    def status() -> str:
        return find_run(world.warehouse, run_id).status

    assert (begun["status"], status()) == ("done", "partial")
    with pytest.raises(InputDataError, match=r"has not been through mask_outliers.*Run jobs/mask_outliers.py"):
        run_alone(world, "construct_pseudo_sequences")
    say_in_the_table(world, "said-at-night")
    assert world.open(NEXT_DAY).run_id != run_id
    for name in NAMES[1:-1]:
        assert run_alone(world, name)["run_id"] == run_id
        assert status() == "partial"
        assert latest_published(world.warehouse) == night_before
    # A try after a crash skips what is done.
    assert run_alone(world, "recommend")["skipped"] == {"recommend": "done already in this run"}
    assert run_alone(world, "publish")["status"] == "published"
    assert (latest_published(world.warehouse), status()) == (run_id, "published")
    # A try that was lost after its commit is followed by another, and somebody has spoken since.
    say_in_the_table(world, "said-in-the-morning")
    again = run_alone(world, "publish")
    assert (again["run_id"], again["status"]) == (run_id, "nothing_to_do")

    measured = world.table("metrics", run_id).select("stage").distinct().collect()
    of_one_job = first_night[0].table("metrics", night_before).select("stage").distinct().collect()
    assert {row["stage"] for row in measured} == {row["stage"] for row in of_one_job} == {*NAMES[:-1]}
    assert world.table("recommendations", run_id).count() == world.table("recommendations", night_before).count()


def test_a_stage_alone_that_fails_is_told_of_in_runs(copied_world: World) -> None:
    run_id = run_alone(copied_world, "ingest")["run_id"]
    with pytest.raises(QualityGateError):
        run_alone(copied_world, "build_sequences", run=refuse, fingerprint=None)
    assert find_run(copied_world.warehouse, run_id).status == "refused"


def test_no_stage_publishes_what_no_audit_has_seen(copied_world: World) -> None:
    run_alone(copied_world, "ingest")
    before = copied_world.versions()["runs"]
    with pytest.raises(InputDataError, match=r"has not been through audit, which publish needs"):
        run_alone(copied_world, "publish")
    assert copied_world.versions()["runs"] == before
