import datetime as dt

import pytest

from cesrec_core.run_dates import is_date, lies_ahead


@pytest.mark.parametrize(("text", "expected"), [("2026-03-02", True), ("2026-3-2", False), ("20260302", False), ("", False)])
def test_a_run_date_is_written_in_one_way(text: str, expected: bool) -> None:
    assert is_date(text) == expected


@pytest.mark.parametrize(("day", "expected"), [(1, False), (2, False), (3, False), (4, True)])
def test_tomorrow_has_begun_somewhere(day: int, expected: bool) -> None:
    assert lies_ahead(dt.date(2026, 3, day), dt.datetime(2026, 3, 2, 23, 59, tzinfo=dt.UTC)) == expected
