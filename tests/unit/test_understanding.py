import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cesrec_core.feedback.understanding import Signals, model_id, understand
from cesrec_core.feedback.vocabulary import Vocabulary

ITEMS = {
    "toys": ("Toy Story (1995)", ["Animation", "Children's", "Comedy"]),
    "matrix": ("Matrix, The (1999)", ["Sci-Fi", "Action", "Thriller"]),
    "it": ("It (2017)", ["Horror"]),
    "scary": ("Scary Movie (2000)", ["Comedy", "Horror"]),
    "alien3": ("Alien 3 (1992)", ["Sci-Fi", "Horror"]),
    "aliens": ("Aliens (1986)", ["Violence", "War"]),
    "heat": ("Heat (1995)", ["Anime", "Film-Noir", "Mystery"]),
    "wars": ("Star Wars: Episode IV - A New Hope (1977)", ["Musical"]),
    "titanic": ("Titanic (1997)", ["Romance", "Drama"]),
}
VOCABULARY = Vocabulary.from_items(
    list(ITEMS), [title for title, _ in ITEMS.values()], [values for _, values in ITEMS.values()]
)
THREE = ("toys", "matrix", "it")


def read(utterance: str, recommended: tuple[str, ...] = THREE) -> Signals:
    return understand(utterance, recommended, VOCABULARY, max_characters=1000)


@pytest.mark.parametrize(
    ("utterance", "wanted", "unwanted"),
    [
        ("sci-fi", {"Sci-Fi"}, set()),
        ("romantic comedies please", {"Romance", "Comedy"}, set()),
        ("not a horror fan, what about thrillers", {"Thriller"}, {"Horror"}),
        ("not a horror fan what about thrillers", {"Thriller"}, {"Horror"}),
        ("anything but anime", set(), {"Anime"}),
        ("no more war, something romantic", {"Romance"}, {"War"}),
        ("I've had enough of horror", set(), {"Horror"}),
        ("too much action", set(), {"Action"}),
        ("not too much action", set(), {"Action"}),
        ("instead of horror, comedy", {"Comedy"}, {"Horror"}),
        ("instead of horror, comedies and musicals", {"Comedy", "Musical"}, {"Horror"}),
        ("comedy instead of horror", {"Comedy"}, {"Horror"}),
        ("less action, more drama", {"Drama"}, {"Action"}),
        ("not enough action", {"Action"}, set()),
        ("not only horror", {"Horror"}, set()),
        ("not only horror but also comedies", {"Horror", "Comedy"}, set()),
        ("I don't like horror, war or musicals but love comedies", {"Comedy"}, {"Horror", "War", "Musical"}),
        ("I dont like horror and I want comedy", {"Comedy"}, {"Horror"}),
        ("not horror, comedy", {"Comedy"}, {"Horror"}),
        ("comedy not horror", {"Comedy"}, {"Horror"}),
        ("No, I want a comedy", {"Comedy"}, set()),
        ("no horror", set(), {"Horror"}),
        ("nothing violent, please. children's films", {"Children's"}, {"Violence"}),
        ("horror isn't my thing", set(), {"Horror"}),
        ("horror? no thanks", set(), {"Horror"}),
        ("horror, which I hate", set(), {"Horror"}),
        ("I don't think I want another war film", set(), {"War"}),
        ("can't get enough of musicals", {"Musical"}, set()),
        ("I don't mind horror", {"Horror"}, set()),
        ("I would rather a comedy than a drama", {"Comedy"}, {"Drama"}),
        ("I prefer drama to comedy", {"Drama"}, {"Comedy"}),
        ("more action than drama", {"Action"}, set()),
        ("non-violent, non horror comedy", {"Comedy"}, {"Violence", "Horror"}),
        ("a little too romantic for my taste", set(), {"Romance"}),
        ("tired of drama, give me comedies", {"Comedy"}, {"Drama"}),
        ("I hate comedies. Actually no, I love comedies", {"Comedy"}, set()),
        ("I haven't seen any horror lately", set(), set()),
        ("Is it a horror movie?", set(), set()),
        ("any comedies?", {"Comedy"}, set()),
    ],
)
def test_attributes(utterance: str, wanted: set[str], unwanted: set[str]) -> None:
    signals = read(utterance)
    assert (set(signals.wanted_attributes), set(signals.unwanted_attributes)) == (wanted, unwanted)
    assert signals.is_vague == (not wanted and not unwanted)


