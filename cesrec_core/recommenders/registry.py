"""Which recommenders there are."""

from collections.abc import Callable
from functools import partial

import torch

from cesrec_core.config import TrainRecommenderSection
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


def build_recommender(item_ids: list[str], settings: TrainRecommenderSection, seed: int) -> TrainableRecommender:
    """A fresh model on the CPU; the same seed gives the same weights, and the caller's random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return RECOMMENDERS[settings.model](item_ids, settings)
