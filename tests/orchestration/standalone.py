"""What `make standalone` runs: a Spark master and two workers on this machine, and the nightly job on a tiny world there, from
the wheel alone, with Ray on the nodes of that Spark; then the export, and what MLflow and the folders hold.

The wheel carries a version of its own, which has to come back in the table `runs`, and from executors and Ray's workers that
are asked: so no other copy of the library was run.
Spark's log of events tells which of its jobs was Ray, and the environment of processes which of them were started from here.
"""

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pyspark

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "unit")]

from tiny_world import RUN_DATE, write_tiny_world  # noqa: E402

from cesrec_core.config import load_config  # noqa: E402
from cesrec_core.delta_io.session import spark_session  # noqa: E402
from cesrec_core.delta_io.warehouse import Warehouse  # noqa: E402
from cesrec_core.schemas import RECOMMENDATIONS, RUNS  # noqa: E402
from cesrec_core.stages.nightly import NIGHTLY  # noqa: E402

JOBS = ROOT / "jobs"
LIBRARY_VERSIONS = ROOT / "tests" / "orchestration" / "library_versions.py"
VERSION = "0.0.0+standalone"
SOURCES = ("cesrec_core", "training", "conf", "setup.py", "pyproject.toml", "README.md", "LICENSE")
SECONDS_TO_START = 240
SECONDS_TO_END = 120
CORES_PER_WORKER = 2
# One node of Ray takes one of the four cores; Spark goes on working with the others.
RAY_ON_SPARK = {"ray.address": "spark", "ray.spark_nodes": 1, "ray.cpus_per_spark_node": 1}
# In the environment of all that is started from here.
MARK = "CESREC_STANDALONE"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, metavar="FILE", help="keep the page of the run here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.environ[MARK] = scratch
        wheel = build_wheel(folder / "tree")
        config = write_tiny_world(folder / "world")
        (folder / "events").mkdir()
        (folder / "empty").mkdir()
        with cluster(folder) as (master, page):
            summary = submit(folder, wheel, JOBS / "nightly_refresh.py", on_cluster(folder, master), night(folder, config))
            applications = ask(page)["completedapps"]
            check_ray_was_on_spark(folder / "events")
            check_libraries(folder, wheel, master, config)
        assert summary["status"] == "published", summary
        cores = 2 * CORES_PER_WORKER
        assert [(app["name"], app["cores"], app["state"]) for app in applications] == [
            ("cesrec nightly_refresh", cores, "FINISHED")
        ]
        check_nothing_goes_on(scratch)
        check_record(folder / "mlflow", summary)
        formats = ["--format", "jsonl", "--format", "parquet"]
        exported = submit(folder, wheel, JOBS / "export_recommendations.py", [], ["--config", config, *formats])
        check_tables(config, exported)
        if arguments.page is not None:
            shutil.copyfile(summary["report"], arguments.page)
    print(f"Published by {VERSION} on a master and two workers, Ray among them, in {summary['seconds']['total']:.0f} s")
    return 0


def build_wheel(tree: Path) -> Path:
    tree.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, tree / name)
    version_file = tree / "cesrec_core" / "__init__.py"
    text = re.sub(r'__version__ = ".+"', f'__version__ = "{VERSION}"', version_file.read_text(encoding="utf-8"))
    version_file.write_text(text, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        tree / "dist",
    ]
    subprocess.run([*command, tree], check=True)
    return next((tree / "dist").glob("*.whl"))


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, str]]:
    """A master and two workers; yields the master's address and its page of figures."""
    port, page_port = free_port(), free_port()
    master, page = f"spark://127.0.0.1:{port}", f"http://127.0.0.1:{page_port}/json/"
    host = ["--host", "127.0.0.1"]
    commands = [["org.apache.spark.deploy.master.Master", *host, "--port", str(port), "--webui-port", str(page_port)]]
    for number in (1, 2):
        place = ["--work-dir", str(folder / f"worker-{number}"), "--cores", str(CORES_PER_WORKER)]
        place += ["--memory", "1g", "--webui-port", "0"]
        commands.append(["org.apache.spark.deploy.worker.Worker", *host, *place, master])
    spark_class = Path(pyspark.__file__).parent / "bin" / "spark-class"
    environment = {**os.environ, "SPARK_HOME": str(Path(pyspark.__file__).parent)}
    processes = [subprocess.Popen([spark_class, *command], env=environment) for command in commands]
    try:
        wait_for_workers(page, 2)
        yield master, page
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=30)


def wait_for_workers(page: str, wanted: int) -> None:
    until = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < until:
        try:
            if ask(page)["aliveworkers"] == wanted:
                return
        except OSError:
            pass
        time.sleep(0.5)
    raise TimeoutError(f"The workers were not there after {SECONDS_TO_START} s")


def on_cluster(folder: Path, master: str) -> list[str]:
    """Options of spark-submit; the log of events is one file of JSON lines."""
    settings = {
        "spark.executor.memory": "1g",
        "spark.driver.host": "127.0.0.1",
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": (folder / "events").as_uri(),
        "spark.eventLog.compress": "false",
        "spark.eventLog.rolling.enabled": "false",
    }
    return ["--master", master, *(word for key, value in settings.items() for word in ("--conf", f"{key}={value}"))]


