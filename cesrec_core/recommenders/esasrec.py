"""eSASRec (Tikhonovich et al. 2025, arXiv 2508.06450): SASRec's shape with LiGR blocks, meant for a sampled softmax.

LiGR blocks (Borisyuk et al. 2024, arXiv 2502.03417) are pre-norm, and gate what attention and the SwiGLU network add to
the residual stream by what the stream holds already.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cesrec_core.config import TrainRecommenderSection
from cesrec_core.recommenders.sasrec import SelfAttention


class LiGRBlock(nn.Module):
    """Self-attention and a SwiGLU network, each scaled by a learned gate in (0, 1) per channel."""

    def __init__(self, settings: TrainRecommenderSection) -> None:
        super().__init__()
        width = settings.embedding_dim
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(settings)
        self.attention_gate = nn.Linear(width, width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.gate_and_value = nn.Linear(width, 8 * width, bias=False)
        self.feed_forward_out = nn.Linear(4 * width, width, bias=False)
        self.feed_forward_gate = nn.Linear(width, width)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, hidden: Tensor, can_attend: Tensor) -> Tensor:
        """float32 [B, L, D] and bool [B, 1, L, L] -> [B, L, D]."""
        mixed = self.attention(self.attention_norm(hidden), can_attend)
        hidden = hidden + self.dropout(mixed * torch.sigmoid(self.attention_gate(hidden)))
        gate, value = self.gate_and_value(self.feed_forward_norm(hidden)).chunk(2, dim=-1)
        grown = self.feed_forward_out(F.silu(gate) * value)
        result: Tensor = hidden + self.dropout(grown * torch.sigmoid(self.feed_forward_gate(hidden)))
        return result
