"""Where a language model is read from: a folder, a GGUF file, or a repository of the Hugging Face hub at one commit."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from cesrec_core.errors import ConfigError

GGUF_MAGIC = b"GGUF"
# What transformers reads; repositories hold the same weights in other formats, too.
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
WHOLE_WEIGHTS, SHARD_INDEX = "model.safetensors", "model.safetensors.index.json"
TOKENIZER_FILES = ("tokenizer*", "vocab*", "merges.txt", "*.model", "special_tokens_map.json", "added_tokens.json")
# Files up to this size are hashed whole. Of larger ones a piece of every few MiB is: reading 16 GB at every start of every
# worker would take longer than the work, and a training that changes a model changes every part of some tensor.
BYTES_HASHED_WHOLE = 1 << 30
BYTES_PER_PIECE = 1 << 16
BYTES_BETWEEN_PIECES = 1 << 22
# A run asks several times what its models are. To hash so much takes longer than a file system's clock needs to tick: whoever
# changes a file after that gives it another time, which may not hold of a small one.
MIN_BYTES_REMEMBERED = 1 << 26
_NUM_REMEMBERED = 16
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class ModelSource:
    """A model on this machine's disk.

    Attributes:
        name: of the model, for people.
        folder: with configuration, tokenizer and weights; or with the GGUF file that holds all three.
        gguf_file: name of that file, or None.
    """

    name: str
    folder: Path
    gguf_file: str | None = None

    @property
    def loading(self) -> dict[str, Any]:
        """Arguments for `from_pretrained` of transformers, besides the folder."""
        return {} if self.gguf_file is None else {"gguf_file": self.gguf_file}

    def identity(self) -> str:
        """A short hash that changes with configuration, tokenizer or weights; of large weights see `update_by_weights`.

        A process hashes large files once, as long as they keep size and time of change.
        """
        stats = [(str(file.absolute()), file.stat()) for file in self._files()]
        if sum(stat.st_size for _, stat in stats) < MIN_BYTES_REMEMBERED:
            return _identity(self)
        return _remembered_identity(self, tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in stats))

    def _files(self) -> list[Path]:
        """All that `_identity` reads."""
        if self.gguf_file is not None:
            return [self.folder / self.gguf_file]
        return [self.folder / "config.json", *_tokenizer_files(self.folder), *_weight_files(self.folder)]


def _identity(source: ModelSource) -> str:
    digest = hashlib.sha256()
    if source.gguf_file is not None:
        update_by_weights(digest, [source.folder / source.gguf_file])
        return digest.hexdigest()[:12]
    digest.update((source.folder / "config.json").read_bytes())
    update_by_tokenizer(digest, source.folder)
    update_by_weights(digest, _weight_files(source.folder))
    return digest.hexdigest()[:12]


@lru_cache(_NUM_REMEMBERED)
def _remembered_identity(source: ModelSource, files: tuple[tuple[str, int, int], ...]) -> str:
    """Of files that are known by path, bytes and nanoseconds of their last change."""
    return _identity(source)


def _weight_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _tokenizer_files(folder: Path) -> list[Path]:
    return sorted({file for pattern in TOKENIZER_FILES for file in folder.glob(pattern) if file.is_file()})


def update_by_tokenizer(digest: "hashlib._Hash", folder: Path) -> None:
    """Add names and bytes of the files that a tokenizer is read from."""
    for file in _tokenizer_files(folder):
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
        digest.update(file.read_bytes())


def update_by_weights(digest: "hashlib._Hash", files: Sequence[Path]) -> None:
    """Add name, size and bytes of each file: all of them up to 1 GiB, 64 KiB of every 4 MiB of larger files, and their end."""
    for path in files:
        size = path.stat().st_size
        is_whole = size <= BYTES_HASHED_WHOLE
        length, step = (BYTES_BETWEEN_PIECES,) * 2 if is_whole else (BYTES_PER_PIECE, BYTES_BETWEEN_PIECES)
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            for start in [*range(0, size, step), max(0, size - length)]:
                file.seek(start)
                digest.update(file.read(length))


def locate_model(path: str, revision: str | None, setting: str) -> ModelSource:
    """Find a model, and fetch it from the hub where that is what is named and it is not in the local cache.

    Args:
        path: a folder, a file that ends in .gguf, or a hub id (`organisation/name`).
        revision: commit of the hub's repository, 40 hex digits; nothing else is asked of the hub.
        setting: name of the setting that holds the path, for messages.

    Raises:
        ConfigError: there is no such model, it is incomplete, or the hub does not give it.
    """
    if not path:
        raise ConfigError(f"{setting} is not set. Give a model folder, a .gguf file, or organisation/name of the hub.")
    place = Path(path)
    if path.endswith(".gguf"):
        _check_gguf(place, setting)
        return ModelSource(place.stem, place.parent, place.name)
    if not place.exists() and _HUB_ID.fullmatch(path):
        return ModelSource(path.split("/")[1], _from_hub(path, revision, setting))
    check_model_folder(place, setting)
    return ModelSource(place.absolute().name, place)


def check_model_folder(folder: Path, setting: str) -> None:
    """Refuse a folder that transformers could not load offline.

    Raises:
        ConfigError: the folder is missing, or lacks its configuration, tokenizer or weights.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"{setting} names {str(folder)!r}, which is no folder. Give a model folder, or run `make setup` for the demo's."
        )
    missing = _missing_from(folder)
    if missing is not None:
        raise ConfigError(f"{setting} names {str(folder)!r}, which holds no {missing}. Give a complete model folder.")


