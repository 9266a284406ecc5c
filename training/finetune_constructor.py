"""Fine-tune the Constructor: LoRA on a language model that rewrites histories to fit what people said.

    python training/finetune_constructor.py --dataset FOLDER --item-features FILE.safetensors --out FOLDER [--pairs FOLDER]
        [--config conf/local.yaml] [--set section.key=value ...] [--artifact-id ID] [--parent kind=id ...]

FOLDER holds interactions.parquet and items.parquet; with --pairs, which the nightly job has Spark draw, its items.parquet is
enough. FILE holds `semantic` [N, E] and `collaborative` [N, D] in the order of the items sorted by item_id.
`finetune_constructor.num_processes` above 1 starts that many through torchrun; on several nodes, start torchrun with this file
on each. Pairs that were drawn beforehand keep a GPU busier. A training that was interrupted goes on when the same command is
given again: checkpoints lie in OUT.checkpoint, on storage that all nodes share.
Progress goes to standard error; the last line of standard output is one JSON object.
"""

import os

# OpenMP threads that spin while they wait make a step six times slower as soon as anything else wants the same cores. Both
# are read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import argparse
import dataclasses
import hashlib
import json
import logging
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file
from tqdm import tqdm

from cesrec_core.artifacts import Manifest, publishing
from cesrec_core.config import WHEN_TO_TRAIN, Config, FinetuneConstructorSection
from cesrec_core.constructor.artifact import KIND, base_identity, load_constructor, save_constructor
from cesrec_core.constructor.checkpoint import Progress, load_checkpoint, remove_checkpoint, save_checkpoint
from cesrec_core.constructor.layout import PADDING
from cesrec_core.constructor.model import ConstructorSettings, ItemConstructor, ItemFeatures
from cesrec_core.constructor.pair_files import StoredPairs
from cesrec_core.constructor.pairs import HISTORIES_NEEDED, MIN_ITEMS_TO_VALIDATE, PairSettings, PairSource, most_validating
from cesrec_core.constructor.training import BatchStream
from cesrec_core.constructor.validation import ValidationSet, measure, validation_set
from cesrec_core.datasets import Catalogue, Dataset, read_catalogue, read_dataset
from cesrec_core.errors import ConfigError, InputDataError, StageError
from cesrec_core.hashing import content_hash, short_hash
from cesrec_core.job_parser import local_path
from cesrec_core.locks import checkpoint_folder, release_training_lock, take_training_lock
from cesrec_core.processes import end_as_torchrun, share_cores
from cesrec_core.report.ticks import whole_numbers
from cesrec_core.sequences import Moment, input_and_target, training_part
from cesrec_core.shipped import find_file
from cesrec_core.training_command import Trained, run_training_command, training_parser

JOB = "finetune_constructor"
log = logging.getLogger(JOB)

# Of the two parts of the loss, deciding matters and copying is checked by the validator anyway.
COPYING_WEIGHT = 0.1
# The learning rate falls linearly to this share of its peak.
FINAL_RATE_SHARE = 0.05
STEPS_PER_LOG_LINE = 20


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    options = parse_arguments(argv)
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]

    def work(config: Config) -> Trained:
        # By one process, in its own words.
        if "RANK" not in os.environ:
            take_training_lock(checkpoint_folder(options.out)).close()
            if config.finetune_constructor.num_processes > 1:
                end_as_torchrun(__file__, config.finetune_constructor.num_processes, argv)
        return train(config, options)

    code = run_training_command(JOB, options, work)
    if code == 0:
        # NCCL warns of a group that its process leaves behind.
        torch.distributed.destroy_process_group()
    return code


