"""Who speaks in the benchmark of feedback sources: phrasings of people filled in, moods, and answers."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from voices import (
    KINDS,
    HumanVoice,
    Item,
    KindVoice,
    Person,
    Phrasing,
    Slot,
    Voice,
    answer,
    filled,
    read_phrasings,
    voices,
)

from cesrec_core.feedback.leaks import LeakCheck
from cesrec_core.feedback.phrases import VAGUE
from cesrec_core.feedback.simulated_users import Past
from cesrec_core.feedback.vocabulary import words_of

TARGET = Item("toy-7", "Galloping Zorka", ("Racing", "Wooden"))
DOLL = Item("toy-1", "Lady Mirabel", ("Dolls",))
CART = Item("toy-2", "Cart of Oak", ("Wooden",))
PUZZLE = Item("toy-3", "Thousand Pieces", ("Puzzle",))
CATALOGUE = (TARGET, DOLL, CART, PUZZLE)
PERSON = Person("ann", TARGET, (DOLL, CART), (PUZZLE, CART), Past(liked=(("Puzzle",),), disliked=(("Dolls",),)))
LEAKS = LeakCheck(*zip(*CATALOGUE, strict=True))


def phrasing(text: str, *slots: tuple[str, str, int]) -> Phrasing:
    """Slots by the words that they replace, in order."""
    words = [word.text for word in words_of(text)]
    places = []
    for named, kind, polarity in slots:
        size = len(named.split())
        start = next(place for place in range(len(words)) if words[place : place + size] == named.split())
        places.append(Slot(start, start + size, kind, polarity))  # type: ignore[arg-type]
    return Phrasing(text, tuple(places))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (phrasing("no Marvels, more drums!", ("marvels", "attribute", -1)), {"no dolls, more drums!"}),
        # Two wishes are two attributes, in either order.
        (
            phrasing("fish and fowl?", ("fish", "attribute", 1), ("fowl", "attribute", 1)),
            {"racing and wooden?", "wooden and racing?"},
        ),
        # Praised: the one with an attribute of the target's. Turned down: the one without.
        (phrasing("Old Bill (1999) was fun", ("old bill 1999", "shown_title", 1)), {"Cart of Oak was fun"}),
        (phrasing("not Old Bill (1999).", ("old bill 1999", "shown_title", -1)), {"not Lady Mirabel."}),
        (phrasing("like (Old Bill)", ("old bill", "other_title", 1)), {"like (Cart of Oak)"}),
        (phrasing("I'm a fan of oak"), {"I'm a fan of oak"}),
    ],
)
def test_phrasings_are_filled_by_what_the_person_wants(said: Phrasing, expected: set[str]) -> None:
    assert {filled(said, PERSON, np.random.default_rng(seed)) for seed in range(20)} == expected


def test_a_phrasing_that_the_person_has_no_words_for_is_not_theirs() -> None:
    nothing = dataclasses.replace(PERSON, target=TARGET._replace(attributes=()), history=())
    rng = np.random.default_rng(0)
    assert filled(phrasing("more fish", ("fish", "attribute", 1)), nothing, rng) is None
    assert filled(phrasing("like Bill", ("bill", "other_title", 1)), nothing, rng) is None


def test_the_target_is_never_named_even_where_it_was_shown() -> None:
    """Of three phrasings one would name the shown target, and one holds a word that is its title's alone."""
    shown = dataclasses.replace(PERSON, shown=(TARGET, DOLL))
    said = [
        phrasing("again Old Bill", ("old bill", "shown_title", 1)),
        phrasing("where is my zorka"),
        phrasing("toy-7 please"),
    ]
    heard = {HumanVoice(said, LEAKS, seed)(shown) for seed in range(30)}
    assert heard == {"again Lady Mirabel"}


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        # What was shown and is least like the target, what is foreign to it, its own, and the likest of the history.
        ("rejects an item", {"Lady Mirabel"}),
        ("turns down an attribute", {"dolls"}),
        ("wishes for an attribute", {"racing", "wooden"}),
        ("compares with what was shown", {"racing", "wooden"}),
        ("compares with an item of their own", {"Cart of Oak"}),
        ("does several at once", {"dolls", "racing", "wooden"}),
    ],
)
def test_feedback_of_a_kind_names_what_that_kind_does(kind: str, named: set[str]) -> None:
    words = {"Lady Mirabel", "Cart of Oak", "dolls", "racing", "wooden", "Zorka"}
    people = [dataclasses.replace(PERSON, user_id=f"user {number}") for number in range(60)]
    said = [KindVoice(KINDS[kind], LEAKS, seed=1)(person) for person in people]
    assert {word for utterance in said for word in words if word in utterance} == named
    assert len(set(said)) >= 6


