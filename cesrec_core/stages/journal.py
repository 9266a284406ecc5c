"""What a run decided of each stage, and why. Kept beside its shards for the page about the run, and read by nothing else but
maintenance, which leaves that page what it shows."""

import json
from dataclasses import dataclass
from pathlib import Path

from cesrec_core.stages.context import RunContext, is_number, warn_of_damage, write_whole

FILE = "journal.json"
RAN, SKIPPED, FAILED = "ran", "skipped", "failed"


@dataclass(frozen=True)
class Entry:
    """The last word on one stage.

    Attributes:
        reason: of the decision, or the error that stopped it.
        stands_on: of a stage that was skipped: the run that was through it last.
        seconds: of a stage that failed: how long it had worked. One that ran has them in its own record.
    """

    outcome: str
    reason: str
    stands_on: str | None = None
    seconds: float | None = None


def note(
    context: RunContext, stage: str, outcome: str, reason: str, *, stands_on: str | None = None, seconds: float | None = None
) -> None:
    """Remember it. A stage that ran and is skipped when the run goes on keeps what was said when it ran."""
    entries = read_journal(context.work_path)
    if outcome == SKIPPED and entries.get(stage, Entry("", "")).outcome == RAN:
        return
    entries[stage] = Entry(outcome, reason, stands_on, seconds)
    write_whole(context.work_path / FILE, json.dumps({name: vars(entry) for name, entry in entries.items()}, indent=1))


def read_journal(work_path: Path) -> dict[str, Entry]:
    """Entries by stage; none where the run was not noted, its work folder has been dropped, or they cannot be read."""
    file = work_path / FILE
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        entries = {stage: Entry(**entry) for stage, entry in values.items()}
        if not all(_is_as_written(entry) for entry in entries.values()):
            raise TypeError
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        warn_of_damage(file, "journal of a run", type(error).__name__)
        return {}
    return entries


def _is_as_written(entry: Entry) -> bool:
    """Whether its values are of the types that it was written with."""
    texts = (entry.outcome, entry.reason, entry.stands_on or "")
    return all(isinstance(text, str) for text in texts) and (entry.seconds is None or is_number(entry.seconds))
