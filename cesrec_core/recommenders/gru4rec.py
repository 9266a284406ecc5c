"""GRU4Rec (Hidasi et al. 2016, arXiv 1511.06939): a recurrent network over the history, tied item vectors."""

import torch
from torch import Tensor, nn

from cesrec_core.config import TrainRecommenderSection
from cesrec_core.recommenders.attention import INITIAL_STD
from cesrec_core.recommenders.protocol import PADDING_IDX, TrainableRecommender
from cesrec_core.recommenders.similarity import Similarity


class GRU4Rec(TrainableRecommender):
    """See `Recommender` for what the methods promise. `num_blocks` is the number of recurrent layers."""

    def __init__(self, item_ids: list[str], settings: TrainRecommenderSection) -> None:
        super().__init__(item_ids, settings.max_history_items, settings.embedding_dim)
        self.items = nn.Embedding(len(item_ids) + 1, self.embedding_dim, padding_idx=PADDING_IDX)
        self.dropout = nn.Dropout(settings.dropout)
        width = self.embedding_dim
        between_layers = settings.dropout if settings.num_blocks > 1 else 0.0
        self.recurrent = nn.GRU(width, width, settings.num_blocks, batch_first=True, dropout=between_layers)
        self.out = nn.Linear(width, width)
        self.similarity = Similarity(settings)
        with torch.no_grad():
            self.items.weight[1:].normal_(std=INITIAL_STD)

    def states(self, item_idx: Tensor) -> Tensor:
        """int64 [B, L], left-padded, L <= max_history_items -> float32 [B, L, D]."""
        length = item_idx.shape[1]
        # A recurrent network would run through the padding first. So items go to the left for it, and states back after it.
        places = torch.arange(length, device=item_idx.device)
        num_padding = (item_idx == PADDING_IDX).sum(dim=1, keepdim=True)  # [B, 1]
        to_the_left = (places + num_padding) % length  # [B, L]
        embedded = self.dropout(self.items(item_idx.gather(1, to_the_left)))
        hidden, _ = self.recurrent(embedded)  # [B, L, D]
        back = ((places - num_padding) % length).unsqueeze(-1).expand_as(hidden)
        return self.similarity.states(self.out(self.dropout(hidden.gather(1, back))))

    def item_vectors(self) -> Tensor:
        """float32 [V + 1, D]; row 0 is zeros."""
        return self.similarity.item_vectors(self.items.weight)
