"""The Extractor: an LLM's last hidden states over an item's text, pooled to one semantic embedding (METHOD: `e_llm(i)`)."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from cesrec_core.config import EmbedItemsSection
from cesrec_core.errors import ConfigError
from cesrec_core.pooling import pool

# Raised when the text that is embedded, or how it is read, changes in a way that the settings below do not show.
EXTRACTOR_VERSION = 1


def check_model_folder(folder: Path, setting: str) -> None:
    """Refuse a folder that transformers could not load offline.

    Raises:
        ConfigError: the folder is missing, or lacks its configuration, tokenizer or weights.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"{setting} names {str(folder)!r}, which is no folder. Give a model folder, or run `make setup` for the demo's."
        )
    for what, pattern in {
        "a configuration": "config.json",
        "a tokenizer": "tokenizer*.json",
        "weights": "*.safetensors",
    }.items():
        if not any(folder.glob(pattern)):
            raise ConfigError(
                f"{setting} names {str(folder)!r}, which holds no {what.split()[-1]} ({pattern}). Give a complete model folder."
            )


def model_identity(folder: Path) -> str:
    """A short hash that changes with the model's configuration or weights. Weights are known by name, size and header."""
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for weights in sorted(folder.glob("*.safetensors")):
        with weights.open("rb") as file:
            digest.update(f"{weights.name} {weights.stat().st_size}".encode())
            digest.update(file.read(1 << 20))
    return digest.hexdigest()[:12]


def extractor_id(section: EmbedItemsSection) -> str:
    """Name of everything that an embedding depends on besides the text.

    Raises:
        ConfigError: embed_items.model_path names no usable model folder.
    """
    folder = Path(section.model_path)
    check_model_folder(folder, "embed_items.model_path")
    settings = {
        "pooling": section.pooling,
        "max_tokens": section.max_tokens,
        "dtype": section.dtype,
        "version": EXTRACTOR_VERSION,
    }
    digest = hashlib.sha256(json.dumps([model_identity(folder), settings], sort_keys=True).encode()).hexdigest()[:8]
    return f"{folder.name}-{section.pooling}-{section.dtype}-{digest}"


class Extractor:
    """Embeds texts in batches of similar length, on the device it is given."""

    def __init__(self, section: EmbedItemsSection, device: str) -> None:
        folder = Path(section.model_path)
        check_model_folder(folder, "embed_items.model_path")
        self.section = section
        self.device = device
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.model = AutoModel.from_pretrained(folder, dtype=getattr(torch, section.dtype)).to(device).eval()

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Semantic embeddings, float32 [len(texts), H], in the order of `texts`."""
        if not texts:
            return np.empty((0, self.model.config.hidden_size), dtype=np.float32)
        token_ids = self.tokenizer(list(texts), truncation=True, max_length=self.section.max_tokens)["input_ids"]
        lengths = np.array([len(ids) for ids in token_ids])
        result = np.empty((len(texts), self.model.config.hidden_size), dtype=np.float32)
        for rows in token_batches(lengths, self.section.tokens_per_batch):
            result[rows] = self._embed_batch([token_ids[row] for row in rows])
        return result

    def _embed_batch(self, token_ids: list[list[int]]) -> np.ndarray:
        try:
            batch = self.tokenizer.pad({"input_ids": token_ids}, return_tensors="pt").to(self.device)
            hidden = self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
            pooled: np.ndarray = pool(hidden.float(), batch["attention_mask"], self.section.pooling).cpu().numpy()
            return pooled
        except torch.cuda.OutOfMemoryError:
            if len(token_ids) == 1:
                raise
            torch.cuda.empty_cache()
            half = len(token_ids) // 2
            return np.concatenate([self._embed_batch(token_ids[:half]), self._embed_batch(token_ids[half:])])


def token_batches(lengths: np.ndarray, tokens_per_batch: int) -> Iterator[np.ndarray]:
    """Row indices in batches of similar length whose padded size stays within the budget; longest first.

    A single text over the budget is a batch of its own.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, tokens_per_batch // max(1, int(lengths[order[start]])))
        yield order[start : start + size]
        start += size
