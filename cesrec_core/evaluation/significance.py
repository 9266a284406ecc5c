"""How sure a mean over users is: bootstrap intervals and paired tests, seeded and bounded in memory."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import permutation_test

Values = NDArray[np.float64]

# Resampled values held at once: 4 Mi float64 = 32 MiB.
VALUES_PER_CHUNK = 4 * 2**20


@dataclass(frozen=True)
class Interval:
    """A mean over users with its percentile bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedTest:
    """Variant minus baseline over the same users.

    Attributes:
        difference: mean difference with its bootstrap interval; users are resampled, so pairs stay together.
        p_value: two-sided, from randomly swapping the two variants within users; 1 where they never differ.
    """

    difference: Interval
    p_value: float


def bootstrap_interval(values: Values, num_samples: int, seed: int, level: float = 0.95) -> Interval:
    """Percentile interval of the mean when users are drawn again with replacement.

    Args:
        values: float64 [N], one per user.
        num_samples: how often to draw N users.
        seed: of the draws.
        level: share of the resampled means inside the interval.

    Raises:
        ValueError: there are no users.
    """
    if not len(values):
        raise ValueError("A bootstrap over no users has no interval. Give at least one value.")
    rng = np.random.default_rng(seed)
    rows = max(1, VALUES_PER_CHUNK // len(values))
    means = np.empty(num_samples)
    for start in range(0, num_samples, rows):
        size = min(rows, num_samples - start)
        means[start : start + size] = values[rng.integers(len(values), size=(size, len(values)))].mean(axis=1)
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(means, [tail, 100.0 - tail])
    return Interval(float(values.mean()), float(low), float(high))


def paired_test(variant: Values, baseline: Values, num_samples: int, seed: int) -> PairedTest:
    """Is `variant` better or worse than `baseline` on the same users, in the same order?

    Args:
        variant: float64 [N].
        baseline: float64 [N].
        num_samples: draws, both of the interval and of the test; with few users all swaps are tried instead.
        seed: of the draws.

    Raises:
        ValueError: the two differ in length, or there are no users.
    """
    if len(variant) != len(baseline):
        raise ValueError(f"{len(variant)} and {len(baseline)} users cannot be paired. Evaluate both on the same users.")
    differences = variant - baseline
    interval = bootstrap_interval(differences, num_samples, seed)
    # Users without a difference add nothing to any resampled sum, and thinning them out keeps the test fast.
    moved = differences[differences != 0.0]
    # A single difference is as large whichever way it is swapped.
    if len(moved) < 2:
        return PairedTest(interval, 1.0)
    result = permutation_test(
        (moved,),
        _sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=num_samples,
        batch=max(1, VALUES_PER_CHUNK // len(moved)),
        rng=np.random.default_rng(seed),
    )
    return PairedTest(interval, float(result.pvalue))


def _sum(values: Values, axis: int) -> Values:
    total: Values = values.sum(axis=axis)
    return total
