"""Where a job's Ray comes from, and that it goes; Ray itself is a stand-in."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import ray
import ray.util.spark
import ray.util.spark.databricks_hook
import ray.util.spark.utils

import cesrec_core
from cesrec_core.actors.session import RaySession
from cesrec_core.config import RaySection
from cesrec_core.errors import Stopped

IDLE_MINUTES = ray.util.spark.databricks_hook.DATABRICKS_RAY_ON_SPARK_AUTOSHUTDOWN_MINUTES
# Before a test puts something else in its place.
shutdown_ray_cluster = ray.util.spark.shutdown_ray_cluster


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is asked of Ray, in order."""
    asked: list[Any] = []

    def set_up(**options: Any) -> tuple[str, str]:
        asked.append(("setup_ray_cluster", options))
        return "10.0.0.1:6379", "ray://10.0.0.1:10001"

    # Set first, so that what a test leaves there is gone after it.
    for name in ("RAY_AUTH_MODE", IDLE_MINUTES):
        monkeypatch.setenv(name, "unset")
        monkeypatch.delenv(name)
    monkeypatch.setitem(vars(ray.util.spark.utils), "sys", sys)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: asked.append(("init", options.get("address"), options)))
    monkeypatch.setattr(ray, "shutdown", lambda: asked.append(("shutdown",)))
    monkeypatch.setattr(ray.util.spark, "setup_ray_cluster", set_up)
    monkeypatch.setattr(ray.util.spark, "shutdown_ray_cluster", lambda: asked.append(("shutdown_ray_cluster",)))
    return asked


SIZES = ("max_worker_nodes", "num_cpus_worker_node", "num_gpus_worker_node")


@pytest.mark.parametrize(
    ("configured", "asked_for"),
    [
        ({"spark_nodes": 3}, (3, None, None)),
        ({"cpus_per_spark_node": 12}, (ray.util.spark.MAX_NUM_WORKER_NODES, 12, 0)),
        ({"spark_nodes": 3, "cpus_per_spark_node": 12, "gpus_per_spark_node": 1}, (3, 12, 1)),
    ],
)
def test_ray_on_spark_is_set_up_and_taken_down(
    configured: dict[str, int], asked_for: tuple[int | None, ...], calls: list[Any]
) -> None:
    with RaySession(RaySection(address="spark", object_store_mib=100, **configured)) as started:
        started.start()
    assert [call[0] for call in calls] == ["setup_ray_cluster", "init", "shutdown", "shutdown_ray_cluster"]
    assert tuple(calls[0][1].get(name) for name in SIZES) == asked_for
    assert calls[0][1]["object_store_memory_worker_node"] == 100 * 2**20
    assert calls[1][1] == "10.0.0.1:6379"


@pytest.mark.parametrize(("said", "expected"), [(None, "disabled"), ("token", "token")])
def test_all_of_ray_on_spark_agrees_on_tokens(
    said: str | None, expected: str, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if said is not None:
        monkeypatch.setenv("RAY_AUTH_MODE", said)
    with RaySession(RaySection(address="spark")) as started:
        started.start()
        # What the head inherits that was started by now.
        assert os.environ["RAY_AUTH_MODE"] == expected


@pytest.mark.parametrize("said", [None, "45"])
def test_a_cluster_on_spark_lasts_as_long_as_the_job(
    said: str | None, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Databricks takes it down when a notebook is idle, unless it is told not to; other clusters are nobody's here."""
    set_up = ray.util.spark.setup_ray_cluster
    found: list[str | None] = []
    monkeypatch.setattr(
        ray.util.spark, "setup_ray_cluster", lambda **options: found.append(os.environ.get(IDLE_MINUTES)) or set_up(**options)
    )
    if said is not None:
        monkeypatch.setenv(IDLE_MINUTES, said)
    with RaySession(RaySection(address="spark")) as started:
        started.start()
        assert (found, os.environ.get(IDLE_MINUTES)) == ([said or "0"], said)


def test_one_that_is_gone_needs_no_taking_down(calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray.util.spark, "shutdown_ray_cluster", shutdown_ray_cluster)
    with RaySession(RaySection(address="spark")) as started:
        started.start()
    assert ("shutdown",) in calls

    def fail() -> None:
        raise RuntimeError("Spark says no")

    monkeypatch.setattr(ray.util.spark, "shutdown_ray_cluster", fail)
    with pytest.raises(RuntimeError, match="Spark says no"), RaySession(RaySection(address="spark")) as started:
        started.start()


def test_what_a_head_on_spark_says_is_no_result(calls: list[Any], capfd: pytest.CaptureFixture[str]) -> None:
    """Nor does it come after the job's last line, where spark-submit mixes what is said with results."""
    with RaySession(RaySection(address="spark")) as started:
        started.start()
        head, _ = ray.util.spark.utils.exec_cmd(["sh", "-c", "sleep 1; echo Ray is shut down"], synchronous=False)
    print("published", file=sys.stderr, flush=True)
    assert head.wait() == 0
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-2:] == ["Ray is shut down", "published"]


@pytest.mark.parametrize("address", [None, "auto", "spark"])
def test_a_job_that_is_asked_to_end_is_asked_in_its_own_way(
    address: str | None, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's way is to end the process with 1, and a training goes on."""

    def ours(number: int, frame: object) -> None:
        raise AssertionError

    monkeypatch.setattr(ray, "init", lambda **options: signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1)))
    before = signal.signal(signal.SIGTERM, ours)
    try:
        with RaySession(RaySection(address=address)) as started:
            started.start()
            assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_job_that_fails_takes_it_down_too(calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**options: Any) -> None:
        raise ConnectionError("no head")

    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(ConnectionError), RaySession(RaySection(address="spark")) as started:
        started.start()
    assert [call[0] for call in calls] == ["setup_ray_cluster", "shutdown_ray_cluster"]


def test_nothing_is_taken_down_that_was_not_started(calls: list[Any]) -> None:
    with RaySession(RaySection(address="spark")):
        pass
    assert calls == []


def test_workers_of_another_cluster_are_given_this_code(calls: list[Any]) -> None:
    with RaySession(RaySection(address="auto")) as started:
        started.start()
    assert [call[0] for call in calls] == ["init", "shutdown"]
    assert calls[0][1] == "auto"
    assert calls[0][2]["runtime_env"] == {"py_modules": [str(Path(cesrec_core.__file__).parent)]}


def test_a_job_that_is_asked_to_end_while_ray_starts_is_stopped_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reason would be told as an error of Ray's."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: sys.exit(signal.SIGTERM))
    with RaySession(RaySection()) as started, pytest.raises(Stopped, match="Stopped by SIGTERM"):
        started.start()


def test_any_other_end_of_ray_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: sys.exit("no library"))
    with RaySession(RaySection()) as started, pytest.raises(SystemExit, match="no library") as end:
        started.start()
    assert not isinstance(end.value, Stopped)
