"""Raw tables owned upstream."""

from delta.tables import DeltaTable
from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession

from cesrec_core.errors import InputDataError
from cesrec_core.raw_sources.formats import recognise


def newest_version(spark: SparkSession, location: str) -> int:
    """The version that a Delta source stands at now.

    Raises:
        InputDataError: there is no such table, or it is not a Delta table.
    """
    try:
        table = DeltaTable.forPath(spark, location) if recognise(location) == "delta" else DeltaTable.forName(spark, location)
    except AnalysisException:
        raise InputDataError(
            f"There is no Delta table {location}. Correct it in the dataset section, or give a folder of files there."
        ) from None
    return int(table.history(1).select("version").collect()[0][0])
