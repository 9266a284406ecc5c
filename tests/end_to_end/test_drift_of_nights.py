"""What is noticed where vectors or masks move under a model that stays."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import World
from pyspark.sql import functions as F
from tiny_world import KINDS

from cesrec_core.delta_io.runs import Run, find_run
from cesrec_core.schemas import OUTLIER_MASKS, USER_SEQUENCES
from cesrec_core.stages import audit, train_adapter
from cesrec_core.stages.audit import since_published
from cesrec_core.stages.nightly import NIGHTLY
from cesrec_core.stages.runner import decide

EMBEDDING = [stage for stage in NIGHTLY if stage.name in ("ingest", "embed_items")]
MASKING = [stage for stage in NIGHTLY if stage.name == "mask_outliers"]
NEXT_NIGHT = "run.run_date='2026-03-03'"


@pytest.mark.parametrize(("is_every_kind_another", "is_needed"), [(False, False), (True, True)])
def test_an_adapter_is_trained_again_where_texts_have_left_it(
    copied_world: World, is_every_kind_another: bool, is_needed: bool
) -> None:
    dataset = Path(shutil.copytree(copied_world.open().config.dataset.path or "", copied_world.folder / "dataset"))
    rows = pq.read_table(dataset / "items.parquet").to_pylist()
    for row in rows if is_every_kind_another else rows[:1]:
        kind = KINDS[(KINDS.index(row["attributes"][0]) + 1) % len(KINDS)] if is_every_kind_another else row["attributes"][0]
        row.update(title=f"{kind} set number {row['item_id'][-2:]} again", attributes=[kind])
    pq.write_table(pa.Table.from_pylist(rows), dataset / "items.parquet")
    night = NEXT_NIGHT, f"dataset.path={dataset}"
    copied_world.run(*night, stages=EMBEDDING)
    decision = decide(train_adapter.STAGE, copied_world.open(*night))
    assert decision.is_needed == is_needed
    assert ("changed: item_embeddings" if is_needed else "kept: alignment error") in decision.reason


def test_masks_of_two_nights_are_compared_where_nothing_but_the_night_changed(
    copied_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied_world.run(NEXT_NIGHT, stages=MASKING)
    context = copied_world.open(NEXT_NIGHT)
    measured = {"semantic_norm": 1.0, "aligned_norm": 2.0, "users_masked_share": 1.0}
    before = {
        row["name"]: row["value"]
        for row in copied_world.table("metrics").where("stage = 'audit'").collect()
        if row["name"] in measured
    }
    assert "mask_stability_share" not in since_published(context, measured)  # sixty people are too few
    monkeypatch.setattr(audit, "MIN_COMPARED_USERS", 40)
    found = since_published(context, measured)
    assert found["users_masked_share_change"] == 0.0
    assert found["mask_stability_share"] == 1.0
    assert found["semantic_norm_change"] == pytest.approx(abs(1.0 - before["semantic_norm"]) / before["semantic_norm"])

    # As if the mask of every fourth person had moved to the newest place.
    masks = context.warehouse.read_run(OUTLIER_MASKS, context.run_id)
    rows = masks.withColumn("number", F.substring("user_id", 8, 2).cast("int"))
    last = F.array((F.size("similarities") - 1).cast("int"))
    moved = rows.withColumn("masked_positions", F.when(F.col("number") % 4 == 0, last).otherwise(F.col("masked_positions")))
    context.warehouse.replace_run(OUTLIER_MASKS, moved.drop("number").localCheckpoint(), context.run_id)
    assert 0.7 < since_published(context, measured)["mask_stability_share"] < 0.9

    # As if the histories of just these were full: what is masked there moves with every new item.
    histories = context.warehouse.read(USER_SEQUENCES).localCheckpoint()
    is_fourth = F.substring("user_id", 8, 2).cast("int") % 4 == 0
    full = histories.where(is_fourth).withColumn("older_item_ids", F.array(F.lit("an item from before")))
    context.warehouse.merge(USER_SEQUENCES, full)
    assert since_published(context, measured)["mask_stability_share"] == 1.0

    # Limits of the audit are no part of what a run is, so that a night can be accepted.
    assert copied_world.open(NEXT_NIGHT, "audit.min_mask_stability_share=0.1").run_id == context.run_id
    other = copied_world.open(NEXT_NIGHT, "mask_outliers.is_adaptive=true")
    found = since_published(other, measured)
    assert set(found) == {"ungated_users_masked_share_change"}  # its masks are not made yet
    assert not [limit.name for limit in audit.LIMITS if limit.name in found]


@pytest.mark.parametrize(("trained", "comparable"), [("adapter", {"aligned_norm"}), ("recommender", set())])
def test_after_a_training_limits_hold_for_lengths_of_texts_vectors_alone(
    copied_world: World, monkeypatch: pytest.MonkeyPatch, trained: str, comparable: set[str]
) -> None:
    """Texts that went wrong may be what asked for it. Of a recommender that was trained anew, lengths say nothing at all."""
    copied_world.run(NEXT_NIGHT, stages=MASKING)
    context = copied_world.open(NEXT_NIGHT)
    measured = {"semantic_norm": 1e6, "aligned_norm": 1e6, "users_masked_share": 0.0}

    def find_other(*of: Any) -> Run | None:
        run = find_run(*of)
        return run and dataclasses.replace(run, artifact_ids={**run.artifact_ids, trained: "another"})

    monkeypatch.setattr(audit, "MIN_COMPARED_USERS", 50)
    monkeypatch.setattr(audit, "find_run", find_other)
    found = since_published(context, measured)
    ungated = {*(f"{name}_change" for name in comparable), "users_masked_share_change", "mask_stability_share"}
    assert set(found) == {"semantic_norm_change", *(f"ungated_{name}" for name in ungated)}
    assert found["ungated_mask_stability_share"] == 1.0
    assert [limit.name for limit in audit.LIMITS if limit.complaint(found, context.config)] == ["semantic_norm_change"]


def test_lengths_of_another_extractors_vectors_are_not_compared(copied_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model may be replaced in its folder, of which the configuration tells nothing."""
    copied_world.run(NEXT_NIGHT, stages=MASKING)
    context = copied_world.open(NEXT_NIGHT)
    other = shutil.copytree(
        context.artifact_path("adapter", context.artifact_id("adapter")), context.artifact_path("adapter", "other")
    )
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["parents"]["extractor"] = "the model that was there before"
    (other / "manifest.json").write_text(json.dumps(manifest))

    def find_other(*of: Any) -> Run | None:
        run = find_run(*of)
        return run and dataclasses.replace(run, artifact_ids={**run.artifact_ids, "adapter": "other"})

    monkeypatch.setattr(audit, "find_run", find_other)
    found = since_published(context, {"semantic_norm": 1e6, "aligned_norm": 1e6, "users_masked_share": 0.0})
    assert "ungated_aligned_norm_change" in found
    assert not [name for name in found if "semantic" in name]