def train(config: Config, options: argparse.Namespace) -> Trained:
    """Train, save, load again and validate what was saved. Metrics are known on rank 0 alone."""
    section = config.finetune_constructor
    base_folder = Path(section.model_path)
    lessons = read_lessons(config, options)
    items = lessons.items

    engine = start_deepspeed(section, base_folder, items, config.run.seed)
    rank = torch.distributed.get_rank()
    checkpoint = checkpoint_folder(options.out)
    lock = take_training_lock(checkpoint) if rank == 0 else None
    # Every process draws its own pairs.
    rng = np.random.default_rng([config.run.seed, rank])
    batches = BatchStream(lessons.source, engine.module.prompt, section.batch_size, rng)
    progress = Progress(made_from(config, base_folder, lessons))
    if (resumed := load_checkpoint(checkpoint, engine, progress.made_from)) is not None:
        progress = resumed
        batches.go_to(progress.position)
        log.info("going on after step %d", len(progress.losses))
    losses = progress.losses
    artifact_id = options.artifact_id or progress.made_from
    engine.train()
    is_quiet = rank > 0 or not sys.stderr.isatty()
    bar = tqdm(
        range(len(losses), section.num_steps), "finetune_constructor", section.num_steps, initial=len(losses), disable=is_quiet
    )
    num_slots, began = 0, time.monotonic()
    for step in bar:
        batch = batches.next().to(engine.device)
        num_slots += int((batch.slots.kinds != PADDING).sum())
        losses_per_place = engine(batch)  # [P]
        deciding = losses_per_place[batch.is_masked_place].mean()
        copying = losses_per_place[~batch.is_masked_place].mean()
        engine.backward(deciding + COPYING_WEIGHT * copying)
        engine.step()
        losses.append((deciding.item(), copying.item()))
        if not np.isfinite(losses[-1]).all():
            raise StageError(
                f"Training diverged: the loss of step {step + 1} is not finite. Lower finetune_constructor.learning_rate and "
                ".projection_learning_rate."
            )
        report(bar, step, losses, num_slots / (time.monotonic() - began))
        # After the last step, too: what follows takes minutes, and may be interrupted as well.
        if (step + 1) % section.checkpoint_every_steps == 0 or step + 1 == section.num_steps:
            progress.position = batches.position()
            save_checkpoint(checkpoint, engine, progress)

    trained = gathered(engine)
    if rank > 0:
        return Trained(artifact_id, {})
    metrics = loss_metrics(losses)
    manifest = Manifest(
        kind=KIND,
        artifact_id=artifact_id,
        split=config.dataset.split,
        parents=options.parents,
        settings={"finetune_constructor": section.model_dump(mode="json", exclude={"model_path", "deepspeed_config"})},
        trained_on=lessons.trained_on,
        metrics=metrics,
    )
    with publishing(options.out) as scratch:
        # ZeRO-3 left `engine.module` without its weights; a fresh one has the right shapes and buffers.
        fresh = ItemConstructor.build(base_folder, engine.module.settings, items)
        save_constructor(scratch, fresh, base_folder, manifest, trained)
        saved = load_constructor(scratch, base_folder, items)
        metrics |= validated(saved, engine.device, lessons.examples, section.batch_size, config.run.seed)
        save_constructor(scratch, fresh, base_folder, dataclasses.replace(manifest, metrics=metrics), trained)
        np.savetxt(scratch / "losses.csv", losses, fmt="%.6f", delimiter=",", header="deciding,copying", comments="")
        plot_losses(losses, scratch / "losses.png")
    if lock is not None:
        remove_checkpoint(checkpoint)
        release_training_lock(checkpoint, lock)
    # Of this process since it began, so nothing that the artifact could tell.
    return Trained(artifact_id, {**metrics, "model_tokens": float(num_slots)})


@dataclasses.dataclass(frozen=True, eq=False)
class Lessons:
    """What is learned from.

    Attributes:
        source: of training pairs.
        trained_on: what of it the manifest tells.
        digest: hash of the histories or pairs behind it.
    """

    items: ItemFeatures
    source: PairSource | StoredPairs
    examples: ValidationSet
    trained_on: dict[str, int]
    digest: str


