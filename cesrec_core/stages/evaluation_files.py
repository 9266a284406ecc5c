"""What `evaluate` leaves in the warehouse for people and for the pages of runs: a folder for each evaluation."""

import datetime as dt
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cesrec_core.stages.context import write_whole

FOLDER, FIGURES_FILE, TEXT_FILE = "evaluations", "evaluation.json", "evaluation.md"

# Of its figures, what a page says.
NEEDED = {"rows", "num_users", "artifacts"}

log = logging.getLogger(__name__)


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
        log.warning("%s is no evaluation that can be read (%s), and left aside", file, type(error).__name__)
        return None


def evaluations_of(warehouse: Path, artifact_ids: Mapping[str, str], num_earlier: int) -> list[EvaluationRecord]:
    """The newest evaluation of these artifacts, and up to `num_earlier` older ones of others, newest first.

    Empty where these artifacts were not evaluated.
    """
    read = [record for folder in (warehouse / FOLDER).glob("*/") if (record := read_evaluation(folder)) is not None]
    found = [record for record in read if record.figures.keys() >= NEEDED]
    newest_first = sorted(found, key=lambda record: (record.evaluated_at, record.run_id), reverse=True)
    own = next((place for place, record in enumerate(newest_first) if record.figures["artifacts"] == artifact_ids), None)
    if own is None:
        return []
    others = [record for record in newest_first[own + 1 :] if record.figures["artifacts"] != artifact_ids]
    return [newest_first[own], *others[:num_earlier]]
