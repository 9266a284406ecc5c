import dataclasses
import math
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file

from cesrec_core import adapter
from cesrec_core.actors.project_items import ProjectItems
from cesrec_core.adapter import (
    Adapter,
    Attempt,
    ItemParts,
    alignment_metrics,
    fit_adapter,
    fit_until_aligned,
    load_adapter,
    save_adapter,
)
from cesrec_core.artifacts import TENSORS, Manifest
from cesrec_core.config import TrainAdapterSection
from cesrec_core.errors import ArtifactError, InputDataError

SETTINGS = TrainAdapterSection(
    max_epochs=150, patience_epochs=20, batch_size=64, learning_rate=3e-3, held_out_share=0.2, validation_share=0.1
)


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
    assert len(fitted.losses) == len(fitted.validation_losses) >= fitted.metrics["best_epoch"]
    assert min(fitted.validation_losses) == fitted.validation_losses[int(fitted.metrics["best_epoch"]) - 1]


def test_unrelated_vectors_are_flagged_and_overfitting_is_taken_back() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(300, 12, generator=generator), torch.randn(300, 6, generator=generator)
    fitted = fit_adapter(*noise, SETTINGS.model_copy(update={"learning_rate": 0.02, "check_after_epochs": 1000}), seed=1)
    assert fitted.metrics["is_alignment_weak"] == 1.0
    assert 0.3 < fitted.metrics["held_out_median_rank_share"] < 0.7
    assert fitted.validation_losses[-1] > 1.05 * min(fitted.validation_losses)
    # Of what has been overfitted the mean of the vectors would be better by far.
    assert fitted.metrics["held_out_normalised_mse"] < 1.08


def test_a_training_that_was_ended_as_failed_is_weak_whatever_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Early stopping may watch other items than those of the figures."""
    answers = iter([True, False])
    monkeypatch.setattr(adapter, "is_weak", lambda *_: next(answers))
    fitted = fit_adapter(*related_vectors(), SETTINGS.model_copy(update={"check_after_epochs": 3}), seed=1)
    assert len(fitted.losses) == 3
    assert fitted.metrics["is_alignment_weak"] == 1.0


def test_scale_of_the_recommender_does_not_matter() -> None:
    semantic, collaborative = related_vectors()
    small = fit_adapter(semantic, collaborative, SETTINGS, seed=1)
    large = fit_adapter(semantic, collaborative * 100, SETTINGS.model_copy(update={"max_alignment_loss": 1e9}), seed=1)
    loss = small.metrics["held_out_normalised_mse"]
    assert large.metrics["held_out_normalised_mse"] == pytest.approx(loss, rel=0.05)
    assert large.metrics["held_out_mse"] == pytest.approx(small.metrics["held_out_mse"] * 100**2, rel=0.05)


def test_figures_are_those_of_the_weights_that_are_returned() -> None:
    """Scales are folded into the weights after training: the loss of the last epochs must survive it."""
    fitted = fit_adapter(*related_vectors(), SETTINGS, seed=1)
    assert fitted.metrics["held_out_normalised_mse"] == pytest.approx(min(fitted.validation_losses), rel=0.3)


def test_metrics_by_hand() -> None:
    """Every item is aligned to 0. The rows are 0 and 2, with vectors 0 and 4; the mean of all is 2.

    MSE = (0 + 16) / 2; variance around the mean = (4 + 4) / 2; by distance from 0 row 0 ranks first and row 2 third. All
    aligned vectors are equally near, so a neighbour stands in the middle of the two others: rank 1.5 of 2.
    """
    collaborative = torch.tensor([[0.0], [2.0], [4.0]])
    metrics = alignment_metrics(torch.zeros(3, 1), collaborative, torch.tensor([0, 2]))
    assert metrics["mse"] == pytest.approx(8.0)
    assert metrics["normalised_mse"] == pytest.approx(2.0)
    assert metrics["median_rank_share"] == pytest.approx((1 + 3) / 2 / 3)
    assert metrics["neighbour_rank_share"] == pytest.approx(1.5 / 2)


def test_the_rank_of_a_neighbour_by_hand() -> None:
    """Row 0's nearest collaborative neighbour is 1, the farthest of its aligned ones; row 3's is 2, the nearest there too."""
    collaborative = torch.tensor([[0.0], [1.0], [5.0], [7.0]])
    aligned = torch.tensor([[0.0], [9.0], [2.0], [4.0]])
    assert alignment_metrics(aligned, collaborative, torch.tensor([0]))["neighbour_rank_share"] == pytest.approx(3 / 3)
    assert alignment_metrics(aligned, collaborative, torch.tensor([3]))["neighbour_rank_share"] == pytest.approx(1 / 3)


def test_vectors_of_a_diverged_adapter_have_no_rank() -> None:
    """NaN is farther than nothing, and would otherwise come first."""
    metrics = alignment_metrics(torch.full((4, 1), torch.nan), torch.tensor([[0.0], [1.0], [5.0], [7.0]]), torch.arange(4))
    assert all(math.isnan(value) for value in metrics.values())


def test_ranks_do_not_hang_on_the_size_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    _, collaborative = related_vectors(50)
    aligned, rows = collaborative.roll(1, dims=0), torch.arange(50)
    whole = alignment_metrics(aligned, collaborative, rows)
    monkeypatch.setattr("cesrec_core.adapter.DISTANCES_PER_BLOCK", 60)
    assert alignment_metrics(aligned, collaborative, rows) == pytest.approx(whole)


def test_ranks_of_many_items_are_medians_of_some_spread_over_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of four rows are looked at, the first and the last: ranks 1 and 4 of 4."""
    monkeypatch.setattr("cesrec_core.adapter.MAX_RANKED_ITEMS", 2)
    collaborative = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    metrics = alignment_metrics(torch.zeros(4, 1), collaborative, torch.arange(4))
    assert metrics["median_rank_share"] == pytest.approx((1 + 4) / 2 / 4)


