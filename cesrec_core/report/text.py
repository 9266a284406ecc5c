"""How untrusted text is made fit to be shown. The page escapes it besides; here nothing is about HTML."""

import json
import re
import unicodedata
from collections.abc import Collection
from typing import Any

# Line breaks and tabs become spaces; other controls are shown as such.
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# They turn the direction of what follows, and none of it ends with the text that they came in.
DIRECTIONS = re.compile("[\u202a-\u202e\u2066-\u2069]")


def shown(text: str, max_characters: int) -> str:
    """One line of at most `max_characters`, of which each can be written in UTF-8 and none commands a terminal or a page."""
    # Long before it is looked at character by character: a record may hold megabytes.
    line = DIRECTIONS.sub("", re.sub(r"\s+", " ", text[: 4 * max_characters])).strip()
    clean = "".join(REPLACEMENT if unicodedata.category(mark) in ("Cc", "Cs", "Co") else mark for mark in line)
    is_cut = len(clean) > max_characters or len(text) > 4 * max_characters
    return clean[: max_characters - 1].rstrip() + "…" if is_cut else clean


def outline(text: str) -> str:
    """The same with x for every letter and 9 for every digit: what a record looked like, and nobody's name."""
    return re.sub(r"[^\W\d_]", "x", re.sub(r"\d", "9", text))


def record_without_people(record: str, kept_fields: Collection[str], max_characters: int) -> str:
    """A quarantined record, truncated, with outlines in place of all fields but `kept_fields`.

    Sources name their columns as they like, so what is not known to be harmless may name somebody. A record that is no JSON
    object is an outline as a whole.
    """
    try:
        values = json.loads(record)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        return shown(outline(record[: 4 * max_characters]), max_characters)
    kept = {key: value if key in kept_fields else _outlined(value) for key, value in values.items()}
    return shown(json.dumps(kept, ensure_ascii=False), max_characters)


def _outlined(value: Any) -> Any:
    return (
        value if value is None or isinstance(value, bool) else outline(value if isinstance(value, str) else json.dumps(value))
    )
