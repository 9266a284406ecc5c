"""Language models with random weights, in the shape of well-known ones: they cost what those cost, and say nothing."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

# As their authors published them: layers, width, width of the MLP, heads, key-value heads, vocabulary.
SHAPES = {
    "smollm2-135m": (30, 576, 1536, 9, 3, 49152),
    "llama-3.2-1b": (16, 2048, 8192, 32, 8, 128256),
    "llama-3-8b": (32, 4096, 14336, 32, 8, 128256),
}


def random_model(shape: str, num_layers: int | None, device: str, dtype: str) -> Any:
    """A causal language model of `shape`, cut to its first `num_layers`, made where it will run."""
    layers, width, mlp_width, heads, key_value_heads, vocabulary = SHAPES[shape]
    config = LlamaConfig(
        num_hidden_layers=num_layers or layers,
        hidden_size=width,
        intermediate_size=mlp_width,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        vocab_size=vocabulary,
        tie_word_embeddings=shape != "llama-3-8b",
    )
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).eval()


def flops_per_token(model: Any) -> int:
    """Floating-point operations of one token's way through the layers, without attention's own products and the head."""
    layers = getattr(model, "base_model", model)
    embeddings = sum(parameter.numel() for name, parameter in layers.named_parameters() if "embed" in name)
    return 2 * (sum(parameter.numel() for parameter in layers.parameters()) - embeddings)


def matmul_peak(device: str, dtype: str, size: int = 8192, rounds: int = 20) -> float:
    """Floating-point operations per second of a large product of square matrices."""
    left, right = (torch.randn(size, size, device=device, dtype=getattr(torch, dtype)) for _ in range(2))
    for _ in range(3):
        left @ right
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(rounds):
        left @ right
    end.record()
    torch.cuda.synchronize()
    return 2 * size**3 * rounds / (start.elapsed_time(end) / 1000)
