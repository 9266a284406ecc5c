"""Training pairs as Spark draws them: never from a held-out item."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from cesrec_core.catalogue import CatalogueFeatures
from cesrec_core.config import parse_config
from cesrec_core.constructor.pair_files import MASKED_PLACES, NEXT_PLACE, SCHEMA, TRAINING, DrawPairs, StoredPairs
from cesrec_core.constructor.pairs import MASKED, PairSettings
from cesrec_core.datasets import Catalogue
from cesrec_core.errors import InputDataError
from cesrec_core.frames.training_pairs import count_by_item, histories_trained_on, pair_requests, validation_users
from cesrec_core.sequences import Split
from cesrec_core.stages import training_pairs as stage
from cesrec_core.stages.training_pairs import export_pairs

NUM_USERS = 40
NUM_SHARED = 30
# Nobody else has a user's last two items, so that a leak of one shows.
NUM_ITEMS = NUM_SHARED + 2 * NUM_USERS
ITEM_IDS = [f"i{code:03d}" for code in range(NUM_ITEMS)]
VALIDATION = {user: NUM_SHARED + 2 * user for user in range(NUM_USERS)}
TEST = {user: NUM_SHARED + 2 * user + 1 for user in range(NUM_USERS)}


def history(user: int) -> list[int]:
    shared = np.random.default_rng(user).permutation(NUM_SHARED)[: 4 + user % 9]
    return [*shared.tolist(), VALIDATION[user], TEST[user]]


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("features")
    rng = np.random.default_rng(0)
    attributes = [(("Red", "Blue", "Green")[code % 3],) for code in range(NUM_ITEMS)]
    catalogue = Catalogue(ITEM_IDS, [f"Thing {code}" for code in range(NUM_ITEMS)], attributes)
    vectors = rng.normal(size=(NUM_ITEMS, 4)).astype(np.float32)
    known = np.ones(NUM_ITEMS, bool)
    CatalogueFeatures(catalogue, known, vectors, vectors.copy(), vectors.copy(), known, np.zeros((4, 4), np.float32)).save(
        folder
    )
    return folder


@pytest.fixture(scope="module")
def sequences(spark: SparkSession) -> DataFrame:
    rows = [(f"u{user:02d}", [ITEM_IDS[code] for code in history(user)]) for user in range(NUM_USERS)]
    return spark.createDataFrame([*rows, ("short", [ITEM_IDS[0], ITEM_IDS[1]])], "user_id string, item_ids array<string>")


def drawn(sequences: DataFrame, features: Path, folder: Path, split: Split, partitions: int = 2) -> StoredPairs:
    counts = np.zeros(NUM_ITEMS, np.int64)
    validating = validation_users(sequences, 7, seed=3)
    for row in count_by_item(histories_trained_on(sequences, split, validating)).collect():
        counts[ITEM_IDS.index(row["item_id"])] = row["num_items"]
    requests = pair_requests(sequences, split, validating, 5.5, seed=3).repartition(partitions)
    draw = DrawPairs(features, counts, PairSettings(8), seed=3)
    requests.mapInArrow(draw, from_arrow_schema(SCHEMA)).write.parquet(str(folder))
    return StoredPairs(folder, NUM_ITEMS)


def rows(folder: Path, kind: str) -> list[dict[str, list[int]]]:
    import pyarrow.dataset as pads

    return [row for row in pads.dataset(folder, format="parquet").to_table().to_pylist() if row["pair_kind"] == kind]


def test_no_held_out_item_is_trained_on(sequences: DataFrame, features: Path, tmp_path: Path) -> None:
    stored = drawn(sequences, features, tmp_path / "pairs", "leave_one_out")
    training = rows(tmp_path / "pairs", TRAINING)
    assert len(training) == len(stored)
    # 5.5 for each of 40 users, halves by a hash.
    assert 5 * NUM_USERS < len(training) < 6 * NUM_USERS
    held_out = {*VALIDATION.values(), *TEST.values()}
    for row in training:
        assert held_out.isdisjoint(row["target"]) and held_out.isdisjoint(row["history"])


def test_validation_asks_for_the_validation_item_and_knows_no_test_item(
    sequences: DataFrame, features: Path, tmp_path: Path
) -> None:
    stored = drawn(sequences, features, tmp_path / "pairs", "leave_one_out")
    by_target = {VALIDATION[user]: history(user)[:-2] for user in range(NUM_USERS)}
    assert len(stored.validation.next_place) == len(stored.validation.masked) == 7
    for pair, inside, seen in zip(stored.validation.next_place, stored.validation.masked, stored.validation.seen, strict=True):
        known = by_target[int(pair.target[-1])]
        assert pair.history[-1] == MASKED
        assert pair.target[:-1].tolist() == known[-8:]
        assert inside.target.tolist() == known[-8:]
        assert seen.tolist() == known
    assert len(rows(tmp_path / "pairs", NEXT_PLACE)) == len(rows(tmp_path / "pairs", MASKED_PLACES)) == 7


def test_without_held_out_items_validation_users_are_left_out(sequences: DataFrame, features: Path, tmp_path: Path) -> None:
    stored = drawn(sequences, features, tmp_path / "pairs", "all")
    asked_for = {int(pair.target[-1]) for pair in stored.validation.next_place}
    assert len(asked_for) == 7 and asked_for <= set(TEST.values())
    trained_on = {code for row in rows(tmp_path / "pairs", TRAINING) for code in row["target"]}
    assert asked_for.isdisjoint(trained_on)
    assert trained_on & set(TEST.values())
    # Nor are they spoken of: "less like Thing 31".
    said = " ".join(row["utterance"] for row in rows(tmp_path / "pairs", TRAINING)) + " "
    assert "Thing" in said
    assert not [code for code in asked_for if re.search(rf"Thing {code}\b", said)]


def test_what_is_drawn_hangs_on_no_partition_and_no_other_user(sequences: DataFrame, features: Path, tmp_path: Path) -> None:
    one = drawn(sequences, features, tmp_path / "one", "leave_one_out", partitions=1)
    many = drawn(sequences, features, tmp_path / "many", "leave_one_out", partitions=5)
    first, second = (np.random.default_rng(1), np.random.default_rng(1))
    for _ in range(30):
        pair, same = one.draw(first), many.draw(second)
        assert (pair.feedback, pair.target.tolist()) == (same.feedback, same.target.tolist())
        assert pair.masked.tolist() == same.masked.tolist()


def test_pairs_of_another_catalogue_are_refused(sequences: DataFrame, features: Path, tmp_path: Path) -> None:
    drawn(sequences, features, tmp_path / "pairs", "leave_one_out")
    with pytest.raises(InputDataError, match="pairs of another catalogue"):
        StoredPairs(tmp_path / "pairs", 20)


@pytest.fixture
def export_of(features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[DataFrame, Split], Path]:
    """The pairs of a table of histories, of which 30 are asked for."""
    monkeypatch.setattr(stage, "export_features", lambda context: features)

    def run(table: DataFrame, split: Split) -> Path:
        values = {"dataset": {"split": split}, "finetune_constructor": {"num_steps": 3, "batch_size": 10}}
        context: Any = SimpleNamespace(
            config=parse_config(values, "test"),
            stage_path=lambda name: tmp_path / name,
            warehouse=SimpleNamespace(read=lambda name: table),
        )
        return export_pairs(context)

    return run


@pytest.fixture
def export(spark: SparkSession, export_of: Callable[[DataFrame, Split], Path]) -> Callable[..., StoredPairs]:
    """The pairs of users with so many items each."""

    def run(split: Split, *lengths: int) -> StoredPairs:
        histories = [(f"u{user:02d}", ITEM_IDS[user : user + length]) for user, length in enumerate(lengths)]
        table = spark.createDataFrame(histories, "user_id string, item_ids array<string>")
        return StoredPairs(export_of(table, split), NUM_ITEMS)

    return run


def test_the_stage_shows_no_held_out_interaction_to_what_draws(
    sequences: DataFrame, export_of: Callable[[DataFrame, Split], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in what it asks for nor in how popular items are, by which others are put in."""
    counted: list[np.ndarray] = []

    def noted(features: Path, num_interactions: np.ndarray, *others: Any) -> DrawPairs:
        counted.append(num_interactions)
        return DrawPairs(features, num_interactions, *others)

    monkeypatch.setattr(stage, "DrawPairs", noted)
    folder = export_of(sequences, "leave_one_out")
    held_out = [*VALIDATION.values(), *TEST.values()]
    of_training = np.bincount([code for user in range(NUM_USERS) for code in history(user)[:-2]], minlength=NUM_ITEMS)
    (num_interactions,) = counted
    assert num_interactions.tolist() == of_training.tolist()
    assert not num_interactions[held_out].any()
    training = rows(folder, TRAINING)
    assert training
    assert not [row for row in training if not set(held_out).isdisjoint([*row["target"], *row["history"]])]


@pytest.mark.parametrize(("split", "lengths"), [("all", (5, 3)), ("all", (6,) * 9), ("leave_one_out", (5,))])
def test_of_few_users_one_validates(export: Any, split: Split, lengths: tuple[int, ...]) -> None:
    stored = export(split, *lengths)
    assert len(stored.validation.masked) == 1
    # However few train: of each a whole number, by a hash.
    assert len(stored) == pytest.approx(30, abs=len(lengths))


@pytest.mark.parametrize(
    ("split", "lengths", "found"),
    [("all", (4, 4, 4), (3, 0)), ("all", (9, 2), (0, 1)), ("all", (), (0, 0)), ("leave_one_out", (4, 4), (0, 0))],
)
def test_users_too_few_are_refused_with_what_is_needed(
    export: Any, split: Split, lengths: tuple[int, ...], found: tuple[int, int]
) -> None:
    said = f"has {found[0]} users to learn from and {found[1]} to be validated with. It takes a user with 5 items or more and"
    with pytest.raises(InputDataError, match=f"{said}, with dataset.split all, another with 3 or more"):
        export(split, *lengths)
