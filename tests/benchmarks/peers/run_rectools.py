"""RecTools' SASRecModel with its defaults but for the size.

Kept: full softmax, dropout 0.2, feed-forward as wide as the model, batches of 128, learning rate 0.001, Adam's betas 0.9
and 0.98, Xavier's start. A row's newest MAX_LENGTH + 1 items are read, and every place of it is a target; items that
stand nowhere among them are not in its vocabulary.
"""

from functools import partial

import numpy as np
import pandas as pd
import pytorch_lightning
import torch
from measure import MAX_LENGTH, NUM_BLOCKS, NUM_HEADS, WIDTH, Lists, Race, left_pad, race_from_command_line
from numpy.typing import NDArray
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel


class EpochByEpoch(pytorch_lightning.Callback):
    def __init__(self, race: Race) -> None:
        self.race = race

    def on_train_start(self, trainer: pytorch_lightning.Trainer, pl_module: pytorch_lightning.LightningModule) -> None:
        self.race.start()

    def on_train_epoch_end(self, trainer: pytorch_lightning.Trainer, pl_module: pytorch_lightning.LightningModule) -> None:
        trainer.should_stop = not self.race.end_epoch(partial(scores, pl_module, self.race.task.num_items))


def main() -> None:
    race = race_from_command_line("rectools")
    pytorch_lightning.seed_everything(race.seed)
    model = SASRecModel(n_blocks=NUM_BLOCKS, n_heads=NUM_HEADS, n_factors=WIDTH, session_max_len=MAX_LENGTH)
    # Its documented way to a trainer of one's own where a function cannot be named in the model's configuration.
    model._trainer = pytorch_lightning.Trainer(
        max_epochs=race.max_epochs,
        callbacks=[EpochByEpoch(race)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model.fit(dataset_of(race.rows))


def dataset_of(rows: Lists) -> Dataset:
    lengths = [len(items) for items in rows]
    interactions = pd.DataFrame(
        {
            Columns.User: np.repeat(np.arange(len(rows)), lengths),
            Columns.Item: np.concatenate(rows),
            Columns.Weight: 1.0,
            Columns.Datetime: pd.to_datetime(np.arange(sum(lengths)), unit="s"),
        }
    )
    return Dataset.construct(interactions)


@torch.no_grad()
def scores(module: pytorch_lightning.LightningModule, num_items: int, inputs: Lists) -> NDArray[np.float32]:
    module.eval()
    external_ids = module.data_preparator.item_id_map.external_ids  # what it calls padding stands first
    known = external_ids[1:].astype(np.int64)
    internal_of = np.zeros(num_items + 1, np.int64)
    internal_of[known] = np.arange(1, len(known) + 1)
    read = [internal_of[items] for items in inputs]
    sessions = torch.from_numpy(left_pad([items[items != 0] for items in read]))
    item_vectors = module.torch_model.item_model.get_all_embeddings()  # [known + 1, D]
    states = module.torch_model.encode_sessions({"x": sessions}, item_vectors)[:, -1]  # [B, D]
    result = np.full((len(inputs), num_items + 1), -np.inf, np.float32)
    result[:, known] = (states @ item_vectors.T).numpy()[:, 1:]
    module.train()
    return result


if __name__ == "__main__":
    main()
