import io
import logging
import sys

import pytest

from cesrec_core import progress as progress_module
from cesrec_core.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_elsewhere_than_on_a_terminal_a_line_comes_at_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    caplog.set_level(logging.INFO, "cesrec.progress")
    with progress("embed_items", 10, "rows") as advance:
        advance(4)
        assert caplog.messages == []
        advance(6)
    assert caplog.messages == ["embed_items: 10 of 10 rows"]


def test_long_steps_say_something_in_between(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    clock = iter([0.0, 9.0, 11.0, 11.0, 12.0])
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: next(clock))
    caplog.set_level(logging.INFO, "cesrec.progress")
    with progress("embed_items", 10, "rows") as advance:
        for _ in range(3):
            advance(1)
    assert caplog.messages == ["embed_items: 2 of 10 rows"]


def test_parts_of_what_has_lines_of_its_own_tell_no_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = iter([0.0, 11.0, 11.0, 30.0])
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: next(clock))
    caplog.set_level(logging.INFO, "cesrec.progress")
    advance = progress_module.lines("epoch 3", 2, "batches", tells_end=False)
    advance(1)
    advance(1)
    assert caplog.messages == ["epoch 3: 1 of 2 batches"]


def test_a_terminal_gets_a_bar_and_no_lines(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    caplog.set_level(logging.INFO, "cesrec.progress")
    with progress("embed_items", 4, "rows") as advance:
        advance(4)
    assert "embed_items: 100%" in terminal.getvalue()
    assert "4/4" in terminal.getvalue()
    assert caplog.messages == []
