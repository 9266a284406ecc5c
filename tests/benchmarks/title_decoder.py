"""What writing items costs, what writing titles costs, and how often titles are made up: one model, one machine, one run.

    python tests/benchmarks/title_decoder.py --dataset FOLDER [--model FOLDER] [--layers 6 0] [--users 200]
        [--users-all 32] [--batch-size 32] [--threads 2] [--count-only] [--device cpu] [--dtype float32]
        [--shape NAME] [--way ...]

Layers: the model's first so many, 0 for all. Every decoder is asked for the same users: their newest 20 items, one of them
masked at random, and words of a simulated user. Any other item of the catalogue is a candidate. Titles are written under the
candidates' trie or freely, for the masked place or, as the paper trains it, for the whole rewritten history (the first
`--users-all` users). Nothing is fine-tuned: the item decoder's answers mean nothing here, and its cost is that of a trained
one; the title decoders are the model as it came. The item decoder runs before and after each of them, and the mean counts.
With --shape a model of that shape with random weights takes the place of the model's, behind its tokenizer: of it only the time
says something. --way names the ways of writing titles that are measured, none for the item decoder alone. Loading stands
outside all clocks. Prints a table, and one JSON object on the last line. First it says how many places the model
reads and writes for each user, which hangs on no machine; with --count-only nothing else.
"""

import argparse
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from model_shapes import SHAPES, random_model
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer

from cesrec_core.config import ConstructSection, FinetuneConstructorSection
from cesrec_core.constructor.construction import Construction, Decoder, ItemDecoder
from cesrec_core.constructor.decoding import ConstructionRequest
from cesrec_core.constructor.layout import Prompt
from cesrec_core.constructor.model import ConstructorSettings, ItemConstructor, ItemFeatures, load_language_model
from cesrec_core.constructor.title_writer import PromptTokens, title_decoder_around
from cesrec_core.constructor.titles import Question, Titles
from cesrec_core.datasets import Catalogue, Dataset, read_dataset
from cesrec_core.feedback.simulator import simulate_utterance
from cesrec_core.sequences import input_and_target

SEED = 0
HISTORY_ITEMS = 20
SEMANTIC_WIDTH, COLLABORATIVE_WIDTH = 384, 64
WARM_UP_USERS = 2
# Titles written, and whether under the trie.
WAYS = {
    "title of the masked place, trie": ("masked", True),
    "title of the masked place, free": ("masked", False),
    "all titles, trie": ("all", True),
    "all titles, free": ("all", False),
}


@dataclass(frozen=True)
class Figure:
    """One row of the table.

    Attributes:
        seconds, items_seconds: per user, of the title decoder and of the item decoder around it.
        outcomes: how many answers were used, and how many not, by reason.
    """

    layers: int
    way: str
    users: int
    seconds: float
    items_seconds: float
    outcomes: dict[str, int]
    num_rejected: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=Path(".venv/share/cesrec/models/smollm2-135m-instruct"))
    parser.add_argument("--layers", type=int, nargs="+", default=[6, 0])
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--users-all", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--count-only", action="store_true")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--shape", choices=tuple(SHAPES))
    parser.add_argument("--way", nargs="*", choices=tuple(WAYS), default=tuple(WAYS))
    options = parser.parse_args()
    # The titles that models make up are counted here, and need no log.
    logging.getLogger("cesrec_core").setLevel(logging.ERROR)
    torch.set_num_threads(options.threads)
    dataset = read_dataset(options.dataset)
    requests = requests_of(dataset, options.users)
    print(counts(options, dataset.catalogue, requests))
    if options.count_only:
        return 0
    figures = []
    for layers in options.layers:
        items = item_decoder(options, layers, dataset.catalogue)
        if not options.way:
            seconds, _ = timed(items, requests)
            figures.append(Figure(layers, "items", len(requests), seconds, seconds, {"used": len(requests)}, 0))
            print(as_row(figures[-1]), file=sys.stderr, flush=True)
        for way in options.way:
            figures.append(measured(options, layers, way, items, dataset.catalogue, requests))
            print(as_row(figures[-1]), file=sys.stderr, flush=True)
    print(f"{len(dataset.catalogue)} items, batches of {options.batch_size}\n")
    print("| layers | written | users | s per user | s per user, items | times | used | not used |")
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(map(as_row, figures)))
    print(json.dumps([vars(figure) for figure in figures]))
    return 0


