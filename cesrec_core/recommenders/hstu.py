"""HSTU (Zhai et al. 2024, arXiv 2402.17152): pointwise attention without a softmax, gated, one projection in, one out.

Its relative bias is by distance in places; the one by distance in time needs timestamps, which sequences here do not carry.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cesrec_core.config import TrainRecommenderSection
from cesrec_core.recommenders.attention import join_heads, rotate, split_heads


class HSTUBlock(nn.Module):
    """SiLU(query . key + bias by distance) weighs the values; a gate from the same projection scales what comes out."""

    def __init__(self, settings: TrainRecommenderSection) -> None:
        super().__init__()
        width = settings.embedding_dim
        self.num_heads = settings.num_heads
        self.has_rotary_positions = settings.positions == "rotary"
        self.longest = settings.max_history_items
        self.norm = nn.LayerNorm(width)
        self.gate_value_query_key = nn.Linear(width, 4 * width)
        self.bias_of_distance = nn.Parameter(torch.zeros(self.num_heads, self.longest))
        self.mixed_norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, hidden: Tensor, can_attend: Tensor) -> Tensor:
        """float32 [B, L, D] and bool [B, 1, L, L] -> [B, L, D]."""
        length = hidden.shape[1]
        gate, *parts = F.silu(self.gate_value_query_key(self.norm(hidden))).chunk(4, dim=-1)
        value, query, key = (split_heads(part, self.num_heads) for part in parts)
        if self.has_rotary_positions:
            query, key = rotate(query), rotate(key)
        places = torch.arange(length, device=hidden.device)
        distance = (places[:, None] - places[None, :]).clamp(min=0)  # [L, L], query minus key
        # Not by indexing, whose gradient several threads add up in an order of their own each time.
        bias = F.embedding(distance, self.bias_of_distance.T).permute(2, 0, 1)  # [heads, L, L]
        scores = query @ key.transpose(2, 3) + bias  # [B, heads, L, L]
        # Divided by the longest history and not by this batch's, so that padding changes nothing.
        weights = F.silu(scores) * can_attend / self.longest
        mixed = self.mixed_norm(join_heads(weights @ value)) * gate
        result: Tensor = hidden + self.out(self.dropout(mixed))
        return result
