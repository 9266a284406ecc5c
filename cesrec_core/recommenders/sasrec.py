"""SASRec (Kang & McAuley 2018, arXiv 1808.09781): causal self-attention over the history, tied item vectors.

Trained here with cross-entropy over all items: the loss that makes it a strong base (Klenitskiy & Vasilev 2023,
arXiv 2309.07602). Blocks are pre-norm, with a LayerNorm at the end.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cesrec_core.config import TrainRecommenderSection
from cesrec_core.recommenders.protocol import PADDING_IDX, TrainableRecommender

# Standard deviation of all weights at the start, as in BERT and GPT-2.
INITIAL_STD = 0.02


class SASRec(TrainableRecommender):
    """See `Recommender` for what the methods promise."""

    def __init__(self, item_ids: list[str], settings: TrainRecommenderSection) -> None:
        super().__init__(item_ids, settings.max_history_items, settings.embedding_dim)
        self.items = nn.Embedding(len(item_ids) + 1, self.embedding_dim, padding_idx=PADDING_IDX)
        self.places = nn.Embedding(self.max_history_items, self.embedding_dim)
        self.dropout = nn.Dropout(settings.dropout)
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.num_blocks))
        self.norm = nn.LayerNorm(self.embedding_dim)
        self.apply(_initialise)

    def states(self, item_idx: Tensor) -> Tensor:
        """int64 [B, L], left-padded, L <= max_history_items -> float32 [B, L, D]."""
        length = item_idx.shape[1]
        # Counted from the recent end: the newest item is always place 0, whatever the padding.
        places = torch.arange(length - 1, -1, -1, device=item_idx.device)
        hidden = self.dropout(self.items(item_idx) + self.places(places))  # [B, L, D]
        can_attend = causal_mask(item_idx)
        for block in self.blocks:
            hidden = block(hidden, can_attend)
        normed: Tensor = self.norm(hidden)
        return normed

    def item_vectors(self) -> Tensor:
        """float32 [V + 1, D]; row 0 is zeros."""
        return self.items.weight


class Block(nn.Module):
    """Self-attention and a position-wise network, each read from a normed copy of the residual stream."""

    def __init__(self, settings: TrainRecommenderSection) -> None:
        super().__init__()
        width = settings.embedding_dim
        self.num_heads = settings.num_heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, hidden: Tensor, can_attend: Tensor) -> Tensor:
        """float32 [B, L, D] and bool [B, 1, L, L] (True = query row may look at key column) -> [B, L, D]."""
        hidden = hidden + self.dropout(self._attend(self.attention_norm(hidden), can_attend))
        grown: Tensor = hidden + self.dropout(self.feed_forward(self.feed_forward_norm(hidden)))
        return grown

    def _attend(self, normed: Tensor, can_attend: Tensor) -> Tensor:
        batch, length, width = normed.shape
        heads = self.query_key_value(normed).view(batch, length, 3, self.num_heads, width // self.num_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each [B, heads, L, D / heads]
        # Dropout only on what goes into the residual stream: drawing B x L x L numbers for the attention weights, and
        # 4 D per place inside the feed-forward network, cost half an epoch on a CPU.
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=can_attend)
        out: Tensor = self.attention_out(mixed.transpose(1, 2).reshape(batch, length, width))
        return out


def causal_mask(item_idx: Tensor) -> Tensor:
    """int64 [B, L], 0 = padding -> bool [B, 1, L, L], True where the query (row) may look at the key (column).

    Every place sees itself, padding too: a softmax over nothing is NaN, and would spread through the next block.
    """
    length = item_idx.shape[1]
    is_older = torch.ones(length, length, dtype=torch.bool, device=item_idx.device).tril(-1)
    itself = torch.eye(length, dtype=torch.bool, device=item_idx.device)
    is_item = (item_idx != PADDING_IDX)[:, None, :]  # [B, 1, L]
    return ((is_older & is_item) | itself)[:, None]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=INITIAL_STD)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_STD)
        if module.padding_idx is not None:
            with torch.no_grad():
                module.weight[module.padding_idx].zero_()
