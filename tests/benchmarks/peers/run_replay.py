"""RePlay's SasRec (replay.nn, its current API) as its documentation trains it: from_params, ParquetModule, Lightning.

Kept: full cross-entropy, dropout 0.3, feed-forward as wide as the model, Adam's betas 0.9 and 0.98. A row's newest
MAX_LENGTH + 1 items are read, and every place of it is a target.
"""

import warnings
from functools import partial
from pathlib import Path

import lightning
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from measure import MAX_LENGTH, NUM_BLOCKS, NUM_HEADS, WIDTH, Lists, Race, left_pad, race_from_command_line
from numpy.typing import NDArray
from replay.data import FeatureHint, FeatureSource, FeatureType
from replay.data.nn import ParquetModule, TensorFeatureInfo, TensorFeatureSource, TensorSchema
from replay.nn.lightning import LightningModule
from replay.nn.lightning.optimizer import OptimizerFactory
from replay.nn.sequential import SasRec
from replay.nn.transform.template import make_default_sasrec_transforms

BATCH_SIZE = 128
LEARNING_RATE = 1e-3
ITEM_ID = "item_id"


class EpochByEpoch(lightning.Callback):
    def __init__(self, race: Race) -> None:
        self.race = race

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.race.start()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        trainer.should_stop = not self.race.end_epoch(partial(scores, pl_module.model, self.race.task.num_items))


def main() -> None:
    race = race_from_command_line("replay-rec")
    warnings.filterwarnings("ignore", message="The following dataset paths aren't provided")
    lightning.seed_everything(race.seed)
    num_items = race.task.num_items
    schema = TensorSchema(
        [
            TensorFeatureInfo(
                ITEM_ID,
                is_seq=True,
                feature_type=FeatureType.CATEGORICAL,
                embedding_dim=WIDTH,
                padding_value=num_items,
                cardinality=num_items,
                feature_hint=FeatureHint.ITEM_ID,
                feature_sources=[TensorFeatureSource(FeatureSource.INTERACTIONS, ITEM_ID)],
            )
        ]
    )
    model = SasRec.from_params(
        schema, embedding_dim=WIDTH, num_heads=NUM_HEADS, num_blocks=NUM_BLOCKS, max_sequence_length=MAX_LENGTH
    )
    data = ParquetModule(
        batch_size=BATCH_SIZE,
        # One item more than the model reads: the transform for the next item takes it off again.
        metadata={"train": {ITEM_ID: {"shape": MAX_LENGTH + 1, "padding": num_items}}},
        transforms={"train": make_default_sasrec_transforms(schema)["train"]},
        train_path=str(write_rows(race)),
    )
    trainer = lightning.Trainer(
        max_epochs=race.max_epochs,
        callbacks=[EpochByEpoch(race)],
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(LightningModule(model, OptimizerFactory(learning_rate=LEARNING_RATE)), datamodule=data)


def write_rows(race: Race) -> Path:
    """Items from 0, as RePlay numbers them: the number after the last is its padding."""
    path = race.out / "rows.parquet"
    pq.write_table(pa.table({ITEM_ID: [items - 1 for items in race.rows]}), path)
    return path


@torch.no_grad()
def scores(model: SasRec, num_items: int, inputs: Lists) -> NDArray[np.float32]:
    model.eval()
    items = torch.from_numpy(left_pad([items - 1 for items in inputs], num_items))
    logits = model(feature_tensors={ITEM_ID: items}, padding_mask=items != num_items)["logits"]  # [B, V]
    model.train()
    return np.concatenate([np.full((len(inputs), 1), -np.inf, np.float32), logits.numpy()], axis=1)


if __name__ == "__main__":
    main()
