"""Which evaluations the page of a run shows beside its own: told by what stands in them, not by a file's time."""

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from cesrec_core.stages.evaluation_files import (
    EvaluationRecord,
    evaluations_of,
    ndcg_by_variant,
    read_evaluation,
    write_evaluation,
)

OWN = {"recommender": "r1", "adapter": "a1"}
OTHERS = {"recommender": "r0", "adapter": "a1"}
ROW = {"variant": {"name": "base"}, "intervals": {"full": {"NDCG@10": {"mean": 0.2, "low": 0.1, "high": 0.3}}}}


def evaluated(warehouse: Path, run_id: str, evaluated_at: str | None, artifacts: dict[str, str] = OTHERS) -> None:
    folder = warehouse / "evaluations" / run_id
    folder.mkdir(parents=True)
    told = {} if evaluated_at is None else {"evaluated_at": evaluated_at}
    (folder / "evaluation.json").write_text(
        json.dumps({**told, "artifacts": artifacts, "rows": [ROW], "num_users": 9}), encoding="utf-8"
    )


def shown(warehouse: Path, num_earlier: int = 9, artifacts: dict[str, str] = OWN) -> list[str]:
    return [record.run_id for record in evaluations_of(warehouse, artifacts, num_earlier)]


def test_earlier_ones_are_those_before_ones_own_newest(tmp_path: Path) -> None:
    evaluated(tmp_path, "last week's", "2026-03-01T08:00:00+00:00")
    evaluated(tmp_path, "yesterday's", "2026-03-07T23:30:00+01:00")
    evaluated(tmp_path, "own, at first", "2026-03-07T22:45:00+00:00", OWN)
    evaluated(tmp_path, "own", "2026-03-08T08:00:00+00:00", OWN)
    evaluated(tmp_path, "of later models", "2026-03-09T08:00:00+00:00")
    assert shown(tmp_path) == ["own", "yesterday's", "last week's"]
    assert shown(tmp_path, num_earlier=1) == ["own", "yesterday's"]
    assert shown(tmp_path, artifacts={**OWN, "recommender": "r9"}) == []


def test_one_that_tells_no_moment_is_of_when_its_file_was_written(tmp_path: Path) -> None:
    evaluated(tmp_path, "own", "2026-03-08T08:00:00+00:00", OWN)
    for run_id, seconds in (("before", 1_700_000_000), ("after", 1_900_000_000)):
        evaluated(tmp_path, run_id, None)
        os.utime(tmp_path / "evaluations" / run_id / "evaluation.json", (seconds, seconds))
    assert shown(tmp_path) == ["own", "before"]


@pytest.mark.parametrize("text", ["[", "[]", '{"evaluated_at": "soon"}', '{"evaluated_at": 5}'])
def test_a_damaged_one_is_left_aside(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    evaluated(tmp_path, "own", "2026-03-08T08:00:00+00:00", OWN)
    evaluated(tmp_path, "damaged", None)
    (tmp_path / "evaluations" / "damaged" / "evaluation.json").write_text(text, encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert shown(tmp_path) == ["own"]
    assert "damaged/evaluation.json is no evaluation that can be read" in caplog.text
    assert read_evaluation(tmp_path / "evaluations" / "nowhere") is None


@pytest.mark.parametrize(
    "damaged",
    [
        {"rows": []},
        {"rows": 5},
        {"rows": [{"variant": {}}]},
        {"rows": [{**ROW, "intervals": {"full": {"NDCG@10": {"mean": "much", "low": 0.1, "high": 0.3}}}}]},
        {"num_users": "nine"},
        {"artifacts": []},
    ],
)
def test_one_of_which_no_page_could_be_made_is_left_aside(
    tmp_path: Path, damaged: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    evaluated(tmp_path, "own", "2026-03-08T08:00:00+00:00", OWN)
    evaluated(tmp_path, "damaged", "2026-03-07T08:00:00+00:00")
    file = tmp_path / "evaluations" / "damaged" / "evaluation.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **damaged}), encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert shown(tmp_path) == shown(tmp_path) == ["own"]
    (message,) = caplog.messages
    assert "damaged/evaluation.json is no evaluation that can be read" in message


def test_figures_are_told_by_variant() -> None:
    assert ndcg_by_variant({"rows": [ROW]}) == {"base": (0.2, 0.1, 0.3)}


def test_one_that_tells_no_zone_or_lacks_figures_stops_no_page(tmp_path: Path) -> None:
    evaluated(tmp_path, "own", "2026-03-08T08:00:00+00:00", OWN)
    evaluated(tmp_path, "without a zone", "2026-03-08T07:59:59")
    evaluated(tmp_path, "without rows", "2026-03-08T06:00:00+00:00")
    (tmp_path / "evaluations" / "without rows" / "evaluation.json").write_text(
        json.dumps({"artifacts": OTHERS}), encoding="utf-8"
    )
    assert shown(tmp_path) == ["own", "without a zone"]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    figures: dict[str, Any] = {"num_users": 3, "artifacts": OWN, "rows": [ROW]}
    file = write_evaluation(tmp_path, "own", "a table", figures)
    assert file.read_text(encoding="utf-8") == "a table"
    (record,) = evaluations_of(tmp_path, OWN, 2)
    told = {key: value for key, value in record.figures.items() if key != "evaluated_at"}
    assert (record.run_id, told) == ("own", figures) and isinstance(record, EvaluationRecord)
    assert record.evaluated_at.utcoffset() is not None
    assert sorted(path.name for path in file.parent.iterdir()) == ["evaluation.json", "evaluation.md"]
