"""What a night embeds again, and what it does with a text that the model cannot bear."""

import json
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from conftest import World
from pyspark.sql import functions as F
from safetensors.torch import load_file, save_file
from tiny_world import NUM_ITEMS, append_items, item_row

from cesrec_core.actors.embed_items import EmbedItems
from cesrec_core.catalogue import CatalogueFeatures
from cesrec_core.columns import ITEM_TEXT
from cesrec_core.errors import BusyError
from cesrec_core.stages import embed_items, map_table
from cesrec_core.stages.catalogue_features import export_features
from cesrec_core.stages.context import writing_to
from cesrec_core.stages.nightly import NIGHTLY
from cesrec_core.stages.runner import plan

# The worker below travels by value: Ray's processes do not find this file.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

POISON = "set nobody survives"
INGESTING = [stage for stage in NIGHTLY if stage.name in ("ingest", "embed_items")]
PROJECTING = [stage for stage in NIGHTLY if stage.name in ("ingest", "embed_items", "train_adapter", "project_items")]
MASKING = [stage for stage in NIGHTLY if stage.name in ("ingest", "embed_items", "project_items", "mask_outliers")]


class EmbedItemsUnlessPoisoned(EmbedItems):
    def process(self, shard: pa.Table) -> pa.Table:
        if any(POISON in text for text in shard[ITEM_TEXT].to_pylist()):
            raise RuntimeError("the model ran against a wall")
        return super().process(shard)


@pytest.fixture
def dataset(copied_world: World) -> Path:
    """A copy of the dataset, for a test to change."""
    original = Path(copied_world.open().config.dataset.path or "")
    return Path(shutil.copytree(original, copied_world.folder / "dataset"))


def night(day: int, dataset: Path, *overrides: str) -> tuple[str, ...]:
    return f"run.run_date='2026-03-{day:02d}'", f"dataset.path={dataset}", *overrides


def change_title(dataset: Path, item_id: str, title: str) -> None:
    rows = pq.read_table(dataset / "items.parquet").to_pylist()
    next(row for row in rows if row["item_id"] == item_id)["title"] = title
    pq.write_table(pa.Table.from_pylist(rows), dataset / "items.parquet")


def test_only_texts_that_changed_are_embedded_and_each_once(copied_world: World, dataset: Path) -> None:
    change_title(dataset, "toy-03", "Craft set with glue")
    append_items(copied_world.folder, [{**item_row(number), "title": "Racing set twice"} for number in (41, 45)])
    before = {row["text_hash"] for row in copied_world.table("item_embeddings").collect()}
    summary = copied_world.run(*night(3, dataset), stages=INGESTING)
    assert summary["counts"]["embed_items"] == {"items": NUM_ITEMS + 2, "embedded": 2, "refused": 0}
    rows = copied_world.table("item_embeddings").collect()
    assert len(rows) == len(before) + 2
    assert {row["text_hash"] for row in rows} >= before


def test_only_texts_of_the_catalogue_are_projected_and_a_text_of_before_when_it_is_back(
    copied_world: World, dataset: Path
) -> None:
    title = pq.read_table(dataset / "items.parquet").to_pylist()[0]
    change_title(dataset, title["item_id"], "Wholly other toy")
    copied_world.run(*night(3, dataset), stages=PROJECTING)
    new_adapter = "train_adapter.learning_rate=0.002"
    counts = copied_world.run(*night(4, dataset, new_adapter), stages=PROJECTING)["counts"]
    assert counts["project_items"]["projected"] == NUM_ITEMS
    change_title(dataset, title["item_id"], title["title"])
    counts = copied_world.run(*night(5, dataset, new_adapter), stages=PROJECTING)["counts"]
    assert (counts["embed_items"]["embedded"], counts["project_items"]["projected"]) == (0, 1)


def test_another_extractor_leaves_the_cache_of_the_first(copied_world: World, dataset: Path) -> None:
    other = copied_world.run(*night(3, dataset, "embed_items.pooling=last"), stages=INGESTING)
    assert other["counts"]["embed_items"]["embedded"] == NUM_ITEMS
    back = copied_world.run(*night(4, dataset), stages=INGESTING)
    assert back["counts"]["embed_items"]["embedded"] == 0
    counts = copied_world.table("item_embeddings").groupBy("extractor_id").count().collect()
    assert [row["count"] for row in counts] == [NUM_ITEMS, NUM_ITEMS]


