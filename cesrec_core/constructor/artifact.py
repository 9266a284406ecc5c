"""Saving and loading a Constructor: the LoRA in peft's own format, the small tensors beside it, no copy of the base model."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from cesrec_core.artifacts import Manifest, load_tensors, read_manifest, save_tensors, write_manifest
from cesrec_core.constructor.model import ConstructorSettings, ItemConstructor, ItemFeatures, weight_files
from cesrec_core.errors import ArtifactError
from cesrec_core.language_models import update_by_tokenizer, update_by_weights
from cesrec_core.local_scratch import copied_from_local_disk

KIND = "constructor"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
_LORA = "lora_"


def base_identity(folder: Path) -> str:
    """Hash of what decides the base model's numbers: its configuration, tokenizer and weights."""
    digest = hashlib.sha256()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    # Where it came from and who wrote it say nothing about the numbers.
    for name in ("_name_or_path", "_model_name_or_path", "transformers_version"):
        config.pop(name, None)
    digest.update(json.dumps(config, sort_keys=True).encode())
    update_by_tokenizer(digest, folder)
    update_by_weights(digest, weight_files(folder))
    return digest.hexdigest()[:16]


def save_constructor(
    folder: Path,
    model: ItemConstructor,
    base_folder: Path,
    manifest: Manifest,
    trained: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write a Constructor into an existing folder, usually the one that `artifacts.publishing` yields.

    Args:
        manifest: of kind "constructor"; its settings are completed with what rebuilding needs.
        trained: the trained tensors by name, where they do not live in `model` (ZeRO-3 spreads them over processes).

    Raises:
        ArtifactError: a trained tensor is missing, empty or not finite; nothing is written.
    """
    # Late, as in `ItemConstructor.build`.
    from peft import get_peft_model_state_dict

    tensors = dict(model.trainable()) if trained is None else dict(trained)
    _refuse_incomplete(model, tensors)
    lora = {name: tensor for name, tensor in tensors.items() if _LORA in name}
    small = {name: tensor for name, tensor in tensors.items() if _LORA not in name}
    small |= {name: tensor for name, tensor in model.named_buffers() if name in _persistent_buffers(model)}
    prefix = "trunk."
    adapter = get_peft_model_state_dict(model.trunk, {name.removeprefix(prefix): tensor for name, tensor in lora.items()})
    with copied_from_local_disk(folder / ADAPTER_WEIGHTS) as scratch:
        save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in adapter.items()}, scratch)
    adapter_config = model.trunk.peft_config["default"]
    (folder / ADAPTER_CONFIG).write_text(json.dumps(_plain(adapter_config.to_dict()), indent=2, sort_keys=True) + "\n", "utf-8")
    save_tensors(folder, small)
    settings = {
        **manifest.settings,
        "constructor": dataclasses.asdict(model.settings),
        "base_identity": base_identity(base_folder),
        "semantic_width": model.semantic_width,
        "collaborative_width": model.item_features.shape[1] - model.semantic_width,
    }
    write_manifest(folder, dataclasses.replace(manifest, settings=settings))


def load_constructor(folder: Path, base_folder: Path, items: ItemFeatures) -> ItemConstructor:
    """Rebuild a saved Constructor around its base model and the catalogue of today, on the CPU and in evaluation mode.

    Raises:
        ArtifactError: the artifact is incomplete, was trained on another base model, or on features of other widths.
        ConfigError: `base_folder` holds no complete model.
    """
    manifest = read_manifest(folder, KIND)
    values = dict(manifest.settings["constructor"])
    if isinstance(values.get("lora_targets"), list):
        values["lora_targets"] = tuple(values["lora_targets"])
    settings = ConstructorSettings(**values)
    expected = [manifest.settings["semantic_width"], manifest.settings["collaborative_width"]]
    found = [items.semantic.shape[1], items.collaborative.shape[1]]
    if found != expected:
        raise ArtifactError(
            f"{folder} was trained on item features of widths {expected} (semantic, collaborative), but was given {found}. "
            "Use the extractor and recommender named in its manifest, or train it again."
        )
    model = ItemConstructor.build(base_folder, settings, items)
    if base_identity(base_folder) != manifest.settings["base_identity"]:
        raise ArtifactError(
            f"{folder} was trained on another base model than the one in {base_folder}. Point finetune_constructor.model_path "
            "at the model it was trained on, or train it again."
        )
    _load_adapter(model, folder)
    _load_small_tensors(model, folder)
    return model.eval()


def _load_adapter(model: ItemConstructor, folder: Path) -> None:
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    path = folder / ADAPTER_WEIGHTS
    if not path.is_file():
        raise ArtifactError(f"{folder} has no {ADAPTER_WEIGHTS}. Train the artifact again.")
    try:
        adapter = load_file(path)
    except SafetensorError as error:
        raise ArtifactError(f"{path} is damaged ({error}). Train the artifact again.") from None
    expected = set(get_peft_model_state_dict(model.trunk))
    if set(adapter) != expected:
        raise ArtifactError(
            f"{path} does not fit the base model: it has {len(adapter)} tensors, not {len(expected)}. Train it again."
        )
    set_peft_model_state_dict(model.trunk, adapter)


def _load_small_tensors(model: ItemConstructor, folder: Path) -> None:
    tensors = load_tensors(folder)
    expected = {name for name in model.trainable() if _LORA not in name} | _persistent_buffers(model)
    if set(tensors) != expected:
        different = ", ".join(sorted(set(tensors) ^ expected))
        raise ArtifactError(f"{folder} does not fit this version of the Constructor: {different}. Train the artifact again.")
    model.load_state_dict(tensors, strict=False)


def _refuse_incomplete(model: ItemConstructor, tensors: Mapping[str, torch.Tensor]) -> None:
    """Under ZeRO-3 a naive save finds tensors of no elements, and would write an empty adapter without an error."""
    for name in model.trainable():
        if name not in tensors or tensors[name].numel() == 0:
            raise ArtifactError(f"The trained tensor {name} is missing or empty. Gather it from all processes before saving.")
        if not torch.isfinite(tensors[name]).all():
            raise ArtifactError(f"The trained tensor {name} is not finite. Lower the learning rates, and train again.")


def _persistent_buffers(model: ItemConstructor) -> set[str]:
    """Names of the buffers that are part of what was learned; not those of the language model, which are never saved."""
    return {name for name in model.state_dict() if not name.startswith("trunk.")} - set(model.trainable())


def _plain(value: Any) -> Any:
    """JSON without sets, enumerations and file paths: the base model is named by its identity, not by where it lay."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items() if key != "base_model_name_or_path"}
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
