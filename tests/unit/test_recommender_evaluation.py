"""Offline evaluation of a recommender: figures by hand on a world small enough, refusals, and an independent library."""

import argparse
import dataclasses
import json
import math
import runpy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import pytrec_eval
import torch

from cesrec_core.artifacts import MANIFEST, Manifest, read_manifest
from cesrec_core.config import load_config
from cesrec_core.datasets import Catalogue, read_dataset
from cesrec_core.errors import ArtifactError, ConfigError
from cesrec_core.evaluation.metrics import UNREACHABLE, full_ranks, hits, ndcg, reciprocal_ranks
from cesrec_core.evaluation.recommenders import (
    Group,
    HeldOutUsers,
    Measured,
    as_text,
    attribute_entropy,
    by_group,
    coverage,
    held_out_users,
    measure,
    novelty,
    quartiles,
    unreachable,
)
from cesrec_core.evaluation.significance import Interval
from cesrec_core.item_lists import ItemLists
from cesrec_core.ranking.product_search import top_products
from cesrec_core.recommenders import TrainableRecommender
from cesrec_core.recommenders.artifact import load_recommender
from cesrec_core.recommenders.training_data import prepare
from cesrec_core.splits import cut_histories
from cesrec_core.stages import evaluate_recommender
from cesrec_core.stages.evaluate_recommender import run_recommender_evaluation

COMMAND = Path(__file__).parents[2] / "training" / "train_recommender.py"
NUM_USERS, NUM_ITEMS = 30, 12


