"""The nightly job for many users, with the seconds of each stage: the top 10 of everybody, from Delta into Delta.

    python tests/benchmarks/recommendations_into_delta.py --work FOLDER [--users 200000] [--items 20000] [--set ...]

Makes a catalogue of groups whose members follow one another, and users who walk through a few of them. What does not belong
to the question is kept short: the recommender is a factorised Markov chain of width 64, which is fitted in seconds, and the
Constructor takes 20 steps. Everything is written below --work, which must be empty. Prints a table of the stages, and one
JSON object on the last line.
"""

import argparse
import json
import sys
from pathlib import Path

import nightly_runs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ITEMS_PER_GROUP = 100
STEPS_PER_GROUP = 10
RUN_DATE = "2026-01-10"
FIRST_MOMENT = 1_700_000_000
SETTINGS = (
    "dataset.split=all",
    "train_recommender.model=markov",
    "train_recommender.embedding_dim=64",
    "train_recommender.markov_decay=0.5",
    "finetune_constructor.num_steps=20",
    "finetune_constructor.num_layers=1",
    "simulate_feedback.num_users=0",
    "audit.min_ndcg_over_popularity=0.0",
    "ray.rows_per_shard=20000",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--history", type=int, default=50, help="items per user")
    parser.add_argument("--config", default="conf/local.yaml")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="SECTION.KEY=VALUE")
    options = parser.parse_args()
    groups_per_user = -(-options.history // STEPS_PER_GROUP)
    if options.users < 1 or options.history < 1 or options.items // ITEMS_PER_GROUP < groups_per_user + 1:
        fewest = (groups_per_user + 1) * ITEMS_PER_GROUP
        parser.error(f"give at least one user, one item of history, and {fewest} items")
    options.work.mkdir(parents=True, exist_ok=True)
    if any(options.work.iterdir()):
        print(f"{options.work} is not empty. Name an empty folder.", file=sys.stderr)
        return 2
    dataset = options.work / "dataset"
    write_dataset(dataset, options.users, options.items, options.history)
    options.overrides = [*SETTINGS, *options.overrides]
    result = nightly_runs.run(options, dataset, RUN_DATE)
    print("| stage | s |\n|---|---|")
    for stage, seconds in result["summary"].get("seconds", {}).items():
        print(f"| {stage} | {seconds:.1f} |")
    print(f"peak memory {result['peak_gib']:.1f} GiB, of one worker {result['peak_worker_gib']:.2f} GiB")
    print(f"{result['seconds']:.0f} s, exit code {result['exit_code']}")
    print(json.dumps(result))
    return int(result["exit_code"])


def write_dataset(folder: Path, num_users: int, num_items: int, history: int) -> None:
    """Walks along the rings of random groups; no user has an item twice."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    num_groups = num_items // ITEMS_PER_GROUP
    per_user = -(-history // STEPS_PER_GROUP)
    groups = rng.random((num_users, num_groups), np.float32).argpartition(per_user, axis=1)[:, :per_user]
    starts = rng.integers(0, ITEMS_PER_GROUP, groups.shape)
    places = (starts[:, :, None] + np.arange(STEPS_PER_GROUP)) % ITEMS_PER_GROUP
    items = (groups[:, :, None] * ITEMS_PER_GROUP + places).reshape(num_users, -1)[:, :history]
    item_ids = pa.array([f"i{number:06d}" for number in range(num_items)])
    user_ids = pa.array([f"u{number:07d}" for number in range(num_users)])
    moments = FIRST_MOMENT + 3600 * np.tile(np.arange(history), num_users)
    interactions = {
        "user_id": user_ids.take(np.repeat(np.arange(num_users), history)),
        "item_id": item_ids.take(items.ravel()),
        "timestamp": moments,
    }
    pq.write_table(pa.table(interactions), folder / "interactions.parquet")
    titles = [f"Number {number % ITEMS_PER_GROUP} of series {number // ITEMS_PER_GROUP}" for number in range(num_items)]
    attributes = pa.array([[f"series {number // ITEMS_PER_GROUP % 20}"] for number in range(num_items)])
    pq.write_table(pa.table({"item_id": item_ids, "title": titles, "attributes": attributes}), folder / "items.parquet")


if __name__ == "__main__":
    sys.exit(main())
