"""The page of a run: one HTML file that needs nothing else, no network, no script, no picture of others.

Everything is escaped by Jinja2; the browser is told to run nothing and to style by the page's own sheet alone.
"""

import base64
import datetime as dt
import hashlib
import re
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cesrec_core.report import charts
from cesrec_core.report.contents import Evaluation, Point, Report, Trend
from cesrec_core.report.verdict import verdict


def render(report: Report) -> str:
    """The whole page as HTML."""
    css = (resources.files("cesrec_core.report") / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            report=report,
            verdict=verdict(report),
            # The sheet is this project's own; `</style` cannot stand in it.
            css=Markup(css),
            policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
            longest=max((stage.seconds or 0.0 for stage in report.stages), default=0.0),
            total_seconds=sum(stage.seconds or 0.0 for stage in report.stages),
            shows_tokens=any(stage.tokens is not None for stage in report.stages),
            evaluated=_newest(report.evaluation),
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cesrec_core.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "number": number, "moment": moment, "day": day, "value": value}
    environment.globals |= {"charts": charts, "change": change}
    return environment


def _newest(evaluation: Evaluation | None) -> tuple[Point, ...]:
    """What the marks of an evaluation's newest column share a scale with."""
    if evaluation is None:
        return ()
    return tuple(newest for variant in evaluation.variants if (newest := variant.values[0]) is not None)


def duration(seconds: float) -> str:
    """42 s, 3 min 05 s, 2 h 07 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def number(value: float) -> str:
    """Whole numbers in groups of three, others with three significant digits."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}"


def value(point: Point, form: str) -> str:
    return format(point.value, form)


def moment(at: dt.datetime) -> str:
    return at.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")


def day(date: dt.date) -> str:
    return f"{date:%A}, {date.day} {date:%B} {date.year}"


def change(trend: Trend) -> tuple[str, str]:
    """How the last number differs from the one before, and whether that is `better`, `worse` or `same`.

    A difference inside either interval is noise: `same`.
    """
    if len(trend.points) < 2:
        return "", "same"
    before, now = trend.points[-2], trend.points[-1]
    difference = now.value - before.value
    is_share = trend.form.endswith("%")
    text = f"{difference * 100:+.1f} points" if is_share else format(difference, f"+{trend.form.lstrip('+')}")
    is_noise = not re.search("[1-9]", text) or (_contains(before, now.value) or _contains(now, before.value))
    if not trend.is_better or is_noise:
        return text, "same"
    return text, "better" if difference * trend.is_better > 0 else "worse"


def _contains(point: Point, value: float) -> bool:
    return point.low is not None and point.high is not None and point.low <= value <= point.high
