"""Parameters of a notebook: widgets on Databricks, the environment elsewhere."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from cesrec_core.errors import ConfigError
from cesrec_core.stages import notebook
from cesrec_core.stages.notebook import open_notebook, read_parameters


class Widgets:
    """What Databricks answers: what is in a widget, which is first made with a default."""

    def __init__(self, typed: dict[str, str]) -> None:
        self.typed = typed
        self.made: dict[str, tuple[str, str]] = {}

    def text(self, name: str, default: str, label: str) -> None:
        self.made[name] = (default, label)

    def get(self, name: str) -> str:
        return self.typed.get(name, self.made[name][0])


def test_widgets_are_made_and_read_on_databricks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CESREC_USER_ID", "of the environment")
    widgets = Widgets({"run_date": "2026-03-02"})
    found = read_parameters(SimpleNamespace(widgets=widgets), {"run_date": "", "user_id": "somebody"})
    assert found == {"run_date": "2026-03-02", "user_id": "somebody"}
    assert widgets.made["user_id"] == ("somebody", "user id")


def test_elsewhere_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CESREC_USER_ID", "u7")
    monkeypatch.delenv("CESREC_RUN_DATE", raising=False)
    assert read_parameters(None, {"run_date": "today", "user_id": ""}) == {"run_date": "today", "user_id": "u7"}


def test_what_is_empty_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CESREC_CONFIG", " ")
    defaults = {"config": "conf/local.yaml", "run_date": ""}
    assert read_parameters(None, defaults) == defaults
    assert read_parameters(SimpleNamespace(widgets=Widgets({"config": ""})), defaults) == defaults


@pytest.fixture
def no_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "spark_session", lambda section, name: name)


@pytest.mark.usefixtures("no_spark")
def test_parameters_reach_the_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "some.yaml").write_text("evaluate: {max_users: 7}", encoding="utf-8")
    of_environment = {
        "CONFIG": str(tmp_path / "some.yaml"),
        "RUN_DATE": "2026-03-02\n",
        "MAX_USERS": " 30 ",
        "SET": "warehouse.schema_name=main.cesrec 'warehouse.path=/Volumes/main/with space'",
    }
    for name, value in of_environment.items():
        monkeypatch.setenv(f"CESREC_{name}", value)
    opened = open_notebook("look", None, {"max_users": "evaluate.max_users"}, max_users="200")
    assert opened.config.evaluate.max_users == 30
    assert opened.config.run.run_date == "2026-03-02"
    warehouse = opened.config.warehouse
    assert (warehouse.schema_name, str(warehouse.path)) == ("main.cesrec", "/Volumes/main/with space")
    assert opened.spark == "cesrec look"
    monkeypatch.setenv("CESREC_SET", "warehouse.path='/tmp/it is")
    with pytest.raises(ConfigError, match="The parameter set cannot be read: No closing quotation"):
        open_notebook("look", None)
    monkeypatch.setenv("CESREC_SET", "")
    monkeypatch.setenv("CESREC_MAX_USERS", "many")
    with pytest.raises(ConfigError, match="max_users"):
        open_notebook("look", None, {"max_users": "evaluate.max_users"}, max_users="200")


@pytest.mark.usefixtures("no_spark")
def test_each_place_has_a_configuration_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "RUN_DATE", "SET"):
        monkeypatch.delenv(f"CESREC_{name}", raising=False)
    assert open_notebook("look", None).parameters["config"] == "conf/local.yaml"
    on_databricks = open_notebook("look", SimpleNamespace(widgets=Widgets({})))
    assert on_databricks.parameters["config"] == "conf/databricks.yaml"
    with pytest.raises(ConfigError, match=r"no stage 'ingestion'\. The stages are: ingest, "):
        on_databricks.run_stage("ingestion")
