"""Parquet shards: how Spark hands one version of a frame to other processes, and takes their answer back."""

import logging
import shutil
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from cesrec_core.arrow import is_readable
from cesrec_core.delta_io.warehouse import spark_schema
from cesrec_core.errors import StageError
from cesrec_core.schemas import Table

log = logging.getLogger(__name__)

# Written by Spark last: a folder with it is complete.
SUCCESS = "_SUCCESS"
# Names of all shards, written after them, and hidden from Spark by its underscore: rows of one that is gone would be missed by
# nobody.
LIST_OF_SHARDS = "_shards.txt"
# The last shard of each worker is waited for by all others, so each gets several; smaller ones cost more than they spare.
SHARDS_PER_WORKER = 4
FEWEST_ROWS_PER_SHARD = 1000


def number_of_shards(num_rows: int, rows_per_shard: int, num_workers: int) -> int:
    """Enough that no shard exceeds `rows_per_shard`, and that all workers have work as long as there is any."""
    for_all = min(SHARDS_PER_WORKER * num_workers, -(-num_rows // FEWEST_ROWS_PER_SHARD)) if num_workers > 1 else 1
    return max(1, for_all, -(-num_rows // rows_per_shard))


def export_shards(
    frame: DataFrame, folder: Path, key: str, rows_per_shard: int, num_workers: int = 1, answers: Path | None = None
) -> int:
    """Write `frame` as Parquet files, each sorted by `key`; returns the number of rows. See `number_of_shards`.

    Args:
        answers: a folder with what workers made of them.

    A folder that is complete is left as it is, so that a resumed run works on the very shards it began with. One that is not,
    lacks a shard, or is damaged, as a machine that lost its power may leave it, is written anew, and answers to it are dropped:
    shards have other names then, and rows of both would stand side by side.

    Raises:
        StageError: a shard could not be looked at; see `is_readable`.
    """
    if not _is_complete(folder):
        # Answers first: this may be cut off, and without them it is done again.
        for outdated in (answers, folder):
            if outdated is not None and outdated.exists():
                shutil.rmtree(outdated)
        num_shards = number_of_shards(frame.count(), rows_per_shard, num_workers)
        # By the key's hash: the same rows fall into the same shard whenever it is exported. Ranges are cut by a random sample.
        sharded = frame.repartition(num_shards, F.col(key)) if num_shards > 1 else frame.coalesce(1)
        sharded.sortWithinPartitions(key).write.parquet(str(folder))
        (folder / LIST_OF_SHARDS).write_bytes(_list_of_shards(folder))
    return frame.sparkSession.read.schema(frame.schema).parquet(str(folder)).count()


def _is_complete(folder: Path) -> bool:
    if not (folder / SUCCESS).exists():
        return False
    listed = folder / LIST_OF_SHARDS
    # Exports of versions before have no list.
    has_all = not listed.exists() or listed.read_bytes() == _list_of_shards(folder)
    if has_all and all(is_readable(shard, advice=f"remove {folder}") for shard in folder.glob("*.parquet")):
        return True
    log.warning("%s is damaged and written again", folder)
    return False


def _list_of_shards(folder: Path) -> bytes:
    return "".join(f"{shard.name}\n" for shard in sorted(folder.glob("*.parquet"))).encode()


def import_shards(spark: SparkSession, folder: Path, table: Table) -> DataFrame:
    """The rows that workers wrote, with the types of `table`.

    Raises:
        StageError: there is no shard at all.
    """
    if not any(folder.glob("*.parquet")):
        raise StageError(f"{folder} holds no shards. Run the stage that writes {table.name} again.")
    return spark.read.schema(spark_schema(table)).parquet(str(folder))


def read_parquet(spark: SparkSession, folder: Path, table: Table) -> DataFrame:
    """Frames that this project parked as Parquet, with the types of `table`."""
    return spark.read.schema(spark_schema(table)).parquet(str(folder))
