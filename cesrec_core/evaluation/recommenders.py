"""How good a recommender is on items it has not seen, and for whom: ranks of one target per user, in whole and by group.

Full ranking with seen items filtered comes first; the target against uniform negatives stands beside it, since many
papers report nothing else, and reorders methods (Krichene & Rendle, KDD 2020).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cesrec_core.artifacts import Manifest
from cesrec_core.datasets import Catalogue, Dataset
from cesrec_core.errors import ArtifactError, InputDataError
from cesrec_core.evaluation.metrics import (
    UNREACHABLE,
    Ranks,
    full_ranks,
    hits,
    ndcg,
    reciprocal_ranks,
    sample_negatives,
    sampled_ranks,
)
from cesrec_core.evaluation.significance import Interval, PairedTest, bootstrap_interval, paired_test
from cesrec_core.item_lists import ItemLists
from cesrec_core.ranking.top_k import top_k
from cesrec_core.recommenders.batches import encode_histories
from cesrec_core.recommenders.protocol import Recommender
from cesrec_core.recommenders.training_data import SCORES_PER_BLOCK, prepare
from cesrec_core.sequences import Moment
from cesrec_core.splits import NOWHERE, SPLIT_NAMES, Cuts, cut_histories

TOP_K = 10
ENTROPY = "entropy of taste"
# Matrix products round equal vectors differently at different places: what is less than this apart is a tie, as in the lists.
SCORE_DECIMALS = 9
NUM_GROUPS = 4
Advance = Callable[[int], None]


@dataclass(frozen=True)
class HeldOutUsers:
    """Everybody who has a target at one moment, U users.

    Attributes:
        inputs: histories before the target, in item_idx of the recommender; 0 is an item it does not know.
        target_ids: the item each user is tested on.
        had: all of each user's items, later ones too, in item codes of the catalogue: what is no negative.
        idx_of_code: int64 [N], item_idx of the catalogue's items; 0 where the recommender does not know one.
        target_idx: int64 [U], the same for the recommender; 0 where it does not know the target.
        properties: of each user, float64 [U]; by each the users are put into groups.
        num_users_of: int64 [V + 1], users who had the item in training.
        num_training_users: users with a training part.
        is_drawn: bool [N], items of the catalogue that anybody has had: what negatives are drawn from. No recommender knows
            the others, and any looks better beside them.
    """

    user_ids: list[str]
    target_ids: list[str]
    inputs: ItemLists
    had: ItemLists
    idx_of_code: NDArray[np.int64]
    target_idx: NDArray[np.int64]
    properties: dict[str, NDArray[np.float64]]
    num_users_of: NDArray[np.int64]
    num_training_users: int
    is_drawn: NDArray[np.bool_]


@dataclass(frozen=True)
class Group:
    """NDCG@10 of some users, and the least and the greatest value among them of the property that made them a group."""

    num_users: int
    lowest: float
    highest: float
    ndcg: Interval


@dataclass(frozen=True)
class Measured:
    """What one recommender did for U users.

    Attributes:
        full, sampled: int64 [U] ranks under the two protocols.
        lists: int64 [U, TOP_K] item_idx.
        num_negatives: of a user in the sampled protocol, a mean: fewer than asked for where the catalogue has no more.
    """

    full: Ranks
    sampled: Ranks
    lists: NDArray[np.int64]
    num_negatives: float


def held_out_users(dataset: Dataset, manifest: Manifest, item_ids: Sequence[str], moment: Moment) -> HeldOutUsers:
    """The users that an artifact can be tested on.

    Raises:
        ArtifactError: the artifact saw its targets, or was trained on other data.
        InputDataError: nobody has a target.
    """
    cuts = _cuts_of(dataset, manifest, item_ids, moment)
    histories = dataset.histories
    users = np.flatnonzero(cuts.targets_at(moment) != NOWHERE).tolist()
    if not users:
        raise InputDataError(f"No user has a {moment} target under split {cuts.name!r}. Bring longer histories.")
    idx_of = {item_id: idx for idx, item_id in enumerate(item_ids, start=1)}
    idx_of_code = np.array([idx_of.get(item_id, 0) for item_id in dataset.catalogue.item_ids], np.int64)
    ends = cuts.targets_at(moment)
    inputs = [histories[user][: ends[user]] for user in users]
    targets = np.array([histories[user][ends[user]] for user in users], np.int64)
    training = np.concatenate([histories[user][:end] for user, end in enumerate(cuts.training_end)])
    count_of_code = np.bincount(training, minlength=len(dataset.catalogue))
    had = np.concatenate([np.unique(histories[user][:end]) for user, end in enumerate(cuts.training_end)])
    num_users_of = np.bincount(idx_of_code[had], minlength=len(item_ids) + 1)
    num_users_of[0] = 0
    properties = {
        "history length": np.array([len(items) for items in inputs], np.float64),
        "popularity of the target": count_of_code[targets].astype(np.float64),
    }
    if any(dataset.catalogue.attributes):
        properties[ENTROPY] = np.array([attribute_entropy(items, dataset.catalogue) for items in inputs])
    return HeldOutUsers(
        user_ids=[histories.user_ids[user] for user in users],
        target_ids=[dataset.catalogue.item_ids[target] for target in targets],
        inputs=ItemLists.of([idx_of_code[items] for items in inputs]),
        had=ItemLists.of([histories[user].astype(np.int64) for user in users]),
        idx_of_code=idx_of_code,
        target_idx=idx_of_code[targets],
        properties=properties,
        num_users_of=num_users_of,
        num_training_users=int((cuts.training_end > 0).sum()),
        is_drawn=np.bincount(histories.item_codes, minlength=len(dataset.catalogue)) > 0,
    )


def _cuts_of(dataset: Dataset, manifest: Manifest, item_ids: Sequence[str], moment: Moment) -> Cuts:
    name = f"Artifact {manifest.artifact_id}"
    if manifest.split == "all":
        raise ArtifactError(
            f"{name} was trained on everything, the items to be predicted included. Evaluate its held_out_twin instead."
        )
    if manifest.split not in SPLIT_NAMES:
        raise ArtifactError(
            f"{name} was trained by split {manifest.split!r}, says its manifest; here there are {', '.join(SPLIT_NAMES)}. "
            "Train it again, or evaluate it with the version of the code that trained it."
        )
    # The training had a look at the timestamps, and the data below has to be what it saw.
    cuts = cut_histories(dataset.histories, manifest.split, has_real_timestamps=True)
    if (cuts.targets_at(moment) == NOWHERE).all() and manifest.split == "leave_last_out":
        raise ArtifactError(f"{name} was trained on the validation items ({manifest.split}). Evaluate it on test items.")
    seen = prepare(dataset, cuts)
    here = {
        "num_interactions": int(cuts.training_end.sum()),
        **cuts.boundaries,
        "content_hash": seen.content_hash(),
    }
    known = {key: manifest.trained_on.get(key) for key in here}
    if known != here:
        raise ArtifactError(
            f"{name} was trained on other data: its manifest says {known}, this folder gives {here}. Give the folder "
            "that it was trained on (of a night: what its tables held then), or train one on this folder."
        )
    if list(item_ids) != list(seen.item_ids):
        raise ArtifactError(f"{name} names other items, or in another order, than the data it was trained on. Train it again.")
    return cuts


def attribute_entropy(item_codes: NDArray[np.int32], catalogue: Catalogue) -> float:
    """Entropy in bits of the attributes of a history's items: how diverse a taste is."""
    attributes = [attribute for code in item_codes for attribute in catalogue.attributes[code]]
    if not attributes:
        return 0.0
    _, counts = np.unique(attributes, return_counts=True)
    shares = counts / counts.sum()
    return abs(float((shares * np.log2(shares)).sum()))  # a single attribute gives no -0.0


