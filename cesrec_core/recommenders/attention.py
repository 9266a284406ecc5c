"""What the attention models share: the stack around their blocks, who may look at whom, and how weights start.

Dimensions: B users, L sequence length, D embedding_dim, V items.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cesrec_core.config import TrainRecommenderSection
from cesrec_core.recommenders.protocol import PADDING_IDX, TrainableRecommender
from cesrec_core.recommenders.similarity import Similarity

# Standard deviation of all weights at the start, as in BERT and GPT-2.
INITIAL_STD = 0.02
# The slowest pair of channels turns once in 2 pi times as many places, as in RoFormer.
ROTARY_BASE = 10_000.0


class AttentionRecommender(TrainableRecommender):
    """Item vectors and places, a stack of blocks, a norm; the item vectors are those that are scored (tied).

    Places are vectors added to the items', or, with rotary positions, angles inside the blocks.

    Args:
        make_block: settings -> a module that maps float32 [B, L, D] and bool [B, 1, L, L] (True = query row may look at
            key column) to [B, L, D].
    """

    def __init__(
        self,
        item_ids: list[str],
        settings: TrainRecommenderSection,
        make_block: Callable[[TrainRecommenderSection], nn.Module],
    ) -> None:
        super().__init__(item_ids, settings.max_history_items, settings.embedding_dim)
        self.items = nn.Embedding(len(item_ids) + 1, self.embedding_dim, padding_idx=PADDING_IDX)
        self.places = nn.Embedding(self.max_history_items, self.embedding_dim) if settings.positions == "learned" else None
        self.dropout = nn.Dropout(settings.dropout)
        self.blocks = nn.ModuleList(make_block(settings) for _ in range(settings.num_blocks))
        self.norm = nn.LayerNorm(self.embedding_dim)
        self.similarity = Similarity(settings)
        self.apply(initialise)

    def states(self, item_idx: Tensor) -> Tensor:
        """int64 [B, L], left-padded, L <= max_history_items -> float32 [B, L, D]."""
        hidden = self.items(item_idx)  # [B, L, D]
        if self.places is not None:
            # Counted from the recent end: the newest item is always place 0, whatever the padding.
            hidden = hidden + self.places(torch.arange(item_idx.shape[1] - 1, -1, -1, device=item_idx.device))
        hidden = self.dropout(hidden)
        can_attend = causal_mask(item_idx)
        for block in self.blocks:
            hidden = block(hidden, can_attend)
        return self.similarity.states(self.norm(hidden))

    def item_vectors(self) -> Tensor:
        """float32 [V + 1, D]; row 0 is zeros."""
        return self.similarity.item_vectors(self.items.weight)


def causal_mask(item_idx: Tensor) -> Tensor:
    """int64 [B, L], 0 = padding -> bool [B, 1, L, L], True where the query (row) may look at the key (column).

    Every place sees itself, padding too: a softmax over nothing is NaN, and would spread through the next block.
    """
    length = item_idx.shape[1]
    is_older = torch.ones(length, length, dtype=torch.bool, device=item_idx.device).tril(-1)
    itself = torch.eye(length, dtype=torch.bool, device=item_idx.device)
    is_item = (item_idx != PADDING_IDX)[:, None, :]  # [B, 1, L]
    return ((is_older & is_item) | itself)[:, None]


def split_heads(tensor: Tensor, num_heads: int) -> Tensor:
    """[B, L, heads * width] -> [B, heads, L, width]."""
    batch, length, width = tensor.shape
    return tensor.view(batch, length, num_heads, width // num_heads).transpose(1, 2)


def join_heads(tensor: Tensor) -> Tensor:
    """[B, heads, L, width] -> [B, L, heads * width]."""
    batch, num_heads, length, width = tensor.shape
    return tensor.transpose(1, 2).reshape(batch, length, num_heads * width)


def rotate(vectors: Tensor) -> Tensor:
    """Turn each pair of channels by an angle that grows with the place: products of queries and keys then know distances.

    RoFormer (Su et al. 2021, arXiv 2104.09864); channel i pairs with channel i + d / 2.

    Args:
        vectors: float32 [B, heads, L, d], d even.
    """
    length, width = vectors.shape[2:]
    rates = ROTARY_BASE ** (-torch.arange(0, width, 2, device=vectors.device) / width)
    angles = torch.arange(length, device=vectors.device)[:, None] * rates  # [L, d / 2]
    cosine, sine = angles.cos(), angles.sin()
    first, second = vectors.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)


def initialise(module: nn.Module) -> None:
    """Small normal weights, zero biases, and nothing for padding; for `nn.Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=INITIAL_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_STD)
        if module.padding_idx is not None:
            with torch.no_grad():
                module.weight[module.padding_idx].zero_()
