"""Run dates: how they are written, and which lie ahead."""

import datetime as dt


def is_date(text: str) -> bool:
    """Whether it is a day written as YYYY-MM-DD, and in no other way of ISO 8601."""
    try:
        return dt.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def lies_ahead(date: dt.date, moment: dt.datetime) -> bool:
    """Whether no place on earth had come to that day by then; `moment` is UTC, in which it is tomorrow for some already."""
    return date > moment.date() + dt.timedelta(days=1)
