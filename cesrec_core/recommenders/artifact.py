"""A trained recommender on disk: weights, vocabulary and manifest."""

import json
from pathlib import Path

from pydantic import ValidationError

from cesrec_core.artifacts import Manifest, load_tensors, publishing, read_manifest, save_tensors, write_manifest
from cesrec_core.config import TrainRecommenderSection
from cesrec_core.errors import ArtifactError
from cesrec_core.recommenders.protocol import TrainableRecommender
from cesrec_core.recommenders.registry import RECOMMENDERS, build_recommender

KIND = "recommender"
VOCABULARY = "vocabulary.json"


def save_recommender(folder: Path, model: TrainableRecommender, manifest: Manifest) -> None:
    """Publish the artifact as `folder`, replacing what was there. `manifest.settings` must rebuild the model."""
    with publishing(folder) as scratch:
        write_recommender(scratch, model, manifest)


def write_recommender(folder: Path, model: TrainableRecommender, manifest: Manifest) -> None:
    """Write the artifact's files into an existing folder that the caller publishes."""
    save_tensors(folder, model.state_dict())
    (folder / VOCABULARY).write_text(json.dumps(model.item_ids), encoding="utf-8")
    write_manifest(folder, manifest)


def load_recommender(folder: Path) -> tuple[TrainableRecommender, Manifest]:
    """Read a recommender onto the CPU, in evaluation mode and frozen.

    Raises:
        ArtifactError: a file is missing, damaged, or does not fit the others.
    """
    manifest = read_manifest(folder, KIND)
    settings = _settings(folder, manifest)
    path = folder / VOCABULARY
    if not path.is_file():
        raise ArtifactError(f"{folder} has no vocabulary: {VOCABULARY} is missing. Train the recommender again.")
    model = build_recommender(_vocabulary(path), settings, seed=0)
    try:
        model.load_state_dict(load_tensors(folder))
    except RuntimeError as error:
        raise ArtifactError(f"{folder}: weights, vocabulary and manifest do not fit together ({error}). Train again.") from None
    return model.eval().requires_grad_(False), manifest


def _vocabulary(path: Path) -> list[str]:
    try:
        item_ids = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactError(f"{path} is damaged ({error}). Train the recommender again.") from None
    if not isinstance(item_ids, list) or not all(isinstance(item_id, str) for item_id in item_ids):
        raise ArtifactError(f"{path} is damaged: it is no list of item ids. Train the recommender again.")
    if len(set(item_ids)) < len(item_ids):
        raise ArtifactError(f"{path} is damaged: it holds an item twice. Train the recommender again.")
    return item_ids


def _settings(folder: Path, manifest: Manifest) -> TrainRecommenderSection:
    try:
        settings = TrainRecommenderSection.model_validate(manifest.settings)
    except ValidationError as error:
        raise ArtifactError(f"{folder}: the manifest's settings are not a recommender's ({error}). Train it again.") from None
    if settings.model not in RECOMMENDERS:
        known = ", ".join(sorted(RECOMMENDERS))
        raise ArtifactError(f"{folder} holds a {settings.model}; this version knows {known}. Train one of those.")
    return settings
