"""train_adapter: semantic and collaborative vectors -> adapter."""

from cesrec_core.extractor import extractor_id
from cesrec_core.hashing import short_hash
from cesrec_core.schemas import ITEM_EMBEDDINGS, ITEMS
from cesrec_core.stages.catalogue_features import features_for_adapter
from cesrec_core.stages.context import RunContext, Stage, StageResult
from cesrec_core.stages.training_process import run_training

NAME = "train_adapter"
TIMEOUT_MINUTES = 6 * 60


def fingerprint(context: RunContext) -> dict[str, str]:
    return {
        "recommender": context.artifact_id("recommender"),
        "extractor": extractor_id(context.config.embed_items),
        "train_adapter settings": context.section_hash(NAME),
        "seed": str(context.config.run.seed),
    }


def run(context: RunContext) -> StageResult:
    parents = fingerprint(context)
    artifact_id = short_hash(["adapter", parents])
    features = features_for_adapter(context, context.stage_path(NAME) / "features")
    folder = context.artifact_path("adapter", artifact_id)
    arguments = ["--item-features", str(features), "--out", str(folder), "--artifact-id", artifact_id]
    for kind in ("recommender", "extractor"):
        arguments += ["--parent", f"{kind}={parents[kind]}"]
    metrics = run_training(context, "train_adapter.py", arguments, TIMEOUT_MINUTES)
    return StageResult({}, metrics, artifact_id)


STAGE = Stage(
    name=NAME,
    reads=(ITEMS.name, ITEM_EMBEDDINGS.name, "recommender"),
    writes=("adapter",),
    run=run,
    fingerprint=fingerprint,
)
