"""The tables: grain, columns with types and comments, partitioning and checks. The single source for Delta, Arrow and docs.

Types are written as Spark SQL DDL (`array<float>`); `arrow_schema` gives the same columns to the Ray side.
"""

from dataclasses import dataclass

import pyarrow as pa

from cesrec_core import columns as c
from cesrec_core import run_status
from cesrec_core.errors import ConfigError

RATING_SOURCE, REVIEW_SOURCE = "rating", "review"
FEEDBACK_SOURCES = ("human", RATING_SOURCE, REVIEW_SOURCE, "simulated_aware", "simulated_blind")


@dataclass(frozen=True)
class Column:
    """One column of a table: its Spark SQL type, whether NULL is allowed, and the comment readers of the catalog see."""

    name: str
    type: str
    comment: str
    nullable: bool = False


@dataclass(frozen=True)
class Check:
    """A Delta CHECK constraint. `expression` must never evaluate to NULL: Delta rejects NULL results too."""

    name: str
    expression: str


@dataclass(frozen=True)
class Table:
    """A table's contract. `key` is the grain: one row per combination of its columns."""

    name: str
    comment: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    partition_by: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    has_change_feed: bool = False

    @property
    def column_names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def is_per_run(self) -> bool:
        """True for tables whose slices belong to one run and are replaced as a whole."""
        return self.partition_by == (c.RUN_ID,)

    def arrow_schema(self) -> pa.Schema:
        """The table's columns as Arrow types, in order."""
        return pa.schema([pa.field(column.name, _arrow_type(column.type), column.nullable) for column in self.columns])


