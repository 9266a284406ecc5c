"""The worker of embed_items."""

import numpy as np
import pyarrow as pa

from cesrec_core import columns as c
from cesrec_core.actors.devices import device_of_worker
from cesrec_core.arrow import lists_of
from cesrec_core.config import EmbedItemsSection
from cesrec_core.extractor import Extractor
from cesrec_core.schemas import ITEM_EMBEDDINGS


class EmbedItems:
    """text_hash, item_text -> item_embeddings.

    Args:
        gpu_share: of one GPU, that each actor is given.
    """

    def __init__(self, section: EmbedItemsSection, extractor_id: str, gpu_share: float = 0.0) -> None:
        self.section = section
        self.extractor_id = extractor_id
        self.gpu_share = gpu_share

    def setup(self) -> None:
        if self.section.engine == "vllm":
            # Loaded here alone: it is not there where nobody asks for it.
            from cesrec_core.vllm_extractor import VllmExtractor

            self.extractor: Extractor | VllmExtractor = VllmExtractor(self.section, self.gpu_share)
        else:
            self.extractor = Extractor(self.section, device_of_worker())

    def process(self, shard: pa.Table) -> pa.Table:
        vectors = self.extractor.embed(shard[c.ITEM_TEXT].to_pylist())
        if not np.isfinite(vectors).all():
            raise ArithmeticError("the model answered with NaN or infinity")  # of half precision, as likely as not
        columns = {
            c.TEXT_HASH: shard[c.TEXT_HASH],
            c.EXTRACTOR_ID: [self.extractor_id] * len(shard),
            c.SEMANTIC_EMBEDDING: lists_of(vectors),
        }
        return pa.table(columns, schema=ITEM_EMBEDDINGS.arrow_schema())
