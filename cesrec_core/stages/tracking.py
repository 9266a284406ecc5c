"""tracking: parameters, numbers, files and lineage of a run -> MLflow, where the configuration asks for it.

Not a stage: it can fail no run. Nothing that people said and nobody's id is sent: numbers, configuration, versions and hashes,
and, where `mlflow.log_report` allows it, the page of the run, which quotes words.
"""

import json
import logging
import math
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core import run_status
from cesrec_core.artifacts import MANIFEST, read_manifest
from cesrec_core.config import Config, MlflowSection
from cesrec_core.delta_io.runs import Run, find_run
from cesrec_core.delta_io.warehouse import Warehouse
from cesrec_core.errors import ArtifactError, ConfigError
from cesrec_core.job_parser import is_debugging
from cesrec_core.schemas import METRICS
from cesrec_core.stages.context import read_record
from cesrec_core.stages.evaluation_files import FIGURES_FILE, TEXT_FILE
from cesrec_core.stages.evaluation_files import FOLDER as EVALUATIONS
from cesrec_core.stages.report import report_path, why_not

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

RUN_TAG = "cesrec.run_id"
# A server that does not answer shall not hold a job for the minutes that MLflow would try.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
# MLflow tells its makers what it is used for, unless told not to; it prints where a server shows a run, on the standard output
# that is for results; and it asks to be told that files are meant as a store.
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",
}
STATUSES = {**dict.fromkeys((*run_status.DONE, run_status.PARTIAL), "FINISHED"), run_status.RUNNING: "RUNNING"}
MAX_PARAMETER_CHARACTERS = 500
MAX_PER_REQUEST = 100


def track_run(warehouse: Warehouse, config: Config, run_id: str) -> dict[str, Any]:
    """What the summary of a run says of its record: where it is, or why there is none; nothing where none is asked for.

    Raises nothing: the run is over, and consumers need no tracking server.
    """
    if not config.mlflow.is_enabled:
        return {}
    try:
        run = find_run(warehouse, run_id)
        if run is None:
            return {}
        recorded = _record(warehouse, config, run)
    except Exception as error:
        reason = why_not(error)
        log.warning("Run %s could not be recorded in MLflow: %s", run_id, reason, exc_info=error if is_debugging() else None)
        return {"mlflow": None, "mlflow_error": reason}
    log.info("      recorded in MLflow as run %s", recorded)
    return {"mlflow": recorded}


def _record(warehouse: Warehouse, config: Config, run: Run) -> str:
    """Write the run's record, anew where there is one already; returns MLflow's id of it."""
    client, experiment_id = open_experiment(config.mlflow)
    found = client.search_runs([experiment_id], f"tags.`{RUN_TAG}` = '{run.run_id}'", max_results=1)
    if found:
        recorded = str(found[0].info.run_id)
        client.update_run(recorded, status="RUNNING")
    else:
        started = int(run.started_at.timestamp() * 1000)
        name = f"{run.run_date.isoformat()} {run.run_id[:8]}"
        recorded = str(client.create_run(experiment_id, started, {RUN_TAG: run.run_id}, name).info.run_id)
    ended = None if run.finished_at is None else int(run.finished_at.timestamp() * 1000)
    try:
        _fill(client, recorded, warehouse, config, run, ended or int(run.started_at.timestamp() * 1000))
    except BaseException:
        # It would be shown as running for good, also where the job is stopped here. The next time writes the rest.
        with suppress(Exception):
            client.set_terminated(recorded, "FAILED", ended)
        raise
    client.set_terminated(recorded, STATUSES.get(run.status, "FAILED"), ended)
    return recorded


def _fill(client: "MlflowClient", recorded: str, warehouse: Warehouse, config: Config, run: Run, measured_at: int) -> None:
    lineage = lineage_of(warehouse.path, run)
    # A parameter keeps its first value, and who rolls back has often changed the configuration since that run.
    parameters = parameters_of(config) if config.result_hash() == run.config_hash else {}
    _send(client, recorded, tags_of(run, lineage), parameters, numbers_of(warehouse, run), measured_at)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "lineage.json"
        file.write_text(json.dumps(lineage, indent=1, sort_keys=True), encoding="utf-8")
        client.log_artifact(recorded, str(file))
    for path, place in files_of(warehouse.path, config, run):
        client.log_artifact(recorded, str(path), place)


def open_experiment(section: MlflowSection) -> tuple["MlflowClient", str]:
    """A client of the server that the configuration names, and the id of the experiment there, which is made if need be.

    Raises:
        ConfigError: MLflow is not installed, nobody says where it is, or it does not answer there.
    """
    for name, value in {**PATIENCE, **QUIET}.items():
        os.environ.setdefault(name, value)
    try:
        import mlflow
        from mlflow.exceptions import MlflowException
    except ImportError:
        raise ConfigError(
            "mlflow.is_enabled is true, but MLflow is not installed. Install it with pip install 'cesrec[mlflow]', or set "
            "mlflow.is_enabled to false."
        ) from None
    # Told nothing, MLflow takes a database in the folder that the job was started in, and mlflow-skinny cannot open it.
    is_told = section.tracking_uri is not None or bool(mlflow.is_tracking_uri_set())  # type: ignore[no-untyped-call]
    if not is_told and "DATABRICKS_RUNTIME_VERSION" not in os.environ:
        raise ConfigError(
            "mlflow.is_enabled is true, and nothing says where MLflow is. Set mlflow.tracking_uri or MLFLOW_TRACKING_URI to a "
            "server or a folder."
        )
    uri = section.tracking_uri
    if uri is not None and uri.startswith("~"):
        # As a shell would have read it; MLflow makes a folder of that name.
        uri = str(Path(uri).expanduser())
    try:
        client = mlflow.MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(section.experiment)
        if found is None:
            return client, str(client.create_experiment(section.experiment))
    except (MlflowException, OSError) as error:
        raise ConfigError(
            f"MLflow does not answer, or refuses ({type(error).__name__}). Check mlflow.tracking_uri or MLFLOW_TRACKING_URI, "
            "what is needed to sign in there, and mlflow.experiment; CESREC_DEBUG=1 shows all of it. (mlflow-skinny opens "
            "folders and servers; a database takes mlflow.)"
        ) from error
    if found.lifecycle_stage == "deleted":
        raise ConfigError(
            f"MLflow's experiment {section.experiment} has been deleted, and its name is not free. Restore it (mlflow "
            f"experiments restore --experiment-id {found.experiment_id}), or give mlflow.experiment another name."
        )
    return client, str(found.experiment_id)


