"""Train a base recommender: `python training/train_recommender.py --dataset FOLDER --out FOLDER`.

Every epoch shows each training window once; after it, every user's validation target is ranked against the whole
vocabulary, and the best weights by NDCG@10 are kept. Where the split holds no validation item back (`all`,
`leave_last_out`), a run that does is kept as OUT/held_out_twin, and the artifact itself is fitted on everything the split
allows for the twin's best number of epochs.

A run that was interrupted goes on where it stopped when the same command is given again. The last line of standard output
is one JSON object; progress goes to standard error.
"""

import os

# Threads that spin while they wait make a step several times slower as soon as anything else wants the same cores. Read when
# torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import hashlib
import json
import logging
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from cesrec_core.artifacts import Manifest, publishing
from cesrec_core.config import WHEN_TO_TRAIN, Config, TrainRecommenderSection
from cesrec_core.datasets import Dataset, read_dataset
from cesrec_core.errors import ConfigError, InputDataError, StageError
from cesrec_core.evaluation.metrics import Ranks, hits, ndcg
from cesrec_core.job_parser import local_path
from cesrec_core.locks import checkpoint_folder, release_training_lock, take_training_lock
from cesrec_core.processes import ProcessGroup, end_as_torchrun, join_processes, leave_processes
from cesrec_core.progress import Advance, lines
from cesrec_core.recommenders import (
    COUNTING,
    PADDING_IDX,
    CountingRecommender,
    TrainableRecommender,
    build_recommender,
    unread_settings,
)
from cesrec_core.recommenders.artifact import KIND, write_recommender
from cesrec_core.recommenders.batches import batches_by_length, cut_windows, encode_histories, inputs_and_targets
from cesrec_core.recommenders.checkpoint import (
    Progress,
    Weights,
    load_checkpoint,
    remove_checkpoint,
    save_checkpoint,
)
from cesrec_core.recommenders.losses import Loss, make_loss
from cesrec_core.recommenders.popularity import Popularity
from cesrec_core.recommenders.training_data import TrainingData, prepare, rank_targets
from cesrec_core.report.pictures import ONE, SOFT, TWO
from cesrec_core.report.ticks import whole_numbers
from cesrec_core.splits import SPLIT_NAMES, Cuts, cut_histories
from cesrec_core.training_command import Trained, run_training_command, training_parser

HELD_OUT_TWIN = "held_out_twin"
JOB = "train_recommender"
# The split on which the best number of epochs is found, where the split itself holds no validation item back.
SPLIT_OF_TWIN = {"all": "leave_one_out", "leave_last_out": "leave_one_out"}
LEARNING_CURVE = "learning_curve.png"
# Whose states are averaged: enough that more would hardly move the mean.
USERS_IN_AVERAGE = 5000
# Norm at which gradients are cut: healthy training stays under it, one odd batch does not undo an epoch.
MAX_GRADIENT_NORM = 1.0

logger = logging.getLogger(JOB)


@dataclass(frozen=True)
class Fit:
    """A fitted model, with the weights of the best epoch, and how it came about."""

    model: TrainableRecommender
    progress: Progress


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    arguments = parse_arguments(argv)

    def train(config: Config) -> Trained:
        inputs = read_inputs(arguments, config)
        # After what can be refused has been refused: by one process, in its own words.
        if "RANK" not in os.environ:
            take_training_lock(checkpoint_folder(arguments.out)).close()
            tell_unread_settings(config.train_recommender)
            if config.train_recommender.num_processes > 1:
                # This process only waits from here on, and shall hold nothing.
                del inputs
                end_as_torchrun(__file__, config.train_recommender.num_processes, argv)
        return run(arguments, config, inputs, join_processes())

    code = run_training_command(JOB, arguments, train)
    if code == 0:
        leave_processes()
    return code


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = training_parser(str(__doc__).splitlines()[0], "data, settings and seed")
    parser.add_argument("--dataset", type=local_path, required=True, help="folder with interactions.parquet and items.parquet")
    parser.add_argument("--split", choices=SPLIT_NAMES, help="default: dataset.split of the configuration")
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Inputs:
    """What is trained on, by a split that holds something back: the best number of epochs is found there."""

    dataset: Dataset
    split: str
    held_out_cuts: Cuts
    held_out: TrainingData


