"""Checkpoints of a fine-tuning: DeepSpeed's own, and beside them where each process stood in its data and random numbers.

Below the folder lies one `step_N` per checkpoint; the file `latest`, which DeepSpeed writes last, names the one that is whole.
"""

import logging
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from cesrec_core.errors import ArtifactError
from cesrec_core.local_scratch import copied_from_local_disk
from cesrec_core.locks import TRAINING_LOCK

LATEST = "latest"

log = logging.getLogger(__name__)


@dataclass
class Progress:
    """How far a process has come.

    Attributes:
        made_from: hash of data, settings, seed and number of processes; a checkpoint of anything else is not continued.
        losses: of deciding and of copying, nats, one pair per finished step.
        position: of its stream of batches, see `BatchStream.position`.
    """

    made_from: str
    losses: list[tuple[float, float]] = field(default_factory=list)
    position: str = ""


def save_checkpoint(folder: Path, engine: Any, progress: Progress) -> None:
    """Write a checkpoint and remove those before it. A collective: every process calls it."""
    rank = torch.distributed.get_rank()
    tag = f"step_{len(progress.losses)}"
    (folder / tag).mkdir(parents=True, exist_ok=True)
    tensors = {"losses": torch.tensor(progress.losses, dtype=torch.float64), "cpu_generator": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["gpu_generator"] = torch.cuda.get_rng_state()
    with copied_from_local_disk(_own_file(folder / tag, rank)) as scratch:
        save_file(tensors, scratch, {"made_from": progress.made_from, "position": progress.position})
    engine.save_checkpoint(str(folder), tag=tag, exclude_frozen_parameters=True)
    torch.distributed.barrier()
    if rank == 0:
        for other in folder.glob("step_*"):
            if other.name != tag:
                shutil.rmtree(other, ignore_errors=True)


def remove_checkpoint(folder: Path) -> None:
    """Remove all but the lock. What cannot be removed stays: it is no reason to train again."""
    for path in folder.glob("*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != TRAINING_LOCK:
            with suppress(OSError):
                path.unlink()


def load_checkpoint(folder: Path, engine: Any, made_from: str) -> Progress | None:
    """Set the engine and the random numbers to where a training of the same thing stopped. A collective.

    Returns:
        How far it had come; None where there is no such checkpoint.

    Raises:
        ArtifactError: DeepSpeed cannot read what lies there.
    """
    progress = _read_own(folder, made_from)
    # All or none: a file that one process cannot read must not leave it behind the others.
    is_readable = torch.tensor(progress is not None, dtype=torch.int32, device=engine.device)
    torch.distributed.all_reduce(is_readable, op=torch.distributed.ReduceOp.MIN)
    if progress is None or not is_readable.item():
        return None
    tag = f"step_{len(progress.losses)}"
    _check_files(folder / tag, torch.distributed.get_world_size())
    try:
        engine.load_checkpoint(str(folder), tag=tag, load_module_strict=False)
    except (OSError, RuntimeError, EOFError, KeyError, AssertionError) as error:
        raise _damaged(folder / tag, str(error) or type(error).__name__) from None
    with safe_open(_own_file(folder / tag, torch.distributed.get_rank()), framework="pt") as opened:
        # Last, since loading may itself have drawn.
        torch.set_rng_state(opened.get_tensor("cpu_generator"))
        if torch.cuda.is_available():
            torch.cuda.set_rng_state(opened.get_tensor("gpu_generator"))
    return progress


def _check_files(checkpoint: Path, num_processes: int) -> None:
    """DeepSpeed goes on with fresh moments where those of the optimizer are missing, and tells nobody."""
    if not any(checkpoint.glob("*model_states.pt")):
        raise _damaged(checkpoint, "the weights are missing")
    if (num_found := len(list(checkpoint.glob("*optim_states.pt")))) < num_processes:
        raise _damaged(checkpoint, f"{num_found} of {num_processes} files of the optimizer are there")


def _damaged(checkpoint: Path, why: str) -> ArtifactError:
    return ArtifactError(
        f"The checkpoint {checkpoint} is damaged ({why}). Remove {checkpoint.parent} to begin the training anew."
    )


def _read_own(folder: Path, made_from: str) -> Progress | None:
    latest = folder / LATEST
    if not latest.is_file():
        return None
    if not (tag := latest.read_text(encoding="utf-8", errors="replace").strip()):
        log.warning("%s is empty: training begins anew", latest)
        return None
    file = _own_file(folder / tag, torch.distributed.get_rank())
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            losses = [(float(deciding), float(copying)) for deciding, copying in opened.get_tensor("losses")]
    except (SafetensorError, OSError) as error:
        log.warning("%s cannot be read (%s): training begins anew", file, error)
        return None
    if metadata.get("made_from") != made_from:
        log.info("the checkpoint in %s is of other data or settings: training begins anew", folder)
        return None
    return Progress(made_from, losses, metadata["position"])


def _own_file(checkpoint: Path, rank: int) -> Path:
    return checkpoint / f"process_{rank}.safetensors"
