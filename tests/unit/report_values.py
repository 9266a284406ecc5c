"""A run's page contents for tests: a made-up night, with text that would take a careless page over."""

import datetime as dt

from cesrec_core.report.contents import (
    Artifact,
    Check,
    EvaluatedVariant,
    Evaluation,
    Histogram,
    Point,
    Replacement,
    Report,
    Rewrite,
    StageLine,
    Tally,
    Trend,
)

HOSTILE = (
    """</style><script>alert("x")</script><img src=https://evil.example/x onerror='y'>"""
    "&lt; {{ 7*7 }} \N{RIGHT-TO-LEFT OVERRIDE}"
)
TODAY = dt.date(2026, 3, 9)
MOMENT = dt.datetime(2026, 3, 10, 2, 0, tzinfo=dt.UTC)


def points(values: list[float], spread: float | None = None) -> tuple[Point, ...]:
    """One per night, the last on TODAY."""
    first = TODAY - dt.timedelta(days=len(values) - 1)
    ends = (lambda value: (None, None)) if spread is None else (lambda value: (value - spread, value + spread))
    return tuple(
        Point(f"run{night:02d}", first + dt.timedelta(days=night), value, *ends(value)) for night, value in enumerate(values)
    )


def stage_lines() -> tuple[StageLine, ...]:
    return (
        StageLine("ingest", "ran", "changed: interactions (17 -> 18)", 21.3, 20.0, {"items": 1682, "interactions": 100_412}),
        StageLine("build_sequences", "ran", "changed: interactions (17 -> 18)", 3.1, 2.8, {"users": 943, "users_rebuilt": 58}),
        StageLine(
            "train_recommender", "skipped", "kept: 8 days old (limit 30), 2.1% of interactions are new to it (limit 10%)"
        ),
        StageLine("embed_items", "skipped", "nothing it reads changed since run 487c5d87ce03d67e"),
        StageLine("understand_feedback", "ran", "every run writes its own rows", 4.0, 3.9, {"understood": 211}, 5120),
        StageLine("construct_pseudo_sequences", "ran", "every run writes its own rows", 184.0, 20.2, {"rounds": 211}, 81_930),
        StageLine("recommend", "ran", "every run writes its own rows", 15.8, 16.0, {"users": 943, "recommendations": 9430}),
        StageLine("audit", "ran", "every run writes its own rows", 8.1, 8.0, {"checks": 16}),
        StageLine("publish", "ran", "every run writes its own rows", 3.5, 3.4, {"published": 1}),
    )


def good_night(**changes: object) -> Report:
    """A published run after eight others; `changes` replace fields."""
    values: dict[str, object] = {
        "made_at": MOMENT + dt.timedelta(minutes=5),
        "run_id": "a75b452b6d810805",
        "run_date": TODAY,
        "status": "published",
        "started_at": MOMENT,
        "finished_at": MOMENT + dt.timedelta(minutes=4),
        "code_version": "0.2.0",
        "config_hash": "1f2e3d4c5b6a7988",
        "published_run_id": "a75b452b6d810805",
        "compared_with": "487c5d87ce03d67e",
        "changed_people": 0.173,
        "stages": stage_lines(),
        "checks": (
            Check("{} rows recommend items that the user has had", 0.0, 0.0, False, ",.0f"),
            Check("{} of rewrites had to be dropped", 0.02, 0.2, False, ".1%", "audit.max_fallback_share"),
            Check("{} of active items have an aligned vector", 0.99, 0.9, True, ".1%", "audit.min_aligned_coverage_share"),
            Check("{} of masks are what they were", None, 0.8, True, ".1%", "audit.min_mask_stability_share"),
        ),
        "tiles": (
            Trend("People served", "", points([931, 931, 935, 936, 938, 938, 940, 941, 943]), ",.0f", 1),
            Trend("Rounds of feedback", "", points([180, 192, 201, 188, 205, 199, 207, 210, 211]), ",.0f", 1),
            Trend("Rewrites dropped", "", points([0.01, 0.02, 0.01, 0.015, 0.02, 0.02, 0.03, 0.02, 0.02]), ".1%", -1),
            Trend("Rows refused", "", points([0, 0, 3, 0, 0, 1, 0, 2, 7]), ",.0f"),
            Trend("Seconds of work", "", points([70, 71, 74, 70, 72, 71, 73, 74, 240]), ",.0f"),
        ),
        "quality": (
            Trend("Base recommender, NDCG@10", "On validation items.", points([0.118] * 4 + [0.121] * 5), ".3f", 1),
            # What a normal night and the first one look like: no axis may make a drama of them.
            Trend("Alignment error", "Nothing was trained.", points([0.467057154293825] * 9), ".3f", -1),
            Trend("Items with vectors", "All of them.", points([1.0] * 9), ".1%", 1),
            Trend("Catalogue recommended", "Measured for the first time.", points([1.0]), ".1%", 1),
            Trend(
                "Worth of words, next place",
                "Recall@10 with a person's own words, minus that with another person's.",
                points([0.21, 0.22, 0.22, 0.21, 0.23, 0.22, 0.24, 0.25, 0.26], 0.03),
                "+.3f",
                1,
            ),
        ),
        "evaluation": Evaluation(
            ("a75b452b6d810805", "487c5d87ce03d67e"),
            943,
            tuple(
                EvaluatedVariant(name, (points([mean], 0.01)[0], points([mean - 0.004], 0.01)[0] if mean > 0.06 else None))
                for name, mean in (("base", 0.058), ("base + re-rank", 0.081), ("CESRec + re-rank + next place", 0.094))
            ),
        ),
        "histograms": (
            Histogram(
                "Items of histories: similarity to the core taste",
                "Masked places are what the Constructor may replace.",
                "cosine to the mean of the history",
                (-0.2, 0.1, 0.4, 0.7, 1.0),
                {"kept": (2, 40, 300, 520), "masked": (90, 60, 8, 0)},
            ),
        ),
        "rewrites": (
            Rewrite("could we drop the drama?", 1, (Replacement("The English Patient", "Fly Away Home", 0.41, "Babe"),)),
            Rewrite(HOSTILE, 2, (Replacement(HOSTILE, HOSTILE, 0.05, HOSTILE), Replacement("Gone", None))),
        ),
        "num_rewrites": 193,
        "fallbacks": (
            Tally("vague_feedback", 14, "The words name nothing."),
            Tally("invalid_rewrite", 0, "A rule was broken."),
        ),
        "clarifications": (Tally("vague_feedback", 14, examples=(f"{HOSTILE} → Would you rather have drama or comedy?",)),),
        "quarantine": (Tally("interactions: unknown_item", 7, examples=('{"user_id": "xxx-99", "item_id": "no such item"}',)),),
        "input_versions": {"interactions": "18", "feedback_table": "41"},
        "output_versions": {"recommendations": "88"},
        "artifacts": (Artifact("adapter", "ffee", {"recommender": "aabb", "extractor": "minilm-1"}),),
    }
    return Report(**(values | changes))  # type: ignore[arg-type]
