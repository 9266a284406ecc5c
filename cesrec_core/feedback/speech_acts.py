"""Which intents an utterance has: a small head over sentence vectors and word pairs, fitted on prototypes of our own.

An utterance is read sentence by sentence, and once as a whole. Titles are replaced before, so that a film called "Terrible" is
not a complaint. The head never saw anybody's words but those in `prototypes.py`, and knows nothing of what a catalogue sells.
"""

import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cesrec_core.feedback.intents import ACTIONABLE, CRITIQUE_ADD, CRITIQUES, INTENTS, OTHER
from cesrec_core.feedback.mentions import Mention
from cesrec_core.feedback.prototypes import examples
from cesrec_core.feedback.vocabulary import Word, words_of
from cesrec_core.local_scratch import copied_from_local_disk

# Raised when what is fitted, or how, changes in a way that the prototypes do not show.
HEAD_VERSION = 2
Embed = Callable[[Sequence[str]], np.ndarray]

_MIN_EXAMPLES_OF_WORDS = 2
# A person's utterance has no more sentences; behind them nothing is read.
_MAX_SENTENCES = 40
_ENDS = re.compile(
    r"(?<=[.!?;\n])\s*|\s+but\s+|,\s+(?=(?:i|it|the|but|what|how|so|and|not|no)\b)",
    re.IGNORECASE,
)
_SHOWN, _ELSEWHERE = "that one", "the other one"


@dataclass(frozen=True)
class HeadSettings:
    """How a head is fitted. The values are those of the least held-out loss of tests/benchmarks/intent_settings.py.

    Attributes:
        scale_of_words: length of the words and pairs of words of a text beside a sentence vector of length 1.
        penalty: on half of the squared weights, beside the summed loss of the examples.
    """

    scale_of_words: float = 0.5
    penalty: float = 0.05


SETTINGS = HeadSettings()


@dataclass(frozen=True)
class Head:
    """Weights float64 [H + W + 1, len(INTENTS)]: of the vector, W words and pairs of words, and a bias. `words`: their rows."""

    weights: np.ndarray
    words: dict[str, int]
    scale_of_words: float

    @classmethod
    def fit(cls, embed: Embed) -> "Head":
        """Fit on the prototypes. `embed` gives vectors float32 [N, H]; a second on an idle machine or two."""
        return cls.fit_on(*examples(), embed, SETTINGS)

    @classmethod
    def fit_on(cls, texts: Sequence[str], intents: Sequence[str], embed: Embed, settings: HeadSettings) -> "Head":
        """Softmax regression; `intents`: of each text."""
        import torch

        counts = Counter(word for text in texts for word in _words_and_pairs(text))
        known = sorted(word for word, count in counts.items() if count >= _MIN_EXAMPLES_OF_WORDS)
        head = cls(np.zeros((0, len(INTENTS))), {word: row for row, word in enumerate(known)}, settings.scale_of_words)
        features = torch.from_numpy(head._features(texts, embed))
        # Nearly all of the words' part is 0.
        of_words = features[:, -len(known) - 1 : -1].to_sparse()
        dense = torch.cat([features[:, : -len(known) - 1], features[:, -1:]], dim=1)
        targets = torch.tensor([INTENTS.index(intent) for intent in intents])
        weights = torch.zeros(dense.shape[1], len(INTENTS), dtype=torch.float64, requires_grad=True)
        word_weights = torch.zeros(len(known), len(INTENTS), dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([weights, word_weights], max_iter=50, line_search_fn="strong_wolfe")

        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            scores = dense @ weights + torch.sparse.mm(of_words, word_weights)
            likelihood = torch.nn.functional.cross_entropy(scores, targets, reduction="sum")
            squares = weights[:-1].square().sum() + word_weights.square().sum()
            total = likelihood + settings.penalty / 2 * squares
            total.backward()  # type: ignore[no-untyped-call]
            return total

        optimizer.step(loss)  # type: ignore[no-untyped-call]
        in_order = torch.cat([weights[:-1], word_weights, weights[-1:]]).detach().numpy()
        return cls(in_order, head.words, head.scale_of_words)

    def probabilities(self, texts: Sequence[str], embed: Embed) -> np.ndarray:
        """Of each intent, float64 [len(texts), len(INTENTS)]; rows sum to 1."""
        scores = self._features(texts, embed) @ self.weights
        likelihoods = np.exp(scores - scores.max(axis=1, keepdims=True))
        result: np.ndarray = likelihoods / likelihoods.sum(axis=1, keepdims=True)
        return result

    def _features(self, texts: Sequence[str], embed: Embed) -> np.ndarray:
        vectors = directions(embed(texts))
        of_words = np.zeros((len(texts), len(self.words)))
        for row, text in enumerate(texts):
            known = [self.words[word] for word in _words_and_pairs(text) if word in self.words]
            of_words[row, known] = self.scale_of_words / max(len(known), 1) ** 0.5
        return np.concatenate([vectors, of_words, np.ones((len(texts), 1))], axis=1)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Numpy adds the ending to a name without it.
        part = path.with_name(f"{path.name}.part.npz")
        with copied_from_local_disk(part) as scratch:
            np.savez(scratch, weights=self.weights, words=np.array(list(self.words)), scale_of_words=self.scale_of_words)
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Head":
        with np.load(path) as stored:
            words = {str(word): row for row, word in enumerate(stored["words"])}
            return cls(stored["weights"], words, float(stored["scale_of_words"]))


def directions(vectors: np.ndarray) -> np.ndarray:
    """The rows of [N, H] at length 1, float64; zeros stay."""
    exact = vectors.astype(np.float64)
    result: np.ndarray = exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-12)
    return result


