"""What exports of web pages make of characters, undone. Python workers of Spark load this module, so that it needs no other."""

import html
import re
from typing import overload

# With their semicolon: without one a shop's "Fire&regal" would hold a registered trade mark.
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


@overload
def with_characters(text: str) -> str: ...


@overload
def with_characters(text: None) -> None: ...


def with_characters(text: str | None) -> str | None:
    """The text with the characters that `&amp;`, `&#8230;` or `&eacute;` stand for; None stays None."""
    return None if text is None else _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)


def lists_with_characters(texts: list[str | None] | None) -> list[str | None] | None:
    """The same of each text of a list."""
    return None if texts is None else [with_characters(text) for text in texts]
