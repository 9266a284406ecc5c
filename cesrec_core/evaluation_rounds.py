"""Several rounds of feedback: users speak of what they are shown after their last words, up to three times.

What they are shown is what the base recommender makes of the rewritten history, as in CESRec's own rounds. Every variant
hears the same words.
"""

from collections.abc import Callable, Mapping

from cesrec_core.evaluation import NUM_SHOWN, VARIANTS, Cases, Evaluator, TableRow, Weights, build_table

NUM_ROUNDS = 3
SPEAKING = "CESRec"
NAMES = ("base", "base + re-rank", SPEAKING, "CESRec with foresight", "CESRec + re-rank")
ROUND_VARIANTS = tuple(variant for variant in VARIANTS if variant.name in NAMES)


def measure_rounds(
    evaluator: Evaluator,
    cases: Cases,
    weights: Mapping[str, Weights],
    advance: Callable[[int], None] = lambda amount: None,
) -> list[list[TableRow]]:
    """Figures of ROUND_VARIANTS after each round, with the weights that were chosen for one.

    Args:
        cases: after the first round.
    """
    settings = evaluator.config.evaluate
    rewritten = next(variant.sequence for variant in VARIANTS if variant.name == SPEAKING)
    result = []
    while True:
        parts = evaluator.parts(cases, advance)
        rows, _ = build_table(
            parts, weights, settings.num_bootstrap_samples, evaluator.config.run.seed, ROUND_VARIANTS, comparisons=()
        )
        result.append(rows)
        if len(result) == NUM_ROUNDS:
            return result
        scorer = evaluator.scorer
        shown = scorer.top_items(scorer.read(parts.sequences(rewritten)), NUM_SHOWN)
        cases = evaluator.next_round(cases, shown)
