"""mask_outliers: the places of each history that lie farthest from the user's core taste -> outlier_masks."""

from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core.frames.histories import observed_histories
from cesrec_core.schemas import OUTLIER_MASKS, USER_SEQUENCES
from cesrec_core.stages.catalogue_features import OF_THE_CATALOGUE, export_features
from cesrec_core.stages.context import RunContext, Stage, StageResult
from cesrec_core.stages.map_table import map_frame

NAME = "mask_outliers"


def run(context: RunContext) -> StageResult:
    from cesrec_core.actors.mask_outliers import MaskOutliers
    from cesrec_core.rewriting.outliers import OutlierRule

    histories = observed_histories(context.warehouse.read(USER_SEQUENCES), context.config.dataset.split)
    constants = {
        c.RUN_ID: context.run_id,
        c.RECOMMENDER_ID: context.artifact_id("recommender"),
        c.ADAPTER_ID: context.artifact_id("adapter"),
    }
    rule = OutlierRule.of(context.config.mask_outliers, context.config.run.seed)
    worker = MaskOutliers(export_features(context), rule, constants)
    masks = map_frame(context, NAME, histories.select(c.USER_ID, c.ITEM_IDS), c.USER_ID, worker, OUTLIER_MASKS)
    if masks is None:
        return StageResult({"users": 0})
    num_users = context.warehouse.replace_run(OUTLIER_MASKS, masks, context.run_id)
    num_masked = masks.where(F.size(c.MASKED_POSITIONS) > 0).count()
    return StageResult({"users": num_users, "users_masked": num_masked}, {"users_masked_share": num_masked / num_users})


STAGE = Stage(
    name=NAME,
    reads=(USER_SEQUENCES.name, *OF_THE_CATALOGUE),
    writes=(OUTLIER_MASKS.name,),
    run=run,
)
