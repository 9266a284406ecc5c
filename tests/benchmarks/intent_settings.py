"""Chooses what the reading of intents weighs, by cross-validation on prototypes of our own: no other words are read.

    python tests/benchmarks/intent_settings.py [--model FOLDER] [--folds 5] [--threads 1] [--only-evidence]

Prototypes that say nearly the same lie in one fold: those whose sentence vectors an average linkage puts together below a
cosine distance of --distance, fillings of one prototype always. Every prototype counts the same, however many fillings it has.

First the settings of the head: mean held-out loss (nats) and accuracy of every pair; `speech_acts.HeadSettings` ships the least
loss. Then, with that head, what clauses count for beside it: prototypes are filled with attributes of the three catalogues in
tests/data/negations.json and read by the rules; `understanding` ships the weights with the best macro-F1 of actionable against
the rest, of equals the smallest.
"""

import argparse
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage

from cesrec_core.config import EmbedItemsSection
from cesrec_core.extractor.transformer import Extractor
from cesrec_core.feedback.intents import ACTIONABLE, INTENTS
from cesrec_core.feedback.prototypes import FILLERS, fillings
from cesrec_core.feedback.speech_acts import SETTINGS, Embed, Head, HeadSettings
from cesrec_core.feedback.understanding import understand
from cesrec_core.feedback.vocabulary import CatalogueVocabulary
from cesrec_core.prompts import attribute_words

NEGATIONS = Path(__file__).parents[1] / "data" / "negations.json"
MODEL = ".venv/share/cesrec/models/all-minilm-l6-v2"
MAX_TOKENS = 64
SCALES = (0.25, 0.5, 1.0, 2.0)
PENALTIES = (0.025, 0.05, 0.1, 0.2, 0.4)
EVIDENCE = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--distance", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only-evidence", action="store_true", help="with the settings that ship")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    extractor = Extractor(EmbedItemsSection(model_path=options.model, max_tokens=MAX_TOKENS), "cpu")
    examples, with_attributes = Texts.of(fillings()), Texts.of(fillings({**FILLERS, "kind": _attributes()}))
    embed = _remembering(extractor.embed, [*examples.texts, *with_attributes.texts])
    groups = _groups(embed(examples.texts), examples.prototypes, options.distance)
    folds = np.random.default_rng(0).permutation(groups.max() + 1)[groups] % options.folds
    print(f"{len(examples.texts)} texts of {len(groups)} prototypes in {groups.max() + 1} groups\n")
    settings = SETTINGS if options.only_evidence else _choose_settings(examples, embed, folds)
    turned_down, asked_for = _choose_evidence(settings, examples, with_attributes, embed, folds)
    chosen = {**vars(settings), "what_is_turned_down": turned_down, "what_is_asked_for": asked_for}
    print("\n" + json.dumps({"chosen": chosen, "ships": vars(SETTINGS)}))
    return 0


@dataclass(frozen=True)
class Texts:
    """Fillings of prototypes.

    Attributes:
        intents: int64 [texts], places in INTENTS.
        prototypes: int64 [texts], from 0, in the order of the prototypes.
        weights: float64 [texts], one over the number of fillings of the prototype.
    """

    texts: list[str]
    intents: np.ndarray
    prototypes: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, made: Sequence[tuple[str, str, str]]) -> "Texts":
        place_of = {key: place for place, key in enumerate(dict.fromkeys((intent, prototype) for intent, prototype, _ in made))}
        prototypes = np.array([place_of[intent, prototype] for intent, prototype, _ in made])
        intents = np.array([INTENTS.index(intent) for intent, _, _ in made])
        return cls([text for _, _, text in made], intents, prototypes, 1 / np.bincount(prototypes)[prototypes])


def _attributes() -> list[str]:
    """Attributes of all catalogues as people say them, in turn."""
    catalogues = json.loads(NEGATIONS.read_text(encoding="utf-8"))["catalogues"].values()
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(*catalogues))
    return [attribute_words(name) for name in in_turn if name is not None]


def _remembering(embed: Embed, texts: Sequence[str]) -> Embed:
    """Vectors of `texts`, made once."""
    vectors = dict(zip(texts, embed(texts), strict=True))
    return lambda asked: np.stack([vectors[text] for text in asked])


