"""project_items: semantic embeddings -> aligned_embeddings through the Adapter, on Ray actors."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core.extractor.identity import extractor_id
from cesrec_core.schemas import ALIGNED_EMBEDDINGS, ITEM_EMBEDDINGS, ITEMS
from cesrec_core.stages.context import RunContext, Stage, StageResult
from cesrec_core.stages.map_table import map_frame


def fingerprint(context: RunContext) -> dict[str, str]:
    return {
        # An item may be given back a text of before, whose embedding is there.
        "items": str(context.warehouse.version(ITEMS)),
        "item_embeddings": str(context.warehouse.version(ITEM_EMBEDDINGS)),
        "extractor": extractor_id(context.config.embed_items),
        "adapter": context.artifact_id("adapter"),
    }


def missing_projections(context: RunContext, extractor: str, adapter: str) -> DataFrame:
    """text_hash, semantic_embedding of the items' texts that this adapter has not projected."""
    semantic = context.warehouse.read(ITEM_EMBEDDINGS).where(F.col(c.EXTRACTOR_ID) == extractor)
    semantic = semantic.join(context.warehouse.read(ITEMS).select(c.TEXT_HASH), on=c.TEXT_HASH, how="left_semi")
    of_both = (F.col(c.ADAPTER_ID) == adapter) & (F.col(c.EXTRACTOR_ID) == extractor)
    cached = context.warehouse.read(ALIGNED_EMBEDDINGS).where(of_both).select(c.TEXT_HASH)
    return semantic.join(cached, on=c.TEXT_HASH, how="left_anti").select(c.TEXT_HASH, c.SEMANTIC_EMBEDDING)


def run(context: RunContext) -> StageResult:
    from cesrec_core.actors.project_items import ProjectItems

    extractor = extractor_id(context.config.embed_items)
    folder, manifest = context.artifact("adapter")
    missing = missing_projections(context, extractor, manifest.artifact_id)
    worker = ProjectItems(folder, extractor, context.config.project_items.batch_size)
    projected = map_frame(context, "project_items", missing, c.TEXT_HASH, worker, ALIGNED_EMBEDDINGS)
    num_projected = context.warehouse.merge(ALIGNED_EMBEDDINGS, projected, update_matched=False) if projected is not None else 0
    return StageResult({"projected": num_projected})


STAGE = Stage(
    name="project_items",
    reads=(ITEMS.name, ITEM_EMBEDDINGS.name, "adapter"),
    writes=(ALIGNED_EMBEDDINGS.name,),
    run=run,
    fingerprint=fingerprint,
)
