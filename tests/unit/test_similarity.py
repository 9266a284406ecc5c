"""Scores as dot products and as cosines."""

import pytest
import torch
from torch.nn import functional as F

from cesrec_core.config import TrainRecommenderSection
from cesrec_core.recommenders.similarity import Similarity


def test_cosines_are_torchs_over_the_temperature() -> None:
    generator = torch.Generator().manual_seed(0)
    states, vectors = torch.randn(3, 5, 4, generator=generator), torch.randn(7, 4, generator=generator)
    vectors[0] = 0.0
    similarity = Similarity(TrainRecommenderSection(similarity="cosine", temperature=0.1))
    scores = similarity.states(states) @ similarity.item_vectors(vectors).T
    expected = F.cosine_similarity(states[:, :, None], vectors, dim=-1) / 0.1
    torch.testing.assert_close(scores, expected)
    assert not similarity.item_vectors(vectors)[0].any()


@pytest.mark.parametrize("name", ["states", "item_vectors"])
def test_dot_products_leave_vectors_alone(name: str) -> None:
    vectors = torch.arange(6.0).view(2, 3)
    assert getattr(Similarity(TrainRecommenderSection()), name)(vectors) is vectors
