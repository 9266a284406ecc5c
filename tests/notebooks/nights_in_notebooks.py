"""What `make notebooks` runs: all five notebooks in order on a tiny world, as a data scientist would, and what they showed held
against the tables.

Between the fourth and the fifth there is a second night, so that operations have something to tell. With --out FOLDER they
are written as .ipynb files, and their pictures as PNG files; the second night's page lies beside them.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "unit")]

from legible import illegible  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from pyspark.sql import functions as F  # noqa: E402
from quick_spark import write_spark_conf  # noqa: E402
from tiny_world import RUN_DATE, feedback_row, write_config, write_feedback, write_tiny_world  # noqa: E402

from cesrec_core.config import load_config  # noqa: E402
from cesrec_core.delta_io.runs import find_run, latest_published  # noqa: E402
from cesrec_core.notebook_source import ShownCell, as_ipynb, run_cells  # noqa: E402
from cesrec_core.report.pictures import HtmlTable, Picture  # noqa: E402
from cesrec_core.schemas import TABLES  # noqa: E402
from cesrec_core.stages.nightly import NIGHTLY  # noqa: E402
from cesrec_core.stages.runner import run_job  # noqa: E402

SECOND_DATE = "2026-03-03"
SHOWN = {
    "01_look_at_the_data": 8,
    "02_the_nightly_job_step_by_step": 16,
    "03_one_user": 6,
    "04_evaluation_and_sweeps": 5,
    "05_operations": 9,
}
WORDS = [
    "no more plush please, rather a puzzle",
    "something nice",
    "I loved $the_{racing}$ sets <b>",
    "less craft, more racing",
]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make notebooks")
    parser.add_argument("--out", type=Path, help="folder to keep what the notebooks showed in")
    out = parser.parse_args(arguments).out
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        config = make_world(folder)
        os.environ["SPARK_CONF_DIR"] = str(write_spark_conf(folder / "spark_conf"))
        os.environ |= {"CESREC_CONFIG": str(config), "CESREC_RUN_DATE": RUN_DATE, "CESREC_MAX_USERS": "60"}
        check_data(run_notebook("01_look_at_the_data", out))
        check_night(run_notebook("02_the_nightly_job_step_by_step", out))
        check_user(run_notebook("03_one_user", out))
        check_evaluation(run_notebook("04_evaluation_and_sweeps", out))
        with timed("a second night"):
            second = run_job(load_config(config, [f"run.run_date='{SECOND_DATE}'"]), NIGHTLY, False, "a second night")
        assert second["status"] == "published", second
        check_operations(run_notebook("05_operations", out), second["run_id"])
        if out is not None:
            shutil.copy(second["report"], out / "second_night.html")
    return 0


def make_world(folder: Path) -> Path:
    """Forty steps of fine-tuning are enough to have something to draw."""
    write_tiny_world(folder)
    people = [feedback_row(number, f"person-{number:02d}", words) for number, words in enumerate(WORDS)]
    write_feedback(folder, people)
    return write_config(
        folder, finetune_constructor={"num_steps": 40}, evaluate={"weight_grid": [0.0, 0.5, 1.0, 2.0, 4.0, 8.0]}
    )


@contextmanager
def timed(what: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - started:.0f} s", flush=True)


def run_notebook(name: str, out: Path | None) -> dict[str, Any]:
    """Its namespace after the last cell. Every picture has something on it and can be read, every table has rows."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with timed(name):
        cells = list(run_cells(ROOT / "notebooks" / f"{name}.py", namespace))
        shown = [cell.value for cell in cells if isinstance(cell.value, Picture | HtmlTable)]
        for value in shown:
            assert value._repr_html_()
            assert value.axes if isinstance(value, Picture) else value.rows or may_be_empty(value, namespace), name
            for axes in value.axes if isinstance(value, Picture) else ():
                assert axes.has_data() or axes.texts or not axes.axison, (name, axes.get_title(loc="left"))
            faults = illegible(value) if isinstance(value, Picture) else []
            assert not faults, (name, value.description, faults)
        assert len(shown) == SHOWN[name], (name, len(shown))
    if out is not None:
        keep(name, cells, out)
    namespace["pictures"] = [value for value in shown if isinstance(value, Picture)]
    return namespace


def may_be_empty(table: HtmlTable, namespace: dict[str, Any]) -> bool:
    """A night may give nothing to find fault with; the headline says so."""
    return "judged" in namespace and table.caption == namespace["judged"].headline