def test_parts_do_not_meet_and_small_catalogues_have_all_of_them() -> None:
    for num_items in (4, 5, 37, 400):
        parts = ItemParts.draw(num_items, SETTINGS, torch.Generator().manual_seed(0))
        rows = torch.cat([parts.training, parts.spare, parts.validation, parts.held_out])
        assert sorted(rows.tolist()) == list(range(num_items))
        assert len(parts.training) >= 2
        assert len(parts.validation) >= 1
        assert len(parts.held_out) >= 1
    assert (len(parts.held_out), len(parts.validation), len(parts.spare)) == (80, 20, 20)


def test_nothing_but_the_figures_sees_held_out_items() -> None:
    """Their collaborative vectors may be anything: the weights stay what they are."""
    semantic, collaborative = related_vectors(100)
    settings = SETTINGS.model_copy(update={"max_epochs": 20})
    held_out = ItemParts.draw(100, settings, torch.Generator().manual_seed(1)).held_out
    fitted = fit_adapter(semantic, collaborative, settings, seed=1)
    spoilt = collaborative.clone()
    spoilt[held_out] = 1000.0
    again = fit_adapter(semantic, spoilt, settings, seed=1)
    assert torch.equal(fitted.model(semantic), again.model(semantic))
    assert again.metrics["held_out_mse"] > 1000 * fitted.metrics["held_out_mse"]


def test_a_width_is_chosen_by_validation_where_none_is_given() -> None:
    settings = SETTINGS.model_copy(update={"max_epochs": 40})
    attempts = fit_until_aligned(*related_vectors(), settings, seed=1)
    assert [attempt.fitted.metrics["hidden_width"] for attempt in attempts] == [6, 128]
    assert all(attempt.error == attempt.fitted.metrics["validation_normalised_mse"] for attempt in attempts)
    [single] = fit_until_aligned(*related_vectors(), settings.model_copy(update={"hidden_width": 9}), seed=1)
    assert single.fitted.metrics["hidden_width"] == 9


def test_an_attempt_that_failed_is_never_the_best_of_those_that_did_not() -> None:
    fitted = fit_adapter(*related_vectors(), SETTINGS.model_copy(update={"max_epochs": 2}), seed=1)

    def attempt(is_weak: float, error: float) -> Attempt:
        figures = {**fitted.metrics, "is_alignment_weak": is_weak, "validation_normalised_mse": error}
        return Attempt("width", SETTINGS, dataclasses.replace(fitted, metrics=figures))

    attempts = [attempt(1.0, 0.2), attempt(0.0, 0.4), attempt(0.0, 0.3), attempt(1.0, math.nan)]
    assert sorted(range(4), key=lambda number: attempts[number].order) == [2, 1, 0, 3]


def test_what_does_not_align_is_given_up_after_50_epochs_and_every_remedy_is_tried() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(300, 12, generator=generator), torch.randn(300, 6, generator=generator)
    settings = SETTINGS.model_copy(update={"patience_epochs": 1000, "hidden_width": 8})
    told: list[Attempt] = []
    attempts = fit_until_aligned(*noise, settings, 1, told.append)
    assert told == attempts
    assert [attempt.remedy for attempt in attempts] == ["width", "more pairs", "smaller width", "lower learning rate"]
    assert [len(attempt.fitted.losses) for attempt in attempts] == [50] * 4
    figures = [attempt.fitted.metrics for attempt in attempts]
    assert [figure["hidden_width"] for figure in figures] == [8, 8, 4, 4]
    assert [figure["num_training_items"] for figure in figures] == [210, 225, 225, 225]
    assert [figure["learning_rate"] for figure in figures] == pytest.approx([3e-3, 3e-3, 3e-3, 1e-3])


