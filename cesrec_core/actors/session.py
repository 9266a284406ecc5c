"""Ray for the length of a job: started when the first stage needs it, shut down when the job ends.

It runs on this machine, on a cluster that is there, or on the nodes of the Spark cluster that the job runs on.
"""

import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace, TracebackType

from cesrec_core.config import RaySection
from cesrec_core.errors import Stopped
from cesrec_core.shipped import library_root

log = logging.getLogger(__name__)

# A value of ray.address.
ON_SPARK = "spark"
# By this name of Ray's runs a thread that copies what a node says which this process has started.
COPIES_WHAT_IS_SAID = "redirect_log_thread_fn"
# Of what Ray says where there is no cluster to take down.
NO_CLUSTER = "No active ray cluster"
# A node takes a second or two for its end.
SECONDS_TO_HEAR_OUT = 15
IDLE_MINUTES = "DATABRICKS_RAY_ON_SPARK_AUTOSHUTDOWN_MINUTES"


class RaySession:
    """A context manager; `start()` is called by the stages that use actors and does nothing the second time."""

    def __init__(self, section: RaySection) -> None:
        self.section = section
        self._is_started = False
        self._is_on_spark = False

    def __enter__(self) -> "RaySession":
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        try:
            if self._is_started:
                import ray

                ray.shutdown()
        finally:
            if self._is_on_spark:
                _take_down()
                self._is_on_spark = False

    def start(self) -> None:
        import ray

        if ray.is_initialized():
            return
        with _keeping_sigterm():
            self._start()
        self._is_started = True
        log.info("Ray is up with %d workers at most", self.section.num_actors)

    def _start(self) -> None:
        import ray

        # Usage reports leave the machine; a batch job has no business sending any.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Workers inherit it. Threads that spin while they wait slow a shared machine down several times.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        if self.section.address:
            address = self._start_on_spark() if self.section.address == ON_SPARK else self.section.address
            ray.init(address=address, runtime_env=shipped_code(), log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(
                # Fractions of CPUs are asked for by actors; a machine with fewer cores than actors must not hang.
                num_cpus=max(os.cpu_count() or 1, math.ceil(self.section.num_actors * self.section.num_cpus_per_actor)),
                object_store_memory=self.section.object_store_mib * 1024 * 1024,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )

    def _start_on_spark(self) -> str:
        """Ray nodes as tasks of a Spark job that runs until `__exit__`; returns the address of their head, on this machine."""
        from ray.util.spark import MAX_NUM_WORKER_NODES, setup_ray_cluster, utils

        # It copies what its head says to standard output, where only results belong.
        vars(utils)["sys"] = SimpleNamespace(**(vars(sys) | {"stdout": sys.stderr}))
        # Where nothing is said, Ray's head asks for a token if this user's home has one, which neither this process nor the
        # nodes would send. Who wants tokens gives mode and token to all of the cluster.
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        section = self.section
        bytes_of_objects = section.object_store_mib * 1024 * 1024
        with _kept_while_idle():
            # Where this fails, Ray takes down what it has started.
            address, _ = setup_ray_cluster(
                max_worker_nodes=section.spark_nodes or MAX_NUM_WORKER_NODES,
                # Ray wants both of these or neither.
                num_cpus_worker_node=section.cpus_per_spark_node,
                num_gpus_worker_node=section.gpus_per_spark_node if section.cpus_per_spark_node is not None else None,
                object_store_memory_worker_node=bytes_of_objects,
                object_store_memory_head_node=bytes_of_objects,
                head_node_options={"include_dashboard": "false"},
            )
        self._is_on_spark = True
        return str(address)


@contextmanager
def _kept_while_idle() -> Iterator[None]:
    """Clusters that are set up in here last while nobody does anything.

    On Databricks Ray takes its nodes down when a notebook has started no command for half an hour, and some stages take longer.
    """
    is_said = IDLE_MINUTES in os.environ
    os.environ.setdefault(IDLE_MINUTES, "0")
    try:
        yield
    finally:
        if not is_said:
            del os.environ[IDLE_MINUTES]


def _take_down() -> None:
    # Not for every actor, whose processes import this module, too.
    from ray.util.spark import shutdown_ray_cluster

    try:
        shutdown_ray_cluster()
    except RuntimeError as error:
        # Somebody has taken it down already, or Databricks has where it was told to.
        if NO_CLUSTER not in str(error):
            raise
    _hear_out_head()


def _hear_out_head() -> None:
    """Wait until the head on Spark has said its last.

    It would speak after the job's last line, which is a result; and spark-submit puts both outputs into one, which cannot
    always be undone (`job_parser.reclaim_standard_error`).
    """
    until = time.monotonic() + SECONDS_TO_HEAR_OUT
    for thread in threading.enumerate():
        if COPIES_WHAT_IS_SAID in thread.name:
            thread.join(max(0.0, until - time.monotonic()))


@contextmanager
def _keeping_sigterm() -> Iterator[None]:
    """Ray puts handlers of its own in place, which print a stack trace or end the process with 1."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as error:
        # Of a handler of Ray's, while it was in place; it exits with the number of the signal.
        if error.code != signal.SIGTERM:
            raise
        raise Stopped() from error
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def shipped_code() -> dict[str, list[str]]:
    """A runtime environment that gives workers on other machines the very code that this process runs."""
    return {"py_modules": [str(library_root() / "cesrec_core")]}
