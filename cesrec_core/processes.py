"""Training in several processes: one per GPU, or per share of a CPU's cores. Torch's own launcher starts them."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import torch
import torch.distributed as dist

from cesrec_core.child_processes import ending
from cesrec_core.errors import ConfigError, StageError

T = TypeVar("T")
# torchrun gives its processes 30 before it kills them.
SECONDS_TO_END = 40


@dataclass(frozen=True)
class ProcessGroup:
    """This process among those that train together.

    Attributes:
        rank: 0 .. size - 1; rank 0 writes files and speaks.
        device: where this process computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """Everybody's value, in the order of ranks. A collective: every process calls it."""
        if self.size == 1:
            return [value]
        values: list[T] = [value] * self.size
        dist.all_gather_object(values, value)
        return values


def join_processes() -> ProcessGroup:
    """Join the group that torchrun started, or be a group of one."""
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if size > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        share_cores()
    return ProcessGroup(rank, size, device)


def leave_processes() -> None:
    """Leave the group, where there is one, all at once; the last thing a process does.

    Who left early would have nothing to do but to end, and torchrun kills everybody if it stumbles on its way out.
    """
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def share_cores() -> None:
    """Share the machine's cores fairly: torchrun sets one thread per process, whatever the machine has."""
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def end_as_torchrun(script: str, num_processes: int, arguments: Sequence[str]) -> NoReturn:
    """Run this script again in several processes under torchrun, and end with its exit code.

    This process waits beside torchrun: asked to end, torchrun itself ends with 1 and says nothing on standard output.

    Raises:
        ConfigError: there are GPUs, and fewer than processes.
        StageError: a process has ended, and the first one said nothing of it.
        SystemExit: torchrun has ended otherwise.
    """
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else num_processes
    if num_processes > num_gpus:
        raise ConfigError(f"num_processes is {num_processes}, and this machine has {num_gpus} GPUs. Set it to that or less.")
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}", script]
    has_told = False
    command = [sys.executable, *launcher, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as torchrun, ending(torchrun, SECONDS_TO_END):
        for line in torchrun.stdout or ():
            print(line, end="", flush=True)
            has_told = True
        code = torchrun.wait()
    if code and not has_told:
        raise StageError(
            f"A process of the training has ended, and with it the others ({code}). Its messages stand above. Mend their "
            "cause, or where it was killed for want of memory, lower batch_size or max_history_items; then give the same "
            "command again: it goes on from its last checkpoint."
        )
    sys.exit(code)
