"""The Extractor: an LLM's last hidden states over an item's text, pooled to one semantic embedding."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch

from cesrec_core.config import EmbedItemsSection
from cesrec_core.errors import ConfigError, is_out_of_memory, type_and_words
from cesrec_core.extractor.identity import locate_extractor
from cesrec_core.extractor.pooling import pool
from cesrec_core.language_models import ModelSource
from cesrec_core.token_counts import watch

log = logging.getLogger(__name__)

# Weights that no hidden state depends on; models are often saved without them.
UNUSED_WEIGHTS = ("pooler.", "lm_head.")
# Of a forward pass on a CPU: with more of them it takes hardly less time for each.
ENOUGH_TOKENS = 512
# On an accelerator launching a layer takes as long as working it out, unless its weights meet so many tokens; and its cores
# want so many tokens in any case.
ENOUGH_TOKENS_TIMES_WEIGHTS = 4e10
ENOUGH_TOKENS_FOR_CORES = 4096
# Tokenised at once, while the device reads those before: enough for batches of one length, and few enough to begin soon.
TEXTS_PER_CHUNK = 8192


def load_tokenizer(source: ModelSource) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source.folder, **source.loading)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def tokenise(tokenizer: Any, texts: Sequence[str], section: EmbedItemsSection) -> list[list[int]]:
    """Token ids of every text behind the instruction, `section.max_tokens` of them at most, and one at least.

    What looks like one of the model's own tokens is read as the characters it is written with: texts are other people's.
    """
    if not texts:
        return []
    texts = [section.instruction + text for text in texts]
    settings = {"truncation": True, "max_length": section.max_tokens, "split_special_tokens": True}
    if tokenizer.is_fast:
        # transformers sets up its tokenizer in Rust when it is called. What it then does in Python, with more than the ids,
        # would take longer than the tokenizer where that has many cores.
        tokenizer("", **settings)
        token_ids = [encoding.ids for encoding in tokenizer.backend_tokenizer.encode_batch_fast(texts)]
    else:
        token_ids = tokenizer(texts, **settings)["input_ids"]
    return [ids or [tokenizer.pad_token_id] for ids in token_ids]


@dataclass(frozen=True)
class TokenLists:
    """Token ids of B texts, one after the other.

    Attributes:
        ids: int64, all texts' tokens.
        starts, lengths: int64 [B], where a text's tokens begin, and how many there are: one at least.
    """

    ids: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, token_ids: Sequence[Sequence[int]]) -> "TokenLists":
        lengths = np.fromiter(map(len, token_ids), np.int64, len(token_ids))
        ids = np.fromiter(chain.from_iterable(token_ids), np.int64, int(lengths.sum()))
        return cls(ids, np.cumsum(lengths) - lengths, lengths)

    def padded(self, rows: np.ndarray, padding: int) -> tuple[np.ndarray, np.ndarray]:
        """Token ids of these texts, int64 [len(rows), T], and which of them are real, bool [len(rows), T].

        Padding stands on the right: models with absolute positions count from the left.
        """
        places = np.arange(self.lengths[rows].max())
        mask = places < self.lengths[rows, None]
        found = self.ids[np.minimum(self.starts[rows, None] + places, len(self.ids) - 1)]
        return np.where(mask, found, padding), mask


class Extractor:
    """Embeds texts in batches of similar length, on the device it is given.

    Raises:
        ConfigError: there is no such model, it cannot be loaded, or it reads fewer tokens than it is asked to.
    """

    def __init__(self, section: EmbedItemsSection, device: str) -> None:
        from transformers import AutoModel

        source = locate_extractor(section)
        self.section = section
        self.device = device
        # Falls where the device turns out to have no room for it.
        self.tokens_per_batch = section.tokens_per_batch
        with naming_the_model(section):
            self.tokenizer = load_tokenizer(source)
            model, found = AutoModel.from_pretrained(
                source.folder, dtype=getattr(torch, section.dtype), output_loading_info=True, **source.loading
            )
        _refuse_missing_weights(found["missing_keys"], section)
        refuse_long_instruction(self.tokenizer, section)
        _refuse_more_than_is_read(model, section)
        self.model = model.to(device).eval()
        watch(self.model)
        spare_cache(self.model)

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Semantic embeddings, float32 [len(texts), H], in the order of `texts`.

        Raises:
            RuntimeError: there is no room for the longest text alone, or the device fails.
        """
        # Stays on the device until all is embedded: an accelerator that is asked for a batch's result waits for the next batch.
        result = torch.empty(len(texts), self.model.config.hidden_size, device=self.device)
        enough = ENOUGH_TOKENS if self.device == "cpu" else _enough_tokens_of(self.model)
        longest_first = np.argsort([-len(text) for text in texts], kind="stable")
        chunks = [longest_first[start : start + TEXTS_PER_CHUNK] for start in range(0, len(texts), TEXTS_PER_CHUNK)]
        with ThreadPoolExecutor(max_workers=1) as beside:
            tokenised = beside.map(lambda rows: self._tokenise([texts[row] for row in rows]), chunks)
            for places, tokens in zip(chunks, tokenised, strict=True):
                for rows in token_batches(tokens.lengths, self.tokens_per_batch, enough):
                    vectors = self._embed_batch(tokens, rows)
                    if result.shape[1:] != vectors.shape[1:]:  # some models answer in another width than they call hidden
                        result = vectors.new_empty(len(texts), vectors.shape[1])
                    result[self._on_device(places[rows])] = vectors
        embeddings: np.ndarray = result.cpu().numpy()
        return embeddings

    def _tokenise(self, texts: Sequence[str]) -> TokenLists:
        return TokenLists.of(tokenise(self.tokenizer, texts, self.section))

    def _embed_batch(self, tokens: TokenLists, rows: np.ndarray) -> torch.Tensor:
        """float32 [len(rows), H], on the device."""
        size = len(rows) * int(tokens.lengths[rows].max())
        if len(rows) == 1 or size <= self.tokens_per_batch:
            try:
                return self._embed_at_once(tokens, rows)
            except (RuntimeError, MemoryError) as error:
                if len(rows) == 1 or not is_out_of_memory(error):
                    raise
            # Out here, where no traceback holds the tensors of what failed any more.
            torch.cuda.empty_cache()
            self._lower_budget(size)
        return torch.cat([self._embed_batch(tokens, half) for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :])])

    def _lower_budget(self, size: int) -> None:
        if self.tokens_per_batch == self.section.tokens_per_batch:
            log.warning(
                "There is no room for a batch of %d tokens: later ones are smaller. Lower embed_items.tokens_per_batch (%d)",
                size,
                self.section.tokens_per_batch,
            )
        self.tokens_per_batch = max(1, size // 2)

    def _embed_at_once(self, tokens: TokenLists, rows: np.ndarray) -> torch.Tensor:
        ids, is_real = tokens.padded(rows, self.tokenizer.pad_token_id)
        mask = self._on_device(is_real.astype(np.int64))
        # Without a mask attention takes its fastest way, and texts of one length need none.
        hidden = self.model(input_ids=self._on_device(ids), attention_mask=None if is_real.all() else mask).last_hidden_state
        return pool(hidden.float(), mask, self.section.pooling)

    def _on_device(self, array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        # Pinned, it is copied while the device goes on with the batch before.
        return tensor if self.device == "cpu" else tensor.pin_memory().to(self.device, non_blocking=True)


@contextmanager
def naming_the_model(section: EmbedItemsSection) -> Iterator[None]:
    """What libraries say of a file that they cannot read names neither file nor setting."""
    try:
        yield
    except Exception as error:
        # No room, and what the operating system says: another attempt may do.
        if (isinstance(error, OSError) and error.errno is not None) or is_out_of_memory(error):
            raise
        raise ConfigError(
            f"embed_items.model_path names {section.model_path!r}, which cannot be loaded ({type_and_words(error)}). It is "
            "damaged, or of a kind that transformers does not read. Fetch or copy it again, or give another model."
        ) from error


def _refuse_missing_weights(missing: Iterable[str], section: EmbedItemsSection) -> None:
    """transformers fills them in at random, which gives every worker vectors of its own."""
    lacking = sorted(name for name in missing if not name.startswith(UNUSED_WEIGHTS))
    if lacking:
        raise ConfigError(
            f"embed_items.model_path names {section.model_path!r}, whose weights lack {len(lacking)} tensors that its "
            f"config.json asks for, {lacking[0]} among them. Give a folder whose weights and configuration belong together."
        )


def refuse_long_instruction(tokenizer: Any, section: EmbedItemsSection) -> None:
    """Raises ConfigError where the instruction leaves no token to the text, so that all items would get one vector."""
    # As `tokenise` reads it: written out, one of the model's own tokens is many.
    frame = len(tokenizer(section.instruction, split_special_tokens=True)["input_ids"])
    if frame >= section.max_tokens:
        raise ConfigError(
            f"embed_items.max_tokens is {section.max_tokens}, and embed_items.instruction with the model's own tokens takes "
            f"{frame}: nothing of an item would be read. Raise the first, or shorten the second."
        )


def _refuse_more_than_is_read(model: Any, section: EmbedItemsSection) -> None:
    places = getattr(model.config, "max_position_embeddings", None)
    if places is None or places < 0:  # models with relative positions alone
        return
    places -= _unused_places(model)
    if section.max_tokens > places:
        raise ConfigError(f"embed_items.max_tokens is {section.max_tokens}, and the model reads {places} at most. Lower it.")


def _unused_places(model: torch.nn.Module) -> int:
    """Of a model of RoBERTa's kind, whose positions begin behind that of padding, as its table of positions is told."""
    tables = (module for name, module in model.named_modules() if name.rpartition(".")[2] == "position_embeddings")
    paddings = (getattr(table, "padding_idx", None) for table in tables)
    return max((padding + 1 for padding in paddings if padding is not None), default=0)


def _enough_tokens_of(model: Any) -> int:
    """Tokens of a forward pass that keep an accelerator busy: many for small layers, fewer for large ones."""
    weights = sum(parameter.numel() for name, parameter in model.named_parameters() if "embed" not in name)
    return max(ENOUGH_TOKENS_FOR_CORES, int(ENOUGH_TOKENS_TIMES_WEIGHTS * model.config.num_hidden_layers / max(1, weights)))


def spare_cache(model: Any) -> None:
    """Decoders keep keys and values for tokens to come, gigabytes a batch, and here none come."""
    if getattr(model.config, "use_cache", False):
        model.config.use_cache = False


def token_batches(lengths: np.ndarray, tokens_per_batch: int, enough_tokens: int = ENOUGH_TOKENS) -> Iterator[np.ndarray]:
    """Row indices in batches of similar length whose padded size stays within the budget; longest first.

    Where a batch of `enough_tokens` is large enough already it ends with the last text of its length: without padding it is
    read faster. A single text over the budget is a batch of its own.
    """
    order = np.argsort(-lengths, kind="stable")
    in_order = lengths[order]
    start = 0
    while start < len(order):
        longest = max(1, int(in_order[start]))
        size = max(1, tokens_per_batch // longest)
        num_enough = start + -(-min(enough_tokens, tokens_per_batch) // longest)
        if num_enough < min(start + size, len(order)):
            # The end of the length that the batch has come to when it is large enough.
            end = int(np.searchsorted(-in_order, -in_order[num_enough - 1], side="right"))
            size = min(size, end - start)
        yield order[start : start + size]
        start += size
