"""build_sequences: interactions -> user_sequences, for the users that changed."""

from pyspark.sql import DataFrame

from cesrec_core import columns as c
from cesrec_core.delta_io.shards import read_parquet
from cesrec_core.frames.sequences import build_sequences
from cesrec_core.schemas import INTERACTIONS, USER_SEQUENCES
from cesrec_core.stages.context import RunContext, Stage, StageResult, read_state

SETTINGS = "build_sequences settings"
# Raised when the same interactions and settings make other rows.
FORM = 2


def fingerprint(context: RunContext) -> dict[str, str]:
    return {"interactions": str(context.warehouse.version(INTERACTIONS)), SETTINGS: _settings(context)}


def _settings(context: RunContext) -> str:
    return f"{context.section_hash('build_sequences')}-{FORM}"


def run(context: RunContext) -> StageResult:
    warehouse = context.warehouse
    # Where `ingest` had nothing to do, the table may still be of an earlier version.
    warehouse.create(USER_SEQUENCES)
    version = warehouse.version(INTERACTIONS)
    interactions = warehouse.read(INTERACTIONS, version)
    changed = _changed_users(context, version)
    if changed is None:
        num_users = warehouse.overwrite(USER_SEQUENCES, _park(context, interactions))
        return StageResult({"users": num_users, "users_rebuilt": num_users})
    changed = changed.persist()
    try:
        theirs = interactions.join(changed, on=c.USER_ID, how="left_semi")
        num_rebuilt = warehouse.merge(USER_SEQUENCES, _park(context, theirs))
        emptied = changed.join(interactions.select(c.USER_ID).distinct(), on=c.USER_ID, how="left_anti")
        if not emptied.isEmpty():
            warehouse.delete_rows(USER_SEQUENCES, emptied, on=(c.USER_ID,))
    finally:
        changed.unpersist()
    return StageResult({"users": warehouse.read(USER_SEQUENCES).count(), "users_rebuilt": num_rebuilt})


def _park(context: RunContext, interactions: DataFrame) -> DataFrame:
    """Build the histories once, into Parquet: whoever writes them looks at them twice, and each look would sort all rows."""
    folder = context.stage_path("build_sequences") / "user_sequences"
    sequences = build_sequences(interactions, context.config.build_sequences.max_history_items)
    sequences.write.mode("overwrite").parquet(str(folder))
    return read_parquet(context.spark, folder, USER_SEQUENCES)


def _changed_users(context: RunContext, version: int) -> DataFrame | None:
    """Users with a change since the version that was built last; None where everything has to be built."""
    state = read_state(context.warehouse.path, "build_sequences")
    if state is None or state.fingerprint[SETTINGS] != _settings(context):
        return None
    built = int(state.fingerprint["interactions"])
    if built >= version:
        return None
    changes = context.warehouse.read_changes(INTERACTIONS, built, version)
    return None if changes is None else changes.select(c.USER_ID).distinct()


STAGE = Stage(
    name="build_sequences",
    reads=(INTERACTIONS.name,),
    writes=(USER_SEQUENCES.name,),
    run=run,
    fingerprint=fingerprint,
)
