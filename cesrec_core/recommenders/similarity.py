"""What a score measures: the plain product of a state and an item's vector, or their cosine over a temperature."""

from torch import Tensor
from torch.nn import functional as F

from cesrec_core.config import TrainRecommenderSection


class Similarity:
    """Makes of states and item vectors those whose dot product is the score.

    With cosines no item is scored high for the length of its vector alone, which tends to grow with popularity.
    """

    def __init__(self, settings: TrainRecommenderSection) -> None:
        self.is_cosine = settings.similarity == "cosine"
        self.temperature = settings.temperature

    def states(self, states: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        return F.normalize(states, dim=-1) / self.temperature if self.is_cosine else states

    def item_vectors(self, vectors: Tensor) -> Tensor:
        """[V + 1, D] -> [V + 1, D]; zeros stay zeros."""
        return F.normalize(vectors, dim=-1) if self.is_cosine else vectors
