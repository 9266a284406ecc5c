"""Which numbers of the table `metrics` the page shows over runs, and in which words."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """A number of the table `metrics` that the page shows over runs.

    Attributes:
        source: stage and name.
        interval: names of its ends, of the same stage.
    """

    source: tuple[str, str]
    title: str
    meaning: str
    form: str = ".3f"
    is_better: int = 0
    interval: tuple[str, str] | None = None


TILES = (
    Measure(("recommend", "users"), "People served", "", ",.0f", 1),
    Measure(("audit", "rounds"), "Rounds of feedback", "", ",.0f", 1),
    Measure(("audit", "users_rewritten"), "Histories rewritten", "", ",.0f", 1),
    Measure(("audit", "fallback_share"), "Rewrites dropped", "", ".1%", -1),
)
QUALITY = (
    Measure(
        ("train_recommender", "validation_ndcg_at_10"),
        "Base recommender, NDCG@10",
        "On validation items, by full ranking, when it was trained.",
        is_better=1,
        interval=("validation_ndcg_at_10_low", "validation_ndcg_at_10_high"),
    ),
    Measure(
        ("audit", "ndcg_over_popularity"),
        "Base recommender over popularity",
        "Its validation NDCG@10 over that of the most popular items.",
        ".2f",
        1,
    ),
    Measure(
        ("finetune_constructor", "words_worth"),
        "Worth of words, in histories",
        "Recall@10 of masked places with a person's own words, minus that without words.",
        "+.3f",
        1,
        ("words_worth_low", "words_worth_high"),
    ),
    Measure(
        ("finetune_constructor", "next_place_words_worth"),
        "Worth of words, next place",
        "The same for the place after the history.",
        "+.3f",
        1,
        ("next_place_words_worth_low", "next_place_words_worth_high"),
    ),
    Measure(
        ("audit", "alignment_normalised_mse"),
        "Alignment error",
        "Squared error of aligned vectors over the variance of the recommender's; 1 is what their mean would score.",
        is_better=-1,
    ),
    Measure(
        ("audit", "alignment_median_rank_share"),
        "Alignment rank",
        "Where an item stands among all by its aligned vector; 0.5 is chance.",
        is_better=-1,
    ),
    Measure(
        ("audit", "aligned_coverage_share"), "Items with vectors", "Share of active items with an aligned vector.", ".1%", 1
    ),
    Measure(("audit", "users_masked_share"), "People with masked items", "Share of all people with a history.", ".1%"),
    Measure(
        ("audit", "mask_stability_share"),
        "Masks that stayed",
        "Of people with as many items as before, where nothing but the night changed.",
        ".1%",
        1,
    ),
    Measure(
        ("audit", "catalogue_coverage_share"), "Catalogue recommended", "Share of active items in somebody's list.", ".1%", 1
    ),
)
