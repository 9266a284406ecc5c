"""Trained artifacts on disk: a folder with safetensors and a manifest.json, published by renaming it into place.

No pickle anywhere: an artifact can be read from a place that somebody else can write to.
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from cesrec_core.errors import ArtifactError, ConfigError
from cesrec_core.local_scratch import copied_from_local_disk

if TYPE_CHECKING:
    from torch import Tensor

KINDS = ("recommender", "adapter", "constructor")
MANIFEST = "manifest.json"
TENSORS = "tensors.safetensors"
SUFFIXES = (".json", ".safetensors", ".png", ".csv")
# Raised when recommenders from before cannot be read any more, so that they are trained again.
RECOMMENDER_FORMAT = 2


@dataclass(frozen=True)
class Manifest:
    """What an artifact is and what it saw.

    Attributes:
        kind: `recommender`, `adapter` or `constructor`.
        artifact_id: hash of everything it was made from.
        split: `all`, or the split of `cesrec_core.splits` by which items were held back.
        parents: ids of the artifacts (and the extractor) it was built on, by kind.
        settings: hyperparameters needed to rebuild the model.
        trained_on: facts about the data, such as the number of its interactions, that an evaluation compares with its own.
        metrics: figures measured at the end of training.
    """

    kind: str
    artifact_id: str
    split: str
    parents: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    trained_on: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


@contextmanager
def publishing(folder: Path) -> Iterator[Path]:
    """Yield a scratch folder that becomes `folder` when the block succeeds, and disappears when it raises.

    What was there stays whole until the new one is: it is moved aside, and removed last.
    """
    scratch, replaced = scratch_of(folder), aside_of(folder)
    if replaced.exists() and not folder.exists():  # a process was killed between the two renames
        replaced.replace(folder)
    for leftover in (scratch, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    if folder.exists():
        folder.replace(replaced)
    scratch.replace(folder)
    shutil.rmtree(replaced, ignore_errors=True)


def scratch_of(folder: Path) -> Path:
    return folder.with_name(folder.name + ".unfinished")


def aside_of(folder: Path) -> Path:
    return folder.with_name(folder.name + ".replaced")


def _is_artifact(folder: Path) -> bool:
    """Whether its manifest is one of ours: other programs have a file of that name, too."""
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["kind"] in KINDS
    except (OSError, ValueError, KeyError, TypeError):
        return False


def is_of_artifact(folder: Path) -> bool:
    """Whether all files are such as training writes."""
    return all(path.suffix in SUFFIXES for path in folder.rglob("*") if not path.is_dir())


def check_replaceable(folder: Path) -> None:
    """Refuse to publish an artifact where something else would be lost; asked before hours of training.

    Raises:
        ConfigError: there is a file, or a folder that holds something and is no artifact; or this user may not write there.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file. Name a folder for the artifact.")
    if folder.absolute() == folder.absolute().parent:
        raise ConfigError(f"{folder} is no folder that an artifact could replace. Name one of its own.")
    for place in (folder, aside_of(folder)):
        if place.is_dir() and any(place.iterdir()) and not (is_of_artifact(place) and _is_artifact(place)):
            raise ConfigError(
                f"{place} holds something that is no trained artifact, and would be replaced. Name another folder."
            )
    if scratch_of(folder).is_dir() and not is_of_artifact(scratch_of(folder)):
        raise ConfigError(f"{scratch_of(folder)}, where the artifact is made, holds something else. Name another folder.")
    existing = next(parent for parent in folder.absolute().parents if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(f"{folder} cannot be made: {existing} is no folder that this user may write to. Name another.")


def write_manifest(folder: Path, manifest: Manifest) -> None:
    text = json.dumps(dataclasses.asdict(manifest), indent=2, sort_keys=True)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path, kind: str) -> Manifest:
    """Read and check a manifest.

    Raises:
        ArtifactError: the folder has no readable manifest, or it is of another kind.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ArtifactError(
            f"{folder} is not a finished artifact: it has no {MANIFEST}. Train it again or name another folder."
        )
    try:
        manifest = Manifest(**json.loads(path.read_text(encoding="utf-8")))
        for name in ("parents", "settings", "trained_on", "metrics"):
            if not isinstance(getattr(manifest, name), dict):
                raise TypeError(f"{name} is no object")
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{path} cannot be read as a manifest ({error}). Train the artifact again.") from None
    if manifest.kind != kind:
        raise ArtifactError(
            f"{folder} is an artifact of kind {manifest.kind}, where {kind} was asked for. Name one of that kind."
        )
    return manifest


def save_tensors(folder: Path, tensors: "Mapping[str, Tensor]") -> None:
    """Write named tensors; shared storage is cloned, since safetensors refuses it."""
    from safetensors.torch import save_file

    with copied_from_local_disk(folder / TENSORS) as scratch:
        save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, scratch)


def load_tensors(folder: Path) -> "dict[str, Tensor]":
    """Read what `save_tensors` wrote, onto the CPU.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    from safetensors.torch import load_file

    path = folder / TENSORS
    if not path.is_file():
        raise ArtifactError(f"{folder} has no weights: {TENSORS} is missing. Train the artifact again.")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ArtifactError(f"{path} is damaged ({error}). Train the artifact again.") from None
