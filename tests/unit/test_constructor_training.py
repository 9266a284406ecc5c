"""Learning: what is scored, what has gradients, and that words come to decide items."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_llama import write_tiny_llama

from cesrec_core.constructor.construction import next_place_scores
from cesrec_core.constructor.decoding import ConstructionRequest
from cesrec_core.constructor.layout import ITEM, MASK
from cesrec_core.constructor.model import ConstructorSettings, ItemConstructor, ItemFeatures, forbid
from cesrec_core.constructor.pairs import MASKED, PairSettings, PairSource, TrainingPair
from cesrec_core.constructor.training import COPIED_PLACES_PER_SEQUENCE, BatchStream, scored_batch
from cesrec_core.constructor.validation import place_ranks, shuffled_words, without_words
from cesrec_core.errors import ArtifactError, ConfigError

NUM_ITEMS = 8


def tiny_items() -> ItemFeatures:
    generator = torch.Generator().manual_seed(3)
    return ItemFeatures(
        [f"Thing {code}" for code in range(NUM_ITEMS)],
        [("red",) if code % 2 else ("blue",) for code in range(NUM_ITEMS)],
        torch.randn(NUM_ITEMS, 6, generator=generator),
        torch.randn(NUM_ITEMS, 4, generator=generator),
    )


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(Path(tmp_path_factory.mktemp("llama")))


@pytest.fixture
def model(llama: Path) -> ItemConstructor:
    torch.manual_seed(1)
    return ItemConstructor.build(llama, ConstructorSettings(lora_rank=2, lora_dropout=0.0), tiny_items())


def pair(words: str, target: list[int], masked: list[int]) -> TrainingPair:
    is_masked = np.isin(np.arange(len(target)), masked)
    codes = np.array(target, dtype=np.int32)
    return TrainingPair(words, np.where(is_masked, MASKED, codes), is_masked, codes)


def test_every_masked_place_and_some_copied_places_are_scored(model: ItemConstructor) -> None:
    pairs = [pair("a", [1, 2, 3, 4, 5], [0, 3]), pair("bcd", [6, 7], [1])]
    batch = scored_batch(pairs, model.prompt, np.random.default_rng(0))
    assert batch.is_masked_place.sum() == 3
    assert (~batch.is_masked_place).sum() == COPIED_PLACES_PER_SEQUENCE + 1  # the short pair has one place to copy
    only_masked = scored_batch(pairs, model.prompt, None)
    assert only_masked.targets.tolist() == [1, 4, 7]
    # Place t of v* is decided by the slot t after the separator.
    separators = [len(model.prompt("a")) + 5, len(model.prompt("bcd")) + 2]
    assert only_masked.columns.tolist() == [separators[0], separators[0] + 3, separators[1] + 1]
    assert only_masked.taken.tolist() == [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [6, 7, -1, -1, -1]]


def test_taken_items_are_forbidden_except_the_true_one() -> None:
    logits = torch.zeros(2, 4)
    kept = forbid(logits, torch.tensor([[0, 2], [3, -1]]), torch.tensor([2, 0]))
    assert torch.isneginf(kept).tolist() == [[True, False, False, False], [False, False, False, True]]


@torch.no_grad()
def test_losses_are_cross_entropies_over_the_right_items(model: ItemConstructor) -> None:
    """With queries of zero all logits are equal: a decision is among what is not taken, a copy among the whole catalogue."""
    for query in (model.collaborative_query, model.text_query):
        query.weight.zero_()
    model.wish_gate.zero_()
    batch = scored_batch([pair("a", [1, 2, 3], [1])], model.prompt, np.random.default_rng(0))
    losses = model(batch)
    assert losses[batch.is_masked_place].tolist() == pytest.approx([math.log(NUM_ITEMS - 2)])
    assert losses[~batch.is_masked_place].tolist() == pytest.approx([math.log(NUM_ITEMS)] * 2)


def test_the_true_item_is_not_visible_where_it_is_masked(model: ItemConstructor) -> None:
    one, other = pair("a", [1, 2, 3], [1]), pair("a", [1, 5, 3], [1])
    first, second = (scored_batch([each], model.prompt, None) for each in (one, other))
    with torch.no_grad():
        states = [model.read(batch.slots)[batch.rows, batch.columns] for batch in (first, second)]
    assert torch.equal(states[0], states[1])


def test_lora_and_every_small_part_get_gradients_and_the_base_none(model: ItemConstructor) -> None:
    pairs = [pair("red please", [1, 2, 3, 4], [1]), pair("blue", [5, 6, 7], [2])]
    for step in range(2):  # LoRA's first half has a gradient only once its second half is not zero
        losses = model(scored_batch(pairs, model.prompt, np.random.default_rng(step)))
        model.zero_grad()
        losses.mean().backward()
        with torch.no_grad():
            for parameter in model.trainable().values():
                parameter -= 0.1 * parameter.grad
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
        else:
            assert parameter.grad is None and "lora_" not in name, name
    assert sum("lora_A" in name for name in model.trainable()) == 2 * 7  # 2 layers of 7 linear layers each


def test_a_few_steps_make_the_words_decide(model: ItemConstructor) -> None:
    """A world where "red" is followed by item 7 and "blue" by item 6, whatever came before."""
    rng = np.random.default_rng(0)
    optimizer = torch.optim.Adam(model.trainable().values(), lr=5e-3)
    losses = []
    for _ in range(80):
        pairs = []
        for _ in range(8):
            is_red = rng.random() < 0.5
            context = rng.permutation(6)[:3].tolist()
            pairs.append(pair("red please" if is_red else "some blue", [*context, 7 if is_red else 6], [3]))
        loss = model(scored_batch(pairs, model.prompt, rng)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    context = np.array([2, 0, 4])
    scores = next_place_scores(model, [ConstructionRequest(context, (), words) for words in ("red please", "some blue")])
    assert scores.argmax(1).tolist() == [7, 6]


def test_activations_are_computed_again_where_that_is_asked_for(model: ItemConstructor) -> None:
    model.recompute_activations(use_reentrant=False)
    layers = model.trunk.get_base_model().layers
    calls: list[int] = []
    layers[0].self_attn.register_forward_pre_hook(lambda *_: calls.append(1))
    batch = batch_stream(model, 1).next()
    model.train()
    model(batch).sum().backward()
    assert len(calls) == 2


def batch_stream(model: ItemConstructor, seed: int) -> BatchStream:
    rng = np.random.default_rng(0)
    histories = [rng.integers(0, NUM_ITEMS, size=30) for _ in range(20)]
    source = PairSource.over(histories, tiny_items().titles, tiny_items().attributes, np.eye(NUM_ITEMS), PairSettings(20))
    return BatchStream(source, model.prompt, 4, np.random.default_rng(seed))


def test_batches_hold_pairs_of_similar_length(model: ItemConstructor) -> None:
    batches = batch_stream(model, 1)
    # v* of L places writes L - 1 items after the L slots of the history.
    spreads = [np.ptp(torch.isin(batches.next().slots.kinds, torch.tensor([ITEM, MASK])).sum(1).numpy()) for _ in range(16)]
    assert np.mean(spreads) < 6


@pytest.mark.parametrize("num_taken", [0, 5, 16, 21])
def test_a_stream_taken_up_again_draws_what_it_would_have_drawn(model: ItemConstructor, num_taken: int) -> None:
    """Before the first pool, within it, at its end, within the second."""
    whole, stopped = batch_stream(model, 1), batch_stream(model, 1)
    for _ in range(num_taken):
        whole.next(), stopped.next()
    resumed = batch_stream(model, 2)
    resumed.go_to(stopped.position())
    for _ in range(20):
        expected, found = whole.next(), resumed.next()
        for name in ("rows", "columns", "targets", "taken"):
            assert torch.equal(getattr(found, name), getattr(expected, name))
        assert torch.equal(found.slots.values, expected.slots.values)


@torch.no_grad()
def test_ranks_count_better_items_among_the_candidates(model: ItemConstructor) -> None:
    model.eval()
    pairs = [pair("red", [1, 2, 3], [1]), pair("blue", [4, 5, 0], [0, 2])]
    logits = []
    for each in pairs:
        batch = scored_batch([each], model.prompt, None)
        logits += list(model.score_places(batch))

    def rank(scores: torch.Tensor, true: int, others: set[int]) -> int:
        return 1 + sum(1 for code in range(NUM_ITEMS) if code not in others and scores[code] > scores[true])

    ranks = place_ranks(model, pairs, batch_size=2)
    assert [places.tolist() for places in ranks] == [
        [rank(logits[0], 2, {1, 3})],
        [rank(logits[1], 4, {5, 0}), rank(logits[2], 0, {4, 5})],
    ]
    seen = [np.array([6, 7, 2]), np.array([], dtype=np.int64)]
    assert place_ranks(model, pairs, 2, seen)[0].tolist() == [rank(logits[0], 2, {1, 3, 6, 7})]


@torch.no_grad()
def test_a_model_that_has_no_numbers_ranks_everything_last(model: ItemConstructor) -> None:
    model.text_query.bias.fill_(torch.nan)
    assert [places.tolist() for places in place_ranks(model, [pair("red", [1, 2, 3], [1, 2])], 1)] == [[NUM_ITEMS] * 2]


def test_shuffling_gives_everybody_somebody_elses_words() -> None:
    pairs = [pair(words, [1, 2], [1]) for words in "abc"]
    assert [each.feedback for each in shuffled_words(pairs)] == ["b", "c", "a"]
    assert [each.feedback for each in without_words(pairs)] == ["", "", ""]


def test_a_folder_without_a_model_or_weights_or_with_too_few_layers_says_what_to_do(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no config\.json\. Set finetune_constructor\.model_path"):
        ItemConstructor.build(tmp_path, ConstructorSettings(), tiny_items())
    (tmp_path / "config.json").write_bytes((llama / "config.json").read_bytes())
    with pytest.raises(ConfigError, match=r"has no weights \(\*\.safetensors\)\. Convert or download"):
        ItemConstructor.build(tmp_path, ConstructorSettings(), tiny_items())
    with pytest.raises(ConfigError, match=r"num_layers is 9, but .* has 2 layers"):
        ItemConstructor.build(llama, ConstructorSettings(num_layers=9), tiny_items())


def test_item_features_of_different_lengths_are_refused() -> None:
    with pytest.raises(ArtifactError, match=r"1 titles, 1 attribute lists, 2 semantic and 1 collaborative"):
        ItemFeatures(["a"], [()], torch.zeros(2, 3), torch.zeros(1, 3))


def test_cutting_keeps_the_first_layers(llama: Path) -> None:
    model = ItemConstructor.build(llama, ConstructorSettings(num_layers=1), tiny_items())
    assert len(model.trunk.base_model.model.layers) == 1
    assert sum("lora_A" in name for name in model.trainable()) == 7


def test_building_tells_nobody_how_libraries_call_each_other(llama: Path, recwarn: pytest.WarningsRecorder) -> None:
    ItemConstructor.build(llama, ConstructorSettings(num_layers=1), tiny_items())
    assert [str(warning.message) for warning in recwarn] == []
