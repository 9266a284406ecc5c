"""Pictures of one made-up person: what is coloured, joined and told."""

import dataclasses

import pytest
from drawn import colour_of, lengths_of_bars, words_on
from matplotlib.colors import to_hex
from report_values import HOSTILE

from cesrec_core.report.contents import Replacement, Rewrite
from cesrec_core.report.pictures import BAD, GOOD, INK, TWO
from cesrec_core.report.story import HistoryPlace, Listed, Said, StoryRound, UserStory
from cesrec_core.report.story_figures import (
    history_figure,
    lists_figure,
    masked_table,
    parts_figure,
    rewrite_figure,
    rewrites_table,
    said_figure,
    said_table,
)
from cesrec_core.rewriting.outliers import Explanation, Neighbour

STRAY = Explanation(1, True, None, 0.1, 1, 3, 4.26, [Neighbour(0, 0.31)])
HISTORY = (
    HistoryPlace(0, "b", "Babe", ("Comedy",), False, 0.8),
    HistoryPlace(1, "h", "Heat $x^{", ("Crime",), True, 0.1, STRAY, "Clueless"),
    HistoryPlace(2, "e", "Emma", (), False, None),
    HistoryPlace(3, "f", "Fargo", (), False, 0.9),
)
SAID = (
    Said(1, "less crime, more comedy", "human", ("critique_add",), ("Comedy",), ("Crime",), (), ("Heat",), False, 0.9),
    Said(2, HOSTILE, "human", ("other",), (), (), (), (), True, 0.2),
)
ROUNDS = (
    StoryRound(1, (Replacement("Heat", "Clueless", 0.6, "Big", 0.35),)),
    StoryRound(2, (), "vague_feedback"),
)


def listed(rank: int, item_id: str, *attributes: str, words: float = 0.0) -> Listed:
    return Listed(
        rank,
        item_id,
        f"Item {item_id}",
        attributes,
        words - 3,
        {"base": -3.0, "attributes": words, "aligned": 0, "constructor": 0},
    )


STORY = UserStory(
    "run",
    HISTORY,
    SAID,
    ROUNDS,
    before=(listed(1, "x", "Crime"), listed(2, "y", "Drama")),
    after=(listed(1, "z", "Comedy", words=2.0), listed(2, "x", "Crime")),
)
SILENT = dataclasses.replace(STORY, said=(), rounds=(), after=STORY.before)


def test_masked_places_stand_out_and_say_by_how_much() -> None:
    picture = history_figure(STORY)
    told = "masked: 4.3 deviations below the median · Crime"
    assert {"Babe", "Heat $x^{", "Fargo", told} <= set(words_on(picture))
    assert colour_of(picture, "masked: ") == TWO
    # What the mask did not read has no place.
    assert "Emma" not in words_on(picture)
    assert picture.axes[0].collections[1].get_offsets()[:, 0].tolist() == pytest.approx([0.8, 0.1, 0.9])


def test_a_history_that_nothing_is_known_of_says_so() -> None:
    unread = dataclasses.replace(STORY, history=HISTORY[2:3])
    assert any("no item has a vector" in words for words in words_on(history_figure(unread)))


def test_masked_items_are_explained() -> None:
    assert masked_table(STORY).rows == (("1", "Heat $x^{", "0.100", "1 of 3", "Clueless", "Babe (0.31)"),)


def test_words_are_quoted_and_what_they_mean_is_coloured() -> None:
    picture = said_figure(STORY)
    assert "“less crime, more comedy”" in words_on(picture)
    assert [colour_of(picture, words) for words in ("+ Comedy", "− Crime", "− Heat", "vague")] == [GOOD, BAD, BAD, TWO]
    assert "Nothing was said." in words_on(said_figure(SILENT))


def test_what_does_not_fit_into_a_row_stands_in_the_next() -> None:
    said = dataclasses.replace(SAID[0], wanted=tuple(f"an attribute of some length {number}" for number in range(9)))
    texts = {text.get_text(): text for text in said_figure(dataclasses.replace(STORY, said=(said,))).axes[0].texts}
    rows = {text.get_position()[1] for words, text in texts.items() if words.startswith("+ ")}
    assert len(rows) > 2
    assert all(0 <= text.get_position()[0] <= 10 for text in texts.values())


def test_the_rewrite_shows_both_candidates() -> None:
    picture = rewrite_figure(STORY)
    assert lengths_of_bars(picture) == pytest.approx([0.6, 0.25])
    assert {" Clueless  0.600", " Big  0.250", "round 1: Heat left"} <= set(words_on(picture))


def test_a_kept_history_says_why() -> None:
    kept = dataclasses.replace(STORY, rounds=(ROUNDS[1], StoryRound(3, ())))
    assert "The history was kept: vague feedback, nothing better was found." in words_on(rewrite_figure(kept))
    assert "Nothing was said, so nothing was rewritten." in words_on(rewrite_figure(SILENT))


def test_lists_stand_side_by_side() -> None:
    picture = lists_figure(STORY)
    assert {"Item x  1", "Item y  2", "1  Item z", "2  Item x"} <= set(words_on(picture))
    colours = [colour_of(picture, words) for words in ("Item x", "Item y", "Item z")]
    assert colours == [BAD, INK, GOOD]
    # One dot for what is new, and one line from the first place to the second.
    assert [list(line.get_ydata()) for line in picture.axes[0].lines] == [[1], [1, 2]]
    assert "1 of 2" in picture.description


def test_parts_of_scores_add_up_on_both_sides_of_zero() -> None:
    picture = parts_figure(STORY)
    assert lengths_of_bars(picture)[:4] == [0, 0, -3, -3]
    assert sum(lengths_of_bars(picture)) == pytest.approx(sum(item.score for item in STORY.after))
    empty = dataclasses.replace(STORY, after=())
    assert "Nothing was recommended." in words_on(parts_figure(empty))


def test_what_was_turned_down_is_not_drawn_as_what_was_asked_for() -> None:
    picture = parts_figure(dataclasses.replace(STORY, after=(listed(1, "a", words=2.0), listed(2, "b", words=-1.0))))
    bars = [bar for container in picture.axes[0].containers for bar in container]
    colours = {bar.get_width(): to_hex(bar.get_facecolor()) for bar in bars}
    assert (colours[2.0], colours[-1.0]) == (GOOD, BAD)
    labels = [text.get_text() for text in picture.axes[0].get_legend().get_texts()]
    assert labels == ["history (log-probability)", "attributes asked for", "attributes turned down"]


def test_tables_of_words_and_rewrites() -> None:
    rows = said_table(SAID, "said").rows
    assert rows[0] == ("less crime, more comedy", "critique_add", "Comedy", "Crime, Heat", "0.90")
    assert rows[1][-1] == "vague"
    (row,) = rewrites_table([Rewrite("less crime", 1, ROUNDS[0].replacements)], "rewrites").rows
    assert row == ("less crime", "Heat", "Clueless", "0.600", "Big", "0.350")
