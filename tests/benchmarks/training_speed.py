"""How soon SASRec is good: this project's training beside RePlay's, RecTools' and RecBole's, one after the other.

    python tests/benchmarks/training_speed.py --dataset FOLDER --work FOLDER [--peer NAME[/windows]=PYTHON ...]
        [--threads 2] [--max-epochs 200] [--max-seconds 900] [--seed N] [--reuse] [--set train_recommender.key=value ...]

    python3.11 -m venv replay && replay/bin/pip install torch==2.15.0 'replay-rec[torch]==0.22.0'
    python3.11 -m venv rectools && rectools/bin/pip install torch==2.15.0 'rectools[torch]==0.19.0'
    python3.11 -m venv recbole && recbole/bin/pip install torch==2.15.0 recbole==1.2.1 'numpy<2' 'pandas<3'

for `--peer replay=replay/bin/python --peer rectools=rectools/bin/python --peer recbole=recbole/bin/python`. The same
torch as here, so that the engine is no difference.

Everybody trains 2 blocks of 1 head at width 64 on histories' newest 50 items, with Adam at 0.001, on the processor, until
10 epochs brought no better validation NDCG@10. The rest is each library's own; --set changes ours, and FIGURES.md tells
what was set there:

| | loss | dropout | feed-forward | batch | a training row |
|---|---|---|---|---|---|
| ours | cross-entropy, all items | 0.1 | 256, GELU | 128 | 51 neighbouring items; all of a history in such rows |
| replay | cross-entropy, all items | 0.3 | 64, ReLU | 128 | the newest 51 items of a history |
| rectools | cross-entropy, all items | 0.2 | 64, ReLU | 128 | the newest 51 items of a history |
| recbole | cross-entropy, all items | 0.5 | 256, GELU | 2048 | up to 50 items and the one after them; every place is one |

`NAME/windows` gives RePlay or RecTools our rows instead, each as a history: more than they would make of the data
themselves.

Each user's last item is the test target, the one before it the validation target; both are ranked among all items of the
training part but those in the input. Peers' clocks run while they train, and stand still while epochs are scored; ours
counts validation and checkpoints too. Imports and the preparation of data are outside of all clocks. With --reuse, peers
whose runs of the same data and settings lie in the work folder are not run again.
Prints a table, and one JSON object on the last line, with every contender's curve.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from peers.measure import CURVE, MAX_LENGTH, NUM_BLOCKS, NUM_HEADS, TASK, VERSIONS, WIDTH, Task

from cesrec_core.datasets import Dataset, read_dataset
from cesrec_core.recommenders.batches import cut_windows
from cesrec_core.recommenders.training_data import prepare
from cesrec_core.splits import NOWHERE, cut_histories

HEADER = """\
| | epochs, best | stopped by | s an epoch | s to best | over ours | ours is as good after, s | \
validation HR@10 | NDCG@10 | test HR@10 | NDCG@10 |
|---|---|---|---|---|---|---|---|---|---|---|"""
ROOT = Path(__file__).parents[2]
RUNNERS = Path(__file__).parent / "peers"
PEERS = ("replay", "replay/windows", "rectools", "rectools/windows", "recbole")
OURS = "ours"
SPLIT = "leave_one_out"
PATIENCE_EPOCHS = 10
SETTINGS = "settings.json"
LOG = "log.txt"
# At most, in our curve, which is read from a log of four decimals.
ROUNDED_UP_BY = 5e-5
LOG_LINES_SHOWN = 20
Result = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--peer", dest="peers", type=peer, action="append", default=[], metavar="NAME[/windows]=PYTHON")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--max-epochs", type=int, default=200)
    parser.add_argument("--max-seconds", type=float, default=900)
    parser.add_argument("--seed", type=int, default=20_240_909)
    parser.add_argument("--reuse", action="store_true", help="peers' runs that lie finished in the work folder")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="train_recommender.key=value")
    options = parser.parse_args()
    options.dataset, options.work = options.dataset.resolve(), options.work.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    task = task_of(read_dataset(options.dataset))
    task.save(options.work)

    results = {OURS: run_ours(options)}
    print(row(OURS, results[OURS]), file=sys.stderr)
    for name, python in options.peers:
        results[name] = beside(results[OURS], run_peer(options, name, python))
        print(row(name, results[name]), file=sys.stderr)
    print(HEADER)
    print("\n".join(row(name, result) for name, result in results.items()))
    size = {"num_users": len(task.test_targets), "num_items": task.num_items, "num_interactions": sum(map(len, task.histories))}
    print(json.dumps({**size, "settings": settings_of(options), "ours": options.overrides, "results": results}))
    return 0


def peer(text: str) -> tuple[str, str]:
    name, _, python = text.partition("=")
    if name not in PEERS or not (python := shutil.which(python) or ""):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PYTHON with a name of {', '.join(PEERS)} and a program")
    return name, os.path.abspath(python)  # noqa: PTH100 - resolving the link would leave the virtual environment


def task_of(dataset: Dataset) -> Task:
    """What everybody is trained and measured on, by the rules of this project's training."""
    cuts = cut_histories(dataset.histories, SPLIT)
    data = prepare(dataset, cuts)
    idx_of_code = np.zeros(len(dataset.catalogue), np.int64)
    idx_of_code[[dataset.catalogue.code_of[item_id] for item_id in data.item_ids]] = np.arange(1, len(data.item_ids) + 1)
    users = np.flatnonzero(cuts.test_at != NOWHERE).tolist()
    histories = [idx_of_code[dataset.histories[user]] for user in users]
    inputs = [items[:place] for items, place in zip(histories, cuts.test_at[users], strict=True)]
    return Task(
        num_items=len(data.item_ids),
        histories=data.sequences,
        windows=[window for sequence in data.sequences for window in cut_windows(sequence, MAX_LENGTH)],
        validation_inputs=data.validation_inputs,
        validation_targets=data.validation_targets,
        test_inputs=[items[items != 0] for items in inputs],
        test_targets=np.array([items[place] for items, place in zip(histories, cuts.test_at[users], strict=True)]),
    )


