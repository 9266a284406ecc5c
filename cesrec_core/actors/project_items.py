"""The worker of project_items."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from cesrec_core import columns as c
from cesrec_core.actors.devices import device_of_worker
from cesrec_core.adapter import load_adapter
from cesrec_core.arrow import lists_of, matrix
from cesrec_core.errors import ArtifactError
from cesrec_core.schemas import ALIGNED_EMBEDDINGS


class ProjectItems:
    """text_hash, semantic_embedding -> aligned_embeddings."""

    def __init__(self, adapter_folder: Path, extractor_id: str, batch_size: int) -> None:
        self.adapter_folder = adapter_folder
        self.extractor_id = extractor_id
        self.batch_size = batch_size

    def setup(self) -> None:
        self.device = device_of_worker()
        adapter, manifest = load_adapter(self.adapter_folder)
        self.adapter = adapter.to(self.device).eval()
        self.adapter_id = manifest.artifact_id

    @torch.inference_mode()
    def process(self, shard: pa.Table) -> pa.Table:
        semantic = matrix(shard[c.SEMANTIC_EMBEDDING])
        batches = [semantic[start : start + self.batch_size] for start in range(0, len(semantic), self.batch_size)]
        aligned = [self.adapter(torch.from_numpy(batch).to(self.device)).cpu().numpy() for batch in batches]
        if not all(np.isfinite(part).all() for part in aligned):
            raise ArtifactError(
                f"The Adapter {self.adapter_id} gives vectors that are not finite. Train it again, jobs/train_adapter.py, with "
                "a lower train_adapter.learning_rate."
            )
        columns = {
            c.TEXT_HASH: shard[c.TEXT_HASH],
            c.EXTRACTOR_ID: [self.extractor_id] * len(shard),
            c.ADAPTER_ID: [self.adapter_id] * len(shard),
            c.ALIGNED_EMBEDDING: lists_of(np.concatenate(aligned)) if aligned else [],
        }
        return pa.table(columns, schema=ALIGNED_EMBEDDINGS.arrow_schema())
