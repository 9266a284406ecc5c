"""The worker that asks: whose candidates count, and what is asked about them."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from tiny_features import ITEM_IDS, tiny_features

from cesrec_core.actors.ask_clarifications import AskClarifications
from cesrec_core.config import Config
from cesrec_core.ranking.item_rules import ItemRules
from cesrec_core.ranking.scoring import Scorer
from cesrec_core.recommenders import TrainableRecommender


class Favourites(TrainableRecommender):
    """Everybody's score of item_idx n is the n-th number below."""

    scores = torch.tensor([0.0, 3.0, 2.0, 2.0, 1.0, 0.0, 0.0, 0.0, 0.0])

    def states(self, item_idx: torch.Tensor) -> torch.Tensor:
        return torch.ones(*item_idx.shape, 1)

    def item_vectors(self) -> torch.Tensor:
        return self.scores[:, None]


@pytest.fixture
def worker() -> AskClarifications:
    """Items i0 .. i7 in the recommender's order; even ones are Blue, odd ones Red, every fourth Round besides."""
    features = dataclasses.replace(tiny_features(), aligned=np.zeros((8, 1), np.float32))
    made = AskClarifications(Path("unused"), Path("unused"), None, Config(), "run")
    made.scorer = Scorer(Favourites(list(ITEM_IDS), 10, 1), features)
    made.rules = ItemRules.from_rows([("block", "blue alone", "i1")], made.scorer.vocabulary.idx_of)
    made.names = features.attribute_names
    return made


def row(user: str, **changes: Any) -> dict[str, Any]:
    nothing: dict[str, Any] = {
        "wanted_attributes": [],
        "unwanted_attributes": [],
        "wanted_item_ids": [],
        "unwanted_item_ids": [],
    }
    return {
        "user_id": user,
        "feedback_id": f"of {user}",
        "utterance": "hmm",
        "is_vague": True,
        "known_attributes": [],
        "item_ids": ["i4", "i5", "i6", "i7"],
        "pseudo_item_ids": None,
        "closed_item_ids": None,
        "segments": None,
        **nothing,
        **changes,
    }


def asked(worker: AskClarifications, *rows: dict[str, Any]) -> dict[str, dict[str, Any]]:
    types = {name: pa.list_(pa.string()) for name in rows[0] if name.endswith(("_ids", "attributes", "segments"))}
    schema = pa.schema([(name, types.get(name, pa.bool_() if name == "is_vague" else pa.string())) for name in rows[0]])
    return {found["user_id"]: found for found in worker.process(pa.Table.from_pylist(list(rows), schema=schema)).to_pylist()}


def test_the_best_split_of_what_a_user_may_still_get_is_asked_about(worker: AskClarifications) -> None:
    """Left are i0 .. i3 with odds e^3, e^2, e^2, e. i0 and i2 are Blue, i1 and i3 Red, i0 Round too.

    Blue or Red is as good as Blue alone, for all have one of them. Round or Red: Round e^3, Red e^2 + e, neither e^2.
    """
    odds = np.exp([3.0, 2.0, 2.0, 1.0])
    p = odds / odds.sum()
    expected = -sum(share * np.log(share) for share in (p[0], p[1] + p[3], p[2]))
    found = asked(worker, row("u"))["u"]
    assert found["question_attributes"] == ["Red", "Round"]
    assert found["question"] == "Would you rather have red or round?"
    assert found["information_gain"] == pytest.approx(expected)
    assert found["reason"] == "vague_feedback"


def test_rejected_and_forbidden_items_are_no_candidates(worker: AskClarifications) -> None:
    """Without i1 and i3 nothing is Red, and all that is left is Blue: Round is what splits it."""
    rejected = row("u", closed_item_ids=["i1", "i3"])
    forbidden = row("v", closed_item_ids=["i3"], segments=["blue alone"])
    found = asked(worker, rejected, forbidden)
    assert [found[user]["question_attributes"] for user in "uv"] == [["Round"], ["Round"]]


def test_what_is_known_is_not_asked_again_and_a_contradiction_is_asked_about(worker: AskClarifications) -> None:
    known = row("u", known_attributes=["Red", "Blue"])
    conflict = row("v", is_vague=False, wanted_attributes=["Blue"], unwanted_attributes=["Blue"])
    off_topic = row("w", utterance="my phone is broken")
    found = asked(worker, known, conflict, off_topic)
    assert found["u"]["question_attributes"] == ["Round"]
    assert (found["v"]["reason"], found["v"]["question"]) == ("conflicting_feedback", "Would you like blue?")
    assert found["w"]["reason"] == "off_topic_feedback"


def test_where_nothing_is_left_to_tell_apart_the_question_is_open(worker: AskClarifications) -> None:
    alone = row("u", closed_item_ids=["i0", "i1", "i2"])
    found = asked(worker, alone)["u"]
    assert (found["question"], found["question_attributes"]) == ("What would you like more of?", [])
    assert found["information_gain"] == 0.0