def test_who_has_nothing_to_name_says_too_little() -> None:
    nothing = dataclasses.replace(PERSON, target=TARGET._replace(attributes=()), shown=(), history=())
    for kind in KINDS.values():
        assert KindVoice(kind, LEAKS, seed=1)(nothing) in VAGUE


def test_what_a_person_says_does_not_hang_on_who_else_speaks() -> None:
    voice = HumanVoice([phrasing(f"take {number}") for number in range(50)], LEAKS, seed=3)
    others = [dataclasses.replace(PERSON, user_id=f"user {number}") for number in range(20)]
    assert voice(PERSON) == HumanVoice(voice.phrasings, LEAKS, seed=3)(PERSON)
    assert len({voice(person) for person in others}) > 5


@pytest.fixture(scope="module")
def speakers() -> dict[str, Voice]:
    said = [phrasing("more fish", ("fish", "attribute", 1)), phrasing("meh")]
    return dict(voices(said, LEAKS, max_attributes=2, unwanted_share=0.5, seed=5))


def test_moods_are_heard(speakers: dict[str, Voice]) -> None:
    people = [dataclasses.replace(PERSON, user_id=f"user {number}") for number in range(60)]

    def said_by(name: str) -> list[str]:
        return [speakers[name](person).lower() for person in people]

    knowing = "simulated, knows the target"
    own = ("racing", "wooden")
    assert all(any(word in said for word in own) for said in said_by(f"{knowing}, terse"))
    assert all(sum(said.count(word) for word in own) == 2 for said in said_by(f"{knowing}, contradictory"))
    unnamed = sum(not any(word in said for word in (*own, "dolls")) for said in said_by(f"{knowing}, vague"))
    assert 30 <= unnamed <= 58  # three quarters of 60, more or less
    assert not any("racing" in said for said in said_by("simulated, knows past ratings"))
    assert set(said_by("human, names a genre")) == {"more racing", "more wooden"}
    assert set(said_by("human, names no genre")) == {"meh"}
    assert all(LEAKS.leak(said, "toy-7") is None for name in speakers for said in said_by(name))


@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        (["Dolls"], {"no", "no thanks", "nope", "rather not", "not really"}),
        (["Dolls", "Racing"], {"the second", "the second one", "the latter", "racing", "racing please"}),
        ([], {"racing"}),
    ],
)
def test_answers_are_true_and_short(offered: list[str], expected: set[str]) -> None:
    assert {answer(offered, PERSON, LEAKS, seed) for seed in range(60)} == expected


def test_phrasings_of_a_file_are_those_with_slots(tmp_path: Path) -> None:
    lines = [{"utterance": "more fish"}, {"utterance": "unknown"}, {"utterance": "more fish"}]
    (tmp_path / "said.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    slots = {hashlib.sha256(b"more fish").hexdigest()[:16]: [[1, 2, "attribute", 1]]}
    (tmp_path / "slots.json").write_text(json.dumps(slots), encoding="utf-8")
    read = read_phrasings(tmp_path / "said.jsonl", tmp_path / "slots.json")
    assert read == [Phrasing("more fish", (Slot(1, 2, "attribute", 1),))]
