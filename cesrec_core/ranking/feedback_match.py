"""How well items match what a user said, in the catalogue's attributes and in the aligned space."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FeedbackMatch:
    """How well every item fits what each user said; higher fits better, 0 where nothing was said.

    Attributes:
        attributes: float64 [B, V + 1], in [-1, 1]: share of the wanted attributes that the item has, minus the share of
            the unwanted ones.
        aligned: float64 [B, V + 1], in [-2, 2]: cosine to what is wanted minus the cosine to what is not. What is wanted is
            the direction of the mean of the items with wanted attributes, of the mean of wanted items, or in between where
            both were named; vectors are centred on the catalogue's mean first.
    """

    attributes: Tensor
    aligned: Tensor


@dataclass(frozen=True)
class Named:
    """What B users named with one intent, asking for it or turning it down.

    Attributes:
        attributes: float32 [B, A], 1 where the user named the attribute.
        items: float32 [B, V + 1], 1 where the user named the item.
    """

    attributes: Tensor
    items: Tensor


def feedback_match(wanted: Named, unwanted: Named, item_attributes: Tensor, aligned: Tensor) -> FeedbackMatch:
    """Match of B users' words with all items, in the catalogue's attributes and in the aligned space.

    Args:
        item_attributes: float32 [V + 1, A], 1 where the item has the attribute; row 0 is zeros.
        aligned: float32 [V + 1, D]; a row of NaN or zeros is an item without a vector, which matches nothing there.
    """
    item_attributes = item_attributes.double()
    directions = _unit_rows(_centred(aligned.double()))
    wanted_share = _share_of_attributes(wanted.attributes.double(), item_attributes)
    unwanted_share = _share_of_attributes(unwanted.attributes.double(), item_attributes)
    return FeedbackMatch(
        attributes=wanted_share - unwanted_share,
        aligned=_cosine_to_named(wanted_share, wanted.items.double(), directions)
        - _cosine_to_named(unwanted_share, unwanted.items.double(), directions),
    )


def _share_of_attributes(said: Tensor, item_attributes: Tensor) -> Tensor:
    """[B, V + 1]: share of the attributes a user named that the item has."""
    return (said @ item_attributes.T) / said.sum(dim=1, keepdim=True).clamp(min=1.0)


def _cosine_to_named(shares: Tensor, items: Tensor, directions: Tensor) -> Tensor:
    """Items weigh by their share of the named attributes: two [B, V + 1], unit rows [V + 1, D] -> [B, V + 1]."""
    of_attributes, of_items = _unit_rows(shares @ directions), _unit_rows(items @ directions)
    return _unit_rows(of_attributes + of_items) @ directions.T


def _centred(vectors: Tensor) -> Tensor:
    """Rows minus their mean. What all items share points every cosine the same way: without this, the aligned match made
    recommendations worse on MovieLens-100K (validation NDCG@10 .113 -> .103), with it better (.140), each at weight 1."""
    has_vector = torch.isfinite(vectors).all(dim=1, keepdim=True) & (vectors != 0).any(dim=1, keepdim=True)
    known = torch.where(has_vector, vectors, 0.0)
    mean = known.sum(dim=0) / has_vector.sum().clamp(min=1)
    return torch.where(has_vector, known - mean, 0.0)


def _unit_rows(vectors: Tensor) -> Tensor:
    """Rows at length 1; zeros stay zeros."""
    return torch.nn.functional.normalize(vectors, dim=1)
