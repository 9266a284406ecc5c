"""Sampled losses against their definitions, written out by hand or by enumeration."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from cesrec_core.config import TrainRecommenderSection
from cesrec_core.recommenders.losses import (
    LOGITS_PER_CHUNK,
    SAMPLED_LOGITS_PER_CHUNK,
    NegativeSampler,
    binary_cross_entropy,
    full_cross_entropy,
    make_loss,
    sampled_softmax,
)

COUNTS = torch.tensor([0.0, 6.0, 3.0, 1.0, 0.0])


def test_probabilities_are_the_mixture() -> None:
    sampler = NegativeSampler(COUNTS, 2, popular_share=0.5)
    assert sampler.probabilities.tolist() == pytest.approx([0.0, 0.425, 0.275, 0.175, 0.125])


def test_draws_follow_the_probabilities_and_the_seed() -> None:
    sampler = NegativeSampler(COUNTS, 50, popular_share=0.5)
    drawn = sampler.draw(20_000 * 50, torch.Generator().manual_seed(1))
    assert drawn.shape == (20_000, 50)
    shares = torch.bincount(drawn.flatten(), minlength=5) / drawn.numel()
    assert torch.allclose(shares.double(), sampler.probabilities, atol=2e-3)
    assert torch.equal(drawn, sampler.draw(20_000 * 50, torch.Generator().manual_seed(1)))
    assert not torch.equal(drawn, sampler.draw(20_000 * 50, torch.Generator().manual_seed(2)))


@pytest.mark.parametrize(("num_positions", "num_negatives", "num_draws"), [(10, 1, 10), (10, 4, 3), (3, 8, 1)])
def test_as_many_positions_share_a_draw_as_it_has_negatives(num_positions: int, num_negatives: int, num_draws: int) -> None:
    drawn = NegativeSampler(COUNTS, num_negatives, 0.0).draw(num_positions, torch.Generator().manual_seed(0))
    assert drawn.shape == (num_draws, num_negatives)


def test_sampled_softmax_by_hand() -> None:
    """Scores are 1, 2, 3, 4 for items 1 to 4. Of the three draws one hits the target and counts for nothing."""
    sampler = NegativeSampler(COUNTS, 3, popular_share=0.0)  # q = 1/4
    vectors = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0]])
    loss = sampled_softmax(torch.ones(1, 1), vectors, torch.tensor([2]), torch.tensor([[2, 4, 1]]), sampler)
    total = math.exp(2) + (math.exp(4) + math.exp(1)) / (3 / 4)
    assert loss.item() == pytest.approx(math.log(total) - 2, rel=1e-6)


def test_sampled_softmax_tends_to_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(3)
    states, vectors = torch.randn(40, 6, generator=generator), torch.randn(31, 6, generator=generator)
    targets = torch.randint(1, 31, (40,), generator=generator)
    sampler = NegativeSampler(torch.rand(31, generator=generator), 40_000, popular_share=0.5)
    sampled = sampled_softmax(states, vectors, targets, sampler.draw(40, generator), sampler)
    assert sampled.item() == pytest.approx(full_cross_entropy(states, vectors, targets).item(), rel=0.02)


def test_binary_cross_entropy_by_hand() -> None:
    """Two positions with two negatives each share one draw; the second one's target is drawn and left out."""
    vectors = torch.tensor([[0.0], [1.0], [-1.0], [2.0]])
    states, targets, negatives = torch.tensor([[1.0], [3.0]]), torch.tensor([1, 2]), torch.tensor([[2, 3]])
    loss = binary_cross_entropy(states, vectors, targets, negatives, calibration=0.0)
    softplus = F.softplus
    first = softplus(torch.tensor(-1.0)) + softplus(torch.tensor(-1.0)) + softplus(torch.tensor(2.0))
    second = softplus(torch.tensor(3.0)) + softplus(torch.tensor(6.0))
    assert loss.item() == pytest.approx(((first + second) / 2 / 3).item(), rel=1e-6)


def test_gbce_scales_the_target_by_its_power() -> None:
    """4 items, so 3 others and a sampling rate of 2 / 3: beta = a (t (1 - 1/a) + 1/a) with a = 2/3, t = 0.75."""
    vectors = torch.tensor([[0.0], [1.0], [-1.0], [2.0], [0.5]])
    states, targets, negatives = torch.tensor([[1.0], [3.0]]), torch.tensor([1, 3]), torch.tensor([[2, 4]])
    rate, calibration = 2 / 3, 0.75
    beta = rate * (calibration * (1 - 1 / rate) + 1 / rate)
    plain = binary_cross_entropy(states, vectors, targets, negatives, 0.0)
    calibrated = binary_cross_entropy(states, vectors, targets, negatives, calibration)
    of_targets = (F.softplus(torch.tensor(-1.0)) + F.softplus(torch.tensor(-6.0))) / 2 / 3
    assert (plain - calibrated).item() == pytest.approx(((1 - beta) * of_targets).item(), rel=1e-5)