def keep(name: str, cells: list[ShownCell], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.ipynb").write_text(as_ipynb(cells), encoding="utf-8")
    pictures = [cell.value for cell in cells if isinstance(cell.value, Figure)]
    for number, picture in enumerate(pictures, start=1):
        (out / f"{name[:2]}_{number:02d}.png").write_bytes(picture.png())


def check_data(seen: dict[str, Any]) -> None:
    warehouse, profile = seen["notebook"].warehouse, seen["profile"]
    assert profile.num_users == warehouse.read(TABLES["user_sequences"]).count() == 60
    assert profile.num_items == warehouse.read(TABLES["items"]).count() == 40
    assert profile.num_interactions == warehouse.read(TABLES["interactions"]).count() == 540
    # Nobody takes a toy twice here.
    assert sum(profile.pairs.values()) == 540
    assert profile.feedback == {"human": len(WORDS)}
    assert {use.name: use.num_items for use in profile.attributes} == dict.fromkeys(("Puzzle", "Racing", "Plush", "Craft"), 10)


def check_night(seen: dict[str, Any]) -> None:
    notebook, run = seen["notebook"], seen["run"]
    assert latest_published(notebook.warehouse) == run.run_id
    assert find_run(notebook.warehouse, run.run_id).status == "published"
    assert set(run.results) == {stage.name for stage in NIGHTLY}
    assert Path(seen["told"]["report"]).is_file()
    rounds = notebook.warehouse.read_run(TABLES["pseudo_sequences"], run.run_id)
    assert seen["num_changed"] == rounds.where("NOT is_fallback AND size(replaced_positions) > 0").count() > 0
    kept = sum(tally.count for tally in seen["kept"])
    assert seen["num_changed"] + kept == rounds.count()


def check_user(seen: dict[str, Any]) -> None:
    """The story is what the tables hold of this person."""
    warehouse, story, user_id = seen["notebook"].warehouse, seen["story"], seen["user_id"]
    titles = {row["item_id"]: row["title"] for row in warehouse.read(TABLES["items"]).collect()}

    def rows_of(table: str) -> list[Any]:
        return warehouse.read_run(TABLES[table], story.run_id).where(F.col("user_id") == user_id).collect()

    (mask,) = rows_of("outlier_masks")
    assert [place.position for place in story.history if place.is_masked] == mask["masked_positions"] != []
    last = max(rows_of("pseudo_sequences"), key=lambda row: row["round"])
    assert [place.replaced_by or place.title for place in story.history] == [titles[item] for item in last["item_ids"]]
    by_round = {row["round"]: row for row in rows_of("pseudo_sequences")}
    for turn in story.rounds:
        row = by_round[turn.round]
        assert [of.before for of in turn.replacements] == [titles[item] for item in row["replaced_item_ids"]]
        assert [of.after for of in turn.replacements] == [titles[row["item_ids"][place]] for place in row["replaced_positions"]]
    assert any(turn.replacements for turn in story.rounds)
    published = sorted(rows_of("recommendations"), key=lambda row: row["rank"])
    assert [item.item_id for item in story.after] == [row["item_id"] for row in published]
    # Nothing that they have had is on either list, and words are all that tells the two apart.
    had = {place.item_id for place in story.history}
    assert not had & {item.item_id for item in (*story.before, *story.after)}
    assert len(story.before) == len(story.after) == 10
    assert all(abs(item.score - item.parts["base"]) < 1e-5 for item in story.before)
    texts = {text.get_text() for axes in seen["pictures"][2].axes for text in axes.texts}
    replaced = next(of for turn in story.rounds for of in turn.replacements)
    assert any(replaced.after in text for text in texts), texts


def check_evaluation(seen: dict[str, Any]) -> None:
    evaluated, weights = seen["evaluated"], seen["weights"]
    assert evaluated.num_users == 60
    assert [row.variant.name for row in evaluated.rows][:2] == ["base", "base + re-rank"]
    # The weight that is marked has the best mean, and it is the one that the table was made with.
    means = {value: one.mean for value, one in zip(weights.values, weights.intervals["base + re-rank"], strict=True)}
    assert means[weights.marked[0]] == max(means.values())
    assert evaluated.rows[1].weights.attribute == weights.marked[0]
    assert seen["masks"].values == (1, 2, 3)


def check_operations(seen: dict[str, Any], second_run: str) -> None:
    """It looked at the newest night and rolled nothing back; asked to, it does."""
    warehouse, report = seen["notebook"].warehouse, seen["report"]
    assert (report.run_id, report.status, report.published_run_id) == (second_run, "published", second_run)
    assert {len(trend.points) for trend in report.tiles} == {2}
    assert report.compared_with is not None
    num_quarantined = warehouse.read_run(TABLES["quarantine"], second_run).count()
    assert sum(tally.count for tally in report.quarantine) == num_quarantined
    assert latest_published(warehouse) == second_run
    os.environ["CESREC_ROLL_BACK_TO"] = report.compared_with
    again = run_notebook("05_operations", None)
    assert latest_published(warehouse) == report.compared_with
    texts = {text.get_text() for text in again["pictures"][-1].axes[0].texts}
    assert sum("read by consumers now" in text for text in texts) == 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
