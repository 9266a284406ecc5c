"""One tiny world, run once, for all tests here that only look."""

import dataclasses
import datetime as dt
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from pyspark.sql import DataFrame, SparkSession
from tiny_world import RUN_DATE, write_tiny_world

from cesrec_core.actors.session import RaySession
from cesrec_core.config import load_config
from cesrec_core.delta_io.warehouse import Warehouse
from cesrec_core.schemas import TABLES
from cesrec_core.stages.context import RunContext, Stage
from cesrec_core.stages.nightly import NIGHTLY
from cesrec_core.stages.runner import execute, open_run

# The warehouse of the first night as that left it, to be copied: what tests look at may hold a page or a lock more.
UNTOUCHED = "untouched"


@dataclass
class World:
    """A tiny world and the means to run jobs in it."""

    folder: Path
    config_path: Path
    spark: SparkSession
    ray: RaySession

    def open(self, *overrides: str) -> RunContext:
        config = load_config(self.config_path, overrides)
        return open_run(config, self.spark, self.ray, dt.date.fromisoformat(RUN_DATE))

    def run(self, *overrides: str, stages: Sequence[Stage] = NIGHTLY) -> dict[str, Any]:
        return execute(stages, self.open(*overrides))

    @property
    def warehouse_path(self) -> Path:
        return self.folder / "warehouse"

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.spark, load_config(self.config_path).warehouse)

    def table(self, name: str, run_id: str | None = None) -> DataFrame:
        frame = self.warehouse.read(TABLES[name])
        return frame if run_id is None else frame.where(frame["run_id"] == run_id)

    def versions(self) -> dict[str, int]:
        warehouse = self.warehouse
        return {name: warehouse.version(table) for name, table in TABLES.items() if warehouse.exists(table)}


@pytest.fixture(scope="session")
def new_world(tmp_path_factory: pytest.TempPathFactory, spark: SparkSession, ray_session: RaySession):
    def make(name: str) -> World:
        folder = tmp_path_factory.mktemp(name)
        return World(folder, write_tiny_world(folder), spark, ray_session)

    return make


@pytest.fixture(scope="session")
def first_night(
    tmp_path_factory: pytest.TempPathFactory, spark: SparkSession, ray_session: RaySession
) -> tuple[World, dict[str, Any]]:
    """A world after its first run, and that run's summary: run by the process that comes first, seen by all of them."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "first_night"
    summary = folder / "summary.json"
    with FileLock(f"{folder}.lock"):
        if not summary.exists():
            world = World(folder, write_tiny_world(folder), spark, ray_session)
            text = json.dumps(world.run())
            shutil.copytree(world.warehouse_path, folder / UNTOUCHED)
            summary.write_text(text, encoding="utf-8")
    return World(folder, folder / "tiny.yaml", spark, ray_session), json.loads(summary.read_text())


@pytest.fixture
def copied_world(first_night: tuple[World, dict[str, Any]], tmp_path: Path) -> World:
    """The world after its first night, for one test to spoil."""
    first, _ = first_night
    config_path = first.folder / f"{tmp_path.name}.yaml"
    text = first.config_path.read_text().replace(str(first.warehouse_path), str(tmp_path / "warehouse"))
    config_path.write_text(text, encoding="utf-8")
    shutil.copytree(first.folder / UNTOUCHED, tmp_path / "warehouse")
    return dataclasses.replace(first, folder=tmp_path, config_path=config_path)
