"""Assemble the catalogue with its vectors from the tables, for training and for workers."""

import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core.arrow import matrix
from cesrec_core.catalogue import FEATURES_FILE, CatalogueFeatures
from cesrec_core.datasets import Catalogue
from cesrec_core.errors import InputDataError
from cesrec_core.extractor.identity import extractor_id
from cesrec_core.schemas import ALIGNED_EMBEDDINGS, ITEM_EMBEDDINGS, ITEMS
from cesrec_core.stages.context import RunContext
from cesrec_core.stages.embed_items import refused_texts

if TYPE_CHECKING:
    from torch import Tensor

# What `export_features` reads, for `Stage.reads`.
OF_THE_CATALOGUE = (ITEMS.name, ITEM_EMBEDDINGS.name, ALIGNED_EMBEDDINGS.name, "recommender", "adapter")


def export_features(context: RunContext) -> Path:
    """The catalogue with semantic, aligned and collaborative vectors, as a folder that workers load; once per run."""
    folder = context.stage_path("catalogue") / context.artifact_id("adapter")
    if not folder.exists():
        scratch = folder.with_name(f"{folder.name}.unfinished")
        shutil.rmtree(scratch, ignore_errors=True)
        assemble_features(context, with_aligned=True).save(scratch)
        scratch.replace(folder)
    return folder


def export_features_for_adapter(context: RunContext, folder: Path) -> Path:
    """Semantic and collaborative vectors alone, from before there is an Adapter; returns the file."""
    assemble_features(context, with_aligned=False).save(folder)
    return folder / FEATURES_FILE


def pairs_of_vectors(context: RunContext) -> "tuple[Tensor, Tensor]":
    """Semantic [N, H] and collaborative [N, D] vectors, float32, of the items that have both."""
    import torch

    features = assemble_features(context, with_aligned=False)
    has_both = features.has_collaborative
    return torch.from_numpy(features.semantic[has_both]), torch.from_numpy(features.collaborative[has_both])


def assemble_features(context: RunContext, with_aligned: bool) -> CatalogueFeatures:
    """The catalogue with its vectors, in memory; without aligned ones these are zeros, and items without text do not count."""
    from cesrec_core.adapter import load_adapter
    from cesrec_core.recommenders.artifact import load_recommender

    recommender, _ = load_recommender(context.artifact("recommender")[0])
    vectors = recommender.item_vectors().numpy()
    row_of = {item_id: row for row, item_id in enumerate(recommender.item_ids, start=1)}
    table = _collect(context, with_aligned)
    item_ids = table[c.ITEM_ID].to_pylist()
    rows = np.array([row_of.get(item_id, 0) for item_id in item_ids])
    has_text = np.asarray(pc.is_valid(table[c.SEMANTIC_EMBEDDING]))
    semantic = _vectors(table[c.SEMANTIC_EMBEDDING])
    aligned = _vectors(table[c.ALIGNED_EMBEDDING]) if with_aligned else np.zeros((len(rows), vectors.shape[1]), np.float32)
    # An Adapter learns from items that have both vectors.
    has_collaborative = (rows > 0) & (has_text if not with_aligned else True)
    collaborative = np.where(has_collaborative[:, None], vectors[rows], aligned)
    attributes = [tuple(values) for values in table[c.ATTRIBUTES].to_pylist()]
    catalogue = Catalogue(item_ids, table[c.TITLE].to_pylist(), attributes)
    is_active = np.asarray(table[c.IS_ACTIVE].to_pylist(), dtype=bool)
    uncertainty = np.zeros((vectors.shape[1], vectors.shape[1]), np.float32)
    if with_aligned:
        uncertainty = load_adapter(context.artifact("adapter")[0])[0].residual_covariance.numpy()
    collaborative = collaborative.astype(np.float32)
    return CatalogueFeatures(catalogue, is_active, semantic, aligned, collaborative, has_collaborative, uncertainty)


def _vectors(column: pa.ChunkedArray) -> np.ndarray:
    """float32 [N, D]; zeros where there is none."""
    valid = pc.is_valid(column)
    result = np.zeros((len(column), len(column.drop_null()[0])), np.float32)
    result[np.asarray(valid)] = matrix(column.drop_null())
    return result


def _collect(context: RunContext, with_aligned: bool) -> pa.Table:
    """One row per item through Parquet rather than through the driver's JVM."""
    items = context.warehouse.read(ITEMS)
    extractor = extractor_id(context.config.embed_items)
    semantic = context.warehouse.read(ITEM_EMBEDDINGS).where(F.col(c.EXTRACTOR_ID) == extractor)
    frame = items.join(semantic.select(c.TEXT_HASH, c.SEMANTIC_EMBEDDING), on=c.TEXT_HASH, how="left")
    if with_aligned:
        frame = _with_aligned(context, frame, extractor)
    # A folder of its own: a plan or an explanation may be made while a run of the same name is at work.
    folder = context.work_path.with_name(f"scratch-{uuid.uuid4().hex}")
    try:
        frame.drop(c.ITEM_TEXT, c.DESCRIPTION).write.parquet(str(folder))
        table = pads.dataset(folder, format="parquet").to_table().sort_by(c.ITEM_ID)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    refused = pa.array(sorted(refused_texts(context)), pa.string())
    for name in (c.SEMANTIC_EMBEDDING, c.ALIGNED_EMBEDDING)[: 2 if with_aligned else 1]:
        without = table.filter(pc.is_null(table[name]))
        num_refused = pc.sum(pc.is_in(without[c.TEXT_HASH], refused)).as_py() if len(without) else 0
        if num_refused == len(table):
            raise InputDataError(f"{extractor} fails on the text of every item; see the table quarantine. Name another model.")
        if num_refused < len(without):
            raise InputDataError(
                f"{len(without) - num_refused} items have no {name} by {extractor}. Run jobs/embed_items.py and "
                "jobs/project_items.py."
            )
    return table


def _with_aligned(context: RunContext, frame: DataFrame, extractor: str) -> DataFrame:
    of_adapter = (F.col(c.ADAPTER_ID) == context.artifact_id("adapter")) & (F.col(c.EXTRACTOR_ID) == extractor)
    aligned = context.warehouse.read(ALIGNED_EMBEDDINGS).where(of_adapter)
    return frame.join(aligned.select(c.TEXT_HASH, c.ALIGNED_EMBEDDING), on=c.TEXT_HASH, how="left")
