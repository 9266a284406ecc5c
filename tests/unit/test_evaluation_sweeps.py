"""Sweeps over a stand-in whose ranks follow from the setting, and the pictures of evaluations."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from drawn import words_on
from legible import illegible
from matplotlib.colors import to_hex

from cesrec_core.config import Config
from cesrec_core.evaluation import sweeps
from cesrec_core.evaluation.rounds import Round
from cesrec_core.evaluation.significance import Interval, PairedTest
from cesrec_core.evaluation.sweeps import Sweep, sweep_num_masked, sweep_weight
from cesrec_core.evaluation.variants import TableRow, Variant, Weights
from cesrec_core.report.evaluation_figures import differences_figure, rounds_figure, sweep_figure, variants_figure
from cesrec_core.report.pictures import BAD, GOOD, LINE, ONE

RERANK = Variant("base + re-rank", "history", has_match=True)


def test_one_weight_is_moved_and_the_others_stay() -> None:
    """With weight w both targets stand at rank w + 1: NDCG is 1 / log2(w + 2), 0 below rank 10."""
    asked: list[Weights] = []

    def full_ranks(variant: Variant, choices: list[Weights]) -> np.ndarray:
        asked.extend(choices)
        return np.array([[int(weights.attribute) + 1] * 2 for weights in choices])

    parts: Any = SimpleNamespace(evaluator=SimpleNamespace(config=Config()), full_ranks=full_ranks)
    sweep = sweep_weight(parts, RERANK, "attribute", [0.0, 2.0, 10.0], Weights(2.0, 0.5, 1.0))
    assert asked == [Weights(0.0, 0.5, 1.0), Weights(2.0, 0.5, 1.0), Weights(10.0, 0.5, 1.0)]
    assert [interval.mean for interval in sweep.intervals["base + re-rank"]] == pytest.approx([1.0, 0.5, 0.0])
    assert sweep.marked == (2.0, "chosen")


def test_masks_are_made_anew_for_each_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in whose targets stand at the rank that num_masked says; the given configuration is left as it is."""

    def evaluator(scorer: object, constructor: object, config: Config, listener: object) -> Any:
        ranks = np.full((1, 3), config.mask_outliers.num_masked)
        made = SimpleNamespace(config=config, scorer=scorer, constructor=constructor, listener=listener)
        made.parts = lambda cases, advance: SimpleNamespace(evaluator=made, full_ranks=lambda variant, choices: ranks)
        return made

    monkeypatch.setattr(sweeps, "Evaluator", evaluator)
    config = Config()
    sweep = sweep_num_masked(evaluator(None, None, config, None), None, [1, 3, 11])  # type: ignore[arg-type]
    assert set(sweep.intervals) == {"base", "mask only", "CESRec"}
    assert [interval.mean for interval in sweep.intervals["CESRec"]] == pytest.approx([1.0, 0.5, 0.0])
    assert sweep.marked == (config.mask_outliers.num_masked, "in force")
    assert config == Config()


def row(name: str, mean: float) -> TableRow:
    interval = Interval(mean, mean - 0.01, mean + 0.01)
    return TableRow(Variant(name, "history"), Weights(), {"full": {"NDCG@10": interval, "HR@10": interval}})


def test_variants_are_coloured_by_where_their_interval_lies() -> None:
    picture = variants_figure([row("base", 0.1), row("a bit more", 0.105), row("better", 0.15), row("worse", 0.05)], 200)
    bars = [line for line in picture.axes[0].lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"]
    assert [to_hex(line.get_color()) for line in bars] == [ONE, ONE, GOOD, BAD]
    assert bars[2].get_xdata() == pytest.approx([0.14, 0.16])
    assert {"NDCG@10, full ranking, 200 users", "better"} <= set(words_on(picture))


def test_differences_that_may_be_accidents_are_grey() -> None:
    by_full_ranking = {
        "x against base": PairedTest(Interval(0.02, 0.01, 0.03), 0.001),
        "CESRec + re-rank + next place against base + re-rank + next place": PairedTest(Interval(0.02, -0.01, 0.05), 0.2),
        # The test decides, though the interval leaves out 0.
        "z against base": PairedTest(Interval(-0.06, -0.12, -0.01), 0.109),
    }
    # By sampled negatives it is the other way round; the picture is of the measure it names.
    by_sampling = {name: PairedTest(Interval(-0.5, -0.6, -0.4), 0.001) for name in by_full_ranking}
    tests = {name: {"full NDCG@10": test, "sampled HR@10": by_sampling[name]} for name, test in by_full_ranking.items()}
    picture = differences_figure(tests)
    bars = [line for line in picture.axes[0].lines if line.get_linewidth() == 3]
    assert [to_hex(line.get_color()) for line in bars] == [GOOD, LINE, LINE]
    assert "p = 0.200" in words_on(picture)
    assert illegible(picture) == []


def test_sweeps_and_rounds_are_curves() -> None:
    intervals = tuple(Interval(mean, mean, mean) for mean in (0.1, 0.3))
    picture = sweep_figure(Sweep("attribute weight", (0.0, 8.0), {"base + re-rank": intervals}, (8.0, "chosen")))
    assert list(picture.axes[0].lines[0].get_ydata()) == [0.1, 0.3]
    assert {"chosen: 8", "base + re-rank"} <= set(words_on(picture))
    after = [Round([row("base", 0.1), row("CESRec", mean)], {}) for mean in (0.2, 0.25)]
    of_rounds = rounds_figure(after)
    assert [list(line.get_ydata()) for line in of_rounds.axes[0].lines] == [[0.1, 0.1], [0.2, 0.25]]
