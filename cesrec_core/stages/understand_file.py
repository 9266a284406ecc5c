"""Understand the utterances of a JSON lines file, without Spark, Ray or a warehouse."""

import argparse
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cesrec_core import columns as c
from cesrec_core.config import Config
from cesrec_core.datasets import read_catalogue_file
from cesrec_core.errors import ConfigError, InputDataError
from cesrec_core.feedback.listening import check_sentence_model, open_listener
from cesrec_core.feedback.understanding import Signals
from cesrec_core.feedback.vocabulary import CatalogueVocabulary
from cesrec_core.job_parser import local_path
from cesrec_core.progress import progress
from cesrec_core.web_text import with_characters

log = logging.getLogger(__name__)

RECOMMENDED_TITLES = "recommended_titles"
_BATCH = 256
# Begins the id of a title that the catalogue does not have; no catalogue's own id does.
_FOREIGN = "\0"


@dataclass(frozen=True)
class Line:
    """A line of the file: its fields, the items shown best first, and titles of those that the catalogue does not have."""

    fields: Mapping[str, Any]
    item_ids: list[str]
    titles: dict[str, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--items", type=local_path, metavar="FILE.parquet", help="the catalogue: item_id, title, optional attributes"
    )
    parser.add_argument(
        "--in",
        dest="source",
        type=local_path,
        metavar="FILE.jsonl",
        help="lines with utterance, and recommended_titles or _item_ids",
    )
    parser.add_argument("--out", type=local_path, metavar="FILE.jsonl", help="the same lines, and what was understood")


def understands_file(parser: argparse.ArgumentParser, options: argparse.Namespace) -> bool:
    """Whether the command line asks for a file; ends the program where it asks for part of it."""
    given = [value is not None for value in (options.items, options.source, options.out)]
    if any(given) and not all(given):
        parser.error("--items, --in and --out go together")
    if all(given) and options.dry_run:
        parser.error("--dry-run is for the stage: a file has no plan")
    return all(given)


def run_understand_file(config: Config, options: argparse.Namespace) -> dict[str, Any]:
    """Write each line of --in to --out with what was understood; returns counts.

    Raises:
        InputDataError: a line is no JSON object with an utterance.
        ConfigError: --out cannot be written, or there is no such sentence model.
    """
    source: Path = options.source
    out: Path = options.out
    check_sentence_model(config.understand_feedback)
    if not out.parent.is_dir() or out.is_dir():
        raise ConfigError(f"--out {out}: not a file in a folder that is there. Make the folder, or name a file.")
    catalogue = read_catalogue_file(options.items)
    vocabulary = CatalogueVocabulary.of(catalogue)
    lines = list(_lines(source, vocabulary))
    listener = open_listener(config.understand_feedback, vocabulary, "cpu")
    counts: Counter[str] = Counter()
    scratch = out.with_name(f"{out.name}.part")
    with scratch.open("w", encoding="utf-8") as file, progress("understand", len(lines), "utterances") as advance:
        for start in range(0, len(lines), _BATCH):
            batch = lines[start : start + _BATCH]
            utterances = [line.fields[c.UTTERANCE] for line in batch]
            read = listener.read(utterances, [line.item_ids for line in batch], [line.titles for line in batch])
            for line, signals in zip(batch, read, strict=True):
                # ASCII, so that halves of surrogate pairs go through as they came.
                file.write(json.dumps({**line.fields, **_as_fields(signals)}) + "\n")
                counts.update(signals.intents)
                counts["actionable"] += signals.is_actionable
                counts["vague"] += signals.is_vague
            advance(len(batch))
    scratch.replace(out)
    num_titles = sum(len(line.item_ids) for line in lines)
    return {
        "status": "done",
        "counts": {
            "utterances": len(lines),
            "titles": num_titles,
            "titles_in_catalogue": num_titles - sum(len(line.titles) for line in lines),
            **dict(sorted(counts.items())),
        },
    }


def _lines(source: Path, vocabulary: CatalogueVocabulary) -> Iterator[Line]:
    try:
        text = source.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise InputDataError(f"--in {source} cannot be read ({error.strerror}). Name a file of JSON lines.") from error
    for number, row in enumerate(text.split("\n"), start=1):
        if row.strip():
            yield _line(row, f"{source}:{number}", vocabulary)


def _line(row: str, place: str, vocabulary: CatalogueVocabulary) -> Line:
    try:
        fields = json.loads(row)
    except (ValueError, RecursionError) as error:
        raise InputDataError(f"{place} is not JSON. Write one object on each line.") from error
    if not isinstance(fields, dict) or not isinstance(fields.get(c.UTTERANCE), str):
        raise InputDataError(f"{place} has no text in `{c.UTTERANCE}`. Give each line an object with what was said.")
    shown = _texts(fields, c.RECOMMENDED_ITEM_IDS, place)
    titles: dict[str, str] = {}
    for title in map(with_characters, _texts(fields, RECOMMENDED_TITLES, place) if not shown else ()):
        items = vocabulary.items_titled(title)
        item_id = items[0] if items else f"{_FOREIGN}{len(titles)}"
        if not items:
            titles[item_id] = title
        shown.append(item_id)
    return Line(fields, shown, titles)


def _texts(fields: Mapping[str, Any], name: str, place: str) -> list[str]:
    values = fields.get(name) or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise InputDataError(f"{place}: `{name}` is not a list of texts. Give one, or leave it out.")
    return list(values)


def _as_fields(signals: Signals) -> dict[str, Any]:
    return {
        "intent": list(signals.intents),
        "is_actionable": signals.is_actionable,
        c.IS_VAGUE: signals.is_vague,
        c.WANTED_ATTRIBUTES: list(signals.wanted_attributes),
        c.UNWANTED_ATTRIBUTES: list(signals.unwanted_attributes),
        c.WANTED_ITEM_IDS: _known(signals.wanted_item_ids),
        c.UNWANTED_ITEM_IDS: _known(signals.unwanted_item_ids),
        c.CONFIDENCE: signals.confidence,
    }


def _known(item_ids: tuple[str, ...]) -> list[str]:
    return [item_id for item_id in item_ids if not item_id.startswith(_FOREIGN)]
