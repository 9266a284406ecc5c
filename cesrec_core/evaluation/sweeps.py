"""What a setting is worth: the same users and words, one setting moved, everything else as it is.

For validation items: what is chosen by looking must not be reported on the items that were looked at.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from cesrec_core.evaluation.metrics import ndcg
from cesrec_core.evaluation.significance import Interval, bootstrap_interval
from cesrec_core.evaluation.variants import VARIANTS, Cases, Evaluator, Parts, Variant, Weights

Part = Literal["attribute", "aligned", "constructor"]
SWEPT_BY_MASKS = tuple(variant for variant in VARIANTS if variant.name in ("base", "mask only", "CESRec"))


@dataclass(frozen=True)
class Sweep:
    """NDCG@10 by full ranking, for each value of a setting.

    Attributes:
        intervals: of each variant, by its name; parallel to `values`.
        marked: the value that is taken, and why.
    """

    setting: str
    values: tuple[float, ...]
    intervals: dict[str, tuple[Interval, ...]]
    marked: tuple[float, str]


def sweep_weight(parts: Parts, variant: Variant, part: Part, values: Sequence[float], chosen: Weights) -> Sweep:
    """One weight of a variant moved, the others as `chosen`."""
    moved = [dataclasses.replace(chosen, **{part: value}) for value in values]
    return Sweep(
        f"{part} weight", tuple(values), {variant.name: _intervals(parts, variant, moved)}, (getattr(chosen, part), "chosen")
    )


def sweep_num_masked(
    evaluator: Evaluator, cases: Cases, values: Sequence[int], advance: Callable[[int], None] = lambda amount: None
) -> Sweep:
    """Another number of masked items for the same users: their histories are masked and rewritten anew for each."""
    found: dict[str, list[Interval]] = {variant.name: [] for variant in SWEPT_BY_MASKS}
    for value in values:
        masks = evaluator.config.mask_outliers.model_copy(update={"num_masked": value})
        config = evaluator.config.model_copy(update={"mask_outliers": masks})
        parts = Evaluator(evaluator.scorer, evaluator.constructor, config, evaluator.listener).parts(cases, advance)
        for variant in SWEPT_BY_MASKS:
            found[variant.name] += _intervals(parts, variant, [Weights()])
    intervals = {name: tuple(of_variant) for name, of_variant in found.items()}
    return Sweep("num_masked", tuple(values), intervals, (evaluator.config.mask_outliers.num_masked, "in force"))


def _intervals(parts: Parts, variant: Variant, choices: Sequence[Weights]) -> tuple[Interval, ...]:
    settings = parts.evaluator.config
    values = ndcg(parts.full_ranks(variant, choices), 10)
    return tuple(
        bootstrap_interval(of_choice, settings.evaluate.num_bootstrap_samples, settings.run.seed) for of_choice in values
    )