def moment(user: int, step: int) -> int:
    return 13 * user + 40 * step + user * step % 7


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 users walk round a ring of 12 items, each starting at a moment of their own. Even items are Blue, odd ones Red."""
    folder = tmp_path_factory.mktemp("walks")
    rows = [
        (f"u{user:02d}", f"i{(user + step) % NUM_ITEMS:02d}", moment(user, step))
        for user in range(NUM_USERS)
        for step in range(8)
    ]
    users, items, times = zip(*rows, strict=True)
    pq.write_table(pa.table({"user_id": users, "item_id": items, "timestamp": times}), folder / "interactions.parquet")
    ids = [f"i{item:02d}" for item in range(NUM_ITEMS)]
    attributes = [["Red" if item % 2 else "Blue"] for item in range(NUM_ITEMS)]
    pq.write_table(pa.table({"item_id": ids, "title": ids, "attributes": attributes}), folder / "items.parquet")
    return folder


def train(dataset: Path, out: Path, model: str, split: str) -> Path:
    small = ["--set", f"train_recommender.model={model}", "--set", "train_recommender.embedding_dim=16"]
    config = COMMAND.parents[1] / "conf" / "base.yaml"
    arguments = ["--config", str(config), "--dataset", str(dataset), "--out", str(out), "--split", split, *small]
    assert runpy.run_path(str(COMMAND))["main"](arguments) == 0
    return out


@pytest.fixture(scope="module")
def artifacts(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("artifacts")
    pairs = [("markov", "leave_one_out"), ("popularity", "leave_one_out"), ("markov", "leave_last_out"), ("markov", "all")]
    return {f"{model} {split}": train(dataset, folder / f"{model}_{split}", model, split) for model, split in pairs}


def evaluate(dataset: Path, artifact: Path, **options: object) -> dict:
    config = load_config(None, ["evaluate.num_bootstrap_samples=200", "evaluate.num_negatives=3"])
    asked = {"dataset": dataset, "artifact": artifact, "against": None, "moment": "test", **options}
    return run_recommender_evaluation(config, argparse.Namespace(**asked))


def test_a_chain_knows_the_ring_and_popularity_does_not(dataset: Path, artifacts: dict[str, Path]) -> None:
    chain, popular = artifacts["markov leave_one_out"], artifacts["popularity leave_one_out"]
    result = evaluate(dataset, chain, against=popular)
    assert result["num_users"] == NUM_USERS
    assert result["metrics"]["HR@5"]["mean"] == result["metrics"]["NDCG@10"]["mean"] == 1.0
    assert result["metrics"]["HR@10 sampled"]["mean"] == 1.0
    assert result["tests"]["NDCG@10"]["difference"]["low"] > 0
    assert result["tests"]["NDCG@10"]["p_value"] < 0.01
    assert evaluate(dataset, popular)["metrics"]["NDCG@10"]["mean"] < 1.0
    sizes = [[group["num_users"] for group in groups] for groups in result["groups"].values()]
    assert all(sum(of_property) == NUM_USERS for of_property in sizes)
    # Everybody had seven items before the test item, four of one colour and three of the other.
    of_length, of_taste = result["groups"]["history length"], result["groups"]["entropy of taste"]
    assert [(group.get("lowest"), group.get("highest")) for group in of_length] == [(7, 7), *[(None, None)] * 3]
    assert of_taste[0]["lowest"] == pytest.approx(-(3 / 7 * math.log2(3 / 7) + 4 / 7 * math.log2(4 / 7)))


def test_test_inputs_hold_the_validation_item(dataset: Path) -> None:
    whole = read_dataset(dataset)
    ids = whole.catalogue.item_ids
    content_hash = prepare(whole, cut_histories(whole.histories, "leave_one_out")).content_hash()
    trained_on = {"num_interactions": NUM_USERS * 6, "content_hash": content_hash}
    manifest = Manifest("recommender", "r", "leave_one_out", trained_on=trained_on)
    for moment, length in (("validation", 6), ("test", 7)):
        users = held_out_users(whole, manifest, ids, moment)
        assert {len(items) for items in users.inputs} == {length}
        assert users.inputs[0].tolist() == list(range(1, length + 1))
        assert users.target_idx[0] == length + 1
        # What somebody has later is no negative either.
        assert users.had[0].tolist() == list(range(8))
    assert users.num_users_of.sum() == NUM_USERS * 6
    assert users.num_training_users == NUM_USERS


def test_a_split_of_another_version_is_told_with_the_artifact(dataset: Path) -> None:
    whole = read_dataset(dataset)
    with pytest.raises(ArtifactError, match=r"Artifact r was trained by split 'by_week'.* leave_one_out, "):
        held_out_users(whole, Manifest("recommender", "r", "by_week"), whole.catalogue.item_ids, "test")


def test_global_timeline_tests_the_newest_moments(dataset: Path, tmp_path: Path) -> None:
    out = train(dataset, tmp_path / "timeline", "markov", "global_timeline")
    result = evaluate(dataset, out)
    in_order = sorted(moment(user, step) for user in range(NUM_USERS) for step in range(8))
    test_from = in_order[NUM_USERS * 8 * 9 // 10]
    assert result["split"] == "global_timeline"
    assert result["num_users"] == sum(moment(user, 0) < test_from <= moment(user, 7) for user in range(NUM_USERS)) > 3
    model, manifest = load_recommender(out)
    users = held_out_users(read_dataset(dataset), manifest, model.item_ids, "test")
    # Who is tested and who is trained on are not the same people.
    validation_from = in_order[NUM_USERS * 8 * 8 // 10]
    trained_on = sum(moment(user, 0) < validation_from for user in range(NUM_USERS))
    assert users.num_training_users == trained_on != len(users.user_ids)


@pytest.mark.parametrize(
    ("artifact", "options", "message"),
    [
        ("markov all", {}, "trained on everything.*held_out_twin"),
        ("markov leave_last_out", {"moment": "validation"}, "trained on the validation items"),
    ],
)
def test_artifacts_that_saw_their_targets_are_refused(
    dataset: Path, artifacts: dict[str, Path], artifact: str, options: dict, message: str
) -> None:
    with pytest.raises(ConfigError, match=f"--artifact: .*{message}"):
        evaluate(dataset, artifacts[artifact], **options)


def test_folders_without_an_artifact_are_a_matter_of_the_command_line(
    dataset: Path, artifacts: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"--artifact .*nowhere is no folder"):
        evaluate(dataset, tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"--against .* holds no finished artifact"):
        evaluate(dataset, artifacts["markov leave_one_out"], against=tmp_path)
    adapter = json.dumps(dataclasses.asdict(Manifest("adapter", "some id", "all")))
    for found, message in (("{", "cannot be read as a manifest"), (adapter, "kind adapter, where recommender was asked for")):
        (tmp_path / MANIFEST).write_text(found, encoding="utf-8")
        with pytest.raises(ConfigError, match=f"--artifact: .*{message}"):
            evaluate(dataset, tmp_path)


def test_the_twin_and_the_refit_are_tested_on_the_same_items(
    dataset: Path, artifacts: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    refit = artifacts["markov leave_last_out"]
    result = evaluate(dataset, refit, against=refit / "held_out_twin")
    assert "they were not trained on the same items" in caplog.text
    assert (result["split"], result["num_users"]) == ("leave_last_out", NUM_USERS)


def test_artifacts_that_are_asked_other_questions_are_not_paired(
    dataset: Path, artifacts: dict[str, Path], tmp_path: Path
) -> None:
    """The same users, tested on other items of theirs."""
    times = pq.read_table(dataset / "interactions.parquet").to_pydict()
    times["timestamp"] = [moment(0, step) * 1000 + row * 7919 % 1000 for row, step in enumerate([*range(8)] * NUM_USERS)]
    pq.write_table(pa.table(times), tmp_path / "interactions.parquet")
    shutil.copy(dataset / "items.parquet", tmp_path)
    leave_one_out, timeline = (
        train(tmp_path, tmp_path / split, "markov", split) for split in ("leave_one_out", "global_timeline")
    )
    with pytest.raises(ConfigError, match="tested on other users or items and cannot be paired"):
        evaluate(tmp_path, leave_one_out, against=timeline)


def test_the_same_people_with_other_targets_are_not_paired(
    dataset: Path, artifacts: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    num_asked = 0

    def with_other_targets(*arguments: Any) -> HeldOutUsers:
        nonlocal num_asked
        num_asked += 1
        users = held_out_users(*arguments)
        return users if num_asked == 1 else dataclasses.replace(users, target_ids=users.target_ids[::-1])

    monkeypatch.setattr(evaluate_recommender, "held_out_users", with_other_targets)
    with pytest.raises(ConfigError, match="cannot be paired"):
        evaluate(dataset, artifacts["markov leave_one_out"], against=artifacts["popularity leave_one_out"])


def test_a_training_measures_itself_as_an_evaluation_does(dataset: Path, artifacts: dict[str, Path]) -> None:
    """By popularity, what somebody has seen stands in front of most targets."""
    for name in ("popularity leave_one_out", "markov leave_one_out"):
        evaluated = evaluate(dataset, artifacts[name], moment="validation")["metrics"]
        trained = read_manifest(artifacts[name], "recommender").metrics
        assert trained["validation_ndcg_at_10"] == pytest.approx(evaluated["NDCG@10"]["mean"], abs=1e-6)
        assert trained["validation_hr_at_10"] == pytest.approx(evaluated["HR@10"]["mean"], abs=1e-6)


def test_coverage_is_of_the_catalogue_and_not_of_what_is_known(dataset: Path, tmp_path: Path) -> None:
    shutil.copy(dataset / "interactions.parquet", tmp_path)
    items = pq.read_table(dataset / "items.parquet").to_pydict()
    more = {"item_id": ["i98", "i99", "j00"], "title": ["x", "y", "z"], "attributes": [[], [], []]}
    pq.write_table(pa.table({name: [*values, *more[name]] for name, values in items.items()}), tmp_path / "items.parquet")
    result = evaluate(tmp_path, train(tmp_path, tmp_path / "out", "popularity", "leave_one_out"))
    assert result["metrics"]["coverage@10"] == pytest.approx(NUM_ITEMS / (NUM_ITEMS + 3))


def test_groups_counts_and_novelty_of_a_dataset_by_hand(tmp_path: Path) -> None:
    """Histories of 4, 5, 6 and 7 items; the second person had `a` twice."""
    histories = {"u1": "abcd", "u2": "aabce", "u3": "fbcdab", "u4": "gfcdbae"}
    rows = [(user, item, 10 * place) for user, items in histories.items() for place, item in enumerate(items)]
    users, items, times = zip(*rows, strict=True)
    pq.write_table(pa.table({"user_id": users, "item_id": items, "timestamp": times}), tmp_path / "interactions.parquet")
    attributes = {"a": ["X"], "b": ["X"], "c": ["X"], "d": ["Y"], "e": ["Y"], "f": ["Z"], "g": ["W"]}
    catalogue = {"item_id": list(attributes), "title": list(attributes), "attributes": list(attributes.values())}
    pq.write_table(pa.table(catalogue), tmp_path / "items.parquet")
    whole = read_dataset(tmp_path)
    prepared = prepare(whole, cut_histories(whole.histories, "leave_one_out"))
    trained_on = {"num_interactions": 2 + 3 + 4 + 5, "content_hash": prepared.content_hash()}
    users = held_out_users(
        whole, Manifest("recommender", "r", "leave_one_out", trained_on=trained_on), prepared.item_ids, "test"
    )
    assert users.target_ids == ["d", "e", "b", "e"]
    assert quartiles(users.properties["history length"]).tolist() == [0, 1, 2, 3]
    # In training: d twice, e never, b four times.
    assert users.properties["popularity of the target"].tolist() == [2, 0, 4, 0]
    assert quartiles(users.properties["popularity of the target"]).tolist() == [2, 0, 3, 0]
    # Inputs abc, aabc, fbcda, gfcdba: entropies 0, 0, of 1 3 1 in 5, of 1 1 3 1 in 6.
    assert quartiles(users.properties["entropy of taste"]).tolist() == [0, 0, 2, 3]
    of_item = dict(zip(prepared.item_ids, users.num_users_of[1:].tolist(), strict=True))
    assert of_item == {"a": 2, "b": 4, "c": 2, "d": 2, "f": 2, "g": 1}


def test_other_data_is_refused(dataset: Path, artifacts: dict[str, Path], tmp_path: Path) -> None:
    table = pq.read_table(dataset / "interactions.parquet")
    pq.write_table(table.slice(8), tmp_path / "interactions.parquet")
    pq.write_table(pq.read_table(dataset / "items.parquet"), tmp_path / "items.parquet")
    with pytest.raises(ConfigError, match=r"--artifact: .*trained on other data.*180.*174"):
        evaluate(tmp_path, artifacts["markov leave_one_out"])


@pytest.mark.parametrize("change", ["times run backwards", "items have other names"])
def test_as_much_other_data_is_refused(dataset: Path, artifacts: dict[str, Path], tmp_path: Path, change: str) -> None:
    for name in ("interactions", "items"):
        columns = pq.read_table(dataset / f"{name}.parquet").to_pydict()
        if change == "items have other names":
            columns["item_id"] = [f"other {item_id}" for item_id in columns["item_id"]]
        elif name == "interactions":
            columns["timestamp"] = [-timestamp for timestamp in columns["timestamp"]]
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    with pytest.raises(ConfigError, match="trained on other data"):
        evaluate(tmp_path, artifacts["markov leave_one_out"])


def test_another_order_of_items_is_refused(dataset: Path, artifacts: dict[str, Path], tmp_path: Path) -> None:
    """As many names for as many vectors, and every figure would be of other items."""
    shutil.copytree(artifacts["markov leave_one_out"], tmp_path / "markov")
    names = tmp_path / "markov" / "vocabulary.json"
    names.write_text(json.dumps(json.loads(names.read_text())[::-1]))
    with pytest.raises(ConfigError, match=r"--artifact: .*names other items, or in another order"):
        evaluate(dataset, tmp_path / "markov")


def test_an_empty_quartile_keeps_its_place() -> None:
    groups = {
        "history length": [Group(3, 5.0, 1234.0, Interval(0.5, 0.4, 0.6)), None, None, Group(1, 9e6, 9e6, Interval(1, 1, 1))],
        "entropy of taste": [Group(3, 0.0, 1.2345, Interval(0.5, 0.4, 0.6)), None, None, None],
    }
    lines = as_text("title", {}, {}, groups, {}).splitlines()
    assert lines[-2:] == [
        "| history length | 0.5000 (3 users, 5 to 1234) | nobody | nobody | 1.0000 (1 users, 9000000 to 9000000) |",
        "| entropy of taste | 0.5000 (3 users, 0 to 1.23) | nobody | nobody | nobody |",
    ]


def test_groups_tell_their_borders_by_hand() -> None:
    """Lengths 1 1 1 2 5 9: a quarter lies at or below 1, half at or below 1.5, three quarters at or below 4.25."""
    lengths = np.array([1, 9, 1, 5, 1, 2], np.float64)
    nobody = ItemLists.of([])
    users = HeldOutUsers(
        [],
        [],
        nobody,
        nobody,
        np.zeros(0, np.int64),
        np.zeros(6, np.int64),
        {"history length": lengths},
        np.zeros(1, np.int64),
        0,
        np.zeros(0, np.bool_),
    )
    measured = Measured(np.array([1, 1, 3, 11, 2, 1]), np.zeros(6, np.int64), np.zeros((6, 10), np.int64), 0.0)
    of_length = by_group(measured, users, num_samples=10, seed=0)["history length"]
    # Ranks 1, 3 and 2 of those with one item: (1 + 1 / log2(4) + 1 / log2(3)) / 3.
    assert [group and (group.num_users, group.lowest, group.highest, group.ndcg.mean) for group in of_length] == [
        (3, 1.0, 1.0, pytest.approx((1 / math.log2(3) + 1 / math.log2(4) + 1) / 3)),
        None,
        (1, 2.0, 2.0, 1.0),
        (2, 5.0, 9.0, 0.5),
    ]


def test_the_job_prints_json_last(
    dataset: Path, artifacts: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = COMMAND.parents[1] / "jobs" / "evaluate.py"
    arguments = ["--dataset", str(dataset), "--artifact", str(artifacts["markov leave_one_out"])]
    monkeypatch.chdir(job.parents[1])
    monkeypatch.setattr("sys.argv", [str(job), *arguments])
    runpy.run_path(str(job), run_name="__main__")
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["job"] == "evaluate"
    assert summary["metrics"]["HR@10"]["mean"] == 1.0


class FixedScores(TrainableRecommender):
    """The state of a user is their newest item's row of a table of scores."""

    def __init__(self, table: np.ndarray) -> None:
        super().__init__([f"i{item:03d}" for item in range(table.shape[1])], 5, table.shape[1])
        self.table = torch.from_numpy(np.vstack([np.zeros_like(table[:1]), table]))

    def states(self, item_idx: torch.Tensor) -> torch.Tensor:
        return self.table[item_idx]

    def item_vectors(self) -> torch.Tensor:
        return torch.cat([torch.zeros(1, self.embedding_dim), torch.eye(self.embedding_dim)])


