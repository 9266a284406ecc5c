"""Spark for frames of a few rows: queries are interpreted. To compile one takes longer than to run it, a quarter of all that
Java does in a tiny night.

Spark's own means is a folder of settings, which reaches every session, in this process and in jobs that tests start.
"""

import shutil
from importlib.util import find_spec
from pathlib import Path

SETTINGS = """
spark.sql.codegen.wholeStage false
spark.sql.codegen.factoryMode NO_CODEGEN
"""


def write_spark_conf(folder: Path) -> Path:
    """Spark's settings of this environment with those above, for SPARK_CONF_DIR; returns the folder."""
    found = find_spec("pyspark")
    assert found is not None and found.origin is not None
    shutil.copytree(Path(found.origin).parent / "conf", folder)
    with (folder / "spark-defaults.conf").open("a", encoding="utf-8") as defaults:
        defaults.write(SETTINGS)
    return folder
