"""RecBole's SASRec by its own dataset, data loader and trainer, one epoch at a time.

Kept: dropout 0.5, GELU, feed-forward of 256, norm after each block, batches of 2048 rows, learning rate 0.001. Its
augmentation makes every prefix of a history a row, whose one target is the next item.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from measure import MAX_LENGTH, NUM_BLOCKS, NUM_HEADS, WIDTH, Lists, Race, race_from_command_line
from numpy.typing import NDArray
from recbole.config import Config
from recbole.data import create_dataset
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction
from recbole.data.utils import get_dataloader
from recbole.model.sequential_recommender import SASRec
from recbole.trainer import Trainer
from recbole.utils import init_seed

NAME = "histories"


def main() -> None:
    race = race_from_command_line("recbole")
    write_histories(race)
    config = Config(model="SASRec", dataset=NAME, config_dict=settings(race))
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config).build()[0]
    loader = get_dataloader(config, "train")(config, dataset, None, shuffle=True)
    model = SASRec(config, dataset).to(config["device"])
    trainer = Trainer(config, model)
    race.start()
    for epoch in range(race.max_epochs):
        trainer._train_epoch(loader, epoch)
        if not race.end_epoch(partial(scores, model, dataset, race.task.num_items)):
            break


def settings(race: Race) -> dict[str, object]:
    return {
        "data_path": str(race.out),
        "checkpoint_dir": str(race.out / "saved"),
        "seed": race.seed,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": MAX_LENGTH,
        "hidden_size": WIDTH,
        "n_layers": NUM_BLOCKS,
        "n_heads": NUM_HEADS,
        # Cross-entropy over all items is its default too, and wants no negatives.
        "loss_type": "CE",
        "train_neg_sample_args": None,
        # The file holds the training part only: all of it is to be trained on.
        "eval_args": {"split": {"RS": [1.0, 0.0, 0.0]}, "group_by": "none", "order": "TO", "mode": "full"},
        "show_progress": False,
    }


def write_histories(race: Race) -> None:
    folder: Path = race.out / NAME
    folder.mkdir()
    with (folder / f"{NAME}.inter").open("w", encoding="utf-8") as lines:
        lines.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for user, items in enumerate(race.rows, start=1):
            lines.writelines(f"{user}\t{item}\t{place}\n" for place, item in enumerate(items))


@torch.no_grad()
def scores(model: SASRec, dataset: SequentialDataset, num_items: int, inputs: Lists) -> NDArray[np.float32]:
    """RecBole pads on the right, and numbers items in an order of its own."""
    model.eval()
    internal_of = np.zeros(num_items + 1, np.int64)
    internal_of[1:] = dataset.token2id(dataset.iid_field, np.arange(1, num_items + 1).astype(str))
    padded = np.zeros((len(inputs), MAX_LENGTH), np.int64)
    lengths = np.array([min(len(items), MAX_LENGTH) for items in inputs])
    for row, items in enumerate(inputs):
        padded[row, : lengths[row]] = internal_of[items[-MAX_LENGTH:]]
    interaction = Interaction({model.ITEM_SEQ: torch.from_numpy(padded), model.ITEM_SEQ_LEN: torch.from_numpy(lengths)})
    result: NDArray[np.float32] = model.full_sort_predict(interaction).numpy()[:, internal_of]
    model.train()
    return result


if __name__ == "__main__":
    main()
