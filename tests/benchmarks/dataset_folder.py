"""MovieLens-100K in RecBole's files, as `make setup` places them, made a dataset folder.

python tests/benchmarks/dataset_folder.py .venv/share/cesrec/datasets/ml-100k FOLDER
"""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    interactions, items = read(source)
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(interactions, folder / "interactions.parquet")
    pq.write_table(items, folder / "items.parquet")
    print(f"{folder}: {len(interactions)} interactions, {len(items)} items")
    return 0


def read(folder: Path) -> tuple[pa.Table, pa.Table]:
    """Interactions by time, and items, of RecBole's files or of a dataset folder."""
    if (folder / "interactions.parquet").exists():
        return pq.read_table(folder / "interactions.parquet").sort_by("timestamp"), pq.read_table(folder / "items.parquet")
    rows = [line.split("\t") for line in (folder / "ml-100k.inter").read_text(encoding="utf-8").splitlines()[1:]]
    interactions = pa.table(
        {
            "user_id": [row[0] for row in rows],
            "item_id": [row[1] for row in rows],
            "rating": [float(row[2]) for row in rows],
            "timestamp": [int(float(row[3])) for row in rows],
            "position": list(range(len(rows))),
        }
    )
    lines = [line.split("\t") for line in (folder / "ml-100k.item").read_text(encoding="utf-8").splitlines()[1:]]
    titles = [f"{title} ({year})" if year.isdigit() else title for _, title, year, _ in lines]
    attributes = pa.array([genres.split() for *_, genres in lines], pa.list_(pa.string()))
    items = pa.table({"item_id": [line[0] for line in lines], "title": titles, "attributes": attributes})
    return interactions.sort_by([("timestamp", "ascending"), ("position", "ascending")]), items


if __name__ == "__main__":
    sys.exit(main())
