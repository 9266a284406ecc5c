"""embed_items: texts that no cached embedding covers -> item_embeddings, on Ray actors."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core.actors.embed_items import EmbedItems
from cesrec_core.extractor import extractor_id, locate_extractor
from cesrec_core.schemas import ITEM_EMBEDDINGS, ITEMS
from cesrec_core.stages.context import RunContext, Stage, StageResult
from cesrec_core.stages.map_table import map_frame


def fingerprint(context: RunContext) -> dict[str, str]:
    return {"items": str(context.warehouse.version(ITEMS)), "extractor": extractor_id(context.config.embed_items)}


def check(context: RunContext) -> None:
    locate_extractor(context.config.embed_items)


def missing_texts(context: RunContext, extractor: str) -> DataFrame:
    """text_hash, item_text: each text once that this extractor has not embedded."""
    texts = context.warehouse.read(ITEMS).groupBy(c.TEXT_HASH).agg(F.min(c.ITEM_TEXT).alias(c.ITEM_TEXT))
    cached = context.warehouse.read(ITEM_EMBEDDINGS).where(F.col(c.EXTRACTOR_ID) == extractor).select(c.TEXT_HASH)
    return texts.join(cached, on=c.TEXT_HASH, how="left_anti")


def run(context: RunContext) -> StageResult:
    extractor = extractor_id(context.config.embed_items)
    missing = missing_texts(context, extractor)
    worker = EmbedItems(context.config.embed_items, extractor)
    embedded = map_frame(context, "embed_items", missing, c.TEXT_HASH, worker, ITEM_EMBEDDINGS)
    num_embedded = context.warehouse.merge(ITEM_EMBEDDINGS, embedded, update_matched=False) if embedded is not None else 0
    num_items = context.warehouse.read(ITEMS).count()
    return StageResult({"items": num_items, "embedded": num_embedded})


STAGE = Stage(
    name="embed_items",
    reads=(ITEMS.name,),
    writes=(ITEM_EMBEDDINGS.name,),
    run=run,
    fingerprint=fingerprint,
    check=check,
)
