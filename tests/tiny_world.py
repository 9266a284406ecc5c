"""A world small enough to run the whole job in a test: 60 people, 40 toys of four kinds, models of a few thousand weights."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from tiny_llama import write_tiny_llama

NUM_USERS = 60
NUM_ITEMS = 40
KINDS = ("Puzzle", "Racing", "Plush", "Craft")
RUN_DATE = "2026-03-02"
FIRST_DAY = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def write_tiny_world(folder: Path, seed: int = 0) -> Path:
    """Write dataset, models and configuration into `folder`; returns the configuration file.

    Every person has a favourite kind and mostly takes toys of it, with a stray one now and then: what the mask looks for.
    """
    write_dataset(folder / "dataset", seed)
    words = [kind.lower() for kind in KINDS]
    write_tiny_llama(folder / "models" / "encoder", seed=1, words=words)
    write_tiny_llama(folder / "models" / "language", seed=2, words=words)
    return write_config(folder)


def write_dataset(folder: Path, seed: int = 0) -> None:
    """A dataset folder as README describes it, without feedback."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([item_row(number) for number in range(NUM_ITEMS)]), folder / "items.parquet")
    rows = [row for user in range(NUM_USERS) for row in history_rows(user, rng)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "interactions.parquet")


def item_row(number: int) -> dict[str, Any]:
    kind = KINDS[number % len(KINDS)]
    return {"item_id": f"toy-{number:02d}", "title": f"{kind} set number {number}", "attributes": [kind]}


def history_rows(user: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    favourite = user % len(KINDS)
    of_kind = [item for item in range(NUM_ITEMS) if item % len(KINDS) == favourite]
    others = [item for item in range(NUM_ITEMS) if item % len(KINDS) != favourite]
    taken = [*rng.choice(of_kind, size=7, replace=False), *rng.choice(others, size=2, replace=False)]
    order = rng.permutation(len(taken))
    return [
        {
            "user_id": f"person-{user:02d}",
            "item_id": f"toy-{taken[place]:02d}",
            "timestamp": FIRST_DAY + dt.timedelta(days=int(day), minutes=user),
        }
        for day, place in enumerate(order)
    ]


def config_values(folder: Path) -> dict[str, Any]:
    return {
        "run": {"run_date": RUN_DATE, "seed": 7},
        "dataset": {"path": str(folder / "dataset"), "split": "leave_one_out"},
        "warehouse": {"path": str(folder / "warehouse")},
        "spark": {"master": "local[2]", "shuffle_partitions": 2, "snapshot_partitions": 1, "is_ui_enabled": False},
        "ray": {"num_actors": 1, "object_store_mib": 100, "rows_per_shard": 40},
        "train_recommender": {"embedding_dim": 16, "max_history_items": 20, "batch_size": 16, "max_epochs": 30},
        "embed_items": {"model_path": str(folder / "models" / "encoder"), "max_tokens": 48},
        # To an encoder of random weights, any word may be like any other.
        "understand_feedback": {"model_path": str(folder / "models" / "encoder"), "min_synonym_similarity": None},
        "train_adapter": {"max_epochs": 60, "hidden_width": 16, "batch_size": 8},
        "finetune_constructor": {
            "model_path": str(folder / "models" / "language"),
            "lora_rank": 4,
            "history_items": 20,
            "num_steps": 150,
            "batch_size": 16,
            "max_feedback_tokens": 64,
            "learning_rate": 0.005,
            "projection_learning_rate": 0.01,
            "num_validation_users": 40,
        },
        "simulate_feedback": {"num_users": 20},
        "recommend": {"top_k": 10, "attribute_weight": 2.0, "aligned_weight": 0.5, "constructor_weight": 1.0},
        # Forty toys leave little room to beat popularity by.
        "audit": {"min_ndcg_over_popularity": 0.0},
        "evaluate": {"num_bootstrap_samples": 200, "num_negatives": 10, "weight_grid": [0.0, 2.0]},
    }


def write_config(folder: Path, name: str = "tiny.yaml", **sections: dict[str, Any]) -> Path:
    """The world's configuration, with some sections' values replaced."""
    values = config_values(folder)
    for section, changes in sections.items():
        values[section] = {**values.get(section, {}), **changes}
    path = folder / name
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def append_interactions(folder: Path, rows: list[dict[str, Any]]) -> None:
    path = folder / "dataset" / "interactions.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, pa.Table.from_pylist(rows, schema=table.schema)]), path)


def append_items(folder: Path, rows: list[dict[str, Any]]) -> None:
    path = folder / "dataset" / "items.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, pa.Table.from_pylist(rows, schema=table.schema)]), path)


def write_feedback(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Replace the dataset's feedback.jsonl."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "dataset" / "feedback.jsonl").write_text(text, encoding="utf-8")


def feedback_row(number: int, user_id: str, utterance: str, day: str = RUN_DATE) -> dict[str, Any]:
    return {
        "feedback_id": f"said-{number}",
        "user_id": user_id,
        "created_at": f"{day}T08:00:00Z",
        "utterance": utterance,
        "recommended_item_ids": ["toy-01", "toy-05", "toy-09"],
    }
