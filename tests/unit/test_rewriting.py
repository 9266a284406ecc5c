import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from tiny_features import ITEM_IDS, tiny_features
from tiny_llama import write_tiny_llama

from cesrec_core.config import ConstructSection
from cesrec_core.constructor.construction import Construction, ItemDecoder, construct, next_place_scores
from cesrec_core.constructor.decoding import NO_ITEM, ConstructionRequest, Decoding
from cesrec_core.constructor.model import ConstructorSettings, ItemConstructor
from cesrec_core.feedback.clarity import VAGUE_FEEDBACK
from cesrec_core.item_lists import ItemLists
from cesrec_core.ranking.scoring import Scorer
from cesrec_core.recommenders import TrainableRecommender
from cesrec_core.rewriting.fallbacks import DRIFT, ENDPOINT_FAILED, NOTHING_MASKED, SAME_WORDS
from cesrec_core.rewriting.foresight import Expectation
from cesrec_core.rewriting.likelihood import likelihood_drops
from cesrec_core.rewriting.outliers import OutlierRule, find_outliers
from cesrec_core.rewriting.rewriter import Remark, Rewriter, RewriteRequest, item_decoder

RULE = OutlierRule(num_masked=1, min_kept_items=2, max_history_items=4)
RED = Remark("f1", "something red, please", is_vague=False)
VAGUE = Remark("f2", "hmm", is_vague=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ItemConstructor:
    folder = write_tiny_llama(tmp_path_factory.mktemp("llama"))
    torch.manual_seed(1)
    built = ItemConstructor.build(folder, ConstructorSettings(lora_rank=2, history_items=4), tiny_features().for_constructor())
    with torch.no_grad():
        for name, parameter in built.trainable().items():
            if "lora_B" in name or name.endswith("_vector"):
                parameter.normal_(std=0.5)
            if name.endswith("query.weight"):
                parameter.normal_(std=0.7)
    return built.eval()


def rewriter(model: ItemConstructor, inactive: tuple[int, ...] = (), **settings: Any) -> Rewriter:
    features = tiny_features(inactive)
    # Vectors of its own, so wide that every item has a direction to itself.
    scorer = Scorer(NextInLine(list(ITEM_IDS), 10, 8), dataclasses.replace(features, aligned=np.zeros((8, 8), np.float32)))
    section = ConstructSection(**settings)
    return Rewriter(item_decoder(model, section, 0, scorer), features, RULE, section, scorer)


class NextInLine(TrainableRecommender):
    """After item_idx n comes n + 1, with a score of 4 against 0 for all others; after the last nothing in particular."""

    def states(self, item_idx: torch.Tensor) -> torch.Tensor:
        return 4 * torch.nn.functional.pad(torch.eye(8), (0, 0, 0, 1))[item_idx]

    def item_vectors(self) -> torch.Tensor:
        return torch.nn.functional.pad(torch.eye(8), (0, 0, 1, 0))


def request(codes: list[int], masked: list[int], *remarks: Remark) -> RewriteRequest:
    return RewriteRequest(np.array(codes), masked, remarks)


def test_only_masked_places_change_and_the_change_is_told(model: ItemConstructor) -> None:
    # The item at the masked place is inactive, so something else must come.
    ((done,),) = rewriter(model, inactive=(1,)).rewrite([request([0, 1, 2, 3], [1], RED)])
    assert done.fallback_reason is None
    assert done.feedback_id == "f1"
    assert done.codes[[0, 2, 3]].tolist() == [0, 2, 3]
    assert done.codes[1] in {4, 5, 6, 7}
    assert (done.replaced_positions, done.replaced_codes) == ([1], [1])
    assert len(done.probabilities) == 1
    assert 0 < done.probabilities[0] <= 1


def test_at_the_recent_end_the_last_place_is_asked_for(model: ItemConstructor) -> None:
    """It must be what the Constructor says of the place after 0, 2 and 3, the items that stay."""
    features = tiny_features(inactive=(1,))
    (last,) = construct(model, [ConstructionRequest(np.array([0, 2, 3, 1]), [3], RED.utterance, features.is_active)])
    moved = rewriter(model, placement="recent_end", inactive=(1,)).rewrite([request([0, 1, 2, 3], [1], RED)])[0][0]
    assert moved.codes.tolist() == [0, 2, 3, last.item_codes[3]]
    assert (moved.replaced_positions, moved.replaced_codes) == ([1, 2, 3], [1, 2, 3])
    assert moved.probabilities == [1.0, 1.0, pytest.approx(last.decisions[0].probability, abs=1e-5)]
    assert moved.margins == [1.0, 1.0, pytest.approx(last.decisions[0].margin, abs=1e-5)]
    assert moved.runner_ups == [NO_ITEM, NO_ITEM, last.decisions[0].runner_up]


def test_at_the_recent_end_an_item_that_is_kept_stays_where_it_is(model: ItemConstructor) -> None:
    everything_else = tuple(code for code in range(8) if code != 1)
    rewrite = rewriter(model, placement="recent_end", inactive=everything_else)
    ((done,),) = rewrite.rewrite([request([0, 1, 2, 3], [1], RED)])
    assert done.codes.tolist() == [0, 1, 2, 3]
    assert (done.replaced_positions, done.fallback_reason) == ([], None)


def test_a_vague_remark_keeps_the_history(model: ItemConstructor) -> None:
    ((done,),) = rewriter(model, inactive=(1,)).rewrite([request([0, 1, 2, 3], [1], VAGUE)])
    assert done.codes.tolist() == [0, 1, 2, 3]
    assert (done.fallback_reason, done.replaced_positions, done.probabilities) == (VAGUE_FEEDBACK, [], [])


def test_without_a_mask_the_history_is_kept(model: ItemConstructor) -> None:
    ((done,),) = rewriter(model).rewrite([request([0, 1], [], RED)])
    assert done.codes.tolist() == [0, 1]
    assert (done.fallback_reason, done.feedback_id) == (NOTHING_MASKED, "f1")


def test_every_remark_is_a_round_on_the_history_before_it(model: ItemConstructor) -> None:
    """All but the items of the history and 4 are inactive: what the rounds do follows from the masks alone."""
    rewrite = rewriter(model, inactive=(0, 1, 2, 3, 5, 6, 7))
    rounds, silent = rewrite.rewrite([request([0, 1, 2, 3], [1], RED, VAGUE, RED), request([5, 6, 7], [0])])
    assert silent == []
    first, second, third = rounds
    assert first.codes.tolist() == second.codes.tolist() == [0, 4, 2, 3]
    assert second.fallback_reason == VAGUE_FEEDBACK
    (outliers,) = find_outliers(ItemLists.of([first.codes]), torch.from_numpy(tiny_features().aligned), RULE)
    (place,) = outliers.positions.tolist()
    # 4 is the only candidate, and stands in the history already unless it is what is masked: then it may stay.
    assert third.codes.tolist() == first.codes.tolist()
    assert place in range(4)


def test_unwanted_items_are_never_put_in(model: ItemConstructor) -> None:
    """Of the active items outside the history, 4 to 7, all but one are turned down by name."""
    for wanted in (4, 5, 6, 7):
        unwanted = tuple(f"i{code}" for code in (1, 4, 5, 6, 7) if code != wanted)
        remark = Remark("f1", "something red, please", False, (*unwanted, "unheard of"))
        ((done,),) = rewriter(model).rewrite([request([0, 1, 2, 3], [1], remark)])
        assert done.codes.tolist() == [0, wanted, 2, 3]
        assert done.probabilities == [pytest.approx(1.0)]


def test_what_was_turned_down_stays_out_in_later_rounds(model: ItemConstructor) -> None:
    features = tiny_features()
    for attribute in features.attribute_names:
        has_it = features.has_any_attribute([attribute])
        no = Remark("f1", f"no {attribute}, nor that one", False, ("i4",), (attribute,))
        later = [Remark(f"f{number}", f"something {attribute}", False) for number in (2, 3)]
        (rounds,) = rewriter(model).rewrite([request([0, 1, 2, 3], [1], no, *later)])
        put_in = [done.codes[place] for done in rounds for place in done.replaced_positions]
        assert put_in and not has_it[put_in].any() and 4 not in put_in


def test_what_is_asked_for_since_may_come_back(model: ItemConstructor) -> None:
    """All but 4 is turned down, and then 5 is asked for: where 4 stands in the history, 5 is all that is left."""
    no = Remark("f1", "only that one", False, tuple(f"i{code}" for code in (1, 2, 5, 6, 7)))
    yes = Remark("f2", "that one, then", False, (), (), ("i5",))
    (first, second) = rewriter(model).rewrite([request([0, 1, 2, 3], [1], no, yes)])[0]
    assert first.codes.tolist() == [0, 4, 2, 3]
    assert set(second.codes[second.replaced_positions]) <= {5}
    allowed = rewriter(model)._allowed([no, yes], np.zeros(0, np.int64), np.ones(8, dtype=bool))
    assert np.flatnonzero(allowed).tolist() == [0, 3, 4, 5]


def test_words_of_two_minds_turn_nothing_down(model: ItemConstructor) -> None:
    """Their history stays as it is, and so do the items that may come in."""
    both = Remark("f1", "red, not red", False, ("i4",), ("Red",), (), ("Red",))
    assert rewriter(model)._allowed([both, VAGUE], np.zeros(0, np.int64), np.ones(8, dtype=bool)).all()


def test_items_with_an_unwanted_attribute_are_never_put_in_nor_kept_where_masked(model: ItemConstructor) -> None:
    """Each attribute in turn: what is put in does not have it, though the words that the Constructor reads ask for it."""
    features = tiny_features()
    for attribute in features.attribute_names:
        has_it = features.has_any_attribute([attribute])
        assert has_it.any() and not has_it.all()
        remark = Remark("f1", f"something {attribute}, please", False, (), (attribute, "unheard of"))
        ((done,),) = rewriter(model).rewrite([request([0, 1, 2, 3], [1], remark)])
        assert not has_it[done.codes[1]]


def test_what_lies_before_the_window_is_not_touched_and_not_repeated(model: ItemConstructor) -> None:
    """The window is 4 long: 7, 6 and 5 are older. The only candidate in the window's stead is 4."""
    ((done,),) = rewriter(model, inactive=(1,)).rewrite([request([7, 6, 5, 0, 1, 2, 3], [4], RED)])
    assert done.codes.tolist() == [7, 6, 5, 0, 4, 2, 3]
    assert (done.replaced_positions, done.replaced_codes) == ([4], [1])


@pytest.mark.parametrize("batch_size", [1, 8])
def test_a_user_does_not_depend_on_the_others(model: ItemConstructor, batch_size: int) -> None:
    asked = [
        request([0, 1, 2, 3], [1], RED, RED),
        request([5, 6, 7], [2], Remark("f3", "blue and round", False)),
        request([7, 6, 5, 4, 3, 2], [3], RED, VAGUE, RED),
        request([1, 2], [], VAGUE),
    ]
    together = rewriter(model, batch_size=batch_size).rewrite(asked)
    for one, rounds in zip(asked, together, strict=True):
        (alone,) = rewriter(model).rewrite([one])
        assert [done.codes.tolist() for done in alone] == [done.codes.tolist() for done in rounds]
        for a, b in zip(alone, rounds, strict=True):
            assert a.probabilities == pytest.approx(b.probabilities, abs=1e-4)


def test_nobody_is_no_work(model: ItemConstructor) -> None:
    assert rewriter(model).rewrite([]) == []


def test_the_same_words_again_are_not_asked_again_when_they_changed_nothing(model: ItemConstructor) -> None:
    """Only what stands there already may be put in: the first round keeps it, and words that are new are heard again."""
    rewrite = rewriter(model, inactive=tuple(code for code in range(8) if code != 1))
    again, new = dataclasses.replace(RED, feedback_id="f2"), Remark("f3", "something blue, then", False)
    (rounds,) = rewrite.rewrite([request([0, 1, 2, 3], [1], RED, again, new)])
    assert [done.fallback_reason for done in rounds[:2]] == [None, SAME_WORDS]
    assert rounds[2].fallback_reason != SAME_WORDS
    assert [done.feedback_id for done in rounds] == ["f1", "f2", "f3"]

    # Where an endpoint did not answer, nothing is known of what the words do.
    class Gone:
        history_items = 4

        def construct(self, asked: Sequence[ConstructionRequest]) -> list[Construction]:
            return [Construction(one.history, (), fallback_reason=ENDPOINT_FAILED) for one in asked]

    rewrite_by_gone = Rewriter(Gone(), tiny_features(), rewrite.rule, rewrite.settings)
    (rounds_of_gone,) = rewrite_by_gone.rewrite([request([0, 1, 2, 3], [1], RED, again)])
    assert [done.fallback_reason for done in rounds_of_gone] == [ENDPOINT_FAILED, ENDPOINT_FAILED]
    # "Not that one", of another list.
    of_another = dataclasses.replace(again, unwanted_item_ids=(ITEM_IDS[1],))
    (rounds,) = rewrite.rewrite([request([0, 1, 2, 3], [1], RED, of_another)])
    assert rounds[1].fallback_reason != SAME_WORDS


def test_only_the_base_recommenders_best_are_candidates_where_that_is_asked_for(model: ItemConstructor) -> None:
    """After item 3 comes item 4; the others are as good as each other, and the next of them is 1."""
    ((one,),) = rewriter(model, inactive=(1,), num_candidates=1).rewrite([request([0, 1, 2, 3], [1], RED)])
    assert one.codes.tolist() == [0, 4, 2, 3]
    assert one.probabilities == [1.0]
    assert one.runner_ups == [NO_ITEM]
    ((two,),) = rewriter(model, inactive=(1,), num_candidates=2).rewrite([request([0, 1, 2, 3], [1], RED)])
    assert two.codes[1] in {4, 5}
    assert two.runner_ups in ([4], [5])
    assert two.probabilities[0] - two.margins[0] == pytest.approx(1 - two.probabilities[0])


def test_drift_is_what_kept_items_lose(model: ItemConstructor) -> None:
    """By hand: of 0 1 2 3, once 1 is gone, 2 falls from e^4 in e^4 + 7 to 1 in e^4 + 7, and 3 follows 2 as before."""
    scorer = rewriter(model).scorer
    before = ItemLists.of([np.array([0, 1, 2, 3]), np.array([5, 6])])
    after = ItemLists.of([np.array([0, 5, 2, 3]), np.array([5, 1])])
    assert likelihood_drops(scorer, before, after) == pytest.approx([4 / 2, 0.0], abs=1e-6)


def test_a_round_after_which_kept_items_are_too_unlikely_is_undone(model: ItemConstructor) -> None:
    asked = [request([0, 1, 2, 3], [1], RED, VAGUE), request([0, 1, 2, 3], [3], RED)]
    free, _ = rewriter(model, inactive=(1, 3)).rewrite(asked)
    assert free[0].replaced_positions == [1]
    (undone, after), (other,) = rewriter(model, inactive=(1, 3), max_likelihood_drop=1.9).rewrite(asked)
    assert undone.codes.tolist() == after.codes.tolist() == [0, 1, 2, 3]
    assert (undone.fallback_reason, undone.replaced_positions, undone.probabilities) == (DRIFT, [], [])
    # The newest item is the context of nothing.
    assert other.fallback_reason is None and other.replaced_positions == [3]
    ((kept, _), _) = rewriter(model, inactive=(1, 3), max_likelihood_drop=2.1).rewrite(asked)
    assert kept.codes.tolist() == free[0].codes.tolist()


def test_without_a_recommender_what_needs_one_says_so(model: ItemConstructor) -> None:
    rewrite = Rewriter(ItemDecoder(model), tiny_features(), RULE, ConstructSection(num_candidates=5))
    with pytest.raises(ValueError, match="base recommender"):
        rewrite.rewrite([request([0, 1, 2, 3], [1], RED)])


def test_foresight_puts_in_what_makes_the_recommender_expect_the_next_item(model: ItemConstructor) -> None:
    """The newest place decides what this recommender expects: the item's successor. So the best is the predecessor of what
    the Constructor finds likeliest next, among those that have a predecessor that may be put in."""
    rewrite = rewriter(model, decoding="foresight")
    ((done,),) = rewrite.rewrite([request([0, 1, 2, 3], [3], RED)])
    allowed = np.array([code not in (0, 1, 2, 3) for code in range(8)])
    (after,) = next_place_scores(model, [ConstructionRequest(np.array([0, 1, 2, 3]), [], RED.utterance, allowed)])
    # 3 may stay, and is the predecessor of 4; nothing comes before 0.
    best = max((3, 4, 5, 6, 7), key=lambda code: float(after[code + 1].exp()) if code < 7 else 0.0)
    assert done.codes.tolist() == [0, 1, 2, best]
    assert best != construct(model, [ConstructionRequest(np.array([0, 1, 2, 3]), [3], RED.utterance)])[0].item_codes[3]


@pytest.mark.parametrize("scores_per_batch", [2**24, 18, 1])
def test_foresight_is_an_expectation_over_what_comes_next(
    model: ItemConstructor, monkeypatch: pytest.MonkeyPatch, scores_per_batch: int
) -> None:
    """By hand: 4 nats for the successor, over e^4 + 7 in all; item 4 comes next three times out of four, item 6 else.

    In one batch, two by two (of 8 items and the padding), and one by one.
    """
    monkeypatch.setattr("cesrec_core.rewriting.foresight.SCORES_PER_BATCH", scores_per_batch)
    after = torch.full((8,), -torch.inf)
    after[4], after[6] = math.log(0.75), math.log(0.25)
    judge = Expectation(rewriter(model).scorer, np.array([7]), after, num_proposals=1)
    assert list(judge.proposals) == [4]
    rated = judge.rate(np.array([0, 1]), 1, [3, 5, 2])
    assert rated + math.log(math.exp(4) + 7) == pytest.approx([0.75 * 4, 0.25 * 4, 0.0], abs=1e-6)


def test_of_items_that_are_as_good_foresight_takes_the_likeliest(model: ItemConstructor) -> None:
    class Indifferent:
        """But for the last digits."""

        proposals = (5, 6, 7)

        def rate(self, codes: np.ndarray, place: int, items: Sequence[int]) -> np.ndarray:
            return 1e-9 * np.arange(len(items))

    asked = ConstructionRequest(np.array([0, 1, 2, 3]), [1], RED.utterance, judge=Indifferent())
    (likeliest,), (foreseen,) = (construct(model, [asked], decoding=Decoding(way)) for way in ("greedy", "foresight"))
    assert foreseen.item_codes.tolist() == likeliest.item_codes.tolist()


def test_foresight_without_a_judge_says_so(model: ItemConstructor) -> None:
    with pytest.raises(ValueError, match="judge"):
        construct(model, [ConstructionRequest(np.array([0, 1]), [1], "red")], decoding=Decoding("foresight"))


@pytest.mark.parametrize("decoding", ["beam", "sampling", "foresight"])
def test_other_ways_of_decoding_do_not_depend_on_the_batch_either(model: ItemConstructor, decoding: str) -> None:
    asked = [request([0, 1, 2, 3], [1, 3], Remark(f"f{n}", words, False)) for n, words in enumerate(["red", "blue", "round"])]
    together = rewriter(model, decoding=decoding).rewrite(asked)
    alone = [rewriter(model, decoding=decoding).rewrite([one])[0] for one in reversed(asked)][::-1]
    for (one,), (other,) in zip(together, alone, strict=True):
        assert one.codes.tolist() == other.codes.tolist()
        assert math.isclose(sum(one.probabilities), sum(other.probabilities), abs_tol=1e-4)
