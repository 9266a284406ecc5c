"""Words that stand for attributes, with a stand-in for the sentence model whose vectors are written down here."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cesrec_core.feedback import synonyms as module
from cesrec_core.feedback.mentions import find_mentions
from cesrec_core.feedback.speech_acts import Head
from cesrec_core.feedback.synonyms import Synonyms, unknown_terms
from cesrec_core.feedback.understanding import Listener
from cesrec_core.feedback.vocabulary import CatalogueVocabulary, words_of

HORROR, COMEDY = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)
VECTORS = {
    "category: horror": HORROR,
    "category: comedy": COMEDY,
    "scary": (0.8, 0.0, 0.6),
    "creepy": (0.39, 0.0, 0.92),
    "laughs": (0.0, 3.0, 4.0),  # 0.6, whatever its length
    "belly laughs": (0.0, 0.9, 0.43),
    "weird": (0.5, 0.46, 0.73),  # between the two
}
VOCABULARY = CatalogueVocabulary.from_items(
    ["a", "b"], ["Night of Dread (1999)", "Banana Skin (2001)"], [["Horror"], ["Comedy"]]
)


class Embedding:
    """Vectors by text, [N, 3]; of other texts far from everything. Remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += texts
        return np.array([VECTORS.get(text, (0.0, 0.0, 1.0)) for text in texts], dtype=np.float32)


def test_the_nearest_attribute_is_meant_where_it_is_near_and_clearly_nearer() -> None:
    embed = Embedding()
    synonyms = Synonyms({"Horror", "Comedy"}, embed, 0.5)
    assert synonyms.of(["scary", "laughs", "weird", "creepy", "table"]) == {"scary": "Horror", "laughs": "Comedy"}
    # Nothing is embedded twice.
    assert synonyms.of(["scary", "weird"]) == {"scary": "Horror"}
    assert embed.asked.count("scary") == embed.asked.count("category: horror") == embed.asked.count("weird") == 1
    assert Synonyms({"Horror", "Comedy"}, embed, 0.38).of(["creepy"]) == {"creepy": "Horror"}
    assert Synonyms({"Horror"}, embed, 0.5).of(["scary", "laughs"]) == {"scary": "Horror"}
    assert Synonyms((), embed, 0.5).of(["scary"]) == {}


def test_a_vocabulary_too_large_is_left_alone_and_memory_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    embed = Embedding()
    monkeypatch.setattr(module, "_MAX_ATTRIBUTES", 1)
    assert Synonyms({"Horror", "Comedy"}, embed, 0.5).of(["scary"]) == {} and not embed.asked
    monkeypatch.setattr(module, "_MAX_KNOWN", 1)
    synonyms = Synonyms({"Horror"}, embed, 0.5)
    for _ in range(2):
        assert synonyms.of(["scary", "laughs"]) == {"scary": "Horror"}
    assert embed.asked.count("scary") == 2 and embed.asked.count("category: horror") == 1


@pytest.mark.parametrize(
    ("said", "terms"),
    [
        ("I want something scary, please", ["scary"]),
        ("no belly laughs", ["belly", "belly laughs", "laughs"]),
        ("belly, laughs", ["belly", "laughs"]),
        ("more horror than Banana Skin", []),
        # A name that the catalogue does not have is no word for an attribute; at the start anything is in capitals.
        ("we saw Scary Something", []),
        ("Scary ones. Creepy ones", ["scary", "creepy"]),
        ("it is ok 42 x9", []),
    ],
)
def test_terms_are_words_with_content_that_stand_for_nothing_yet(said: str, terms: list[str]) -> None:
    words = words_of(said)
    assert unknown_terms(words, find_mentions(words, [], VOCABULARY)) == terms


def listener(min_similarity: float | None = 0.38) -> Listener:
    embed = Embedding()
    return Listener(VOCABULARY, embed, Head.fit(embed), 1000, min_similarity)


@pytest.fixture(scope="module")
def listening() -> Listener:
    return listener()


@pytest.mark.parametrize(
    ("said", "wanted", "unwanted"),
    [
        ("I want something scary", ("Horror",), ()),
        ("nothing scary please", (), ("Horror",)),
        ("that was too creepy for me", (), ("Horror",)),
        ("less scary, more belly laughs", ("Comedy",), ("Horror",)),
        # Not said outright, or between two attributes.
        ("we sat there, scary as it was", (), ()),
        ("I want something weird", (), ()),
        # Who names an attribute means that, and a title is a title.
        ("I want scary comedy", ("Comedy",), ()),
        ("I liked Night of Dread", (), ()),
    ],
)
def test_what_is_asked_for_in_other_words(
    listening: Listener, said: str, wanted: tuple[str, ...], unwanted: tuple[str, ...]
) -> None:
    (signals,) = listening.read([said], [("a",)])
    assert (signals.wanted_attributes, signals.unwanted_attributes) == (wanted, unwanted)


def test_less_of_something_than_in_what_is_wanted_turns_no_kind_down(listening: Listener) -> None:
    (alone, beside) = listening.read(["nothing scary", "more like the first one, less scary"], [("a", "b")] * 2)
    assert (alone.wanted_item_ids, alone.unwanted_attributes) == ((), ("Horror",))
    assert (beside.wanted_item_ids, beside.unwanted_attributes) == (("a",), ())


def test_other_words_are_less_certain_and_can_be_switched_off(listening: Listener) -> None:
    said = ["I want horror", "I want something scary"]
    by_name, by_meaning = listening.read(said, [(), ()])
    assert 0 < by_meaning.confidence < by_name.confidence
    assert listener(None).read(said, [(), ()])[1].wanted_attributes == ()


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    st.lists(st.one_of(st.text(max_size=60), st.sampled_from(["scary", "no scary " * 200, "\x00creepy", "SCARY"])), max_size=4)
)
def test_nothing_that_is_said_changes_what_another_is_understood_to_say(listening: Listener, said: list[str]) -> None:
    alone = listening.read(["nothing scary please"], [()])
    assert listening.read([*said, "nothing scary please"], [()] * (len(said) + 1))[-1:] == alone
