"""The Adapter: from the semantic space of an LLM (width H) into the collaborative space of the recommender (width D).

e_hyb = W2 . GELU(W1 . e_llm + b1) + b2, fitted by MSE to the frozen collaborative embeddings (CESRec, section 3.2).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cesrec_core.artifacts import Manifest, load_tensors, publishing, read_manifest, save_tensors, write_manifest
from cesrec_core.config import TrainAdapterSection
from cesrec_core.errors import ArtifactError, InputDataError

KIND = "adapter"
MIN_ITEMS = 4
# Widths that others chose where the paper is silent: half of the semantic one (LLM-ESR), and this (A-LLMRec).
ABSOLUTE_WIDTH = 128
# What the remedies for a weak alignment divide by.
WIDTH_DIVISOR, RATE_DIVISOR = 2, 3
# Items whose neighbours are looked at; more would hardly make the medians steadier.
MAX_RANKED_ITEMS = 2000
# Distances made together: 64 MiB.
DISTANCES_PER_BLOCK = 2**24


class Adapter(nn.Module):
    """Two layers, as in the paper; `hidden_width` is H / 2 unless given (as in LLM-ESR: the paper leaves it open).

    Attributes:
        residual_covariance: float32 [D, D], second moments of what the collaborative vectors of held-out items differ from
            their aligned ones: how uncertain an aligned vector is, and in which directions.
    """

    def __init__(self, semantic_width: int, collaborative_width: int, hidden_width: int | None = None) -> None:
        super().__init__()
        self.hidden_width = hidden_width or max(1, semantic_width // 2)
        self.inner = nn.Linear(semantic_width, self.hidden_width)
        self.outer = nn.Linear(self.hidden_width, collaborative_width)
        self.residual_covariance: Tensor
        self.register_buffer("residual_covariance", torch.zeros(collaborative_width, collaborative_width))

    def forward(self, semantic: Tensor) -> Tensor:
        """float32 [N, H] -> aligned embeddings float32 [N, D]."""
        aligned: Tensor = self.outer(F.gelu(self.inner(semantic)))
        return aligned


@dataclass(frozen=True)
class Scales:
    """Training runs on standardised vectors, and the scales are folded into the weights afterwards.

    LLM hidden states have a few dimensions a hundred times larger than the rest, which would be all that W1 sees; and
    the recommender's scale would otherwise decide what a learning rate means.

    Attributes:
        semantic_mean: float32 [H].
        semantic_std: float32 [H].
        collaborative_mean: float32 [D].
        collaborative_std: one number for all dimensions, so that the squared error keeps their relative weight.
    """

    semantic_mean: Tensor
    semantic_std: Tensor
    collaborative_mean: Tensor
    collaborative_std: float

    @classmethod
    def of(cls, semantic: Tensor, collaborative: Tensor) -> "Scales":
        std = semantic.std(dim=0)
        # A dimension without spread says nothing; dividing by its rounding noise would make it shout.
        std = torch.where(std > 1e-6, std, 1.0)
        spread = float(collaborative.var(dim=0).mean().sqrt())
        return cls(semantic.mean(dim=0), std, collaborative.mean(dim=0), spread if spread > 0 else 1.0)

    def standardise(self, semantic: Tensor, collaborative: Tensor) -> tuple[Tensor, Tensor]:
        inputs = (semantic - self.semantic_mean) / self.semantic_std
        return inputs, (collaborative - self.collaborative_mean) / self.collaborative_std

    @torch.no_grad()
    def fold_into(self, model: Adapter) -> None:
        """Make a model of standardised vectors one of the vectors as they are."""
        model.inner.weight.div_(self.semantic_std)
        model.inner.bias.sub_(model.inner.weight @ self.semantic_mean)
        model.outer.weight.mul_(self.collaborative_std)
        model.outer.bias.mul_(self.collaborative_std).add_(self.collaborative_mean)


@dataclass(frozen=True)
class ItemParts:
    """Which items an Adapter learns from, which end and compare its trainings, and which only measure it; rows, int64.

    Attributes:
        training: learned from.
        spare: validation items that the attempt with more pairs learns from, too.
        validation: no attempt learns from these.
        held_out: seen by nothing but the figures.
    """

    training: Tensor
    spare: Tensor
    validation: Tensor
    held_out: Tensor

    @classmethod
    def draw(cls, num_items: int, settings: TrainAdapterSection, generator: torch.Generator) -> "ItemParts":
        order = torch.randperm(num_items, generator=generator)
        num_held_out = max(1, round(settings.held_out_share * num_items))
        num_validation = max(1, round(settings.validation_share * num_items))
        num_held_out = min(num_held_out, num_items - 3)
        num_validation = min(num_validation, num_items - num_held_out - 2)
        sizes = [num_held_out, num_validation - num_validation // 2, num_validation // 2]
        held_out, validation, spare, training = torch.split(order, [*sizes, num_items - sum(sizes)])
        return cls(training, spare, validation, held_out)


@dataclass(frozen=True)
class AdapterFit:
    """A fitted Adapter, in evaluation mode, and how good it is.

    Attributes:
        model: the Adapter.
        metrics: `best_epoch`, `hidden_width`, `learning_rate`; `num_training_items`, `num_held_out_items`; `held_out_mse`,
            on the scale of the collaborative vectors; `held_out_normalised_mse`, divided by the variance of the held-out
            collaborative vectors around the mean of all, so that 1 is what that mean would score; the two again over
            validation items; `all_normalised_mse` over all; `held_out_median_rank_share` and
            `held_out_neighbour_rank_share`, see `alignment_metrics`; `is_alignment_weak`, 1 where the validation error is
            above one of the limits of the settings, or the training ended at `check_after_epochs`.
        losses: training loss per epoch, divided by the variance.
        validation_losses: the same of the items that early stopping watches.
    """

    model: Adapter
    metrics: dict[str, float]
    losses: list[float]
    validation_losses: list[float]


@dataclass(frozen=True)
class Attempt:
    """One training of `fit_until_aligned`, and what was tried with it. Of several the least by `order` is the best."""

    remedy: str
    settings: TrainAdapterSection
    fitted: AdapterFit

    @property
    def error(self) -> float:
        """Over the validation items that no attempt learned from."""
        error = self.fitted.metrics["validation_normalised_mse"]
        return error if math.isfinite(error) else math.inf

    @property
    def order(self) -> tuple[bool, float]:
        """Those first whose alignment is not weak, then by error."""
        return bool(self.fitted.metrics["is_alignment_weak"]), self.error


def fit_until_aligned(
    semantic: Tensor,
    collaborative: Tensor,
    settings: TrainAdapterSection,
    seed: int,
    on_attempt: Callable[[Attempt], None] = lambda attempt: None,
) -> list[Attempt]:
    """Fit with each width that is open to choice; where the best is weak, the paper's remedies, one on top of the other.

    These are: more pairs (half of the validation items), a smaller width, a lower learning rate. All attempts are compared
    on the other half of the validation items.

    Args:
        on_attempt: told of each attempt as it ends.

    Returns:
        All attempts in the order in which they were made; the best is the least by `order`.
    """
    attempts: list[Attempt] = []

    def attempt(remedy: str, changed: TrainAdapterSection, with_spare: bool) -> None:
        attempts.append(Attempt(remedy, changed, fit_adapter(semantic, collaborative, changed, seed, with_spare)))
        on_attempt(attempts[-1])

    for width in widths_to_try(settings, semantic.shape[1]):
        attempt("width", settings.model_copy(update={"hidden_width": width}), with_spare=False)
    best = min(attempts, key=lambda made: made.order)
    if not best.fitted.metrics["is_alignment_weak"]:
        return attempts
    smaller = {"hidden_width": max(1, int(best.fitted.metrics["hidden_width"]) // WIDTH_DIVISOR)}
    slower = {**smaller, "learning_rate": settings.learning_rate / RATE_DIVISOR}
    for remedy, changes in (("more pairs", {}), ("smaller width", smaller), ("lower learning rate", slower)):
        attempt(remedy, best.settings.model_copy(update=changes), with_spare=True)
        if not attempts[-1].fitted.metrics["is_alignment_weak"]:
            break
    return attempts


def widths_to_try(settings: TrainAdapterSection, semantic_width: int) -> list[int]:
    """The configured hidden width, or else half the semantic one and 128, the smaller first."""
    if settings.hidden_width is not None:
        return [settings.hidden_width]
    return sorted({max(1, semantic_width // 2), ABSOLUTE_WIDTH})


def fit_adapter(
    semantic: Tensor, collaborative: Tensor, settings: TrainAdapterSection, seed: int, with_spare: bool = False
) -> AdapterFit:
    """Fit on most items, stop when the validation items stop gaining, and return the best weights.

    A training whose alignment is still weak after `settings.check_after_epochs` ends there: by the paper it has failed.

    Args:
        semantic: float32 [N, H], on the device to train on.
        collaborative: float32 [N, D], frozen, of the same items.
        settings: width, learning rate, batch size, patience, the shares kept out of training, the limits.
        seed: of the weights, of the items held out, and of their order; the caller's random state is left alone.
        with_spare: learn from half of the validation items, too.

    Raises:
        InputDataError: the two do not pair up, there are too few items, or a value is not finite.
    """
    _check_vectors(semantic, collaborative)
    device = semantic.device
    generator = torch.Generator().manual_seed(seed)
    parts = ItemParts.draw(len(semantic), settings, generator)
    training = torch.cat([parts.training, parts.spare]) if with_spare else parts.training
    watched = (parts.validation if with_spare else torch.cat([parts.validation, parts.spare])).to(device)
    scales = Scales.of(semantic[training.to(device)], collaborative[training.to(device)])
    inputs, targets = scales.standardise(semantic, collaborative)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Adapter(semantic.shape[1], collaborative.shape[1], settings.hidden_width).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate)

    best_loss, best_epoch, best_weights = float("inf"), 0, model.state_dict()
    has_failed = False
    losses: list[float] = []
    validation_losses: list[float] = []
    for epoch in range(1, settings.max_epochs + 1):
        shuffled = training[torch.randperm(len(training), generator=generator)].to(device)
        total = 0.0
        for rows in torch.split(shuffled, settings.batch_size):
            loss = F.mse_loss(model(inputs[rows]), targets[rows])
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            total += loss.item() * len(rows)
        losses.append(total / len(training))
        with torch.inference_mode():
            validation_losses.append(F.mse_loss(model(inputs[watched]), targets[watched]).item())
        if validation_losses[-1] < best_loss:
            best_loss, best_epoch = validation_losses[-1], epoch
            best_weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        elif epoch - best_epoch >= settings.patience_epochs:
            break
        if epoch == settings.check_after_epochs and is_weak(best_loss * scales.collaborative_std**2, best_loss, settings):
            has_failed = True
            break
    model.load_state_dict(best_weights)
    scales.fold_into(model)
    model.eval().requires_grad_(False)
    metrics = {
        "best_epoch": float(best_epoch),
        "hidden_width": float(model.hidden_width),
        "learning_rate": settings.learning_rate,
        "num_training_items": float(len(training)),
        "num_held_out_items": float(len(parts.held_out)),
        **_measure(model, semantic, collaborative, parts),
    }
    is_above = is_weak(metrics["validation_mse"], metrics["validation_normalised_mse"], settings)
    # Of the items that were watched, which may be more than those of the figures.
    metrics["is_alignment_weak"] = float(has_failed or is_above)
    return AdapterFit(model, metrics, losses, validation_losses)


def _measure(model: Adapter, semantic: Tensor, collaborative: Tensor, parts: ItemParts) -> dict[str, float]:
    """Figures of a model by parts, see `AdapterFit`; sets its `residual_covariance`, which comes of the held-out items, too."""
    device = semantic.device
    held_out, validation = parts.held_out.to(device), parts.validation.to(device)
    aligned = model(semantic)
    residuals = collaborative[held_out] - aligned[held_out]
    model.residual_covariance.copy_(residuals.T @ residuals / len(residuals))
    everything = torch.arange(len(aligned), device=device)
    return {
        **{f"held_out_{name}": value for name, value in alignment_metrics(aligned, collaborative, held_out).items()},
        **{f"validation_{name}": value for name, value in alignment_errors(aligned, collaborative, validation).items()},
        "all_normalised_mse": alignment_errors(aligned, collaborative, everything)["normalised_mse"],
    }


def is_weak(mse: float, normalised_mse: float, settings: TrainAdapterSection) -> bool:
    """The paper's sign of failure, an error above 0.1, and one that says something on any scale."""
    # So that NaN is weak, too.
    return not (mse <= settings.max_alignment_loss and normalised_mse <= settings.max_normalised_loss)


