"""data_profile: distributions of what was ingested, for people to look at. Reads, and writes nothing."""

from cesrec_core.delta_io.warehouse import Warehouse
from cesrec_core.frames.data_profile import (
    attribute_use,
    feedback_by_source,
    history_lengths,
    interactions_by_day,
    item_popularity,
    pairs_by_size,
    times_recommended,
)
from cesrec_core.report.data_profile import AttributeUse, DataProfile
from cesrec_core.schemas import FEEDBACK, INTERACTIONS, ITEMS, RECOMMENDATIONS, USER_SEQUENCES

NUM_ATTRIBUTES = 18


def read_profile(warehouse: Warehouse) -> DataProfile:
    """What the tables look like now.

    Raises:
        InputDataError: `ingest` or `build_sequences` has not run yet.
    """
    sequences, interactions = warehouse.read(USER_SEQUENCES), warehouse.read(INTERACTIONS)
    items, feedback = warehouse.read(ITEMS), warehouse.read(FEEDBACK)
    pairs = pairs_by_size(interactions, sequences, items).collect()
    return DataProfile(
        lengths=tuple(sorted(tuple(row) for row in history_lengths(sequences).collect())),
        popularity=tuple(sorted(tuple(row) for row in item_popularity(interactions, items).collect())),
        days=tuple(sorted(tuple(row) for row in interactions_by_day(interactions).collect())),
        attributes=tuple(AttributeUse(*row) for row in attribute_use(interactions, items, NUM_ATTRIBUTES).collect()),
        feedback=dict(sorted(tuple(row) for row in feedback_by_source(feedback).collect())),
        pairs={(length, popularity): count for length, popularity, count in pairs},
    )


def read_exposure(warehouse: Warehouse, run_id: str) -> list[tuple[int, int, int]]:
    """Interactions, lists of the run, and how many active items have so many of both; ascending."""
    recommended = warehouse.read_run(RECOMMENDATIONS, run_id)
    rows = times_recommended(recommended, warehouse.read(INTERACTIONS), warehouse.read(ITEMS)).collect()
    return sorted(tuple(row) for row in rows)
