import pytest

from cesrec_core.feedback.vocabulary import CatalogueVocabulary, names_of, singular, words_of

ATTRIBUTES = ("Sci-Fi", "Children's", "Romance", "Comedy", "Film-Noir", "Action & Adventure", "role playing", "Mystery")


@pytest.fixture(scope="module")
def vocabulary() -> CatalogueVocabulary:
    return CatalogueVocabulary.from_items(["1"], ["Anything (2001)"], [ATTRIBUTES])


@pytest.mark.parametrize(
    ("phrase", "attribute"),
    [
        ("sci-fi", "Sci-Fi"),
        ("SCI FI", "Sci-Fi"),
        ("scifi", "Sci-Fi"),
        ("science fiction", "Sci-Fi"),
        ("Science-Fiction", "Sci-Fi"),
        ("children’s", "Children's"),
        ("children", "Children's"),
        ("romantic", "Romance"),
        ("comedies", "Comedy"),
        ("comedic", "Comedy"),
        ("film noir", "Film-Noir"),
        ("adventures", "Action & Adventure"),
        ("role-playing", "role playing"),
        ("mysterious", "Mystery"),
    ],
)
def test_attribute_is_found_in_the_forms_people_use(vocabulary: CatalogueVocabulary, phrase: str, attribute: str) -> None:
    words = words_of(phrase)
    assert vocabulary.attributes_at(words, 0) == ((attribute,), len(words))


@pytest.mark.parametrize("phrase", ["science", "fiction", "film", "rome", "come", "play", "and", ""])
def test_other_words_are_no_attribute(vocabulary: CatalogueVocabulary, phrase: str) -> None:
    words = words_of(phrase)
    assert all(vocabulary.attributes_at(words, place) == ((), place) for place in range(len(words)))


def test_function_word_among_the_attributes_is_never_found() -> None:
    vocabulary = CatalogueVocabulary.from_items(["1"], ["Anything"], [["one", "xbox one"]])
    assert vocabulary.attributes_at(words_of("one"), 0) == ((), 0)
    assert vocabulary.attributes_at(words_of("Xbox One"), 0) == (("xbox one",), 2)


def test_singular_and_plural_spellings_are_both_meant() -> None:
    vocabulary = CatalogueVocabulary.from_items(["1", "2"], ["A", "B"], [["game"], ["games"]])
    assert vocabulary.attributes_at(words_of("games"), 0) == (("game", "games"), 1)


def test_longest_phrase_wins() -> None:
    vocabulary = CatalogueVocabulary.from_items(["1"], ["Anything"], [["nintendo", "nintendo switch", "switch"]])
    assert vocabulary.attributes_at(words_of("Nintendo Switch"), 0) == (("nintendo switch",), 2)


@pytest.mark.parametrize(
    ("title", "names"),
    [
        ("Matrix, The (1999)", {"matrix"}),
        ("The Matrix (1999)", {"matrix"}),
        (
            "Star Wars: Episode IV - A New Hope (1977)",
            {"star wars episode iv a new hope", "star wars", "episode iv", "new hope"},
        ),
        ("Postino, Il (The Postman) (1994)", {"postino", "il postino"}),
        ("Atalante, L' (1934)", {"atalante", "latalante"}),
        ("Dr. Strangelove or: How We Won (1964)", {"dr strangelove or how we won", "dr strangelove", "how we won"}),
        ("Sunset Blvd. (a.k.a. Sunset Boulevard) (1950)", {"sunset blvd", "sunset boulevard"}),
        ("Hard 8 (a.k.a. Sydney, a.k.a. Hard Eight) (1996)", {"hard 8", "sydney", "hard eight"}),
        ("Jo Bell and the Temple of Doom", {"jo bell and the temple of doom", "jo bell", "temple of doom"}),
        ("Beauty & the Beast", {"beauty and the beast"}),
        ("Titanfall 2 - PlayStation 4", {"titanfall 2 playstation 4", "titanfall 2"}),
        ("Shanghai Triad (Yao a yao yao dao waipo qiao) (1995)", {"shanghai triad"}),
        ("It (2017)", {"it"}),
        ("Amélie (2001)", {"amelie"}),
        ("Can't Wait (1998)", {"cant wait", "ca not wait"}),
        ("Oscar's List (1993)", {"oscar list", "oscars list"}),
        ("", set()),
        ("(1999)", {"1999"}),
    ],
)
def test_names_of_a_title(title: str, names: set[str]) -> None:
    assert names_of(title) == names


def test_name_shared_by_many_items_singles_out_none() -> None:
    ids = [str(number) for number in range(6)]
    vocabulary = CatalogueVocabulary.from_items(ids, [f"Saga: Part {number}" for number in ids], [()] * 6)
    assert "saga" not in vocabulary.names
    assert vocabulary.names["saga part 3"] == ("3",)


def test_a_part_of_words_that_many_titles_share_is_no_name() -> None:
    titles = [f"Story{number} - Handheld" for number in range(51)] + ["Handheld - Charger", "Charger"]
    vocabulary = CatalogueVocabulary.from_items([str(number) for number in range(53)], titles, [()] * 53)
    assert "handheld" not in vocabulary.names
    assert vocabulary.names["story7"] == ("7",)
    fewer = CatalogueVocabulary.from_items(["50", "51"], titles[50:52], [()] * 2)
    assert fewer.names["handheld"] == ("51",)


@pytest.mark.parametrize(("one", "many"), [("comedy", "comedies"), ("box", "boxes"), ("hero", "heroes"), ("wish", "wishes")])
def test_singular_joins_singular_and_plural(one: str, many: str) -> None:
    assert singular(many) == singular(one) == one


def test_fingerprint_changes_with_content_and_not_with_order() -> None:
    first = CatalogueVocabulary.from_items(["1", "2"], ["A", "B"], [["x"], ["y"]])
    turned = CatalogueVocabulary.from_items(["2", "1"], ["B", "A"], [["y"], ["x"]])
    other = CatalogueVocabulary.from_items(["1", "2"], ["A", "B"], [["x"], ["z"]])
    assert first.fingerprint == turned.fingerprint != other.fingerprint