def test_the_papers_limit_is_on_the_scale_of_the_recommender() -> None:
    """What is aligned as well as ever fails it where vectors are large."""
    semantic, collaborative = related_vectors()
    assert fit_adapter(semantic, collaborative, SETTINGS, seed=1).metrics["is_alignment_weak"] == 0.0
    large = fit_adapter(semantic, collaborative * 100, SETTINGS, seed=1)
    assert large.metrics["validation_normalised_mse"] < SETTINGS.max_normalised_loss
    assert large.metrics["is_alignment_weak"] == 1.0


def test_either_limit_makes_an_alignment_weak() -> None:
    limits = SETTINGS.model_copy(update={"max_alignment_loss": 0.1, "max_normalised_loss": 0.9})
    answers = [adapter.is_weak(*errors, limits) for errors in ((0.1, 0.9), (0.11, 0.5), (0.05, 0.91), (math.nan, 0.5))]
    assert answers == [False, True, True, True]


def test_a_training_is_given_up_by_its_error_on_the_scale_of_the_recommender() -> None:
    semantic, collaborative = related_vectors()
    settings = SETTINGS.model_copy(update={"check_after_epochs": 30})
    assert len(fit_adapter(semantic, collaborative, settings, seed=1).losses) > 30
    assert len(fit_adapter(semantic, collaborative * 100, settings, seed=1).losses) == 30


def test_early_stopping_watches_what_no_attempt_learns_from() -> None:
    semantic, collaborative = related_vectors()
    parts = ItemParts.draw(len(semantic), SETTINGS, torch.Generator().manual_seed(1))
    for with_spare in (False, True):
        fitted = fit_adapter(semantic, collaborative, SETTINGS, seed=1, with_spare=with_spare)
        learned = torch.cat([parts.training, parts.spare]) if with_spare else parts.training
        watched = parts.validation if with_spare else torch.cat([parts.validation, parts.spare])
        error = (fitted.model(semantic[watched]) - collaborative[watched]).square().mean().item()
        spread = adapter.Scales.of(semantic[learned], collaborative[learned]).collaborative_std
        assert min(fitted.validation_losses) == pytest.approx(error / spread**2, rel=1e-3)


def test_remedies_start_from_the_best_width_and_end_where_one_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of widths 6 and 128 the second is better and weak all the same; more pairs do not help, half of its width does."""
    real = fit_adapter(*related_vectors(), SETTINGS.model_copy(update={"max_epochs": 2}), seed=1)
    outcomes = iter([(1.0, 0.97), (1.0, 0.95), (1.0, 0.96), (0.0, 0.8), (0.0, 0.7)])

    def fit(semantic: object, collaborative: object, settings: TrainAdapterSection, *_: object) -> adapter.AdapterFit:
        is_weak, error = next(outcomes)
        figures = {
            "is_alignment_weak": is_weak,
            "validation_normalised_mse": error,
            "hidden_width": float(settings.hidden_width),
        }
        return dataclasses.replace(real, metrics={**real.metrics, **figures})

    monkeypatch.setattr(adapter, "fit_adapter", fit)
    attempts = fit_until_aligned(*related_vectors(), SETTINGS, seed=1)
    widths = [(attempt.remedy, attempt.settings.hidden_width) for attempt in attempts]
    assert widths == [("width", 6), ("width", 128), ("more pairs", 128), ("smaller width", 64)]


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


def test_an_adapter_that_diverged_aligns_nothing(tmp_path: Path) -> None:
    model = Adapter(4, 2)
    model.outer.bias.data[1] = torch.nan
    save_adapter(tmp_path / "adapter", model, Manifest("adapter", "a1", "all"))
    worker = ProjectItems(tmp_path / "adapter", "e1", batch_size=2)
    worker.setup()
    shard = pa.table({"text_hash": ["a"], "semantic_embedding": [[1.0, 0.0, 0.0, 0.0]]})
    with pytest.raises(ArtifactError, match="not finite"):
        worker.process(shard)


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    save_adapter(tmp_path / "adapter", Adapter(4, 2), Manifest("adapter", "a1", "all"))
    save_file({"other": torch.zeros(1)}, tmp_path / "adapter" / TENSORS)
    with pytest.raises(ArtifactError, match="does not hold the weights of an Adapter"):
        load_adapter(tmp_path / "adapter")
