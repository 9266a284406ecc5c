"""Embedding many items, and again after some changed: seconds, what was embedded, and the driver's memory.

    python tests/benchmarks/embedding_cache.py --work FOLDER [--items 10000 100000] [--config FILE] [--set key=value ...]

For each number of items, from the smallest: a dataset of made-up items is ingested and embedded by the jobs `ingest` and
`embed_items`, then one title in a hundred is changed, and both run again for the next day. The driver is the two processes
that run the job, Python's and the JVM's, and its memory is the largest sum of what they hold at one time (without Ray's
processes). Everything is written below --work, which must be empty. Prints a table, and one JSON object on the last line.
"""

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]
CHANGED_SHARE = 0.01
NUM_USERS = 100
WORDS = ("red", "large", "classic", "deluxe", "wooden", "racing", "puzzle", "garden", "winter", "pocket", "silent", "northern")
SECONDS_BETWEEN_SAMPLES = 0.5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--config", default="conf/local.yaml")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="SECTION.KEY=VALUE")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if any(options.work.iterdir()):
        print(f"{options.work} is not empty. Name an empty folder.", file=sys.stderr)
        return 2
    results = []
    for num_items in sorted(options.items):
        folder = options.work / str(num_items)
        for day, changed_share in (("2026-01-10", 0.0), ("2026-01-11", CHANGED_SHARE)):
            write_dataset(folder / "dataset", num_items, changed_share)
            run(options, folder, "ingest", day)
            results.append({"items": num_items, "changed_share": changed_share, **run(options, folder, "embed_items", day)})
            print(json.dumps(results[-1]), file=sys.stderr)
    print("| items | changed | embedded | s | driver's memory, GiB | all processes, GiB |\n|---|---|---|---|---|---|")
    for result in results:
        print(
            f"| {result['items']:,} | {result['changed_share']:.0%} | {result['embedded']:,} | {result['seconds']:.0f} | "
            f"{result['driver_gib']:.2f} | {result['all_gib']:.2f} |"
        )
    print(json.dumps(results))
    return 0


def write_dataset(folder: Path, num_items: int, changed_share: float) -> None:
    """Titles of 3 to 12 words and a number; of the first items another number."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    words = np.array(WORDS)
    num_changed = round(changed_share * num_items)
    titles = [
        f"{' '.join(rng.choice(words, rng.integers(3, 13)))} {number + num_items * (number < num_changed)}"
        for number in range(num_items)
    ]
    item_ids = [f"i{number:07d}" for number in range(num_items)]
    items = {"item_id": item_ids, "title": titles, "attributes": [[WORDS[number % 12]] for number in range(num_items)]}
    pq.write_table(pa.table(items), folder / "items.parquet")
    users = [f"u{number % NUM_USERS}" for number in range(10 * NUM_USERS)]
    of_users = {
        "user_id": users,
        "item_id": item_ids[: len(users)],
        "timestamp": [1_700_000_000 + n for n in range(len(users))],
    }
    pq.write_table(pa.table(of_users), folder / "interactions.parquet")


def run(options: argparse.Namespace, folder: Path, job: str, run_date: str) -> dict[str, Any]:
    submit = shutil.which("spark-submit") or str(Path(sys.executable).parent / "spark-submit")
    command = [submit, f"jobs/{job}.py", "--config", options.config, "--run-date", run_date]
    settings = [f"dataset.path={folder / 'dataset'}", f"warehouse.path={folder / 'warehouse'}", *options.overrides]
    for setting in settings:
        command += ["--set", setting]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    peaks = {"driver": 0.0, "all": 0.0}
    sampler = threading.Thread(target=sample_memory, args=(process, f"jobs/{job}.py", peaks))
    sampler.start()
    output, _ = process.communicate()
    sampler.join()
    if process.returncode:
        raise SystemExit(f"{job} ended with {process.returncode}")
    summary = json.loads(output.strip().splitlines()[-1])
    counts = summary["counts"].get(job, {})
    return {
        "embedded": counts.get("embedded"),
        "seconds": summary["seconds"][job],
        **{f"{name}_gib": peak / 2**30 for name, peak in peaks.items()},
    }


def sample_memory(process: subprocess.Popen[str], script: str, peaks: dict[str, float]) -> None:
    """Keep the largest sums of proportional set sizes: of the processes that run the script, and of all."""
    while process.poll() is None:
        sums = {"driver": 0.0, "all": 0.0}
        try:
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        except psutil.Error:
            break
        for member in family:
            with contextlib.suppress(psutil.Error):
                size = member.memory_full_info().pss
                sums["all"] += size
                sums["driver"] += size * (script in member.cmdline())
        for name, size in sums.items():
            peaks[name] = max(peaks[name], size)
        time.sleep(SECONDS_BETWEEN_SAMPLES)


if __name__ == "__main__":
    sys.exit(main())
