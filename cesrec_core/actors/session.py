"""Ray for the length of a job: started when the first stage needs it, shut down when the job ends."""

import logging
import os
from types import TracebackType

import ray

from cesrec_core.config import RaySection

log = logging.getLogger(__name__)


class RaySession:
    """A context manager; `start()` is called by the stages that use actors and does nothing the second time."""

    def __init__(self, section: RaySection) -> None:
        self.section = section
        self._is_started = False

    def __enter__(self) -> "RaySession":
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._is_started:
            ray.shutdown()

    def start(self) -> None:
        if ray.is_initialized():
            return
        # Usage reports leave the machine; a batch job has no business sending any.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Workers inherit it. Threads that spin while they wait slow a shared machine down several times.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        if self.section.address:
            ray.init(address=self.section.address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(
                # Fractions of CPUs are asked for by actors; a machine with fewer cores than actors must not hang.
                num_cpus=max(os.cpu_count() or 1, int(self.section.num_actors * self.section.num_cpus_per_actor)),
                object_store_memory=self.section.object_store_mib * 1024 * 1024,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        self._is_started = True
        log.info("Ray is up with %d workers at most", self.section.num_actors)
