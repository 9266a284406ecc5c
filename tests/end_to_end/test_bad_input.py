"""Bad input: what, where and the mend in the message, the documented exit code, and no table changed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import World
from pyspark.sql import functions as F
from tiny_world import NUM_ITEMS, feedback_row, write_config, write_feedback

from cesrec_core.config import load_config
from cesrec_core.errors import CesrecError, run_of
from cesrec_core.stages import ingest
from cesrec_core.stages.nightly import NIGHTLY
from cesrec_core.stages.runner import run_job

ROOT = Path(__file__).parents[2]
DATE = "run.run_date='2026-04-01'"


@pytest.fixture(scope="module")
def world(new_world) -> World:
    """A world whose tables are there and hold its histories."""
    world = new_world("bad_input")
    world.run(stages=NIGHTLY[:2])
    return world


@pytest.fixture
def dataset(world: World, tmp_path: Path) -> Path:
    """A copy of the tiny dataset, to be spoilt."""
    return Path(shutil.copytree(world.folder / "dataset", tmp_path / "dataset"))


def refusal(world: World, *overrides: str) -> CesrecError:
    """The error of a run that must be refused, having changed nothing."""
    before = world.versions()
    with pytest.raises(CesrecError) as caught:
        world.run(DATE, *overrides)
    assert world.versions() == before
    return caught.value


def spoil(path: Path, change) -> None:  # type: ignore[no-untyped-def]
    pq.write_table(change(pq.read_table(path)), path)


def test_a_missing_file(world: World, dataset: Path) -> None:
    (dataset / "items.parquet").unlink()
    error = refusal(world, f"dataset.path={dataset}")
    assert error.exit_code == 3
    assert "items" in str(error) and str(dataset) in str(error)


def test_a_missing_folder(world: World, tmp_path: Path) -> None:
    error = refusal(world, f"dataset.path={tmp_path / 'nowhere'}")
    assert error.exit_code == 3
    assert "nowhere" in str(error) and "dataset.path" in str(error)


def test_a_block_list_with_a_misspelt_rule(world: World, dataset: Path) -> None:
    (dataset / "item_rules.csv").write_text("rule,item_id\nblock,toy-01\nblok,toy-02\n", encoding="utf-8")
    error = refusal(world, f"dataset.path={dataset}")
    assert error.exit_code == 3
    assert "item_rules.csv: 1 rows cannot be used" in str(error) and "allow or block" in str(error)


def test_a_damaged_file(world: World, dataset: Path) -> None:
    path = dataset / "items.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    error = refusal(world, f"dataset.path={dataset}")
    assert error.exit_code == 3
    assert f"{path} cannot be read" in str(error)


def test_a_source_without_permission(world: World, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read anything, so the refusal is the operating system's in name only."""

    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(ingest, "content_hash", refuse)
    error = refusal(world, f"dataset.path={dataset}")
    assert error.exit_code == 3
    assert f"{dataset / 'interactions.parquet'} cannot be read: Permission denied" in str(error)


