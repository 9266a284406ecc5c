"""The rows of the equal-information table: what each reads, on histories small enough to follow by hand."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cesrec_core.config import Config
from cesrec_core.errors import ConfigError
from cesrec_core.evaluation.metrics import UNREACHABLE
from cesrec_core.evaluation.variants import (
    COMPARISONS,
    REWRITINGS,
    VARIANTS,
    Cases,
    Heard,
    Parts,
    Variant,
    Weights,
    choose_weights,
    variants_named,
)
from cesrec_core.feedback.understanding import Signals
from cesrec_core.rewriting.outliers import OutlierRule

ITEMS = ["a", "b", "c", "d", "e", "f"]


@pytest.fixture
def parts() -> Parts:
    """Items a to d lie together, e and f opposite; f is inactive and the most popular, then e, d, ..."""
    vectors = np.array([[1, 0.1], [1, 0], [1, 0.2], [1, 0.3], [-1, 0], [-1, 0.1]], dtype=np.float32)
    features = SimpleNamespace(
        catalogue=SimpleNamespace(item_ids=ITEMS), is_active=np.array([True] * 5 + [False]), in_space=lambda space: vectors
    )
    scorer = SimpleNamespace(allowed=torch.tensor([False, *[True] * 5, False]))
    evaluator: Any = SimpleNamespace(rule=OutlierRule(1, 2, 20), features=features, scorer=scorer)
    histories = [["a", "e", "b"], ["a", "b", "c"], ["e", "d", "f"]]
    codes = [np.array([ITEMS.index(item) for item in history]) for history in histories]
    popularity = np.array([1, 2, 3, 4, 5, 6])
    targets = np.array([2, 3, 0])
    cases = Cases("test", ["u", "v", "w"], histories, codes, targets, targets + 1, [], popularity)
    return Parts(evaluator, cases, lambda amount: None)


def test_popular_items_stand_in_the_masked_places_and_nowhere_else(parts: Parts) -> None:
    """The outliers are e, b and d; the most popular active item that is new to the user is d, e and c."""
    assert parts.sequences("popular") == [["a", "d", "b"], ["a", "e", "c"], ["e", "c", "f"]]


def test_mask_only_leaves_the_same_places_out(parts: Parts) -> None:
    assert parts.sequences("masked") == [["a", "b"], ["a", "c"], ["e", "f"]]


def test_feedback_alone_asks_no_recommender(parts: Parts) -> None:
    """The evaluator here has none: an answer can only come from the words."""
    attributes = torch.zeros(3, 7)
    attributes[:, 3] = 1.0
    parts.__dict__["match"] = SimpleNamespace(attributes=attributes, aligned=torch.zeros(3, 7))
    scores = parts.scores(Variant("feedback alone", "nothing", has_match=True), Weights(attribute=2.0))
    assert scores.tolist() == [[0, 0, 0, 2, 0, 0, 0]] * 3


def test_later_words_outweigh_earlier_ones_in_the_match(parts: Parts) -> None:
    """u changes their mind about red; v says the same of an item; w adds to what they said, and x contradicts themselves."""

    def heard(wanted: str = "", unwanted: str = "", wanted_items: str = "", unwanted_items: str = "") -> Heard:
        named = [tuple(names.split()) for names in (wanted, unwanted, wanted_items, unwanted_items)]
        return Heard("words", Signals(("critique_add",), *named, is_vague=False, confidence=1.0))

    first = [heard("red", "blue"), heard(wanted_items="a"), heard("red"), heard("red")]
    second = [
        heard("blue", "red"),
        heard(unwanted_items="a", wanted_items="b"),
        heard("round", "blue"),
        heard("blue", "blue red"),
    ]
    asked: list[list[tuple[str, ...]]] = []
    parts.evaluator.scorer.match = lambda *names: asked.extend(names)  # type: ignore[method-assign]
    two_rounds = Parts(parts.evaluator, dataclasses.replace(parts.cases, remarks=[first, second]), parts.advance)
    assert two_rounds.match is None
    assert asked == [
        [("blue",), (), ("red", "round"), ("red",)],
        [("red",), (), ("blue",), ()],
        [(), ("b",), (), ()],
        [(), ("a",), (), ()],
    ]
    assert two_rounds.cases.utterances == ["words"] * 4


@pytest.mark.parametrize("seed", range(8))
def test_negatives_are_what_the_user_could_have_been_shown(parts: Parts, seed: int) -> None:
    """Of u's open items d, which stands before their target c, is the one that may be shown; f, which may not, stands last.

    v wants a, which they have had, and w wants f: no list holds these, whatever their scores are.
    """
    evaluator: Any = parts.evaluator
    evaluator.config = Config.model_validate({"evaluate": {"num_negatives": 1}, "run": {"seed": seed}})
    evaluator.constructor = SimpleNamespace(device=torch.device("cpu"))
    evaluator.scorer.vocabulary = range(6)
    evaluator.scorer.read = lambda histories: SimpleNamespace(idx=[codes + 1 for codes in parts.cases.codes])
    scores = torch.tensor([[-torch.inf, 9.0, 0.0, 1.0, 2.0, 0.0, -torch.inf]] * 3)
    wanted = Parts(evaluator, dataclasses.replace(parts.cases, target_idx=np.array([3, 1, 6])), parts.advance)
    wanted.__dict__["_base"] = {"history": scores}
    base = Variant("base", "history")
    full = wanted.full_ranks(base, [Weights()])[0]
    assert wanted.sampled_ranks(base, Weights(), full).tolist() == [2, UNREACHABLE, UNREACHABLE]


def test_variants_without_words_have_no_weights(parts: Parts) -> None:
    assert choose_weights(parts, Variant("base", "history"), [1.0, 2.0]) == Weights()


def test_names_are_distinct_and_comparisons_are_of_rows_of_the_table() -> None:
    names = [variant.name for variant in VARIANTS]
    assert len(set(names)) == len(names)
    assert {name for pair in COMPARISONS for name in pair} <= set(names)
    assert {variant.sequence for variant in VARIANTS} == {"history", "masked", "popular", "nothing", *REWRITINGS}


def test_rows_are_chosen_by_name_and_the_base_is_among_them() -> None:
    assert variants_named([]) == VARIANTS
    chosen = variants_named(["CESRec", "base + re-rank"])
    assert [variant.name for variant in chosen] == ["base", "base + re-rank", "CESRec"]
    with pytest.raises(ConfigError, match=r"evaluate\.variants: there is no row 'cesrec'\. There are: base, base \+ re-rank, "):
        variants_named(["CESRec", "cesrec"])