def test_a_text_that_the_model_fails_on_is_quarantined_and_its_item_has_no_vector(
    copied_world: World, dataset: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cesrec_core.actors.embed_items.EmbedItems", EmbedItemsUnlessPoisoned)
    append_items(copied_world.folder, [item_row(40), {**item_row(41), "title": POISON}, item_row(42)])
    summary = copied_world.run(*night(3, dataset), stages=MASKING)
    assert summary["counts"]["embed_items"] == {"items": NUM_ITEMS + 3, "embedded": 2, "refused": 1}
    assert summary["counts"]["project_items"] == {"projected": 2}
    assert POISON not in caplog.text
    refused = copied_world.table("quarantine", summary["run_id"]).where(F.col("source") == "embed_items").collect()
    assert [(row["row"], row["reason"]) for row in refused] == [(1, "text_fails_extractor")]
    assert json.loads(refused[0]["record"])["item_id"] == "toy-41"

    features = CatalogueFeatures.load(export_features(copied_world.open(*night(3, dataset))))
    has_vector = {
        item_id: bool(vector.any()) for item_id, vector in zip(features.catalogue.item_ids, features.aligned, strict=True)
    }
    assert [item_id for item_id, has in has_vector.items() if not has] == ["toy-41"]
    # Another night tries again, and the model bears it by now.
    monkeypatch.undo()
    summary = copied_world.run(*night(4, dataset), stages=INGESTING)
    assert summary["counts"]["embed_items"] == {"items": NUM_ITEMS + 3, "embedded": 1, "refused": 0}
    summary = copied_world.run(*night(5, dataset), stages=INGESTING)
    assert "embed_items" not in summary["counts"] or not summary["counts"]["embed_items"]["embedded"]


def stopped_after_embedding(world: World, dataset: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> Path:
    """What the third night leaves of embed_items when it is stopped before its embeddings are in the table."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(map_table, "import_shards", stop)
        world.run(*night(3, dataset, *overrides), stages=INGESTING)
    # Runs that went well have such a folder too, with a record that they did.
    (left,) = [folder for folder in world.warehouse_path.glob("work/*/embed_items") if not (folder / "done.json").exists()]
    return left


def test_what_a_run_that_was_stopped_had_embedded_is_not_embedded_again_by_another(
    copied_world: World, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_items(copied_world.folder, [item_row(40)])
    left = stopped_after_embedding(copied_world, dataset, monkeypatch) / "out"
    (left / "part-damaged.parquet").write_bytes(b"PAR1")
    append_items(copied_world.folder, [item_row(41)])
    summary = copied_world.run(*night(4, dataset), stages=INGESTING)
    assert summary["counts"]["embed_items"] == {"items": NUM_ITEMS + 2, "embedded": 1, "refused": 0}
    hashes = [row["text_hash"] for row in copied_world.table("item_embeddings").collect()]
    assert len(hashes) == len(set(hashes)) == NUM_ITEMS + 2
    assert not left.exists()


def test_what_a_run_had_embedded_is_kept_when_it_begins_anew_after_another(
    copied_world: World, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_items(copied_world.folder, [item_row(40)])
    left = stopped_after_embedding(copied_world, dataset, monkeypatch)
    others = Path(shutil.copytree(dataset, copied_world.folder / "others"))
    change_title(others, "toy-03", "Craft set with glue")
    copied_world.run(*night(4, others), stages=INGESTING[:1])
    assert list(left.glob("out/*"))
    summary = copied_world.run(*night(3, dataset), stages=INGESTING)
    assert summary["run_id"] == left.parent.name
    assert summary["counts"]["embed_items"] == {"items": NUM_ITEMS + 1, "embedded": 0, "refused": 0}
    assert copied_world.table("item_embeddings").count() == NUM_ITEMS + 1
    assert not list(copied_world.warehouse_path.glob("work/*-*"))


def test_a_model_that_was_replaced_while_a_run_lay_still_embeds_all_of_it(
    copied_world: World, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is the same, since its configuration names the folder: what the first model did is kept, and not the second's."""
    append_items(copied_world.folder, [item_row(40)])
    original = copied_world.open().config.embed_items.model_path
    model = Path(shutil.copytree(original, copied_world.folder / "replaced" / Path(original).name))
    named = f"embed_items.model_path={model}"
    left = stopped_after_embedding(copied_world, dataset, monkeypatch, named)
    weights = load_file(model / "model.safetensors")
    save_file({name: 1.5 * values for name, values in weights.items()}, model / "model.safetensors", {"format": "pt"})
    summary = copied_world.run(*night(3, dataset, named), stages=INGESTING)
    assert summary["run_id"] == left.parent.name
    assert summary["counts"]["embed_items"] == {"items": NUM_ITEMS + 1, "embedded": NUM_ITEMS + 1, "refused": 0}
    counts = copied_world.table("item_embeddings").groupBy("extractor_id").count().collect()
    assert [row["count"] for row in counts] == [NUM_ITEMS + 1, NUM_ITEMS + 1]


def test_titles_that_change_places_ask_whether_the_adapter_still_fits(copied_world: World, dataset: Path) -> None:
    """No text is new, and every other item may be told of by another's."""
    titles = {row["item_id"]: row["title"] for row in pq.read_table(dataset / "items.parquet").to_pylist()}
    change_title(dataset, "toy-03", titles["toy-04"])
    change_title(dataset, "toy-04", titles["toy-03"])
    copied_world.run(*night(3, dataset), stages=INGESTING)
    decisions = {stage.name: decision for stage, decision in plan(NIGHTLY, copied_world.open(*night(3, dataset)))}
    assert "nothing it reads changed" not in decisions["train_adapter"].reason


def test_two_runs_at_once(copied_world: World, dataset: Path) -> None:
    versions = copied_world.versions()
    with writing_to(copied_world.warehouse_path), pytest.raises(BusyError, match=r"is being written to by process \d+ on \S+"):
        copied_world.run(*night(3, dataset), stages=INGESTING)
    assert copied_world.versions() == versions
    copied_world.run(*night(3, dataset), stages=INGESTING)


@pytest.mark.parametrize(("num_tokens", "is_told"), [(250, False), (512, True)])
def test_who_asks_for_more_tokens_than_texts_can_have_is_told(
    copied_world: World, num_tokens: int, is_told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    embed_items.check(copied_world.open(f"embed_items.max_tokens={num_tokens}", "ingest.max_text_characters=1000"))
    assert ("cut at 1000 characters (ingest.max_text_characters), about 250 tokens" in caplog.text) == is_told
