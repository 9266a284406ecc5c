"""What standalone.py submits beside the jobs: which library the driver, the executors and Ray's workers have imported.

    spark-submit --py-files WHEEL tests/orchestration/library_versions.py CONFIG [section.key=value ...]

Prints one JSON object on the last line, the versions that each kind of process told.
"""

import sys
from collections.abc import Iterable, Iterator

import pyarrow as pa

import cesrec_core
from cesrec_core.actors.session import RaySession
from cesrec_core.config import Config, load_config
from cesrec_core.delta_io.session import spark_session
from cesrec_core.stages.command_line import end_with, finish

NUM_TASKS = 8


def of_executors(config: Config) -> set[str]:
    spark = spark_session(config.spark, "library versions")
    rows = spark.range(NUM_TASKS, numPartitions=NUM_TASKS).mapInArrow(_told_by_executor, "version string").collect()
    return {row["version"] for row in rows}


def of_workers() -> set[str]:
    import ray

    return set(ray.get([ray.remote(_version).remote() for _ in range(NUM_TASKS)]))


def _told_by_executor(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for _ in batches:
        yield pa.RecordBatch.from_pydict({"version": [_version()]})


def _version() -> str:
    # Here, since what this script has imported would come along.
    from cesrec_core import __version__

    return __version__


def versions() -> dict[str, list[str]]:
    config = load_config(sys.argv[1], sys.argv[2:])
    executors = of_executors(config)
    with RaySession(config.ray) as session:
        session.start()
        workers = of_workers()
    told = {"driver": {cesrec_core.__version__}, "executors": executors, "workers": workers}
    return {process: sorted(versions) for process, versions in told.items()}


if __name__ == "__main__":
    end_with(finish("library_versions", versions))
