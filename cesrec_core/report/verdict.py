"""The ten seconds at 8 a.m.: was the night good, and if not, what is to be looked at."""

from collections.abc import Iterator
from dataclasses import dataclass

from cesrec_core import run_status
from cesrec_core.report.contents import Report, Trend
from cesrec_core.run_dates import lies_ahead

# A stage is slow when it took so many times what it usually takes, and so many seconds more.
SLOW_FACTOR, SLOW_SECONDS = 2.0, 60.0
# People, lists and rounds do not fall by this share from one run to the next without a reason.
MAX_FALL_SHARE = 0.1
# Above so many refused rows, and so many times as many as in the run before, somebody should see which.
MIN_REFUSED_ROWS, REFUSED_FACTOR = 10, 2.0
HEADLINES = {
    run_status.PUBLISHED: "Published",
    run_status.FINISHED: "Finished, not published",
    run_status.PARTIAL: "Single stages, not published",
    run_status.REFUSED: "Refused by the audit",
    run_status.FAILED: "Failed",
    run_status.RUNNING: "Not finished",
}


@dataclass(frozen=True)
class Finding:
    """One thing to know. `level` is `bad` (nobody got this run), `look` or `note`."""

    level: str
    text: str
    anchor: str


@dataclass(frozen=True)
class Verdict:
    """`level` as of the worst finding, or `good`."""

    level: str
    headline: str
    findings: tuple[Finding, ...]


def verdict(report: Report) -> Verdict:
    """What the page says first."""
    findings = tuple(_findings(report))
    num_to_look_at = sum(finding.level == "look" for finding in findings)
    headline = HEADLINES.get(report.status, report.status)
    if report.status in (run_status.REFUSED, run_status.FAILED, run_status.RUNNING):
        return Verdict("bad", headline, findings)
    if _is_read_no_more(report):
        headline += "; consumers read another run now"
    elif not num_to_look_at:
        return Verdict("good", f"{headline}. Nothing needs a look.", findings)
    things = {0: "", 1: " One thing needs a look."}.get(num_to_look_at, f" {num_to_look_at} things need a look.")
    return Verdict("look", f"{headline}.{things}", findings)


def _is_read_no_more(report: Report) -> bool:
    return report.status == run_status.PUBLISHED and report.published_run_id != report.run_id


def _who_is_read_instead(report: Report) -> Finding:
    read, date = f"Consumers read run {report.published_run_id or 'none'}", report.published_run_date
    if date is not None and lies_ahead(date, report.made_at):
        ahead = f"{read} of {date}, which lies ahead: no night before that takes its place."
        other = report.run_id if report.status == run_status.FINISHED else "of another"
        return Finding("look", f"{ahead} If it was a mistake: jobs/roll_back.py --run-id {other}.", "made-from")
    is_later = report.status == run_status.FINISHED and date is not None and date > report.run_date
    return Finding("note", f"{read} of the later date {date}." if is_later else f"{read}.", "made-from")


def _findings(report: Report) -> Iterator[Finding]:
    if report.error is not None:
        yield Finding("bad", report.error, "stages")
    elif report.status == run_status.PARTIAL:
        next_one = next((stage.name for stage in report.stages if stage.outcome == "not reached"), None)
        if next_one is not None:
            yield Finding("look", f"The run has not been through all stages: {next_one} is next.", "stages")
    if _is_read_no_more(report):
        yield Finding("note", f"Consumers read run {report.published_run_id} now.", "made-from")
    elif report.status != run_status.PUBLISHED:
        yield _who_is_read_instead(report)
    elif lies_ahead(report.run_date, report.made_at):
        ahead = f"Its date, {report.run_date}, lies ahead: no night before that is published."
        yield Finding("look", f"{ahead} If it was a mistake: jobs/roll_back.py --run-id of another.", "made-from")
    for check in report.checks:
        if check.is_near and check.value is not None:
            measured, limit = check.text.format(check.form_of_value), f"limit {check.form_of_limit}, {check.setting}"
            yield Finding("look", f"Close to its limit: {measured} ({limit}).", "checks")
    yield from _slow_stages(report)
    for tile in report.tiles:
        fall = _fall_share(tile)
        if tile.is_better > 0 and fall > MAX_FALL_SHARE:
            yield Finding("look", f"{tile.title}: {fall:.0%} fewer than in the run before.", "top")
    invalid = sum(tally.count for tally in report.fallbacks if tally.name == "invalid_rewrite")
    if invalid:
        yield Finding("look", f"{invalid} rewrites were dropped because they broke a rule.", "kept")
    yield from _refused_rows(report)
    if report.changed_since:
        what = " and ".join(report.changed_since)
        yield Finding("note", f"New since the run before: {what}. Figures may move with it.", "made-from")
    for note in report.notes:
        yield Finding("note", note, "top")


def _slow_stages(report: Report) -> Iterator[Finding]:
    for stage in report.stages:
        if stage.seconds is None or stage.usual_seconds is None:
            continue
        if stage.seconds > SLOW_FACTOR * stage.usual_seconds and stage.seconds > stage.usual_seconds + SLOW_SECONDS:
            took, usual = f"{stage.seconds:,.0f} s", f"{stage.usual_seconds:,.0f} s"
            yield Finding("look", f"{stage.name} took {took}; it usually takes {usual}.", "stages")


def _refused_rows(report: Report) -> Iterator[Finding]:
    total = sum(tally.count for tally in report.quarantine)
    if not total:
        return
    before = next(
        (tile.points[-2].value for tile in report.tiles if tile.title == "Rows refused" and len(tile.points) > 1), 0.0
    )
    is_many = total > MIN_REFUSED_ROWS and total > REFUSED_FACTOR * before
    most = max(report.quarantine, key=lambda tally: tally.count)
    rows = "row was" if total == 1 else "rows were"
    yield Finding("look" if is_many else "note", f"{total:,} {rows} refused, most of them: {most.name}.", "quarantine")


def _fall_share(tile: Trend) -> float:
    if len(tile.points) < 2 or tile.points[-2].value <= 0:
        return 0.0
    return 1.0 - tile.points[-1].value / tile.points[-2].value
