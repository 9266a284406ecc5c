"""The layout's promises: who may import what, what a script may be called, and one name for one stage everywhere."""

import ast
import importlib
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from cesrec_core.config import Config
from cesrec_core.schemas import TABLES
from cesrec_core.stages.nightly import NIGHTLY

ROOT = Path(__file__).parents[2]
JOBS = sorted((ROOT / "jobs").glob("*.py"))
TRAINING = sorted(path for path in (ROOT / "training").glob("*.py") if path.name != "__init__.py")
LIBRARY = sorted((ROOT / "cesrec_core").rglob("*.py"))
FOLDERS_OF_SCRIPTS = {"jobs", "training", "notebooks"}

# Folders of the library with rules of their own, and the set-up command, which asks pyspark where it keeps its JARs.
NOT_PURE = {"actors", "delta_io", "frames", "local_setup", "raw_sources", "stages"}
STAGES_WITHOUT_VALUES = {"publish"}
SECTIONS_OF_NO_STAGE = {"run", "dataset", "warehouse", "spark", "ray", "evaluate", "maintain", "mlflow"}
JOBS_OF_NO_STAGE = {
    "nightly_refresh",
    "evaluate",
    "maintain",
    "roll_back",
    "explain_mask",
    "explain_recommendation",
    "report",
    "export_recommendations",
}
SLOW_TO_IMPORT = {"torch", "transformers", "ray", "scipy", "matplotlib", "huggingface_hub", "requests", "jinja2"}
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}


def imported_roots(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 0}
    return {name.split(".")[0] for name in names}


def contracts() -> list[dict[str, list[str]]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]


def test_the_globs_find_something() -> None:
    assert len(JOBS) >= len(NIGHTLY)
    assert len(TRAINING) == 3
    assert len(LIBRARY) > 50


def test_a_job_starts_without_what_takes_seconds_to_import() -> None:
    """A night of single stages is fourteen starts; stages import such things where they use them."""
    command = "import sys, cesrec_core.stages.command_line; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", command], check=True, capture_output=True, text=True).stdout.split()
    assert "pyspark" in loaded
    assert SLOW_TO_IMPORT & set(loaded) == set()


def test_import_contracts_hold() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "COLUMNS": "200"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_is_under_a_contract() -> None:
    top_level = {
        path.stem for path in (ROOT / "cesrec_core").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    (pure,) = (contract["source_modules"] for contract in contracts() if "pure core" in contract["name"])
    assert {name.removeprefix("cesrec_core.") for name in pure} == top_level - NOT_PURE - {"__init__"}


@pytest.mark.parametrize("path", [*JOBS, *TRAINING, *LIBRARY], ids=lambda path: str(path.relative_to(ROOT)))
def test_nobody_imports_a_script(path: Path) -> None:
    names_of_scripts = FOLDERS_OF_SCRIPTS | {script.stem for script in (*JOBS, *TRAINING)}
    assert not imported_roots(path) & names_of_scripts


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_training_needs_no_spark_and_no_ray(path: Path) -> None:
    assert not imported_roots(path) & {"pyspark", "delta", "ray"}


@pytest.mark.parametrize("path", [*JOBS, *TRAINING], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_script_shadows_a_module(path: Path) -> None:
    """The folder of a script comes first on sys.path: a script `datasets.py` would be what everybody imports as datasets."""
    assert path.stem not in sys.stdlib_module_names
    assert path.stem not in importlib.metadata.packages_distributions()


@pytest.mark.parametrize("folder", sorted(FOLDERS_OF_SCRIPTS))
def test_folders_of_scripts_hold_no_packages(folder: str) -> None:
    assert not list((ROOT / folder).glob("*/*.py"))


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_jobs_hold_no_logic(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 30
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.For, ast.While, ast.Try)
    assert not [node for node in ast.walk(ast.parse(text)) if isinstance(node, definitions)]


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_a_job_that_went_well_just_ends(path: Path) -> None:
    """To Databricks SystemExit is a failure, whatever its code."""
    text = path.read_text(encoding="utf-8")
    assert "sys.exit" not in text and "SystemExit" not in text
    assert text.count("end_with(") == 1


def test_names_say_the_subject() -> None:
    assert not [path for path in (*LIBRARY, *JOBS, *TRAINING) if path.stem in VAGUE_NAMES or path.parent.name in VAGUE_NAMES]


def test_no_two_test_modules_share_a_name() -> None:
    """Pytest imports them by their bare names: of two that share one, collecting the whole suite refuses the second."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py")
    assert not [name for name, times in names.items() if times > 1]


@pytest.mark.parametrize("stage", NIGHTLY, ids=lambda stage: stage.name)
def test_a_stage_has_one_name_everywhere(stage) -> None:
    assert importlib.import_module(f"cesrec_core.stages.{stage.name}").STAGE is stage
    job = (ROOT / "jobs" / f"{stage.name}.py").read_text(encoding="utf-8")
    # One that does more than its stage has a command line of its own.
    assert re.search(rf'run_one_stage\("{stage.name}"\)|^NAME = "{stage.name}"$', job, re.MULTILINE)
    assert (stage.name in Config.model_fields) == (stage.name not in STAGES_WITHOUT_VALUES)


def test_no_section_and_no_job_is_left_over() -> None:
    names = {stage.name for stage in NIGHTLY}
    assert set(Config.model_fields) - names == SECTIONS_OF_NO_STAGE
    assert {path.stem for path in JOBS} - names == JOBS_OF_NO_STAGE


def test_every_table_is_written_by_some_stage() -> None:
    written = {name for stage in NIGHTLY for name in stage.writes}
    assert set(TABLES) <= written


def test_what_shares_a_world_runs_in_one_process(request: pytest.FixtureRequest) -> None:
    """The plugin hands groups on as a suffix of the test's name; where that fails, every world is silently built twice."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("the tests run in one process")
    assert request.node.nodeid.endswith(f"@{Path(__file__).name}")
