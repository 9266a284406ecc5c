"""Attributes for catalogues that have none: words and phrases that many titles share."""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from cesrec_core import columns as c

IS_DERIVED = "is_derived_attributes"
MAX_WORDS = 3
MAX_PER_ITEM = 8

# Of the titles with a part ("duty"), at least this share has it outside any one longer phrase ("call of duty"), or it goes.
MIN_SHARE_OUTSIDE = 0.2

# Function words of English: a phrase neither begins nor ends with one, so "call of duty" stays and "of duty" does not.
_STOP_WORD = (
    "^(a|an|and|are|as|at|be|but|by|for|from|has|have|i|in|into|is|it|its|me|my|no|nor|not|of|off|on|or|our|out|over|s|so|t|that"
    "|the|their|them|then|they|this|to|too|up|us|use|vs|was|we|were|what|when|which|who|will|with|without|you|your)$"
)

_SEPARATORS = r"[-–—:;,/|()\[\]{}&+\"!?]+\s+|\s+[-–—:;,/|()\[\]{}&+\"!?]+|[:;,/|()\[\]{}&+\"!?]+"


def derive_attributes(items: DataFrame, min_items: int) -> DataFrame:
    """`items` with `attributes` filled from titles where no item of the whole catalogue has any, and `is_derived_attributes`.

    An attribute is a phrase of 1 to MAX_WORDS words of a title, not crossing punctuation, in the titles of at least
    `min_items` items; not a number; and not a part of one longer such phrase without which it hardly occurs. An item keeps the
    longest, then the most common, MAX_PER_ITEM at most.
    """
    has_any = items.agg(F.coalesce(F.max(F.size(c.ATTRIBUTES) > 0), F.lit(True)).alias("has_any"))
    marked = items.crossJoin(F.broadcast(has_any))
    phrases = _phrases(marked.where(~F.col("has_any")))
    kept = _widely_shared(phrases, min_items)
    longest_first = Window.partitionBy(c.ITEM_ID).orderBy(F.desc("num_words"), F.desc("num_items"), "phrase")
    chosen = (
        phrases.join(F.broadcast(kept), on="phrase", how="inner")
        .withColumn("place", F.row_number().over(longest_first))
        .where(F.col("place") <= MAX_PER_ITEM)
        .groupBy(c.ITEM_ID)
        .agg(F.array_sort(F.collect_list("phrase")).alias("derived"))
    )
    with_derived = marked.join(chosen, on=c.ITEM_ID, how="left")
    derived = F.coalesce("derived", F.array().cast("array<string>"))
    return with_derived.withColumn(c.ATTRIBUTES, F.when(F.col("has_any"), F.col(c.ATTRIBUTES)).otherwise(derived)).withColumn(
        IS_DERIVED, ~F.col("has_any")
    )


def _phrases(items: DataFrame) -> DataFrame:
    """item_id, phrase, num_words: each phrase of each title once."""
    plain = F.regexp_replace(F.lower(c.TITLE), r"['’´`]s\b|['’´`®™©]", "")
    words_of_part = F.transform(
        F.split(plain, _SEPARATORS),
        lambda part: F.filter(F.split(part, r"[^\p{L}\p{N}]+"), lambda word: word != ""),
    )
    parts = items.select(c.ITEM_ID, F.explode(words_of_part).alias("words")).where(F.size("words") > 0)
    starts = parts.select(c.ITEM_ID, "words", F.explode(F.sequence(F.lit(1), F.size("words"))).alias("start"))
    lengths = F.sequence(F.lit(1), F.least(F.lit(MAX_WORDS), F.size("words") - F.col("start") + 1))
    phrases = starts.select(c.ITEM_ID, "words", "start", F.explode(lengths).alias("num_words"))
    phrases = phrases.withColumn("phrase_words", F.slice("words", F.col("start"), F.col("num_words")))
    first, last = F.element_at("phrase_words", 1), F.element_at("phrase_words", -1)
    is_phrase = ~first.rlike(_STOP_WORD) & ~last.rlike(_STOP_WORD) & _has_a_word()
    return phrases.where(is_phrase).select(c.ITEM_ID, F.array_join("phrase_words", " ").alias("phrase"), "num_words").distinct()


def _has_a_word() -> Column:
    """True where a word of two letters or more is among them: neither numbers (Roman too) nor single letters say anything."""
    return F.exists("phrase_words", lambda word: word.rlike(r"\p{L}.*\p{L}") & ~word.rlike("^[ivx]+$"))


def _widely_shared(phrases: DataFrame, min_items: int) -> DataFrame:
    """phrase, num_items of the phrases to keep."""
    counts = phrases.groupBy("phrase", "num_words").agg(F.count("*").alias("num_items")).where(F.col("num_items") >= min_items)
    words = F.split("phrase", " ")
    longer = counts.where(F.col("num_words") > 1).select(
        F.col("num_items").alias("num_in_longer"), words.alias("words"), F.explode(_sub_phrases(words)).alias("phrase")
    )
    covered = longer.groupBy("phrase").agg(F.max("num_in_longer").alias("num_in_longer"))
    joined = counts.join(covered, on="phrase", how="left")
    num_outside = F.col("num_items") - F.coalesce("num_in_longer", F.lit(0))
    return joined.where(num_outside >= MIN_SHARE_OUTSIDE * F.col("num_items")).select("phrase", "num_items")


def _sub_phrases(words: Column) -> Column:
    """All shorter runs of words within a phrase, as text."""
    runs = [
        F.when(F.size(words) >= start + length - 1, F.array_join(F.slice(words, start, length), " "))
        for length in range(1, MAX_WORDS)
        for start in range(1, MAX_WORDS + 2 - length)
    ]
    whole = F.array_join(words, " ")
    return F.filter(F.array(*runs), lambda run: run.isNotNull() & (run != whole))
