"""Chooses the settings of the head that tells intents, by cross-validation on prototypes of our own: no other words are read.

    python tests/benchmarks/intent_settings.py [--model FOLDER] [--folds 5] [--threads 1]

Prototypes that say nearly the same lie in one fold: those whose sentence vectors an average linkage puts together below a
cosine distance of --distance, fillings of one prototype always. Every prototype counts the same, however many fillings it has.
Prints mean held-out loss (nats) and accuracy of every pair of settings; `speech_acts.HeadSettings` ships the least loss.
"""

import argparse
import itertools
import json
from collections.abc import Sequence

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage

from cesrec_core.config import EmbedItemsSection
from cesrec_core.extractor import Extractor
from cesrec_core.feedback.intents import INTENTS
from cesrec_core.feedback.prototypes import fillings
from cesrec_core.feedback.speech_acts import SETTINGS, Embed, Head, HeadSettings

MODEL = ".venv/share/cesrec/models/all-minilm-l6-v2"
MAX_TOKENS = 64
SCALES = (0.25, 0.5, 1.0, 2.0)
PENALTIES = (0.1, 0.2, 0.4, 0.8, 1.6)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--distance", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    made = fillings()
    texts, intents = [text for _, _, text in made], [intent for intent, _, _ in made]
    prototypes = list(dict.fromkeys((intent, prototype) for intent, prototype, _ in made))
    place_of = {prototype: place for place, prototype in enumerate(prototypes)}
    of_text = np.array([place_of[intent, prototype] for intent, prototype, _ in made])
    embed = _remembering(Extractor(EmbedItemsSection(model_path=options.model, max_tokens=MAX_TOKENS), "cpu").embed, texts)
    groups = _groups(embed(texts), of_text, options.distance)
    folds = np.random.default_rng(0).permutation(groups.max() + 1)[groups][of_text] % options.folds
    share = 1 / np.bincount(of_text)[of_text]
    print(f"{len(texts)} texts of {len(prototypes)} prototypes in {groups.max() + 1} groups\n")
    print("| scale of words | penalty | held-out loss, nats | accuracy |")
    print("|---|---|---|---|")
    figures = []
    for scale, penalty in itertools.product(SCALES, PENALTIES):
        loss, accuracy = _held_out(HeadSettings(scale, penalty), texts, intents, embed, folds)
        figures.append((float(np.average(loss, weights=share)), scale, penalty, float(np.average(accuracy, weights=share))))
        print(f"| {scale:g} | {penalty:g} | {figures[-1][0]:.4f} | {figures[-1][3]:.3f} |", flush=True)
    least, scale, penalty, accuracy = min(figures)
    result = {"scale_of_words": scale, "penalty": penalty, "loss": least, "accuracy": accuracy, "ships": vars(SETTINGS)}
    print("\n" + json.dumps(result))
    return 0


def _remembering(embed: Embed, texts: Sequence[str]) -> Embed:
    """Vectors of `texts`, made once."""
    vectors = dict(zip(texts, embed(texts), strict=True))
    return lambda asked: np.stack([vectors[text] for text in asked])


def _groups(vectors: np.ndarray, of_text: np.ndarray, distance: float) -> np.ndarray:
    """int64 [prototypes], from 0: the group of each. `vectors` [texts, H]; `of_text`: the prototype of each text."""
    means = np.stack([vectors[of_text == place].mean(axis=0) for place in range(of_text.max() + 1)])
    groups: np.ndarray = fcluster(linkage(means, "average", metric="cosine"), distance, "distance") - 1
    return groups


def _held_out(
    settings: HeadSettings, texts: Sequence[str], intents: Sequence[str], embed: Embed, folds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Loss in nats and whether the likeliest intent is right, float64 [texts] each, by heads that saw none of the group."""
    truth = np.array([INTENTS.index(intent) for intent in intents])
    loss, is_right = np.zeros(len(texts)), np.zeros(len(texts))
    for fold in range(folds.max() + 1):
        seen, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        head = Head.fit_on([texts[row] for row in seen], [intents[row] for row in seen], embed, settings)
        probabilities = head.probabilities([texts[row] for row in held], embed)
        loss[held] = -np.log(probabilities[np.arange(len(held)), truth[held]])
        is_right[held] = probabilities.argmax(axis=1) == truth[held]
    return loss, is_right


if __name__ == "__main__":
    raise SystemExit(main())
