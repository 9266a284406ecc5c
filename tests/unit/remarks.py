"""Remarks on what was shown, by somebody who had not written the rules, with what they say: tests/data/remarks.json, which was
read while rules were mended, and unread_remarks.json, which nobody who writes rules should read."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cesrec_core.feedback.understanding import Signals, understand
from cesrec_core.feedback.vocabulary import CatalogueVocabulary

DATA = Path(__file__).parents[1] / "data"
READ, UNREAD = "remarks.json", "unread_remarks.json"
SIDES = ("wanted", "unwanted")


class Reading(NamedTuple):
    """Right: attributes and items on both sides are those that were said. Worse: something is read that was not said."""

    said: str
    is_right: bool
    is_worse: bool


# Of an utterance and the items that were shown, in a vocabulary: what it means.
Understand = Callable[[str, Sequence[str], CatalogueVocabulary], Signals]


def by_rules(said: str, shown: Sequence[str], vocabulary: CatalogueVocabulary) -> Signals:
    return understand(said, shown, vocabulary, 1000)


def readings(films: CatalogueVocabulary | None = None, file: str = READ, understanding: Understand = by_rules) -> list[Reading]:
    """All remarks of a file as they are understood; those about films only with a catalogue of films."""
    content = json.loads((DATA / file).read_text(encoding="utf-8"))
    of_both = json.loads((DATA / READ).read_text(encoding="utf-8"))["catalogues"]
    catalogues = {name: _vocabulary(items) for name, items in of_both.items()}
    if films is not None:
        catalogues["films"] = films
    return [
        _read(remark, catalogues[remark["catalogue"]], understanding)
        for remark in content["remarks"]
        if remark["catalogue"] in catalogues
    ]


def _vocabulary(items: Sequence[Mapping[str, Any]]) -> CatalogueVocabulary:
    return CatalogueVocabulary.from_items(
        [str(number) for number in range(len(items))],
        [item["title"] for item in items],
        [item["attributes"] for item in items],
    )


def _read(remark: Mapping[str, Any], vocabulary: CatalogueVocabulary, understanding: Understand) -> Reading:
    shown = [(vocabulary.items_titled(title) or (f"\0{number}",))[0] for number, title in enumerate(remark["shown"])]
    foreign = {item: title for item, title in zip(shown, remark["shown"], strict=True) if item not in vocabulary.titles}
    signals = understanding(remark["said"], shown, vocabulary.with_titles(foreign))
    is_right, is_worse = True, False
    for side in SIDES:
        titles = {vocabulary.titles[item] for item in getattr(signals, f"{side}_item_ids") if item in vocabulary.titles}
        for read, key in ((set(getattr(signals, f"{side}_attributes")), side), (titles, f"{side}_titles")):
            expected = set(remark.get(key, ()))
            extra = read - expected - set(remark.get(f"maybe_{key}", ()))
            is_right, is_worse = is_right and expected <= read and not extra, is_worse or bool(extra)
    return Reading(remark["said"], is_right, is_worse)
