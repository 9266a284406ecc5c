"""What exports of web pages make of characters, undone. Python workers of Spark load this module, so that it needs no other."""

import html
import re
import unicodedata
from html.entities import html5
from typing import overload

MAX_EXPORTS = 8
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


@overload
def with_characters(text: str) -> str: ...


@overload
def with_characters(text: None) -> None: ...


def with_characters(text: str | None) -> str | None:
    """The text with the characters that `&amp;`, `&#8230;` or `&eacute;` stand for, composed (NFC); None stays None.

    Composed, since `é` as one character and as two looks the same, and would be two texts to embed and two titles to know.
    Until nothing is left to undo: exports of exports say `&amp;amp;`, and who reads what is undone already changes nothing.
    (Nothing is exported MAX_EXPORTS times; what is made to look so must not take forever.)
    """
    if text is None:
        return None
    for _ in range(MAX_EXPORTS):
        before, text = text, _ENTITY.sub(_character, text)
        if text == before:
            break
    return unicodedata.normalize("NFC", text)


def _character(entity: re.Match[str]) -> str:
    name = entity[0][1:]
    # Python also reads beginnings: a shop's "Fire&regal;" would hold a registered trade mark.
    return html.unescape(entity[0]) if name.startswith("#") or name in html5 else entity[0]


def lists_with_characters(texts: list[str | None] | None) -> list[str | None] | None:
    """The same of each text of a list."""
    return None if texts is None else [with_characters(text) for text in texts]
