"""Whom a variant helps, and whom it harms: users in quartiles of how diverse their taste is.

A mean over all users hides that outliers of a diverse taste may be part of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cesrec_core.evaluation import VARIANTS, Parts, Weights
from cesrec_core.metrics import ndcg
from cesrec_core.recommender_evaluation import NUM_GROUPS, attribute_entropy, quartiles
from cesrec_core.significance import Interval, PairedTest, bootstrap_interval, paired_test

TASTE_COMPARISONS = (
    ("mask only", "base"),
    ("CESRec", "base"),
    ("CESRec with foresight", "base"),
    ("CESRec + re-rank", "base + re-rank"),
    ("base + re-rank + next place", "base + re-rank"),
)


@dataclass(frozen=True)
class Taste:
    """Users whose histories have attributes of similar entropy, and NDCG@10 by full ranking among them.

    Attributes:
        lowest, highest: entropy in bits.
        base: of the base recommender without feedback.
        tests: by comparison ("CESRec against base").
    """

    num_users: int
    lowest: float
    highest: float
    base: Interval
    tests: dict[str, PairedTest]


def by_taste(parts: Parts, weights: Mapping[str, Weights], num_samples: int, seed: int) -> list[Taste]:
    """Quartiles of the users' tastes, the most uniform first; a quartile without users is left out."""
    catalogue = parts.evaluator.features.catalogue
    entropy = np.array([attribute_entropy(codes, catalogue) for codes in parts.cases.codes])
    names = {"base", *(name for pair in TASTE_COMPARISONS for name in pair)}
    figures = {
        variant.name: ndcg(parts.full_ranks(variant, [weights[variant.name]])[0], 10)
        for variant in VARIANTS
        if variant.name in names
    }
    groups = quartiles(entropy)
    result = []
    for members in (groups == number for number in range(NUM_GROUPS)):
        if not members.any():
            continue
        tests = {
            f"{name} against {baseline}": paired_test(figures[name][members], figures[baseline][members], num_samples, seed)
            for name, baseline in TASTE_COMPARISONS
        }
        base = bootstrap_interval(figures["base"][members], num_samples, seed)
        of_members = entropy[members]
        result.append(Taste(int(members.sum()), float(of_members.min()), float(of_members.max()), base, tests))
    return result
