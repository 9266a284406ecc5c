"""The benchmark of feedback sources on eight items: who counts as if nothing was said, and what an answer changes."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from feedback_sources import RE_RANK, Asking, Moments, _base_row, _heard, _rows
from test_ask_clarifications import Favourites
from tiny_features import ITEM_IDS, tiny_features
from voices import Item, Person

from cesrec_core.actors.ask_clarifications import AskClarifications
from cesrec_core.config import Config
from cesrec_core.datasets import Histories
from cesrec_core.evaluation.variants import Evaluator
from cesrec_core.feedback.leaks import LeakCheck
from cesrec_core.feedback.simulated_users import Past
from cesrec_core.feedback.understanding import RuleListener, Signals
from cesrec_core.feedback.vocabulary import CatalogueVocabulary
from cesrec_core.ranking.item_rules import ItemRules
from cesrec_core.ranking.scoring import Scorer

HR = (RE_RANK, "HR@10")
NDCG = (RE_RANK, "NDCG@10")


@pytest.fixture
def world() -> tuple[Evaluator, list[Moments], Asking]:
    """Two users have had i4, i5 and i6. Next came i3 (Red) for ann and i1 for bob; i7 and i2 are the last ones.

    Everybody's order is i0, i1, i2, i3, then the rest alike; even items are Blue, odd ones Red, i0 and i4 Round besides.
    """
    features = dataclasses.replace(tiny_features(), aligned=np.zeros((8, 1), np.float32))
    scorer = Scorer(Favourites(list(ITEM_IDS), 10, 1), features)
    config = Config.model_validate({"evaluate": {"weight_grid": [0.0, 9.0], "num_bootstrap_samples": 100}})
    constructor: Any = SimpleNamespace(device=torch.device("cpu"))
    vocabulary = CatalogueVocabulary.of(features.catalogue)
    evaluator = Evaluator(scorer, constructor, config, RuleListener(vocabulary, 1000))
    codes = np.array([4, 5, 6, 3, 7, 4, 5, 6, 1, 2], dtype=np.int32)
    histories = Histories(["ann", "bob"], codes, np.array([0, 5, 10]))
    catalogue = features.catalogue
    leaks = LeakCheck(catalogue.item_ids, ["Thing"] * 8, catalogue.attributes)
    worker = AskClarifications(Path("unused"), Path("unused"), None, config, "run")
    worker.scorer, worker.rules, worker.names = scorer, ItemRules(), features.attribute_names
    return evaluator, [of_moment(evaluator, histories, moment) for moment in ("validation", "test")], Asking(worker, leaks)


def of_moment(evaluator: Evaluator, histories: Histories, moment: Any) -> Moments:
    cases = evaluator.cases(histories, moment)
    attributes = evaluator.features.catalogue.attributes
    items = [Item(item_id, "Thing", tuple(attributes[code])) for code, item_id in enumerate(ITEM_IDS)]
    people = [
        Person(user_id, items[target], (items[0],), tuple(items[code] for code in had), Past())
        for user_id, target, had in zip(cases.user_ids, cases.targets, cases.codes, strict=True)
    ]
    return Moments(cases, people)


def test_who_says_too_little_counts_as_before_and_an_answer_is_acted_on(world: tuple[Evaluator, list[Moments], Asking]) -> None:
    """On the test items: open to ann are i0, i1, i2 and i7, her target, at the end; to bob i0, i2, i3, i7, and i2 is his.

    Ann's Red leaves i1 alone before i7, which makes rank 2. Bob's Blue leaves i0 before i2, as it was.
    """
    evaluator, moments, asking = world
    base = _base_row(evaluator, moments[1], ())
    rank_4, rank_2 = 1 / np.log2(5), 1 / np.log2(3)
    np.testing.assert_allclose(base.measures[NDCG], [rank_4, rank_2])

    def mumble(person: Person) -> str:
        return "I am not sure" if person.user_id == "ann" else "Blue please"

    alone, asked = _rows(evaluator, moments, "human", mumble, asking, base, ())
    assert alone.is_clear.tolist() == [False, True]
    np.testing.assert_allclose(alone.measures[NDCG], [rank_4, rank_2])
    assert asked.is_clear.tolist() == asked.fits.tolist() == [True, True]
    np.testing.assert_allclose(asked.measures[NDCG], [rank_2, rank_2])
    assert asked.measures[HR].tolist() == [1.0, 1.0]
    assert asked.weights.attribute == 9.0


def test_words_are_understood_by_the_listener_that_the_evaluation_was_given(
    world: tuple[Evaluator, list[Moments], Asking], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that the table's users say goes to it at once, with what each was shown, and so does what people say here."""
    evaluator, moments, _ = world
    read: list[tuple[list[str], list[list[str]]]] = []

    class Wanting:
        def read(self, utterances: list[str], recommended: list[list[str]]) -> list[Signals]:
            read.append((list(utterances), [list(shown) for shown in recommended]))
            return [Signals((), (f"wish {number}",), (), (), (), False, 1.0) for number in range(len(utterances))]

    monkeypatch.setattr(evaluator, "listener", Wanting())
    cases = evaluator.next_round(moments[1].cases, [["i0"], ["i2", "i3"]])
    assert [heard.signals.wanted_attributes for heard in cases.remarks[-1]] == [("wish 0",), ("wish 1",)]
    assert read == [(cases.utterances, [["i0"], ["i2", "i3"]])]
    assert all(cases.utterances)
    assert [heard.signals.wanted_attributes for heard in _heard(evaluator, ["a", "b"], moments[1].people)] == [
        ("wish 0",),
        ("wish 1",),
    ]
    assert read[1] == (["a", "b"], [["i0"], ["i0"]])
