"""Fine-tuning the Constructor: slots per second and memory by ZeRO stage and processes, and whether a seed repeats itself.

    python tests/benchmarks/finetuning.py --dataset FOLDER --work FOLDER [--config FILE] [--steps 20] [--set key=value ...]
        [--variant zero2/1 ...]

FOLDER is a dataset folder. Item vectors are random: neither time nor memory hangs on what they say. One variant after the
other, a stage of ZeRO and a number of processes, trains for so many steps from its beginning. The loss curves of one that is
named twice are compared; the first is by default. Slots are tokens of words and items, without padding; memory is the largest
sum of what all processes of a training held at one time. Prints a table, and one JSON object on the last line.
"""

import argparse
import contextlib
import json
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from safetensors.torch import save_file

from cesrec_core.datasets import read_catalogue

ROOT = Path(__file__).parents[2]
SEMANTIC_WIDTH, COLLABORATIVE_WIDTH = 384, 64
SECONDS_BETWEEN_SAMPLES = 0.2
VARIANTS = ("zero2/1", "zero2/1", "zero2/2", "zero3/1", "zero3/2")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--config", default=str(ROOT / "conf" / "local.yaml"))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--variant", dest="variants", nargs="+", choices=sorted(set(VARIANTS)), default=VARIANTS)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="SECTION.KEY=VALUE")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if any(options.work.iterdir()):
        print(f"{options.work} is not empty. Name an empty folder.", file=sys.stderr)
        return 2
    num_items = len(read_catalogue(options.dataset))
    generator = torch.Generator().manual_seed(0)
    widths = {"semantic": SEMANTIC_WIDTH, "collaborative": COLLABORATIVE_WIDTH}
    vectors = {name: torch.randn(num_items, width, generator=generator) for name, width in widths.items()}
    save_file(vectors, options.work / "features.safetensors")
    print("| DeepSpeed | processes | slots per second | memory, GiB | loss, first step | loss, last step |")
    print("|---|---|---|---|---|---|", flush=True)
    results = []
    for number, variant in enumerate(options.variants):
        results.append(train(options, number, variant))
        print(as_row(results[-1]), flush=True)
    curves: dict[str, list[Any]] = {}
    for variant, result in zip(options.variants, results, strict=True):
        curves.setdefault(variant, []).append(result["losses"])
    repeated = {variant: all(one == first for one in rest) for variant, (first, *rest) in curves.items() if rest}
    for variant, is_same in repeated.items():
        print(f"\n{variant}, trained again with one seed, gives {'the same curve' if is_same else 'ANOTHER CURVE'}.")
    print(json.dumps({"same_curve": repeated, "results": results}))
    return 0 if all(repeated.values()) else 1


def as_row(result: dict[str, Any]) -> str:
    first, last = result["losses"][0][0], result["losses"][-1][0]
    pace, gib = result["slots_per_second"], result["gib"]
    return f"| {result['stage']} | {result['processes']} | {pace:.0f} | {gib:.2f} | {first:.3f} | {last:.3f} |"


def train(options: argparse.Namespace, number: int, variant: str) -> dict[str, Any]:
    stage, processes = variant.split("/")[0], int(variant.split("/")[1])
    out = options.work / f"{number}-{stage}-{processes}"
    settings = {
        "deepspeed_config": ROOT / "conf" / "deepspeed" / f"{stage}.json",
        "num_processes": processes,
        "num_steps": options.steps,
        "num_validation_users": 8,
    }
    command = [sys.executable, str(ROOT / "training" / "finetune_constructor.py"), "--config", options.config]
    command += ["--dataset", str(options.dataset), "--item-features", str(options.work / "features.safetensors")]
    command += ["--out", str(out), "--set", "dataset.split=leave_one_out"]
    for override in [f"finetune_constructor.{key}={value}" for key, value in settings.items()] + options.overrides:
        command += ["--set", override]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    peak = Peak(process)
    errors = process.communicate()[1]
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{errors[-3000:]}")
    # Of rank 0; the others do as much.
    paces = re.findall(r"(\d+) slots/s", errors)
    losses = np.loadtxt(out / "losses.csv", delimiter=",", skiprows=1, ndmin=2).tolist()
    pace = float(paces[-1]) * processes
    return {"stage": stage, "processes": processes, "slots_per_second": pace, "gib": peak.gib(), "losses": losses}


class Peak:
    """The most memory that a process and those it started held together, sampled until it ends."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._bytes = 0
        self._thread = threading.Thread(target=self._sample, args=(process,), daemon=True)
        self._thread.start()

    def _sample(self, process: subprocess.Popen[str]) -> None:
        ended = threading.Event()
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
                # Shared pages count once: what a process alone holds, and half of what two share.
                self._bytes = max(self._bytes, sum(one.memory_full_info().pss for one in family))
            ended.wait(SECONDS_BETWEEN_SAMPLES)

    def gib(self) -> float:
        self._thread.join()
        return self._bytes / 2**30


if __name__ == "__main__":
    sys.exit(main())
