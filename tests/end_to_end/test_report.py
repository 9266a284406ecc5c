"""The page about the tiny world's night, MLflow's record of it, and the files that a serving store would load."""

import dataclasses
import datetime as dt
import hashlib
import json
import re
import shutil
import time
from html import unescape
from pathlib import Path
from typing import Any

import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from conftest import World
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from tiny_world import NUM_USERS

from cesrec_core.config import load_config
from cesrec_core.delta_io.runs import find_run, latest_published, write_run
from cesrec_core.delta_io.warehouse import local_frame
from cesrec_core.errors import BusyError, ConfigError, InputDataError, QualityGateError, StageError, run_of
from cesrec_core.locks import take_lock
from cesrec_core.schemas import SERVED_RECOMMENDATIONS, TABLES
from cesrec_core.stages import audit, report, runner
from cesrec_core.stages import export_recommendations as export_module
from cesrec_core.stages.context import StageResult, StageState, write_record
from cesrec_core.stages.export_recommendations import export_recommendations, run_export
from cesrec_core.stages.journal import RAN, SKIPPED
from cesrec_core.stages.maintain import roll_back, run_maintenance
from cesrec_core.stages.nightly import NIGHTLY
from cesrec_core.stages.report import report_of_run, run_report
from cesrec_core.stages.report_contents import RunReader
from cesrec_core.stages.tracking import metric_name, track_run

Night = tuple[World, dict[str, Any]]


@pytest.fixture(scope="module")
def page(first_night: Night) -> str:
    world, summary = first_night
    told = run_report(load_config(world.config_path), summary["run_id"])
    path = world.warehouse_path / "reports" / f"{summary['run_id']}.html"
    assert told == {"run_id": summary["run_id"], "status": "done", "report": str(path)}
    return path.read_text(encoding="utf-8")


def text_of(page: str) -> str:
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", body)))


def test_the_page_tells_of_the_night(first_night: Night, page: str) -> None:
    world, summary = first_night
    text = text_of(page)
    assert "Monday, 2 March 2026" in text and "Published" in text and summary["run_id"] in text
    for stage in NIGHTLY:
        assert re.search(rf"{stage.name} ran", text), stage.name
    assert "has not run in this warehouse yet" in text
    assert f"People served {NUM_USERS} " in text
    assert "540 interactions" in text and f"{NUM_USERS * 10} recommendations" in text
    ndcg = summary["metrics"]["train_recommender"]["validation_ndcg_at_10"]
    assert f"Base recommender, NDCG@10 On validation items, by full ranking, when it was trained. {ndcg:.3f}" in text
    for artifact_id in find_run(world.warehouse, summary["run_id"]).artifact_ids.values():
        assert artifact_id in text


def test_the_page_counts_masks_as_the_table_does(first_night: Night, page: str) -> None:
    world, summary = first_night
    masks = world.table("outlier_masks", summary["run_id"]).select(
        F.sum(F.size("masked_positions")), F.sum(F.size("similarities"))
    )
    num_masked, num_places = masks.first()
    assert f"kept ({num_places - num_masked:,})" in text_of(page)
    assert f"masked ({num_masked})" in text_of(page)


def test_the_page_shows_rewrites_with_their_words_and_names_nobody(first_night: Night, page: str) -> None:
    world, summary = first_night
    text = text_of(page)
    words = {row["feedback_id"]: row["utterance"] for row in world.table("feedback").collect()}
    titles = {row["item_id"]: row["title"] for row in world.table("items").collect()}
    rows = [row for row in world.table("pseudo_sequences", summary["run_id"]).collect() if row["replaced_positions"]]
    assert len(rows) <= 20 and f"{len(rows)} of {len(rows)} rounds" in text
    for row in rows:
        after = titles[row["item_ids"][row["replaced_positions"][0]]]
        swap = f"{titles[row['replaced_item_ids'][0]]} → {after} {100 * row['probabilities'][0]:.0f}% likely"
        assert words[row["feedback_id"]] in text and swap in text
    assert "person-" not in page


