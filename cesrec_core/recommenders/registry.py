"""Which recommenders there are, and which settings they do not read."""

from collections.abc import Callable
from functools import partial

import torch

from cesrec_core.config import WITHOUT_ATTENTION, TrainRecommenderSection
from cesrec_core.recommenders.attention import AttentionRecommender
from cesrec_core.recommenders.esasrec import LiGRBlock
from cesrec_core.recommenders.gru4rec import GRU4Rec
from cesrec_core.recommenders.hstu import HSTUBlock
from cesrec_core.recommenders.markov import Markov
from cesrec_core.recommenders.popularity import Popularity
from cesrec_core.recommenders.protocol import TrainableRecommender
from cesrec_core.recommenders.sasrec import SASRecBlock

RECOMMENDERS: dict[str, Callable[[list[str], TrainRecommenderSection], TrainableRecommender]] = {
    "sasrec": partial(AttentionRecommender, make_block=SASRecBlock),
    "esasrec": partial(AttentionRecommender, make_block=LiGRBlock),
    "hstu": partial(AttentionRecommender, make_block=HSTUBlock),
    "gru4rec": GRU4Rec,
    "markov": Markov,
    "popularity": Popularity,
}
# Fitted in one go: of what follows they read nothing, and popularity has one number for each item.
COUNTING = ("markov", "popularity")
OF_GRADIENTS = (
    *("loss", "precision", "is_compiled", "num_blocks", "similarity", "dropout", "shift_windows", "batch_size"),
    *("learning_rate", "averaged_epochs", "max_epochs", "patience_epochs"),
)
OF_ATTENTION = ("num_heads", "positions")


def build_recommender(item_ids: list[str], settings: TrainRecommenderSection, seed: int) -> TrainableRecommender:
    """A fresh model on the CPU; the same seed gives the same weights, and the caller's random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return RECOMMENDERS[settings.model](item_ids, settings)


def unread_settings(settings: TrainRecommenderSection) -> list[str]:
    """Names of settings that are not at their default and change nothing, by what else is set."""
    by_gradients = settings.model not in COUNTING
    is_read = {
        **dict.fromkeys(OF_GRADIENTS, by_gradients),
        **dict.fromkeys(OF_ATTENTION, settings.model not in WITHOUT_ATTENTION),
        "temperature": by_gradients and settings.similarity == "cosine",
        "num_negatives": by_gradients and settings.loss != "cross_entropy",
        "popular_negatives_share": by_gradients and settings.loss == "sampled_softmax",
        "gbce_calibration": by_gradients and settings.loss == "gbce",
        "markov_decay": settings.model == "markov",
        "embedding_dim": settings.model != "popularity",
        "max_history_items": settings.model != "popularity",
    }
    return [name for name in settings.model_dump(exclude_defaults=True) if not is_read.get(name, True)]
