"""Tokens per second of the Extractor, beside a bare loop over the same model, and sentence-transformers.

    python tests/benchmarks/extractor_speed.py --model FOLDER [--texts 5000] [--dataset FOLDER] [--pooling mean] [--threads 2]
        [--tokens-per-batch 8192] [--rounds 3] [--peer PYTHON] [--device cpu] [--dtype float32] [--shape NAME] [--random]

Texts are titles with attributes of the dataset's items, or made up, of 3 to 40 words. The bare loop is given token ids in
batches that are packed by hand beforehand: of one length each, without padding; it runs the model and nothing else. The
Extractor is given texts; its clock includes tokenising, sorting, padding and pooling. PYTHON is an environment with
sentence-transformers, which encodes the same texts with its own defaults (a batch of 32), and with batches of 256, in a
process of its own; its clock runs around `encode`. All contenders are taken in turn, and the best round of each counts.
Start-up stands outside all clocks. With --random weights are drawn for FOLDER's configuration: it needs none then, and the time
is the same. With --shape a model of that shape with random weights is run behind FOLDER's tokenizer. On an accelerator the
tokenizer alone is timed, too; each figure's share of the speed of a large matrix product there is given, and how far the
embeddings lie from those of float32 on the CPU. Prints a table, and one JSON object on the last line.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from model_shapes import SHAPES, flops_per_token, matmul_peak, random_model
from transformers import AutoConfig, AutoModel

from cesrec_core.config import EmbedItemsSection
from cesrec_core.datasets import read_catalogue
from cesrec_core.extractor.transformer import Extractor, spare_cache, tokenise

PEER = """
import json, sys, time
import torch
from sentence_transformers import SentenceTransformer, __version__
folder, texts, threads, rounds = sys.argv[1], json.load(open(sys.argv[2])), int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(threads)
model = SentenceTransformer(folder, device="cpu")
model.encode(texts[:64])
for _ in range(rounds):
    sys.stdin.readline()
    seconds = {}
    for size in (32, 256):
        started = time.perf_counter()
        vectors = model.encode(texts, batch_size=size, show_progress_bar=False, normalize_embeddings=False)
        seconds[f"sentence-transformers {__version__}, batches of {size}"] = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "first": vectors[0].tolist()}), flush=True)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--texts", type=int, default=5000)
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--pooling", default="mean", choices=("mean", "last", "weighted"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens-per-batch", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", metavar="PYTHON")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--shape", choices=tuple(SHAPES))
    parser.add_argument("--random", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    # As an actor that is given so many CPUs; both are read when the first text is tokenised.
    os.environ |= {"RAYON_NUM_THREADS": str(options.threads), "TOKENIZERS_PARALLELISM": "true"}
    with tempfile.TemporaryDirectory() as folder:
        if options.random:
            options.model = with_random_weights(Path(options.model), Path(folder) / "model", bool(options.shape))
        return measure(options)


def measure(options: argparse.Namespace) -> int:
    texts = texts_of(options.dataset, options.texts) if options.dataset else made_up(options.texts)
    size = options.tokens_per_batch
    section = EmbedItemsSection(model_path=options.model, pooling=options.pooling, tokens_per_batch=size, dtype=options.dtype)
    extractor = Extractor(section, options.device)
    if options.shape:
        extractor.model = random_model(options.shape, None, options.device, options.dtype).base_model
        spare_cache(extractor.model)
    token_ids = tokenise(extractor.tokenizer, texts, section)
    num_tokens = sum(map(len, token_ids))
    packed = [batch.to(options.device) for batch in pack(token_ids, section.tokens_per_batch)]

    @torch.inference_mode()
    def bare_loop() -> None:
        for batch in packed:
            extractor.model(input_ids=batch)
        if options.device == "cuda":
            torch.cuda.synchronize()

    contenders: dict[str, Callable[[], object]] = {
        "bare loop, packed": bare_loop,
        "Extractor": lambda: extractor.embed(texts),
    }
    if options.device == "cuda":
        contenders["tokenizer alone"] = lambda: tokenise(extractor.tokenizer, texts, section)
        # What is slow the first time only, such as choosing kernels, is no part of a long run.
        for work in contenders.values():
            work()
    extractor.embed(texts[:64])
    with tempfile.TemporaryDirectory() as folder:
        peer = start_peer(options, texts, Path(folder)) if options.peer else None
        seconds: dict[str, float] = {}
        for _ in range(options.rounds):
            for name, work in contenders.items():
                started = time.perf_counter()
                work()
                seconds[name] = min(seconds.get(name, np.inf), time.perf_counter() - started)
            if peer is not None:
                answer = ask(peer)
                for name, taken in answer["seconds"].items():
                    seconds[name] = min(seconds.get(name, np.inf), taken)
                difference = float(np.abs(extractor.embed(texts[:1])[0] - np.array(answer["first"])).max())
        if peer is not None:
            peer.stdin.close()
            peer.wait()
    bare = seconds["bare loop, packed"]
    result = {"texts": len(texts), "tokens": num_tokens, "seconds": seconds}
    if options.device == "cuda":
        result |= on_the_device(options, extractor, texts)
    work = num_tokens * flops_per_token(extractor.model)
    print(f"{len(texts)} texts, {num_tokens} tokens\n\n| | tokens per second | share of the bare loop | of the large product |")
    print("|---|---|---|---|")
    for name, taken in seconds.items():
        of_product = f"{work / taken / result['peak']:.2f}" if "peak" in result and name != "tokenizer alone" else ""
        print(f"| {name} | {num_tokens / taken:,.0f} | {bare / taken:.2f} | {of_product} |")
    print(json.dumps(result | ({"difference_to_peer": difference} if peer is not None else {})))
    return 0


def on_the_device(options: argparse.Namespace, extractor: Extractor, texts: list[str]) -> dict:
    """Operations per second of a large product, and, of a whole model, how far embeddings lie from the CPU's in float32."""
    figures = {"card": torch.cuda.get_device_name(), "peak": matmul_peak(options.device, options.dtype)}
    if not options.shape:
        exact = Extractor(EmbedItemsSection(model_path=options.model, pooling=options.pooling), "cpu").embed(texts[:500])
        here = extractor.embed(texts[:500])
        norms = np.linalg.norm(exact, axis=1)
        figures["relative_difference_to_cpu"] = float((np.linalg.norm(here - exact, axis=1) / norms).max())
    return figures


def with_random_weights(source: Path, target: Path, is_for_tokenizer: bool) -> str:
    """A copy of a model folder whose weights are drawn; of one layer, where only its tokenizer is wanted."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.safetensors"))
    config = AutoConfig.from_pretrained(source)
    if is_for_tokenizer:
        config.num_hidden_layers = 1
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(target)
    return str(target)


def start_peer(options: argparse.Namespace, texts: list[str], folder: Path) -> subprocess.Popen:
    file = folder / "texts.json"
    file.write_text(json.dumps(texts), encoding="utf-8")
    command = [options.peer, "-c", PEER, options.model, str(file), str(options.threads), str(options.rounds)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(peer: subprocess.Popen) -> dict:
    print(file=peer.stdin, flush=True)
    return json.loads(peer.stdout.readline())


def texts_of(folder: Path, number: int) -> list[str]:
    catalogue = read_catalogue(folder)
    texts = [f"{title}; {', '.join(values)}" for title, values in zip(catalogue.titles, catalogue.attributes, strict=True)]
    return texts[:number]


def made_up(number: int) -> list[str]:
    rng = np.random.default_rng(0)
    words = ["red", "large", "toy", "classic", "game", "deluxe", "edition", "wooden", "of", "the", "racing", "puzzle", "film"]
    return [" ".join(rng.choice(words, rng.integers(3, 41))) for _ in range(number)]


def pack(token_ids: list[list[int]], tokens_per_batch: int) -> list[torch.Tensor]:
    """Batches of one length each, as large as the Extractor's."""
    of_length: dict[int, list[list[int]]] = {}
    for ids in token_ids:
        of_length.setdefault(len(ids), []).append(ids)
    batches = []
    for length, rows in sorted(of_length.items()):
        size = max(1, tokens_per_batch // length)
        batches += [torch.tensor(rows[start : start + size]) for start in range(0, len(rows), size)]
    return batches


if __name__ == "__main__":
    sys.exit(main())