def test_the_newest_run_is_reported_where_none_is_named(first_night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    world, _ = first_night
    config = load_config(world.config_path)
    monkeypatch.setattr(report, "write_report", lambda warehouse, config, run_id: run_id)
    newest = world.table("runs").orderBy(F.desc("started_at")).first()["run_id"]
    assert run_report(config, None)["report"] == newest
    with pytest.raises(ConfigError, match="There is no run nobody's"):
        run_report(config, "nobody's")


def test_a_warehouse_without_runs_has_nothing_to_report_or_export(first_night: Night, tmp_path: Path) -> None:
    config = load_config(first_night[0].config_path, [f"warehouse.path={tmp_path}"])
    with pytest.raises(InputDataError, match="No run has begun"):
        run_report(config, None)
    with pytest.raises(InputDataError, match="No run has been published"):
        run_export(config, None, ["parquet"], None)


def test_a_page_that_cannot_be_written_fails_no_run_and_is_told(
    first_night: Night, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world, summary = first_night

    def fail(*_: object) -> None:
        raise OSError(28, "ada@example.org said so")

    monkeypatch.setattr(report, "write_report", fail)
    with caplog.at_level("WARNING"):
        told = report_of_run(world.warehouse, load_config(world.config_path), summary["run_id"])
    assert told["report"] is None
    assert told["report_error"].startswith("OSError at ")
    assert "jobs/report.py" in caplog.text and "ada@" not in caplog.text + json.dumps(told)


def test_what_is_damaged_beside_the_tables_is_left_out_of_the_page(
    first_night: Night, copied_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    run_id, world = first_night[1]["run_id"], copied_world
    work = world.warehouse_path / "work" / run_id
    (features,) = work.glob("catalogue/*/features.safetensors")
    damaged = {
        world.warehouse_path / "rejected_titles" / f"{run_id}.json": '[{"text": "Toy',
        world.warehouse_path / "evaluations" / "other" / "evaluation.json": json.dumps(
            {"rows": [], "num_users": 1, "artifacts": {}}
        ),
        work / "ingest" / "done.json": (work / "ingest" / "done.json")
        .read_text()
        .replace('"seconds": ', '"seconds": "long", "_": '),
        work / "journal.json": "[]",
        features: "cut off",
    }
    for file, content in damaged.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    with caplog.at_level("WARNING"):
        page = Path(run_report(load_config(world.config_path), run_id)["report"]).read_text(encoding="utf-8")
    assert f"People served {NUM_USERS} " in text_of(page)
    warnings = [message for message in caplog.messages if str(world.warehouse_path) in message]
    assert {str(file): sum(str(file) in message for message in warnings) for file in damaged} == dict.fromkeys(
        map(str, damaged), 1
    )
    assert "aligned vector and the recommender's vector" not in page and "similarity to the core taste" in page


def test_a_refused_run_has_a_page_that_says_why(copied_world: World) -> None:
    """As the nightly job ends when the audit refuses: from a run of which everything else is done."""

    def refuse(context: runner.RunContext) -> StageResult:
        raise QualityGateError("12 rows recommend items that the user has had")

    auditing = [dataclasses.replace(stage, run=refuse) for stage in NIGHTLY if stage.name == "audit"]
    context = copied_world.open("run.run_date='2026-03-03'")
    # A stage before it, since what the first one refuses leaves no trace.
    resting = dataclasses.replace(NIGHTLY[0], run=lambda context: StageResult(), fingerprint=None)
    with pytest.raises(QualityGateError) as caught:
        runner._execute_and_tell([resting, *auditing], context)
    text = text_of(Path(run_of(caught.value)["report"]).read_text(encoding="utf-8"))
    assert "Refused by the audit 12 rows recommend" in text.replace("✕ ", "")
    assert "recommend not reached" in text


def test_a_page_shows_the_limits_that_its_run_was_judged_by(first_night: Night, page: str) -> None:
    """They are no part of a run's name: a page that is made again under others must not say that a published run broke them."""
    world, summary = first_night
    stricter = load_config(world.config_path, ["audit.max_users_masked_share_change=0.01", "audit.max_fallback_share=0.02"])
    limits = {check.setting: check.limit for check in RunReader(world.warehouse, stricter, summary["run_id"]).checks()}
    config = load_config(world.config_path)
    assert limits["audit.max_fallback_share"] == config.audit.max_fallback_share != stricter.audit.max_fallback_share
    assert limits["audit.max_users_masked_share_change"] == config.audit.max_users_masked_share_change


def test_a_run_that_was_never_published_is_not_what_a_night_is_compared_with(copied_world: World) -> None:
    world, config = copied_world, load_config(copied_world.config_path)
    first = find_run(world.warehouse, latest_published(world.warehouse))
    days = [first.started_at + dt.timedelta(days=day) for day in (1, 2)]
    kept = dataclasses.replace(first, run_id="kept", status="finished", started_at=days[0], published_at=None)
    write_run(world.warehouse, kept)
    write_run(world.warehouse, dataclasses.replace(first, run_id="third", started_at=days[1], published_at=days[1]))
    reader = RunReader(world.warehouse, config, "third")
    assert reader.before is not None and reader.before.run_id == first.run_id


def test_a_night_is_compared_with_what_consumers_read_when_it_began(copied_world: World) -> None:
    """Which, after a roll-back, is not the run that began last; for that run all stays as it was."""
    world, config = copied_world, load_config(copied_world.config_path)
    first = find_run(world.warehouse, latest_published(world.warehouse))
    for run_id, started, read in (("older", -1, -1), (first.run_id, 0, 3), ("left", 2, 2), ("third", 4, 4), ("fourth", 5, 5)):
        started_at = first.started_at + dt.timedelta(days=started)
        published_at = first.started_at + dt.timedelta(days=read, hours=1)
        write_run(world.warehouse, dataclasses.replace(first, run_id=run_id, started_at=started_at, published_at=published_at))
    before = {name: RunReader(world.warehouse, config, name).before for name in ("older", "left", "third", "fourth")}
    assert {name: run and run.run_id for name, run in before.items()} == {
        "older": None,
        "left": first.run_id,
        "third": first.run_id,
        "fourth": "third",
    }
    earlier = [run.run_id for run in RunReader(world.warehouse, config, "fourth").earlier]
    assert earlier == ["older", "left", first.run_id, "third"]

    # What its audit noted holds for good: another roll-back gives the run that was read then another time.
    audited = world.warehouse_path / "work" / "fourth" / "audit" / "done.json"
    for noted, compared in (("left", "left"), ("fourth", "third"), (None, None)):
        write_record(audited, StageState({}, "fourth", 1.0, {}, {}, notes={audit.COMPARED_WITH: noted}))
        found = RunReader(world.warehouse, config, "fourth").before
        assert (found and found.run_id) == compared


@pytest.mark.slow
def test_a_page_of_a_run_that_was_dropped_does_not_call_it_nothing(first_night: Night, copied_world: World) -> None:
    world, config = copied_world, load_config(copied_world.config_path, ["maintain.keep_runs=1"])
    first = find_run(world.warehouse, first_night[1]["run_id"])
    now = dt.datetime.now(dt.UTC)
    write_run(world.warehouse, dataclasses.replace(first, run_id="second", started_at=now, finished_at=now, published_at=now))
    assert run_maintenance(config)["runs_dropped"] == 1
    text = text_of(Path(run_report(config, first.run_id)["report"]).read_text(encoding="utf-8"))
    assert text.count("What was kept of it has been dropped (jobs/maintain.py).") == 3
    assert not [said for said in ("Rows refused", "Seconds of work", "did not come to that") if said in text]


def test_a_night_that_its_first_stage_refuses_has_a_page_and_changes_no_table(
    copied_world: World, first_night: Night, caplog: pytest.LogCaptureFixture
) -> None:
    """Who looks in the morning must not find last night's page, and think that all is well."""
    world = copied_world
    dataset = Path(shutil.copytree(first_night[0].folder / "dataset", world.folder / "dataset"))
    pq.write_table(pq.read_table(dataset / "items.parquet").slice(0, 0), dataset / "items.parquet")
    before = world.versions()
    with pytest.raises(InputDataError) as caught:
        runner._execute_and_tell(NIGHTLY, world.open("run.run_date='2026-03-03'", f"dataset.path={dataset}"))
    assert world.versions() == before
    told = run_of(caught.value)
    page = Path(told["report"])
    text = text_of(page.read_text(encoding="utf-8"))
    assert "Failed" in text and "no items" in text and "build_sequences not reached" in text
    assert "Rows refused" not in text and "No row was refused" not in text

    config = load_config(world.config_path)
    with caplog.at_level("WARNING"):
        assert run_report(config, None)["report"] != str(page)
    assert f"A later run was stopped by its first stage, and has changed nothing. Its page is {page}" in caplog.text
    with pytest.raises(ConfigError, match="was stopped by its first stage, and no table tells of it"):
        run_report(config, told["run_id"])


def test_who_is_published_again_is_told_of(copied_world: World) -> None:
    world, config = copied_world, load_config(copied_world.config_path)
    first = find_run(world.warehouse, latest_published(world.warehouse))
    now = dt.datetime.now(dt.UTC)
    write_run(world.warehouse, dataclasses.replace(first, run_id="second", started_at=now, published_at=now))
    page = Path(run_report(config, "second")["report"])
    assert "consumers read this run (page made" in text_of(page.read_text(encoding="utf-8"))
    told = roll_back(config, first.run_id)
    assert f"consumers read run {first.run_id} (page made" in text_of(page.read_text(encoding="utf-8"))
    assert "consumers read this run (page made" in text_of(Path(told["report"]).read_text(encoding="utf-8"))


def test_what_is_no_warehouse_is_left_as_it_is(first_night: Night, tmp_path: Path) -> None:
    config = load_config(first_night[0].config_path, [f"warehouse.path={tmp_path / 'mistyped'}"])
    for command in (run_maintenance, lambda config: roll_back(config, "x")):
        with pytest.raises(InputDataError, match=r"No run has begun in the warehouse .*mistyped yet"):
            command(config)
    assert not (tmp_path / "mistyped").exists()


def test_a_stage_alone_that_fails_leaves_a_page(copied_world: World) -> None:
    """A scheduler starts no later job that could write it."""

    def fail(context: runner.RunContext) -> StageResult:
        time.sleep(0.2)
        raise StageError("no worker came up")

    resting, failing = (
        dataclasses.replace(stage, run=run, fingerprint=None)
        for stage, run in zip(NIGHTLY[:2], (lambda context: StageResult(), fail), strict=True)
    )
    world, next_day = copied_world, "run.run_date='2026-03-03'"
    assert "report" not in runner._execute_and_tell([resting], world.open(next_day))
    context = runner.open_run(load_config(world.config_path, [next_day]), world.spark, world.ray, dt.date(2026, 3, 3), True)
    with pytest.raises(StageError) as caught:
        runner._execute_and_tell([failing], context, [resting])
    text = text_of(Path(run_of(caught.value)["report"]).read_text(encoding="utf-8"))
    assert "no worker came up" in text
    failed = [line for line in RunReader(world.warehouse, context.config, context.run_id).stages() if line.outcome == "failed"]
    assert [line.name for line in failed] == [NIGHTLY[1].name]
    assert failed[0].seconds is not None and failed[0].seconds > 0.2


def test_a_stage_that_is_refused_before_its_work_leaves_the_run_as_it_was(copied_world: World) -> None:
    """Such as one whose model is not there: nothing has failed yet, and a page would say that all went well."""

    def refuse(context: runner.RunContext) -> None:
        raise ConfigError("there is no such model")

    resting, refusing = (
        dataclasses.replace(stage, run=lambda context: StageResult(), fingerprint=None, check=check)
        for stage, check in zip(NIGHTLY[:2], (NIGHTLY[0].check, refuse), strict=True)
    )
    world, next_day = copied_world, "run.run_date='2026-03-03'"
    run_id = runner._execute_and_tell([resting], world.open(next_day))["run_id"]
    context = runner.open_run(load_config(world.config_path, [next_day]), world.spark, world.ray, dt.date(2026, 3, 3), True)
    with pytest.raises(ConfigError) as caught:
        runner._execute_and_tell([refusing], context, [resting])
    assert run_of(caught.value) == {"run_id": run_id}
    assert find_run(world.warehouse, run_id).status == "partial"
    assert not (world.warehouse_path / "reports" / f"{run_id}.html").exists()


def test_a_record_in_mlflow_holds_numbers_and_lineage_and_no_words(first_night: Night, page: str, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    world, summary = first_night
    config = load_config(world.config_path, ["mlflow.is_enabled=true", f"mlflow.tracking_uri={tmp_path / 'store'}"])
    told = track_run(world.warehouse, config, summary["run_id"])
    again = track_run(world.warehouse, config, summary["run_id"])
    assert told == again and told["mlflow"]

    client = mlflow.MlflowClient(tracking_uri=str(tmp_path / "store"))
    [recorded] = client.search_runs([client.get_experiment_by_name("cesrec").experiment_id])
    run = find_run(world.warehouse, summary["run_id"])
    assert recorded.info.run_id == told["mlflow"] and recorded.info.status == "FINISHED"
    assert recorded.data.tags["cesrec.run_id"] == summary["run_id"]
    for kind, artifact_id in run.artifact_ids.items():
        assert recorded.data.tags[f"cesrec.artifact.{kind}"] == artifact_id
    assert recorded.data.tags["cesrec.artifact.extractor"].startswith("encoder")
    assert recorded.data.params["mask_outliers.num_masked"] == "1"
    assert recorded.data.params["embed_items.model_path"] == str(world.folder / "models" / "encoder")
    assert recorded.data.metrics["audit/users"] == NUM_USERS
    times = {metric.timestamp for metric in client.get_metric_history(recorded.info.run_id, "audit/users")}
    assert times == {int(run.finished_at.timestamp() * 1000)}
    assert recorded.data.metrics["seconds/recommend"] == pytest.approx(summary["seconds"]["recommend"], abs=0.02)

    files = {entry.path for entry in client.list_artifacts(told["mlflow"])}
    assert {"lineage.json", f"{summary['run_id']}.html", "recommender", "adapter", "constructor"} <= files
    assert "adapter/manifest.json" in {entry.path for entry in client.list_artifacts(told["mlflow"], "adapter")}
    [lineage] = (tmp_path / "store").rglob("lineage.json")
    built = json.loads(lineage.read_text())["artifacts"]
    assert built["constructor"]["parents"]["adapter"] == run.artifact_ids["adapter"]

    sent = json.dumps([recorded.data.tags, recorded.data.params])
    assert "person-" not in sent
    assert not [row["utterance"] for row in world.table("feedback").collect() if row["utterance"] in sent]


def test_a_record_that_stops_half_way_is_not_shown_as_running(
    first_night: Night, page: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    world, summary = first_night
    config = load_config(world.config_path, ["mlflow.is_enabled=true", f"mlflow.tracking_uri={tmp_path / 'store'}"])

    def fail(*_: object) -> None:
        raise OSError(28, "no room")

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "log_artifact", fail)
        assert track_run(world.warehouse, config, summary["run_id"])["mlflow"] is None
    client = mlflow.MlflowClient(tracking_uri=str(tmp_path / "store"))
    experiment = [client.get_experiment_by_name("cesrec").experiment_id]
    assert [run.info.status for run in client.search_runs(experiment)] == ["FAILED"]
    assert track_run(world.warehouse, config, summary["run_id"])["mlflow"]
    assert [run.info.status for run in client.search_runs(experiment)] == ["FINISHED"]


def test_a_roll_back_records_both_runs_whatever_the_configuration_is_now(copied_world: World, tmp_path: Path) -> None:
    """Who rolls back has often changed it, which MLflow takes for another run's."""
    mlflow = pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    recording = ["mlflow.is_enabled=true", f"mlflow.tracking_uri={tmp_path / 'store'}"]
    world, config = copied_world, load_config(copied_world.config_path, recording)
    first = find_run(world.warehouse, latest_published(world.warehouse))
    run_report(config, first.run_id)
    of_first = track_run(world.warehouse, config, first.run_id)["mlflow"]
    changed = load_config(copied_world.config_path, [*recording, "recommend.attribute_weight=7.5"])
    now = dt.datetime.now(dt.UTC)
    second = dataclasses.replace(
        first, run_id="second", config_hash=changed.result_hash(), started_at=now, finished_at=now, published_at=now
    )
    write_run(world.warehouse, second)
    run_report(changed, "second")
    of_second = track_run(world.warehouse, changed, "second")["mlflow"]

    assert roll_back(changed, first.run_id)["mlflow"] == of_first
    client = mlflow.MlflowClient(tracking_uri=str(tmp_path / "store"))
    weights = {}
    for recorded in (of_first, of_second):
        run = client.get_run(recorded)
        assert run.info.status == "FINISHED"
        weights[recorded] = run.data.params["recommend.attribute_weight"]
    assert weights == {of_first: str(config.recommend.attribute_weight), of_second: "7.5"}
    # The page that is kept with the run that was left says who is read now.
    [page] = (tmp_path / "store").rglob("second.html")
    assert f"consumers read run {first.run_id} (page made" in text_of(page.read_text(encoding="utf-8"))


def test_a_run_that_is_not_there_is_told(first_night: Night) -> None:
    world, _ = first_night
    with pytest.raises(ConfigError, match=r"There is no run nope here\. Name one of the table runs"):
        RunReader(world.warehouse, load_config(world.config_path), "nope")


def test_a_tracking_server_that_is_down_fails_no_run_and_is_told(
    first_night: Night, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    world, summary = first_night
    assert track_run(world.warehouse, load_config(world.config_path), summary["run_id"]) == {}
    # Nothing listens on port 9, and nobody shall wait for it.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    config = load_config(world.config_path, ["mlflow.is_enabled=true", "mlflow.tracking_uri=http://127.0.0.1:9"])
    with caplog.at_level("WARNING"):
        told = track_run(world.warehouse, config, summary["run_id"])
    assert told["mlflow"] is None and told["mlflow_error"].startswith("MLflow does not answer")
    assert "could not be recorded in MLflow" in caplog.text


def test_a_run_that_skipped_ingest_stands_on_the_rows_refused_before(copied_world: World, first_night: Night) -> None:
    """Or a night without new data would seem to be without faults, and the next one as if they had come back."""
    warehouse, first = copied_world.warehouse, first_night[1]["run_id"]
    night = find_run(warehouse, first)
    nights = {name: night.started_at + dt.timedelta(days=days) for name, days in (("second", 1), ("third", 2))}
    for name, started_at in nights.items():
        write_run(warehouse, dataclasses.replace(night, run_id=name, started_at=started_at))
    ran, skipped = {"outcome": RAN, "reason": ""}, {"outcome": SKIPPED, "reason": ""}
    of_second = {"ingest": {**skipped, "stands_on": first}, "embed_items": ran}
    of_third = {"ingest": ran, "embed_items": {**skipped, "stands_on": "second"}}
    for name, journal in (("second", of_second), ("third", of_third)):
        (copied_world.warehouse_path / "work" / name).mkdir(parents=True)
        (copied_world.warehouse_path / "work" / name / "journal.json").write_text(json.dumps(journal), encoding="utf-8")
    refused = [
        (first, "items", 1, "a"),
        (first, "items", 2, "a"),
        (first, "embed_items", 3, "b"),
        ("second", "embed_items", 1, "c"),
    ]
    rows = [dict(zip(("run_id", "source", "row", "reason"), row, strict=True)) | {"record": "{}"} for row in refused]
    warehouse.merge(TABLES["quarantine"], local_frame(warehouse.spark, rows, TABLES["quarantine"]))
    config = load_config(copied_world.config_path)
    before = {tally.name: tally.count for tally in RunReader(warehouse, config, first).quarantine()}
    assert before == {"items: a": 2, "embed_items: b": 1}
    second = RunReader(warehouse, config, "second")
    assert {tally.name: tally.count for tally in second.quarantine()} == {"items: a": 2, "embed_items: c": 1}
    third = RunReader(warehouse, config, "third")
    assert {tally.name: tally.count for tally in third.quarantine()} == {"embed_items: c": 1}
    (tile,) = (tile for tile in third._tiles() if tile.title == "Rows refused")
    assert [(point.run_id, point.value) for point in tile.points] == [(first, 3.0), ("second", 3.0), ("third", 1.0)]


def test_names_of_metrics_are_such_as_mlflow_takes() -> None:
    assert metric_name("evaluate/CESRec + re-rank | full | NDCG@10") == "evaluate/CESRec and re-rank _ full _ NDCG_at_10"


def lists_in(folder: Path) -> dict[str, tuple[list[str], list[float]]]:
    table = pads.dataset(folder, format="parquet").to_table().to_pylist()
    return {row["user_id"]: (row["item_ids"], row["scores"]) for row in table}


@pytest.fixture
def two_runs(copied_world: World) -> tuple[World, str, str]:
    """The first night's run, and one published after it in which one person came, one left, one has another order and one
    other scores; another one's scores moved by what float32 may lose."""
    world = copied_world
    first = world.open().run_id
    rows = world.table("recommendations", first).withColumn("run_id", F.lit("second"))
    user, score = F.col("user_id"), F.col("score")
    rows = rows.where(user != "person-00").withColumn("user_id", F.when(user == "person-01", "newcomer").otherwise(user))
    swapped = F.when((user == "person-02") & (F.col("rank") <= 2), 3 - F.col("rank")).otherwise(F.col("rank"))
    rows = rows.withColumn("rank", swapped).withColumn(
        "score",
        F.when(user == "person-03", score + 1).when(user == "person-04", score + 2e-5).otherwise(score).cast("float"),
    )
    world.warehouse.replace_run(TABLES["recommendations"], rows, "second")
    run = find_run(world.warehouse, first)
    later = {name: getattr(run, name).replace(year=2027) for name in ("started_at", "published_at")}
    write_run(world.warehouse, dataclasses.replace(run, run_id="second", **later))
    return world, first, "second"


def test_an_export_brings_a_store_from_one_run_to_the_next(two_runs: tuple[World, str, str], tmp_path: Path) -> None:
    world, first, second = two_runs
    out = tmp_path / "out"
    told = export_recommendations(world.warehouse, None, ["jsonl", "parquet"], out)
    counts = {"users": 59, "items": 590, "added": 1, "changed": 1, "rescored": 1, "removed": 2}
    assert told == {"run_id": second, "since_run_id": first, "out": str(out), "status": "done", "counts": counts}
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["run_id"], manifest["since_run_id"], manifest["counts"]) == (second, first, counts)

    # The lists are the table's, and the same in both formats.
    wanted: dict[str, tuple[list[str], list[float]]] = {}
    for row in world.table("recommendations", second).orderBy("user_id", "rank").collect():
        ids, scores = wanted.setdefault(row["user_id"], ([], []))
        ids.append(row["item_id"])
        scores.append(row["score"])
    assert lists_in(out / "recommendations.parquet") == wanted
    lines = [json.loads(line) for line in (out / "recommendations.jsonl" / "part-00000.jsonl").read_text().splitlines()]
    assert {line["user_id"]: line["item_ids"] for line in lines} == {user: ids for user, (ids, _) in wanted.items()}

    # A store that held the first run and takes the changes over holds the second.
    store = {}
    for row in world.table("recommendations", first).orderBy("user_id", "rank").collect():
        ids, scores = store.setdefault(row["user_id"], ([], []))
        ids.append(row["item_id"])
        scores.append(row["score"])
    changes = pads.dataset(out / "changes.parquet", format="parquet").to_table().to_pylist()
    assert {row["user_id"]: row["change"] for row in changes} == {
        "newcomer": "added",
        "person-00": "removed",
        "person-01": "removed",
        "person-02": "changed",
        "person-03": "rescored",
    }
    for row in changes:
        store.pop(row["user_id"], None)
        if row["change"] != "removed":
            store[row["user_id"]] = (row["item_ids"], row["scores"])
    assert store == {user: (ids, pytest.approx(scores, abs=1e-4)) for user, (ids, scores) in wanted.items()}
    assert store["person-04"] != wanted["person-04"]


def publish_again(world: World, run_id: str, year: int) -> None:
    run = find_run(world.warehouse, run_id)
    write_run(world.warehouse, dataclasses.replace(run, published_at=run.published_at.replace(year=year)))


def test_the_change_feed_of_what_is_served_tells_what_changed(
    two_runs: tuple[World, str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world, first, second = two_runs
    warehouse, out = world.warehouse, tmp_path / "out"
    caplog.set_level("INFO", logger=export_module.log.name)
    publish_again(world, first, 2028)
    told = export_recommendations(warehouse, None, ["parquet"], out)
    assert (told["run_id"], told["since_run_id"], "are compared" in caplog.text) == (first, second, True)
    held = warehouse.version(SERVED_RECOMMENDATIONS)

    # The rows of the run before may be gone: the feed is enough.
    caplog.clear()
    publish_again(world, second, 2029)
    warehouse.delete_where(TABLES["recommendations"], f"run_id = '{first}'")
    for since, format_ in ((None, "parquet"), (first, "jsonl")):
        told = export_recommendations(warehouse, since, [format_], out)
        assert told["since_run_id"] == first
        assert told["counts"] == {"users": 59, "items": 590, "added": 1, "changed": 1, "rescored": 1, "removed": 2}
    assert "are compared" not in caplog.text
    lists = {
        row["user_id"]: (row["change"], row["item_ids"])
        for row in map(json.loads, (out / "changes.jsonl" / "part-00000.jsonl").read_text().splitlines())
    }
    served = {row["user_id"]: row["item_ids"] for row in warehouse.read(SERVED_RECOMMENDATIONS).collect()}
    assert lists["person-00"] == ("removed", None) and "person-00" not in served and len(served) == 59
    assert lists["person-02"] == ("changed", served["person-02"]) and lists["newcomer"] == ("added", served["newcomer"])

    # A store that follows the table itself sees five people, and nobody whose list stayed the same or was exported again.
    version = warehouse.version(SERVED_RECOMMENDATIONS)
    assert version == held + 2
    kinds = {
        (row["user_id"], row["_change_type"]) for row in warehouse.read_changes(SERVED_RECOMMENDATIONS, held, version).collect()
    }
    assert kinds == {
        ("newcomer", "insert"),
        *((f"person-0{n}", "delete") for n in (0, 1)),
        *((f"person-0{n}", f"update_{which}") for n in (2, 3) for which in ("preimage", "postimage")),
    }

    # Since the run itself nothing changed, and where VACUUM has taken the feed as well, nobody knows. What was written stands.
    counts = export_recommendations(warehouse, second, ["parquet"], tmp_path / "itself")["counts"]
    assert [counts[change] for change in ("added", "changed", "rescored", "removed")] == [0, 0, 0, 0]
    shutil.rmtree(world.warehouse_path / "tables" / "served_recommendations" / "_change_data")
    with pytest.raises(ConfigError, match=f"--since {first}: no recommendations of such a run"):
        export_recommendations(warehouse, first, ["parquet"], out)
    told = export_recommendations(warehouse, None, ["jsonl"], out)
    assert (told["status"], told["since_run_id"]) == ("nothing_to_do", first)


def test_the_table_is_moved_whatever_a_folder_holds(two_runs: tuple[World, str, str], tmp_path: Path) -> None:
    world, first, second = two_runs
    warehouse, one, other = world.warehouse, tmp_path / "one", tmp_path / "other"

    def export(out: Path) -> tuple[str, str, str]:
        told = export_recommendations(warehouse, None, ["parquet"], out)
        return told["status"], told["run_id"], told["since_run_id"]

    def num_served() -> int:
        return warehouse.read(SERVED_RECOMMENDATIONS).count()

    assert export(one) == ("done", second, first) and num_served() == 59
    publish_again(world, first, 2028)
    assert export(other) == ("done", first, second) and num_served() == NUM_USERS
    # Back again: one holds it already, the table does not.
    publish_again(world, second, 2029)
    assert export(one) == ("done", second, first) and num_served() == 59
    assert export(one) == ("nothing_to_do", second, first)
    # Somebody else wrote to the table: it is brought back.
    warehouse.delete_where(SERVED_RECOMMENDATIONS, "user_id = 'person-07'")
    assert export(one)[0] == "done" and num_served() == 59
    # Killed between the two renames: what the folder held stands beside it.
    one.replace(tmp_path / "one.replaced")
    assert export(one) == ("done", second, first) and not (tmp_path / "one.replaced").exists()
    # Rows of the same run that were made again are exported again.
    rows = world.table("recommendations", second)
    warehouse.replace_run(TABLES["recommendations"], rows.where("user_id != 'person-05'").persist(), second)
    assert export(one)[0] == "done" and num_served() == 58
    # What nobody could write is said before the table moves, and a run without rows empties nothing.
    version = warehouse.version(SERVED_RECOMMENDATIONS)
    for unwritable in ("/proc/nowhere/out", "/proc/out"):
        with pytest.raises(ConfigError, match="cannot be made"):
            export(Path(unwritable))
    with pytest.raises(ConfigError, match="replaces its folder as a whole"):
        export(Path("/"))
    warehouse.delete_where(TABLES["recommendations"], f"run_id = '{second}'")
    with pytest.raises(InputDataError, match=f"Run {second} is published, but recommendations in .* holds no rows of it"):
        export(one)
    assert warehouse.version(SERVED_RECOMMENDATIONS) == version


def test_one_export_at_a_time(two_runs: tuple[World, str, str], tmp_path: Path) -> None:
    world, _, _ = two_runs
    lock = take_lock(world.warehouse_path / "export.lock", "an export is being made")
    with lock, pytest.raises(BusyError, match=r"served_recommendations of .* is being written by process"):
        export_recommendations(world.warehouse, None, ["parquet"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_export_is_not_made_twice_and_replaces_nothing_else(two_runs: tuple[World, str, str], tmp_path: Path) -> None:
    world, first, second = two_runs
    out = tmp_path / "out"
    export_recommendations(world.warehouse, second, ["jsonl"], out)
    written = {file: file.stat().st_mtime_ns for file in out.rglob("*")}
    assert written and [file.read_text() for file in (out / "changes.jsonl").iterdir()] in ([], [""])
    assert export_recommendations(world.warehouse, second, ["jsonl"], out)["status"] == "nothing_to_do"
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*")} == written
    with pytest.raises(ConfigError, match="--since long ago"):
        export_recommendations(world.warehouse, "long ago", ["jsonl"], out)
    (tmp_path / "taxes").mkdir()
    (tmp_path / "taxes" / "2025.txt").touch()
    with pytest.raises(ConfigError, match="no export of recommendations"):
        export_recommendations(world.warehouse, first, ["jsonl"], tmp_path / "taxes")
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*")} == written
    # What is gone is written again, and what stands beside it is not taken for a leftover.
    shutil.rmtree(out / "recommendations.jsonl")
    assert export_recommendations(world.warehouse, second, ["jsonl"], out)["status"] == "done"
    assert {file.relative_to(out) for file in out.rglob("*")} == {file.relative_to(out) for file in written}
    # So is what is damaged, of the same length, too; and what `sha256sum` says is what the manifest says.
    part = next((out / "recommendations.jsonl").iterdir())
    whole = part.read_bytes()
    for damaged in (whole[:-1], whole.swapcase()):
        part.write_bytes(damaged)
        assert export_recommendations(world.warehouse, second, ["jsonl"], out)["status"] == "done"
    sums = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["sha256"]
    assert sums["recommendations.jsonl/part-00000.jsonl"] == hashlib.sha256(part.read_bytes()).hexdigest()
    assert set(sums) == {f"{name}.jsonl/part-00000.jsonl" for name in ("recommendations", "changes")}
    assert export_recommendations(world.warehouse, second, ["jsonl"], out)["status"] == "nothing_to_do"
    (out / "notes.txt").touch()
    with pytest.raises(ConfigError, match=r"out holds notes\.txt beside an export"):
        export_recommendations(world.warehouse, second, ["jsonl"], out)
    (out / "notes.txt").rename(out / "changes.jsonl" / "notes.txt")
    with pytest.raises(ConfigError, match=r"out holds changes\.jsonl/notes\.txt beside an export"):
        export_recommendations(world.warehouse, second, ["jsonl"], out)
    (out / "changes.jsonl" / "notes.txt").unlink()
    (tmp_path / "out.replaced").mkdir()
    (tmp_path / "out.replaced" / "backup.txt").touch()
    with pytest.raises(ConfigError, match=r"out\.replaced is in the way"):
        export_recommendations(world.warehouse, first, ["jsonl"], out)
    with pytest.raises(ConfigError, match="as a pattern"):
        export_recommendations(world.warehouse, first, ["jsonl"], tmp_path / "night [1]")
    with pytest.raises(ConfigError, match=r"2025\.txt is a file"):
        export_recommendations(world.warehouse, first, ["jsonl"], tmp_path / "taxes" / "2025.txt" / "below")


def test_an_export_that_did_not_arrive_is_not_published(
    two_runs: tuple[World, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where executors write to disks of their own."""

    def lose(frame: DataFrame, folder: Path, format_: str) -> None:
        folder.mkdir()

    world, _, second = two_runs
    monkeypatch.setattr(export_module, "_write_files", lose)
    with pytest.raises(StageError, match=r"of 59 users of recommendations\.parquet 0 have arrived"):
        export_recommendations(world.warehouse, second, ["parquet"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