def night(folder: Path, config: Path) -> list[str | Path]:
    """Arguments of the nightly job."""
    values = {**RAY_ON_SPARK, "mlflow.is_enabled": "true", "mlflow.tracking_uri": folder / "mlflow"}
    sets = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    return ["--config", config, "--run-date", RUN_DATE, *sets]


def submit(folder: Path, wheel: Path, script: Path, options: Sequence[str], arguments: Sequence[str | Path]) -> dict[str, Any]:
    """A script from a folder with nothing in it, and without this checkout on the path; returns what it says in the end."""
    command = ["spark-submit", *options, "--py-files", wheel, script, *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder / "empty", env=environment, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return json.loads(done.stdout.splitlines()[-1])


def check_libraries(folder: Path, wheel: Path, master: str, config: Path) -> None:
    """The driver, the executors and Ray's workers on the nodes of that Spark have all imported the wheel."""
    asked = [config, *(f"{key}={value}" for key, value in RAY_ON_SPARK.items())]
    versions = submit(folder, wheel, LIBRARY_VERSIONS, on_cluster(folder, master), asked)
    assert all(versions[process] == [VERSION] for process in ("driver", "executors", "workers")), versions


def check_ray_was_on_spark(folder: Path) -> None:
    """One job of Spark held Ray's node from before the others of its stages to the end, and was cancelled then."""
    (file,) = folder.iterdir()
    events = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    started = {
        event["Job ID"]: event["Properties"].get("spark.jobGroup.id") or ""
        for event in events
        if event["Event"] == "SparkListenerJobStart"
    }
    of_ray = [job for job, group in started.items() if group.startswith("ray-cluster-")]
    assert len(of_ray) == 1, started
    ends = [event for event in events if event["Event"] == "SparkListenerJobEnd"]
    meanwhile = [event for event in ends if event["Job ID"] > of_ray[0] and event["Job Result"]["Result"] == "JobSucceeded"]
    assert meanwhile, "Spark has worked off no job beside Ray"
    (end,) = [event for event in ends if event["Job ID"] == of_ray[0]]
    assert end["Job Result"]["Result"] == "JobFailed", end
    assert "cancelled" in json.dumps(end["Job Result"]), end


def check_nothing_goes_on(scratch: str) -> None:
    """No process that was started from here is left, neither Spark's nor Ray's."""
    until = time.monotonic() + SECONDS_TO_END
    while left := [process for process in psutil.process_iter() if process.pid != os.getpid() and _is_ours(process, scratch)]:
        assert time.monotonic() < until, [process.cmdline()[:6] for process in left]
        time.sleep(0.5)


def _is_ours(process: psutil.Process, scratch: str) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == scratch
    except psutil.Error:
        return False


def check_record(store: Path, summary: dict[str, Any]) -> None:
    """MLflow's own store holds the run: that it ended well, what was measured, what it was made from, and its page."""
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=str(store))
    (experiment,) = [found for found in client.search_experiments() if found.name == "cesrec"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_id == summary["mlflow"] and run.info.status == "FINISHED", run.info
    told = {"run_id": summary["run_id"], "code_version": VERSION, "status": "published"}
    assert {name: run.data.tags[f"cesrec.{name}"] for name in told} == told, run.data.tags
    stages = {name.removeprefix("seconds/") for name in run.data.metrics if name.startswith("seconds/")}
    assert stages == {stage.name for stage in NIGHTLY}, stages
    assert run.data.params["simulate_feedback.num_users"] == "20", run.data.params
    kept = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"recommender", "adapter", "constructor", "lineage.json", f"{summary['run_id']}.html"} <= kept, kept


def check_tables(config: Path, exported: dict[str, Any]) -> None:
    """The published run was made by this very wheel, and the export holds its lists in both formats."""
    loaded = load_config(config)
    warehouse = Warehouse(spark_session(loaded.spark, "look"), loaded.warehouse)
    assert warehouse.read(RUNS).first()["code_version"] == VERSION
    lists: dict[str, list[str]] = {}
    for row in warehouse.read_run(RECOMMENDATIONS, exported["run_id"]).orderBy("user_id", "rank").collect():
        lists.setdefault(row["user_id"], []).append(row["item_id"])
    num_items = sum(len(items) for items in lists.values())
    counts = {"users": len(lists), "items": num_items, "added": len(lists), "changed": 0, "rescored": 0, "removed": 0}
    assert lists and exported["counts"] == counts, exported
    folder = Path(exported["out"])
    (file,) = (folder / "recommendations.jsonl").iterdir()
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    rows = pq.read_table(folder / "recommendations.parquet").to_pylist()
    assert lists == {line["user_id"]: line["item_ids"] for line in lines} == {row["user_id"]: row["item_ids"] for row in rows}


def ask(page: str) -> dict:
    with urllib.request.urlopen(page, timeout=5) as answer:
        return json.load(answer)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
