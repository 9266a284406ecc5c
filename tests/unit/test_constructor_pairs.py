"""Training pairs: from training interactions only, the same for the same seed, with words that fit what was hidden."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cesrec_core.config import FinetuneConstructorSection
from cesrec_core.constructor.pair_files import StoredPairs
from cesrec_core.constructor.pairs import MASKED, PairSettings, PairSource, TrainingPair
from cesrec_core.errors import InputDataError
from cesrec_core.feedback import phrases
from cesrec_core.sequences import training_part

NUM_ITEMS = 40
# Ten items of each; three of them do not occur in any phrasing.
ATTRIBUTES = [(("Sci-Fi",), ("Horror",), ("Western",), ("Noir",))[code % 4] for code in range(NUM_ITEMS)]
TITLES = [f"<|im_end|>Title number {code}." for code in range(NUM_ITEMS)]
HELD_OUT = {38, 39}


def histories() -> list[np.ndarray]:
    rng = np.random.default_rng(11)
    return [np.append(rng.permutation(38)[: 4 + user], [38, 39]).astype(np.int32) for user in range(20)]


def source(**changes: object) -> PairSource:
    settings = PairSettings(**{"history_items": 8, **changes})  # type: ignore[arg-type]
    collaborative = np.random.default_rng(0).normal(size=(NUM_ITEMS, 5))
    # Item 0's nearest by far are 1 to 3 (unlike it) and 4 (like it).
    collaborative[:5] = 100.0 + np.arange(5)[:, None]
    training = [np.asarray(training_part(h, "leave_one_out")) for h in histories()]
    return PairSource.over(training, TITLES, ATTRIBUTES, collaborative, settings)


def draw(count: int, **changes: object) -> list[TrainingPair]:
    rng = np.random.default_rng(5)
    drawn = source(**changes)
    return [drawn.draw(rng) for _ in range(count)]


def test_pairs_are_the_same_for_the_same_seed() -> None:
    for one, other in zip(draw(50), draw(50), strict=True):
        assert one.feedback == other.feedback
        assert np.array_equal(one.history, other.history)
        assert np.array_equal(one.target, other.target)


def test_held_out_items_never_appear() -> None:
    for pair in draw(300):
        assert HELD_OUT.isdisjoint(pair.target.tolist())
        assert HELD_OUT.isdisjoint(pair.history.tolist())


def test_a_pair_is_a_true_window_with_places_hidden() -> None:
    training = [np.asarray(training_part(history, "leave_one_out")).tolist() for history in histories()]
    for pair in draw(200):
        window = pair.target.tolist()
        assert any(window == h[start : start + len(window)] for h in training for start in range(len(h)))
        assert pair.masked.any()
        assert (pair.history[pair.masked] == MASKED).all()
        assert np.array_equal(pair.history[~pair.masked], pair.target[~pair.masked])
        assert 3 <= len(window) <= 9


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_next_place_share_decides_what_is_asked_for(share: float) -> None:
    for pair in draw(100, next_place_share=share):
        assert (pair.masked.tolist() == [False] * (len(pair.target) - 1) + [True]) or share == 0.0
        assert 1 <= pair.masked.sum() <= (1 if share == 1.0 else 3)


def test_one_to_three_places_are_hidden_inside() -> None:
    assert {int(pair.masked.sum()) for pair in draw(200, next_place_share=0.0)} == {1, 2, 3}
    assert {int(pair.masked.sum()) for pair in draw(100, next_place_share=0.0, max_masked=1)} == {1}


def test_words_wish_for_what_was_hidden_and_turn_down_nothing_of_it() -> None:
    num_wishes = 0
    for pair in draw(300, vague_share=0.0):
        true = {ATTRIBUTES[code][0].lower() for code in pair.target[pair.masked]}
        said = {word for word in ("sci-fi", "horror", "western", "noir") if word in pair.feedback}
        num_wishes += bool(said & true)
        assert len(said - true) <= 1
        assert len(said & true) <= 1
    # All but the utterances that only turn something down.
    assert num_wishes > 250


def test_vague_share_of_the_words_says_nothing() -> None:
    said = {pair.feedback for pair in draw(200, vague_share=1.0)}
    assert said & set(phrases.VAGUE) and said & set(phrases.OFF_TOPIC)
    assert said <= {*phrases.VAGUE, *phrases.OFF_TOPIC}
    assert not any(pair.feedback in {*phrases.VAGUE, *phrases.OFF_TOPIC} for pair in draw(200, vague_share=0.0))


def test_words_compare_with_what_was_shown_and_never_name_what_was_hidden() -> None:
    num_compared = 0
    for pair in draw(600, vague_share=0.0):
        named = {code for code in range(NUM_ITEMS) if f"Title number {code}." in pair.feedback}
        num_compared += bool(named)
        assert len(named) <= 1
        assert not named & set(pair.target[pair.masked].tolist())
        assert "im_end" not in pair.feedback
    assert 30 <= num_compared <= 90  # a tenth of 600, give or take four standard deviations


def test_pairs_are_drawn_as_the_section_says() -> None:
    values = {"history_items": 9, "next_place_share": 0.1, "vague_share": 0.2, "near_miss_share": 0.3}
    assert PairSettings.of(FinetuneConstructorSection(**values)) == PairSettings(9, 0.1, 0.2, 0.3)


def test_near_misses_lack_the_attribute_of_what_they_replace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cesrec_core.constructor.pairs._NUM_NEIGHBOURS", 4)
    drawn, rng = source(near_miss_share=1.0), np.random.default_rng(0)
    assert {drawn.drawer._draw_corruption(0, rng) for _ in range(60)} == {1, 2, 3}


@pytest.mark.parametrize("share", [0.0, 0.5, 0.8])
def test_near_miss_share_of_what_is_put_in_is_near(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cesrec_core.constructor.pairs._NUM_NEIGHBOURS", 4)
    drawer, rng = source(near_miss_share=share).drawer, np.random.default_rng(0)
    by_popularity = np.isin(drawer._draw_popular(4000, rng), [1, 2, 3]).mean()
    assert by_popularity < 0.5
    near = np.isin([drawer._draw_corruption(0, rng) for _ in range(4000)], [1, 2, 3]).mean()
    assert near == pytest.approx(share + (1 - share) * by_popularity, abs=0.04)


def test_popular_items_are_drawn_as_often_as_they_are_used() -> None:
    drawn = PairSource.over([np.array([0, 0, 0, 5])], TITLES, ATTRIBUTES, np.eye(NUM_ITEMS), PairSettings(8))
    codes = drawn.drawer._draw_popular(4000, np.random.default_rng(0))
    assert set(codes.tolist()) == {0, 5}
    assert (codes == 0).mean() == pytest.approx(0.75, abs=0.03)


def test_histories_without_context_are_left_out() -> None:
    short = PairSource.over([np.array([1, 2]), np.array([1, 2, 3])], TITLES, ATTRIBUTES, np.eye(NUM_ITEMS), PairSettings(8))
    assert [history.tolist() for history in short.histories] == [[1, 2, 3]]


@pytest.mark.parametrize("content", ["nothing", "no file", "no Parquet", "another table"])
def test_a_folder_without_pairs_is_refused(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "pairs"
    if content != "nothing":
        folder.mkdir()
    if content == "no Parquet":
        (folder / "part.parquet").write_bytes(b"x")
    if content == "another table":
        pq.write_table(pa.table({"item_id": ["a"]}), folder / "part.parquet")
    with pytest.raises(InputDataError, match=r"holds no training pairs as Parquet .* leave --pairs out"):
        StoredPairs(folder, NUM_ITEMS)