def test_metrics_are_those_of_trec_eval() -> None:
    """NIST's trec_eval on the very scores; seen items are not among its documents."""
    rng = np.random.default_rng(0)
    num_users = num_items = 60
    scores = rng.normal(size=(num_items, num_items)).astype(np.float32)
    inputs = [np.array([3, 7, user + 1])[: 1 + user % 3][::-1].copy() for user in range(num_users)]
    targets = np.array([next(i for i in rng.permutation(num_items) + 1 if i not in inputs[user]) for user in range(num_users)])
    rows = np.stack([scores[items[-1] - 1] for items in inputs])
    ranks = full_ranks(np.hstack([np.zeros((num_users, 1), np.float32), rows]), targets, inputs)
    run = {
        f"u{user}": {f"i{idx}": float(rows[user, idx - 1]) for idx in range(1, num_items + 1) if idx not in inputs[user]}
        for user in range(num_users)
    }
    truth = {f"u{user}": {f"i{target}": 1} for user, target in enumerate(targets)}
    oracle = pytrec_eval.RelevanceEvaluator(truth, {"ndcg_cut.5,10", "success.5,10", "recip_rank"}).evaluate(run)
    for name, values in (
        ("ndcg_cut_5", ndcg(ranks, 5)),
        ("ndcg_cut_10", ndcg(ranks, 10)),
        ("success_5", hits(ranks, 5)),
        ("success_10", hits(ranks, 10)),
        ("recip_rank", reciprocal_ranks(ranks)),
    ):
        assert values.tolist() == pytest.approx([oracle[f"u{user}"][name] for user in range(num_users)], abs=1e-6)

    had = ItemLists.of([np.append(items, target) - 1 for items, target in zip(inputs, targets, strict=True)])
    known = np.arange(1, num_items + 1)
    num_users_of, is_drawn = np.ones(num_items + 1, np.int64), np.ones(num_items, np.bool_)
    users = HeldOutUsers([], [], ItemLists.of(inputs), had, known, targets, {}, num_users_of, num_users, is_drawn)
    measured = measure(FixedScores(scores), users, num_negatives=20, seed=0)
    assert measured.full.tolist() == ranks.tolist()
    assert [target in shown for target, shown in zip(targets, measured.lists, strict=True)] == (ranks <= 10).tolist()
    assert (measured.sampled <= measured.full).all()
    assert not any(set(shown) & set(items.tolist()) for shown, items in zip(measured.lists.tolist(), inputs, strict=True))
    # Against everything that one has not had the two protocols are one.
    everything = measure(FixedScores(scores), users, num_negatives=num_items, seed=0)
    assert everything.sampled.tolist() == ranks.tolist()
    # What somebody has later is no negative: where that is all that scores more, the target comes first.
    better = [np.flatnonzero(np.append(-np.inf, row) >= row[target - 1]) for row, target in zip(rows, targets, strict=True)]
    later = ItemLists.of([np.union1d(items, more - 1) for items, more in zip(had, better, strict=True)])
    of_later = dataclasses.replace(users, had=later)
    assert (measure(FixedScores(scores), of_later, num_negatives=num_items, seed=0).sampled == 1).all()
    # What a recommender does not know stands behind all that it does: of 61 items in the catalogue one is no negative to it.
    with_unknown = dataclasses.replace(users, idx_of_code=np.append(known, 0), is_drawn=np.append(is_drawn, True))
    assert measure(FixedScores(scores), with_unknown, num_negatives=100, seed=0).sampled.tolist() == ranks.tolist()
    # What nobody has had is no negative: among 1,000 such items no place in a draw is lost to them.
    with_nobodys = dataclasses.replace(
        users, idx_of_code=np.append(known, np.zeros(1000, np.int64)), is_drawn=np.append(is_drawn, np.zeros(1000, np.bool_))
    )
    of_few = measure(FixedScores(scores), with_nobodys, num_negatives=num_items, seed=0)
    assert of_few.sampled.tolist() == ranks.tolist()
    of_seen = dataclasses.replace(users, target_idx=np.array([items[0] for items in inputs]))
    assert (measure(FixedScores(scores), of_seen, num_negatives=20, seed=0).sampled == UNREACHABLE).all()