def counts(options: argparse.Namespace, catalogue: Catalogue, requests: Sequence[ConstructionRequest]) -> str:
    """Tokens and items that go through the model for one user, on average; titles are those that stand in the history."""
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    prompts = PromptTokens(tokenizer, FinetuneConstructorSection().max_feedback_tokens, ConstructSection().max_title_tokens)
    titles = Titles.of(catalogue.titles, prompts.shorten)
    words = Prompt(tokenizer, FinetuneConstructorSection().max_feedback_tokens)
    # The words, the history, what parts them, and the rewritten history up to the place to decide.
    items = [len(words(one.feedback)) + len(one.history) + 1 + one.masked_positions[0] for one in requests]
    read = [len(prompts(Question(one, titles, "masked", False).prompt)) for one in requests]
    lines = [[len(prompts.untrusted(titles.labels[code])) + 1 for code in one.history] for one in requests]
    written = [of_user[one.masked_positions[0]] for of_user, one in zip(lines, requests, strict=True)]
    everything = np.mean([sum(of_user) for of_user in lines])
    return (
        f"for each of {len(requests)} users: items {np.mean(items):.0f} places in 1 pass; titles {np.mean(read):.0f} tokens "
        f"read, and {np.mean(written):.0f} more passes for one title, {everything:.0f} for all\n"
    )


def measured(
    options: argparse.Namespace,
    layers: int,
    way: str,
    items: Decoder,
    catalogue: Catalogue,
    requests: Sequence[ConstructionRequest],
) -> Figure:
    written, has_trie = WAYS[way]
    section = ConstructSection(decoder="titles", written_titles=written, title_trie=has_trie, batch_size=options.batch_size)
    base = FinetuneConstructorSection(num_layers=layers or None, history_items=HISTORY_ITEMS, dtype=options.dtype)
    titles = title_decoder_around(*language_model(options, layers), base, section, catalogue.titles)
    asked = requests if written == "masked" else requests[: options.users_all]
    before, _ = timed(items, asked)
    seconds, answers = timed(titles, asked)
    after, _ = timed(items, asked)
    outcomes = Counter(answer.fallback_reason or "used" for answer in answers)
    num_rejected = sum(len(answer.rejected) for answer in answers)
    return Figure(layers, way, len(asked), seconds, (before + after) / 2, dict(outcomes), num_rejected)


def timed(decoder: Decoder, requests: Sequence[ConstructionRequest]) -> tuple[float, list[Construction]]:
    """Seconds per user, and the answers."""
    decoder.construct(requests[:WARM_UP_USERS])
    started = time.perf_counter()
    answers = decoder.construct(requests)
    return (time.perf_counter() - started) / len(requests), answers


def as_row(figure: Figure) -> str:
    others = {reason: count for reason, count in sorted(figure.outcomes.items()) if reason != "used"}
    not_used = ", ".join(f"{count} {reason}" for reason, count in others.items()) or "0"
    return (
        f"| {figure.layers or 'all'} | {figure.way} | {figure.users} | {figure.seconds:.3f} | {figure.items_seconds:.4f} | "
        f"{figure.seconds / figure.items_seconds:.1f} | {figure.outcomes.get('used', 0)} | {not_used} |"
    )


def item_decoder(options: argparse.Namespace, layers: int, catalogue: Catalogue) -> ItemDecoder:
    """Untrained, on random item vectors of the demo's widths."""
    generator = torch.Generator().manual_seed(SEED)
    vectors = [torch.randn(len(catalogue), width, generator=generator) for width in (SEMANTIC_WIDTH, COLLABORATIVE_WIDTH)]
    features = ItemFeatures(catalogue.titles, catalogue.attributes, *vectors)
    settings = ConstructorSettings(num_layers=layers or None, history_items=HISTORY_ITEMS, dtype=options.dtype)
    model, tokenizer = language_model(options, layers)
    trunk = get_peft_model(model.base_model, LoraConfig(target_modules="all-linear"))
    constructor = ItemConstructor(trunk, tokenizer, settings, features)
    return ItemDecoder(constructor.to(options.device).eval(), options.batch_size)


def language_model(options: argparse.Namespace, layers: int) -> tuple[Any, Any]:
    """The model's own weights or, with --shape, random ones; and the tokenizer."""
    if options.shape:
        tokenizer = AutoTokenizer.from_pretrained(options.model)
        return random_model(options.shape, layers or None, options.device, options.dtype), tokenizer
    model, tokenizer = load_language_model(options.model, layers or None, options.dtype)
    return model.to(options.device).eval(), tokenizer


def requests_of(dataset: Dataset, number: int) -> list[ConstructionRequest]:
    """A seeded sample of users, who speak of their last item."""
    rng = np.random.default_rng(SEED)
    attributes = dataset.catalogue.attributes
    requests = []
    for user in rng.permutation(len(dataset.histories)):
        cut = input_and_target(dataset.histories[user].tolist(), "test")
        if cut is None or len(requests) == number:
            continue
        history = np.array(cut[0][-HISTORY_ITEMS:])
        shown = [attributes[code] for code in rng.integers(len(attributes), size=10)]
        words = simulate_utterance(attributes[cut[1]], shown, rng, 2, 0.5)
        requests.append(ConstructionRequest(history, [int(rng.integers(len(history)))], words))
    return requests


if __name__ == "__main__":
    sys.exit(main())
