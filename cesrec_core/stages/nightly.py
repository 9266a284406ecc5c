"""NIGHTLY: the stages in the order of the picture in README."""

from cesrec_core.stages import (
    audit,
    build_sequences,
    construct_pseudo_sequences,
    embed_items,
    finetune_constructor,
    ingest,
    mask_outliers,
    project_items,
    publish,
    recommend,
    simulate_feedback,
    train_adapter,
    train_recommender,
    understand_feedback,
)
from cesrec_core.stages.context import Stage

NIGHTLY: tuple[Stage, ...] = (
    ingest.STAGE,
    build_sequences.STAGE,
    train_recommender.STAGE,
    embed_items.STAGE,
    train_adapter.STAGE,
    project_items.STAGE,
    mask_outliers.STAGE,
    finetune_constructor.STAGE,
    simulate_feedback.STAGE,
    understand_feedback.STAGE,
    construct_pseudo_sequences.STAGE,
    recommend.STAGE,
    audit.STAGE,
    publish.STAGE,
)