def read_lessons(config: Config, options: argparse.Namespace) -> Lessons:
    """Pairs that were drawn beforehand, or histories to draw them from."""
    if options.pairs is not None:
        catalogue = read_catalogue(options.dataset)
        pairs = StoredPairs(options.pairs, len(catalogue))
        items = read_item_features(options.item_features, catalogue)
        return Lessons(items, pairs, pairs.validation, {"num_pairs": len(pairs)}, content_hash(options.pairs))
    dataset = read_dataset(options.dataset)
    items = read_item_features(options.item_features, dataset.catalogue)
    source, examples = training_and_validation(config, dataset, items)
    trained_on = {"num_users": len(source.histories), "num_interactions": int(sum(map(len, source.histories)))}
    digest = hashlib.sha256()
    for array in (dataset.histories.item_codes, dataset.histories.offsets):
        digest.update(np.ascontiguousarray(array).tobytes())
    return Lessons(items, source, examples, trained_on, digest.hexdigest())


# Where a model lies is no part of it; its identity is.
NOT_IN_NUMBERS = {"model_path", "checkpoint_every_steps", *WHEN_TO_TRAIN[JOB]}


def made_from(config: Config, base_folder: Path, lessons: Lessons) -> str:
    """Names a training by everything that decides its numbers, but for the hardware."""
    section, items = config.finetune_constructor, lessons.items
    digest = hashlib.sha256()
    for array in (items.semantic.numpy(), items.collaborative.numpy()):
        digest.update(np.ascontiguousarray(array).tobytes())
    values = [
        section.model_dump(mode="json", exclude=NOT_IN_NUMBERS),
        deepspeed_config(section),
        base_identity(base_folder),
        [config.run.seed, config.dataset.split, torch.distributed.get_world_size()],
        [list(items.titles), [list(attributes) for attributes in items.attributes], digest.hexdigest(), lessons.digest],
    ]
    return short_hash(values)


def training_and_validation(config: Config, dataset: Dataset, items: ItemFeatures) -> tuple[PairSource, ValidationSet]:
    """Pairs from training interactions, and validation users.

    With leave-one-out the validation users' training interactions are trained on and their validation items are asked for;
    without it the validation users are left out of training, and their last items are asked for.
    """
    section, split = config.finetune_constructor, config.dataset.split
    rng = np.random.default_rng([config.run.seed, 1_000_003])
    # Arrays, of which nothing is asked but slices and places.
    histories = cast("list[Sequence[int]]", [dataset.histories[user] for user in range(len(dataset.histories))])
    long_enough = [user for user, history in enumerate(histories) if len(history) >= MIN_ITEMS_TO_VALIDATE]
    most = most_validating(section.num_validation_users, len(histories), split)
    chosen = rng.permutation(long_enough)[:most].tolist()
    held_out = set(chosen) if split == "all" else set()
    training = [np.asarray(training_part(history, split)) for user, history in enumerate(histories) if user not in held_out]
    settings = PairSettings.of(section)
    source = PairSource.over(training, items.titles, items.attributes, items.collaborative.numpy(), settings)
    if not source.histories or not chosen:
        raise InputDataError(
            f"The Constructor has {len(source.histories)} users to learn from and {len(chosen)} to be validated with. "
            f"{HISTORIES_NEEDED}"
        )
    # Every validation pair has words that say something: what they are worth is the question.
    asking = dataclasses.replace(settings, vague_share=0.0)
    asking_source = PairSource.over(training, items.titles, items.attributes, items.collaborative.numpy(), asking)
    moment: Moment = "validation" if split == "leave_one_out" else "test"
    parts = [part for user in chosen if (part := input_and_target(histories[user], moment)) is not None]
    inputs, targets = [np.asarray(known) for known, _ in parts], [int(target) for _, target in parts]
    return source, validation_set(asking_source.drawer, inputs, targets, rng)


