"""The worker of mask_outliers."""

from pathlib import Path

import pyarrow as pa
import torch

from cesrec_core import columns as c
from cesrec_core.catalogue import CatalogueFeatures
from cesrec_core.rewriting.outliers import OutlierRule, find_outliers
from cesrec_core.schemas import OUTLIER_MASKS


class MaskOutliers:
    """user_id, item_ids -> outlier_masks.

    Args:
        constants: values of run_id, recommender_id and adapter_id, the same on every row.
    """

    def __init__(self, catalogue_folder: Path, rule: OutlierRule, constants: dict[str, str]) -> None:
        self.catalogue_folder = catalogue_folder
        self.rule = rule
        self.constants = constants

    def setup(self) -> None:
        self.features = CatalogueFeatures.load(self.catalogue_folder)
        self.vectors = torch.from_numpy(self.features.in_space(self.rule.space))

    def process(self, shard: pa.Table) -> pa.Table:
        masks = find_outliers(self.features.code_lists(shard[c.ITEM_IDS]), self.vectors, self.rule)
        columns = {
            c.USER_ID: shard[c.USER_ID],
            c.MASKED_POSITIONS: pa.LargeListArray.from_arrays(masks.positions.offsets, masks.positions.idx),
            c.SIMILARITIES: pa.LargeListArray.from_arrays(masks.offsets, masks.similarities),
            **{name: pa.repeat(value, len(shard)) for name, value in self.constants.items()},
        }
        schema = OUTLIER_MASKS.arrow_schema()
        return pa.table({name: columns[name] for name in schema.names}).cast(schema)
