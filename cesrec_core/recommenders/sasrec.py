"""SASRec (Kang & McAuley 2018, arXiv 1808.09781): causal self-attention over the history, tied item vectors.

With cross-entropy over all items it is a strong base (Klenitskiy & Vasilev 2023, arXiv 2309.07602). Blocks are pre-norm,
with a LayerNorm at the end.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from cesrec_core.config import TrainRecommenderSection
from cesrec_core.recommenders.attention import join_heads, rotate, split_heads


class SASRecBlock(nn.Module):
    """Self-attention and a position-wise network, each read from a normed copy of the residual stream."""

    def __init__(self, settings: TrainRecommenderSection) -> None:
        super().__init__()
        width = settings.embedding_dim
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(settings)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        # Dropout only on what goes into the residual stream: drawing B x L x L numbers for the attention weights, and
        # 4 D per place inside the feed-forward network, cost half an epoch on a CPU.
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, hidden: Tensor, can_attend: Tensor) -> Tensor:
        """float32 [B, L, D] and bool [B, 1, L, L] -> [B, L, D]."""
        hidden = hidden + self.dropout(self.attention(self.attention_norm(hidden), can_attend))
        grown: Tensor = hidden + self.dropout(self.feed_forward(self.feed_forward_norm(hidden)))
        return grown


class SelfAttention(nn.Module):
    """Multi-head softmax attention over what each place may look at."""

    def __init__(self, settings: TrainRecommenderSection) -> None:
        super().__init__()
        width = settings.embedding_dim
        self.num_heads = settings.num_heads
        self.has_rotary_positions = settings.positions == "rotary"
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, normed: Tensor, can_attend: Tensor) -> Tensor:
        """float32 [B, L, D] and bool [B, 1, L, L] -> [B, L, D]."""
        query, key, value = (split_heads(part, self.num_heads) for part in self.query_key_value(normed).chunk(3, dim=-1))
        if self.has_rotary_positions:
            query, key = rotate(query), rotate(key)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=can_attend)
        out: Tensor = self.out(join_heads(mixed))
        return out
