"""Several rounds of feedback: users speak of what they are shown after their last words, up to three times.

What they are shown is what the base recommender makes of the rewritten history, as in CESRec's own rounds. Every variant
hears the same words.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cesrec_core.evaluation import NUM_SHOWN, VARIANTS, Cases, Evaluator, TableRow, Tests, Weights, build_table

NUM_ROUNDS = 3
SPEAKING = "CESRec"
NAMES = ("base", "base + re-rank", SPEAKING, "CESRec with foresight", "CESRec + re-rank")
ROUND_VARIANTS = tuple(variant for variant in VARIANTS if variant.name in NAMES)
ROUND_COMPARISONS = (
    (SPEAKING, "base"),
    ("CESRec with foresight", "base"),
    ("CESRec + re-rank", "base + re-rank"),
)


@dataclass(frozen=True)
class Round:
    """Figures and paired tests of ROUND_VARIANTS after a number of rounds."""

    rows: list[TableRow]
    tests: Tests


def measure_rounds(
    evaluator: Evaluator,
    cases: Cases,
    weights: Mapping[str, Weights],
    advance: Callable[[int], None] = lambda amount: None,
) -> list[Round]:
    """What is measured after each round, with the weights that were chosen for one.

    Args:
        cases: after the first round.
    """
    settings = evaluator.config.evaluate
    rewritten = next(variant.sequence for variant in VARIANTS if variant.name == SPEAKING)
    result: list[Round] = []
    while True:
        parts = evaluator.parts(cases, advance)
        num_samples, seed = settings.num_bootstrap_samples, evaluator.config.run.seed
        result.append(Round(*build_table(parts, weights, num_samples, seed, ROUND_VARIANTS, ROUND_COMPARISONS)))
        if len(result) == NUM_ROUNDS:
            return result
        scorer = evaluator.scorer
        shown = scorer.top_items(scorer.read(parts.sequences(rewritten)), NUM_SHOWN)
        cases = evaluator.next_round(cases, shown)
