"""What becomes of character references, by hand and by the library that knows them all."""

import html
import unicodedata

import pytest

from cesrec_core.web_text import MAX_EXPORTS, lists_with_characters, with_characters


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("AT&amp;T &#8230; &#x2014; &eacute;", "AT&T … — é"),
        ("R&amp;amp;B", "R&B"),
        ("AT&T, R&D; Fire&regal; &timestamp; &copyright;", "AT&T, R&D; Fire&regal; &timestamp; &copyright;"),
        ("&quot &lt", "&quot &lt"),
        ("Ame\u0301lie, Ame&#769;lie", "Am\u00e9lie, Am\u00e9lie"),
        ("", ""),
    ],
)
def test_references_become_characters_once_and_for_all(text: str, expected: str) -> None:
    assert with_characters(text) == expected
    assert with_characters(expected) == expected


@pytest.mark.parametrize("name", ["amp", "NotEqualTilde", "there4", "AElig", "#146", "#xE9", "#0"])
def test_every_reference_is_what_html_says(name: str) -> None:
    assert with_characters(f"a&{name};b") == unicodedata.normalize("NFC", html.unescape(f"a&{name};b"))


def test_nothing_takes_forever() -> None:
    assert with_characters("&" + "amp;" * 100_000) == "&" + "amp;" * (100_000 - MAX_EXPORTS)


def test_lists_keep_what_is_not_there() -> None:
    assert lists_with_characters(["&lt;", None]) == ["<", None]
    assert lists_with_characters(None) is None