def start_deepspeed(section: FinetuneConstructorSection, base_folder: Path, items: ItemFeatures, seed: int) -> Any:
    """The engine around a new Constructor, with the JSON configuration completed from the section."""
    prepare_processes()
    ds_config = deepspeed_config(section)
    if section.dtype == "bfloat16" and not torch.cuda.is_available():
        raise ConfigError("finetune_constructor.dtype is bfloat16, which needs an accelerator. Set it to float32 here.")
    torch.manual_seed(seed)
    settings = ConstructorSettings(
        num_layers=section.num_layers,
        lora_rank=section.lora_rank,
        lora_alpha=section.lora_alpha,
        lora_dropout=section.lora_dropout,
        lora_targets=section.lora_targets if isinstance(section.lora_targets, str) else tuple(section.lora_targets),
        use_rslora=section.use_rslora,
        use_dora=section.use_dora,
        history_items=section.history_items,
        max_feedback_tokens=section.max_feedback_tokens,
        dtype=section.dtype,
    )
    model = ItemConstructor.build(base_folder, settings, items)
    if section.gradient_checkpointing:
        # Under ZeRO-3 weights are gathered when a layer runs again, which only the reentrant way allows.
        model.recompute_activations(use_reentrant=ds_config["zero_optimization"]["stage"] == 3)
    groups = [
        {"params": [p for name, p in model.trainable().items() if "lora_" in name], "lr": section.learning_rate},
        {"params": [p for name, p in model.trainable().items() if "lora_" not in name], "lr": section.projection_learning_rate},
    ]
    init_distributed()
    # After prepare_processes: DeepSpeed looks for its accelerator when it is imported.
    import deepspeed

    engine, _, _, _ = deepspeed.initialize(
        model=model,
        model_parameters=groups,
        config=ds_config,
        lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_share(step, section)),
    )
    return engine


def init_distributed() -> None:
    """Join the process group, and share the machine's cores fairly among its processes."""
    import deepspeed

    # DeepSpeed would compile a shared-memory reduction for the CPU at this point, which needs a C++ compiler where the job
    # runs. Marked incompatible, it is left out and gloo does the reductions, as on other platforms than Linux.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend=None if torch.cuda.is_available() else "gloo")
    share_cores()


def rate_share(step: int, section: FinetuneConstructorSection) -> float:
    """Share of the peak learning rate at a step: linear warm-up, then a linear fall."""
    warmup_steps = max(1, round(section.warmup_share * section.num_steps))
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return max(FINAL_RATE_SHARE, (section.num_steps - step) / max(1, section.num_steps - warmup_steps))


