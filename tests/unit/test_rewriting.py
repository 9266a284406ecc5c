import numpy as np
import pytest
import torch
from tiny_features import tiny_features
from tiny_llama import write_tiny_llama

from cesrec_core.constructor.model import ConstructorSettings, ItemConstructor
from cesrec_core.item_lists import ItemLists
from cesrec_core.outliers import OutlierRule, find_outliers
from cesrec_core.rewriting import NOTHING_MASKED, VAGUE_FEEDBACK, Remark, Rewriter, RewriteRequest

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


def rewriter(
    model: ItemConstructor, placement: str = "in_place", inactive: tuple[int, ...] = (), batch_size: int = 8
) -> Rewriter:
    return Rewriter(model, tiny_features(inactive), RULE, placement, batch_size)


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


def test_what_is_put_in_may_move_to_the_recent_end(model: ItemConstructor) -> None:
    in_place = rewriter(model, inactive=(1,)).rewrite([request([0, 1, 2, 3], [1], RED)])[0][0]
    moved = rewriter(model, "recent_end", inactive=(1,)).rewrite([request([0, 1, 2, 3], [1], RED)])[0][0]
    assert moved.codes.tolist() == [0, 2, 3, in_place.codes[1]]
    assert (moved.replaced_positions, moved.replaced_codes) == ([1, 2, 3], [1, 2, 3])
    assert moved.probabilities == [1.0, 1.0, pytest.approx(in_place.probabilities[0], abs=1e-5)]


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
