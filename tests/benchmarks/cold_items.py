"""Items held out of training altogether: can they be recommended by the Adapter's vector of their text?

    python tests/benchmarks/cold_items.py --dataset FOLDER --work FOLDER [--moment validation] [--config FILE]
        [--set section.key=value ...]

A tenth of the items is drawn; their interactions are taken out of the histories, a recommender and an Adapter are trained
on the rest. Then every user's last item is ranked among all items. For users whose last item is a cold one: without cold
items, where it cannot be reached; with the Adapter's vectors and several shares of the bonus (`recommend.cold_item_bonus`);
with the same vectors shuffled among the cold items, as good as knowing nothing of their text. For the others: what opening
the lists to cold items costs. Beside it, which share of all top 10 are cold items. --moment validation does all of it a step
earlier, without everybody's last item: for choosing the bonus.
Prints a table, and one JSON object on the last line.
"""

import argparse
import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from cesrec_core.adapter import fit_until_aligned
from cesrec_core.catalogue import CatalogueFeatures
from cesrec_core.config import Config, load_config
from cesrec_core.datasets import Catalogue, Dataset, read_dataset
from cesrec_core.evaluation.metrics import full_ranks, hits, ndcg
from cesrec_core.evaluation.significance import bootstrap_interval
from cesrec_core.extractor.transformer import Extractor
from cesrec_core.ranking.product_search import top_products
from cesrec_core.ranking.scoring import Scorer
from cesrec_core.recommenders import Recommender
from cesrec_core.recommenders.artifact import load_recommender

ROOT = Path(__file__).parents[2]
COLD_SHARE = 0.1
USERS_PER_BLOCK = 2000
BONUSES = (0.0, 0.25, 0.5, 0.75, 1.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--moment", choices=("test", "validation"), default="test")
    parser.add_argument("--config", type=Path, default=ROOT / "conf" / "local.yaml")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="section.key=value")
    options = parser.parse_args()
    config = load_config(options.config, options.overrides)
    whole = read_dataset(options.dataset)
    if options.moment == "validation":
        whole = without_last_items(whole)
    rng = np.random.default_rng(config.run.seed)
    num_items = len(whole.catalogue)
    is_cold = np.zeros(num_items, bool)
    is_cold[rng.permutation(num_items)[: round(COLD_SHARE * num_items)]] = True

    recommender = train_without(options, whole, is_cold)
    features = embed(whole.catalogue, recommender, config)
    results = compare(whole, is_cold, recommender, features, rng)
    print("| last item | vectors of cold items | users | HR@10 | NDCG@10 | cold items in lists |\n|---|---|---|---|---|---|")
    for result in results:
        print(
            f"| {result['target']} | {result['vectors']} | {result['num_users']} | "
            f"{result['HR@10']['mean']:.4f} [{result['HR@10']['low']:.4f}, {result['HR@10']['high']:.4f}] | "
            f"{result['NDCG@10']['mean']:.4f} [{result['NDCG@10']['low']:.4f}, {result['NDCG@10']['high']:.4f}] | "
            f"{result['cold_share_of_lists']:.1%} |"
        )
    print(json.dumps(results))
    return 0


def without_last_items(whole: Dataset) -> Dataset:
    histories = whole.histories
    is_kept = np.ones(len(histories.item_codes), bool)
    is_kept[histories.offsets[1:] - 1] = False
    offsets = histories.offsets - np.arange(len(histories.offsets))
    return dataclasses.replace(
        whole,
        histories=dataclasses.replace(histories, offsets=offsets, item_codes=histories.item_codes[is_kept], timestamps=None),
    )


