"""How far counting alone goes: a Markov chain over the newest items with every pair it has seen, not factorised.

    python tests/benchmarks/exact_chain.py --dataset FOLDER [--decay 0.5]

A user's score of an item is the sum, over their newest 10 items, of decay^distance times the share of what followed that
item; popularity breaks ties. `train_recommender.model=markov` keeps of those counts what fits into vectors of
`embedding_dim`; this needs a matrix over all pairs of items, so it is a yardstick, and no recommender of the job.
Test items of everybody by leave-one-out, full ranking, seen items left out. Prints one JSON object on the last line.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array

from cesrec_core.datasets import read_dataset
from cesrec_core.evaluation.metrics import full_ranks, hits, ndcg
from cesrec_core.evaluation.significance import bootstrap_interval
from cesrec_core.recommenders.markov import MAX_DISTANCE, count_pairs
from cesrec_core.recommenders.popularity import log_shares
from cesrec_core.recommenders.training_data import prepare
from cesrec_core.splits import NOWHERE, cut_histories

USERS_PER_BLOCK = 500
# Far below any share of a pair.
POPULARITY_WEIGHT = 1e-6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--decay", type=float, default=0.5)
    options = parser.parse_args()
    dataset = read_dataset(options.dataset)
    cuts = cut_histories(dataset.histories, "leave_one_out")
    data = prepare(dataset, cuts)
    idx_of = {item_id: idx for idx, item_id in enumerate(data.item_ids, start=1)}
    idx_of_code = np.array([idx_of.get(item_id, 0) for item_id in dataset.catalogue.item_ids])
    users = np.flatnonzero(cuts.test_at != NOWHERE).tolist()
    histories = [idx_of_code[dataset.histories[user]] for user in users]
    inputs = [items[:place] for items, place in zip(histories, cuts.test_at[users], strict=True)]
    targets = np.array([items[place] for items, place in zip(histories, cuts.test_at[users], strict=True)])

    pairs = count_pairs(data.sequences, len(data.item_ids), options.decay)
    shares = csr_array(diags_array(1.0 / np.maximum(pairs.sum(axis=1), 1e-9)) @ pairs)
    popularity = POPULARITY_WEIGHT * np.exp(log_shares(data.sequences, len(data.item_ids)))
    ranks = []
    for start in range(0, len(inputs), USERS_PER_BLOCK):
        block = slice(start, start + USERS_PER_BLOCK)
        scores = np.tile(popularity, (len(inputs[block]), 1))
        scores[:, 1:] += (newest(inputs[block], options.decay, len(data.item_ids)) @ shares).toarray()
        ranks.append(full_ranks(scores.astype(np.float32), targets[block], inputs[block]))
    everybody = np.concatenate(ranks)
    figures = {"HR@10": hits(everybody, 10), "NDCG@10": ndcg(everybody, 10)}
    intervals = {name: dataclasses.asdict(bootstrap_interval(values, 1000, 0)) for name, values in figures.items()}
    for name, interval in intervals.items():
        print(f"{name} {interval['mean']:.4f} [{interval['low']:.4f}, {interval['high']:.4f}]")
    print(json.dumps({"num_users": len(users), "decay": options.decay, "metrics": intervals}))
    return 0


def newest(inputs: list[NDArray[np.int64]], decay: float, num_items: int) -> csr_array:
    """Weight of each item of a history by its distance from the end, float64 [users, V]; 0 is an unknown item."""
    rows, columns, weights = [], [], []
    for row, items in enumerate(inputs):
        for distance, item in enumerate(items[::-1][:MAX_DISTANCE].tolist()):
            if item:
                rows.append(row)
                columns.append(item - 1)
                weights.append(decay**distance)
    return csr_array((weights, (rows, columns)), shape=(len(inputs), num_items))


if __name__ == "__main__":
    raise SystemExit(main())
