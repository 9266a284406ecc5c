"""What `make newcomer` runs: the commands that README gives to who brings data of their own, as they stand there.

The data is a dataset folder of 60 people and 40 toys with one person's words; models and configuration are the demo's. All of
them have to be in what is exported, with toys that they have not had, and who asked for another kind has to be given it.
"""

import datetime as dt
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "unit")]

from tiny_world import NUM_ITEMS, NUM_USERS, item_row, write_dataset  # noqa: E402

SECTION = "## Your own data"
# Mostly takes puzzles.
WHO, WORDS = "person-00", "no more puzzle, please. I would like something with racing."
TOP_K = 10


def main() -> int:
    commands = commands_of((ROOT / "README.md").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "mine"
        write_dataset(folder)
        said = {"feedback_id": "1", "user_id": WHO, "utterance": WORDS, "recommended_item_ids": ["toy-00"]}
        said["created_at"] = dt.datetime.now(dt.UTC).isoformat()
        (folder / "feedback.jsonl").write_text(json.dumps(said) + "\n", encoding="utf-8")
        started = time.monotonic()
        script = commands.replace("FOLDER", str(folder))
        shown = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        seconds = time.monotonic() - started
        check_lists(folder, shown.stdout)
    print(f"README's commands have recommended toys to {NUM_USERS} people in {seconds:.0f} s")
    return 0


def commands_of(readme: str) -> str:
    """The first block of code of the section.

    Raises:
        ValueError: README has no such section, or no block in it.
    """
    found = re.search(rf"^{SECTION}$.*?^```\n(.+?)^```$", readme, re.MULTILINE | re.DOTALL)
    if found is None or "\n## " in found.group(0):
        raise ValueError(f"README.md has no block of commands under {SECTION!r}: newcomers have nothing to go by.")
    return found.group(1)


def check_lists(folder: Path, shown: str) -> None:
    (file,) = (folder / "warehouse" / "exports" / "recommendations" / "recommendations.jsonl").iterdir()
    lines = file.read_text(encoding="utf-8").splitlines()
    assert shown.splitlines()[-3:] == lines[:3], shown
    lists = {line["user_id"]: line["item_ids"] for line in map(json.loads, lines)}
    had: dict[str, set[str]] = {}
    for row in pq.read_table(folder / "interactions.parquet").to_pylist():
        had.setdefault(row["user_id"], set()).add(row["item_id"])
    assert set(lists) == set(had) and len(had) == NUM_USERS
    for user, items in lists.items():
        assert len(set(items)) == len(items) == TOP_K and not had[user] & set(items), (user, items)
    kinds = {row["item_id"]: row["attributes"][0] for row in map(item_row, range(NUM_ITEMS))}
    assert [kinds[item] for item in lists[WHO][:3]] == ["Racing"] * 3, lists[WHO]
    assert "Puzzle" not in {kinds[item] for item in lists[WHO]}, lists[WHO]


if __name__ == "__main__":
    sys.exit(main())