class AlmostAlike(FixedScores):
    """Items whose products float32 does not tell apart."""

    def __init__(self, num_items: int, width: int) -> None:
        rng = np.random.default_rng(0)
        super().__init__(rng.normal(size=(num_items, width)).astype(np.float32))
        self.item_ids = [f"i{item:03d}" for item in range(num_items)]
        vectors = rng.normal(size=width) + rng.normal(scale=1e-6, size=(num_items + 1, width))
        self.vectors = torch.from_numpy(vectors.astype(np.float32))

    def item_vectors(self) -> torch.Tensor:
        return self.vectors


def test_a_rank_is_the_place_in_the_list_that_is_made_where_float32_is_too_coarse() -> None:
    num_items = 60
    model = AlmostAlike(num_items, 16)
    inputs = ItemLists.of([np.array([user + 1]) for user in range(num_items)])
    told = top_products(
        model.states(torch.from_numpy(inputs.idx)), model.vectors, inputs, torch.arange(num_items + 1) > 0, num_items - 1
    )
    targets = told.item_idx[:, 4].numpy()
    had = ItemLists.of([np.array([user, target - 1]) for user, target in enumerate(targets)])
    drawn = np.ones(num_items, np.bool_)
    users = HeldOutUsers(
        [], [], inputs, had, np.arange(1, num_items + 1), targets, {}, np.ones(num_items + 1, np.int64), num_items, drawn
    )
    measured = measure(model, users, num_negatives=20, seed=0)
    assert measured.full.tolist() == [5] * num_items
    assert measured.lists.tolist() == told.item_idx[:, :10].tolist()


