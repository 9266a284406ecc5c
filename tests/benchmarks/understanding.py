"""How well utterances are understood, and how fast, on the path that ships.

    python tests/benchmarks/understanding.py --iard FILE.jsonl --items FILE.parquet [--model FOLDER] [--rounds 3] [--threads 1]
        [--device cpu]

FILE.jsonl has one utterance a line: dialogue_id, utterance, recommended_titles, labels (ACC, REJ, SEE, CRI-*, ...). Nothing is
fitted on it. One half of the dialogues was read while rules and prototypes were written, the other half was not: both are
reported. Where scikit-learn is installed, tf-idf with logistic regression is fitted on four fifths of the dialogues and tested
on the rest, in turn; it sees the labels that ours does not. Then the sentences of our own in tests/data, those about films
against the titles of --items, by the same path and by rules alone, and every fifth of these titles as people write them.
Intervals: 95 %, bootstrap over dialogues. Prints tables, and one JSON object on the last line.
"""

import argparse
import hashlib
import importlib.util
import json
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[1] / "unit"))

from remarks import READ, UNREAD, Understand, by_rules, readings

from cesrec_core.config import UnderstandFeedbackSection
from cesrec_core.datasets import read_catalogue_file
from cesrec_core.feedback.intents import ACCEPT, CRITIQUES, REJECT, is_actionable
from cesrec_core.feedback.listening import open_listener
from cesrec_core.feedback.understanding import Signals, understand
from cesrec_core.feedback.vocabulary import CatalogueVocabulary

DATA = Path(__file__).parents[1] / "data"
MODEL = ".venv/share/cesrec/models/all-minilm-l6-v2"
CRITIQUE_LABELS = ("CRI-A", "CRI-F", "CRI-C")
NUM_SAMPLES = 1000
NUM_FOLDS = 5
Flags = np.ndarray  # bool [N]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iard", type=Path, required=True)
    parser.add_argument("--items", type=Path, required=True)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [json.loads(line) for line in options.iard.read_text(encoding="utf-8").splitlines()]
    catalogue = read_catalogue_file(options.items)
    vocabulary = CatalogueVocabulary.of(catalogue)
    shown = [_shown(row["recommended_titles"], vocabulary) for row in rows]
    utterances = [row["utterance"] for row in rows]
    item_ids, titles = [ids for ids, _ in shown], [of_ids for _, of_ids in shown]
    result: dict[str, Any] = {"threads": options.threads}

    dialogues = np.unique([row["dialogue_id"] for row in rows], return_inverse=True)[1]
    is_read = np.array([hashlib.sha256(f"half {row['dialogue_id']}".encode()).digest()[0] % 2 == 0 for row in rows])
    truth = _truth(rows)
    for name, model in (("sentence model", options.model), ("rules alone", "")):
        started = time.perf_counter()
        listener = open_listener(UnderstandFeedbackSection(model_path=model), vocabulary, options.device)
        opened = time.perf_counter() - started
        seconds = []
        for _ in range(options.rounds):
            started = time.perf_counter()
            signals = listener.read(utterances, item_ids, titles)
            seconds.append(time.perf_counter() - started)
        guess = _by_kind([signal.intents for signal in signals])
        result[name] = _report(name, truth, guess, dialogues, {"read": is_read, "unread": ~is_read, "all": is_read | True})
        result[name]["utterances per second"] = round(len(rows) / min(seconds))
        result[name]["seconds to open"] = round(opened, 1)
        print(f"{name}: {len(rows) / min(seconds):.0f} utterances per second, {opened:.1f} s to open\n")
    if importlib.util.find_spec("sklearn") is not None:
        guess = {name: _tf_idf(utterances, flags, dialogues) for name, flags in truth.items()}
        result["tf-idf"] = _report("tf-idf + logistic regression, fitted", truth, guess, dialogues, {"all": is_read | True})
    else:
        print("scikit-learn is not installed: nothing to compare with\n")
    with tempfile.TemporaryDirectory() as cache:
        ways = {"sentence model": _by_listener(options.model, options.device, Path(cache)), "rules alone": by_rules}
        result["own sentences"] = {
            name: _own_sentences(name, way) | _synonyms(name, way) | _remarks(name, way, vocabulary)
            for name, way in ways.items()
        }
    result["own sentences"]["titles"] = _titles(vocabulary)
    print(json.dumps(result))
    return 0


def _shown(titles: Sequence[str], vocabulary: CatalogueVocabulary) -> tuple[list[str], dict[str, str]]:
    item_ids, foreign = [], {}
    for title in titles:
        found = vocabulary.items_titled(title)
        item_ids.append(found[0] if found else f"\0{len(foreign)}")
        if not found:
            foreign[item_ids[-1]] = title
    return item_ids, foreign


