"""One tiny world with two warehouses: one for a scheduler that runs stages one by one, one for nightly_refresh.

`make-world FOLDER` writes it; `check FOLDER` holds what the scheduler's night left against the world; `run-at-once FOLDER` runs
nightly_refresh into the second; `compare FOLDER` holds what consumers read in both against each other.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "unit")]

from pyspark.sql import functions as F  # noqa: E402
from quick_spark import write_spark_conf  # noqa: E402
from tiny_world import NUM_ITEMS, NUM_USERS, RUN_DATE, write_config, write_tiny_world  # noqa: E402

from cesrec_core.config import load_config  # noqa: E402
from cesrec_core.delta_io.runs import find_run, latest_published  # noqa: E402
from cesrec_core.delta_io.session import spark_session  # noqa: E402
from cesrec_core.delta_io.warehouse import Warehouse  # noqa: E402
from cesrec_core.schemas import TABLES  # noqa: E402
from cesrec_core.stages.nightly import NIGHTLY  # noqa: E402

BY_STAGES, AT_ONCE, SPARK_CONF, SUMMARY = "by_stages", "at_once", "spark_conf", "summary.json"
# Times of day and of files differ; training takes as long as it takes.
LEFT_OUT = {"metrics": "name NOT LIKE '%seconds%'"}


def make_world(folder: Path) -> None:
    """Data and models are the same files, since a run is named by where they lie, too."""
    write_spark_conf(folder / SPARK_CONF)
    write_tiny_world(folder)
    for name in (BY_STAGES, AT_ONCE):
        write_config(folder, f"{name}.yaml", warehouse={"path": str(folder / name)}, finetune_constructor={"num_steps": 40})


def check(folder: Path) -> None:
    """One run, published last, in which every stage has measured something and everybody has a list."""
    config = load_config(folder / f"{BY_STAGES}.yaml")
    warehouse = Warehouse(spark_session(config.spark, "check"), config.warehouse)
    (run,) = warehouse.read(TABLES["runs"]).collect()
    assert (run["status"], run["run_date"].isoformat()) == ("published", RUN_DATE), run
    assert latest_published(warehouse) == run["run_id"]
    rows = {name: warehouse.read(TABLES[name]) for name in TABLES}
    counts = {name: rows[name].count() for name in ("user_sequences", "items", "item_embeddings", "aligned_embeddings")}
    assert counts == dict(zip(counts, (NUM_USERS, NUM_ITEMS, NUM_ITEMS, NUM_ITEMS), strict=True)), counts
    lists = (
        rows["recommendations"].groupBy("user_id").agg(F.countDistinct("item_id").alias("items"), F.max("rank").alias("last"))
    )
    assert lists.where("items = 10 AND last = 10").count() == NUM_USERS
    num_rounds = rows["pseudo_sequences"].where("size(replaced_positions) > 0").count()
    assert num_rounds > 0
    stages = {row["stage"] for row in rows["metrics"].select("stage").distinct().collect()}
    assert stages == {stage.name for stage in NIGHTLY} - {"publish"}, stages
    print(f"published: {NUM_USERS} lists of 10, {num_rounds} rewritten histories")


def run_at_once(folder: Path) -> None:
    config = folder / f"{AT_ONCE}.yaml"
    command = ["spark-submit", str(ROOT / "jobs" / "nightly_refresh.py"), "--config", str(config), "--run-date", RUN_DATE]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    (folder / SUMMARY).write_text(done.stdout.splitlines()[-1], encoding="utf-8")


def compare(folder: Path) -> None:
    summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    assert summary["status"] == "published", summary
    configs = {name: load_config(folder / f"{name}.yaml") for name in (BY_STAGES, AT_ONCE)}
    spark = spark_session(configs[AT_ONCE].spark, "compare")
    warehouses = {name: Warehouse(spark, config.warehouse) for name, config in configs.items()}
    for name, warehouse in warehouses.items():
        assert latest_published(warehouse) == summary["run_id"], name
        assert warehouse.read(TABLES["runs"]).count() == 1, name
    runs = [find_run(warehouse, summary["run_id"]) for warehouse in warehouses.values()]
    assert runs[0].artifact_ids == runs[1].artifact_ids
    for name, table in TABLES.items():
        if name == "runs":
            continue
        frames = [warehouse.read(table).where(LEFT_OUT.get(name, "true")) for warehouse in warehouses.values()]
        columns = [F.to_json(column).alias(column) if _is_map(frames[0], column) else column for column in table.column_names]
        one, other = (frame.select(*columns) for frame in frames)
        num_rows, num_different = one.count(), one.exceptAll(other).count() + other.exceptAll(one).count()
        assert num_different == 0, f"{name}: {num_different} of {num_rows} rows differ"
        print(f"{name}: the same {num_rows} rows")


def _is_map(frame, column: str) -> bool:
    return frame.schema[column].dataType.typeName() == "map"


if __name__ == "__main__":
    commands = {"make-world": make_world, "check": check, "run-at-once": run_at_once, "compare": compare}
    commands[sys.argv[1]](Path(sys.argv[2]))
