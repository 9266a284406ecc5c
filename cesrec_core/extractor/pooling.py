"""From token states to one vector per text."""

from typing import Literal

import torch

Pooling = Literal["mean", "last", "weighted"]


def pool(hidden: torch.Tensor, attention_mask: torch.Tensor, how: Pooling) -> torch.Tensor:
    """Pool [B, T, H] last hidden states into [B, H].

    Args:
        hidden: float [B, T, H].
        attention_mask: int or bool [B, T], 1 where a token is real. Padding may stand on either side.
        how: `mean` over real tokens (encoder models); the state of the `last` real token (causal models); or `weighted`, a mean
            in which a token counts as much as its number from the left, since in causal models later ones have read more
            (Muennighoff 2022, SGPT).
    """
    weights = attention_mask.to(hidden.dtype)
    if how == "weighted":
        weights = weights * attention_mask.cumsum(dim=1)
    if how != "last":
        return (hidden * weights.unsqueeze(-1)).sum(dim=1) / weights.sum(dim=1, keepdim=True).clamp(min=1)
    places = torch.arange(hidden.shape[1], device=hidden.device)
    last = (attention_mask.long() * places).argmax(dim=1)
    return hidden[torch.arange(hidden.shape[0], device=hidden.device), last]