def _truth(rows: Sequence[dict[str, Any]]) -> dict[str, Flags]:
    def has(*labels: str) -> Flags:
        return np.array([any(label in row["labels"] for label in labels) for row in rows])

    accept, reject, critique = has("ACC"), has("REJ"), has(*CRITIQUE_LABELS)
    return {
        "actionable": reject | critique,
        "accept": accept,
        "reject": reject,
        "critique": critique,
        "other": ~(accept | reject | critique),
    }


def _by_kind(intents: Sequence[Sequence[str]]) -> dict[str, Flags]:
    accept = np.array([ACCEPT in of for of in intents])
    reject = np.array([REJECT in of for of in intents])
    critique = np.array([not CRITIQUES.isdisjoint(of) for of in intents])
    actionable = np.array([is_actionable(of) for of in intents])
    return {
        "actionable": actionable,
        "accept": accept,
        "reject": reject,
        "critique": critique,
        "other": ~(accept | reject | critique),
    }


def _sums(truth: Flags, guess: Flags, dialogues: np.ndarray) -> np.ndarray:
    """For each of D dialogues: both true, truth, guess, utterances; float64 [D, 4]."""
    columns = (truth & guess, truth, guess, truth | True)
    sums = np.stack([np.bincount(dialogues, weights=column) for column in columns], axis=1)
    return sums[sums[:, 3] > 0]


def _f1(sums: np.ndarray) -> np.ndarray:
    """F1 of a kind, from sums float64 [S, 4]."""
    both, truth, guess, _ = sums.T
    return 2 * both / np.maximum(truth + guess, 1)


def _macro(sums: np.ndarray) -> np.ndarray:
    """Mean of F1 of a kind and F1 of the rest, from sums float64 [S, 4]."""
    both, truth, guess, count = sums.T
    return (_f1(sums) + 2 * (count - truth - guess + both) / np.maximum(2 * count - truth - guess, 1)) / 2


def _report(
    title: str, truth: dict[str, Flags], guess: dict[str, Flags], dialogues: np.ndarray, parts: dict[str, Flags]
) -> dict[str, Any]:
    """Print and return figures of each part: macro-F1 of actionable against the rest, F1 of the four kinds, and their mean."""
    figures: dict[str, Any] = {}
    print(f"### {title}\n")
    print("| dialogues | utterances | actionable, macro-F1 | accept | reject | critique | other | mean of four |")
    print("|---|---|---|---|---|---|---|---|")
    for part, chosen in parts.items():
        sums = {name: _sums(truth[name][chosen], guess[name][chosen], dialogues[chosen]) for name in truth}
        count = len(sums["actionable"])
        draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), NUM_SAMPLES)
        # The first row is the figure itself.
        totals = {name: np.concatenate([np.ones((1, count)), draws]) @ of_kind for name, of_kind in sums.items()}
        of_four = {name: _f1(totals[name]) for name in ("accept", "reject", "critique", "other")}
        scores = {
            "actionable": _macro(totals["actionable"]),
            **of_four,
            "mean of four": np.mean(list(of_four.values()), axis=0),
        }
        rounded = {
            name: [round(float(value), 3) for value in (score[0], *np.quantile(score[1:], [0.025, 0.975]))]
            for name, score in scores.items()
        }
        cells = [f"{value:.3f} [{low:.3f}, {high:.3f}]" for value, low, high in rounded.values()]
        print(f"| {part} | {int(chosen.sum())} | " + " | ".join(cells) + " |")
        figures[part] = rounded
    print()
    return figures


def _tf_idf(utterances: Sequence[str], truth: Flags, dialogues: np.ndarray) -> Flags:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    guess = np.zeros(len(truth), dtype=bool)
    folds = np.random.default_rng(0).permutation(dialogues.max() + 1)[dialogues] % NUM_FOLDS
    texts = np.array(utterances, dtype=object)
    for fold in range(NUM_FOLDS):
        model = make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True),
            LogisticRegression(C=10, class_weight="balanced", max_iter=1000),
        )
        guess[folds == fold] = model.fit(texts[folds != fold], truth[folds != fold]).predict(texts[folds == fold])
    return guess


def _by_listener(model: str, device: str, cache: Path) -> Understand:
    """One utterance at a time, as a listener of each vocabulary reads it."""
    section = UnderstandFeedbackSection(model_path=model)
    listeners: dict[str, Any] = {}

    def by_listener(said: str, shown: Sequence[str], vocabulary: CatalogueVocabulary) -> Signals:
        if vocabulary.fingerprint not in listeners:
            listeners[vocabulary.fingerprint] = open_listener(section, vocabulary, device, cache)
        foreign = {item_id: vocabulary.titles[item_id] for item_id in shown if item_id in vocabulary.titles}
        (signals,) = listeners[vocabulary.fingerprint].read([said], [shown], [foreign])
        return signals  # type: ignore[no-any-return]

    return by_listener