@torch.inference_mode()
def alignment_errors(aligned: Tensor, collaborative: Tensor, rows: Tensor) -> dict[str, float]:
    """Squared error of some rows, on the scale of the collaborative vectors (`mse`) and over their variance.

    Args:
        aligned: float32 [N, D], of the same items as
        collaborative: float32 [N, D].
        rows: int64, of both; at least one.
    """
    truth = collaborative[rows]
    mse = F.mse_loss(aligned[rows], truth).item()
    variance = (truth - collaborative.mean(dim=0)).square().mean().item()
    return {"mse": mse, "normalised_mse": mse / max(variance, torch.finfo(torch.float32).tiny)}


@torch.inference_mode()
def alignment_metrics(aligned: Tensor, collaborative: Tensor, rows: Tensor) -> dict[str, float]:
    """How well rows are aligned: `alignment_errors`, and two ranks that show an Adapter that answers the same to everything.

    `median_rank_share`: all items in order of their collaborative vectors' distance from an item's aligned one; where among
    them the item itself stands. `neighbour_rank_share`: all others in order of their aligned vectors' distance from the
    item's aligned one; where among them its nearest collaborative neighbour stands. Both are the median over MAX_RANKED_ITEMS
    of the rows at most, as a share of the items; 0.5 is chance, and an item that ties with others stands in their middle.
    """
    spread_out = torch.linspace(0, len(rows) - 1, min(MAX_RANKED_ITEMS, len(rows))).long()
    own_ranks, neighbour_ranks = [], []
    rows_per_block = max(1, DISTANCES_PER_BLOCK // len(collaborative))
    for block in torch.split(rows[spread_out.to(rows.device)], rows_per_block):
        to_collaborative = torch.cdist(aligned[block], collaborative)  # [block, N]
        own_ranks.append(_middle_rank(to_collaborative, block))
        among_collaborative = torch.cdist(collaborative[block], collaborative).scatter_(1, block[:, None], torch.inf)
        to_aligned = torch.cdist(aligned[block], aligned).scatter_(1, block[:, None], torch.inf)
        neighbour_ranks.append(_middle_rank(to_aligned, among_collaborative.argmin(dim=1)))
    return {
        **alignment_errors(aligned, collaborative, rows),
        "median_rank_share": torch.cat(own_ranks).quantile(0.5).item() / len(collaborative),
        "neighbour_rank_share": torch.cat(neighbour_ranks).quantile(0.5).item() / max(1, len(collaborative) - 1),
    }


def _middle_rank(distances: Tensor, columns: Tensor) -> Tensor:
    """Rank of one column in each row, from 1, nearest first; float64 [B]. NaN, which is neither near nor far, has rank NaN."""
    own = distances.gather(1, columns[:, None])
    ranks = 1 + (distances < own).sum(dim=1).double() + ((distances == own).sum(dim=1).double() - 1) / 2
    return ranks.masked_fill(own[:, 0].isnan(), torch.nan)


def save_adapter(folder: Path, model: Adapter, manifest: Manifest) -> None:
    """Publish the artifact as `folder`, replacing what was there."""
    with publishing(folder) as scratch:
        write_adapter(scratch, model, manifest)


def write_adapter(folder: Path, model: Adapter, manifest: Manifest) -> None:
    """Write the artifact's files into an existing folder that the caller publishes; widths are read off the weights."""
    save_tensors(folder, model.state_dict())
    write_manifest(folder, manifest)


def load_adapter(folder: Path) -> tuple[Adapter, Manifest]:
    """Read an Adapter onto the CPU, in evaluation mode and frozen.

    Raises:
        ArtifactError: a file is missing, damaged, or holds other tensors.
    """
    manifest = read_manifest(folder, KIND)
    tensors = load_tensors(folder)
    try:
        hidden_width, semantic_width = tensors["inner.weight"].shape
        model = Adapter(semantic_width, len(tensors["outer.weight"]), hidden_width)
        model.load_state_dict(tensors)
    except (KeyError, ValueError, RuntimeError) as error:
        raise ArtifactError(f"{folder} does not hold the weights of an Adapter ({error}). Train it again.") from None
    return model.eval().requires_grad_(False), manifest


def check_pairs(semantic: Tensor, collaborative: Tensor) -> None:
    """Refuse what is not one row of each for every item.

    Raises:
        InputDataError: the two do not pair up.
    """
    if semantic.ndim != 2 or collaborative.ndim != 2 or len(semantic) != len(collaborative):
        shapes = f"{list(semantic.shape)} and {list(collaborative.shape)}"
        raise InputDataError(f"Semantic and collaborative vectors are {shapes}; they must be [N, H] and [N, D], row by row.")


def _check_vectors(semantic: Tensor, collaborative: Tensor) -> None:
    check_pairs(semantic, collaborative)
    if len(semantic) < MIN_ITEMS:
        raise InputDataError(f"{len(semantic)} items have both vectors; an Adapter needs {MIN_ITEMS} or more.")
    if not (torch.isfinite(semantic).all() and torch.isfinite(collaborative).all()):
        raise InputDataError("Semantic or collaborative vectors hold NaN or infinity. Leave such items out.")
