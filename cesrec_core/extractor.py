"""The Extractor: an LLM's last hidden states over an item's text, pooled to one semantic embedding (METHOD: `e_llm(i)`)."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from cesrec_core.config import EmbedItemsSection
from cesrec_core.language_models import ModelSource, locate_model
from cesrec_core.pooling import pool

# Raised when the text that is embedded, or how it is read, changes in a way that the settings below do not show.
EXTRACTOR_VERSION = 1


def locate_extractor(section: EmbedItemsSection) -> ModelSource:
    """The extractor's model on this machine; see `locate_model` for what is refused."""
    return locate_model(section.model_path, section.revision, "embed_items.model_path")


def extractor_id(section: EmbedItemsSection) -> str:
    """Name of everything that an embedding depends on besides the text.

    Raises:
        ConfigError: embed_items.model_path names no usable model.
    """
    source = locate_extractor(section)
    settings: dict[str, str | int] = {
        "pooling": section.pooling,
        "max_tokens": section.max_tokens,
        "dtype": section.dtype,
        "version": EXTRACTOR_VERSION,
    }
    # Named only where there is one, so that caches from before there was such a setting stay valid.
    if section.instruction:
        settings["instruction"] = section.instruction
    if section.engine != "transformers":
        settings["engine"] = section.engine
    digest = hashlib.sha256(json.dumps([source.identity(), settings], sort_keys=True).encode()).hexdigest()[:8]
    return f"{source.name}-{section.pooling}-{section.dtype}-{digest}"


def load_tokenizer(source: ModelSource) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(source.folder, **source.loading)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def tokenise(tokenizer: Any, texts: Sequence[str], section: EmbedItemsSection) -> list[list[int]]:
    """Token ids of every text behind the instruction, `section.max_tokens` of them at most."""
    if not texts:
        return []
    texts = [section.instruction + text for text in texts]
    token_ids: list[list[int]] = tokenizer(texts, truncation=True, max_length=section.max_tokens)["input_ids"]
    return token_ids


class Extractor:
    """Embeds texts in batches of similar length, on the device it is given."""

    def __init__(self, section: EmbedItemsSection, device: str) -> None:
        source = locate_extractor(section)
        self.section = section
        self.device = device
        self.tokenizer = load_tokenizer(source)
        self.model = AutoModel.from_pretrained(source.folder, dtype=getattr(torch, section.dtype), **source.loading)
        self.model = self.model.to(device).eval()

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Semantic embeddings, float32 [len(texts), H], in the order of `texts`."""
        token_ids = tokenise(self.tokenizer, texts, self.section)
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
        except RuntimeError as error:
            if len(token_ids) == 1 or not is_out_of_memory(error):
                raise
            torch.cuda.empty_cache()
            half = len(token_ids) // 2
            return np.concatenate([self._embed_batch(token_ids[:half]), self._embed_batch(token_ids[half:])])


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether there was no room on an accelerator, or none for PyTorch on the processor, which has no class of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


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