def read_inputs(arguments: argparse.Namespace, config: Config) -> Inputs:
    """Read and check everything that a training depends on.

    Raises:
        ConfigError: the artifact would replace the dataset.
        InputDataError: the dataset cannot be read, or holds nothing to learn from or to validate with.
    """
    if arguments.dataset.resolve().is_relative_to(arguments.out):
        raise ConfigError(
            f"{arguments.dataset} lies in {arguments.out}, which the artifact would replace. Name another folder."
        )
    split = arguments.split or config.dataset.split
    dataset = read_dataset(arguments.dataset)
    cuts = cut_histories(dataset.histories, SPLIT_OF_TWIN.get(split, split), config.dataset.has_real_timestamps)
    held_out = prepare(dataset, cuts)
    if not held_out.num_reachable_targets and config.train_recommender.model not in COUNTING:
        num_had = int((held_out.validation_targets > 0).sum())
        num_unknown = len(held_out.validation_targets) - num_had
        wanted = "people with interactions on both sides of a cut" if cuts.name == "global_timeline" else "longer histories"
        if num_had > num_unknown:
            wanted = "people who come to items that are new to them (what somebody has had is not recommended)"
        elif num_unknown:
            wanted = "more people, so that others have had the same items"
        raise InputDataError(
            f"No user of {arguments.dataset} has a validation item under split {cuts.name!r} that could be recommended: of "
            f"{num_had + num_unknown}, {num_had} were had by their user before, and {num_unknown} stand in nobody's training "
            f"part. Without one there is no telling when to stop. Bring {wanted}, or set train_recommender.model to markov, "
            "which only counts."
        )
    return Inputs(dataset, split, cuts, held_out)


def tell_unread_settings(settings: TrainRecommenderSection) -> None:
    if unread := unread_settings(settings):
        names = ", ".join(f"train_recommender.{name}" for name in unread)
        logger.warning("%s: not read with model %s and loss %s", names, settings.model, settings.loss)


def run(arguments: argparse.Namespace, config: Config, inputs: Inputs, processes: ProcessGroup) -> Trained:
    """Train and publish the artifact."""
    dataset, split, held_out_cuts, held_out = inputs.dataset, inputs.split, inputs.held_out_cuts, inputs.held_out
    checkpoint = checkpoint_folder(arguments.out)
    lock = take_training_lock(checkpoint) if processes.is_first else None
    made_from = content_hash(inputs, config, processes.size)
    artifact_id = arguments.artifact_id or made_from

    twin = fit(held_out, config, processes, Progress(made_from), checkpoint_file(checkpoint, held_out_cuts))
    metrics = validation_metrics(twin, held_out)
    if processes.is_first:
        logger.info("best epoch %d: %s", twin.progress.best_epoch, metrics)
    final, final_cuts, final_data = twin, held_out_cuts, held_out
    if split in SPLIT_OF_TWIN:
        final_cuts = cut_histories(dataset.histories, split, config.dataset.has_real_timestamps)
        final_data = prepare(dataset, final_cuts)
        final = fit(
            final_data,
            config,
            processes,
            Progress(made_from),
            checkpoint_file(checkpoint, final_cuts),
            twin.progress.best_epoch,
        )

    if lock is not None:
        with publishing(arguments.out) as scratch:
            publish(scratch, final, final_data, manifest_of(config, final_cuts, artifact_id, final_data, metrics))
            if final is not twin:
                (scratch / HELD_OUT_TWIN).mkdir()
                manifest = manifest_of(config, held_out_cuts, f"{artifact_id}-twin", held_out, metrics)
                publish(scratch / HELD_OUT_TWIN, twin, held_out, manifest)
        remove_checkpoint(checkpoint)
        release_training_lock(checkpoint, lock)
    return Trained(artifact_id, metrics)


def checkpoint_file(folder: Path, cuts: Cuts) -> Path:
    return folder / f"{cuts.name}.safetensors"


