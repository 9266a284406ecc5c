"""What maintenance keeps, on folders of a few bytes: days are days of March 2026, files are as old as the test says."""

import datetime as dt
import json
import os
from pathlib import Path

from cesrec_core.artifacts import Manifest, write_manifest
from cesrec_core.delta_io.runs import Run
from cesrec_core.stages.context import StageState, write_state
from cesrec_core.stages.journal import Entry
from cesrec_core.stages.retention import (
    Retention,
    artifacts_in_force,
    artifacts_to_keep,
    artifacts_to_remove,
    evaluations_to_remove,
    files_to_remove,
    retention_of,
    runs_stood_on,
)


def day(number: int) -> dt.datetime:
    return dt.datetime(2026, 3, number, 12, tzinfo=dt.UTC)


def a_run(run_id: str, number: int, **artifact_ids: str) -> Run:
    return Run(run_id, day(number).date(), "finished", {}, "c", "1", day(number), artifact_ids=artifact_ids)


def retention(*models: dict[str, str]) -> Retention:
    """Runs `new` of the tenth, `newer`, and `published`, of before; `dropped` is one more."""
    return Retention(frozenset({"new", "newer", "published"}), frozenset({"dropped"}), day(10), models)


def written(path: Path, number: int, text: str = "{}") -> Path:
    """A file as it was left on that day, in a folder that nobody has touched since."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    age(path, number)
    age(path.parent, number)
    return path


def age(path: Path, number: int) -> None:
    os.utime(path, (day(number).timestamp(),) * 2)


def artifact(warehouse: Path, kind: str, artifact_id: str, number: int, **parents: str) -> Path:
    folder = warehouse / "artifacts" / kind / artifact_id
    folder.mkdir(parents=True)
    write_manifest(folder, Manifest(kind, artifact_id, "all", parents=parents))
    written(folder / "tensors.safetensors", number)
    age(folder / "manifest.json", number)
    age(folder, number)
    return folder


def names(paths: list[Path]) -> list[str]:
    return [f"{path.parent.name}/{path.name}" for path in paths]


def removed_artifacts(warehouse: Path, kept: Retention) -> list[str]:
    return names(artifacts_to_remove(warehouse, artifacts_to_keep(warehouse, kept)))


def test_the_newest_runs_and_the_published_one_are_kept() -> None:
    runs = [a_run(f"r{number}", number, recommender=f"of r{number}") for number in (3, 1, 5, 2, 4)]
    kept = retention_of(runs, "r1", 2, {"recommender": "in force"})
    assert (kept.run_ids, kept.dropped) == ({"r5", "r4", "r1"}, {"r2", "r3"})
    # The published one may be years old, and all that came since would be kept for its sake.
    assert kept.since == day(4)
    assert sorted(models["recommender"] for models in kept.models) == ["in force", "of r1", "of r4", "of r5"]


def test_without_runs_nothing_is_old(tmp_path: Path) -> None:
    artifact(tmp_path, "recommender", "by hand", 1)
    written(tmp_path / "work" / "nobodys" / "done.json", 1)
    kept = retention_of([], None, 14, {})
    assert removed_artifacts(tmp_path, kept) == names(files_to_remove(tmp_path, kept)) == []


def test_artifacts_go_that_no_run_names_and_that_are_old(tmp_path: Path) -> None:
    for name, number in (("of a run", 1), ("in force", 1), ("old", 9), ("young", 11)):
        artifact(tmp_path, "recommender", name, number)
    kept = retention({"recommender": "of a run"}, {"recommender": "in force"})
    assert removed_artifacts(tmp_path, kept) == ["recommender/old"]


def test_what_a_kept_artifact_was_built_on_is_kept_with_it(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        artifact(tmp_path, "recommender", f"r{number}", number)
        artifact(tmp_path, "adapter", f"a{number}", number, recommender=f"r{number}", extractor="minilm")
    artifact(tmp_path, "constructor", "c1", 1, recommender="r1", adapter="a1", extractor="minilm")
    # Of no run, but young: it may be what a run that was stopped goes on with.
    artifact(tmp_path, "constructor", "c2", 12, recommender="r2", adapter="a2", extractor="minilm")
    kept = retention({"constructor": "c1"})
    assert removed_artifacts(tmp_path, kept) == ["recommender/r3", "adapter/a3"]
    assert ("extractor", "minilm") not in artifacts_to_keep(tmp_path, kept)


def test_an_artifact_that_somebody_removed_still_keeps_its_rows(tmp_path: Path) -> None:
    assert artifacts_to_keep(tmp_path, retention({"adapter": "a1"})) == {("adapter", "a1")}


def test_what_interrupted_trainings_left_goes_once_it_is_old(tmp_path: Path) -> None:
    folder = tmp_path / "artifacts" / "constructor"
    for name, number in (("old.checkpoint", 9), ("old.unfinished", 9), ("old.replaced", 9), ("young.checkpoint", 9)):
        written(folder / name / "step" / "weights.pt", number)
        age(folder / name, 9)
    # Its folder is as old as ever: files below it were replaced.
    age(folder / "young.checkpoint" / "step" / "weights.pt", 11)
    expected = [f"constructor/old.{what}" for what in ("checkpoint", "replaced", "unfinished")]
    assert removed_artifacts(tmp_path, retention()) == expected


def test_what_no_training_writes_stays_among_the_artifacts(tmp_path: Path) -> None:
    written(tmp_path / "artifacts" / "adapter" / "somebodys" / "thesis.docx", 1)
    written(tmp_path / "artifacts" / "adapter" / "notes.json", 1)
    # A removal that was interrupted has left this; the manifest went first.
    written(tmp_path / "artifacts" / "adapter" / "half" / "tensors.safetensors", 1)
    assert removed_artifacts(tmp_path, retention()) == ["adapter/half"]


def test_in_force_is_what_the_stages_trained_last(tmp_path: Path) -> None:
    assert artifacts_in_force(tmp_path) == {}
    write_state(tmp_path, "train_adapter", StageState({}, "r", 1.0, {}, {}, artifact_id="a1"))
    write_state(tmp_path, "train_recommender", StageState({}, "r", 1.0, {}, {}))
    assert artifacts_in_force(tmp_path) == {"adapter": "a1"}


def test_files_go_with_their_run_and_those_of_no_run_once_they_are_old(tmp_path: Path) -> None:
    for name, number in (("new", 10), ("published", 1), ("dropped", 12), ("an evaluation", 9), ("at work", 11)):
        written(tmp_path / "work" / name / "stage" / "done.json", number)
        age(tmp_path / "work" / name, 9)
        written(tmp_path / "reports" / f"{name}.html", number)
        written(tmp_path / "rejected_titles" / f"{name}.json", number)
    assert names(files_to_remove(tmp_path, retention())) == [
        "work/an evaluation",
        "work/dropped",
        "reports/an evaluation.html",
        "reports/dropped.html",
        "rejected_titles/an evaluation.json",
        "rejected_titles/dropped.json",
    ]


def test_evaluations_stay_while_their_models_do(tmp_path: Path) -> None:
    in_force = {"recommender": "r1", "adapter": "a1", "constructor": "c1"}
    others = {**in_force, "constructor": "c0"}
    for name, number, models in (
        ("of kept models", 1, in_force),
        ("of others", 1, others),
        ("dropped", 1, others),
        ("published", 1, others),
        ("young", 11, others),
    ):
        written(tmp_path / "evaluations" / name / "evaluation.json", number, json.dumps({"artifacts": models}))
    written(tmp_path / "evaluations" / "damaged" / "evaluation.json", 1, "[")
    removed = names(evaluations_to_remove(tmp_path, retention(in_force)))
    assert removed == ["evaluations/damaged", "evaluations/dropped", "evaluations/of others"]


def test_runs_whose_refused_rows_others_show_are_known_by_their_journals(tmp_path: Path) -> None:
    for run_id, journal in (
        ("new", {"ingest": Entry("skipped", "", "dropped"), "train_recommender": Entry("skipped", "", "of a training")}),
        ("published", {"ingest": Entry("ran", ""), "embed_items": Entry("skipped", "", "older")}),
        ("dropped", {"ingest": Entry("skipped", "", "nobody asks")}),
    ):
        (tmp_path / "work" / run_id).mkdir(parents=True)
        text = json.dumps({stage: vars(entry) for stage, entry in journal.items()})
        (tmp_path / "work" / run_id / "journal.json").write_text(text, encoding="utf-8")
    assert runs_stood_on(tmp_path, ["new", "newer", "published"]) == {"dropped", "older"}
