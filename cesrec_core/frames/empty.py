"""Frames without rows, for what is optional and not there."""

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession


def empty_frame(spark: SparkSession, types: dict[str, pa.DataType]) -> DataFrame:
    """No rows of these columns. By way of Arrow: an empty list of Python's would start Python on the executors."""
    return spark.createDataFrame(pa.schema(list(types.items())).empty_table())