def fit(
    data: TrainingData,
    config: Config,
    processes: ProcessGroup,
    progress: Progress,
    checkpoint: Path,
    num_epochs: int | None = None,
) -> Fit:
    """Train until validation stops rising; or, where nothing is held out, for exactly `num_epochs`."""
    settings, seed, device = config.train_recommender, config.run.seed, processes.device
    model = build_recommender(data.item_ids, settings, seed).to(device)
    if isinstance(model, CountingRecommender):
        model.fit_counts(data.sequences)
        set_average_state(model, data.sequences, seed)
        return Fit(model, Progress(progress.made_from, best_epoch=1))

    step = TrainingStep(model, make_loss(settings, torch.from_numpy(data.item_counts()).to(device)), settings)
    parallel_step = DistributedDataParallel(step) if processes.size > 1 else step
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    num_windows = sum(math.ceil((len(sequence) - 1) / settings.max_history_items) for sequence in data.sequences)
    averaged = moving_average(model, settings.averaged_epochs * math.ceil(num_windows / settings.batch_size))
    average = cast(TrainableRecommender, averaged.module)
    best = copy_weights(average)
    if (resumed := load_checkpoint(checkpoint, progress.made_from, model, averaged, optimizer)) is not None:
        progress, best = resumed
        if processes.is_first:
            logger.info("going on after epoch %d", len(progress.losses))

    last_epoch = settings.max_epochs if num_epochs is None else num_epochs
    for epoch in epochs_left(progress, last_epoch, processes):
        if num_epochs is None and epoch - progress.best_epoch > settings.patience_epochs:
            break
        # Every epoch has random numbers of its own, so that a resumed training draws what it would have drawn.
        rng = np.random.default_rng([seed, epoch])
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch * processes.size + processes.rank)
        torch.manual_seed(seed * 1_000_033 + epoch * processes.size + processes.rank)
        model.train()
        windows = windows_of_epoch(data.sequences, settings, rng)
        lengths = np.array([len(window) for window in windows])
        batch_losses = []
        advance = progress_of_epoch(epoch, math.ceil(len(windows) / settings.batch_size), processes)
        for rows in batches_by_length(lengths, settings.batch_size, rng):
            mine, weight = share_of_batch(rows, lengths, processes)
            inputs, targets = inputs_and_targets([windows[row] for row in mine], settings.max_history_items)
            loss = weight * parallel_step(inputs.to(device), targets.to(device), generator)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
            optimizer.step()
            averaged.update_parameters(model)
            batch_losses.append(loss.detach())
            advance(1)
        progress.losses.append(mean_over(processes, torch.stack(batch_losses).mean().item()))
        # The loss is that before a step, so that the last step's harm shows in the weights alone.
        if not (math.isfinite(progress.losses[-1]) and all(bool(weight.isfinite().all()) for weight in average.parameters())):
            if num_epochs is None and progress.best_epoch:
                logger.warning("after epoch %d loss or weights are not finite: training ends, with the best of before", epoch)
                break
            raise StageError(
                f"Training diverged: after epoch {epoch} loss or weights are not finite. Lower "
                "train_recommender.learning_rate, or set train_recommender.precision to float32 where it is bfloat16."
            )
        if num_epochs is not None:
            progress.best_epoch = epoch
        else:
            progress.validation_ndcg.append(float(ndcg(validation_ranks(average, data, processes), 10).mean()))
            if progress.validation_ndcg[-1] > max(progress.validation_ndcg[:-1], default=-1.0):
                progress.best_epoch, best = epoch, copy_weights(average)
        if processes.is_first:
            log_epoch(progress)
            save_checkpoint(checkpoint, progress, model, averaged, best, optimizer)
    model.load_state_dict(best if num_epochs is None else average.state_dict())
    set_average_state(model.eval(), data.sequences, seed)
    return Fit(model, progress)


@torch.inference_mode()
def set_average_state(model: TrainableRecommender, sequences: Sequence[NDArray[np.int64]], seed: int) -> None:
    """What a list is made from for somebody without a history: the mean over some thousand people who have one."""
    known = [sequence for sequence in sequences if sequence.any()]
    few = np.random.default_rng(seed).permutation(len(known))[:USERS_IN_AVERAGE].tolist()
    model.average_state.copy_(encode_histories(model, [known[row] for row in few]).mean(dim=0))


def progress_of_epoch(epoch: int, num_batches: int, processes: ProcessGroup) -> Advance:
    """Tells now and then how far an epoch has come, where it takes long; its end has a line of its own."""
    if not processes.is_first:
        return lambda _: None
    return lines(f"in epoch {epoch}", num_batches, "batches", tells_end=False)


