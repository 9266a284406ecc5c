"""explain_mask: why items of one user's history are masked, or are not. Reads, and writes nothing but scratch files."""

import dataclasses
import datetime as dt
from typing import Any

import numpy as np
import torch
from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core.actors.session import RaySession
from cesrec_core.config import Config
from cesrec_core.delta_io.session import spark_session
from cesrec_core.errors import InputDataError
from cesrec_core.frames.histories import observed_histories
from cesrec_core.item_lists import ItemLists
from cesrec_core.rewriting.outliers import Explanation, OutlierRule, explain, find_outliers
from cesrec_core.schemas import USER_SEQUENCES
from cesrec_core.stages.catalogue_features import assemble_features
from cesrec_core.stages.context import RunContext
from cesrec_core.stages.runner import open_run


def run_explanation(config: Config, user_id: str) -> dict[str, Any]:
    """Print a table of the user's history as it is now, by the models in force, and return what it says.

    Raises:
        InputDataError: there is no such user, or nothing has been trained yet.
    """
    spark = spark_session(config.spark, "cesrec explain_mask")
    with RaySession(config.ray) as ray:
        return explain_mask(open_run(config, spark, ray, dt.datetime.now(dt.UTC).date()), user_id)


def explain_mask(context: RunContext, user_id: str) -> dict[str, Any]:
    histories = observed_histories(context.warehouse.read(USER_SEQUENCES), context.config.dataset.split)
    row = histories.where(F.col(c.USER_ID) == user_id).select(c.ITEM_IDS).first()
    if row is None:
        raise InputDataError("There is no user of that id in user_sequences. Check --user-id, or run jobs/build_sequences.py.")
    features = assemble_features(context, with_aligned=True)
    rule = OutlierRule.of(context.config.mask_outliers, context.config.run.seed)
    history = features.codes(list(row[c.ITEM_IDS]))
    vectors = torch.from_numpy(features.in_space(rule.space))
    similarities = find_outliers(ItemLists.of([history]), vectors, rule)[0].similarities
    explained = [explain(history, vectors, rule, int(place)) for place in np.flatnonzero(~np.isnan(similarities))]
    titles = [features.catalogue.titles[code] for code in history]
    first_read = len(history) - rule.max_history_items
    unread = {
        int(place): f"older than the newest {rule.max_history_items}" if place < first_read else "it has no vector"
        for place in np.flatnonzero(np.isnan(similarities))
    }
    print(_as_text(explained, unread, titles) + "\n", flush=True)
    return {
        "status": "done",
        "num_items": len(history),
        "space": context.config.mask_outliers.space,
        "places": [{"title": titles[entry.position], **dataclasses.asdict(entry)} for entry in explained],
        "not_read": [{"title": titles[place], "position": place, "why": why} for place, why in unread.items()],
    }


def _as_text(explained: list[Explanation], unread: dict[int, str], titles: list[str]) -> str:
    lines = [
        "| place | item | similarity | rank | deviations | masked, or why not | most like it in the history |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = {place: (str(place), titles[place], "", "", "", f"not read: {why}", "") for place, why in unread.items()}
    for entry in explained:
        nearest = ", ".join(f"{titles[other.position]} ({other.similarity:.2f})" for other in entry.nearest)
        rows[entry.position] = (
            str(entry.position),
            titles[entry.position],
            f"{entry.similarity:.3f}",
            f"{entry.rank} of {entry.num_ranked}",
            f"{entry.deviations:.1f}",
            entry.why_kept or "masked",
            nearest,
        )
    lines += ["| " + " | ".join(cell.replace("|", "/") for cell in rows[place]) + " |" for place in sorted(rows)]
    return "\n".join(lines)
