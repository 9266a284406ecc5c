"""Whom a variant helps, and whom it harms: users in quartiles of how diverse their taste is.

A mean over all users hides that outliers of a diverse taste may be part of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cesrec_core.evaluation.metrics import ndcg
from cesrec_core.evaluation.recommenders import NUM_GROUPS, attribute_entropy, quartiles
from cesrec_core.evaluation.significance import Interval, PairedTest, bootstrap_interval, paired_test
from cesrec_core.evaluation.variants import BASE, Parts, Variant, Weights

TASTE_COMPARISONS = (
    ("mask only", BASE),
    ("CESRec", BASE),
    ("CESRec with foresight", BASE),
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


def by_taste(
    parts: Parts, weights: Mapping[str, Weights], variants: Sequence[Variant], num_samples: int, seed: int
) -> list[Taste]:
    """Quartiles of the users' tastes, the most uniform first; a quartile without users is left out.

    Args:
        variants: what is compared, as far as TASTE_COMPARISONS does; the base among them.
    """
    catalogue = parts.evaluator.features.catalogue
    entropy = np.array([attribute_entropy(codes, catalogue) for codes in parts.cases.codes])
    available = {variant.name for variant in variants}
    comparisons = [pair for pair in TASTE_COMPARISONS if available.issuperset(pair)]
    names = {BASE, *(name for pair in comparisons for name in pair)}
    figures = {
        variant.name: ndcg(parts.full_ranks(variant, [weights[variant.name]])[0], 10)
        for variant in variants
        if variant.name in names
    }
    groups = quartiles(entropy)
    result = []
    for members in (groups == number for number in range(NUM_GROUPS)):
        if not members.any():
            continue
        tests = {
            f"{name} against {baseline}": paired_test(figures[name][members], figures[baseline][members], num_samples, seed)
            for name, baseline in comparisons
        }
        base = bootstrap_interval(figures[BASE][members], num_samples, seed)
        of_members = entropy[members]
        result.append(Taste(int(members.sum()), float(of_members.min()), float(of_members.max()), base, tests))
    return result
