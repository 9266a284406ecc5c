"""train_adapter: semantic and collaborative vectors -> adapter; again where changed texts have drifted away from it."""

from cesrec_core.config import WHEN_TO_TRAIN
from cesrec_core.errors import ArtifactError, InputDataError
from cesrec_core.extractor.identity import extractor_id
from cesrec_core.hashing import short_hash
from cesrec_core.schemas import ITEM_EMBEDDINGS, ITEMS
from cesrec_core.stages.catalogue_features import export_features_for_adapter, pairs_of_vectors
from cesrec_core.stages.context import RunContext, Stage, StageResult, read_state
from cesrec_core.stages.training_process import run_training

NAME = "train_adapter"


def settings(context: RunContext) -> dict[str, str]:
    """Everything whose change alone asks for training, whatever the texts did."""
    return {
        "recommender": context.artifact_id("recommender"),
        "extractor": extractor_id(context.config.embed_items),
        "train_adapter settings": short_hash(context.config.train_adapter.model_dump(exclude=set(WHEN_TO_TRAIN[NAME]))),
        "seed": str(context.config.run.seed),
    }


def fingerprint(context: RunContext) -> dict[str, str]:
    # Items as well: titles that change places need no new embedding.
    versions = {table.name: str(context.warehouse.version(table)) for table in (ITEMS, ITEM_EMBEDDINGS)}
    return settings(context) | versions


def good_enough(context: RunContext) -> str | None:
    """Why the Adapter in force may stay although texts changed: it aligns them about as well as those it was trained on.

    One that the audit would refuse to publish, and did not refuse when it was trained, may not.
    """
    state = read_state(context.warehouse.path, NAME)
    if state is None or state.notes.get("settings") != settings(context):
        return None
    limit = context.config.train_adapter.max_alignment_drift
    try:
        before, now = context.artifact("adapter")[1].metrics["all_normalised_mse"], alignment_now(context)
    except (ArtifactError, InputDataError):
        return None
    publishable = context.config.audit.max_alignment_error
    if not now <= before * (1.0 + limit) or before <= publishable < now:
        return None
    return f"kept: alignment error {now:.3f}, {before:.3f} when it was trained (limit {limit:+.0%})"


def alignment_now(context: RunContext) -> float:
    """Squared error over variance of the Adapter in force, over all items with both vectors as they are now."""
    import torch

    from cesrec_core.adapter import alignment_errors, load_adapter

    model, _ = load_adapter(context.artifact("adapter")[0])
    semantic, collaborative = pairs_of_vectors(context)
    return alignment_errors(model(semantic), collaborative, torch.arange(len(semantic)))["normalised_mse"]


def run(context: RunContext) -> StageResult:
    made_from = fingerprint(context)
    artifact_id = short_hash(["adapter", made_from])
    features = export_features_for_adapter(context, context.stage_path(NAME) / "features")
    folder = context.artifact_path("adapter", artifact_id)
    arguments = ["--item-features", str(features), "--out", str(folder), "--artifact-id", artifact_id]
    for kind in ("recommender", "extractor"):
        arguments += ["--parent", f"{kind}={made_from[kind]}"]
    metrics = run_training(context, "train_adapter.py", arguments, context.config.train_adapter.timeout_minutes)
    return StageResult({}, metrics, artifact_id, {"settings": settings(context)})


STAGE = Stage(
    name=NAME,
    reads=(ITEMS.name, ITEM_EMBEDDINGS.name, "recommender"),
    writes=("adapter",),
    run=run,
    fingerprint=fingerprint,
    good_enough=good_enough,
)
