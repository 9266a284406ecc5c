"""The Extractor with vLLM as its engine: for decoder LLMs on GPUs. Needs `pip install 'cesrec[vllm]'`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cesrec_core.config import EmbedItemsSection
from cesrec_core.errors import ConfigError
from cesrec_core.extractor.identity import locate_extractor
from cesrec_core.extractor.transformer import load_tokenizer, naming_the_model, refuse_long_instruction, tokenise
from cesrec_core.token_counts import count_tokens

# Of the share of a GPU that an actor was given: what vLLM may take for weights and activations.
MEMORY_SHARE = 0.9
POOLING_TYPES = {"mean": "MEAN", "last": "LAST"}


class VllmExtractor:
    """Embeds texts as `Extractor` does, by the same tokens and pooling; vLLM batches them by itself.

    Args:
        gpu_share: of one GPU, that this process may use.

    Raises:
        ConfigError: vLLM is not installed, cannot pool in the configured way, or would read nothing but the instruction.
    """

    def __init__(self, section: EmbedItemsSection, gpu_share: float) -> None:
        if section.pooling not in POOLING_TYPES:
            raise ConfigError(
                f"embed_items.pooling is {section.pooling!r}, which vLLM does not know. Set mean or last, or "
                "embed_items.engine=transformers."
            )
        try:
            import vllm
            from vllm.config import PoolerConfig
        except ImportError:
            raise ConfigError(
                "embed_items.engine is vllm, which is not installed where the actors run. Install it there (pip install "
                "'cesrec[vllm]'), or set embed_items.engine=transformers."
            ) from None
        source = locate_extractor(section)
        self.section = section
        with naming_the_model(section):
            self.tokenizer = load_tokenizer(source)
        refuse_long_instruction(self.tokenizer, section)
        model = source.folder if source.gguf_file is None else source.folder / source.gguf_file
        self.model: Any = vllm.LLM(
            model=str(model),
            runner="pooling",
            convert="embed",
            dtype=section.dtype,
            max_model_len=section.max_tokens,
            gpu_memory_utilization=MEMORY_SHARE * min(1.0, gpu_share),
            # Its own default divides every embedding by its length.
            pooler_config=PoolerConfig(pooling_type=POOLING_TYPES[section.pooling], use_activation=False),
        )

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Semantic embeddings, float32 [len(texts), H], in the order of `texts`."""
        prompts = [{"prompt_token_ids": ids} for ids in tokenise(self.tokenizer, texts, self.section)]
        if not prompts:
            width = self.model.llm_engine.model_config.get_hidden_size()
            return np.empty((0, width), dtype=np.float32)
        answers = self.model.embed(prompts, use_tqdm=False)
        count_tokens(sum(len(prompt["prompt_token_ids"]) for prompt in prompts))
        return np.array([answer.outputs.embedding for answer in answers], dtype=np.float32)
