"""Why feedback is not acted on."""

import pytest

from cesrec_core.feedback import phrases
from cesrec_core.feedback.clarity import (
    CONFLICTING_FEEDBACK,
    OFF_TOPIC_FEEDBACK,
    VAGUE_FEEDBACK,
    is_off_topic,
    reason_not_to_act,
)
from cesrec_core.feedback.understanding import understand
from cesrec_core.feedback.vocabulary import CatalogueVocabulary

VOCABULARY = CatalogueVocabulary.from_items(
    ["a", "b", "c"], ["Blue Engine", "Robot Maze", "Paper Boats"], [["Trains"], ["Puzzle"], ["Craft", "Puzzle"]]
)


def reason(utterance: str) -> str | None:
    s = understand(utterance, [], VOCABULARY, 1000)
    wanted, unwanted = (s.wanted_attributes, s.wanted_item_ids), (s.unwanted_attributes, s.unwanted_item_ids)
    return reason_not_to_act(utterance, s.is_vague, wanted, unwanted)


@pytest.mark.parametrize(
    "utterance",
    [
        "more puzzles, but no puzzles",
        "I love trains. No more trains, please.",
        "I want Robot Maze, I hate Robot Maze",
        "I'd like something with craft; I don't like craft",
    ],
)
def test_what_is_wanted_and_unwanted_is_a_contradiction(utterance: str) -> None:
    assert reason(utterance) == CONFLICTING_FEEDBACK


@pytest.mark.parametrize(
    "utterance",
    [
        "more puzzles",
        "no puzzles, but trains",
        "I hate puzzles. Actually no, I love puzzles",  # a correction
        "I usually love trains, but no trains tonight",  # now is not always
        "I want a puzzle that is not a baby puzzle",  # a special kind
    ],
)
def test_corrections_moods_and_kinds_are_none(utterance: str) -> None:
    assert reason(utterance) is None


def test_what_says_too_little_is_told_from_what_is_about_something_else() -> None:
    assert {reason(utterance) for utterance in phrases.VAGUE} == {VAGUE_FEEDBACK}
    off_topic = [reason(utterance) for utterance in phrases.OFF_TOPIC]
    assert off_topic.count(OFF_TOPIC_FEEDBACK) >= 10


@pytest.mark.parametrize("utterance", ["my cat sleeps on the keyboard", "is delivery free?", "I lost my phone yesterday"])
def test_words_about_something_else(utterance: str) -> None:
    assert is_off_topic(utterance)


@pytest.mark.parametrize(
    "utterance", ["", "😀 ...", "so what?", "something with a strong lead", "they were awful", "show me more"]
)
def test_words_of_taste_are_not_off_topic_whatever_the_catalogue_lacks(utterance: str) -> None:
    assert not is_off_topic(utterance)