def head_id() -> str:
    """Changes with the prototypes and with how a head is fitted on them."""
    content = [HEAD_VERSION, SETTINGS.scale_of_words, SETTINGS.penalty, _MIN_EXAMPLES_OF_WORDS, *examples()]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:8]


def _words_and_pairs(text: str) -> set[str]:
    words = ["^", *(word.text for word in words_of(text)), "$"]
    return {*words[1:-1], *(f"{first} {second}" for first, second in itertools.pairwise(words))}


@dataclass(frozen=True)
class Spoken:
    """What is read of an utterance: its sentences without titles, all of it without titles, and whether it merely says no."""

    sentences: tuple[str, ...]
    whole: str
    is_bare_rejection: bool = False


def spoken(text: str, words: Sequence[Word], mentions: Sequence[Mention], recommended: frozenset[str]) -> Spoken:
    """Replace titles by words for "one that was shown" or "another one", and part the text into sentences."""
    pieces, place = [], 0
    for mention in mentions:
        if mention.is_title:
            start, end = words[mention.start].start, words[mention.end - 1].end
            name = _SHOWN if recommended.intersection(mention.item_ids) else _ELSEWHERE
            pieces += [text[place:start].rstrip("("), name]
            place = end + (text[end : end + 1] == ")")
    whole = "".join([*pieces, text[place:]])
    sentences = [part.strip(" .") for part in _ENDS.split(whole)]
    return Spoken(tuple(part for part in sentences if re.search(r"\w", part))[:_MAX_SENTENCES] or (whole,), whole)


def intents_of(
    of_sentences: np.ndarray, of_whole: np.ndarray, evidence: float, names_unwanted: bool = False
) -> tuple[str, ...]:
    """Intents by probabilities of the sentences, float64 [S, len(INTENTS)], and of the whole utterance.

    Args:
        evidence: added to the probability that anything should change, for what the clauses say of it.
        names_unwanted: the clauses turn down an attribute. Who rejects what is shown and names a kind of things asks for
            others: that is a critique, too, whatever the likeliest sentence is.
    """
    actionable = np.array([intent in ACTIONABLE for intent in INTENTS])
    changes = (of_sentences[:, actionable].sum(axis=1).max() + of_whole[actionable].sum()) / 2 + evidence
    highest = of_sentences.max(axis=0)
    found = {intent for intent, probability in zip(INTENTS, highest, strict=True) if probability >= 0.5}
    if changes < 0.5:
        found -= ACTIONABLE
    elif found.isdisjoint(ACTIONABLE):
        found.add(INTENTS[int(np.where(actionable, highest, -1.0).argmax())])
    if names_unwanted and not found.isdisjoint(ACTIONABLE) and found.isdisjoint(CRITIQUES):
        found.add(CRITIQUE_ADD)
    if not found:
        found.add(INTENTS[int(np.where(actionable, -1.0, highest).argmax())])
    if len(found) > 1 and highest[INTENTS.index(OTHER)] < 0.5:
        found.discard(OTHER)
    return tuple(intent for intent in INTENTS if intent in found)
