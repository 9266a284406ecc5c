"""The language model of tests as a GGUF file, the way llama.cpp's converter writes one."""

from pathlib import Path

import gguf
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer

OUTER_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
NAMES_IN_LAYERS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
PLAIN_TOKEN, CONTROL_TOKEN = 1, 3


def write_tiny_gguf(file: Path, folder: Path, merge: tuple[str, str]) -> Path:
    """Write the model of `write_tiny_llama(folder)` as one file and return it.

    Args:
        merge: of two letters whose pair is a token of the model; readers of such files refuse one without any merge.
    """
    config, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    codes = tokenizer.get_vocab()
    tokens = sorted(codes, key=codes.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([CONTROL_TOKEN if token in tokenizer.all_special_tokens else PLAIN_TOKEN for token in tokens])
    writer.add_token_merges([" ".join(merge)])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for name, tensor in load_file(folder / "model.safetensors").items():
        place = _place_of(name.removesuffix(".weight"))
        num_heads = heads.get(place.split(".")[-1])
        writer.add_tensor(f"{place}.weight", (_interleaved(tensor, num_heads) if num_heads else tensor).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _place_of(name: str) -> str:
    if name in OUTER_NAMES:
        return OUTER_NAMES[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{NAMES_IN_LAYERS[rest]}"


def _interleaved(weight: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Rows of each head with both halves of a rotation side by side, which is how these files keep them."""
    rows, width = weight.shape
    return weight.reshape(num_heads, 2, rows // num_heads // 2, width).swapaxes(1, 2).reshape(rows, width).contiguous()