def deepspeed_config(section: FinetuneConstructorSection) -> dict[str, Any]:
    path = find_file(Path(section.deepspeed_config))
    if not path.is_file():
        raise ConfigError(f"There is no DeepSpeed configuration {path}. Set finetune_constructor.deepspeed_config to one.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # also of bytes that are no text
        raise ConfigError(f"{path} is not valid JSON: {error}. Correct it.") from None
    if not isinstance(config, dict):
        raise ConfigError(f"{path} holds a {type(config).__name__}; a DeepSpeed configuration is an object. Correct it.")
    optimizer = config.setdefault("optimizer", {"type": "AdamW", "params": {}})
    optimizer["params"]["lr"] = section.learning_rate
    return {**config, "train_micro_batch_size_per_gpu": section.batch_size, "gradient_accumulation_steps": 1}


def prepare_processes() -> None:
    """Environment of a distributed group of one, where torchrun has not made a larger one."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    if "RANK" in os.environ:
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    os.environ.update(alone, MASTER_PORT=str(port))


def gathered(engine: Any) -> dict[str, torch.Tensor]:
    """Trained tensors by name on the CPU. Under ZeRO-3 a collective: call it on every rank; complete on rank 0 only."""
    names = set(engine.module.trainable())
    if engine.zero_optimization_stage() < 3:
        return {name: parameter.detach().cpu() for name, parameter in engine.module.trainable().items()}
    state = engine._zero3_consolidated_16bit_state_dict(exclude_frozen_parameters=True) or {}
    return {name: tensor for name, tensor in state.items() if name in names}


def validated(
    model: ItemConstructor, device: torch.device, examples: ValidationSet, batch_size: int, seed: int
) -> dict[str, float]:
    """`measure` on the device that trained, or without it where the model does not fit beside what training left there."""
    try:
        return measure(model.to(device), examples, batch_size, seed)
    except torch.OutOfMemoryError:
        log.warning("validating on the CPU: the memory of %s is full", device)
        return measure(model.cpu(), examples, batch_size, seed)


def report(progress: Any, step: int, losses: list[tuple[float, float]], slots_per_second: float) -> None:
    """A progress bar on a terminal, plain lines elsewhere, the first and the last step among them. Slots are tokens and items,
    of this process, without padding."""
    if (step + 1) % STEPS_PER_LOG_LINE and step > 0 and step + 1 < progress.total:
        return
    deciding, copying = np.mean(losses[-STEPS_PER_LOG_LINE:], axis=0)
    if not sys.stderr.isatty() and torch.distributed.get_rank() == 0:
        text = "step %d of %d: loss of deciding %.3f, of copying %.3f nats; %.0f slots/s"
        log.info(text, step + 1, progress.total, deciding, copying, slots_per_second)
    progress.set_postfix(deciding=f"{deciding:.2f}", copying=f"{copying:.2f}")


def loss_metrics(losses: list[tuple[float, float]]) -> dict[str, float]:
    """Means over the first and the last tenth of the steps."""
    tenth = max(1, len(losses) // 10)
    first, last = np.mean(losses[:tenth], axis=0), np.mean(losses[-tenth:], axis=0)
    return {
        "loss_first": float(first[0]),
        "loss_last": float(last[0]),
        "copying_loss_first": float(first[1]),
        "copying_loss_last": float(last[1]),
    }


def plot_losses(losses: list[tuple[float, float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    window = min(STEPS_PER_LOG_LINE, len(losses))
    for part, name in enumerate(("masked places (deciding)", "other places (copying)")):
        smooth = np.convolve([loss[part] for loss in losses], np.ones(window) / window, mode="valid")
        axes.plot(np.arange(window, len(losses) + 1), smooth, label=name)
    axes.set(xlabel="step", ylabel=f"cross-entropy in nats, mean of {window} steps", title="Constructor fine-tuning")
    axes.xaxis.set_major_locator(whole_numbers())
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def read_item_features(path: Path, catalogue: Catalogue) -> ItemFeatures:
    if not path.is_file():
        raise InputDataError(f"There is no file of item features {path}. Write `semantic` and `collaborative` into it first.")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise InputDataError(f"{path} is not a complete safetensors file ({error}). Write it again.") from None
    for name in ("semantic", "collaborative"):
        if name not in tensors or tensors[name].ndim != 2 or len(tensors[name]) != len(catalogue):
            found = tuple(tensors[name].shape) if name in tensors else "nothing"
            raise InputDataError(
                f"{path}: `{name}` should have one row for each of the {len(catalogue)} items of items.parquet, sorted "
                f"by item_id; found {found}. Write it again from this catalogue."
            )
        if num_bad := int((~torch.isfinite(tensors[name])).any(1).sum()):
            raise InputDataError(
                f"{path}: `{name}` of {num_bad} items is not finite. Give items without such a vector zeros, or leave them out."
            )
    return ItemFeatures(catalogue.titles, catalogue.attributes, tensors["semantic"].float(), tensors["collaborative"].float())


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    made_from = "data, vectors, base model, settings and seed"
    parser = training_parser("Fine-tune the Constructor on training interactions.", made_from, has_parents=True)
    parser.add_argument("--dataset", type=local_path, required=True, help="folder with interactions.parquet and items.parquet")
    parser.add_argument("--pairs", type=local_path, help="folder of pairs (default: drawn from interactions.parquet)")
    parser.add_argument("--item-features", type=local_path, required=True, help="safetensors: `semantic`, `collaborative`")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
