"""The Constructor as a base recommender: asked for the place after a history, it says what comes next (LLaRA, E4SRec).

Its score is a dot product like any other recommender's. With words it is a recommender that listens, and without them one
that goes by the history alone.

Dimensions: B users, L sequence length, N items of the catalogue, W = collaborative width + width of the language model.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cesrec_core.constructor.decoding import ConstructionRequest, Reader, open_row
from cesrec_core.constructor.model import ItemConstructor
from cesrec_core.recommenders.protocol import PADDING_IDX

NO_WORDS = ""


class NextPlaceRecommender:
    """See `Recommender` for what the methods promise; the vocabulary is the whole catalogue, cold items with it.

    Args:
        item_ids: N external keys in the order of the catalogue that the model was loaded with.
    """

    def __init__(self, model: ItemConstructor, item_ids: Sequence[str]) -> None:
        self.model = model
        self.item_ids = list(item_ids)
        self.max_history_items = model.settings.history_items
        self.embedding_dim = int(self.item_vectors().shape[1])
        # Of people of whom nothing is known: what the model says of an empty history.
        self.average_state = self.encode(torch.zeros(1, 1, dtype=torch.int64))[0]

    def states(self, item_idx: Tensor) -> Tensor:
        """See `Recommender.states`. One pass per place: what is read of a history tells what it ends with."""
        prefixes = [self.encode(item_idx[:, : place + 1]) for place in range(item_idx.shape[1])]
        return torch.stack(prefixes, 1)

    def encode(self, item_idx: Tensor) -> Tensor:
        """See `Recommender.encode`."""
        return self.encode_with_words(item_idx, [NO_WORDS] * len(item_idx))

    @torch.inference_mode()
    def encode_with_words(self, item_idx: Tensor, utterances: Sequence[str]) -> Tensor:
        """User vectors after the newest item, float32 [B, W], in the light of what each user says.

        Args:
            item_idx: int64 [B, L], left-padded, any L.
            utterances: B, untrusted; empty where nothing was said.
        """
        was_training = self.model.training
        self.model.eval()
        rows = []
        for items, said in zip(item_idx.cpu().numpy(), utterances, strict=True):
            codes = items[items != PADDING_IDX][-self.max_history_items :] - 1
            # The code of the place that is asked for is never read.
            request = ConstructionRequest(np.append(codes, 0), (len(codes),), said)
            rows.append(open_row(self.model, request, known_until=len(codes)))
        reader = Reader(self.model)
        states = reader.read(rows)
        result = self.model.queries(states, reader.wish)
        self.model.train(was_training)
        return result

    def item_vectors(self) -> Tensor:
        """float32 [N + 1, W]; row 0 is zeros."""
        return torch.nn.functional.pad(self.model.item_keys(), (0, 0, 1, 0))
