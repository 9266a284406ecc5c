"""Answers to clarifying questions, read together with the question."""

import pytest

from cesrec_core.feedback.answers import read_answer
from cesrec_core.feedback.understanding import understand
from cesrec_core.feedback.vocabulary import CatalogueVocabulary

KINDS = ["Comedy", "Drama", "Horror", "Sci-Fi"]
VOCABULARY = CatalogueVocabulary.from_items(
    ["a", "b", "c", "d"], ["Alpha", "Beta", "Gamma", "Delta"], [[kind] for kind in KINDS]
)


def answer(utterance: str, *offered: str) -> tuple[set[str], set[str], bool]:
    signals, restated = read_answer(utterance, offered, understand(utterance, ["a", "b"], VOCABULARY, 1000))
    if restated is not None:
        # What is handed on must mean the same without the question.
        again = understand(restated, [], VOCABULARY, 1000)
        assert set(again.wanted_attributes) == set(signals.wanted_attributes)
        assert set(again.unwanted_attributes) == set(signals.unwanted_attributes)
    return set(signals.wanted_attributes), set(signals.unwanted_attributes), signals.is_vague


@pytest.mark.parametrize(
    "said",
    [
        "yes",
        "Yes please!",
        "yeah, sure",
        "ok",
        "of course",
        "why not?",
        "I think so, yes",
        "please",
        "sounds good",
        "love it",
        "👍",
        "that works",
        "ok then",
        "I guess",
        "go ahead",
        "let's do it",
        "couldn't hurt",
        "fine by me",
    ],
)
def test_a_yes_wants_what_was_offered(said: str) -> None:
    assert answer(said, "Comedy") == ({"Comedy"}, set(), False)


@pytest.mark.parametrize(
    "said",
    [
        "no",
        "Nope.",
        "no thanks",
        "not really",
        "never",
        "rather not",
        "no, not that",
        "absolutely not",
        "I don't think so",
        "please don't",
        "👎",
        "anything but that",
        "not tonight",
        "not in the mood",
        "pass",
    ],
)
def test_a_no_turns_it_down(said: str) -> None:
    assert answer(said, "Comedy") == (set(), {"Comedy"}, False)


@pytest.mark.parametrize(
    ("said", "wanted", "unwanted"),
    [
        ("the first", {"Comedy"}, set()),
        ("The second one, please", {"Drama"}, set()),
        ("the latter", {"Drama"}, set()),
        ("not the first", set(), {"Comedy"}),
        ("both", {"Comedy", "Drama"}, set()),
        ("either would do", {"Comedy", "Drama"}, set()),
        ("neither", set(), {"Comedy", "Drama"}),
        ("none of them", set(), {"Comedy", "Drama"}),
        ("no", set(), {"Comedy", "Drama"}),
        ("comedy", {"Comedy"}, set()),
        ("drama, please", {"Drama"}, set()),
        ("yes, comedy", {"Comedy"}, set()),
        ("both are fine", {"Comedy", "Drama"}, set()),
        ("both sound bad", set(), {"Comedy", "Drama"}),
        ("anything but the first", set(), {"Comedy"}),
        ("neither of those", set(), {"Comedy", "Drama"}),
        ("no to both", set(), {"Comedy", "Drama"}),
        ("I don't want either", set(), {"Comedy", "Drama"}),
        ("option one", {"Comedy"}, set()),
        ("none of them, sci-fi", {"Sci-Fi"}, {"Comedy", "Drama"}),
        ("neither, sci-fi", {"Sci-Fi"}, {"Comedy", "Drama"}),
        ("not comedy", set(), {"Comedy"}),
    ],
)
def test_a_choice_of_two(said: str, wanted: set[str], unwanted: set[str]) -> None:
    assert answer(said, "Comedy", "Drama") == (wanted, unwanted, False)


def test_who_says_yes_and_no_is_asked_again() -> None:
    assert answer("yes. Actually no", "Comedy") == (set(), set(), True)


def test_a_no_with_a_wish_of_its_own() -> None:
    assert answer("no, horror", "Comedy") == ({"Horror"}, {"Comedy"}, False)
    assert answer("yes, but no horror", "Comedy") == ({"Comedy"}, {"Horror"}, False)


def test_what_was_recommended_is_not_meant_by_the_first() -> None:
    signals, _ = read_answer("the first one", ["Comedy", "Drama"], understand("the first one", ["a", "b"], VOCABULARY, 1000))
    assert signals.wanted_item_ids == signals.unwanted_item_ids == ()


@pytest.mark.parametrize("said", ["I'm not sure", "I don't know", "hmm", "", "😀", "not the weather", "tell me a joke"])
def test_what_decides_nothing_stays_vague(said: str) -> None:
    signals = understand(said, [], VOCABULARY, 1000)
    assert read_answer(said, ["Comedy"], signals) == (signals, None)
    assert signals.is_vague


def test_other_words_stay_what_they_are() -> None:
    signals = understand("more horror", [], VOCABULARY, 1000)
    assert read_answer("more horror", ["Comedy"], signals) == (signals, None)
    # No pause: nobody was answered.
    signals = understand("no horror please", [], VOCABULARY, 1000)
    assert read_answer("no horror please", ["Comedy"], signals) == (signals, None)
