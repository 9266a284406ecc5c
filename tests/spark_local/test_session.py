"""Where a job runs, in processes of their own: the session of the suite is there already."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
from cesrec_core.config import SparkSection
from cesrec_core.delta_io.session import spark_session
context = spark_session(SparkSection(master="local[2]"), "where").sparkContext
print("runs on", context.master, "with", context.pythonExec)
"""


@pytest.mark.parametrize(
    ("options", "expected"),
    [(["spark-submit", "--master", "local[1]"], "local[1]"), (["spark-submit"], "local[2]"), ([sys.executable], "local[2]")],
    ids=["a master was given to spark-submit", "none was given", "no spark-submit"],
)
def test_the_configured_master_is_for_those_who_named_none(options: list[str], expected: str, tmp_path: Path) -> None:
    script = tmp_path / "where.py"
    script.write_text(SCRIPT, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "PYSPARK_PYTHON"}
    done = subprocess.run([*options, script], env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=300)
    # By the Python of the job's environment, under whichever name, and not by any python3 of the path.
    assert f"runs on {expected} with {Path(sys.executable).parent}/python" in done.stdout