def _groups(vectors: np.ndarray, of_text: np.ndarray, distance: float) -> np.ndarray:
    """int64 [prototypes], from 0: the group of each. `vectors` [texts, H]; `of_text`: the prototype of each text."""
    means = np.stack([vectors[of_text == place].mean(axis=0) for place in range(of_text.max() + 1)])
    groups: np.ndarray = fcluster(linkage(means, "average", metric="cosine"), distance, "distance") - 1
    return groups


def _heads(settings: HeadSettings, examples: Texts, embed: Embed, folds: np.ndarray) -> Iterator[tuple[int, Head]]:
    """For each fold a head that saw none of its groups. `folds` int64 [prototypes]."""
    of_text = folds[examples.prototypes]
    for fold in range(folds.max() + 1):
        seen = np.flatnonzero(of_text != fold)
        intents = [INTENTS[examples.intents[row]] for row in seen]
        yield fold, Head.fit_on([examples.texts[row] for row in seen], intents, embed, settings)


def _held_out(settings: HeadSettings, examples: Texts, read: Texts, embed: Embed, folds: np.ndarray) -> np.ndarray:
    """Probabilities of `read`, float64 [texts, len(INTENTS)], by heads that were fitted on `examples` of other groups."""
    result = np.zeros((len(read.texts), len(INTENTS)))
    for fold, head in _heads(settings, examples, embed, folds):
        held = np.flatnonzero(folds[read.prototypes] == fold)
        result[held] = head.probabilities([read.texts[row] for row in held], embed)
    return result


def _choose_settings(examples: Texts, embed: Embed, folds: np.ndarray) -> HeadSettings:
    print("| scale of words | penalty | held-out loss, nats | accuracy |\n|---|---|---|---|")
    losses = {}
    rows = np.arange(len(examples.texts))
    for settings in itertools.starmap(HeadSettings, itertools.product(SCALES, PENALTIES)):
        probabilities = _held_out(settings, examples, examples, embed, folds)
        loss = -np.log(probabilities[rows, examples.intents])
        is_right = probabilities.argmax(axis=1) == examples.intents
        losses[settings] = float(np.average(loss, weights=examples.weights))
        accuracy = np.average(is_right, weights=examples.weights)
        print(f"| {settings.scale_of_words:g} | {settings.penalty:g} | {losses[settings]:.4f} | {accuracy:.3f} |", flush=True)
    return min(losses, key=losses.__getitem__)


def _choose_evidence(
    settings: HeadSettings, examples: Texts, read: Texts, embed: Embed, folds: np.ndarray
) -> tuple[float, float]:
    """Weights of what is turned down, and of what is asked for."""
    names = _attributes()
    vocabulary = CatalogueVocabulary.from_items(
        [str(place) for place in range(len(names))],
        [f"Qx{place} zork" for place in range(len(names))],
        [[name] for name in names],
    )
    signals = [understand(text, ("0",), vocabulary, 1000) for text in read.texts]
    turned_down = np.array([bool(one.unwanted_attributes) or "0" in one.unwanted_item_ids for one in signals])
    asked_for = np.array([bool(one.wanted_attributes) for one in signals])
    actionable = np.array([intent in ACTIONABLE for intent in INTENTS])
    truth = actionable[read.intents]
    changes = _held_out(settings, examples, read, embed, folds)[:, actionable].sum(axis=1)
    print("\n| of what is turned down | of what is asked for | actionable, macro-F1 |\n|---|---|---|")
    scores = {}
    for first, second in itertools.product(EVIDENCE, EVIDENCE):
        guess = changes + first * turned_down + second * asked_for >= 0.5
        scores[first, second] = _macro_f1(truth, guess, read.weights)
        print(f"| {first:g} | {second:g} | {scores[first, second]:.4f} |")
    return max(scores, key=scores.__getitem__)


def _macro_f1(truth: np.ndarray, guess: np.ndarray, weights: np.ndarray) -> float:
    of_both = [
        2 * weights[of & read].sum() / (weights[of].sum() + weights[read].sum())
        for of, read in ((truth, guess), (~truth, ~guess))
    ]
    return float(np.mean(of_both))


if __name__ == "__main__":
    raise SystemExit(main())
