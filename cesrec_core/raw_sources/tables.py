"""Raw tables owned upstream."""

from delta.tables import DeltaTable
from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import SparkSession

from cesrec_core.errors import InputDataError
from cesrec_core.raw_sources.formats import recognise
from cesrec_core.table_names import is_of_another, quoted


def newest_version(spark: SparkSession, location: str) -> int:
    """The version that a Delta source stands at now.

    Raises:
        InputDataError: there is no such table, or it is not a Delta table.
    """
    is_named = recognise(location) == "table"
    try:
        table = DeltaTable.forName(spark, quoted(location)) if is_named else DeltaTable.forPath(spark, location)
    except (PySparkException, Py4JJavaError) as error:
        # A catalog that is not there is told by Java alone.
        if not (isinstance(error, AnalysisException) or is_of_another(str(error))):
            raise
        may_be_hidden = ", or this user may not see it, nor a folder of that name" if is_named else ""
        raise InputDataError(
            f"There is no Delta table {location}{may_be_hidden}. Correct it in the dataset section, or give a folder of files "
            "there."
        ) from None
    return int(table.history(1).select("version").collect()[0][0])
