"""What an interrupted training needs to go on as if nothing had happened: one file of safetensors, with JSON as metadata.

It lies beside the artifact to be, in a folder with a lock, so that no two trainings write it.
"""

import json
import logging
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cesrec_core.local_scratch import copied_from_local_disk

PROGRESS = "progress"

logger = logging.getLogger(__name__)


@dataclass
class Progress:
    """How far a training has come.

    Attributes:
        made_from: hash of data, settings and seed; a checkpoint of anything else is not continued.
        losses: mean training loss in nats, one per finished epoch.
        validation_ndcg: NDCG@10, one per finished epoch; empty where nothing was held out.
        best_epoch: from 1; 0 before the first.
    """

    made_from: str
    losses: list[float] = field(default_factory=list)
    validation_ndcg: list[float] = field(default_factory=list)
    best_epoch: int = 0


Weights = dict[str, Tensor]


def remove_checkpoint(folder: Path) -> None:
    """Remove what training wrote there, but for its lock. What cannot be removed stays: it is no reason to train again."""
    for file in folder.glob("*.safetensors*"):
        with suppress(OSError):
            file.unlink(missing_ok=True)


def save_checkpoint(
    file: Path,
    progress: Progress,
    model: torch.nn.Module,
    averaged: torch.nn.Module,
    best: Weights,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Replace the checkpoint in one rename of one file; a crash leaves the one before."""
    names = [name for name, _ in model.named_parameters()]
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"averaged/{name}": tensor for name, tensor in averaged.state_dict().items()}
    tensors |= {f"best/{name}": tensor for name, tensor in best.items()}
    for place, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{key}/{names[place]}": torch.as_tensor(value) for key, value in values.items()}
    # Clones, since safetensors refuses shared storage.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(file.name + ".unfinished")
    with copied_from_local_disk(unfinished) as scratch:
        save_file(tensors, scratch, {PROGRESS: json.dumps(asdict(progress))})
    unfinished.replace(file)


def load_checkpoint(
    file: Path, made_from: str, model: torch.nn.Module, averaged: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[Progress, Weights] | None:
    """Set models and optimizer to where a training of the same thing stopped; None where there is no such checkpoint."""
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as opened:
            progress = Progress(**json.loads((opened.metadata() or {})[PROGRESS]))
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        logger.warning("%s cannot be read (%s): training begins anew", file, error)
        return None
    if progress.made_from != made_from:
        logger.warning("%s is of other data or other settings: training begins anew, and overwrites it", file)
        return None
    if not (_fits(model, tensors, "model/") and _fits(averaged, tensors, "averaged/")):
        logger.warning("%s is of another version of the code: training begins anew, and overwrites it", file)
        return None
    model.load_state_dict(_with_prefix(tensors, "model/"))
    averaged.load_state_dict(_with_prefix(tensors, "averaged/"))
    places = {name: place for place, (name, _) in enumerate(model.named_parameters())}
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in _with_prefix(tensors, "optimizer/").items():
        slot, name = key.split("/", 1)
        state.setdefault(places[name], {})[slot] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return progress, _with_prefix(tensors, "best/")


def _fits(model: torch.nn.Module, tensors: Weights, prefix: str) -> bool:
    """Whether all of a model's tensors are there, and no others, in its shapes. To load some of them would spoil the model."""
    saved = {name: tensor.shape for name, tensor in _with_prefix(tensors, prefix).items()}
    return saved == {name: tensor.shape for name, tensor in model.state_dict().items()}


def _with_prefix(tensors: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