def settings_of(options: argparse.Namespace) -> dict[str, float]:
    """What a peer's run depends on besides its data and environment."""
    names = ("threads", "max_epochs", "max_seconds", "seed")
    return {**{name: getattr(options, name) for name in names}, "patience_epochs": PATIENCE_EPOCHS}


def run_ours(options: argparse.Namespace) -> Result:
    out = empty_folder(options.work / OURS)
    artifact = out / "artifact"
    values = {
        "train_recommender.model": "sasrec",
        "train_recommender.embedding_dim": WIDTH,
        "train_recommender.num_blocks": NUM_BLOCKS,
        "train_recommender.num_heads": NUM_HEADS,
        "train_recommender.max_history_items": MAX_LENGTH,
        "train_recommender.max_epochs": options.max_epochs,
        "train_recommender.patience_epochs": PATIENCE_EPOCHS,
        "run.seed": options.seed,
    }
    command = [sys.executable, str(RUNNERS / "run_ours.py"), "--curve", str(out), "--max-seconds", str(options.max_seconds)]
    command += ["--dataset", str(options.dataset), "--out", str(artifact), "--split", SPLIT]
    command += ["--config", str(ROOT / "conf" / "base.yaml")]
    for value in (*(f"{key}={value}" for key, value in values.items()), *options.overrides):
        command += ["--set", value]
    run(command, out, options.threads)
    curve = read_curve(out)
    # The log rounds: which epoch was the best one, the artifact knows.
    best_epoch = int(json.loads((artifact / "manifest.json").read_text(encoding="utf-8"))["metrics"]["best_epoch"])
    measured = {moment: evaluate(options.dataset, artifact, moment) for moment in ("validation", "test")}
    return {**summary(options, curve, best_epoch), **measured, "curve": curve}