@given(st.integers(1, 30), st.integers(1, 9))
def test_shared_draws_give_the_loss_of_their_positions(num_positions: int, num_negatives: int) -> None:
    """The mean over all positions is the mean of the losses of each position alone with its own draw."""
    generator = torch.Generator().manual_seed(num_positions * 10 + num_negatives)
    states, vectors = torch.randn(num_positions, 4, generator=generator), torch.randn(12, 4, generator=generator)
    targets = torch.randint(1, 12, (num_positions,), generator=generator)
    sampler = NegativeSampler(torch.ones(12), num_negatives, 0.3)
    negatives = sampler.draw(num_positions, generator)
    per_draw = -(-num_positions // len(negatives))
    for loss in (
        lambda s, t, n: sampled_softmax(s, vectors, t, n, sampler),
        lambda s, t, n: binary_cross_entropy(s, vectors, t, n, 0.5),
    ):
        alone = [
            loss(states[place : place + 1], targets[place : place + 1], negatives[place // per_draw][None])
            for place in range(num_positions)
        ]
        assert loss(states, targets, negatives).item() == pytest.approx(torch.stack(alone).mean().item(), rel=1e-4)


def test_settings_name_the_loss() -> None:
    generator = torch.Generator().manual_seed(3)
    states, vectors = torch.randn(6, 4, generator=generator), torch.randn(12, 4, generator=generator)
    targets = torch.randint(1, 12, (6,), generator=generator)
    values = {}
    for name in ("cross_entropy", "sampled_softmax", "gbce", "bce"):
        loss = make_loss(TrainRecommenderSection(loss=name, num_negatives=3), torch.ones(12))
        values[name] = loss(states, vectors, targets, torch.Generator().manual_seed(1)).item()
    assert values["cross_entropy"] == full_cross_entropy(states, vectors, targets).item()
    assert values["gbce"] < values["bce"]
    assert len(set(values.values())) == 4


class LargestTensor(TorchDispatchMode):
    """Remembers how many numbers the largest tensor held that any operation gave."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: object, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return result


@pytest.mark.parametrize("loss", ["cross_entropy", "sampled_softmax", "gbce", "bce"])
def test_logits_of_all_positions_and_items_never_exist_at_once(loss: str) -> None:
    num_positions, num_items, num_negatives = 4000, 3000, 16
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(num_positions, 8, generator=generator, requires_grad=True)
    vectors = torch.randn(num_items + 1, 8, generator=generator, requires_grad=True)
    targets = torch.randint(1, num_items + 1, (num_positions,), generator=generator)
    settings = TrainRecommenderSection(loss=loss, num_negatives=num_negatives)
    with LargestTensor() as largest:
        torch.autograd.backward(make_loss(settings, torch.ones(num_items + 1))(states, vectors, targets, generator))
    limit = LOGITS_PER_CHUNK if loss == "cross_entropy" else num_positions * (num_negatives + 1)
    assert largest.numel <= limit < num_positions * num_items / 5


@pytest.mark.parametrize("loss", ["sampled_softmax", "gbce", "bce"])
def test_logits_of_more_negatives_than_items_never_exist_at_once(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """400 positions and 700 negatives: one draw for all of them, which is cut, as three draws of 150 negatives are."""
    num_positions, num_items = 400, 300
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(1, num_items + 1, (num_positions,), generator=generator)
    values = [torch.randn(size, 8, generator=generator) for size in (num_positions, num_items + 1)]
    for num_negatives, limit in ((700, 30_000), (150, 30_000), (700, 6_000)):
        found = []
        for logits_per_chunk in (SAMPLED_LOGITS_PER_CHUNK, limit):
            monkeypatch.setattr("cesrec_core.recommenders.losses.SAMPLED_LOGITS_PER_CHUNK", logits_per_chunk)
            states, vectors = (value.clone().requires_grad_() for value in values)
            settings = TrainRecommenderSection(loss=loss, num_negatives=num_negatives)
            with LargestTensor() as largest:
                mean = make_loss(settings, torch.ones(num_items + 1))(
                    states, vectors, targets, torch.Generator().manual_seed(1)
                )
                mean.backward()
            found.append((mean.detach(), states.grad, vectors.grad))
        assert largest.numel <= limit + num_positions < num_positions * num_negatives
        for whole, cut in zip(*found, strict=True):
            torch.testing.assert_close(cut, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", ["sampled_softmax", "gbce", "bce"])
def test_threads_add_gradients_up_in_one_order(loss: str) -> None:
    """A training that is done again, or resumed, comes to the same weights on any number of threads."""
    generator = torch.Generator().manual_seed(0)
    states, vectors = torch.randn(4000, 16, generator=generator), torch.randn(301, 16, generator=generator, requires_grad=True)
    targets = torch.randint(1, 301, (4000,), generator=generator)
    settings = TrainRecommenderSection.model_validate({"loss": loss, "num_negatives": 64})
    num_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        of_loss = make_loss(settings, torch.ones(301))
        gradients = [
            torch.autograd.grad(of_loss(states, vectors, targets, torch.Generator().manual_seed(1)), vectors)[0]
            for _ in range(20)
        ]
    finally:
        torch.set_num_threads(num_threads)
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)
