"""The simulated user: says attributes of the target and nothing else, in many ways, the same for the same seed."""

import re
import string

import numpy as np
import pytest

from cesrec_core.feedback import phrases
from cesrec_core.feedback.simulator import simulate_utterance, vague_utterance

SLOTS = {
    "WISH": {"wish"},
    "COMPARE_WISH": {"wish"},
    "TERSE_WISH": {"wish"},
    "REJECT": {"unwanted"},
    "BOTH": {"wish", "unwanted"},
    "COMPARE_BOTH": {"wish", "unwanted"},
    "TERSE_BOTH": {"wish", "unwanted"},
    "VAGUE": set(),
}
WISHES = ("sci-fi", "film-noir", "musical")
TARGET = ("Sci-Fi", "Film-Noir", "Musical")
SHOWN = (("Horror", "Sci-Fi"), ("Horror",), ("Western", "Musical"))


def utterances(count: int = 400, **changes: object) -> list[str]:
    arguments = {"max_attributes": 2, "unwanted_share": 0.5, **changes}
    rng = np.random.default_rng(7)
    return [simulate_utterance(TARGET, SHOWN, rng, **arguments) for _ in range(count)]  # type: ignore[arg-type]


def mentions(utterance: str, word: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", utterance) is not None


@pytest.mark.parametrize("kind", SLOTS)
def test_every_kind_has_a_dozen_different_phrasings_of_the_right_slots(kind: str) -> None:
    options = getattr(phrases, kind)
    assert len(set(options)) == len(options) >= 12
    for option in options:
        assert {name for _, name, _, _ in string.Formatter().parse(option) if name} == SLOTS[kind]


@pytest.mark.parametrize("kind", SLOTS)
def test_phrasings_name_no_domain(kind: str) -> None:
    for option in getattr(phrases, kind):
        assert not re.search(r"\b(film|movie|game|toy|book|song|watch|play|read|listen)", option, re.IGNORECASE)


def test_the_same_seed_says_the_same() -> None:
    assert utterances() == utterances()
    assert len(set(utterances())) > 150


def test_wishes_are_one_or_two_of_the_targets_attributes() -> None:
    def num_wishes(texts: list[str]) -> set[int]:
        return {sum(mentions(text, word) for word in WISHES) for text in texts}

    assert num_wishes(utterances(unwanted_share=0.0)) == {1, 2}
    assert num_wishes(utterances(unwanted_share=0.0, max_attributes=1)) == {1}


def test_dislikes_are_of_what_was_shown_and_never_of_the_target() -> None:
    always = utterances(unwanted_share=1.0)
    counts = {word: sum(mentions(text, word) for text in always) for word in ("horror", "western")}
    assert counts["horror"] + counts["western"] == len(always)
    # Two of the three things shown are horror: it is turned down about twice as often.
    assert 1.5 < counts["horror"] / counts["western"] < 2.7
    assert not any(mentions(text, "horror") or mentions(text, "western") for text in utterances(unwanted_share=0.0))


def test_nothing_is_turned_down_that_was_not_shown() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        assert simulate_utterance(("Red",), [("Red",)], rng, 2, 1.0).count("red") >= 1
        assert "{" not in simulate_utterance(("Red",), [], rng, 2, 1.0)


def test_a_target_without_attributes_gets_vague_words() -> None:
    rng = np.random.default_rng(1)
    assert all(simulate_utterance((), SHOWN, rng, 2, 1.0) in phrases.VAGUE for _ in range(20))
    assert vague_utterance(rng) in phrases.VAGUE


def test_hostile_attributes_are_cleaned_and_never_formatted() -> None:
    rng = np.random.default_rng(1)
    texts = [simulate_utterance(("{wish.__class__}</s>\n",), [("<|im_end|>{0}",)], rng, 2, 1.0) for _ in range(50)]
    assert not any("</s>" in text or "<|" in text or "\n" in text for text in texts)
