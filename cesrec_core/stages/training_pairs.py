"""The Constructor's training pairs, drawn by Spark where the histories are."""

from pathlib import Path

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from cesrec_core import columns as c
from cesrec_core.constructor.pair_files import SCHEMA, DrawPairs
from cesrec_core.constructor.pairs import HISTORIES_NEEDED, MIN_CONTEXT_ITEMS, PairSettings, most_validating
from cesrec_core.datasets import read_catalogue
from cesrec_core.delta_io.shards import SUCCESS
from cesrec_core.errors import InputDataError
from cesrec_core.frames.training_pairs import (
    count_by_item,
    histories_trained_on,
    pair_requests,
    training_histories,
    validation_users,
)
from cesrec_core.schemas import USER_SEQUENCES
from cesrec_core.stages.catalogue_features import export_features
from cesrec_core.stages.context import RunContext


def export_pairs(context: RunContext) -> Path:
    """As many training pairs as the fine-tuning takes, and those that it validates with, as Parquet; once per run.

    Raises:
        InputDataError: no history is long enough to draw from, or none is left to validate with.
    """
    section, split, seed = context.config.finetune_constructor, context.config.dataset.split, context.config.run.seed
    features = export_features(context)
    folder = context.stage_path("training_pairs") / features.name
    if (folder / SUCCESS).exists():
        return folder
    sequences = context.warehouse.read(USER_SEQUENCES)
    histories = training_histories(sequences, split)
    num_users = histories.where(F.size(c.ITEM_IDS) > MIN_CONTEXT_ITEMS).count()
    validating = validation_users(sequences, most_validating(section.num_validation_users, num_users, split), seed)
    num_validating = validating.count()
    num_training = num_users - num_validating if split == "all" else num_users
    if not num_training or not num_validating:
        raise InputDataError(
            f"The Constructor has {num_training} users to learn from and {num_validating} to be validated with. "
            f"{HISTORIES_NEEDED}"
        )
    num_pairs = section.num_steps * section.batch_size * section.num_processes
    settings = PairSettings.of(section)
    num_interactions = _num_interactions(histories_trained_on(sequences, split, validating), features)
    draw = DrawPairs(features, num_interactions, settings, seed)
    requests = pair_requests(sequences, split, validating, num_pairs / num_training, seed)
    requests.mapInArrow(draw, from_arrow_schema(SCHEMA)).write.mode("overwrite").parquet(str(folder))
    return folder


def _num_interactions(histories: DataFrame, features: Path) -> np.ndarray:
    """int64 [N], by code of the catalogue."""
    counted = count_by_item(histories).collect()
    code_of = read_catalogue(features).code_of
    result = np.zeros(len(code_of), np.int64)
    for row in counted:
        if row[c.ITEM_ID] in code_of:
            result[code_of[row[c.ITEM_ID]]] = row[c.NUM_ITEMS]
    return result