def _send(
    client: "MlflowClient",
    recorded: str,
    tags: Mapping[str, str],
    parameters: Mapping[str, str],
    numbers: Mapping[str, float],
    measured_at: int,
) -> None:
    """In as few requests as MLflow takes; `measured_at` in milliseconds since 1970."""
    from mlflow.entities import Metric, Param, RunTag

    client.log_batch(recorded, tags=[RunTag(name, value) for name, value in tags.items()])
    entries = [Param(name, value) for name, value in parameters.items()]
    for start in range(0, len(entries), MAX_PER_REQUEST):
        client.log_batch(recorded, params=entries[start : start + MAX_PER_REQUEST])
    metrics = [Metric(name, value, measured_at, 0) for name, value in numbers.items()]
    for start in range(0, len(metrics), MAX_PER_REQUEST):
        client.log_batch(recorded, metrics=metrics[start : start + MAX_PER_REQUEST])


def tags_of(run: Run, lineage: Mapping[str, Any]) -> dict[str, str]:
    """What runs are searched by: status, code, and what the run was made from; the extractor is a parent of the adapter."""
    tags = {
        RUN_TAG: run.run_id,
        "cesrec.run_date": run.run_date.isoformat(),
        "cesrec.status": run.status,
        "cesrec.code_version": run.code_version,
        "cesrec.config_hash": run.config_hash,
    }
    tags |= {f"cesrec.input.{name}": version for name, version in run.input_versions.items()}
    models = dict(run.artifact_ids)
    for artifact in lineage["artifacts"].values():
        models |= {kind: parent for kind, parent in artifact["parents"].items() if kind not in models}
    return tags | {f"cesrec.artifact.{kind}": artifact_id for kind, artifact_id in models.items()}


def parameters_of(config: Config) -> dict[str, str]:
    """The configuration that can change a result, flat. Where things lie is none of a server's business."""
    flat = {
        f"{section}.{key}": value if isinstance(value, str) else json.dumps(value)
        for section, values in config.values_of_results().items()
        for key, value in values.items()
    }
    return {name: value[:MAX_PARAMETER_CHARACTERS] for name, value in flat.items()}


def numbers_of(warehouse: Warehouse, run: Run) -> dict[str, float]:
    """All that the table metrics holds of the run, and seconds by stage."""
    rows = warehouse.read(METRICS).where(F.col(c.RUN_ID) == run.run_id).collect()
    numbers = {metric_name(f"{row[c.STAGE]}/{row[c.NAME]}"): float(row[c.VALUE]) for row in rows}
    for record in sorted((warehouse.path / "work" / run.run_id).glob("*/done.json")):
        state = read_record(record)
        if state is not None:
            numbers[metric_name(f"seconds/{record.parent.name}")] = state.seconds
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def metric_name(text: str) -> str:
    """The same in letters that MLflow and Databricks take: figures of evaluations have others in their names."""
    return re.sub(r"[^\w\-. /]+", "_", text.replace("@", "_at_").replace("+", "and"), flags=re.ASCII)


def lineage_of(warehouse: Path, run: Run) -> dict[str, Any]:
    """Which inputs and which trained artifacts made the run, and what those were built on."""
    artifacts: dict[str, Any] = {}
    for kind, artifact_id in run.artifact_ids.items():
        try:
            manifest = read_manifest(warehouse / "artifacts" / kind / artifact_id, kind)
        except ArtifactError:
            artifacts[kind] = {"artifact_id": artifact_id, "parents": {}, "split": None, "is_removed": True}
            continue
        artifacts[kind] = {"artifact_id": artifact_id, "parents": manifest.parents, "split": manifest.split}
    return {
        "run_id": run.run_id,
        "inputs": run.input_versions,
        "tables": run.output_versions,
        "artifacts": artifacts,
    }


def files_of(warehouse: Path, config: Config, run: Run) -> Iterator[tuple[Path, str | None]]:
    """Files and the folders they are kept in: manifests, learning curves, evaluation, and the page where it may go."""
    for kind, artifact_id in sorted(run.artifact_ids.items()):
        folder = warehouse / "artifacts" / kind / artifact_id
        for file in (folder / MANIFEST, *sorted(folder.glob("*.png"))):
            if file.is_file():
                yield file, kind
    for name in (TEXT_FILE, FIGURES_FILE):
        if (file := warehouse / EVALUATIONS / run.run_id / name).is_file():
            yield file, "evaluation"
    page = report_path(warehouse, run.run_id)
    if config.mlflow.log_report and page.is_file():
        yield page, None
