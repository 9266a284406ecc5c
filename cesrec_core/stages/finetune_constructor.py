"""finetune_constructor: histories and item vectors -> constructor, under DeepSpeed in a process of its own."""

from pathlib import Path

from cesrec_core.catalogue import FEATURES_FILE
from cesrec_core.config import WHEN_TO_TRAIN
from cesrec_core.extractor.identity import extractor_id
from cesrec_core.hashing import short_hash
from cesrec_core.language_models import ModelSource, check_model_folder
from cesrec_core.schemas import INTERACTIONS, USER_SEQUENCES
from cesrec_core.stages.catalogue_features import OF_THE_CATALOGUE, export_features
from cesrec_core.stages.context import RunContext, Stage, StageResult
from cesrec_core.stages.kept_models import keep_reason, training_notes
from cesrec_core.stages.training_pairs import export_pairs
from cesrec_core.stages.training_process import run_training

NAME = "finetune_constructor"
# It learns how words and histories go together, not what is new: it follows the recommender, whose vectors it reads.
ANY_SHARE = 1.0


# What decides how training runs, not what comes out of it.
NOT_LEARNED_FROM = {
    "model_path",
    "num_processes",
    "deepspeed_config",
    "gradient_checkpointing",
    "checkpoint_every_steps",
    *WHEN_TO_TRAIN[NAME],
}


def check(context: RunContext) -> None:
    check_model_folder(Path(context.config.finetune_constructor.model_path), f"{NAME}.model_path")


def settings(context: RunContext) -> dict[str, str]:
    section = context.config.finetune_constructor
    base = Path(section.model_path)
    values = section.model_dump(exclude=NOT_LEARNED_FROM)
    return {
        "recommender": context.artifact_id("recommender"),
        "adapter": context.artifact_id("adapter"),
        "extractor": extractor_id(context.config.embed_items),
        "language model": ModelSource(base.name, base).identity(),
        "finetune_constructor settings": short_hash(values),
        "split": context.config.dataset.split,
        "seed": str(context.config.run.seed),
    }


def fingerprint(context: RunContext) -> dict[str, str]:
    return {**settings(context), "user_sequences": str(context.warehouse.version(USER_SEQUENCES))}


def good_enough(context: RunContext) -> str | None:
    return keep_reason(context, NAME, settings(context), context.config.finetune_constructor.max_age_days, ANY_SHARE)


def run(context: RunContext) -> StageResult:
    section = context.config.finetune_constructor
    parents = settings(context)
    artifact_id = short_hash(["constructor", fingerprint(context)])
    folder = context.artifact_path("constructor", artifact_id)
    features = export_features(context)
    arguments = ["--dataset", str(features), "--item-features", str(features / FEATURES_FILE), "--out", str(folder)]
    arguments += ["--pairs", str(export_pairs(context))]
    arguments += ["--artifact-id", artifact_id]
    for kind in ("recommender", "adapter", "extractor"):
        arguments += ["--parent", f"{kind}={parents[kind]}"]
    metrics = run_training(context, "finetune_constructor.py", arguments, section.timeout_minutes)
    return StageResult({}, metrics, artifact_id, training_notes(context, parents))


STAGE = Stage(
    name=NAME,
    reads=(INTERACTIONS.name, USER_SEQUENCES.name, *OF_THE_CATALOGUE),
    writes=("constructor",),
    run=run,
    fingerprint=fingerprint,
    good_enough=good_enough,
    check=check,
)
