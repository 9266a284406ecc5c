"""The wheel: what executors, workers and training processes run where nobody has checked the project out."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cesrec_core.config import load_config
from cesrec_core.shipped import enclosing_archive, find_file, library_root, shipped_folder

ROOT = Path(__file__).parents[2]
SOURCES = ("cesrec_core", "training", "conf", "setup.py", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make wheel` does, from a copy: building leaves folders behind."""
    tree, dist = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, tree / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", dist, tree]
    subprocess.run(command, check=True)
    (built,) = dist.glob("cesrec-*.whl")
    return built


def test_the_wheel_holds_all_that_runs_and_all_that_it_reads(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    code = {
        str(path.relative_to(ROOT))
        for folder in ("cesrec_core", "training")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    conf = {
        f"cesrec_core/{path.relative_to(ROOT)}" for ending in ("yaml", "json") for path in (ROOT / "conf").rglob(f"*.{ending}")
    }
    assert len(code) > 100
    assert len(conf) >= 7
    assert code | conf <= held
    assert not {name for name in held if name.startswith(("tests", "jobs"))}


def test_a_wheel_on_the_path_runs_as_it_is(wheel: Path, tmp_path: Path) -> None:
    """As spark-submit puts it there: not unpacked, nothing installed, in a folder of its own."""
    script = """
from pathlib import Path
from cesrec_core.config import load_config
from cesrec_core.shipped import enclosing_archive, find_file, shipped_folder
print(enclosing_archive())
print(load_config("conf/databricks.yaml").result_hash())
print((shipped_folder("training") / "train_recommender.py").is_file(), find_file(Path("conf/deepspeed/zero3.json")).is_file())
"""
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    expected = load_config(ROOT / "conf" / "databricks.yaml").result_hash()
    assert done.stdout.splitlines() == [str(wheel), expected, "True True"]


def test_executors_import_the_wheel_that_the_driver_runs(wheel: Path, tmp_path: Path) -> None:
    """And not what else their Python finds, such as this checkout."""
    script = """
from cesrec_core.config import SparkSection
from cesrec_core.delta_io.session import spark_session
for _ in range(2):
    spark = spark_session(SparkSection(master="local[1]"), "where")
(place,) = spark.sparkContext.parallelize([0], 1).map(lambda _: __import__("cesrec_core.frames.raw").__file__).collect()
print(place)
"""
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=300,
    )
    assert done.stdout.splitlines()[-1].endswith("/cesrec.zip/cesrec_core/__init__.py")


def test_in_a_checkout_everything_lies_beside_the_library() -> None:
    assert enclosing_archive() is None
    assert library_root() == ROOT
    assert shipped_folder("conf") == ROOT / "conf"


def test_a_file_where_the_job_was_started_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_file(Path("conf/local.yaml")) == ROOT / "conf" / "local.yaml"
    assert find_file(Path("conf/unheard_of.yaml")) == Path("conf/unheard_of.yaml")
    assert find_file(Path("local.yaml")) == Path("local.yaml")
    Path("conf").mkdir()
    Path("conf/local.yaml").touch()
    assert find_file(Path("conf/local.yaml")) == Path("conf/local.yaml")
