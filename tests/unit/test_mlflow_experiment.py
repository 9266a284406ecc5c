"""Where MLflow is, or what to set where it is not found there. The store is a real one, in a folder."""

from pathlib import Path

import pytest

from cesrec_core.config import MlflowSection
from cesrec_core.errors import ConfigError
from cesrec_core.stages.tracking import open_experiment

mlflow = pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "0" if name.endswith("RETRIES") else "2")
    for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_ALLOW_FILE_STORE", "MLFLOW_TRACKING_URI", "DATABRICKS_RUNTIME_VERSION"):
        monkeypatch.setenv(name, "unset")
        monkeypatch.delenv(name)


@pytest.mark.parametrize("is_in_environment", [False, True])
def test_an_experiment_is_made_once(tmp_path: Path, is_in_environment: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    section = MlflowSection(is_enabled=True, tracking_uri=None if is_in_environment else str(tmp_path), experiment="nights")
    if is_in_environment:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tmp_path))
    client, experiment = open_experiment(section)
    assert client.get_experiment(experiment).name == "nights"
    assert open_experiment(section)[1] == experiment


def test_an_experiment_that_was_deleted_is_named(tmp_path: Path) -> None:
    section = MlflowSection(is_enabled=True, tracking_uri=str(tmp_path), experiment="nights")
    client, experiment = open_experiment(section)
    client.delete_experiment(experiment)
    with pytest.raises(ConfigError, match=f"experiment nights has been deleted.*--experiment-id {experiment}"):
        open_experiment(section)
    client.restore_experiment(experiment)
    assert open_experiment(section)[1] == experiment


def test_a_folder_of_ones_own_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    open_experiment(MlflowSection(is_enabled=True, tracking_uri="~/store"))
    assert (tmp_path / "store").is_dir()


def test_a_folder_that_cannot_be_made_is_told() -> None:
    with pytest.raises(ConfigError, match="MLflow does not answer, or refuses"):
        open_experiment(MlflowSection(is_enabled=True, tracking_uri="/proc/nobody/store"))


def test_who_says_nothing_of_where_it_is_is_told_what_to_set() -> None:
    with pytest.raises(ConfigError, match=r"nothing says where MLflow is\. Set mlflow\.tracking_uri or MLFLOW_TRACKING_URI"):
        open_experiment(MlflowSection(is_enabled=True))


def test_a_server_that_is_not_there_is_named_by_its_setting_and_its_password_is_not() -> None:
    with pytest.raises(ConfigError, match=r"MLflow does not answer, or refuses \(\w+\)\. Check mlflow\.tracking_uri") as caught:
        open_experiment(MlflowSection(is_enabled=True, tracking_uri="http://somebody:secret@127.0.0.1:9"))
    assert "secret" not in str(caught.value) and isinstance(caught.value.__cause__, mlflow.exceptions.MlflowException)
