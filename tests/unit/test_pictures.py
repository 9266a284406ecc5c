"""Pictures and tables that draw themselves as HTML."""

import base64
import io
import re

from drawn import words_on
from matplotlib.image import imread
from report_values import HOSTILE

from cesrec_core.report.pictures import HtmlTable, Picture, name_rows, say, style

# What would stop matplotlib if it were read as a formula.
FORMULA = "$\\frac{$ costs $5"


def test_a_picture_is_a_png_with_words_for_those_who_cannot_see_it() -> None:
    picture = Picture(4, 2, 'lengths of "histories" <b>')
    style(picture.subplots(), "Title")
    html = picture._repr_html_()
    (source,) = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    pixels = imread(io.BytesIO(base64.b64decode(source)))
    assert pixels.shape[:2] == (220, 440)
    assert 'alt="lengths of &#34;histories&#34; &lt;b&gt;"' in html


def test_no_text_is_read_as_a_formula() -> None:
    picture = Picture(12, 2, "")
    axes, other = picture.subplots(1, 2)
    name_rows(axes, [FORMULA, HOSTILE])
    say(other, FORMULA)
    picture.png()
    assert words_on(picture).count(FORMULA) == 2


def test_rows_stand_under_their_names_from_the_top() -> None:
    axes = Picture(4, 2, "").subplots()
    name_rows(axes, ["first", "second"])
    assert [text.get_text() for text in axes.get_yticklabels()] == ["first", "second"]
    bottom, top = axes.get_ylim()
    assert top < 0 and bottom > 1


def test_a_table_escapes_what_it_holds_and_writes_numbers_for_people() -> None:
    table = HtmlTable.of(("what", "how many"), [(HOSTILE, 1682), (("a", "b"), 0.41666), (None, 7)], "Rows <i>")
    html = table._repr_html_()
    assert not set(re.findall(r"<(\w+)", html)) - {"p", "b", "table", "thead", "tbody", "tr", "th", "td"}
    assert "Rows &lt;i&gt;" in html
    assert [cell for _, cell in table.rows] == ["1,682", "0.417", "7"]
    assert table.rows[1][0] == "a, b" and table.rows[2][0] == ""
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in html


def test_a_table_without_rows_says_so() -> None:
    assert HtmlTable.of(("what",), [])._repr_html_().endswith("<p>Nothing.</p>")