def quartiles(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Group 0 .. 3 of each value; equal values share a group, so groups may differ in size or be empty."""
    borders = np.quantile(values, np.arange(1, NUM_GROUPS) / NUM_GROUPS)
    return np.searchsorted(borders, values, side="left").astype(np.int64)


@torch.inference_mode()
def measure(
    model: Recommender, users: HeldOutUsers, num_negatives: int, seed: int, advance: Advance = lambda _: None
) -> Measured:
    """Rank every target, and list the top 10 of every user; block by block."""
    # As lists are made: of two vectors whose products differ by less than float32 can tell, the better one comes first.
    item_vectors = model.item_vectors().double()
    # Of the dataset, so that recommenders that know other items are asked the same. Nobody is shown what is not known.
    had = [codes + 1 for codes in users.had]
    drawn = sample_negatives(len(users.idx_of_code), had, num_negatives, seed, np.append(False, users.is_drawn))
    negatives = np.where(drawn > 0, users.idx_of_code[drawn - 1], 0)
    rows = max(1, SCORES_PER_BLOCK // len(item_vectors))
    full, sampled, lists = [], [], []
    for start in range(0, len(users.inputs), rows):
        seen = users.inputs.rows(start, start + rows)
        targets = users.target_idx[start : start + rows]
        vectors = encode_histories(model, list(seen))
        scores = (vectors.double() @ item_vectors.T).round(decimals=SCORE_DECIMALS).cpu().numpy()
        full.append(full_ranks(scores, targets, list(seen)))
        sampled.append(sampled_ranks(full[-1], scores, targets, negatives[start : start + rows]))
        scores[:, 0] = -np.inf
        lists.append(top_k(torch.from_numpy(scores), list(seen), TOP_K)[0].numpy())
        advance(len(targets))
    num_drawn = float((drawn > 0).sum(axis=1).mean())
    return Measured(np.concatenate(full), np.concatenate(sampled), np.concatenate(lists), num_drawn)


PER_USER: dict[str, Callable[[Measured], NDArray[np.float64]]] = {
    "HR@5": lambda measured: hits(measured.full, 5),
    "NDCG@5": lambda measured: ndcg(measured.full, 5),
    "HR@10": lambda measured: hits(measured.full, 10),
    "NDCG@10": lambda measured: ndcg(measured.full, 10),
    "MRR": lambda measured: reciprocal_ranks(measured.full),
    "HR@5 sampled": lambda measured: hits(measured.sampled, 5),
    "NDCG@5 sampled": lambda measured: ndcg(measured.sampled, 5),
    "HR@10 sampled": lambda measured: hits(measured.sampled, 10),
    "NDCG@10 sampled": lambda measured: ndcg(measured.sampled, 10),
    "MRR sampled": lambda measured: reciprocal_ranks(measured.sampled),
}


def overall(measured: Measured, num_samples: int, seed: int) -> dict[str, Interval]:
    """Every figure over all users, with its 95 % bootstrap interval."""
    return {name: bootstrap_interval(values(measured), num_samples, seed) for name, values in PER_USER.items()}


def by_group(measured: Measured, users: HeldOutUsers, num_samples: int, seed: int) -> dict[str, list[Group | None]]:
    """NDCG@10 by quartile of each property; None for an empty quartile, whose border ties with the one below."""
    figures = ndcg(measured.full, 10)

    def group_of(values: NDArray[np.float64], of_users: NDArray[np.float64]) -> Group | None:
        if not len(values):
            return None
        interval = bootstrap_interval(of_users, num_samples, seed)
        return Group(len(values), float(values.min()), float(values.max()), interval)

    result: dict[str, list[Group | None]] = {}
    for name, values in users.properties.items():
        quartile = quartiles(values)
        is_member = [quartile == number for number in range(NUM_GROUPS)]
        result[name] = [group_of(values[members], figures[members]) for members in is_member]
    return result


def coverage(lists: NDArray[np.int64], num_items: int) -> float:
    """Share of the catalogue that stands in at least one list."""
    return len(np.unique(lists[lists > 0])) / num_items


def novelty(lists: NDArray[np.int64], num_users_of: NDArray[np.int64], num_users: int) -> float:
    """Mean of -log2(share of users who had the item) over all recommended items (mean inverse user frequency, in bits)."""
    shown = lists[lists > 0]
    return float(-np.log2(np.maximum(num_users_of[shown], 1) / num_users).mean()) if len(shown) else 0.0


def unreachable(ranks: Ranks) -> float:
    """Share of targets that no list could have held: unknown to the recommender, or had before. They count as misses."""
    return float((ranks == UNREACHABLE).mean())


def compare(variant: Measured, baseline: Measured, num_samples: int, seed: int) -> dict[str, PairedTest]:
    """Two recommenders on the same users: variant minus baseline."""
    return {
        name: paired_test(values(variant), values(baseline), num_samples, seed)
        for name, values in PER_USER.items()
        if name in ("HR@10", "NDCG@10", "MRR", "HR@10 sampled", "NDCG@10 sampled")
    }


def as_text(
    title: str,
    figures: Mapping[str, Interval],
    of_lists: Mapping[str, float],
    groups: Mapping[str, Sequence[Group | None]],
    tests: Mapping[str, PairedTest],
    other: str = "",
) -> str:
    """All figures as Markdown; `tests` are against the artifact `other`."""
    lines = [f"### {title}", "", "| measure | mean [95 % interval] |", "|---|---|"]
    lines += [f"| {name} | {_interval(interval)} |" for name, interval in figures.items()]
    lines += [f"| {name} | {value:.4f} |" for name, value in of_lists.items()]
    lines += ["", "| NDCG@10 by quartile of | lowest | | | highest |", "|---|---|---|---|---|"]
    for name, of_groups in groups.items():
        lines.append(f"| {name} | " + " | ".join(map(_cell, of_groups)) + " |")
    for name, test in tests.items():
        d = test.difference
        lines += ["", f"{name} minus that of {other}: {d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}], p = {test.p_value:.4f}"]
    return "\n".join(lines)


def _cell(group: Group | None) -> str:
    if group is None:
        return "nobody"
    lowest, highest = (f"{round(value, 2):.12g}" for value in (group.lowest, group.highest))
    return f"{group.ndcg.mean:.4f} ({group.num_users} users, {lowest} to {highest})"


def _interval(interval: Interval) -> str:
    return f"{interval.mean:.4f} [{interval.low:.4f}, {interval.high:.4f}]"
