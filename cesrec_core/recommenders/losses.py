"""Training losses, none of which ever holds more than a chunk of its logits.

Dimensions: P positions to predict, D embedding_dim, V items, N negatives per draw, G draws of negatives.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from cesrec_core.config import TrainRecommenderSection

# 2 Mi float32 logits = 8 MiB: stays in or near the cache, and large temporaries cost more than arithmetic on a CPU.
LOGITS_PER_CHUNK = 2 * 2**20
# Of the sampled losses, which are seldom cut: their chunks are worked out twice, going forward and going back.
SAMPLED_LOGITS_PER_CHUNK = 8 * 2**20


def full_cross_entropy(
    states: Tensor, item_vectors: Tensor, targets: Tensor, logits_per_chunk: int = LOGITS_PER_CHUNK
) -> Tensor:
    """Mean of -log softmax(states @ item_vectors.T)[targets], padding (row 0) left out of the softmax.

    Args:
        states: float [P, D], one row per position to predict.
        item_vectors: float [V + 1, D]; row 0 is padding.
        targets: int64 [P], in 1..V.
        logits_per_chunk: at most so many logits exist at once.
    """
    loss: Tensor = _ChunkedCrossEntropy.apply(states, item_vectors[1:], targets - 1, logits_per_chunk)
    return loss


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Gradients are worked out in the forward pass, chunk by chunk, so no chunk's logits need to be kept or made again."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, item_vectors: Tensor, targets: Tensor, logits_per_chunk: int) -> Tensor:
        num_positions, num_items = len(states), len(item_vectors)
        rows = max(1, logits_per_chunk // max(1, num_items))
        grad_states = torch.empty_like(states)
        grad_items = torch.zeros_like(item_vectors)
        total = states.new_zeros(())
        for start in range(0, num_positions, rows):
            chunk, wanted = states[start : start + rows], targets[start : start + rows, None]
            logits = chunk @ item_vectors.T  # [rows, V]
            logits.sub_(logits.amax(dim=1, keepdim=True))  # now exp cannot overflow
            wanted_logits = logits.gather(1, wanted)
            norms = logits.exp_().sum(dim=1, keepdim=True)
            total += (norms.log() - wanted_logits).sum()
            grad_logits = logits.div_(norms)  # softmax
            grad_logits.scatter_add_(1, wanted, grad_logits.new_full(wanted.shape, -1.0))
            torch.mm(grad_logits, item_vectors, out=grad_states[start : start + rows])
            grad_items.addmm_(grad_logits.T, chunk)
        ctx.save_for_backward(grad_states.div_(num_positions), grad_items.div_(num_positions))
        return total / num_positions

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_states, grad_items = ctx.saved_tensors
        return grad_states * grad, grad_items * grad, None, None


# float [P, D] states, float [V + 1, D] item vectors (row 0 is padding), int64 [P] targets in 1..V, the generator of draws.
Loss = Callable[[Tensor, Tensor, Tensor, torch.Generator], Tensor]


def make_loss(settings: TrainRecommenderSection, item_counts: Tensor) -> Loss:
    """The loss that the settings name.

    Args:
        item_counts: float [V + 1], interactions of each item in the training data; entry 0 is padding.
    """
    if settings.loss == "cross_entropy":
        return lambda states, item_vectors, targets, generator: full_cross_entropy(states, item_vectors, targets)
    is_softmax = settings.loss == "sampled_softmax"
    sampler = NegativeSampler(item_counts, settings.num_negatives, settings.popular_negatives_share if is_softmax else 0.0)
    if is_softmax:
        return lambda states, item_vectors, targets, generator: sampled_softmax(
            states, item_vectors, targets, sampler.draw(len(targets), generator), sampler
        )
    calibration = settings.gbce_calibration if settings.loss == "gbce" else 0.0
    return lambda states, item_vectors, targets, generator: binary_cross_entropy(
        states, item_vectors, targets, sampler.draw(len(targets), generator), calibration
    )


class NegativeSampler:
    """Draws negatives from a mixture of popularity and the uniform distribution.

    Attributes:
        probabilities: float64 [V + 1] of an item in one draw; 0 for padding.
        num_negatives: N.
    """

    def __init__(self, item_counts: Tensor, num_negatives: int, popular_share: float) -> None:
        counts = item_counts.double().clone()
        counts[0] = 0.0
        uniform = torch.full_like(counts, 1.0 / (len(counts) - 1))
        uniform[0] = 0.0
        self.probabilities = popular_share * counts / counts.sum().clamp(min=1.0) + (1.0 - popular_share) * uniform
        self.probabilities /= self.probabilities.sum()
        self.num_negatives = num_negatives
        self._cumulative = self.probabilities.cumsum(0)

    def draw(self, num_positions: int, generator: torch.Generator) -> Tensor:
        """int64 [G, N] of item_idx, with replacement.

        As many positions share a draw as it has negatives, so about one vector per position is gathered, and scoring is
        one matrix product: gathering N vectors for each position would cost more than scoring them. With one negative
        every position has its own, as in the original SASRec.
        """
        num_draws = math.ceil(num_positions / self.num_negatives)
        device = self._cumulative.device
        places = torch.rand(num_draws, self.num_negatives, generator=generator, dtype=torch.float64).to(device)
        # The last cumulative sum may fall short of 1 by a rounding error.
        return torch.searchsorted(self._cumulative, places, right=True).clamp(1, len(self._cumulative) - 1)


def sampled_softmax(
    states: Tensor, item_vectors: Tensor, targets: Tensor, negatives: Tensor, sampler: NegativeSampler
) -> Tensor:
    """Cross-entropy whose sum over all items is estimated from the negatives.

    A negative counts exp(score) / (N q), the importance weight of its draw ("logQ correction", Bengio & Senecal 2008), the
    target counts in full, and draws that hit the target count for nothing: so the estimate of the sum is unbiased.

    Args:
        states, item_vectors, targets, negatives: [P, D], [V + 1, D], [P], [G, N].
    """
    log_expected = torch.log(sampler.probabilities * sampler.num_negatives).to(states.dtype)

    def of_positions(of_targets: Tensor, of_negatives: Tensor, negatives: Tensor, is_target: Tensor) -> Tensor:
        corrected = (of_negatives - log_expected[negatives]).masked_fill(is_target, -torch.inf)
        everything = torch.cat([of_targets[:, None], corrected], dim=1)  # [P, 1 + N]
        return everything.logsumexp(dim=1) - of_targets

    return _mean_over_positions(of_positions, states, item_vectors, targets, negatives)


def binary_cross_entropy(
    states: Tensor, item_vectors: Tensor, targets: Tensor, negatives: Tensor, calibration: float
) -> Tensor:
    """Each position's target against its negatives, one yes-or-no question per item; gBCE where calibration is above 0.

    gBCE (Petrov & Macdonald 2023, arXiv 2308.07192) raises the target's probability to the power
    1 - calibration * (1 - N / (V - 1)), which undoes the overconfidence that sampling brings. At calibration 0 and with one
    negative this is SASRec's original loss, but that its negatives may stand in the user's history.

    Args:
        states, item_vectors, targets, negatives: [P, D], [V + 1, D], [P], [G, N].
    """
    num_negatives, num_others = negatives.shape[1], max(len(item_vectors) - 2, 1)
    power = 1.0 - calibration * (1.0 - min(1.0, num_negatives / num_others))

    def of_positions(of_targets: Tensor, of_negatives: Tensor, _: Tensor, is_target: Tensor) -> Tensor:
        # -log sigmoid(x) = softplus(-x)
        return power * F.softplus(-of_targets) + F.softplus(of_negatives).masked_fill(is_target, 0.0).sum(dim=1)

    return _mean_over_positions(of_positions, states, item_vectors, targets, negatives) / (1 + num_negatives)


# Scores of the targets [P] and of each position's negatives [P, N], these negatives, int64 [P, N], and where one is the
# target, bool [P, N], to the loss of each position [P].
_OfPositions = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _mean_over_positions(
    of_positions: _OfPositions, states: Tensor, item_vectors: Tensor, targets: Tensor, negatives: Tensor
) -> Tensor:
    num_positions, num_draws = len(targets), len(negatives)
    per_draw = math.ceil(num_positions / num_draws)

    def total(start: int, stop: int, states: Tensor, item_vectors: Tensor) -> Tensor:
        drawn = negatives[start // per_draw : math.ceil(stop / per_draw)]
        return of_positions(*_scores(states, item_vectors, targets[start:stop], drawn, per_draw)).sum()

    rows = max(1, SAMPLED_LOGITS_PER_CHUNK // negatives.shape[1])
    if num_positions <= rows:
        return total(0, num_positions, states, item_vectors) / num_positions
    # Some whole draws, or a part of one, at a time.
    rows = rows // per_draw * per_draw or rows
    sums = []
    start = 0
    while start < num_positions:
        stop = min(start + rows, num_positions)
        if rows < per_draw:
            stop = min(stop, (start // per_draw + 1) * per_draw)
        sums.append(checkpoint(total, start, stop, states[start:stop], item_vectors, use_reentrant=False))
        start = stop
    return torch.stack(sums).sum() / num_positions


def _scores(
    states: Tensor, item_vectors: Tensor, targets: Tensor, negatives: Tensor, per_draw: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `_OfPositions` takes, where `per_draw` positions share each draw and the last one may have fewer."""
    num_positions, num_draws = len(targets), len(negatives)
    per_draw = min(per_draw, num_positions)  # a part of one draw
    missing = num_draws * per_draw - num_positions
    grouped = F.pad(states, (0, 0, 0, missing)).view(num_draws, per_draw, -1)  # [G, P / G, D]
    # Not by indexing, whose gradients several threads add up in whatever order they come.
    scores = torch.bmm(grouped, F.embedding(negatives, item_vectors).transpose(1, 2)).flatten(0, 1)[:num_positions]
    of_positions = negatives.repeat_interleave(per_draw, dim=0)[:num_positions]
    of_targets = (states * F.embedding(targets, item_vectors)).sum(dim=1)
    return of_targets, scores, of_positions, of_positions == targets[:, None]
