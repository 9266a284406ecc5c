"""The tables of an evaluation as Markdown."""

from collections.abc import Mapping, Sequence

from cesrec_core.evaluation.rounds import Round
from cesrec_core.evaluation.significance import PairedTest
from cesrec_core.evaluation.tastes import Taste
from cesrec_core.evaluation.variants import TableRow, Tests, Weights

# Shown beside full ranking: the target against uniform negatives.
SAMPLED = ("HR@5", "NDCG@5", "HR@10", "NDCG@10")
ROUND_MEASURES = (("full", "HR@10"), ("full", "NDCG@10"), ("sampled", "HR@10"))


def as_text(rows: Sequence[TableRow], tests: Tests, title: str) -> str:
    """The table as Markdown."""
    lines = [
        f"### {title}",
        "",
        "| variant | HR@5 | NDCG@5 | HR@10 | NDCG@10 |" + "".join(f" {name}, sampled |" for name in SAMPLED),
        "|---|---|---|---|---|" + "---|" * len(SAMPLED),
    ]
    for row in rows:
        cells = [row.intervals["full"][name] for name in ("HR@5", "NDCG@5", "HR@10", "NDCG@10")]
        cells += [row.intervals["sampled"][name] for name in SAMPLED]
        lines.append(f"| {row.variant.name} | " + " | ".join(f"{v.mean:.3f} [{v.low:.3f}, {v.high:.3f}]" for v in cells) + " |")
    lines.append("")
    for row in rows:
        if row.weights != Weights():
            chosen = ", ".join(f"{name} {value:g}" for name, value in vars(row.weights).items() if value)
            lines.append(f"- weights of {row.variant.name}, chosen on validation: {chosen}")
    return "\n".join(lines + [_compared(name, of_comparison) for name, of_comparison in tests.items()])


def _compared(name: str, by_measure: Mapping[str, PairedTest]) -> str:
    told = []
    for measure, test in by_measure.items():
        d = test.difference
        told.append(f"{measure} {d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}], p = {test.p_value:.4f}")
    return f"- {name}: " + "; ".join(told)


def rounds_as_text(rounds: Sequence[Round], title: str) -> str:
    """Rounds of feedback as Markdown: one row for each variant, its figures after each round beside each other."""
    numbers = range(1, len(rounds) + 1)
    names = [f"{measure}, {protocol}, round {number}" for protocol, measure in ROUND_MEASURES for number in numbers]
    lines = [f"### {title}", "", "| variant | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for rows in zip(*(of_round.rows for of_round in rounds), strict=True):
        values = [row.intervals[protocol][measure] for protocol, measure in ROUND_MEASURES for row in rows]
        cells = " | ".join(f"{v.mean:.3f} [{v.low:.3f}, {v.high:.3f}]" for v in values)
        lines.append(f"| {rows[0].variant.name} | {cells} |")
    lines.append("")
    for number, of_round in zip(numbers, rounds, strict=True):
        lines += [_compared(f"round {number}, {name}", by_measure) for name, by_measure in of_round.tests.items()]
    return "\n".join(lines)


def tastes_as_text(tastes: Sequence[Taste], title: str) -> str:
    """Quartiles of taste as Markdown: the base recommender's NDCG@10, and what each comparison adds to it."""
    columns = [f"{taste.num_users} users, {taste.lowest:.2f} to {taste.highest:.2f} bits" for taste in tastes]
    lines = [f"### {title}", "", "| NDCG@10, full | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    base = (f"{taste.base.mean:.3f} [{taste.base.low:.3f}, {taste.base.high:.3f}]" for taste in tastes)
    lines.append("| base | " + " | ".join(base) + " |")
    for name in tastes[0].tests:
        differences = (taste.tests[name].difference for taste in tastes)
        lines.append(f"| {name} | " + " | ".join(f"{d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}]" for d in differences) + " |")
    return "\n".join(lines)
