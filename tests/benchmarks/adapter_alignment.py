"""How well the Adapter aligns items that it has not seen, by dataset and extractor.

    python tests/benchmarks/adapter_alignment.py --dataset NAME=FOLDER [...] --extractor NAME=MODEL:POOLING [...] --work FOLDER
        [--recommender NAME=PLACE ...] [--set section.key=value ...]

For each dataset a recommender is trained once by conf/local.yaml, and kept in the work folder; with --recommender by the
configuration file that PLACE is, or PLACE is the folder of an artifact that is there. Titles and attributes of its items are
embedded by each extractor, without descriptions, and an Adapter is fitted as the nightly job does: the width by validation
items, figures of held-out items. Beside it stand two yardsticks with the same held-out items: the mean of the collaborative
vectors, and ridge regression, whose penalty is chosen on the same validation items. An Adapter that needed more pairs learned
from half of these, which ridge regression did not.
Prints a table, and one JSON object on the last line.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cesrec_core.adapter import ItemParts, alignment_metrics, fit_until_aligned
from cesrec_core.config import load_config
from cesrec_core.datasets import Catalogue, read_catalogue
from cesrec_core.extractor.transformer import Extractor
from cesrec_core.recommenders import Recommender
from cesrec_core.recommenders.artifact import load_recommender

ROOT = Path(__file__).parents[2]
HEADER = """\
| dataset | items | extractor | way | width | MSE | over variance | own rank | neighbour's rank |
|---|---|---|---|---|---|---|---|---|"""
PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10000.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", action="append", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--extractor", action="append", required=True, metavar="NAME=MODEL:POOLING")
    parser.add_argument("--recommender", action="append", default=[], metavar="NAME=PLACE")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="section.key=value")
    options = parser.parse_args()
    places = dict(pair.split("=", 1) for pair in options.recommender)
    results = []
    for pair in options.dataset:
        name, folder = pair.split("=", 1)
        catalogue = read_catalogue(Path(folder))
        place = Path(places.get(name, ROOT / "conf" / "local.yaml"))
        recommender = load_recommender(place)[0] if place.is_dir() else train(options, folder, str(place))
        for extractor in options.extractor:
            results += measure(name, catalogue, recommender, extractor, options.overrides)
    print(HEADER)
    for row in results:
        cells = [row["dataset"], f"{row['items']:,}", row["extractor"], row["way"], str(row["width"] or "")]
        cells += [f"{row['mse']:.4g}", f"{row['normalised_mse']:.3f}"]
        cells += [f"{row[name]:.1%}" for name in ("median_rank_share", "neighbour_rank_share")]
        print(f"| {' | '.join(cells)} |")
    print(json.dumps(results))
    return 0


def train(options: argparse.Namespace, folder: str, configuration: str) -> Recommender:
    command = [sys.executable, str(ROOT / "training" / "train_recommender.py"), "--split", "leave_one_out"]
    command += ["--dataset", folder, "--config", configuration]
    for value in options.overrides:
        command += ["--set", value]
    out = options.work / hashlib.sha256(json.dumps(command).encode()).hexdigest()[:8]
    if not (out / "manifest.json").exists():
        subprocess.run([*command, "--out", str(out)], check=True, stdout=subprocess.DEVNULL)
    return load_recommender(out)[0]


def measure(
    name: str, catalogue: Catalogue, recommender: Recommender, extractor: str, overrides: list[str]
) -> list[dict[str, Any]]:
    label, model = extractor.split("=", 1)
    path, pooling = model.rsplit(":", 1)
    config = load_config(None, [*overrides, f"embed_items.model_path={path}", f"embed_items.pooling={pooling}"])
    titles, attributes = catalogue.titles, catalogue.attributes
    texts = ["; ".join(filter(None, (title, ", ".join(own)))) for title, own in zip(titles, attributes, strict=True)]
    codes = [catalogue.code_of[item_id] for item_id in recommender.item_ids]
    started = time.perf_counter()
    semantic = torch.from_numpy(Extractor(config.embed_items, "cpu").embed([texts[code] for code in codes]))
    print(f"{name}, {label}: {len(codes)} items embedded in {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    collaborative = recommender.item_vectors()[1:].detach().clone()
    attempts = fit_until_aligned(semantic, collaborative, config.train_adapter, config.run.seed)
    best = min(attempts, key=lambda attempt: attempt.order).fitted
    parts = ItemParts.draw(len(semantic), config.train_adapter, torch.Generator().manual_seed(config.run.seed))
    ways = {"Adapter": (int(best.metrics["hidden_width"]), best.model(semantic))}
    ways["ridge regression"] = None, ridge(semantic, collaborative, parts)
    ways["mean"] = None, collaborative[parts.training].mean(dim=0).expand_as(collaborative)
    return [
        {
            "dataset": name,
            "items": len(codes),
            "extractor": label,
            "way": way,
            "width": width,
            "attempts": len(attempts),
            **alignment_metrics(aligned, collaborative, parts.held_out),
        }
        for way, (width, aligned) in ways.items()
    ]


def ridge(semantic: Tensor, collaborative: Tensor, parts: ItemParts) -> Tensor:
    """Linear answers for all items; float32 [N, D]."""
    inputs = (semantic - semantic[parts.training].mean(dim=0)) / semantic[parts.training].std(dim=0).clamp(min=1e-6)
    inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1).double()
    own, targets = inputs[parts.training], collaborative[parts.training].double()
    watched = torch.cat([parts.validation, parts.spare])
    answers = []
    for penalty in PENALTIES:
        weights = torch.linalg.solve(own.T @ own + penalty * torch.eye(inputs.shape[1]).double(), own.T @ targets)
        answer = (inputs @ weights).float()
        answers.append((float((answer[watched] - collaborative[watched]).square().mean()), answer))
    return min(answers, key=lambda pair: pair[0])[1]


if __name__ == "__main__":
    sys.exit(main())