def train_without(options: argparse.Namespace, whole: Dataset, is_cold: np.ndarray) -> Recommender:
    """A recommender trained without everybody's last item and without the cold items; of what is left, its split holds back two
    more of each user."""
    folder = options.work / "dataset"
    command = [sys.executable, str(ROOT / "training" / "train_recommender.py"), "--split", "leave_one_out"]
    command += ["--dataset", str(folder), "--config", str(options.config)]
    for value in options.overrides:
        command += ["--set", value]
    asked = [*command, options.moment, str(options.dataset.resolve()), options.config.read_text(encoding="utf-8")]
    out = options.work / f"recommender-{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:8]}"
    if not (out / "manifest.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        histories = whole.histories
        lengths = np.diff(histories.offsets)
        users = np.repeat(np.arange(len(histories)), lengths)
        is_kept = ~is_cold[histories.item_codes]
        is_kept[histories.offsets[1:] - 1] = False
        kept = pa.table(
            {
                "user_id": pa.array(histories.user_ids).take(users[is_kept]),
                "item_id": pa.array(whole.catalogue.item_ids).take(histories.item_codes[is_kept]),
                "position": np.flatnonzero(is_kept),
            }
        )
        pq.write_table(kept, folder / "interactions.parquet")
        catalogue = whole.catalogue
        pq.write_table(pa.table({"item_id": catalogue.item_ids, "title": catalogue.titles}), folder / "items.parquet")
        subprocess.run([*command, "--out", str(out)], check=True, stdout=subprocess.DEVNULL)
    return load_recommender(out)[0]


def embed(catalogue: Catalogue, recommender: Recommender, config: Config) -> CatalogueFeatures:
    """The catalogue with aligned vectors from an Adapter that has seen the recommender's items only."""
    texts = [
        f"{title}. {', '.join(attributes)}" for title, attributes in zip(catalogue.titles, catalogue.attributes, strict=True)
    ]
    semantic = Extractor(config.embed_items, "cpu").embed(texts)
    codes = [catalogue.code_of[item_id] for item_id in recommender.item_ids]
    vectors = recommender.item_vectors()[1:]
    attempts = fit_until_aligned(torch.from_numpy(semantic[codes]), vectors, config.train_adapter, config.run.seed)
    fitted = min(attempts, key=lambda attempt: attempt.error).fitted
    print(f"adapter: {fitted.metrics}", file=sys.stderr)
    with torch.inference_mode():
        aligned = fitted.model(torch.from_numpy(semantic)).numpy().copy()
    has_collaborative = np.zeros(len(catalogue), bool)
    has_collaborative[codes] = True
    uncertainty = fitted.model.residual_covariance.numpy()
    is_active = np.ones(len(catalogue), bool)
    return CatalogueFeatures(catalogue, is_active, semantic, aligned, aligned, has_collaborative, uncertainty)


def compare(
    whole: Dataset, is_cold: np.ndarray, recommender: Recommender, features: CatalogueFeatures, rng: np.random.Generator
) -> list[dict]:
    histories = whole.histories
    users = np.flatnonzero(np.diff(histories.offsets) >= 3)
    targets = np.array([histories[user][-1] for user in users])
    shuffled = features.aligned.copy()
    unknown = np.flatnonzero(~features.has_collaborative)
    shuffled[unknown] = shuffled[rng.permutation(unknown)]
    blind = dataclasses.replace(features, aligned=shuffled)
    ways = {"left out": Scorer(recommender, features)}
    for bonus in BONUSES:
        ways[f"Adapter, bonus {bonus:g}"] = Scorer(recommender, features, include_cold_items=True, cold_item_bonus=bonus)
        ways[f"shuffled, bonus {bonus:g}"] = Scorer(recommender, blind, include_cold_items=True, cold_item_bonus=bonus)
    results = []
    for vectors, scorer in ways.items():
        blocks = np.array_split(users, len(users) // USERS_PER_BLOCK + 1)
        ranks, num_cold = (
            np.concatenate(parts) for parts in zip(*(rank(scorer, whole, block) for block in blocks), strict=True)
        )
        for target, is_asked in (("cold", is_cold[targets]), ("warm", ~is_cold[targets])):
            measures = {"HR@10": hits(ranks[is_asked], 10), "NDCG@10": ndcg(ranks[is_asked], 10)}
            intervals = {name: dataclasses.asdict(bootstrap_interval(values, 1000, 0)) for name, values in measures.items()}
            counts = {"num_users": int(is_asked.sum()), "cold_share_of_lists": float(num_cold.mean()) / 10}
            results.append({"target": target, "vectors": vectors, **counts, **intervals})
    return results


def rank(scorer: Scorer, whole: Dataset, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rank of each user's last item after all items before it, and how many of their top 10 are cold."""
    item_ids = whole.catalogue.item_ids
    histories = [[item_ids[code] for code in whole.histories[user]] for user in users]
    read = scorer.read([history[:-1] for history in histories])
    vectors = scorer.encode(read)
    scores = (vectors @ scorer.item_vectors.T).numpy()
    targets = np.array([scorer.vocabulary.idx_of.get(history[-1], 0) for history in histories], np.int64)
    listed = top_products(vectors, scorer.item_vectors, read.idx, scorer.allowed, 10).item_idx
    num_cold = (listed > scorer.num_known).sum(dim=1).numpy()
    return full_ranks(scores, targets, list(read.idx), scorer.allowed.numpy()), num_cold


if __name__ == "__main__":
    sys.exit(main())
