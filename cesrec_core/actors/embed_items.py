"""The worker of embed_items."""

import pyarrow as pa

from cesrec_core import columns as c
from cesrec_core.actors.devices import device_of_worker
from cesrec_core.config import EmbedItemsSection
from cesrec_core.extractor import Extractor
from cesrec_core.schemas import ITEM_EMBEDDINGS


class EmbedItems:
    """text_hash, item_text -> item_embeddings."""

    def __init__(self, section: EmbedItemsSection, extractor_id: str) -> None:
        self.section = section
        self.extractor_id = extractor_id

    def setup(self) -> None:
        self.extractor = Extractor(self.section, device_of_worker())

    def process(self, shard: pa.Table) -> pa.Table:
        vectors = self.extractor.embed(shard[c.ITEM_TEXT].to_pylist())
        columns = {
            c.TEXT_HASH: shard[c.TEXT_HASH],
            c.EXTRACTOR_ID: [self.extractor_id] * len(shard),
            c.SEMANTIC_EMBEDDING: list(vectors),
        }
        return pa.table(columns, schema=ITEM_EMBEDDINGS.arrow_schema())
