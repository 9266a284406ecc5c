"""Pictures of the made-up night that the page's tests are about."""

import datetime as dt
from pathlib import Path

import pytest
from drawn import lengths_of_bars, words_on
from matplotlib.colors import to_hex
from report_values import good_night, points

from cesrec_core.report.contents import Check, RunLine, StageLine, Tally, Trend
from cesrec_core.report.pictures import BAD, GOOD, LINE, TWO, Picture
from cesrec_core.report.run_figures import (
    checks_figure,
    counts_figure,
    histogram_figure,
    picture_of_file,
    runs_figure,
    stages_figure,
    tallies_figure,
    trends_figure,
    used_share,
)

NIGHT = good_night()


@pytest.mark.parametrize(
    ("value", "limit", "is_lowest", "form", "share"),
    [
        (0.05, 0.2, False, ".1%", 0.25),
        (0.3, 0.2, False, ".1%", 1.5),
        (0.95, 0.9, True, ".1%", 0.5),
        (0.85, 0.9, True, ".1%", 1.5),
        (4.0, 1.0, True, ".2f", 0.25),
        (0.5, 1.0, True, ".2f", 2.0),
        (0.0, 1.0, True, ".2f", 2.0),
        (0.5, 0.0, True, ".2f", 0.0),
        (0.0, 0.0, False, ".1%", 0.0),
        (0.1, 0.0, False, ".1%", 2.0),
        (None, 0.2, False, ".1%", None),
    ],
)
def test_how_much_of_the_room_to_a_limit_is_used(
    value: float | None, limit: float, is_lowest: bool, form: str, share: float | None
) -> None:
    check = Check("{}", value, limit, is_lowest, form, "audit.some_limit")
    assert used_share(check) == (None if share is None else pytest.approx(share))
    assert value is None or check.is_met == (share <= 1.0)


def test_checks_are_coloured_by_how_near_they_are() -> None:
    checks = [
        Check("{}", value, 0.2, False, ".1%", f"audit.limit_{number}")
        for number, value in enumerate((0.0, 0.02, 0.19, 0.3, None))
    ]
    bars = [bar for container in checks_figure(checks).axes[0].containers for bar in container]
    assert [to_hex(bar.get_facecolor()) for bar in bars] == [GOOD, GOOD, TWO, BAD, LINE]
    # All of them can be seen, also what uses nothing of its room and what was not measured.
    assert min(bar.get_width() for bar in bars) > 0.01


def test_the_line_of_the_limit_goes_through_no_sentence() -> None:
    picture = checks_figure(NIGHT.checks)
    axes = picture.axes[0]
    picture.draw_without_rendering()
    right = axes.transData.transform((1.0, 0.0))[0]
    assert len(axes.texts) == 3
    assert all(text.get_window_extent().x0 > right for text in axes.texts)


def test_checks_without_a_limit_of_their_own_are_left_out() -> None:
    words = words_on(checks_figure(NIGHT.checks))
    assert (
        "min_mask_stability_share" in words
        and "not measured (limit 80.0%)" in words
        and "2.0% of rewrites had to be dropped (limit 20.0%)" in words
    )
    assert not any("recommend items" in text for text in words)
    assert "The audit has not run." in words_on(checks_figure([]))


def test_stages_show_their_seconds_or_why_they_did_not_run() -> None:
    picture = stages_figure(NIGHT.stages)
    assert lengths_of_bars(picture) == [21.3, 3.1, 4.0, 184.0, 15.8, 8.1, 3.5]
    assert " skipped: nothing it reads changed since run 487c5d87ce03d67e" in words_on(picture)


def test_no_mark_goes_through_words_of_stages() -> None:
    lines = [StageLine("audit", "skipped", "nothing changed", None, 16.0), StageLine("publish", "ran", "", 13.4, 14.0)]
    axes = stages_figure(lines).axes[0]
    # The stage that ran has a mark, and its seconds stand to the right of it.
    assert [list(line.get_xdata()) for line in axes.lines] == [[14.0, 14.0]]
    assert [text.get_position()[0] > 14.0 for text in axes.texts] == [False, True]


def test_trends_have_a_plot_each_and_name_the_last_value() -> None:
    picture = trends_figure(NIGHT.tiles, "Nights")
    assert [axes.get_title(loc="left") for axes in picture.axes][:5] == [trend.title for trend in NIGHT.tiles]
    assert [axes.axison for axes in picture.axes] == [True] * 5 + [False]
    assert list(picture.axes[0].lines[0].get_ydata()) == [point.value for point in NIGHT.tiles[0].points]
    assert {"943", "2.0%", "01 Mar", "09 Mar"} <= set(words_on(picture))


def test_flat_trends_have_numbers_that_can_be() -> None:
    trends = [Trend("share", "", points([1.0, 1.0]), ".1%"), Trend("rows", "", points([0.0, 0.0]), ",.0f")]
    of_shares, of_rows, _ = trends_figure(trends, "Nights").axes
    assert [label.get_text() for label in of_shares.get_yticklabels()] == ["94%", "96%", "98%", "100%"]
    assert [label.get_text() for label in of_rows.get_yticklabels()] == ["0", "1", "2"]


def test_a_scale_that_is_not_linear_is_called_so() -> None:
    few, many = (counts_figure({"a": 3, "b": count}, "Counts").axes[0] for count in (100, 101))
    assert (few.get_xscale(), few.get_xlabel()) == ("linear", "")
    assert many.get_xscale() == "symlog" and "log scale" in many.get_xlabel()


def test_histograms_are_shares_of_their_kind() -> None:
    kept, _, masked, _ = (patch.get_data().values for patch in histogram_figure(NIGHT.histograms[0]).axes[0].patches)
    assert kept == pytest.approx([2 / 862, 40 / 862, 300 / 862, 520 / 862])
    assert masked == pytest.approx([90 / 158, 60 / 158, 8 / 158, 0])


def test_tallies_leave_out_what_did_not_happen() -> None:
    tallies = [Tally("vague_feedback", 14), Tally("drift", 0)]
    assert lengths_of_bars(tallies_figure(tallies, "Kept", "None was.")) == [14]
    assert "None was." in words_on(tallies_figure(tallies[1:], "Kept", "None was."))


def test_the_run_that_consumers_read_is_named() -> None:
    day = dt.date(2026, 3, 2)
    lines = [RunLine("aaaa", day, "published", 60.0, True), RunLine("bbbb", day, "running", None, False)]
    words = words_on(runs_figure(lines))
    assert " 60 s, published and read by consumers now" in words and " running" in words
    assert f"{day} aaaa" in words


def test_where_there_is_nothing_a_picture_says_so(tmp_path: Path) -> None:
    assert "There is nothing to make a histogram of." in words_on(histogram_figure(None))
    assert "This model was fitted in one go, and left no curve." in words_on(picture_of_file(tmp_path / "none.png", "a curve"))


def test_a_picture_of_a_file_keeps_its_shape(tmp_path: Path) -> None:
    (tmp_path / "curve.png").write_bytes(Picture(4, 1, "").png())
    picture = picture_of_file(tmp_path / "curve.png", "a curve")
    width, height = picture.get_size_inches()
    assert width / height == pytest.approx(4.0)
