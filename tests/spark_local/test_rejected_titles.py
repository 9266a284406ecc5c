import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyspark.sql import SparkSession
from tiny_features import tiny_features

from cesrec_core.stages.construct_pseudo_sequences import _metrics, _of_titles, _report_rejected

ROUNDS = (
    "is_fallback boolean, fallback_reason string, rejected_titles array<string>, probabilities array<float>, "
    "replaced_positions array<int>, replaced_item_ids array<string>, item_ids array<string>"
)
NOTHING = ([], [], ["a", "b"])


def test_made_up_titles_are_counted_by_round_and_reported_with_the_nearest(spark: SparkSession, tmp_path: Path) -> None:
    """Of eight rounds five were answered, two of them with titles that no candidate bears."""
    rows = [
        (False, None, None, [None], [0], ["a"], ["c", "b"]),
        # At the recent end: b moves up, which nobody decided.
        (False, None, None, [1.0, 0.5], [0, 1], ["a", "b"], ["b", "c"]),
        (True, "truncated_answer", None, [], *NOTHING),
        (True, "not_a_candidate", ["thing two", "Thing 2!"], [], *NOTHING),
        (True, "not_a_candidate", ["thing two"], [], *NOTHING),
        (True, "vague_feedback", None, [], *NOTHING),
        (True, "budget_exhausted", None, [], *NOTHING),
        (True, "endpoint_failed", None, [], *NOTHING),
    ]
    rounds = spark.createDataFrame(rows, ROUNDS)
    assert _of_titles(rounds) == {
        "rounds_kept_truncated_answer": 1,
        "rounds_kept_not_a_candidate": 2,
        "rounds_kept_vague_feedback": 1,
        "rounds_kept_budget_exhausted": 1,
        "rounds_kept_endpoint_failed": 1,
        "rounds_answered": 5,
        "rounds_with_rejected_titles_share": pytest.approx(2 / 5),
    }
    assert _metrics(rounds) == {"mean_probability_of_replacement": 0.5}
    assert _metrics(rounds.where("get(probabilities, 0) is null")) == {}
    tiny_features(inactive=(2,)).save(tmp_path / "catalogue")
    context = SimpleNamespace(warehouse=SimpleNamespace(path=tmp_path), run_id="run")
    _report_rejected(context, rounds, tmp_path / "catalogue")
    report = json.loads((tmp_path / "rejected_titles" / "run.json").read_text(encoding="utf-8"))
    assert [(entry["text"], entry["count"]) for entry in report] == [("thing two", 2), ("Thing 2!", 1)]
    # "Thing 2" itself is not active any more; of those that share "thing" the first come first.
    assert [near["title"] for near in report[1]["nearest"]] == ["Thing 0", "Thing 1", "Thing 3"]