def _own_sentences(name: str, way: Understand) -> dict[str, float]:
    negations = json.loads((DATA / "negations.json").read_text())
    critiques = json.loads((DATA / "critiques.json").read_text())
    vocabularies = {shop: _of_attributes(attributes) for shop, attributes in negations["catalogues"].items()}
    of_critiques = _of_attributes(sorted({genre for _, wanted, unwanted in critiques for genre in (*wanted, *unwanted)}))
    right = [
        _is_right(way, said, wanted, unwanted, vocabularies[shop]) for shop, said, wanted, unwanted in negations["sentences"]
    ]
    of_50 = [_is_right(way, *critique, of_critiques) for critique in critiques]
    print(f"{name}: negation set {sum(right)} of {len(right)} right; genres of critiques {sum(of_50)} of {len(of_50)} right")
    return {
        "negations right, share": round(sum(right) / len(right), 4),
        "critiques right, share": round(sum(of_50) / len(of_50), 4),
    }


def _synonyms(name: str, way: Understand) -> dict[str, int]:
    """Sentences that name no attribute of their catalogue: half of them mean one, and half mean none.

    Right: something on each side that should have it, and nothing else; one of several is enough.
    """
    content = json.loads((DATA / "synonyms.json").read_text(encoding="utf-8"))
    vocabularies = {shop: _of_attributes(attributes) for shop, attributes in content["catalogues"].items()}
    counts = dict.fromkeys(("meant", "right", "wrong", "nothing meant", "read all the same"), 0)
    for sentence in content["sentences"]:
        signals = way(sentence["said"], ("0",), vocabularies[sentence["catalogue"]])
        read = [set(signals.wanted_attributes), set(signals.unwanted_attributes)]
        meant = [set(sentence["wanted"]), set(sentence["unwanted"])]
        is_wrong = any(found - expected for found, expected in zip(read, meant, strict=True))
        is_whole = all(bool(found) == bool(expected) for found, expected in zip(read, meant, strict=True))
        for key, holds in {
            "meant": any(meant),
            "right": any(meant) and is_whole and not is_wrong,
            "wrong": any(meant) and is_wrong,
            "nothing meant": not any(meant),
            "read all the same": not any(meant) and is_wrong,
        }.items():
            counts[key] += holds
    told = ", ".join(f"{count} {key}" for key, count in counts.items())
    print(f"{name}: sentences in other words: {told}")
    return {f"other words, {key}": count for key, count in counts.items()}


def _remarks(name: str, way: Understand, films: CatalogueVocabulary) -> dict[str, int]:
    figures = {}
    for which, file in (("read", READ), ("unread", UNREAD)):
        told = readings(films, file, way)
        right, worse = sum(one.is_right for one in told), sum(one.is_worse for one in told)
        print(f"{name}: {which} remarks on what was shown: {right} of {len(told)} right, {worse} worse than not understood")
        figures |= {f"{which} remarks": len(told), f"{which} remarks right": right, f"{which} remarks worse": worse}
    print()
    return figures


def _titles(vocabulary: CatalogueVocabulary) -> dict[str, float]:
    """Of every fifth title, the share that is found where people speak of it while another item is shown."""
    shown, *others = list(vocabulary.titles)[::5]
    shares = {}
    for frame in ("i loved {}", "do you have anything like {}", "{} was boring"):
        for is_small in (True, False):
            found, mistaken = 0, 0
            for item_id in others:
                name = _as_people_say(vocabulary.titles[item_id])
                signals = understand(frame.format(name.lower() if is_small else name), (shown,), vocabulary, 1000)
                items = {*signals.wanted_item_ids, *signals.unwanted_item_ids}
                found, mistaken = found + (item_id in items), mistaken + (shown in items and item_id not in items)
            spelling = "in small letters" if is_small else "as written"
            shares[f"{frame}, {spelling}"] = round(found / len(others), 3)
            print(f"{frame} {spelling}: {found} of {len(others)} titles, {mistaken} times taken for what was shown")
    print()
    return shares


def _as_people_say(title: str) -> str:
    bare = re.sub(r"\s*\([^)]*\)", "", title)
    return re.sub(r"^(.*), (The|A|An)$", r"\2 \1", bare)


def _of_attributes(attributes: Sequence[str]) -> CatalogueVocabulary:
    ids = [str(number) for number in range(len(attributes))]
    return CatalogueVocabulary.from_items(ids, [f"Qx{number} zork" for number in ids], [[name] for name in attributes])


def _is_right(way: Understand, said: str, wanted: list[str], unwanted: list[str], vocabulary: CatalogueVocabulary) -> bool:
    signals = way(said, ("0", "1"), vocabulary)
    return (set(signals.wanted_attributes), set(signals.unwanted_attributes)) == (set(wanted), set(unwanted))


if __name__ == "__main__":
    raise SystemExit(main())
