"""The worker of embed_items."""

import socket

import numpy as np
import pyarrow as pa

from cesrec_core import columns as c
from cesrec_core.actors.devices import device_of_worker
from cesrec_core.arrow import lists_of
from cesrec_core.config import EmbedItemsSection
from cesrec_core.errors import ConfigError, type_and_words
from cesrec_core.extractor.identity import extractor_id
from cesrec_core.extractor.transformer import Extractor
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
        """Load the model, and let it read two texts.

        Raises:
            ConfigError: the model cannot be loaded, cannot embed, or is not the one that the job has named.
        """
        if extractor_id(self.section) != self.extractor_id:
            raise ConfigError(
                f"On the machine {socket.gethostname()} embed_items.model_path ({self.section.model_path!r}) is another model "
                "than where the job was started. Give all machines the same copy: a folder that they share, a volume, or "
                "organisation/name of the hub at embed_items.revision."
            )
        if self.section.engine == "vllm":
            # Loaded here alone: it is not there where nobody asks for it.
            from cesrec_core.extractor.vllm import VllmExtractor

            self.extractor: Extractor | VllmExtractor = VllmExtractor(self.section, self.gpu_share)
        else:
            self.extractor = Extractor(self.section, device_of_worker())
        self._try_out()

    def _try_out(self) -> None:
        """What fails on every text is no fault of the texts, which would be refused one by one until too many were."""
        try:
            vectors = self.extractor.embed(["An item", ""])
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise ConfigError(
                f"embed_items.model_path names {self.section.model_path!r}, which embeds no text ({type_and_words(error)}). "
                "Give an encoder or a decoder with its own tokenizer."
            ) from error
        if not vectors[0].any():  # the vector of no vector
            raise ConfigError(
                f"The model {self.section.model_path!r} answers with zeros. Its weights are damaged: fetch or copy it again."
            )
        if not np.isfinite(vectors).all():
            is_coarse = self.section.dtype == "float16"
            raise ConfigError(
                f"The model {self.section.model_path!r} answers with NaN or infinity in {self.section.dtype}. "
                + ("Set embed_items.dtype to bfloat16." if is_coarse else "Its weights are damaged: fetch or copy it again.")
            )

    def process(self, shard: pa.Table) -> pa.Table:
        """Embed the texts of one shard.

        Raises:
            ArithmeticError: the model answers a text with NaN or infinity.
        """
        vectors = self.extractor.embed(shard[c.ITEM_TEXT].to_pylist())
        if not np.isfinite(vectors).all():
            raise ArithmeticError("the model answered with NaN or infinity")  # of half precision, as likely as not
        columns = {
            c.TEXT_HASH: shard[c.TEXT_HASH],
            c.EXTRACTOR_ID: [self.extractor_id] * len(shard),
            c.SEMANTIC_EMBEDDING: lists_of(vectors),
        }
        return pa.table(columns, schema=ITEM_EMBEDDINGS.arrow_schema())
