"""The page of a run from plain values: every number is there, nothing is run, nobody's text becomes markup."""

import base64
import dataclasses
import datetime as dt
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_values import HOSTILE, MOMENT, TODAY, good_night, points, stage_lines

from cesrec_core.report import page
from cesrec_core.report.bins import fine_bins, histogram_of
from cesrec_core.report.charts import Scale, histogram_chart, interval_mark, trend_chart
from cesrec_core.report.contents import Check, Histogram, StageLine, Tally, Trend
from cesrec_core.report.rewrites import replacements
from cesrec_core.report.text import outline, record_without_people, shown
from cesrec_core.report.ticks import ticks_between
from cesrec_core.report.verdict import verdict


class Elements(HTMLParser):
    """What a browser would make of a page: its elements, their attributes, and the text outside of the style sheet."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


@pytest.fixture(scope="module")
def html() -> str:
    return page.render(good_night())


@pytest.fixture(scope="module")
def elements(html: str) -> Elements:
    return Elements(html)


def test_the_page_says_what_the_run_did(elements: Elements) -> None:
    for words in (
        "Monday, 9 March 2026",
        "943",
        "17.3%",
        "100,412 interactions",
        "81,930",
        "2 of 193 rounds",
        "0.094",
        "3 min 04 s",
    ):
        assert words in elements.text
    assert "The English Patient → Fly Away Home 41% likely, then Babe" in elements.text
    assert "recommender aabb extractor minilm-1" in elements.text


def test_text_of_people_stays_text(html: str, elements: Elements) -> None:
    assert "script" not in elements.tags and "img" not in elements.tags
    assert not [name for name, _ in elements.attributes if name.startswith("on") or name == "style"]
    # Words, three titles and a question: each as it was written, and none as a template.
    assert elements.text.count('<script>alert("x")</script>') == 5
    assert "{{ 7*7 }}" in elements.text
    assert html.count("</style>") == 1


def test_nothing_is_loaded_and_nothing_may_run(html: str, elements: Elements) -> None:
    loading = [
        value for name, value in elements.attributes if name in ("src", "srcset", "data", "action", "poster", "xlink:href")
    ]
    links = [value for name, value in elements.attributes if name == "href"]
    assert loading == []
    assert links and all(link.startswith("#") for link in links)
    assert all(f'id="{link[1:]}"' in html for link in links)
    [policy] = [value for name, value in elements.attributes if name == "content" and "default-src" in value]
    sheet = html.split("<style>")[1].split("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert "url(" not in sheet and "@import" not in sheet
    assert "prefers-color-scheme: dark" in sheet


def test_a_run_about_which_little_is_known_has_a_page() -> None:
    night = good_night()
    bare = dataclasses.replace(
        type(night)(
            *(night.made_at, night.run_id, night.run_date, "failed"),
            *(night.started_at, None, night.code_version, night.config_hash, None),
        ),
        error="Stage embed_items: the model is not there.",
    )
    text = Elements(page.render(bare)).text
    assert "Failed" in text and "the model is not there" in text and "no run" in text


def levels(report_verdict) -> list[str]:  # type: ignore[no-untyped-def]
    return [finding.level for finding in report_verdict.findings]


def test_a_quiet_night_needs_no_look() -> None:
    lines = tuple(line for line in good_night().stages if line.name != "construct_pseudo_sequences")
    quiet = verdict(good_night(stages=lines, quarantine=()))
    assert (quiet.level, quiet.headline, quiet.findings) == ("good", "Published. Nothing needs a look.", ())


def test_a_slow_stage_needs_a_look_and_a_quick_one_does_not() -> None:
    # 184 s instead of 20 s; refused rows are told, and few.
    assert levels(verdict(good_night())) == ["look", "note"]
    barely = (StageLine("audit", "ran", "", 61.9, 2.0), StageLine("recommend", "ran", "", 399.0, 200.0))
    assert levels(verdict(good_night(stages=barely, quarantine=()))) == []


def test_fewer_people_need_a_look() -> None:
    tile = Trend("People served", "", points([1000.0, 899.0]), ",.0f", 1)
    found = verdict(good_night(tiles=(tile,), stages=(), quarantine=()))
    assert [finding.text for finding in found.findings] == ["People served: 10% fewer than in the run before."]
    tile = dataclasses.replace(tile, points=points([1000.0, 901.0]))
    assert verdict(good_night(tiles=(tile,), stages=(), quarantine=())).findings == ()


def test_many_more_refused_rows_need_a_look() -> None:
    tiles = (Trend("Rows refused", "", points([8.0, 17.0]), ",.0f"),)
    many = (Tally("interactions: unknown_item", 17),)
    assert levels(verdict(good_night(tiles=tiles, stages=(), quarantine=many))) == ["look"]
    as_before = (Trend("Rows refused", "", points([9.0, 17.0]), ",.0f"),)
    assert levels(verdict(good_night(tiles=as_before, stages=(), quarantine=many))) == ["note"]


def test_a_run_that_stopped_between_stages_needs_a_look() -> None:
    """Whoever was to start the next one may be gone."""
    reached, left = stage_lines()[:4], [dataclasses.replace(line, outcome="not reached") for line in stage_lines()[4:]]
    found = verdict(good_night(status="partial", stages=(*reached, *left)))
    assert found.level == "look"
    assert "The run has not been through all stages: understand_feedback is next." in [each.text for each in found.findings]


def test_what_a_run_did_not_come_to_is_not_said_to_be_none() -> None:
    first, *others = stage_lines()
    lines = (
        dataclasses.replace(first, outcome="failed"),
        *(dataclasses.replace(line, outcome="not reached") for line in others),
    )
    night = good_night(status="failed", stages=lines, rewrites=(), clarifications=(), quarantine=())
    text = page.render(night)
    assert text.count("The run did not come to that.") == 3
    assert not [said for said in ("Nobody had to be asked", "No row was refused", "No history was changed") if said in text]


def test_what_was_dropped_is_not_said_to_be_none() -> None:
    lines = tuple(dataclasses.replace(line, outcome="not reached") for line in stage_lines())
    night = good_night(stages=lines, rewrites=(), clarifications=(), quarantine=(), is_dropped=True)
    text = page.render(night)
    assert text.count("What was kept of it has been dropped (jobs/maintain.py).") == 3
    assert "did not come to that" not in text


LATER, SLIP = dt.date(2026, 3, 23), dt.date(2062, 3, 2)


@pytest.mark.parametrize(
    ("status", "read", "days_later", "told"),
    [
        ("finished", TODAY, 0, ["note", "Consumers read run 99."]),
        # Nights that are made up for, and a page that is made again.
        ("finished", MOMENT.date(), 0, ["note", "Consumers read run 99 of the later date 2026-03-10."]),
        ("finished", MOMENT.date() + dt.timedelta(days=1), 0, ["note", "Consumers read run 99 of the later date 2026-03-11."]),
        ("finished", LATER, 14, ["note", "Consumers read run 99 of the later date 2026-03-23."]),
        # A slip of the keyboard.
        ("finished", LATER, 0, ["look", "Consumers read run 99 of 2026-03-23, which lies ahead: no night before"]),
        ("finished", SLIP, 0, ["look", "Consumers read run 99 of 2062-03-02, which lies ahead: no night before"]),
        ("refused", SLIP, 0, ["look", "Consumers read run 99 of 2062-03-02, which lies ahead: no night before"]),
    ],
)
def test_who_is_read_instead_is_told(status: str, read: dt.date, days_later: int, told: list[str]) -> None:
    made_at = MOMENT + dt.timedelta(days=days_later)
    night = good_night(made_at=made_at, status=status, published_run_id="99", published_run_date=read)
    [finding] = verdict(dataclasses.replace(night, stages=(), quarantine=(), tiles=())).findings
    assert [finding.level, finding.text[: len(told[1])]] == told
    way_out = f"jobs/roll_back.py --run-id {night.run_id if status == 'finished' else 'of another'}."
    assert finding.text.endswith(way_out) == (told[0] == "look")


def test_the_page_of_a_date_that_lies_ahead_says_so() -> None:
    night = good_night(run_date=SLIP, published_run_date=SLIP, stages=(), quarantine=(), tiles=())
    found = verdict(night)
    assert (found.level, [finding.level for finding in found.findings]) == ("look", ["look"])
    assert found.findings[0].text.startswith("Its date, 2062-03-02, lies ahead: no night before that is published.")


def test_a_refused_run_is_bad_whatever_else_is_said() -> None:
    refused = verdict(good_night(status="refused", error="Run r is not published: 3 rows ...", published_run_id="487c"))
    assert (refused.level, refused.headline) == ("bad", "Refused by the audit")
    assert [finding.text for finding in refused.findings][:2] == [
        "Run r is not published: 3 rows ...",
        "Consumers read run 487c.",
    ]


def test_a_run_that_consumers_left_is_not_said_to_be_what_they_read() -> None:
    rolled_back = verdict(good_night(published_run_id="487c", stages=(), quarantine=()))
    assert (rolled_back.level, rolled_back.headline) == ("look", "Published; consumers read another run now.")
    assert [finding.text for finding in rolled_back.findings] == ["Consumers read run 487c now."]
    slow = verdict(good_night(published_run_id="487c"))
    assert slow.headline == "Published; consumers read another run now. One thing needs a look."


@pytest.mark.parametrize(
    ("value", "limit", "is_lowest", "form", "is_met", "is_near"),
    [
        (0.05, 0.2, False, ".1%", True, False),
        (0.17, 0.2, False, ".1%", True, True),  # four fifths of .2 are .16
        (0.21, 0.2, False, ".1%", False, False),
        (0.99, 0.9, True, ".1%", True, False),
        (0.91, 0.9, True, ".1%", True, True),  # .09 of the .1 that may be missing
        (0.89, 0.9, True, ".1%", False, False),
        (1.05, 1.0, True, ".2f", True, True),
        (1.20, 1.0, True, ".2f", True, False),
        (None, 1.0, True, ".2f", True, False),
    ],
)
def test_how_near_a_limit_is(value, limit, is_lowest, form, is_met, is_near) -> None:  # type: ignore[no-untyped-def]
    check = Check("{}", value, limit, is_lowest, form, "audit.some_limit")
    assert (check.is_met, check.is_near) == (is_met, is_near)


@pytest.mark.parametrize(
    ("values", "spread", "form", "is_better", "expected"),
    [
        ([0.10], None, ".3f", 1, ("", "same")),
        ([0.10, 0.12], None, ".3f", 1, ("+0.020", "better")),
        ([0.10, 0.12], None, ".3f", -1, ("+0.020", "worse")),
        ([0.10, 0.12], 0.03, ".3f", 1, ("+0.020", "same")),  # within each other's intervals
        ([0.10, 0.14], 0.03, "+.3f", 1, ("+0.040", "better")),
        ([0.10, 0.1002], None, ".3f", 1, ("+0.000", "same")),
        ([0.5, 0.48], None, ".1%", 1, ("-2.0 points", "worse")),
        ([0.5, 0.48], None, ".1%", 0, ("-2.0 points", "same")),
    ],
)
def test_differences_count_where_they_are_more_than_noise(values, spread, form, is_better, expected) -> None:  # type: ignore[no-untyped-def]
    assert page.change(Trend("", "", points(values, spread), form, is_better)) == expected


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.14, "3.1 s"), (42.4, "42 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert page.duration(seconds) == text


def test_moments_are_in_utc() -> None:
    zone = dt.timezone(dt.timedelta(hours=2))
    assert page.moment(dt.datetime(2026, 3, 10, 4, 5, tzinfo=zone)) == "2026-03-10 02:05 UTC"


def test_what_left_and_what_came_in_place() -> None:
    row = {
        "item_ids": ["a", "x", "c", "y"],
        "replaced_positions": [1, 3],
        "replaced_item_ids": ["b", "d"],
        "probabilities": [0.4, 0.6],
        "margins": [0.1, None],
        "runner_up_item_ids": ["z", None],
    }
    found = replacements(row, {"b": "Bee", "x": "Ex", "z": "Zed"})
    assert [(r.before, r.after, r.probability, r.runner_up, r.margin) for r in found] == [
        ("Bee", "Ex", 0.4, "Zed", 0.1),
        ("d", "y", 0.6, None, None),
    ]


def test_what_left_and_what_came_at_the_recent_end() -> None:
    """a b c d became a c d x: places 1 to 3 differ, and but one item left."""
    row = {
        "item_ids": ["a", "c", "d", "x"],
        "replaced_positions": [1, 2, 3],
        "replaced_item_ids": ["b", "c", "d"],
        "probabilities": [1.0, 1.0, 0.3],
        "margins": [None, None, 0.2],
        "runner_up_item_ids": [None, None, "z"],
    }
    found = replacements(row, {})
    assert [(r.before, r.after, r.probability, r.runner_up, r.margin) for r in found] == [("b", "x", 0.3, "z", 0.2)]


def test_a_record_keeps_what_names_nobody() -> None:
    record = '{"user_id": "person-07", "item_id": "toy-07", "email": "ada@example.org", "age": 42, "rating": null}'
    text = record_without_people(record, {"item_id"}, 200)
    assert text == '{"user_id": "xxxxxx-99", "item_id": "toy-07", "email": "xxx@xxxxxxx.xxx", "age": "99", "rating": null}'


def test_a_record_that_cannot_be_read_is_an_outline() -> None:
    assert record_without_people("{'user_id: person-07\t", {"item_id"}, 200) == "{'xxxx_xx: xxxxxx-99"
    assert record_without_people('["person-07"]', {"item_id"}, 200) == '["xxxxxx-99"]'
    assert outline("Müller 3, 東京") == "xxxxxx 9, xx"


def test_text_is_cut_and_cleaned() -> None:
    assert (
        shown("a\r\n b\x00c \N{RIGHT-TO-LEFT OVERRIDE}d\ud800", 100)
        == "a b\N{REPLACEMENT CHARACTER}c d\N{REPLACEMENT CHARACTER}"
    )
    assert shown("abcdef", 6) == "abcdef"
    assert shown("abcdefg", 6) == "abcde…"
    assert shown("x" * 10_000_000, 6) == "xxxxx…"
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in shown(HOSTILE, 300)


def test_bins_are_trimmed_and_joined() -> None:
    # -1 .. 1 in 200 bins of .01: the cosines fall into bins 100, 100, 199 and 199, which 25 bins of 4 from bin 100 show.
    histogram = histogram_of({"kept": fine_bins([0.0, 0.005, 0.999, 1.2]), "masked": fine_bins([])}, "t", "m", "a")  # type: ignore[arg-type]
    assert histogram is not None
    assert histogram.edges[:2] == pytest.approx((0.0, 0.04)) and histogram.edges[-1] == pytest.approx(1.0)
    assert histogram.counts == {"kept": (2, *[0] * 23, 2), "masked": (0,) * 25}
    assert histogram_of({"kept": fine_bins([])}, "t", "m", "a") is None  # type: ignore[arg-type]


def test_scales_put_numbers_where_they_belong() -> None:
    to_y = Scale(0.0, 10.0, 200.0, 100.0)
    assert [to_y(value) for value in (0, 2.5, 10)] == [200.0, 175.0, 100.0]
    assert Scale(3.0, 3.0, 0.0, 100.0)(3.0) == 50.0
    ticks = ticks_between(0.118, 0.121)
    assert ticks[0] <= 0.118 + 1e-9 and ticks[-1] >= 0.121 and 3 <= len(ticks) <= 6


def test_a_trend_has_a_mark_for_each_run_and_names_its_axes() -> None:
    drawn = str(trend_chart(Trend("A & B", "", points([1.0, 3.0, 2.0], 0.5), ".1f")))
    assert drawn.count("<circle") == 3 and drawn.count('class="whisker"') == 3
    assert "A &amp; B" in drawn and "date of the run" in drawn and "2026-03-07" in drawn and "2026-03-09" in drawn
    assert "2.0 [1.5, 2.5]" in drawn


def test_a_trend_of_one_run_names_its_date_under_the_dot() -> None:
    drawn = str(trend_chart(Trend("A", "", points([0.467]), ".3f")))
    # Half way between the 66 and the 334 that a longer trend begins and ends at.
    assert 'cx="200.0"' in drawn and '<text class="tick" x="200.0" y="186.0" text-anchor="middle">2026-03-09' in drawn


def test_a_histogram_compares_shares_of_kinds_of_different_size() -> None:
    histogram = Histogram("t", "m", "axis <name>", (0.0, 0.5, 1.0), {"few": (1, 3), "many": (250, 750)})
    heights = re.findall(r'series(\d)"[^>]* height="([\d.]+)"', str(histogram_chart(histogram)))
    by_kind = {kind: [height for number, height in heights if number == kind] for kind in "12"}
    assert by_kind["1"] == by_kind["2"] and len(by_kind["1"]) == 2
    assert "axis &lt;name&gt;" in str(histogram_chart(histogram))


def test_intervals_of_one_table_share_a_scale() -> None:
    low, high = points([0.1], 0.02)[0], points([0.3], 0.02)[0]
    places = [float(re.search(r'cx="([\d.]+)"', str(interval_mark(point, (low, high))))[1]) for point in (low, high)]  # type: ignore[index]
    assert places[0] < places[1]


def test_the_package_carries_template_and_sheet() -> None:
    """setup.py names both: a wheel without them could not make a page."""
    folder = Path(page.__file__).parent
    patterns = re.search(r'"cesrec_core.report": \[(.*?)\]', (folder.parents[1] / "setup.py").read_text())
    assert patterns is not None
    named = {file.name for pattern in re.findall(r'"(.*?)"', patterns[1]) for file in folder.glob(pattern)}
    assert named == {"page.html.j2", "page.css"}
