"""Sentences of our own with what they want and turn down, labelled by hand."""

import json
from pathlib import Path

from cesrec_core.feedback.understanding import understand
from cesrec_core.feedback.vocabulary import CatalogueVocabulary

DATA = Path(__file__).parents[1] / "data"
# Of what stands in the files; what fails today is counted, not left out.
MIN_SHARE_OF_NEGATIONS = 0.95
MIN_SHARE_OF_CRITIQUES = 0.85


def catalogue(attributes: list[str]) -> CatalogueVocabulary:
    """One item for each attribute, with titles that are no words of anybody's."""
    numbers = [str(number) for number in range(len(attributes))]
    return CatalogueVocabulary.from_items(numbers, [f"Qx{number} zork" for number in numbers], [[name] for name in attributes])


def mistakes(sentences: list[list[list[str]]], vocabulary: CatalogueVocabulary) -> list[list[str]]:
    wrong = []
    for utterance, wanted, unwanted in sentences:
        signals = understand(str(utterance), ("0", "1"), vocabulary, 1000)
        if (set(signals.wanted_attributes), set(signals.unwanted_attributes)) != (set(wanted), set(unwanted)):
            wrong.append(utterance)
    return wrong


def test_negation_and_contrast_over_three_catalogues() -> None:
    data = json.loads((DATA / "negations.json").read_text())
    assert len(data["sentences"]) >= 150
    wrong = []
    for name, attributes in data["catalogues"].items():
        of_catalogue = [sentence for of, *sentence in data["sentences"] if of == name]
        assert len(of_catalogue) > 30
        wrong += mistakes(of_catalogue, catalogue(attributes))
    assert 1 - len(wrong) / len(data["sentences"]) >= MIN_SHARE_OF_NEGATIONS, wrong


def test_items_that_are_wanted_and_turned_down() -> None:
    toys = CatalogueVocabulary.from_items(
        ["bear", "robot", "castle"],
        ["Wobbly Bear", "Tin Robot", "Block Castle"],
        [["Plush"], ["Battery Powered"], ["Building Blocks"]],
    )
    for utterance, wanted, unwanted in json.loads((DATA / "negations.json").read_text())["items"]:
        signals = understand(utterance, ("bear", "robot", "castle"), toys, 1000)
        assert (list(signals.wanted_item_ids), list(signals.unwanted_item_ids)) == (wanted, unwanted), utterance


def test_genres_of_critiques() -> None:
    critiques = json.loads((DATA / "critiques.json").read_text())
    assert len(critiques) == 50
    genres = sorted({genre for _, wanted, unwanted in critiques for genre in (*wanted, *unwanted)})
    wrong = mistakes(critiques, catalogue(genres))
    assert 1 - len(wrong) / len(critiques) >= MIN_SHARE_OF_CRITIQUES, wrong
