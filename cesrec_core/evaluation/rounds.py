"""Several rounds of feedback: users speak of what they are shown after their last words, up to three times.

What they are shown is what the base recommender makes of the rewritten history, as in CESRec's own rounds. Every variant
hears the same words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cesrec_core.evaluation.variants import (
    BASE,
    NUM_SHOWN,
    VARIANTS,
    Advance,
    Parts,
    TableRow,
    Tests,
    Variant,
    Weights,
    build_table,
)

NUM_ROUNDS = 3
SPEAKING = "CESRec"
NAMES = (BASE, "base + re-rank", SPEAKING, "CESRec with foresight", "CESRec + re-rank")
ROUND_VARIANTS = tuple(variant for variant in VARIANTS if variant.name in NAMES)
ROUND_COMPARISONS = (
    (SPEAKING, BASE),
    ("CESRec with foresight", BASE),
    ("CESRec + re-rank", "base + re-rank"),
)


@dataclass(frozen=True)
class Round:
    """Figures and paired tests after a number of rounds."""

    rows: list[TableRow]
    tests: Tests


def measure_rounds(
    parts: Parts,
    weights: Mapping[str, Weights],
    variants: Sequence[Variant] = ROUND_VARIANTS,
    advance: Advance = lambda amount: None,
) -> list[Round]:
    """What is measured after each round, with the weights that were chosen for one.

    Args:
        parts: after the first round.
        variants: which of ROUND_VARIANTS; what users are shown is SPEAKING's in any case.
    """
    evaluator = parts.evaluator
    settings = evaluator.config.evaluate
    rewritten = next(variant.sequence for variant in VARIANTS if variant.name == SPEAKING)
    result: list[Round] = []
    while True:
        num_samples, seed = settings.num_bootstrap_samples, evaluator.config.run.seed
        result.append(Round(*build_table(parts, weights, num_samples, seed, variants, ROUND_COMPARISONS)))
        if len(result) == NUM_ROUNDS:
            return result
        scorer = evaluator.scorer
        shown = scorer.top_items(scorer.read(parts.sequences(rewritten)), NUM_SHOWN)
        parts = evaluator.parts(evaluator.next_round(parts.cases, shown), advance)
