"""From token states to one vector per text."""

from typing import Literal

import torch

Pooling = Literal["mean", "last"]


def pool(hidden: torch.Tensor, attention_mask: torch.Tensor, how: Pooling) -> torch.Tensor:
    """Pool [B, T, H] last hidden states into [B, H].

    Args:
        hidden: float [B, T, H].
        attention_mask: int or bool [B, T], 1 where a token is real. Padding may stand on either side.
        how: `mean` over real tokens (encoder models), or the state of the `last` real token (causal models).
    """
    mask = attention_mask.to(hidden.dtype)
    if how == "mean":
        return (hidden * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)
    places = torch.arange(hidden.shape[1], device=hidden.device)
    last = (attention_mask.long() * places).argmax(dim=1)
    return hidden[torch.arange(hidden.shape[0], device=hidden.device), last]
