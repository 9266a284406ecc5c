"""A language model for tests: a Llama of a few thousand weights and a byte-level tokenizer, written as a model folder."""

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL_TOKENS = ("<s>", "</s>", "<|im_start|>", "<|im_end|>")


def write_tiny_llama(folder: Path, num_layers: int = 2, width: int = 32, seed: int = 0, words: Sequence[str] = ()) -> Path:
    """Write `config.json`, weights and tokenizer into `folder` and return it. Needs no network.

    Each of `words` is one token, as common words are to a real model; other text is read letter by letter.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL_TOKENS, *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )
    fast.add_tokens([form for word in words for form in (word, " " + word)])
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        # Larger than the usual 0.02: attention of a random model must depend on what it reads, or tests see nothing. Much
        # larger and it looks at a single slot, so that a slot it must not see goes unnoticed.
        initializer_range=0.12,
    )
    torch.manual_seed(seed)
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder
