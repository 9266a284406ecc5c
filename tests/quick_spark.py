"""Spark for frames of a few rows: queries are interpreted. To compile one takes longer than to run it, a quarter of all that
Java does in a tiny night. Half a minute of a job's life goes into loading classes: they are taken as they are, and one thread
collects garbage.

Spark's own means is a folder of settings, which reaches every session, in this process and in jobs that tests start.
"""

import shutil
from importlib.util import find_spec
from pathlib import Path

SETTINGS = """
spark.sql.codegen.wholeStage false
spark.sql.codegen.factoryMode NO_CODEGEN
"""
JAVA_OPTIONS = "spark.driver.extraJavaOptions"
QUICK_START = "-XX:+UseSerialGC -XX:+UnlockDiagnosticVMOptions -XX:-BytecodeVerificationRemote"


def write_spark_conf(folder: Path) -> Path:
    """Spark's settings of this environment with those above, for SPARK_CONF_DIR; returns the folder."""
    found = find_spec("pyspark")
    assert found is not None and found.origin is not None
    shutil.copytree(Path(found.origin).parent / "conf", folder)
    defaults = folder / "spark-defaults.conf"
    lines = defaults.read_text(encoding="utf-8").splitlines()
    options = [f"{line} {QUICK_START}" if line.startswith(JAVA_OPTIONS) else line for line in lines]
    assert options != lines, f"{defaults} no longer sets {JAVA_OPTIONS}"
    defaults.write_text("\n".join(options) + SETTINGS, encoding="utf-8")
    return folder
