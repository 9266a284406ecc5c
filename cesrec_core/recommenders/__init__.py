"""Base recommenders: the contract, the registry, and artifacts.

To add one: a module with a TrainableRecommender, a line in RECOMMENDERS, its name in `TrainRecommenderSection.model`; the
contract tests run over the registry.
"""

from cesrec_core.recommenders.protocol import PADDING_IDX, CountingRecommender, Recommender, TrainableRecommender, Vocabulary
from cesrec_core.recommenders.registry import COUNTING, RECOMMENDERS, build_recommender, unread_settings

__all__ = [
    "COUNTING",
    "PADDING_IDX",
    "RECOMMENDERS",
    "CountingRecommender",
    "Recommender",
    "TrainableRecommender",
    "Vocabulary",
    "build_recommender",
    "unread_settings",
]
