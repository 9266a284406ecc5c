"""Cross-entropy over the whole catalogue without ever holding one logit per position and item."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# 2 Mi float32 logits = 8 MiB: stays in or near the cache, and large temporaries cost more than arithmetic on a CPU.
LOGITS_PER_CHUNK = 2 * 2**20


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
