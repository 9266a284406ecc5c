"""The record of a published run, written to a real MLflow server: by its address, and by the client for Databricks.

    python -m venv ENV && ENV/bin/pip install mlflow        # the library itself needs mlflow-skinny alone
    python tests/orchestration/mlflow_servers.py --mlflow ENV/bin/mlflow --warehouse FOLDER

The second way is `mlflow.tracking_uri: databricks` with the server as the host of a workspace: MLflow's own client for
Databricks signs in, asks and writes as it does there. How a workspace stores files it cannot show; they go to a folder.
"""

import argparse
import io
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from mlflow import MlflowClient

from cesrec_core.config import load_config
from cesrec_core.delta_io.runs import Run, find_run, latest_published
from cesrec_core.delta_io.session import spark_session
from cesrec_core.delta_io.warehouse import Warehouse
from cesrec_core.stages.tracking import numbers_of, parameters_of, track_run

ROOT = Path(__file__).parents[2]
SECONDS_TO_START = 180


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mlflow", type=Path, required=True, help="the command of an environment that MLflow is installed in")
    parser.add_argument("--warehouse", type=Path, required=True, help="folder with a published run")
    parser.add_argument("--config", type=Path, default=ROOT / "conf" / "local.yaml")
    args = parser.parse_args()
    place = f"warehouse.path={args.warehouse.resolve()}"
    config = load_config(args.config, [place])
    warehouse = Warehouse(spark_session(config.spark, "look"), config.warehouse)
    published = latest_published(warehouse)
    assert published is not None, f"Nothing is published in {args.warehouse}."
    run = find_run(warehouse, published)
    assert run is not None, f"The table runs lacks {published}."
    with tempfile.TemporaryDirectory() as scratch:
        for name, options in {"server": [], "databricks": ["--no-serve-artifacts"]}.items():
            with server(args.mlflow, Path(scratch) / name, options) as address:
                os.environ |= {"DATABRICKS_HOST": address, "DATABRICKS_TOKEN": "anything"}
                uri = address if name == "server" else name
                check(warehouse, args.config, [place, f"mlflow.tracking_uri={uri}"], run)
            print(f"{name}: recorded")
    return 0


@contextmanager
def server(mlflow: Path, folder: Path, options: list[str]) -> Iterator[str]:
    """Its address, while it runs."""
    folder.mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    stores = ["--backend-store-uri", f"sqlite:///{folder}/store.db"]
    stores += ["--default-artifact-root" if options else "--artifacts-destination", f"file://{folder}/files"]
    command = [str(mlflow), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *stores, *options]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        until = time.monotonic() + SECONDS_TO_START
        while not answers(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None and time.monotonic() < until, (folder / "log").read_text()
            time.sleep(1)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait(timeout=60)


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError):
        return False


def check(warehouse: Warehouse, path: Path, settings: list[str], run: Run) -> None:
    """Written twice, there is one record: finished, with all numbers, parameters, what the run was made from, and files.

    Nothing is printed meanwhile, since a job's standard output is for its results.
    """
    config = load_config(path, [*settings, "mlflow.is_enabled=true", "mlflow.experiment=/Shared/cesrec"])
    with redirect_stdout(io.StringIO()) as printed:
        told = [track_run(warehouse, config, run.run_id) for _ in range(2)]
    assert not printed.getvalue(), printed.getvalue()
    assert told[0] == told[1] and told[0]["mlflow"], told
    client = MlflowClient(tracking_uri=config.mlflow.tracking_uri)
    (experiment,) = [found for found in client.search_experiments() if found.name == "/Shared/cesrec"]
    (record,) = client.search_runs([experiment.experiment_id])
    assert record.info.status == "FINISHED", record.info
    assert record.data.metrics.keys() == numbers_of(warehouse, run).keys()
    assert record.data.params.keys() == parameters_of(config).keys()
    made_from = {kind: record.data.tags[f"cesrec.artifact.{kind}"] for kind in run.artifact_ids}
    assert made_from == run.artifact_ids, record.data.tags
    kept = {file.path for file in client.list_artifacts(record.info.run_id)}
    assert {*run.artifact_ids, "lineage.json", f"{run.run_id}.html"} <= kept, kept


if __name__ == "__main__":
    sys.exit(main())
