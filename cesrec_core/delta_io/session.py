"""The Spark session of a job."""

import os
import shutil
import sys
from pathlib import Path

from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from cesrec_core.config import SparkSection
from cesrec_core.errors import ConfigError
from cesrec_core.logs import has_bars
from cesrec_core.shipped import enclosing_archive, scratch_folder

# What spark-submit fills in where nobody named a master.
DEFAULT_MASTER = "local[*]"
# Names that PySpark puts on an executor's path; `.whl` is none of them.
ON_THE_PATH = (".zip", ".egg", ".jar")
SENT_AS = "cesrec.zip"


def spark_session(section: SparkSection, app_name: str) -> SparkSession:
    """The running session, or a new one with Delta. Inside a Databricks runtime its own session is used as it is."""
    if "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return SparkSession.builder.getOrCreate()
    builder = SparkSession.builder.appName(app_name)
    if section.master and _master_of_spark_submit() == DEFAULT_MASTER:
        builder = builder.master(section.master)
    settings = {
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(section.shuffle_partitions),
        "spark.databricks.delta.snapshotPartitions": str(section.snapshot_partitions),
        # Listing the few folders of a table takes no thousands of tasks, which is what VACUUM would start.
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": str(section.shuffle_partitions),
        # On a terminal Spark's own bar shows how far the long queries of ingest, build_sequences and audit are.
        "spark.ui.showConsoleProgress": str(has_bars()).lower(),
        "spark.ui.enabled": str(section.is_ui_enabled).lower(),
    }
    for key, value in settings.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    # Spark's own log repeats every error that the job reports anyway, with rows of data in it.
    spark.sparkContext.setLogLevel("OFF")
    if str(spark.sparkContext.master).startswith("local") and "PYSPARK_PYTHON" not in os.environ:
        # Spark would take whatever python3 comes first on the path, where the environment was not activated.
        spark.sparkContext.pythonExec = sys.executable
    _send_library(spark.sparkContext)
    return spark


def refuse_pattern(name: str, folder: Path) -> None:
    """Of a folder that Spark is going to read.

    Raises:
        ConfigError: its path holds a character that Spark takes for a pattern of paths.
    """
    if found := sorted(set(str(folder)) & set("[]{}*?\\")):
        raise ConfigError(f"{name} is {folder}; Spark would read {' '.join(found)} as a pattern. Name another folder.")


def _send_library(context: SparkContext) -> None:
    """To executors, where the driver runs it from a wheel in `--py-files`: Spark hands that out and does not import from it."""
    archive = enclosing_archive()
    if archive is None or archive.suffix in ON_THE_PATH or any(file.endswith(f"/{SENT_AS}") for file in context.listFiles):
        return
    # Executors fetch the file as long as the job lasts.
    copy = scratch_folder() / SENT_AS
    shutil.copyfile(archive, copy)
    context.addPyFile(str(copy))


def _master_of_spark_submit() -> str:
    """Where spark-submit was told to run the job; DEFAULT_MASTER where it was told nothing, or there is no spark-submit."""
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        return DEFAULT_MASTER
    # Until there is a way to the JVM that spark-submit started, SparkConf knows nothing of what it was told.
    SparkContext._ensure_initialized()
    return SparkConf().get("spark.master", DEFAULT_MASTER) or DEFAULT_MASTER