_ARROW_TYPES = {
    "string": pa.string(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}


def _arrow_type(ddl: str) -> pa.DataType:
    if ddl.startswith("array<"):
        return pa.list_(_arrow_type(ddl[6:-1]))
    if ddl.startswith("map<"):
        key, value = ddl[4:-1].split(",")
        return pa.map_(_arrow_type(key.strip()), _arrow_type(value.strip()))
    return _ARROW_TYPES[ddl]


_RUN = Column(c.RUN_ID, "string", "Run that wrote the row: hash of run date, pinned inputs, configuration and code")
_USER = Column(c.USER_ID, "string", "External user key")
_ITEM = Column(c.ITEM_ID, "string", "External item key")

INTERACTIONS = Table(
    "interactions",
    "What people did, cleaned: one row per user, item and moment",
    (c.USER_ID, c.ITEM_ID, c.INTERACTED_AT),
    (
        _USER,
        _ITEM,
        Column(c.INTERACTED_AT, "timestamp", "When, in UTC"),
        Column(c.RATING, "double", "Rating on the source's own scale, where it has one", nullable=True),
        Column(c.SOURCE_POSITION, "bigint", "Place in the source; breaks ties in time before item_id does"),
    ),
    checks=(Check("source_position_not_negative", "source_position >= 0"),),
    has_change_feed=True,
)

ITEMS = Table(
    "items",
    "The catalogue: one row per item",
    (c.ITEM_ID,),
    (
        _ITEM,
        Column(c.TITLE, "string", "Title as the source gives it"),
        Column(c.ATTRIBUTES, "array<string>", "Genres, categories or, where the source has none, words derived from titles"),
        Column(c.DESCRIPTION, "string", "Longer text where the source has one", nullable=True),
        Column(c.ITEM_TEXT, "string", "Text that the extractor embeds, cleaned"),
        Column(c.TEXT_HASH, "string", "SHA-256 of item_text: the key of the embedding cache"),
        Column(c.IS_DERIVED_ATTRIBUTES, "boolean", "True where attributes come from titles"),
        Column(c.IS_ACTIVE, "boolean", "False for items no longer in the source: kept in histories, never recommended"),
    ),
    checks=(Check("text_hash_is_sha256", "length(text_hash) = 64"),),
)

FEEDBACK = Table(
    "feedback",
    "What people said of what was recommended to them",
    (c.FEEDBACK_ID,),
    (
        Column(c.FEEDBACK_ID, "string", "Key of one utterance"),
        _USER,
        Column(c.CREATED_AT, "timestamp", "When it was said, in UTC"),
        Column(c.RECOMMENDED_ITEM_IDS, "array<string>", "What it reacts to, best first; may be empty"),
        Column(c.UTTERANCE, "string", "The words; untrusted"),
        Column(c.SOURCE, "string", "One of " + ", ".join(FEEDBACK_SOURCES)),
    ),
    checks=(Check("source_is_known", "source IN ('" + "', '".join(FEEDBACK_SOURCES) + "')"),),
)

FEEDBACK_SIGNALS = Table(
    "feedback_signals",
    "What an utterance means, in the catalogue's own vocabulary; a cache keyed by utterance and model",
    (c.FEEDBACK_ID, c.MODEL_ID),
    (
        Column(c.FEEDBACK_ID, "string", "Key of the utterance"),
        Column(
            c.MODEL_ID,
            "string",
            "What understood it: version of the rules, sentence model, hash of the catalogue",
        ),
        Column(
            c.UTTERANCE_HASH, "string", "Of the words, and of what had been recommended: words that were edited are read again"
        ),
        Column(
            c.INTENTS,
            "array<string>",
            "Such as accept, reject, critique_add, seen; several where several things were said",
        ),
        Column(
            c.WANTED_ATTRIBUTES, "array<string>", "Attributes asked for; one that is turned down as well is a contradiction"
        ),
        Column(c.UNWANTED_ATTRIBUTES, "array<string>", "Attributes turned down"),
        Column(c.WANTED_ITEM_IDS, "array<string>", "Items spoken of with approval"),
        Column(c.UNWANTED_ITEM_IDS, "array<string>", "Items turned down"),
        Column(c.IS_VAGUE, "boolean", "True where nothing can be acted on"),
        Column(c.CONFIDENCE, "float", "Between 0 and 1"),
        Column(
            c.RESTATED,
            "string",
            "What the words say together with the question that they answer; null where they speak for themselves",
            nullable=True,
        ),
    ),
    checks=(Check("confidence_is_share", "confidence BETWEEN 0 AND 1"),),
)

QUARANTINE = Table(
    "quarantine",
    "Rows that were refused, with the reason",
    (c.RUN_ID, c.SOURCE, c.ROW),
    (
        _RUN,
        Column(
            c.SOURCE,
            "string",
            "interactions, items or feedback as ingest read them, or the stage that failed on the row",
        ),
        Column(c.ROW, "bigint", "Number of the row within the refused rows of its source"),
        Column(c.REASON, "string", "Why it was refused"),
        Column(c.RECORD, "string", "The raw record as JSON"),
    ),
    partition_by=(c.RUN_ID,),
)

USER_SEQUENCES = Table(
    "user_sequences",
    "Each user's history, oldest first",
    (c.USER_ID,),
    (
        _USER,
        Column(c.ITEM_IDS, "array<string>", "Items by (interacted_at, source_position, item_id)"),
        Column(c.INTERACTED_AT, "array<timestamp>", "When, for each place"),
        Column(c.NUM_ITEMS, "int", "Length of item_ids"),
        Column(c.UPDATED_AT, "timestamp", "Newest interaction in the history"),
        Column(c.OLDER_ITEM_IDS, "array<string>", "Items from before, sorted; null where the history holds all", nullable=True),
    ),
    checks=(Check("num_items_is_length", "num_items = size(item_ids) AND num_items > 0"),),
)

ITEM_EMBEDDINGS = Table(
    "item_embeddings",
    "Semantic embeddings: a cache keyed by content",
    (c.TEXT_HASH, c.EXTRACTOR_ID),
    (
        Column(c.TEXT_HASH, "string", "SHA-256 of the text"),
        Column(
            c.EXTRACTOR_ID,
            "string",
            "What a vector depends on besides the text: model, pooling, instruction, dtype, ...",
        ),
        Column(c.SEMANTIC_EMBEDDING, "array<float>", "Pooled last hidden states, width H"),
    ),
    partition_by=(c.EXTRACTOR_ID,),
    checks=(Check("semantic_embedding_not_empty", "size(semantic_embedding) > 0"),),
)

ALIGNED_EMBEDDINGS = Table(
    "aligned_embeddings",
    "Semantic embeddings after the Adapter, in the recommender's space: a cache keyed by content and adapter",
    (c.TEXT_HASH, c.EXTRACTOR_ID, c.ADAPTER_ID),
    (
        Column(c.TEXT_HASH, "string", "SHA-256 of the text"),
        Column(c.EXTRACTOR_ID, "string", "Extractor of the semantic embedding"),
        Column(c.ADAPTER_ID, "string", "Adapter that projected it"),
        Column(c.ALIGNED_EMBEDDING, "array<float>", "Width D"),
    ),
    partition_by=(c.ADAPTER_ID,),
    checks=(Check("aligned_embedding_not_empty", "size(aligned_embedding) > 0"),),
)

OUTLIER_MASKS = Table(
    "outlier_masks",
    "The places of a history that lie farthest from the user's core taste",
    (c.RUN_ID, c.USER_ID),
    (
        _RUN,
        _USER,
        Column(c.MASKED_POSITIONS, "array<int>", "Zero-based from the oldest item, ascending; may be empty"),
        Column(c.SIMILARITIES, "array<float>", "Cosine to the mean of the history, for each place of the history"),
        Column(c.RECOMMENDER_ID, "string", "Recommender of the collaborative space"),
        Column(c.ADAPTER_ID, "string", "Adapter of the aligned space"),
    ),
    partition_by=(c.RUN_ID,),
)

PSEUDO_SEQUENCES = Table(
    "pseudo_sequences",
    "Rewritten histories, one row per round of feedback",
    (c.RUN_ID, c.USER_ID, c.ROUND),
    (
        _RUN,
        _USER,
        Column(c.ROUND, "int", "From 1, in the order the feedback was given"),
        Column(c.ITEM_IDS, "array<string>", "The history after this round"),
        Column(
            c.REPLACED_POSITIONS, "array<int>", "Places whose item differs from the round before, zero-based from the oldest"
        ),
        Column(c.REPLACED_ITEM_IDS, "array<string>", "What stood at replaced_positions before"),
        Column(c.PROBABILITIES, "array<float>", "Probability of each item put in; 1 where it only moved up, null if unknown"),
        Column(c.MARGINS, "array<float>", "Its lead over the runner-up, in probability", nullable=True),
        Column(c.RUNNER_UP_ITEM_IDS, "array<string>", "The likeliest other item; null where there was none", nullable=True),
        Column(c.FEEDBACK_ID, "string", "The words that caused it"),
        Column(c.IS_FALLBACK, "boolean", "True where the round before was kept"),
        Column(c.FALLBACK_REASON, "string", "Why it was kept", nullable=True),
        Column(c.CONSTRUCTOR_ID, "string", "Constructor that wrote it"),
        Column(
            c.REJECTED_TITLES,
            "array<string>",
            "What a decoder of titles wrote and no candidate is called; untrusted text",
            nullable=True,
        ),
    ),
    partition_by=(c.RUN_ID,),
    checks=(
        Check("round_from_one", "round >= 1"),
        Check("replacements_are_parallel", "size(replaced_positions) = size(replaced_item_ids)"),
    ),
)

CLARIFICATIONS = Table(
    "clarifications",
    "Questions to users whose feedback could not be acted on",
    (c.RUN_ID, c.USER_ID),
    (
        _RUN,
        _USER,
        Column(c.FEEDBACK_ID, "string", "The utterance in question"),
        Column(c.REASON, "string", "Why nothing was done: vague_feedback, conflicting_feedback or off_topic_feedback"),
        Column(c.QUESTION, "string", "What to ask"),
        Column(
            c.QUESTION_ATTRIBUTES,
            "array<string>",
            "What it offers: one attribute to say yes or no to, two to choose from, or none where it is open",
            nullable=True,
        ),
        Column(
            c.INFORMATION_GAIN,
            "double",
            "Nats by which the answer is expected to narrow down the user's candidates",
            nullable=True,
        ),
    ),
    partition_by=(c.RUN_ID,),
)

RECOMMENDATIONS = Table(
    "recommendations",
    "The top items for every user",
    (c.RUN_ID, c.USER_ID, c.RANK),
    (
        _RUN,
        _USER,
        Column(c.RANK, "int", "From 1, best first"),
        _ITEM,
        Column(c.SCORE, "float", "Sum of the parts; higher is better"),
        Column(c.BASE_SCORE, "float", "Base recommender on the pseudo-sequence"),
        Column(c.FEEDBACK_SCORE, "float", "Weight times match of feedback and item; 0 without feedback"),
        Column(c.CONSTRUCTOR_SCORE, "float", "Weight times the Constructor's next-place score; 0 without feedback"),
        Column(c.ROUND, "int", "Rounds of feedback behind it; 0 = the user's own history"),
        Column(c.ATTRIBUTE_SCORE, "float", "Part of feedback_score that comes of attributes", nullable=True),
        Column(c.ALIGNED_SCORE, "float", "Part of feedback_score that comes of the aligned space", nullable=True),
    ),
    partition_by=(c.RUN_ID,),
    checks=(Check("rank_from_one", "rank >= 1"),),
)

METRICS = Table(
    "metrics",
    "Numbers about a run",
    (c.RUN_ID, c.STAGE, c.NAME),
    (
        _RUN,
        Column(c.STAGE, "string", "Stage that measured it"),
        Column(c.NAME, "string", "What was measured, with its unit"),
        Column(c.VALUE, "double", "The number"),
    ),
    partition_by=(c.RUN_ID,),
)

RUNS = Table(
    "runs",
    "One row per run; the published run with the greatest published_at is what consumers read",
    (c.RUN_ID,),
    (
        _RUN,
        Column(c.RUN_DATE, "date", "Date the run stands for"),
        Column(c.STATUS, "string", "One of " + ", ".join(run_status.ALL)),
        Column(c.INPUT_VERSIONS, "map<string,string>", "Pinned inputs: table versions, hashes of files"),
        Column(c.OUTPUT_VERSIONS, "map<string,string>", "Table versions when the run ended"),
        Column(c.ARTIFACT_IDS, "map<string,string>", "Artifacts used, by kind"),
        Column(c.CONFIG_HASH, "string", "Hash of the configuration that can change a result"),
        Column(c.CODE_VERSION, "string", "Version of the code"),
        Column(c.STARTED_AT, "timestamp", "When the run began"),
        Column(c.FINISHED_AT, "timestamp", "When the run ended", nullable=True),
        Column(c.PUBLISHED_AT, "timestamp", "When consumers began to see it; null where they do not", nullable=True),
    ),
    checks=(Check("status_is_known", "status IN ('" + "', '".join(run_status.ALL) + "')"),),
)

SERVED_RECOMMENDATIONS = Table(
    "served_recommendations",
    "What a serving store is to hold: the lists of the run exported last; the change feed is what it has to load",
    (c.USER_ID,),
    (
        _USER,
        Column(c.ROUND, "int", "Rounds of feedback behind the list; 0 = the user's own history"),
        Column(c.ITEM_IDS, "array<string>", "What is recommended, best first"),
        Column(c.SCORES, "array<float>", "Of the same items; higher is better"),
    ),
    has_change_feed=True,
)

# What the nightly job writes. SERVED_RECOMMENDATIONS belongs to exports, which create it.
TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        INTERACTIONS,
        ITEMS,
        FEEDBACK,
        FEEDBACK_SIGNALS,
        QUARANTINE,
        USER_SEQUENCES,
        ITEM_EMBEDDINGS,
        ALIGNED_EMBEDDINGS,
        OUTLIER_MASKS,
        PSEUDO_SEQUENCES,
        CLARIFICATIONS,
        RECOMMENDATIONS,
        METRICS,
        RUNS,
    )
}

PUBLISHED_VIEWS = {"latest_recommendations": "recommendations", "latest_pseudo_sequences": "pseudo_sequences"}


def table_named(name: str) -> Table:
    """The contract of table `name`.

    Raises:
        ConfigError: no table has that name.
    """
    if name not in TABLES:
        raise ConfigError(f"There is no table {name!r}. The tables are: {', '.join(TABLES)}.")
    return TABLES[name]
