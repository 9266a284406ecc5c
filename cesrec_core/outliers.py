"""The outlier mask: the items of a history that lie farthest from the user's core taste (CESRec, section 3.3).

u = mean of the aligned embeddings of the history; s_i = cos(u, e_i); the `num_masked` items of lowest s_i are masked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Similarities are rounded to so many decimals before they are compared, so that a mask does not hang on the order in
# which a batch of another shape adds up its floats.
SIMILARITY_DECIMALS = 6


@dataclass(frozen=True)
class Outliers:
    """One user's mask.

    Attributes:
        positions: int64, zero-based from the oldest item, ascending.
        similarities: float32, one per place of the history; NaN where the item has no vector or is too old to be read.
    """

    positions: NDArray[np.int64]
    similarities: NDArray[np.float32]


@dataclass(frozen=True)
class OutlierRule:
    """How much to mask.

    Attributes:
        num_masked: places to mask per history.
        min_kept_items: a history shorter than num_masked + min_kept_items is left whole.
        max_history_items: only so many of the newest items are read; older ones are never masked.
    """

    num_masked: int
    min_kept_items: int
    max_history_items: int


def find_outliers(histories: Sequence[NDArray[np.int64]], aligned: Tensor, rule: OutlierRule) -> list[Outliers]:
    """The masks of a batch of users.

    Args:
        histories: B arrays of rows of `aligned`, oldest first; a row that has no vector may stand for any unknown item.
        aligned: float [N, D]; a row of NaN or of zeros is an item without a vector.
        rule: how much to mask.
    """
    read = [history[-rule.max_history_items :] for history in histories]
    longest = max((len(history) for history in read), default=0)
    rows = torch.zeros(len(read), longest, dtype=torch.int64, device=aligned.device)
    is_item = torch.zeros(len(read), longest, dtype=torch.bool, device=aligned.device)
    for user, history in enumerate(read):
        rows[user, : len(history)] = torch.as_tensor(history)
        is_item[user, : len(history)] = True
    similarities, is_masked = mask_lowest(aligned[rows], is_item, rule)
    result = []
    for user, history in enumerate(histories):
        num_skipped = len(history) - len(read[user])
        kept = similarities[user, : len(read[user])].cpu().numpy()
        padded = np.concatenate([np.full(num_skipped, np.nan, np.float32), kept])
        result.append(Outliers(num_skipped + np.flatnonzero(is_masked[user].cpu().numpy()), padded))
    return result


def mask_lowest(vectors: Tensor, is_item: Tensor, rule: OutlierRule) -> tuple[Tensor, Tensor]:
    """The paper's rule on padded tensors; padding may stand anywhere.

    Args:
        vectors: float [B, L, D], oldest item first; NaN or zeros where an item has no vector.
        is_item: bool [B, L], False = padding.
        rule: `max_history_items` is not looked at.

    Returns:
        similarities float32 [B, L], NaN at padding and where there is no vector; is_masked bool [B, L]. Among equal
        similarities the older place is masked first.
    """
    exact = vectors.double()
    norms = exact.norm(dim=2)  # [B, L]
    has_vector = is_item & torch.isfinite(norms) & (norms > 0)
    exact = torch.where(has_vector[..., None], exact, 0.0)
    centre = exact.sum(dim=1) / has_vector.sum(dim=1, keepdim=True).clamp(min=1)  # u: [B, D]
    cosines = torch.nn.functional.cosine_similarity(exact, centre[:, None], dim=2)
    cosines = cosines.round(decimals=SIMILARITY_DECIMALS).masked_fill(~has_vector, torch.inf)

    lowest_first = cosines.argsort(dim=1, stable=True)
    place_in_order = lowest_first.argsort(dim=1)
    is_long_enough = is_item.sum(dim=1, keepdim=True) >= rule.num_masked + rule.min_kept_items
    is_masked = (place_in_order < rule.num_masked) & has_vector & is_long_enough
    return cosines.masked_fill(~has_vector, torch.nan).float(), is_masked


def random_mask(lengths: Sequence[int], rule: OutlierRule, seed: int) -> list[NDArray[np.int64]]:
    """Masks of the same size at random places: the control that tells whether *where* one masks matters.

    A user's draw depends on the seed, the user's place and the history's length only.
    """
    masks = []
    for user, length in enumerate(lengths):
        num_masked = rule.num_masked if length >= rule.num_masked + rule.min_kept_items else 0
        num_read = min(length, rule.max_history_items)
        drawn = np.random.default_rng([seed, user]).choice(num_read, size=min(num_masked, num_read), replace=False)
        masks.append(length - num_read + np.sort(drawn))
    return masks
