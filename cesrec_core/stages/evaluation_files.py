"""What `evaluate` leaves in the warehouse for people and for the pages of runs: a folder for each evaluation."""

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cesrec_core.stages.context import is_number, warn_of_damage, write_whole

FOLDER, FIGURES_FILE, TEXT_FILE = "evaluations", "evaluation.json", "evaluation.md"

# Of its figures, what a page says.
NEEDED = {"rows", "num_users", "artifacts"}


class Interval(NamedTuple):
    """A mean over users with the interval that it has."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class EvaluationRecord:
    """One evaluation.

    Attributes:
        run_id: its own, and of its rows in `metrics`.
        evaluated_at: with a time zone.
        figures: as `jobs/evaluate.py` prints them.
    """

    run_id: str
    evaluated_at: dt.datetime
    figures: Mapping[str, Any]


def write_evaluation(warehouse: Path, run_id: str, text: str, figures: Mapping[str, Any]) -> Path:
    """Write the tables and the figures; returns the file of the tables."""
    folder = warehouse / FOLDER / run_id
    write_whole(folder / TEXT_FILE, text)
    # A copy of the warehouse has other times of change.
    told = {"evaluated_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), **figures}
    write_whole(folder / FIGURES_FILE, json.dumps(told, indent=1))
    return folder / TEXT_FILE


def read_evaluation(folder: Path) -> EvaluationRecord | None:
    """The evaluation in a folder; None where there is none, or none that can be read."""
    file = folder / FIGURES_FILE
    try:
        figures = json.loads(file.read_text(encoding="utf-8"))
        # Evaluations of before it was written there.
        told = figures.get("evaluated_at")
        moment = dt.datetime.fromisoformat(told) if told else dt.datetime.fromtimestamp(file.stat().st_mtime, dt.UTC)
        return EvaluationRecord(folder.name, moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC), figures)
    except FileNotFoundError:  # at work, or interrupted
        return None
    except (OSError, ValueError, AttributeError, TypeError) as error:
        warn_of_damage(file, "evaluation", type(error).__name__)
        return None


def evaluations_of(warehouse: Path, artifact_ids: Mapping[str, str], num_earlier: int) -> list[EvaluationRecord]:
    """The newest evaluation of these artifacts, and up to `num_earlier` older ones of others, newest first.

    Empty where these artifacts were not evaluated.
    """
    read = [record for folder in (warehouse / FOLDER).glob("*/") if (record := read_evaluation(folder)) is not None]
    found = [record for record in read if record.figures.keys() >= NEEDED and _is_shown(record, warehouse)]
    newest_first = sorted(found, key=lambda record: (record.evaluated_at, record.run_id), reverse=True)
    own = next((place for place, record in enumerate(newest_first) if record.figures["artifacts"] == artifact_ids), None)
    if own is None:
        return []
    others = [record for record in newest_first[own + 1 :] if record.figures["artifacts"] != artifact_ids]
    return [newest_first[own], *others[:num_earlier]]


def _is_shown(record: EvaluationRecord, warehouse: Path) -> bool:
    """Whether a page can be made of it."""
    try:
        if not ndcg_by_variant(record.figures):
            raise ValueError
        if not isinstance(record.figures["num_users"], int) or not isinstance(record.figures["artifacts"], dict):
            raise TypeError
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        warn_of_damage(warehouse / FOLDER / record.run_id / FIGURES_FILE, "evaluation", type(error).__name__)
        return False
    return True


def ndcg_by_variant(figures: Mapping[str, Any]) -> dict[str, Interval]:
    """NDCG@10 by full ranking, of the variants in the order of the evaluation.

    Raises:
        LookupError, TypeError: these are no figures of an evaluation.
    """
    result = {}
    for row in figures["rows"]:
        name, measured = row["variant"]["name"], row["intervals"]["full"]["NDCG@10"]
        interval = Interval(measured["mean"], measured["low"], measured["high"])
        if not isinstance(name, str) or not all(is_number(value) for value in interval):
            raise TypeError(f"{name} has no numbers")
        result[name] = interval
    return result
