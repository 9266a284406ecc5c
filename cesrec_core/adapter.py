"""The Adapter: from the semantic space of an LLM (width H) into the collaborative space of the recommender (width D).

e_hyb = W2 . GELU(W1 . e_llm + b1) + b2, fitted by MSE to the frozen collaborative embeddings (CESRec, section 3.2).
"""

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
# Squared error over variance on held-out items: 1 is what their mean would score, so above this hardly anything of the
# collaborative space is found in the text. The paper's sign of failure, a loss above 0.1, says nothing across scales:
# SASRec's item vectors on MovieLens-100K have a variance of 0.004, so even their mean would pass. MiniLM reaches 0.77.
MAX_NORMALISED_LOSS = 0.9


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
class AdapterFit:
    """A fitted Adapter, in evaluation mode, and how good it is on the items held out.

    Attributes:
        model: the Adapter.
        metrics: `held_out_mse`, on the scale of the collaborative vectors; `held_out_normalised_mse`, divided by the
            variance of the held-out collaborative vectors, so that 1 is what their mean would score;
            `held_out_median_rank_share`, the median rank of an item's own collaborative vector among all items when
            these are ordered by distance from its aligned one, as a share of the items (0.5 = chance); `best_epoch`;
            `is_alignment_weak`, 1 where the normalised error is above MAX_NORMALISED_LOSS.
        losses: training loss per epoch, divided by the variance.
        held_out_losses: the same of the held-out items.
    """

    model: Adapter
    metrics: dict[str, float]
    losses: list[float]
    held_out_losses: list[float]


def fit_adapter(semantic: Tensor, collaborative: Tensor, settings: TrainAdapterSection, seed: int) -> AdapterFit:
    """Fit on most items, stop when the held-out ones stop gaining, and return the best weights.

    Args:
        semantic: float32 [N, H], on the device to train on.
        collaborative: float32 [N, D], frozen, of the same items.
        settings: width, learning rate, batch size, patience and the share held out.
        seed: of the weights, of the items held out, and of their order; the caller's random state is left alone.

    Raises:
        InputDataError: the two do not pair up, there are too few items, or a value is not finite.
    """
    _check_pairs(semantic, collaborative)
    device = semantic.device
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(semantic), generator=generator)
    num_held_out = min(max(1, round(settings.held_out_share * len(order))), len(order) - 2)
    held_out, training = order[:num_held_out].to(device), order[num_held_out:]
    scales = Scales.of(semantic[training.to(device)], collaborative[training.to(device)])
    inputs, targets = scales.standardise(semantic, collaborative)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Adapter(semantic.shape[1], collaborative.shape[1], settings.hidden_width).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate)

    best_loss, best_epoch, best_weights = float("inf"), 0, model.state_dict()
    losses: list[float] = []
    held_out_losses: list[float] = []
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
            held_out_losses.append(F.mse_loss(model(inputs[held_out]), targets[held_out]).item())
        if held_out_losses[-1] < best_loss:
            best_loss, best_epoch = held_out_losses[-1], epoch
            best_weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        elif epoch - best_epoch >= settings.patience_epochs:
            break
    model.load_state_dict(best_weights)
    scales.fold_into(model)
    with torch.no_grad():
        residuals = collaborative[held_out] - model(semantic[held_out])
        model.residual_covariance.copy_(residuals.T @ residuals / len(residuals))
    model.eval().requires_grad_(False)
    metrics = {"best_epoch": float(best_epoch), **alignment_metrics(model, semantic, collaborative, held_out)}
    metrics["is_alignment_weak"] = float(metrics["held_out_normalised_mse"] > MAX_NORMALISED_LOSS)
    return AdapterFit(model, metrics, losses, held_out_losses)


@torch.inference_mode()
def alignment_metrics(model: Adapter, semantic: Tensor, collaborative: Tensor, held_out: Tensor) -> dict[str, float]:
    """The three figures of `AdapterFit.metrics` over the rows `held_out` (int64); neighbours are sought among all rows."""
    aligned = model(semantic[held_out])
    truth = collaborative[held_out]
    mse = F.mse_loss(aligned, truth).item()
    variance = (truth - collaborative.mean(dim=0)).square().mean().item()
    distances = torch.cdist(aligned, collaborative)  # [held out, N]
    own = distances.gather(1, held_out[:, None])
    ranks = 1 + (distances < own).sum(dim=1)
    return {
        "held_out_mse": mse,
        "held_out_normalised_mse": mse / max(variance, torch.finfo(torch.float32).tiny),
        "held_out_median_rank_share": ranks.double().quantile(0.5).item() / len(collaborative),
    }


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


def _check_pairs(semantic: Tensor, collaborative: Tensor) -> None:
    if semantic.ndim != 2 or collaborative.ndim != 2 or len(semantic) != len(collaborative):
        shapes = f"{list(semantic.shape)} and {list(collaborative.shape)}"
        raise InputDataError(f"Semantic and collaborative vectors are {shapes}; they must be [N, H] and [N, D], row by row.")
    if len(semantic) < MIN_ITEMS:
        raise InputDataError(f"{len(semantic)} items have both vectors; an Adapter needs {MIN_ITEMS} or more.")
    if not (torch.isfinite(semantic).all() and torch.isfinite(collaborative).all()):
        raise InputDataError("Semantic or collaborative vectors hold NaN or infinity. Leave such items out.")