def _missing_from(folder: Path) -> str | None:
    wanted = {"configuration": "config.json", "tokenizer": "tokenizer*.json", "weights": "*.safetensors"}
    missing = (f"{what} ({pattern})" for what, pattern in wanted.items() if not any(folder.glob(pattern)))
    return next(missing, None) or _missing_shard_of(folder) or _damaged_in(folder)


def _damaged_in(folder: Path) -> str | None:
    """What a download or a copy that was interrupted has left a part of."""
    try:
        json.loads((folder / "config.json").read_bytes())
    except ValueError:
        return "configuration that can be read (config.json)"
    damaged = [file.name for file in _weight_files(folder) if not _is_whole(file)]
    return f"whole {damaged[0]}: it is damaged, or a part of the file" if damaged else None


def _is_whole(file: Path) -> bool:
    """Whether a file of safetensors is as long as its header says: length of the header (8 bytes), header, tensors."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        size = file.stat().st_size
        if length > size - 8:
            return False
        try:
            tensors = json.loads(opened.read(length))
            ends = [tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__"]
            return size == 8 + length + max(ends, default=0)
        except (ValueError, LookupError, TypeError, AttributeError):
            return False


def _missing_shard_of(folder: Path) -> str | None:
    """Of weights in several files: one that is not there, as after a download or a copy that was interrupted."""
    # Read by transformers before any shard.
    if (folder / WHOLE_WEIGHTS).is_file():
        return None
    index = folder / SHARD_INDEX
    if not index.is_file():
        return f"index of its shards ({SHARD_INDEX})" if any(folder.glob("model-*-of-*.safetensors")) else None
    try:
        names = sorted({str(name) for name in json.loads(index.read_bytes())["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"index of its shards that can be read ({SHARD_INDEX})"
    lacking = [name for name in names if not (folder / name).is_file()]
    return f"{lacking[0]} ({len(lacking)} of {len(names)} files that {SHARD_INDEX} names are missing)" if lacking else None


def _check_gguf(file: Path, setting: str) -> None:
    if not file.is_file():
        raise ConfigError(f"{setting} names {str(file)!r}, and there is no such file.")
    with file.open("rb") as opened:
        if opened.read(len(GGUF_MAGIC)) != GGUF_MAGIC:
            raise ConfigError(f"{setting} names {str(file)!r}, which is not a GGUF file: it begins with other bytes.")


def _from_hub(hub_id: str, revision: str | None, setting: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    section = setting.rsplit(".", 1)[0]
    if revision is None or not _COMMIT.fullmatch(revision):
        raise ConfigError(
            f"{setting} names {hub_id!r}, which is no folder here; to take it from the hub, set {section}.revision to the "
            f"commit to use (40 hex digits, on the page of its files). It is {revision!r}, and a branch may move overnight."
        )
    try:
        folder = Path(snapshot_download(hub_id, revision=revision, allow_patterns=HUB_FILES, local_files_only=True))
        if _missing_from(folder) is None:
            return folder
    except LocalEntryNotFoundError:
        pass
    try:
        folder = Path(snapshot_download(hub_id, revision=revision, allow_patterns=HUB_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ConfigError(
            f"{setting} names {hub_id!r}, and the hub does not give it at {revision} ({type(error).__name__}). Check the name, "
            "the commit, HF_TOKEN and HF_HUB_OFFLINE; or fetch it where there is a network and give the folder."
        ) from None
    check_model_folder(folder, setting)
    return folder
