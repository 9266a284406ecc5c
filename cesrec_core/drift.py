"""How vectors and masks of a night compare with what they should be: numbers that are watched from night to night."""

from collections.abc import Collection, Mapping

import numpy as np

from cesrec_core.catalogue import CatalogueFeatures

# Of these it is measured by which share they have changed.
WATCHED_NORMS = ("semantic_norm", "aligned_norm")


def vector_health(features: CatalogueFeatures) -> dict[str, float]:
    """Numbers of a night's vectors, over active items.

    Returns:
        `alignment_mse`, `alignment_normalised_mse`, `alignment_median_rank_share` and `alignment_neighbour_rank_share`, see
        `alignment_metrics`, over items with aligned and collaborative vectors (left out where there are none);
        `semantic_coverage_share`, `aligned_coverage_share` and `collaborative_coverage_share`, of items with such a vector of
        their own; `semantic_norm` and `aligned_norm`, mean lengths of the vectors that there are.
    """
    active = features.is_active
    has = {
        "semantic": features.semantic.any(axis=1) & active,
        "aligned": features.aligned.any(axis=1) & active,
        "collaborative": features.has_collaborative & active,
    }
    num_active = max(1, int(active.sum()))
    result = {f"{space}_coverage_share": float(mask.sum()) / num_active for space, mask in has.items()}
    for space in ("semantic", "aligned"):
        vectors = getattr(features, space)[has[space]]
        result[f"{space}_norm"] = float(np.linalg.norm(vectors, axis=1).mean()) if len(vectors) else 0.0
    both = has["aligned"] & has["collaborative"]
    if both.any():
        import torch

        from cesrec_core.adapter import alignment_metrics

        aligned, collaborative = torch.from_numpy(features.aligned[both]), torch.from_numpy(features.collaborative[both])
        measured = alignment_metrics(aligned, collaborative, torch.arange(len(aligned)))
        result |= {f"alignment_{name}": value for name, value in measured.items()}
    return result


def relative_change(now: float, before: float) -> float:
    """By which share a number has moved; 0 where both are 0, and 1 where it was 0 before."""
    if before == 0.0:
        return 0.0 if now == 0.0 else 1.0
    return abs(now - before) / abs(before)


def changes(now: Mapping[str, float], before: Mapping[str, float], norms: Collection[str] = WATCHED_NORMS) -> dict[str, float]:
    """How the numbers of a night moved; what was not measured before is left out.

    Args:
        norms: those of WATCHED_NORMS that both nights measured in one space.

    Returns:
        `semantic_norm_change` and `aligned_norm_change`, relative; `users_masked_share_change`, the difference.
    """
    result = {f"{name}_change": relative_change(now[name], before[name]) for name in norms if name in before}
    if "users_masked_share" in before:
        result["users_masked_share_change"] = abs(now["users_masked_share"] - before["users_masked_share"])
    return result
