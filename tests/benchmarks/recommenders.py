"""Every base recommender on one dataset folder: trained, then measured on test items by full ranking.

    python tests/benchmarks/recommenders.py --dataset FOLDER --work FOLDER [--variant NAME ...] [--config FILE] [--set ...]

A variant is a model, or model/loss. The work folder keeps the artifacts; what lies there finished, by the same settings, is not
trained again, by whatever code it was trained: its row says "kept".
Prints a table, and one JSON object on the last line.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from cesrec_core.config import load_config

HEADER = """\
| recommender | HR@10 | NDCG@10 | MRR | coverage@10 | novelty@10, bits | best epoch | s |
|---|---|---|---|---|---|---|---|"""
ROOT = Path(__file__).parents[2]
VARIANTS = (
    "popularity",
    "markov",
    "gru4rec",
    "sasrec/bce",
    "sasrec/gbce",
    "sasrec/sampled_softmax",
    "sasrec",
    "esasrec/sampled_softmax",
    "esasrec",
    "hstu",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--variant", dest="variants", action="append", help="default: all")
    parser.add_argument("--split", default="leave_one_out")
    parser.add_argument("--config", type=Path, default=ROOT / "conf" / "base.yaml")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="train_recommender.key=value")
    options = parser.parse_args()
    results = {}
    for variant in options.variants or VARIANTS:
        command = training_command(options, variant)
        out = options.work / f"{variant.replace('/', '_')}-{name_of(command)}"
        seconds = train(command, out) if not (out / "manifest.json").exists() else None
        results[variant] = {"seconds": seconds, **evaluate(options.dataset, out)}
        print(row(variant, results[variant]), file=sys.stderr, flush=True)
    print(HEADER)
    print("\n".join(row(variant, result) for variant, result in results.items()))
    print(json.dumps(results))
    return 0


def training_command(options: argparse.Namespace, variant: str) -> list[str]:
    """All but where the artifact goes."""
    model, _, loss = variant.partition("/")
    values = [f"train_recommender.model={model}", f"train_recommender.loss={loss or 'cross_entropy'}"]
    if loss == "bce":
        values.append("train_recommender.num_negatives=1")
    command = [sys.executable, str(ROOT / "training" / "train_recommender.py"), "--dataset", str(options.dataset)]
    command += ["--split", options.split, "--config", str(options.config)]
    for value in (*values, *options.overrides):
        command += ["--set", value]
    return command


def name_of(command: list[str]) -> str:
    """Of the values that the command comes to: its configuration may say something else tomorrow."""
    overrides = [value for flag, value in pairwise(command) if flag == "--set"]
    config = load_config(command[command.index("--config") + 1], overrides)
    dataset = [str(Path(command[command.index("--dataset") + 1]).resolve()), config.dataset.has_real_timestamps]
    values = [dataset, config.run.seed, config.train_recommender.model_dump(), command[command.index("--split") + 1]]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:8]


def train(command: list[str], out: Path) -> float:
    started = time.monotonic()
    subprocess.run([*command, "--out", str(out)], check=True, stdout=subprocess.DEVNULL)
    return round(time.monotonic() - started, 1)


def evaluate(dataset: Path, artifact: Path) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "jobs" / "evaluate.py"), "--dataset", str(dataset), "--artifact", str(artifact)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    summary = json.loads(done.stdout.splitlines()[-1])
    best = json.loads((artifact / "manifest.json").read_text(encoding="utf-8"))["metrics"]["best_epoch"]
    return {"num_users": summary["num_users"], "best_epoch": int(best), "metrics": summary["metrics"]}


def row(variant: str, result: dict[str, Any]) -> str:
    metrics = result["metrics"]
    cells = [
        f"{metrics[name]['mean']:.4f} [{metrics[name]['low']:.4f}, {metrics[name]['high']:.4f}]"
        for name in ("HR@10", "NDCG@10")
    ]
    cells += [f"{metrics['MRR']['mean']:.4f}", f"{metrics['coverage@10']:.3f}", f"{metrics['novelty@10, bits']:.2f}"]
    seconds = "kept" if result["seconds"] is None else f"{result['seconds']:.0f}"
    return f"| {variant} | " + " | ".join([*cells, str(result["best_epoch"]), seconds]) + " |"


if __name__ == "__main__":
    sys.exit(main())
