"""What makes a figure hard to read is found, and what does not is left alone."""

import pytest
from legible import illegible
from report_values import good_night

from cesrec_core.report.pictures import Picture, name_rows, style
from cesrec_core.report.run_figures import checks_figure, stages_figure, trends_figure


def test_a_number_that_stands_twice_on_an_axis_is_found() -> None:
    picture = Picture(4, 3, "")
    axes = picture.subplots()
    axes.plot([0, 1], [0, 1])
    style(axes, "Rows")
    assert illegible(picture) == []
    axes.set_yticks([0.0, 0.1, 0.2], labels=["0", "0", "1"])
    assert illegible(picture) == ["the y axis of 'Rows' has a number twice: 0, 0, 1"]


def test_numbers_beyond_the_axis_are_not_seen() -> None:
    picture = Picture(4, 3, "")
    axes = picture.subplots()
    axes.set_xticks([0.0, 0.5, 7.0], labels=["0", "1", "1"])
    axes.set_xlim(0, 1)
    assert illegible(picture) == []


@pytest.mark.filterwarnings("ignore:constrained_layout not applied")
def test_an_axis_that_is_switched_off_is_not_seen() -> None:
    picture = Picture(4, 3, "")
    axes = picture.subplots()
    axes.set_xticks([0.0, 1.0], labels=["1" * 200, "1" * 200])
    assert len(illegible(picture)) == 3
    axes.set_axis_off()
    assert illegible(picture) == []


def test_rows_may_have_the_same_name() -> None:
    picture = Picture(4, 3, "")
    name_rows(picture.subplots(), ["max_norm_change", "max_norm_change"])
    assert illegible(picture) == []


@pytest.mark.filterwarnings("ignore:constrained_layout not applied")
def test_a_text_that_reaches_out_of_the_figure_is_found() -> None:
    picture = Picture(4, 3, "")
    axes = picture.subplots()
    inside = axes.text(0.1, 0.5, "short")
    assert illegible(picture) == []
    # A layout makes room for texts beside the axes; this one asks for more than there is.
    inside.set_text("long " * 40)
    assert illegible(picture) == [f"{'long ' * 40!r} reaches out of the figure"]
    inside.set_visible(False)
    assert illegible(picture) == []


def test_pictures_of_a_night_are_legible() -> None:
    night = good_night()
    pictures = (trends_figure(night.quality, "Quality"), checks_figure(night.checks), stages_figure(night.stages))
    assert [illegible(picture) for picture in pictures] == [[], [], []]
