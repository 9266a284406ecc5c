"""jobs/evaluate.py on the tiny world's models."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import World

from cesrec_core.artifacts import MANIFEST
from cesrec_core.config import load_config
from cesrec_core.errors import ArtifactError
from cesrec_core.evaluation.rounds import NUM_ROUNDS, ROUND_COMPARISONS, ROUND_VARIANTS
from cesrec_core.evaluation.variants import VARIANTS
from cesrec_core.stages.evaluate import run_evaluation


@pytest.fixture(scope="module")
def evaluated(first_night: tuple[World, dict[str, Any]]) -> tuple[dict[str, Any], set[Path]]:
    """The summary, and what the evaluation left in the folder of the runs' work."""
    world, _ = first_night
    before = set((world.warehouse_path / "work").rglob("*"))
    summary = run_evaluation(load_config(world.config_path))
    return summary, set((world.warehouse_path / "work").rglob("*")) - before


@pytest.fixture
def summary(evaluated: tuple[dict[str, Any], set[Path]]) -> dict[str, Any]:
    return evaluated[0]


def test_every_variant_is_measured_in_both_protocols_and_written_down(summary: dict[str, Any]) -> None:
    assert [row["variant"]["name"] for row in summary["rows"]] == [variant.name for variant in VARIANTS]
    for row in summary["rows"]:
        for protocol in ("full", "sampled"):
            assert set(row["intervals"][protocol]) == {"HR@5", "NDCG@5", "HR@10", "NDCG@10"}
            for interval in row["intervals"][protocol].values():
                assert 0 <= interval["low"] <= interval["mean"] <= interval["high"] <= 1
    text = Path(summary["report"]).read_text(encoding="utf-8")
    assert all(variant.name in text for variant in VARIANTS)
    assert "with another user's" in text
    figures = json.loads(Path(summary["report"]).with_suffix(".json").read_text(encoding="utf-8"))
    assert figures["num_users"] == summary["num_users"] == 60


def test_rounds_begin_with_the_figures_of_the_table_and_go_on(summary: dict[str, Any]) -> None:
    rounds = summary["rounds"]
    assert [[row["variant"]["name"] for row in rows] for rows in (of_round["rows"] for of_round in rounds)] == [
        [v.name for v in ROUND_VARIANTS]
    ] * NUM_ROUNDS
    of_table = {row["variant"]["name"]: row["intervals"] for row in summary["rows"]}
    assert {row["variant"]["name"]: row["intervals"] for row in rounds[0]["rows"]} == {
        v.name: of_table[v.name] for v in ROUND_VARIANTS
    }
    # Who hears no words stays where they are.
    assert rounds[0]["rows"][0] == rounds[1]["rows"][0] == rounds[2]["rows"][0]
    shared = {name: test for name, test in summary["tests"].items() if name in rounds[0]["tests"]}
    assert rounds[0]["tests"] == shared and len(shared) == len(ROUND_COMPARISONS)
    text = Path(summary["report"]).read_text(encoding="utf-8")
    assert "HR@10, full, round 3" in text and "- round 3, CESRec with foresight against base: full NDCG@10 " in text


def test_rows_that_are_not_asked_for_are_not_measured(
    first_night: tuple[World, dict[str, Any]], summary: dict[str, Any], tmp_path: Path
) -> None:
    world, _ = first_night
    copy = shutil.copytree(world.warehouse_path, tmp_path / "warehouse")
    asked = [f"warehouse.path={copy}", "evaluate.variants=['base + re-rank']"]
    of_two = run_evaluation(load_config(world.config_path, asked))
    assert of_two["rows"] == summary["rows"][:2]
    assert of_two["tests"] == {} and of_two["rounds"] == []
    assert "round 1" not in Path(of_two["report"]).read_text(encoding="utf-8")


def test_nothing_is_left_for_the_night_of_that_name(evaluated: tuple[dict[str, Any], set[Path]]) -> None:
    """Its tables may have moved on until it runs."""
    assert evaluated[1] == set()


def test_quartiles_of_taste_add_up_to_the_table(summary: dict[str, Any]) -> None:
    tastes = summary["tastes"]
    assert sum(taste["num_users"] for taste in tastes) == summary["num_users"]
    total = sum(taste["num_users"] * taste["base"]["mean"] for taste in tastes)
    assert total / summary["num_users"] == pytest.approx(summary["rows"][0]["intervals"]["full"]["NDCG@10"]["mean"])
    assert "### By how diverse a taste is" in Path(summary["report"]).read_text(encoding="utf-8")


def test_words_help_where_they_name_the_target(summary: dict[str, Any]) -> None:
    """Each toy is of one kind, and the simulated words name it: a re-rank by them must beat the base."""
    mean = {row["variant"]["name"]: row["intervals"]["full"]["NDCG@10"]["mean"] for row in summary["rows"]}
    assert mean["base + re-rank"] > mean["base"]
    for measure in ("full NDCG@10", "sampled HR@10"):
        test = summary["tests"]["base + re-rank + next place against base + re-rank"][measure]
        assert test["difference"]["low"] <= test["difference"]["mean"] <= test["difference"]["high"] and test["p_value"] <= 1
    tested = summary["tests"]["CESRec + re-rank against base + re-rank"]["full NDCG@10"]
    assert tested["difference"]["mean"] == pytest.approx(mean["CESRec + re-rank"] - mean["base + re-rank"])


def test_models_that_saw_the_targets_are_refused(first_night: tuple[World, dict[str, Any]], tmp_path: Path) -> None:
    world, _ = first_night
    shutil.copytree(world.warehouse_path, tmp_path / "warehouse")
    config = load_config(world.config_path, [f"warehouse.path={tmp_path / 'warehouse'}"])
    manifest = next((tmp_path / "warehouse" / "artifacts" / "recommender").glob(f"*/{MANIFEST}"))
    manifest.write_text(manifest.read_text().replace('"split": "leave_one_out"', '"split": "all"'))
    with pytest.raises(ArtifactError, match="trained on everything"):
        run_evaluation(config)
