"""The parts of training a sequential recommender: loss, padding, windows, batches, and what SASRec can learn."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from cesrec_core.config import TrainRecommenderSection
from cesrec_core.recommenders.attention import causal_mask
from cesrec_core.recommenders.batches import (
    PAIRS_PER_BATCH,
    ROWS_PER_BATCH,
    batches_by_length,
    cut_windows,
    encode_histories,
    inputs_and_targets,
    left_pad,
)
from cesrec_core.recommenders.losses import full_cross_entropy
from cesrec_core.recommenders.registry import build_recommender


@pytest.mark.parametrize("logits_per_chunk", [1, 3 * 11, 10**6])
def test_chunked_loss_and_gradients_are_torchs_own(logits_per_chunk: int) -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(1, 12, (10,), generator=generator)
    start = torch.randn(10, 4, generator=generator, dtype=torch.float64), torch.randn(12, 4, generator=generator).double()
    ours = [tensor.clone().requires_grad_() for tensor in start]
    theirs = [tensor.clone().requires_grad_() for tensor in start]
    loss = full_cross_entropy(*ours, targets, logits_per_chunk)
    expected = F.cross_entropy((theirs[0] @ theirs[1].T)[:, 1:], targets - 1)
    (3.0 * loss).backward()
    (3.0 * expected).backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine.grad, other.grad, atol=1e-12)
    assert not ours[1].grad[0].any()


def test_loss_survives_huge_logits() -> None:
    states, vectors = torch.full((1, 1), 1e4), torch.tensor([[0.0], [1.0], [2.0]])
    assert full_cross_entropy(states, vectors, torch.tensor([2])).item() == 0.0
    assert full_cross_entropy(states, vectors, torch.tensor([1])).item() == pytest.approx(1e4)


def test_left_pad_cuts_to_the_newest() -> None:
    padded = left_pad([np.array([1, 2, 3]), np.array([4]), np.array([], np.int64)], max_items=2)
    assert padded.tolist() == [[2, 3], [0, 4], [0, 0]]
    assert left_pad([], max_items=2).shape == (0, 1)


def test_windows_from_the_recent_end() -> None:
    windows = [window.tolist() for window in cut_windows(np.arange(1, 8), max_inputs=3)]
    assert windows == [[4, 5, 6, 7], [1, 2, 3, 4]]
    assert [window.tolist() for window in cut_windows(np.arange(1, 7), max_inputs=3)] == [[3, 4, 5, 6], [1, 2, 3]]
    assert cut_windows(np.array([1]), max_inputs=3) == []
    shifted = cut_windows(np.arange(1, 8), max_inputs=3, shift=1)
    assert [window.tolist() for window in shifted] == [[6, 7], [3, 4, 5, 6], [1, 2, 3]]


@given(st.integers(0, 60), st.integers(1, 12), st.data())
def test_every_item_but_the_oldest_is_a_target_exactly_once(length: int, max_inputs: int, data: st.DataObject) -> None:
    windows = cut_windows(np.arange(length), max_inputs, data.draw(st.integers(0, max_inputs - 1)))
    targets = sorted(item for window in windows for item in window[1:].tolist())
    assert targets == list(range(1, length))
    assert all(2 <= len(window) <= max_inputs + 1 for window in windows)


def test_targets_are_the_next_items_and_padding_has_none() -> None:
    inputs, targets = inputs_and_targets([np.array([1, 2, 3, 4]), np.array([5, 6])], max_inputs=3)
    assert inputs.tolist() == [[1, 2, 3], [0, 0, 5]]
    assert targets.tolist() == [[2, 3, 4], [0, 0, 6]]


def test_batches_hold_every_row_once_and_differ_by_seed() -> None:
    lengths = np.random.default_rng(0).integers(2, 200, size=501)
    batches = list(batches_by_length(lengths, 16, np.random.default_rng(1)))
    rows = np.concatenate(batches)
    assert sorted(rows.tolist()) == list(range(501))
    assert np.array_equal(rows, np.concatenate(list(batches_by_length(lengths, 16, np.random.default_rng(1)))))
    assert not np.array_equal(rows, np.concatenate(list(batches_by_length(lengths, 16, np.random.default_rng(2)))))


def test_batches_are_nearly_free_of_padding() -> None:
    """Sorted in buckets of 8 batches, a batch spans about an eighth of the range of lengths."""
    lengths = np.random.default_rng(0).integers(2, 200, size=2000)
    spans = [np.ptp(lengths[batch]) for batch in batches_by_length(lengths, 50, np.random.default_rng(1))]
    assert np.mean(spans) < 198 / 8 * 1.2


def test_mask_by_hand() -> None:
    """Padding, a, b: the pad sees itself, a sees a, b sees a and b."""
    can_attend = causal_mask(torch.tensor([[0, 4, 7]]))
    assert can_attend.int().tolist() == [[[[1, 0, 0], [0, 1, 0], [0, 1, 1]]]]


def test_learns_what_only_order_tells() -> None:
    """Histories walk round a ring of 10 items, forwards or backwards: the next item hangs on the newest two."""
    settings = TrainRecommenderSection(embedding_dim=32, num_blocks=2, dropout=0.0, max_history_items=6, learning_rate=5e-3)
    model = build_recommender([f"{item:02d}" for item in range(10)], settings, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    start = torch.arange(20) % 10
    step = torch.where(torch.arange(20) < 10, 1, -1)
    walks = (start[:, None] + step[:, None] * torch.arange(7)) % 10 + 1  # [20, 7]
    for _ in range(120):
        states = model.states(walks[:, :-1])[:, 1:]
        loss = full_cross_entropy(states.flatten(0, 1), model.item_vectors(), walks[:, 2:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    predicted = (model.eval().encode(walks[:, :-1]) @ model.item_vectors()[1:].T).argmax(dim=1) + 1
    assert predicted.tolist() == walks[:, -1].tolist()


def test_the_longer_histories_are_the_fewer_are_encoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of attention grows with the square of their length."""
    section = TrainRecommenderSection(embedding_dim=4, num_blocks=1, max_history_items=1600)
    model = build_recommender([f"i{number}" for number in range(9)], section, 0).eval()
    lengths = [*[3] * (ROWS_PER_BATCH + 10), *[900] * 15, 1600, 0]
    histories = [np.arange(length) % 9 + 1 for length in np.random.default_rng(0).permutation(lengths)]
    shapes, encode = [], model.encode

    def encoding(padded: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(padded.shape))
        return encode(padded)

    monkeypatch.setattr(model, "encode", encoding)
    vectors = encode_histories(model, histories)
    assert shapes[0] == (ROWS_PER_BATCH, 3)
    assert all(rows <= ROWS_PER_BATCH and rows * longest**2 <= PAIRS_PER_BATCH for rows, longest in shapes)
    assert sum(rows for rows, _ in shapes) == len(histories) - 1
    alone = torch.cat([encode_histories(model, [history]) for history in histories])
    torch.testing.assert_close(vectors, alone)