def windows_of_epoch(
    sequences: Sequence[NDArray[np.int64]], settings: TrainRecommenderSection, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """What one epoch shows: every item but the oldest of each history as a target, once.

    Where cuts are shifted, an item of a long history is seen after other stretches of it in every epoch.
    """
    longest = settings.max_history_items
    shifts = rng.integers(0, longest, len(sequences)) if settings.shift_windows else np.zeros(len(sequences), np.int64)
    return [
        window
        for sequence, shift in zip(sequences, shifts.tolist(), strict=True)
        for window in cut_windows(sequence, longest, shift if len(sequence) > longest + 1 else 0)
    ]


def compiled(states: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The same by torch.compile, whose failures name the setting that asks for it.

    Raises:
        ConfigError: on the first call, where it cannot be compiled here.
    """
    from torch._dynamo.exc import TorchDynamoException  # a second of imports, for who compiles

    whole = torch.compile(states, dynamic=True)

    def call(inputs: Tensor) -> Tensor:
        try:
            return whole(inputs)
        except TorchDynamoException as error:
            raise ConfigError(
                f"train_recommender.is_compiled is true, and torch.compile failed ({type(error).__name__}). It needs a C++ "
                "compiler, g++ or what CXX in the environment names. Install one, or set it to false."
            ) from error

    return call


class TrainingStep(nn.Module):
    """From a batch to its loss in one forward pass, which is what DistributedDataParallel can wrap."""

    def __init__(self, model: TrainableRecommender, loss: Loss, settings: TrainRecommenderSection) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.states = compiled(model.states) if settings.is_compiled else model.states
        self.has_bfloat16 = settings.precision == "bfloat16"

    def forward(self, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        """Two int64 [B, L] -> mean loss over the positions that have a target."""
        is_target = targets != PADDING_IDX
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.has_bfloat16):
            states = self.states(inputs)[is_target]  # [P, D]
        # Losses stay in float32: their sums run over the whole catalogue.
        return self.loss(states.float(), self.model.item_vectors(), targets[is_target], generator)


def moving_average(model: TrainableRecommender, num_steps: float) -> AveragedModel:
    """Exponential moving average of the weights over about the last `num_steps` steps; the weights themselves below 1.

    It ranks like weights trained at a much smaller learning rate, and gets there at the pace of the large one.
    """
    averages = get_ema_multi_avg_fn(1.0 - 1.0 / max(1.0, num_steps))  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=averages)


def share_of_batch(
    rows: NDArray[np.int64], lengths: NDArray[np.int64], processes: ProcessGroup
) -> tuple[NDArray[np.int64], float]:
    """This process's rows, and the weight that makes the mean over processes the mean over the batch's positions."""
    mine = rows[processes.rank :: processes.size]
    if not len(mine):
        return rows[:1], 0.0  # every process has to take part in every step
    return mine, processes.size * float((lengths[mine] - 1).sum() / (lengths[rows] - 1).sum())


def epochs_left(progress: Progress, last: int, processes: ProcessGroup) -> Iterator[int]:
    """Epochs after those that are done, up to `last`, with a progress bar on a terminal."""
    is_quiet = not (processes.is_first and sys.stderr.isatty())
    num_done = len(progress.losses)
    yield from tqdm(
        range(num_done + 1, last + 1), desc="train_recommender", unit="epoch", total=last, initial=num_done, disable=is_quiet
    )


def log_epoch(progress: Progress) -> None:
    measured = f", validation NDCG@10 {progress.validation_ndcg[-1]:.4f}" if progress.validation_ndcg else ""
    logger.info("epoch %d: loss %.4f%s", len(progress.losses), progress.losses[-1], measured)


def mean_over(processes: ProcessGroup, value: float) -> float:
    return float(np.mean(processes.gather(value)))


def copy_weights(model: TrainableRecommender) -> Weights:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def validation_ranks(model: TrainableRecommender, data: TrainingData, processes: ProcessGroup) -> Ranks:
    """Rank of every validation target; each process ranks its share of the users, and all of them get all ranks."""
    model.eval()
    mine = slice(processes.rank, None, processes.size)
    ranks = rank_targets(model, data.validation_inputs[mine], data.validation_targets[mine])
    everybody = np.empty(len(data.validation_targets), np.int64)
    for rank, of_process in enumerate(processes.gather(ranks)):
        everybody[rank :: processes.size] = of_process
    return everybody


def validation_metrics(twin: Fit, data: TrainingData) -> dict[str, float]:
    """What the manifest records, NDCG with its 95 % interval over users; popularity is ranked in the same way, by the same."""
    if not len(data.validation_targets):
        logger.warning("Nobody has a validation item: validation figures are 0, and nothing was measured")
    ranks = rank_targets(twin.model, data.validation_inputs, data.validation_targets)
    popular = Popularity(data.item_ids, TrainRecommenderSection())
    popular.fit_counts(data.sequences)
    popular_ranks = rank_targets(popular, data.validation_inputs, data.validation_targets)
    return {
        **_with_interval("validation_ndcg_at_10", ndcg(ranks, 10)),
        "validation_hr_at_10": mean(hits(ranks, 10)),
        "popularity_ndcg_at_10": mean(ndcg(popular_ranks, 10)),
        "best_epoch": float(twin.progress.best_epoch),
    }


def _with_interval(name: str, values: NDArray[np.float64]) -> dict[str, float]:
    """The mean over users and its 95 % interval, by the normal approximation: to draw ten million people again a thousand times
    would take longer than the training."""
    if not len(values):
        return {name: 0.0}
    reach = 1.96 * float(values.std()) / math.sqrt(len(values))
    return {name: mean(values), f"{name}_low": max(0.0, mean(values) - reach), f"{name}_high": mean(values) + reach}


def publish(folder: Path, fitted: Fit, data: TrainingData, manifest: Manifest) -> None:
    """Write the artifact's files and its learning curve into a folder that is not public yet."""
    write_recommender(folder, fitted.model, manifest)
    if not fitted.progress.losses:
        return
    figure = learning_curve(fitted.progress, f"Training of the recommender, split {manifest.split}")
    figure.savefig(folder / LEARNING_CURVE, dpi=120)


def learning_curve(progress: Progress, title: str) -> Figure:
    """Loss and validation NDCG@10 by epoch. Each axis has the colour of its curve: they share nothing but the epochs."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    loss_axis = figure.subplots()
    curves = loss_axis.plot(range(1, len(progress.losses) + 1), progress.losses, color=ONE, label="training loss")
    loss_axis.set(xlabel="epoch", title=title)
    loss_axis.set_ylabel("training loss (nats)", color=ONE)
    loss_axis.tick_params(axis="y", labelcolor=ONE)
    loss_axis.xaxis.set_major_locator(whole_numbers())
    if progress.validation_ndcg:
        ndcg_axis = loss_axis.twinx()
        epochs = range(1, len(progress.validation_ndcg) + 1)
        curves += ndcg_axis.plot(epochs, progress.validation_ndcg, color=TWO, label="validation NDCG@10")
        best = f"best epoch: {progress.best_epoch}"
        curves.append(ndcg_axis.axvline(progress.best_epoch, color=SOFT, linestyle="--", label=best))
        ndcg_axis.set_ylabel("validation NDCG@10", color=TWO)
        ndcg_axis.tick_params(axis="y", labelcolor=TWO)
    figure.legend(handles=curves, loc="outside lower center", ncols=len(curves), frameon=False, fontsize=9)
    return figure


def manifest_of(config: Config, cuts: Cuts, artifact_id: str, data: TrainingData, metrics: dict[str, float]) -> Manifest:
    return Manifest(
        kind=KIND,
        artifact_id=artifact_id,
        split=cuts.name,
        settings=config.train_recommender.model_dump(),
        trained_on={
            "run_date": config.run.run_date or "",
            "num_interactions": sum(map(len, data.sequences)),
            "num_users": sum(len(sequence) > 0 for sequence in data.sequences),
            "content_hash": data.content_hash(),
            **cuts.boundaries,
        },
        metrics=metrics,
    )


def content_hash(inputs: Inputs, config: Config, num_processes: int) -> str:
    """Names an artifact by everything it is made from, but for WHEN_TO_TRAIN: a training that is given more time goes on."""
    dataset, cuts = inputs.dataset, inputs.held_out_cuts
    made_from = hashlib.sha256()
    made_from.update(cuts.training_end.tobytes() + cuts.validation_at.tobytes())
    made_from.update(json.dumps([dataset.catalogue.item_ids, dataset.histories.user_ids]).encode())
    made_from.update(dataset.histories.item_codes.tobytes() + dataset.histories.offsets.tobytes())
    settings = config.train_recommender.model_dump(exclude=set(WHEN_TO_TRAIN[JOB]))
    # Whoever calls torchrun may have another number than the configuration says.
    settings["num_processes"] = num_processes
    made_from.update(json.dumps([settings, inputs.split, config.run.seed]).encode())
    return made_from.hexdigest()[:16]


def mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0


if __name__ == "__main__":
    sys.exit(main())
