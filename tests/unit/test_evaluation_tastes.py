"""Quartiles of taste over a stand-in whose ranks depend on the user: means and differences by hand."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cesrec_core.evaluation.tastes import TASTE_COMPARISONS, by_taste
from cesrec_core.evaluation.text import tastes_as_text
from cesrec_core.evaluation.variants import VARIANTS, Variant, Weights, variants_named

# Items 0 to 3 have one attribute each.
ATTRIBUTES = [("red",), ("blue",), ("green",), ("white",)]
# Two users each of 0, 1, log2 3 and 2 bits.
CODES = [[0, 1, 2, 3], [0], [1, 2], [0, 1, 2], [3, 3], [0, 3], [1, 2, 3], [3, 2, 1, 0]]


def stand_in() -> Any:
    """The base finds every target in third place; the rewrite puts it first for 0 bits, and loses it for 2."""

    def full_ranks(variant: Variant, choices: list[Weights]) -> np.ndarray:
        assert choices == [Weights(attribute=4.0 if variant.has_match else 0.0)]
        ranks = np.full(len(CODES), 3)
        if variant.name == "CESRec":
            ranks[[1, 4]], ranks[[0, 7]] = 1, 50
        return ranks[None]

    catalogue = SimpleNamespace(attributes=ATTRIBUTES)
    features = SimpleNamespace(catalogue=catalogue)
    cases = SimpleNamespace(codes=[np.array(codes) for codes in CODES])
    return SimpleNamespace(evaluator=SimpleNamespace(features=features), cases=cases, full_ranks=full_ranks)


WEIGHTS = {variant.name: Weights(attribute=4.0 if variant.has_match else 0.0) for variant in VARIANTS}


def test_a_variant_that_helps_some_and_harms_others_is_seen() -> None:
    """NDCG@10 of rank 3 is 1/2, of rank 1 it is 1, and beyond 10 it is 0."""
    tastes = by_taste(stand_in(), WEIGHTS, VARIANTS, 100, 1)
    assert [taste.num_users for taste in tastes] == [2, 2, 2, 2]
    assert [taste.lowest for taste in tastes] == pytest.approx([0.0, 1.0, np.log2(3), 2.0])
    assert [taste.highest for taste in tastes] == pytest.approx([0.0, 1.0, np.log2(3), 2.0])
    assert [taste.base.mean for taste in tastes] == pytest.approx([0.5] * 4)
    gains = [taste.tests["CESRec against base"].difference.mean for taste in tastes]
    assert gains == pytest.approx([0.5, 0.0, 0.0, -0.5])
    assert [taste.tests["mask only against base"].p_value for taste in tastes] == [1.0] * 4
    text = tastes_as_text(tastes, "Tastes").splitlines()
    assert text[2] == (
        "| NDCG@10, full | 2 users, 0.00 to 0.00 bits | 2 users, 1.00 to 1.00 bits | "
        "2 users, 1.58 to 1.58 bits | 2 users, 2.00 to 2.00 bits |"
    )
    assert text[4].startswith("| base | 0.500 [0.500, 0.500] |")
    assert "| CESRec against base | +0.5000 [+0.5000, +0.5000] | +0.0000 [+0.0000, +0.0000] |" in text[6]
    assert len(text) == 5 + len(TASTE_COMPARISONS)


def test_tastes_that_tie_share_a_quartile_and_nobody_is_lost() -> None:
    parts = stand_in()
    parts.cases.codes = [np.array([0])] * len(CODES)
    (taste,) = by_taste(parts, WEIGHTS, VARIANTS, 100, 1)
    assert (taste.num_users, taste.lowest, taste.highest) == (len(CODES), 0.0, 0.0)


def test_what_was_not_measured_is_not_compared() -> None:
    tastes = by_taste(stand_in(), WEIGHTS, variants_named(["CESRec", "CESRec + re-rank"]), 100, 1)
    assert [list(taste.tests) for taste in tastes] == [["CESRec against base"]] * 4


def test_comparisons_are_of_variants() -> None:
    assert {name for pair in TASTE_COMPARISONS for name in pair} <= {variant.name for variant in VARIANTS}
