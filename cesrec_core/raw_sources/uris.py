"""Files at a URI, which Spark reaches through Hadoop's file systems."""

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from cesrec_core.errors import InputDataError
from cesrec_core.hashing import short_hash


def listing_hash(spark: SparkSession, location: str) -> str:
    """16 hexadecimal digits of the names, sizes and times of the files at a URI: their bytes may be too far away to read twice.

    Raises:
        InputDataError: there are none, or they cannot be listed.
    """
    context = spark.sparkContext
    try:
        path = context._jvm.org.apache.hadoop.fs.Path(location)  # type: ignore[union-attr]
        listed = path.getFileSystem(context._jsc.hadoopConfiguration()).listFiles(path, True)
        files = []
        while listed.hasNext():
            file = listed.next()
            files.append((file.getPath().toString(), file.getLen(), file.getModificationTime()))
    except Py4JJavaError as error:
        cause = error.java_exception
        raise InputDataError(
            f"{location} cannot be listed ({cause.getClass().getSimpleName()}). Correct it in the dataset section, or give "
            "this Spark the file system and the rights that it needs."
        ) from None
    if not files:
        raise InputDataError(f"There are no files at {location}. Correct it in the dataset section.")
    return short_hash(sorted(files))
