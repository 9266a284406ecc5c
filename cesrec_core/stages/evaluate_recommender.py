"""Offline evaluation of one recommender artifact on a dataset folder, without Spark, Ray or a warehouse."""

import argparse
import dataclasses
import logging
from pathlib import Path
from typing import Any

import torch

from cesrec_core.artifacts import MANIFEST
from cesrec_core.config import Config
from cesrec_core.datasets import read_dataset
from cesrec_core.errors import ArtifactError, ConfigError
from cesrec_core.evaluation.recommenders import (
    ENTROPY,
    Group,
    HeldOutUsers,
    Measured,
    as_text,
    by_group,
    compare,
    coverage,
    held_out_users,
    measure,
    novelty,
    overall,
    unreachable,
)
from cesrec_core.job_parser import local_path
from cesrec_core.progress import progress
from cesrec_core.recommenders.artifact import load_recommender
from cesrec_core.sequences import Moment

log = logging.getLogger(__name__)


def _questions(users: HeldOutUsers) -> tuple[list[str], list[str], list[int]]:
    """What is asked of a recommender: whom, for which item, after how many."""
    return users.user_ids, users.target_ids, users.inputs.offsets.tolist()


def _values(group: Group | None) -> dict[str, float]:
    """One quartile as JSON."""
    if group is None:
        return {"num_users": 0}
    borders = {"lowest": group.lowest, "highest": group.highest}
    return {"num_users": group.num_users, **borders, **dataclasses.asdict(group.ndcg)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset", metavar="FOLDER", type=local_path, help="folder with interactions.parquet and items.parquet"
    )
    parser.add_argument(
        "--artifact", metavar="FOLDER", type=local_path, help="folder of a recommender artifact, or of its held_out_twin"
    )
    parser.add_argument("--against", metavar="FOLDER", type=local_path, help="another recommender artifact, for a paired test")
    parser.add_argument("--moment", choices=("validation", "test"), help="which items (default: test)")


def evaluates_recommender(parser: argparse.ArgumentParser, options: argparse.Namespace) -> bool:
    """Whether the command line asks for a single recommender; ends the program where it asks for half of it."""
    if (options.dataset is None) != (options.artifact is None) or (options.against and not options.artifact):
        parser.error("--dataset and --artifact go together, and --against needs both")
    if options.artifact is None and options.moment is not None:
        parser.error("--moment is of a single recommender: give --dataset and --artifact with it")
    return options.artifact is not None


def run_recommender_evaluation(config: Config, options: argparse.Namespace) -> dict[str, Any]:
    """Print the figures of an artifact, and of its difference to another, and return them.

    Raises:
        ConfigError: a folder that the command line names holds no finished recommender, or one that saw its targets, was
            trained on other data or has diverged; or the two were not trained by the same split.
    """
    artifact: Path = options.artifact
    against: Path | None = options.against
    named = [(option, folder) for option, folder in (("--artifact", artifact), ("--against", against)) if folder is not None]
    for option, folder in named:
        if not (folder / MANIFEST).is_file():
            found = f"holds no finished artifact: {MANIFEST} is missing" if folder.is_dir() else "is no folder"
            raise ConfigError(f"{option} {folder} {found}. Name one that training/train_recommender.py wrote.")
    moment: Moment = options.moment or "test"
    dataset = read_dataset(options.dataset)
    section, seed = config.evaluate, config.run.seed

    # Both before the first is measured, which may take minutes.
    loaded = {}
    for option, folder in named:
        try:
            loaded[folder] = load_recommender(folder)
        except ArtifactError as error:
            raise ConfigError(f"{option}: {error}") from None

    def measured(option: str, folder: Path) -> tuple[str, HeldOutUsers, Measured]:
        model, manifest = loaded[folder]
        try:
            users = held_out_users(dataset, manifest, model.item_ids, moment)
            model = model.to("cuda" if torch.cuda.is_available() else "cpu")
            with progress(f"evaluate {folder.name}", len(users.user_ids), "users") as advance:
                return manifest.split, users, measure(model, users, section.num_negatives, seed, advance)
        except ArtifactError as error:
            # No artifact of another try: what the command line names does not fit.
            raise ConfigError(f"{option}: {error}") from None

    split, users, of_artifact = measured("--artifact", artifact)
    tests = {}
    if against is not None:
        other_split, other_users, of_other = measured("--against", against)
        if _questions(other_users) != _questions(users):
            raise ConfigError(
                f"{artifact} ({split}) and {against} ({other_split}) are tested on other users or items and cannot be paired. "
                "Train both with one split."
            )
        if other_split != split:
            log.warning("One is of split %s, the other of %s: they were not trained on the same items", split, other_split)
        tests = compare(of_artifact, of_other, section.num_bootstrap_samples, seed)
    figures = overall(of_artifact, section.num_bootstrap_samples, seed)
    of_lists = {
        "coverage@10": coverage(of_artifact.lists, len(dataset.catalogue)),
        "novelty@10, bits": novelty(of_artifact.lists, users.num_users_of, users.num_training_users),
        "targets out of reach, share": unreachable(of_artifact.full),
        "negatives of a user, sampled": of_artifact.num_negatives,
    }
    groups = by_group(of_artifact, users, section.num_bootstrap_samples, seed)
    title = f"{artifact}: {moment} items of {len(users.user_ids)} users ({split}), full ranking, seen items filtered"
    print(as_text(title, figures, of_lists, groups, tests, str(against or "")) + "\n", flush=True)
    if ENTROPY not in groups:
        log.warning("%s: items have no attributes, so that nobody's entropy of taste is known", options.dataset)
    return {
        "status": "done",
        "artifact": str(artifact),
        "split": split,
        "moment": moment,
        "num_users": len(users.user_ids),
        "metrics": {name: dataclasses.asdict(interval) for name, interval in figures.items()} | of_lists,
        "groups": {name: list(map(_values, of_groups)) for name, of_groups in groups.items()},
        "against": None if against is None else str(against),
        "tests": {name: dataclasses.asdict(test) for name, test in tests.items()},
    }
