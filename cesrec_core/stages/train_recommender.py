"""train_recommender: user_sequences -> recommender, in a process of its own, when there is reason to."""

from cesrec_core.artifacts import RECOMMENDER_FORMAT
from cesrec_core.config import WHEN_TO_TRAIN
from cesrec_core.hashing import short_hash
from cesrec_core.schemas import INTERACTIONS, ITEMS, USER_SEQUENCES
from cesrec_core.stages.context import RunContext, Stage, StageResult
from cesrec_core.stages.kept_models import keep_reason, training_notes
from cesrec_core.stages.training_process import export_dataset, run_training

NAME = "train_recommender"
# Values that say by what means to train: they ask for no other model, as those of WHEN_TO_TRAIN do not.
MEANS = {"num_processes", "is_compiled"}


def settings(context: RunContext) -> dict[str, str]:
    """Everything whose change alone asks for training, whatever the data did."""
    section = context.config.train_recommender.model_dump(exclude=MEANS | WHEN_TO_TRAIN[NAME])
    return {
        "artifact format": str(RECOMMENDER_FORMAT),
        "train_recommender settings": short_hash(section),
        "split": context.config.dataset.split,
        "seed": str(context.config.run.seed),
    }


def fingerprint(context: RunContext) -> dict[str, str]:
    return {**settings(context), "user_sequences": str(context.warehouse.version(USER_SEQUENCES))}


def good_enough(context: RunContext) -> str | None:
    section = context.config.train_recommender
    return keep_reason(context, NAME, settings(context), section.max_age_days, section.max_new_interactions_share)


def run(context: RunContext) -> StageResult:
    artifact_id = short_hash(["recommender", fingerprint(context)])
    folder = context.artifact_path("recommender", artifact_id)
    dataset = export_dataset(context)
    arguments = ["--dataset", str(dataset), "--out", str(folder), "--artifact-id", artifact_id]
    metrics = run_training(context, "train_recommender.py", arguments, context.config.train_recommender.timeout_minutes)
    return StageResult({}, metrics, artifact_id, training_notes(context, settings(context)))


STAGE = Stage(
    name=NAME,
    reads=(INTERACTIONS.name, USER_SEQUENCES.name, ITEMS.name),
    writes=("recommender",),
    run=run,
    fingerprint=fingerprint,
    good_enough=good_enough,
)
