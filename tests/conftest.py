"""One Spark session and one Ray for all tests of a process: starting them takes longer than most tests.

`make test` runs two processes, since Spark keeps but one core busy here. What shares a world stays together, and is dealt out
in the order of folders: what takes longest comes first, and not by the number of its tests, which would put nights last.
"""

import os
from collections.abc import Iterator

# Before torch is imported, here and in what tests start: threads that share a core wait for each other in a loop, and tensors
# of this size are no work for two of them. On a busy machine that took four times as much of the processor.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from pyspark.sql import SparkSession
from quick_spark import write_spark_conf

from cesrec_core.actors.session import RaySession
from cesrec_core.config import RaySection, SparkSection
from cesrec_core.delta_io.session import spark_session

# Files before folders.
GROUPS = {
    "test_bad_input.py": "Spark",
    "test_nightly.py": "nights",
    "end_to_end": "looks at nights",
    "spark_local": "Spark",
    "ray_local": "Spark",
}


# `make test` leaves these to `make test-slow`: files, and whatever asks for a fixture. Single tests say so themselves.
SLOW = {
    "test_bad_input.py",
    "test_constructor_finetune.py",
    "test_drift_of_nights.py",
    "test_embedding_cache.py",
    "test_evaluate.py",
    "test_report.py",
    "second_night",
}


# First, since the plugin that deals the groups out reads them in a hook of the same name.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        names = (item.path.name, item.path.parent.name)
        group = next((GROUPS[name] for name in names if name in GROUPS), item.path.name)
        item.add_marker(pytest.mark.xdist_group(group))
        if not SLOW.isdisjoint([item.path.name, *getattr(item, "fixturenames", ())]):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def quick_spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARK_CONF_DIR", str(write_spark_conf(tmp_path_factory.mktemp("spark") / "conf")))
        yield


@pytest.fixture(scope="session")
def spark(quick_spark: None) -> Iterator[SparkSession]:
    section = SparkSection(master="local[2]", shuffle_partitions=2, snapshot_partitions=1, is_ui_enabled=False)
    session = spark_session(section, "cesrec tests")
    yield session
    session.stop()


@pytest.fixture(scope="session")
def ray_session() -> Iterator[RaySession]:
    with RaySession(RaySection(num_actors=2, num_cpus_per_actor=1.0, object_store_mib=100)) as session:
        session.start()
        yield session