def test_a_warehouse_that_is_a_file(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    error = refusal(world, f"warehouse.path={tmp_path / 'file' / 'warehouse'}")
    assert error.exit_code == 2
    assert f"{tmp_path / 'file'} is a file. Name a folder." in str(error)


def test_a_warehouse_whose_name_spark_takes_for_a_pattern(world: World, tmp_path: Path) -> None:
    error = refusal(world, f"warehouse.path={tmp_path / 'night [1]'}")
    assert error.exit_code == 2
    assert "Spark would read [ ] as a pattern" in str(error)


@pytest.mark.parametrize("kind", ["items", "interactions"])
def test_an_empty_table(world: World, dataset: Path, kind: str) -> None:
    spoil(dataset / f"{kind}.parquet", lambda table: table.slice(0, 0))
    error = refusal(world, f"dataset.path={dataset}")
    assert error.exit_code == 3
    assert f"no {kind}" in str(error)


def test_the_error_knows_which_run_was_refused(world: World, dataset: Path) -> None:
    """So that the last line of a failed job can name it."""
    spoil(dataset / "items.parquet", lambda table: table.slice(0, 0))
    config = load_config(world.config_path, [DATE, f"dataset.path={dataset}"])
    with pytest.raises(CesrecError) as caught:
        run_job(config, NIGHTLY, False, "cesrec tests")
    assert run_of(caught.value)["run_id"] == world.open(DATE, f"dataset.path={dataset}").run_id


def test_a_wrong_column_type(world: World, dataset: Path) -> None:
    def change(table: pa.Table) -> pa.Table:
        place = table.column_names.index("timestamp")
        return table.set_column(place, "timestamp", pa.array([True] * len(table)))

    spoil(dataset / "interactions.parquet", change)
    error = refusal(world, f"dataset.path={dataset}")
    assert error.exit_code == 3
    assert "timestamp" in str(error) and "boolean" in str(error) and "interactions.parquet" in str(error)


def test_a_missing_column(world: World, dataset: Path) -> None:
    spoil(dataset / "items.parquet", lambda table: table.drop_columns(["title"]))
    error = refusal(world, f"dataset.path={dataset}")
    assert error.exit_code == 3
    assert "title" in str(error) and "items.parquet" in str(error)


def test_too_many_refused_rows(world: World, dataset: Path) -> None:
    spoil(dataset / "items.parquet", lambda table: table.slice(0, 5))
    error = refusal(world, f"dataset.path={dataset}")
    assert error.exit_code == 3
    assert "unknown_item" in str(error) and "max_quarantined_share" in str(error)


def test_bad_rows_are_quarantined_by_reason(new_world) -> None:
    """A duplicate item, an unknown item, a null and a future timestamp, remarks of strangers: counted, kept as they came, and
    the rest goes on."""
    world = new_world("bad_rows")
    items, interactions = world.folder / "dataset" / "items.parquet", world.folder / "dataset" / "interactions.parquet"
    spoil(items, lambda table: pa.concat_tables([table, table.slice(3, 1)]))
    table = pq.read_table(interactions)
    good = table.slice(0, 1).to_pylist()[0]
    bad = [
        {**good, "item_id": "no-such-toy"},
        {**good, "timestamp": None},
        {**good, "timestamp": good["timestamp"].replace(year=2031)},
        {**good, "user_id": None},
        good,
    ]
    pq.write_table(pa.concat_tables([table, pa.Table.from_pylist(bad, schema=table.schema)]), interactions)
    # More than ingest.max_quarantined_share allows elsewhere: words that cannot be used must not cost everybody their night.
    speakers = ["person-01", "a stranger", "another stranger"]
    write_feedback(world.folder, [feedback_row(number, speaker, "more plush") for number, speaker in enumerate(speakers)])
    summary = world.run(stages=NIGHTLY[:2])
    assert summary["counts"]["ingest"]["interactions"] == table.num_rows
    assert [row["user_id"] for row in world.table("feedback").collect()] == ["person-01"]
    rows = world.table("quarantine", summary["run_id"]).groupBy("source", "reason").count().collect()
    assert {(row["source"], row["reason"]): row["count"] for row in rows} == {
        ("items", "duplicate_item"): 1,
        ("interactions", "unknown_item"): 1,
        ("interactions", "missing_timestamp"): 1,
        ("interactions", "future_timestamp"): 1,
        ("interactions", "missing_user_id"): 1,
        ("interactions", "duplicate_interaction"): 1,
        ("feedback", "unknown_user"): 2,
    }
    record = world.table("quarantine").where(F.col("reason") == "unknown_item").first()["record"]
    assert json.loads(record)["item_id"] == "no-such-toy"


@pytest.mark.parametrize("name", ["text.`/etc/hostname`", "a.b.c.d", "items; DROP TABLE items", "delta.`/tmp`"])
def test_a_source_that_is_no_table_name(world: World, name: str) -> None:
    error = refusal(world, f"dataset.interactions={json.dumps(name)}")
    assert error.exit_code == 2
    assert "table name" in str(error)


def test_a_schema_that_is_no_table_name(world: World) -> None:
    error = refusal(world, "warehouse.schema_name=text.`/etc/hostname`")
    assert error.exit_code == 2
    assert "warehouse.schema_name" in str(error)


def test_a_table_that_does_not_exist(world: World) -> None:
    error = refusal(world, "dataset.interactions=no_such_schema.interactions")
    assert error.exit_code == 3
    assert "no_such_schema.interactions" in str(error)


def test_a_model_folder_without_weights(world: World, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(world.folder / "models" / "encoder", tmp_path / "encoder"))
    (folder / "model.safetensors").unlink()
    error = refusal(world, f"embed_items.model_path={folder}")
    assert error.exit_code == 2
    assert "weights" in str(error) and "embed_items.model_path" in str(error)


def test_a_language_model_that_is_not_there(world: World, tmp_path: Path) -> None:
    error = refusal(world, f"finetune_constructor.model_path={tmp_path / 'gone'}")
    assert error.exit_code == 2
    assert "finetune_constructor.model_path" in str(error)


def job(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A job as a scheduler starts it, without spark-submit: these must fail before Spark starts."""
    command = [sys.executable, str(ROOT / "jobs" / "nightly_refresh.py"), *arguments]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYSPARK", "SPARK"))}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)


def test_a_typo_names_the_nearest_key(world: World) -> None:
    done = job("--config", str(world.config_path), "--set", "mask_outliers.num_maskd=2")
    assert done.returncode == 2
    assert "mask_outliers.num_maskd" in done.stderr
    assert "Did you mean mask_outliers.num_masked?" in done.stderr
    last = json.loads(done.stdout.strip().splitlines()[-1])
    assert last["status"] == "failed"


def test_a_value_out_of_range(world: World) -> None:
    path = write_config(world.folder, "bad.yaml", ingest={"max_quarantined_share": 1.5})
    done = job("--config", str(path))
    assert done.returncode == 2
    assert "ingest.max_quarantined_share" in done.stderr


def test_a_configuration_that_is_not_there() -> None:
    done = job("--config", "conf/nowhere.yaml")
    assert done.returncode == 2
    assert "conf/nowhere.yaml" in done.stderr


def test_an_unknown_argument() -> None:
    done = job("--frobnicate")
    assert done.returncode == 2
    assert "--frobnicate" in done.stderr
    assert "--frobnicate" in json.loads(done.stdout.splitlines()[-1])["error"]


def test_a_job_as_people_start_it(world: World) -> None:
    """Results on standard output, the rest on standard error, though spark-submit's launcher gives a job one pipe for both."""
    spark_submit = Path(sys.executable).parent / "spark-submit"
    command = [str(spark_submit), str(ROOT / "jobs" / "nightly_refresh.py"), "--config", str(world.config_path), "--dry-run"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYSPARK", "SPARK"))}
    before = world.versions()
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    assert lines[0].startswith("Plan of run ")
    assert len(lines) == 1 + len(NIGHTLY) + 1
    assert json.loads(lines[-1])["status"] == "dry_run"
    assert "Plan of run" not in done.stderr
    assert world.versions() == before


def test_a_source_that_only_adds_may_speak_of_what_is_there(world: World, dataset: Path) -> None:
    """Last here, since it changes the world. That there is no new item is no mistake then."""
    before = world.table("interactions").count()
    spoil(dataset / "items.parquet", lambda table: table.slice(0, 0))
    row = {**pq.read_table(dataset / "interactions.parquet").slice(0, 1).to_pylist()[0], "user_id": "person-new"}
    spoil(dataset / "interactions.parquet", lambda table: pa.Table.from_pylist([row], schema=table.schema))
    said = [feedback_row(1, "person-01", "more plush"), feedback_row(2, "a stranger", "more plush")]
    lines = "".join(json.dumps(entry) + "\n" for entry in said)
    (dataset / "feedback.jsonl").write_text(lines, encoding="utf-8")
    counts = world.run(DATE, f"dataset.path={dataset}", "ingest.mode=append", stages=NIGHTLY[:1])["counts"]["ingest"]
    assert (counts["items"], counts["interactions"], counts["feedback"], counts["quarantined"]) == (0, 1, 1, 1)
    assert world.table("interactions").count() == before + 1
    assert world.table("items").where("is_active").count() == NUM_ITEMS
