"""Models that may stay although data moved on: how old they are, and how much of the data they have not seen."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core.schemas import INTERACTIONS
from cesrec_core.stages.context import RunContext, read_state

# In the notes of a training: when the newest interaction that it saw happened.
NEWEST = "newest_interaction"


def num_interactions(context: RunContext, after: dt.datetime) -> tuple[int, int]:
    """Number of all, and of those that happened later than `after`.

    Also those that histories have no room for count: somebody whose history is full has new ones, too.
    """
    num_later = F.count_if(F.col(c.INTERACTED_AT) > F.lit(after))
    row = context.warehouse.read(INTERACTIONS).agg(F.count(F.lit(1)), num_later).collect()[0]
    return int(row[0]), int(row[1])


def keep_reason(
    context: RunContext, stage: str, settings: dict[str, str], max_age_days: int, max_new_share: float
) -> str | None:
    """Why the artifact in force may stay although data moved on; None where it must be trained again.

    One of a later date may not stay: it was trained on what had not happened yet.

    Args:
        settings: everything whose change alone asks for training, as noted by `training_notes`.
        max_new_share: of today's interactions, the share that the artifact may not have seen.
    """
    state = read_state(context.warehouse.path, stage)
    if state is None or state.artifact_id is None or state.notes.get("settings") != settings:
        return None
    age = (context.run_date - dt.date.fromisoformat(state.notes["run_date"])).days
    new_share = _new_share(context, state.notes)
    if not 0 <= age <= max_age_days or new_share > max_new_share:
        return None
    return (
        f"kept: {age} days old (limit {max_age_days}), {new_share:.1%} of interactions are new to it "
        f"(limit {max_new_share:.0%})"
    )


def _new_share(context: RunContext, notes: Mapping[str, Any]) -> float:
    """Of today's interactions, the share that a training with these notes cannot have seen.

    That is all beyond as many as it saw, and all later than the newest that it saw, whichever are more: a snapshot that drops
    old rows as new ones come stays as long as it was, and rows that come late are not newer.
    """
    total, num_later = num_interactions(context, _seen_up_to(notes))
    return max(num_later, total - int(notes["num_interactions"])) / max(1, total)


def _seen_up_to(notes: Mapping[str, Any]) -> dt.datetime:
    """UTC. Notes of an earlier version tell the day alone, after whose end nothing is read."""
    if notes.get(NEWEST):
        return dt.datetime.fromisoformat(notes[NEWEST])
    return dt.datetime.combine(dt.date.fromisoformat(notes["run_date"]), dt.time.max, tzinfo=dt.UTC)


def training_notes(context: RunContext, settings: dict[str, str]) -> dict[str, object]:
    """What `keep_reason` compares in later runs."""
    interactions = context.warehouse.read(INTERACTIONS)
    total, newest = interactions.agg(F.count(F.lit(1)), F.max(c.INTERACTED_AT)).collect()[0]
    return {
        "settings": settings,
        "run_date": context.run_date.isoformat(),
        "num_interactions": total,
        # PySpark hands out times without a zone, in the zone of this process.
        NEWEST: newest and newest.astimezone(dt.UTC).isoformat(),
    }
