"""Seconds and memory of three nights: the first, the same again, and one with 1 % new interactions and 20 new remarks.

    python tests/benchmarks/nightly_runs.py --dataset FOLDER --work FOLDER [--config FILE] [--set section.key=value ...]

FOLDER of --dataset holds RecBole's ml-100k.inter and ml-100k.item (as `make setup` places them), or interactions.parquet and
items.parquet. Everything is written below --work, which must be empty. Prints one JSON object on the last line.
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

import dataset_folder
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]
FIRST_NIGHT, SECOND_NIGHT = "2026-01-10", "2026-01-11"
NEW_SHARE = 0.01
REMARKS = (
    "not another {0}, something with {1}",
    "less {0} and more {1} please",
    "I'd like some {1}",
    "enough {0} for now",
)
SECONDS_BETWEEN_SAMPLES = 1.0
# What Ray calls the processes that work through shards.
WORKER = "ray::_ShardActor"


def main() -> int:
    options = parse_arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    if any(options.work.iterdir()):
        print(f"{options.work} is not empty. Name an empty folder.", file=sys.stderr)
        return 2
    dataset = options.work / "dataset"
    interactions, items = dataset_folder.read(options.dataset)
    cut = round(len(interactions) * (1 - NEW_SHARE))
    dataset.mkdir()
    pq.write_table(items, dataset / "items.parquet")
    pq.write_table(interactions.slice(0, cut), dataset / "interactions.parquet")
    results = {"first_night": run(options, dataset, FIRST_NIGHT), "again": run(options, dataset, FIRST_NIGHT)}

    pq.write_table(interactions, dataset / "interactions.parquet")
    write_remarks(dataset, interactions.slice(0, cut), items)
    results["next_night"] = run(options, dataset, SECOND_NIGHT)
    for name, result in results.items():
        print(
            f"{name}: {result['seconds']:.0f} s, at most {result['peak_gib']:.1f} GiB, exit code {result['exit_code']}",
            file=sys.stderr,
        )
    print(json.dumps(results))
    return 0 if all(result["exit_code"] == 0 for result in results.values()) else 1


def write_remarks(dataset: Path, interactions: pa.Table, items: pa.Table) -> None:
    users = sorted(pc.unique(interactions["user_id"]).to_pylist())[:20]
    names = sorted({name for names in items["attributes"].to_pylist() for name in names or ()}) or ["black", "blue", "red"]
    rows = [
        {
            "feedback_id": f"remark-{number}",
            "user_id": user,
            "created_at": f"{SECOND_NIGHT}T07:00:00Z",
            "utterance": REMARKS[number % len(REMARKS)].format(names[number % len(names)], names[(number + 3) % len(names)]),
            "recommended_item_ids": [],
        }
        for number, user in enumerate(users)
    ]
    (dataset / "feedback.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def run(options: argparse.Namespace, dataset: Path, run_date: str) -> dict[str, Any]:
    """One night as its users start it, with the memory of all its processes sampled."""
    submit = shutil.which("spark-submit") or str(Path(sys.executable).parent / "spark-submit")
    command = [submit, "jobs/nightly_refresh.py", "--config", options.config, "--run-date", run_date]
    settings = [f"dataset.path={dataset}", f"warehouse.path={options.work / 'warehouse'}", *options.overrides]
    for setting in settings:
        command += ["--set", setting]
    started = time.time()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    peak = {"peak_gib": 0.0, "peak_worker_gib": 0.0}
    sampler = threading.Thread(target=sample_memory, args=(process, peak))
    sampler.start()
    output, _ = process.communicate()
    seconds = time.time() - started
    sampler.join()
    lines = output.strip().splitlines() or ["{}"]
    return {"seconds": seconds, **peak, "exit_code": process.returncode, "summary": json.loads(lines[-1])}


def sample_memory(process: subprocess.Popen[str], peak: dict[str, float]) -> None:
    """Keep the largest sum of proportional set sizes over the job and all its descendants, and that of one Ray worker."""
    while process.poll() is None:
        total = 0.0
        try:
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        except psutil.Error:
            break
        for member in family:
            with contextlib.suppress(psutil.Error):
                size = member.memory_full_info().pss / 2**30
                total += size
                if any(WORKER in part for part in member.cmdline()[:1]):
                    peak["peak_worker_gib"] = max(peak["peak_worker_gib"], size)
        peak["peak_gib"] = max(peak["peak_gib"], total)
        time.sleep(SECONDS_BETWEEN_SAMPLES)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--config", default="conf/local.yaml")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="SECTION.KEY=VALUE")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