def test_items_with_one_vector_are_ranked_as_they_are_listed() -> None:
    num_users, generator = 300, torch.Generator().manual_seed(0)
    half = torch.randn(400, 64, generator=generator)
    model = AlmostAlike(800, 64)
    model.vectors = torch.cat([torch.randn(1, 64, generator=generator), half, half])
    inputs = ItemLists.of([np.array([user + 1]) for user in range(num_users)])
    is_item = torch.arange(801) > 0
    states = torch.randn(801, 64, generator=generator)
    model.states = lambda item_idx: states[item_idx]
    told = top_products(states[1 : num_users + 1], model.vectors, inputs, is_item, 10)
    targets = told.item_idx[:, 0].numpy()
    had = ItemLists.of([np.array([user, target - 1]) for user, target in enumerate(targets)])
    counts = np.ones(801, np.int64)
    users = HeldOutUsers([], [], inputs, had, np.arange(1, 801), targets, {}, counts, num_users, np.ones(800, np.bool_))
    measured = measure(model, users, num_negatives=20, seed=0)
    assert measured.lists.tolist() == told.item_idx.tolist()
    assert measured.full.tolist() == [1] * num_users


def test_lists_by_hand() -> None:
    lists = np.array([[1, 2], [1, 0]])
    assert coverage(lists, 4) == 0.5
    # Shares 1/2, 1/8, 1/2 of 8 users: 1, 3 and 1 bits.
    assert novelty(lists, np.array([0, 4, 1, 0, 0]), 8) == pytest.approx(5 / 3)
    assert novelty(np.zeros((2, 2), np.int64), np.ones(5, np.int64), 8) == 0.0


def test_targets_that_were_had_before_or_are_unknown_are_counted() -> None:
    scores = np.zeros((4, 4), np.float32)
    seen = [np.array([1]), np.array([2]), np.array([3]), np.array([1, 2])]
    assert unreachable(full_ranks(scores, np.array([1, 1, 0, 3]), seen)) == 0.5


def test_entropy_and_quartiles_by_hand() -> None:
    catalogue = Catalogue(["a", "b", "c"], ["A", "B", "C"], [("x",), ("y",), ("x", "y")])
    assert attribute_entropy(np.array([0, 0]), catalogue) == 0.0
    assert attribute_entropy(np.array([0, 1]), catalogue) == 1.0
    assert attribute_entropy(np.array([0, 0, 2]), catalogue) == pytest.approx(0.8112781)
    assert attribute_entropy(np.array([], np.int64), dataclasses.replace(catalogue, attributes=[(), (), ()])) == 0.0
    assert quartiles(np.array([5.0, 1.0, 4.0, 2.0, 3.0, 6.0, 7.0, 8.0])).tolist() == [2, 0, 1, 0, 1, 2, 3, 3]
    assert quartiles(np.ones(4)).tolist() == [0, 0, 0, 0]
