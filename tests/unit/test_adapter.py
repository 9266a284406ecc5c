from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cesrec_core.adapter import Adapter, alignment_metrics, fit_adapter, load_adapter, save_adapter
from cesrec_core.artifacts import TENSORS, Manifest
from cesrec_core.config import TrainAdapterSection
from cesrec_core.errors import ArtifactError, InputDataError

SETTINGS = TrainAdapterSection(max_epochs=150, patience_epochs=20, batch_size=64, learning_rate=3e-3, held_out_share=0.2)


def related_vectors(num_items: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """Collaborative vectors that are a linear map of the semantic ones, one semantic dimension being huge."""
    generator = torch.Generator().manual_seed(0)
    semantic = torch.randn(num_items, 12, generator=generator)
    collaborative = semantic @ torch.randn(12, 6, generator=generator) * 0.05 + 0.3
    semantic[:, 0] = semantic[:, 0] * 300 + 1000
    return semantic, collaborative


def test_formula_is_the_papers() -> None:
    """W2 . GELU(W1 . e + b1) + b2, with GELU(1) = 0.841345 and GELU(-2) = -0.0455."""
    model = Adapter(2, 1, 2)
    weights = {"inner.weight": torch.eye(2), "inner.bias": torch.tensor([0.0, -3.0])}
    weights |= {"outer.weight": torch.tensor([[2.0, 10.0]]), "outer.bias": torch.tensor([0.5])}
    model.load_state_dict(weights, strict=False)
    assert model(torch.tensor([[1.0, 1.0]])).item() == pytest.approx(2 * 0.841345 + 10 * -0.0455003 + 0.5, abs=1e-4)


def test_hidden_width_defaults_to_half() -> None:
    assert Adapter(12, 6).inner.weight.shape == (6, 12)


def test_learns_what_can_be_learned_and_measures_it_on_held_out_items() -> None:
    fitted = fit_adapter(*related_vectors(), SETTINGS, seed=1)
    assert fitted.metrics["held_out_normalised_mse"] < 0.1
    assert fitted.metrics["is_alignment_weak"] == 0.0
    assert fitted.metrics["held_out_median_rank_share"] <= 2 / 400
    assert len(fitted.losses) == len(fitted.held_out_losses) >= fitted.metrics["best_epoch"]
    assert min(fitted.held_out_losses) == fitted.held_out_losses[int(fitted.metrics["best_epoch"]) - 1]


def test_unrelated_vectors_are_flagged_and_overfitting_is_taken_back() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(300, 12, generator=generator), torch.randn(300, 6, generator=generator)
    fitted = fit_adapter(*noise, SETTINGS.model_copy(update={"learning_rate": 0.02}), seed=1)
    assert fitted.metrics["is_alignment_weak"] == 1.0
    assert 0.3 < fitted.metrics["held_out_median_rank_share"] < 0.7
    best = min(fitted.held_out_losses)
    assert fitted.held_out_losses[-1] > 1.1 * best
    # The two divide by the variance of the training and of the held-out vectors, here equal but for chance.
    loss = fitted.metrics["held_out_mse"] / noise[1].var().item()
    assert loss == pytest.approx(best, rel=0.02)


def test_scale_of_the_recommender_does_not_matter() -> None:
    semantic, collaborative = related_vectors()
    small = fit_adapter(semantic, collaborative, SETTINGS, seed=1)
    large = fit_adapter(semantic, collaborative * 100, SETTINGS, seed=1)
    loss = small.metrics["held_out_normalised_mse"]
    assert large.metrics["held_out_normalised_mse"] == pytest.approx(loss, rel=0.05)
    assert large.metrics["held_out_mse"] == pytest.approx(small.metrics["held_out_mse"] * 100**2, rel=0.05)


def test_figures_are_those_of_the_weights_that_are_returned() -> None:
    """Scales are folded into the weights after training: the loss of the last epochs must survive it."""
    fitted = fit_adapter(*related_vectors(), SETTINGS, seed=1)
    assert fitted.metrics["held_out_normalised_mse"] == pytest.approx(min(fitted.held_out_losses), rel=0.3)


def test_metrics_by_hand() -> None:
    """An Adapter that answers 0 for everything. Held-out rows are 0 and 2, with vectors 0 and 4; the mean of all is 2.

    MSE = (0 + 16) / 2; variance around the mean = (4 + 4) / 2; by distance from 0 row 0 ranks first and row 2 third.
    """
    model = Adapter(1, 1, 1)
    torch.nn.init.zeros_(model.outer.weight)
    torch.nn.init.zeros_(model.outer.bias)
    collaborative = torch.tensor([[0.0], [2.0], [4.0]])
    metrics = alignment_metrics(model, torch.zeros(3, 1), collaborative, torch.tensor([0, 2]))
    assert metrics["held_out_mse"] == pytest.approx(8.0)
    assert metrics["held_out_normalised_mse"] == pytest.approx(2.0)
    assert metrics["held_out_median_rank_share"] == pytest.approx((1 + 3) / 2 / 3)


def test_same_seed_same_adapter_and_the_callers_random_state_is_left_alone() -> None:
    vectors = related_vectors(60)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (fit_adapter(*vectors, SETTINGS.model_copy(update={"max_epochs": 3}), seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first.model(vectors[0]), again.model(vectors[0]))
    assert not torch.equal(first.model(vectors[0]), other.model(vectors[0]))


def test_a_constant_dimension_does_no_harm() -> None:
    semantic, collaborative = related_vectors(100)
    semantic[:, 3] = 0.1
    fitted = fit_adapter(semantic, collaborative, SETTINGS.model_copy(update={"max_epochs": 2}), seed=1)
    assert torch.isfinite(fitted.model(semantic)).all()


@pytest.mark.parametrize(
    ("semantic", "collaborative", "message"),
    [
        (torch.zeros(5, 2), torch.zeros(6, 2), r"\[5, 2\] and \[6, 2\]"),
        (torch.zeros(2, 2), torch.zeros(2, 2), "2 items have both vectors"),
        (torch.full((9, 2), torch.nan), torch.zeros(9, 2), "NaN or infinity"),
    ],
)
def test_unusable_vectors_are_refused(semantic: torch.Tensor, collaborative: torch.Tensor, message: str) -> None:
    with pytest.raises(InputDataError, match=message):
        fit_adapter(semantic, collaborative, SETTINGS, seed=1)


def test_the_uncertainty_is_that_of_items_held_out() -> None:
    """Its trace is the squared length of what is missed there, so the mean over dimensions is the held-out error."""
    semantic, collaborative = related_vectors(200)
    fitted = fit_adapter(semantic, collaborative, SETTINGS.model_copy(update={"max_epochs": 2}), seed=1)
    uncertainty = fitted.model.residual_covariance
    assert uncertainty.diagonal().mean().item() == pytest.approx(fitted.metrics["held_out_mse"], rel=1e-4)
    torch.testing.assert_close(uncertainty, uncertainty.T)
    assert torch.linalg.eigvalsh(uncertainty).min() > -1e-6


def test_save_and_load(tmp_path: Path) -> None:
    semantic, collaborative = related_vectors(60)
    fitted = fit_adapter(semantic, collaborative, SETTINGS.model_copy(update={"max_epochs": 2}), seed=1)
    save_adapter(tmp_path / "adapter", fitted.model, Manifest("adapter", "a1", "all", parents={"recommender": "r1"}))
    loaded, manifest = load_adapter(tmp_path / "adapter")
    assert torch.equal(loaded(semantic), fitted.model(semantic))
    assert torch.equal(loaded.residual_covariance, fitted.model.residual_covariance)
    assert manifest.parents == {"recommender": "r1"}
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    save_adapter(tmp_path / "adapter", Adapter(4, 2), Manifest("adapter", "a1", "all"))
    save_file({"other": torch.zeros(1)}, tmp_path / "adapter" / TENSORS)
    with pytest.raises(ArtifactError, match="does not hold the weights of an Adapter"):
        load_adapter(tmp_path / "adapter")