@pytest.mark.parametrize(
    ("utterance", "recommended", "wanted", "unwanted"),
    [
        ("more like the second one", THREE, {"matrix"}, set()),
        ("not like the 2nd one", THREE, set(), {"matrix"}),
        ("the first two were good", THREE, {"toys", "matrix"}, set()),
        ("hated the last one", THREE, set(), {"it"}),
        ("I hated number 3", THREE, set(), {"it"}),
        ("the fifth one was great", THREE, set(), set()),
        ("I liked the first half", THREE, set(), set()),
        ("I loved Toy Story, hated the rest", THREE, {"toys"}, {"matrix", "it"}),
        ("The Matrix was boring", THREE, set(), {"matrix"}),
        ("the matrix didn't do it for me", THREE, set(), {"matrix"}),
        ("I've seen the matrix and enjoyed it", THREE, {"matrix"}, set()),
        ("Haven't seen Toy Story yet", THREE, set(), set()),
        ("Alien 3 not so much", ("alien3", "aliens"), set(), {"alien3"}),
        ("I can't stand It (2017)", THREE, set(), {"it"}),
        ("too scary for me", ("it",), set(), {"it"}),
        ("too scary for me", THREE, set(), set()),
        ("I didn't like that one", ("it",), set(), {"it"}),
        ("I didn't like that one", THREE, set(), set()),
        ("saw it, didn't care for it", ("it",), set(), {"it"}),
        ("didn't care for those", THREE, set(), set(THREE)),
        ("something like Titanic but funny", THREE, {"titanic"}, set()),
        ("I prefer a scary movie", THREE, set(), set()),
        ("like Scary Movie (2000)", THREE, {"scary"}, set()),
        ("not interested, thank you", ("titanic",), set(), {"titanic"}),
        ("Enemy at the Gates (2001) was good", (), set(), set()),
        ("Toy Story 2 was good", (), set(), set()),
    ],
)
def test_items(utterance: str, recommended: tuple[str, ...], wanted: set[str], unwanted: set[str]) -> None:
    signals = read(utterance, recommended)
    assert (set(signals.wanted_item_ids), set(signals.unwanted_item_ids)) == (wanted, unwanted)


def test_items_and_attributes_together() -> None:
    signals = read("more like the second one, less violent")
    assert signals.wanted_item_ids == ("matrix",)
    assert signals.unwanted_attributes == ("Violence",)
    assert not signals.is_vague


def test_words_of_a_title_are_not_attributes() -> None:
    assert read("I hated Scary Movie (2000) and Star Wars (1977)").unwanted_attributes == ()


@pytest.mark.parametrize(
    ("utterance", "intents"),
    [
        ("thanks!", ("other",)),
        ("sounds good, I'll check it out", ("accept",)),
        ("not interested, something else", ("reject",)),
        ("less action, more drama", ("critique",)),
        ("what is it about?", ("inquire",)),
        ("I hated that one. More drama please", ("reject", "critique")),
    ],
)
def test_intents(utterance: str, intents: tuple[str, ...]) -> None:
    assert read(utterance, ("titanic",)).intents == intents


@pytest.mark.parametrize("utterance", ["", " ", "thanks", "hmm", "???", "\x00\x01", "もっと面白いもの", "🙂🙂", "surprise me"])
def test_vague_utterances_say_so(utterance: str) -> None:
    signals = read(utterance)
    assert signals.is_vague
    assert signals.confidence == 0.0


def test_explicit_words_are_trusted_more_than_a_bare_mention() -> None:
    assert read("I want horror").confidence == 0.9
    assert read("horror").confidence == 0.6


def test_hidden_characters_do_not_hide_words() -> None:
    assert read("no\x00 hor\u200bror").unwanted_attributes == ()
    assert read("no\x00 horror\u202e").unwanted_attributes == ("Horror",)


def test_utterance_is_cut() -> None:
    assert understand("x" * 1000 + " no horror", THREE, VOCABULARY, 1000).is_vague


PIECES = st.sampled_from(
    [
        "not",
        "no",
        "but",
        ",",
        ".",
        "?",
        "horror",
        "comedies",
        "the second one",
        "Toy Story",
        "it",
        "instead of",
        "less",
        "than",
        "I",
    ]
)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(st.text(max_size=300), st.lists(PIECES, max_size=40).map(" ".join)),
    st.lists(st.sampled_from(sorted(ITEMS)), max_size=5),
)
def test_any_text_gives_signals_within_the_catalogue(utterance: str, recommended: list[str]) -> None:
    signals = understand(utterance, recommended, VOCABULARY, 1000)
    known = {attribute for _, values in ITEMS.values() for attribute in values}
    assert set(signals.wanted_attributes) | set(signals.unwanted_attributes) <= known
    assert set(signals.wanted_item_ids) | set(signals.unwanted_item_ids) <= set(ITEMS)
    assert not set(signals.wanted_attributes) & set(signals.unwanted_attributes)
    assert not set(signals.wanted_item_ids) & set(signals.unwanted_item_ids)
    assert 0.0 <= signals.confidence <= 1.0
    assert signals.intents
    assert signals == understand(utterance, recommended, VOCABULARY, 1000)


@pytest.mark.parametrize(
    "piece", ["not ", "no, ", "horror, ", "not horror, ", "the second one but ", "a", "\x00", "(", "&lt;", "is it?"]
)
def test_a_hundred_kilobytes_take_seconds_at_most(piece: str) -> None:
    text = (piece * 100_000)[:100_000]
    started = time.perf_counter()
    understand(text, THREE, VOCABULARY, 100_000)
    assert time.perf_counter() - started < 10


def test_model_id_names_parser_and_catalogue() -> None:
    other = Vocabulary.from_items(["1"], ["A"], [["x"]])
    assert model_id(VOCABULARY) == f"rules-1-{VOCABULARY.fingerprint}"
    assert model_id(other) != model_id(VOCABULARY)