def evaluate(dataset: Path, artifact: Path, moment: str) -> dict[str, float]:
    command = [sys.executable, str(ROOT / "jobs" / "evaluate.py"), "--dataset", str(dataset), "--artifact", str(artifact)]
    done = subprocess.run([*command, "--moment", moment], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    metrics = json.loads(done.stdout.splitlines()[-1])["metrics"]
    return {name: metrics[name]["mean"] for name in ("HR@10", "NDCG@10")}


def run_peer(options: argparse.Namespace, name: str, python: str) -> Result:
    out = options.work / name.replace("/", "_")
    task_hash = hashlib.sha256((options.work / TASK).read_bytes()).hexdigest()
    settings = json.dumps({**settings_of(options), "task": task_hash, "python": python})
    is_finished = (out / SETTINGS).is_file() and (out / SETTINGS).read_text(encoding="utf-8") == settings
    if not (options.reuse and is_finished):
        library, _, rows = name.partition("/")
        command = [python, str(RUNNERS / f"run_{library}.py"), "--data", str(options.work), "--out", str(empty_folder(out))]
        command += ["--rows", rows or "histories", "--seed", str(options.seed), "--patience-epochs", str(PATIENCE_EPOCHS)]
        command += ["--max-epochs", str(options.max_epochs), "--max-seconds", str(options.max_seconds)]
        run(command, out, options.threads)
        (out / SETTINGS).write_text(settings, encoding="utf-8")
    curve = read_curve(out)
    best = max(curve, key=lambda point: point["validation"]["NDCG@10"])
    return {
        **summary(options, curve, best["epoch"]),
        "validation": best["validation"],
        "test": best["test"],
        "versions": json.loads((out / VERSIONS).read_text(encoding="utf-8")),
        "curve": curve,
    }


def empty_folder(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def run(command: list[str], out: Path, num_threads: int) -> None:
    """Run a contender in its folder, since some leave files where they stand; what it says goes to a file there."""
    print(f"{out.name}: training; {out / CURVE} grows", file=sys.stderr)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(num_threads))
    environment = {**os.environ, **threads, "CUDA_VISIBLE_DEVICES": ""}
    with (out / LOG).open("w", encoding="utf-8") as log:
        done = subprocess.run(command, cwd=out, env=environment, stdout=log, stderr=subprocess.STDOUT)
    if done.returncode:
        last_lines = (out / LOG).read_text(encoding="utf-8").splitlines()[-LOG_LINES_SHOWN:]
        sys.exit("\n".join([*last_lines, f"{out.name} failed; its whole log is {out / LOG}"]))


def read_curve(out: Path) -> list[Result]:
    return [json.loads(line) for line in (out / CURVE).read_text(encoding="utf-8").splitlines()]


def summary(options: argparse.Namespace, curve: list[Result], best_epoch: int) -> Result:
    num_epochs = len(curve)
    if num_epochs - best_epoch >= PATIENCE_EPOCHS:
        stopped_by = "patience"
    else:
        stopped_by = "max_epochs" if num_epochs >= options.max_epochs else "max_seconds"
    return {
        "num_epochs": num_epochs,
        "best_epoch": best_epoch,
        "stopped_by": stopped_by,
        "seconds_per_epoch": curve[-1]["seconds"] / num_epochs,
        "seconds": curve[best_epoch - 1]["seconds"],
    }


def beside(ours: Result, result: Result) -> Result:
    """A peer's figures, and how long we take for its best validation NDCG@10; None where we never reach it."""
    goal = result["validation"]["NDCG@10"]
    reached = (point["seconds"] for point in ours["curve"] if point["validation"]["NDCG@10"] >= goal + ROUNDED_UP_BY)
    return {"seconds_over_ours": result["seconds"] / ours["seconds"], "our_seconds_to_its_best": next(reached, None), **result}


def row(name: str, result: Result) -> str:
    over, ours = result.get("seconds_over_ours"), result.get("our_seconds_to_its_best")
    cells = [
        f"{result['num_epochs']}, {result['best_epoch']}",
        result["stopped_by"],
        f"{result['seconds_per_epoch']:.2f}",
        f"{result['seconds']:.1f}",
        "" if over is None else f"{over:.2f}",
        "" if name == OURS else "never" if ours is None else f"{ours:.1f}",
        *(f"{result[moment][measure]:.4f}" for moment in ("validation", "test") for measure in ("HR@10", "NDCG@10")),
    ]
    return f"| {name} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
