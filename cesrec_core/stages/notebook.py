"""What a notebook begins with: its parameters, a session, and a run whose stages it can start one by one."""

import datetime as dt
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from cesrec_core.actors.session import RaySession
from cesrec_core.config import Config, load_config
from cesrec_core.delta_io.session import spark_session
from cesrec_core.delta_io.warehouse import Warehouse
from cesrec_core.errors import ConfigError
from cesrec_core.stages.context import RunContext
from cesrec_core.stages.nightly import NIGHTLY
from cesrec_core.stages.report_contents import RunReader
from cesrec_core.stages.runner import execute, open_run

LOCAL_CONFIG, DATABRICKS_CONFIG = "conf/local.yaml", "conf/databricks.yaml"
ENVIRONMENT_PREFIX = "CESREC_"


@dataclass
class Notebook:
    """A notebook's session. Stages that use actors start Ray; `close()` shuts it down, and leaves Spark alone."""

    parameters: dict[str, str]
    config: Config
    spark: SparkSession
    ray: RaySession

    @cached_property
    def run(self) -> RunContext:
        """The run of the configuration's date, its inputs pinned when it is first asked for."""
        return open_run(self.config, self.spark, self.ray, dt.datetime.now(dt.UTC).date())

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.spark, self.config.warehouse)

    def run_stage(self, name: str) -> dict[str, float]:
        """Run one stage of the nightly job where there is reason to, as its job does; returns what it counted.

        Of a run that has been published already, publishing does nothing and counts nothing.

        Raises:
            ConfigError: there is no stage of that name.
        """
        names = [stage.name for stage in NIGHTLY]
        if name not in names:
            raise ConfigError(f"There is no stage {name!r}. The stages are: {', '.join(names)}.")
        place = names.index(name)
        execute([NIGHTLY[place]], self.run, NIGHTLY[:place])
        return dict(self.run.results[name].counts) if name in self.run.results else {}

    def reader(self, run_id: str | None = None) -> RunReader:
        """What there is to tell of a run now; of `run` where none is named."""
        return RunReader(self.warehouse, self.config, run_id or self.run.run_id)

    def close(self) -> None:
        self.ray.__exit__()


def open_notebook(title: str, dbutils: Any | None, sets: Mapping[str, str] | None = None, **defaults: str) -> Notebook:
    """Read the parameters and the configuration, and open a session.

    Args:
        title: what Spark calls the application.
        dbutils: of Databricks, for its widgets; None elsewhere.
        sets: which keys of the configuration parameters stand for.
        defaults: parameters besides `config`, `run_date` and `set`, with their values where none is given. `set` holds what
            jobs are told by --set, one behind the other with spaces between.

    Raises:
        ConfigError: the configuration cannot be used.
    """
    config_file = LOCAL_CONFIG if dbutils is None else DATABRICKS_CONFIG
    parameters = read_parameters(dbutils, {"config": config_file, "run_date": "", "set": "", **defaults})
    try:
        overrides = shlex.split(parameters["set"])
    except ValueError as error:
        raise ConfigError(f"The parameter set cannot be read: {error}. Close what is quoted in {parameters['set']}") from None
    overrides += [f"{key}={parameters[name]}" for name, key in (sets or {}).items()]
    overrides += [f"run.run_date='{parameters['run_date']}'"] if parameters["run_date"] else []
    config = load_config(Path(parameters["config"]), overrides)
    return Notebook(parameters, config, spark_session(config.spark, f"cesrec {title}"), RaySession(config.ray))


def read_parameters(dbutils: Any | None, defaults: dict[str, str]) -> dict[str, str]:
    """Widgets where there is `dbutils`, which are made here; elsewhere the environment variables CESREC_<NAME>. Without blanks
    around them, which come along where a value is pasted; one that is empty then counts as not given."""
    if dbutils is None:
        given = {name: os.environ.get(ENVIRONMENT_PREFIX + name.upper(), "") for name in defaults}
    else:
        for name, default in defaults.items():
            dbutils.widgets.text(name, default, name.replace("_", " "))
        given = {name: dbutils.widgets.get(name) for name in defaults}
    return {name: given[name].strip() or default for name, default in defaults.items()}
