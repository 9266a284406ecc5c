"""The command line that all training commands share: options, logs, exit codes, and the JSON object on the last line."""

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from cesrec_core.artifacts import check_replaceable
from cesrec_core.config import Config, load_config
from cesrec_core.errors import ConfigError, Stopped
from cesrec_core.job_parser import DEFAULT_CONFIG, JobParser, end_in_json, local_path


@dataclass(frozen=True)
class Trained:
    """What a training command tells of its artifact when that is there."""

    artifact_id: str
    metrics: Mapping[str, float]


def training_parser(description: str, made_from: str, has_parents: bool = False) -> JobParser:
    """The options of every training command.

    Args:
        made_from: what the id of an artifact is a hash of, where none is given.
        has_parents: whether it is built on other artifacts, whose ids its manifest keeps.
    """
    parser = JobParser(description=description, allow_abbrev=False)
    parser.add_argument("--out", type=local_path, required=True, help="folder of the artifact; replaced when training succeeds")
    parser.add_argument("--config", metavar="FILE", default=DEFAULT_CONFIG, help="YAML configuration (default: %(default)s)")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="section.key=value", help="override one value"
    )
    parser.add_argument("--artifact-id", help=f"default: a hash of {made_from}")
    if has_parents:
        parser.add_argument(
            "--parent", dest="parents", action="append", default=[], metavar="kind=id", help="such as recommender=ID"
        )
    return parser


def _parents_of(pairs: Sequence[str]) -> dict[str, str]:
    """Ids by kind, from what `--parent` was given.

    Raises:
        ConfigError: one is not of the form kind=id.
    """
    parents = {}
    for pair in pairs:
        kind, equals, artifact_id = pair.partition("=")
        if not (kind and equals and artifact_id):
            raise ConfigError(f"--parent {pair!r} is not of the form kind=id, such as recommender=3f2a.")
        parents[kind] = artifact_id
    return parents


@contextmanager
def _stopping_in_order() -> Iterator[None]:
    """Turn SIGTERM into `Stopped` for a training in one process. Of several, torchrun ends each: they may be waiting for one
    another, and hear nothing."""
    if "RANK" in os.environ or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Stopped("Give the same command again: it goes on from its last checkpoint.")

    def end(lost: "sys.UnraisableHookArgs") -> None:
        """Python ignores what is raised while an object is done away with: then as if nobody had listened."""
        if isinstance(lost.exc_value, Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
        hook(lost)

    before, hook = signal.signal(signal.SIGTERM, stop), sys.unraisablehook
    sys.unraisablehook = end
    try:
        yield
    finally:
        sys.unraisablehook = hook
        # None is a handler that Python did not put there and cannot put back.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def run_training_command(job: str, options: argparse.Namespace, train: Callable[[Config], Trained]) -> int:
    """Train, print the summary as the last line, and return the exit code; of several processes the first alone prints.

    Args:
        options: as `training_parser` parses them; `out` is made absolute, and `parents` become ids by kind.
        train: given the configuration; called when it is known that the artifact can be put where it belongs.
    """
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    started = time.monotonic()

    def work() -> dict[str, Any]:
        config = load_config(options.config, options.overrides)
        options.out = options.out.resolve()
        if "parents" in options:
            options.parents = _parents_of(options.parents)
        check_replaceable(options.out)
        with _stopping_in_order():
            trained = train(config)
        return {
            "status": "done",
            "artifact_id": trained.artifact_id,
            "out": str(options.out),
            "metrics": dict(trained.metrics),
            "seconds": round(time.monotonic() - started, 1),
        }

    return end_in_json(job, work, is_heard=os.environ.get("RANK", "0") == "0")
