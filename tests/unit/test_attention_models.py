"""SASRec, HSTU, LiGR and rotary positions against loops over single places, written from the papers' formulas."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cesrec_core.config import TrainRecommenderSection
from cesrec_core.recommenders import build_recommender
from cesrec_core.recommenders.attention import AttentionRecommender, rotate

WIDTH, NUM_HEADS, LONGEST = 8, 2, 6
HEADS = (slice(0, 4), slice(4, 8))
HISTORY = [3, 5, 7, 2]


def model_with_random_weights(name: str, positions: str) -> AttentionRecommender:
    """At the weights of the start, gates stand half open and biases are zero: too little would show."""
    settings = TrainRecommenderSection.model_validate(
        {
            "model": name,
            "embedding_dim": WIDTH,
            "num_heads": NUM_HEADS,
            "num_blocks": 1,
            "max_history_items": LONGEST,
            "positions": positions,
        }
    )
    model = build_recommender([f"i{item}" for item in range(9)], settings, seed=1).eval().requires_grad_(False)
    assert isinstance(model, AttentionRecommender)
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        parameter.normal_(std=0.5, generator=generator)
    model.items.weight[0] = 0.0
    return model


def turned(vector: Tensor, place: int) -> Tensor:
    """Pairs of channels as complex numbers, each turned by its own angle times the place."""
    half = len(vector) // 2
    result = vector.clone()
    for pair in range(half):
        angle = place * 10_000 ** (-pair / half)
        real, imaginary = float(vector[pair]), float(vector[pair + half])
        result[pair] = real * math.cos(angle) - imaginary * math.sin(angle)
        result[pair + half] = real * math.sin(angle) + imaginary * math.cos(angle)
    return result


def embedded(model: AttentionRecommender) -> Tensor:
    hidden = model.items.weight[HISTORY].clone()  # [L, D]
    if model.places is not None:
        for place in range(len(HISTORY)):
            hidden[place] += model.places.weight[len(HISTORY) - 1 - place]
    return hidden


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_hstu_is_its_formula(positions: str) -> None:
    model = model_with_random_weights("hstu", positions)
    block = model.blocks[0]
    hidden = embedded(model)
    gate, value, query, key = F.silu(block.gate_value_query_key(block.norm(hidden))).split(WIDTH, dim=1)
    mixed = torch.zeros(len(HISTORY), WIDTH)
    for head, channels in enumerate(HEADS):
        for now in range(len(HISTORY)):
            for past in range(now + 1):
                asked, offered = query[now, channels], key[past, channels]
                if positions == "rotary":
                    asked, offered = turned(asked, now), turned(offered, past)
                score = asked @ offered + block.bias_of_distance[head, now - past]
                mixed[now, channels] += F.silu(score) / LONGEST * value[past, channels]
    expected = model.norm(hidden + block.out(block.mixed_norm(mixed) * gate))
    assert torch.allclose(model.states(torch.tensor([HISTORY]))[0], expected, atol=1e-5)


def attended(block: nn.Module, hidden: Tensor, positions: str) -> Tensor:
    """Softmax attention of every place over itself and the places before it."""
    query, key, value = block.attention.query_key_value(block.attention_norm(hidden)).split(WIDTH, dim=1)
    mixed = torch.zeros(len(HISTORY), WIDTH)
    for channels in HEADS:
        for now in range(len(HISTORY)):
            asked = query[now, channels]
            scores = torch.zeros(now + 1)
            for past in range(now + 1):
                offered = key[past, channels]
                if positions == "rotary":
                    scores[past] = turned(asked, now) @ turned(offered, past) / 2.0  # root of 4 channels
                else:
                    scores[past] = asked @ offered / 2.0
            mixed[now, channels] = scores.softmax(dim=0) @ value[: now + 1, channels]
    out: Tensor = block.attention.out(mixed)
    return out


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_a_sasrec_block_is_its_formula(positions: str) -> None:
    model = model_with_random_weights("sasrec", positions)
    block = model.blocks[0]
    hidden = embedded(model)
    hidden = hidden + attended(block, hidden, positions)
    wide, _, narrow = block.feed_forward
    expected = model.norm(hidden + narrow(F.gelu(wide(block.feed_forward_norm(hidden)))))
    assert torch.allclose(model.states(torch.tensor([HISTORY]))[0], expected, atol=1e-5)


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_a_ligr_block_is_its_formula(positions: str) -> None:
    model = model_with_random_weights("esasrec", positions)
    block = model.blocks[0]
    hidden = embedded(model)
    hidden = hidden + attended(block, hidden, positions) * torch.sigmoid(block.attention_gate(hidden))
    swish, linear = block.gate_and_value(block.feed_forward_norm(hidden)).split(4 * WIDTH, dim=1)
    grown = block.feed_forward_out(swish * torch.sigmoid(swish) * linear)
    expected = model.norm(hidden + grown * torch.sigmoid(block.feed_forward_gate(hidden)))
    assert torch.allclose(model.states(torch.tensor([HISTORY]))[0], expected, atol=1e-5)


def test_turned_queries_and_keys_know_distances_alone() -> None:
    generator = torch.Generator().manual_seed(3)
    query, key = torch.randn(2, 8, generator=generator)
    turned_queries, turned_keys = (rotate(vector.expand(1, 1, 7, 8))[0, 0] for vector in (query, key))
    products = turned_queries @ turned_keys.T  # [place of query, place of key]
    for distance in range(1, 6):
        of_distance = products.diagonal(-distance)
        assert torch.allclose(of_distance, of_distance[0].expand_as(of_distance), atol=1e-5)
    assert (products[6, :6] - products[6, 6]).abs().min() > 1e-3
