"""Checked against scipy's own bootstrap and against binomial probabilities worked out by hand."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from cesrec_core.evaluation import significance
from cesrec_core.evaluation.significance import bootstrap_interval, paired_test


def test_interval_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).random(400)
    interval = bootstrap_interval(values, num_samples=8000, seed=1)
    theirs = bootstrap((values,), np.mean, n_resamples=8000, method="percentile", rng=np.random.default_rng(2))
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(theirs.confidence_interval.low, abs=2e-3)
    assert interval.high == pytest.approx(theirs.confidence_interval.high, abs=2e-3)


def test_interval_of_coin_flips() -> None:
    """Mean 0.5, standard error 0.05 with 100 of them: the interval is about 0.5 +- 1.96 * 0.05."""
    interval = bootstrap_interval(np.array([0.0, 1.0] * 50), num_samples=2000, seed=0)
    assert (interval.low, interval.high) == (pytest.approx(0.402, abs=0.02), pytest.approx(0.598, abs=0.02))


def test_interval_of_a_constant_is_a_point() -> None:
    interval = bootstrap_interval(np.full(7, 0.25), num_samples=50, seed=0)
    assert (interval.mean, interval.low, interval.high) == (0.25, 0.25, 0.25)


def test_narrower_level_gives_narrower_interval() -> None:
    values = np.arange(100) / 100
    wide, narrow = (bootstrap_interval(values, 500, seed=0, level=level) for level in (0.95, 0.5))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_interval_repeats_with_its_seed_and_does_not_hang_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(30)
    whole = bootstrap_interval(values, 200, seed=5)
    assert whole == bootstrap_interval(values, 200, seed=5)
    assert whole != bootstrap_interval(values, 200, seed=6)
    monkeypatch.setattr(significance, "VALUES_PER_CHUNK", 64)
    assert whole == bootstrap_interval(values, 200, seed=5)


def test_interval_over_no_users_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        bootstrap_interval(np.array([]), 10, seed=0)


def test_p_value_of_eight_wins_out_of_eight() -> None:
    """Of the 2^8 ways to swap, two are as extreme: all wins and all losses."""
    result = paired_test(np.ones(8), np.zeros(8), num_samples=10_000, seed=0)
    assert result.p_value == pytest.approx(2 / 2**8)
    assert result.difference.mean == 1.0


def test_users_without_a_difference_do_not_change_the_p_value() -> None:
    variant = np.concatenate([np.ones(8), np.full(500, 0.5)])
    baseline = np.concatenate([np.zeros(8), np.full(500, 0.5)])
    result = paired_test(variant, baseline, num_samples=10_000, seed=0)
    assert result.p_value == pytest.approx(2 / 2**8)
    assert result.difference.mean == pytest.approx(8 / 508)


def test_p_value_by_random_swaps() -> None:
    """40 wins and 24 losses: twice the binomial tail P(X >= 40 | 64, 1/2) = 2 * 0.03 = 0.06."""
    variant = np.concatenate([np.ones(40), np.zeros(24)])
    result = paired_test(variant, 1.0 - variant, num_samples=20_000, seed=0)
    assert result.p_value == pytest.approx(0.0599, abs=0.006)


def test_equal_variants() -> None:
    result = paired_test(np.arange(5.0), np.arange(5.0), num_samples=100, seed=0)
    assert result.p_value == 1.0
    assert result.difference.mean == result.difference.low == result.difference.high == 0.0


def test_one_user_who_differs_proves_nothing() -> None:
    result = paired_test(np.array([0.0, 1.0, 0.0]), np.zeros(3), num_samples=100, seed=0)
    assert result.p_value == 1.0
    assert result.difference.mean == pytest.approx(1 / 3)


def test_unpaired_users_are_refused() -> None:
    with pytest.raises(ValueError, match="same users"):
        paired_test(np.ones(3), np.ones(4), 10, seed=0)
