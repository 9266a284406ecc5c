"""embed_items: texts that no cached embedding covers -> item_embeddings, on Ray actors."""

import logging
import shutil
from contextlib import suppress
from pathlib import Path

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core.delta_io.shards import import_shards
from cesrec_core.extractor.identity import extractor_id, locate_extractor, trained_pooling, unread_modules
from cesrec_core.schemas import ITEM_EMBEDDINGS, ITEMS, QUARANTINE
from cesrec_core.stages.context import OF_NO_RUN, RunContext, Stage, StageResult, read_state, write_whole
from cesrec_core.stages.map_table import map_frame, refused_by

log = logging.getLogger(__name__)

NAME = OF_NO_RUN
TEXT_FAILS = "text_fails_extractor"
REFUSED = "refused"
MADE_BY = "extractor_id"
# Of English text, and of the vocabularies that models come with.
CHARACTERS_PER_TOKEN = 4


def fingerprint(context: RunContext) -> dict[str, str]:
    return {
        "items": str(context.warehouse.version(ITEMS)),
        "extractor": extractor_id(context.config.embed_items),
        # What failed is tried again every night: it may have been the machine.
        "refused texts": context.run_date.isoformat() if refused_texts(context) else "none",
    }


def check(context: RunContext) -> None:
    source = locate_extractor(context.config.embed_items)
    if unread := unread_modules(source):
        log.warning(
            "The model in %s was made for sentence-transformers with %s, which is not applied here: vectors are those before "
            "it. Take a model without",
            context.config.embed_items.model_path,
            ", ".join(unread),
        )
    trained = trained_pooling(source)
    if trained not in (None, context.config.embed_items.pooling):
        log.warning(
            "embed_items.pooling is %s, and the model in %s was trained with %s: its vectors say less of the text so. Set the "
            "same, or take a model that was trained with mean, last or weighted",
            context.config.embed_items.pooling,
            context.config.embed_items.model_path,
            trained,
        )
    num_characters, num_tokens = context.config.ingest.max_text_characters, context.config.embed_items.max_tokens
    if num_characters < num_tokens * CHARACTERS_PER_TOKEN:
        log.warning(
            "Item texts are cut at %d characters (ingest.max_text_characters), about %d tokens, before the %d of "
            "embed_items.max_tokens are reached",
            num_characters,
            num_characters // CHARACTERS_PER_TOKEN,
            num_tokens,
        )


def missing_texts(context: RunContext, extractor: str) -> DataFrame:
    """text_hash, item_text: each text once that this extractor has not embedded."""
    texts = context.warehouse.read(ITEMS).groupBy(c.TEXT_HASH).agg(F.min(c.ITEM_TEXT).alias(c.ITEM_TEXT))
    cached = context.warehouse.read(ITEM_EMBEDDINGS).where(F.col(c.EXTRACTOR_ID) == extractor).select(c.TEXT_HASH)
    return texts.join(cached, on=c.TEXT_HASH, how="left_anti")


def run(context: RunContext) -> StageResult:
    from cesrec_core.actors.embed_items import EmbedItems

    extractor = extractor_id(context.config.embed_items)
    _take_over(context, extractor)
    missing = missing_texts(context, extractor)
    worker = EmbedItems(context.config.embed_items, extractor, context.config.ray.num_gpus_per_actor)
    limit = context.config.embed_items.max_refused_texts
    embedded = map_frame(context, NAME, missing, c.TEXT_HASH, worker, ITEM_EMBEDDINGS, max_refused_rows=limit)
    num_embedded = context.warehouse.merge(ITEM_EMBEDDINGS, embedded, update_matched=False) if embedded is not None else 0
    num_items = context.warehouse.read(ITEMS).count()
    refused = _quarantine(context)
    return StageResult({"items": num_items, "embedded": num_embedded, "refused": len(refused)}, notes={REFUSED: refused})


def _take_over(context: RunContext, extractor: str) -> None:
    """Keep what runs that were stopped here had embedded: it depends on texts and extractor, and on no run. So with this run's
    own, where another extractor was at work: a model may have been replaced in its folder since.

    Their folders go afterwards, so that such a run, should it go on, asks the table what is left to do.
    """
    from cesrec_core.actors.pool import drop_damaged

    own = context.stage_path(NAME)
    is_gone_on_with = own.exists() and _made_by(own) == extractor
    for folder in context.work_path.parent.glob(f"*/{NAME}"):
        # With a record the stage was done, and its answers stand in the table.
        if is_gone_on_with if folder == own else (folder / "done.json").exists():
            continue
        if drop_damaged(folder / "out"):
            answers = import_shards(context.spark, folder / "out", ITEM_EMBEDDINGS)
            num_kept = context.warehouse.merge(ITEM_EMBEDDINGS, answers, update_matched=False)
            log.info("%d embeddings of a run that was stopped are kept", num_kept)
        shutil.rmtree(folder)
        with suppress(OSError):  # unless its run left more than this
            folder.parent.rmdir()
    write_whole(own / MADE_BY, extractor)


def _made_by(folder: Path) -> str | None:
    """The extractor whose work is in a folder; None of before it was noted."""
    try:
        return (folder / MADE_BY).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def refused_texts(context: RunContext) -> set[str]:
    """text_hash of texts that the extractor failed on when the stage last ran: their items have no vector."""
    state = read_state(context.warehouse.path, NAME)
    return set(state.notes.get(REFUSED, ())) if state is not None else set()


def _quarantine(context: RunContext) -> list[str]:
    """Put items whose text the extractor failed on into quarantine; returns their text_hash."""
    refused = refused_by(context, NAME)
    if refused is None:
        return []
    hashes: list[str] = refused[c.TEXT_HASH].to_pylist()
    items = context.warehouse.read(ITEMS).where(F.col(c.TEXT_HASH).isin(hashes)).select(c.ITEM_ID, c.TITLE, c.ITEM_TEXT)
    rows = items.withColumn(c.ROW, F.row_number().over(Window.orderBy(c.ITEM_ID)).cast("bigint"))
    record = F.to_json(F.struct(c.ITEM_ID, c.TITLE, c.ITEM_TEXT))
    rows = rows.select(
        F.lit(context.run_id).alias(c.RUN_ID),
        F.lit(NAME).alias(c.SOURCE),
        c.ROW,
        F.lit(TEXT_FAILS).alias(c.REASON),
        record.alias(c.RECORD),
    )
    context.warehouse.merge(QUARANTINE, rows)
    log.warning("%d items have texts that the extractor fails on: they stand in quarantine, and have no vector", rows.count())
    return hashes


STAGE = Stage(
    name=NAME,
    reads=(ITEMS.name,),
    writes=(ITEM_EMBEDDINGS.name,),
    run=run,
    fingerprint=fingerprint,
    check=check,
)
