import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import huggingface_hub
import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from tiny_llama import write_tiny_llama

from cesrec_core import language_models
from cesrec_core.config import UnderstandFeedbackSection, parse_config
from cesrec_core.constructor.artifact import base_identity
from cesrec_core.errors import ConfigError
from cesrec_core.extractor.identity import locate_extractor
from cesrec_core.feedback.listening import check_sentence_model, listener_id
from cesrec_core.feedback.vocabulary import CatalogueVocabulary
from cesrec_core.language_models import ModelSource, check_model_folder, locate_model

SETTING = "embed_items.model_path"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
NO_WORDS = CatalogueVocabulary.from_items([], [], [])


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("config.json", r"holds no configuration \(config\.json\)"),
        ("tokenizer*.json", r"holds no tokenizer \(tokenizer\*\.json\)"),
        ("*.safetensors", r"holds no weights \(\*\.safetensors\)"),
    ],
)
def test_an_incomplete_model_folder(pattern: str, message: str, tmp_path: Path) -> None:
    write_tiny_llama(tmp_path)
    check_model_folder(tmp_path, SETTING)
    removed = list(tmp_path.glob(pattern))
    assert removed
    for path in removed:
        path.unlink()
    with pytest.raises(ConfigError, match=f"{SETTING} names '.*', which {message}. Give a complete model folder"):
        locate_model(str(tmp_path), None, SETTING)


@pytest.mark.parametrize("text", ["", "{", "{'a': 1}"])
def test_a_configuration_that_cannot_be_read(text: str, tmp_path: Path) -> None:
    (write_tiny_llama(tmp_path) / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"holds no configuration that can be read \(config\.json\)"):
        check_model_folder(tmp_path, SETTING)


@pytest.mark.parametrize(
    "kept", [0, 4, 100, -1, None], ids=["nothing", "half a length", "half a header", "most", "other bytes"]
)
def test_weights_of_which_a_part_is_there(kept: int | None, tmp_path: Path) -> None:
    file = write_tiny_llama(tmp_path) / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(b"<html>Not found</html>" * 9 if kept is None else content[:kept])
    with pytest.raises(ConfigError, match=r"holds no whole model\.safetensors: it is damaged, or a part of the file"):
        check_model_folder(tmp_path, SETTING)


def test_a_model_that_is_not_set() -> None:
    with pytest.raises(ConfigError, match=rf"{SETTING} is not set\. Give a model folder"):
        locate_model("", None, SETTING)


INDEX = "model.safetensors.index.json"
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


def write_sharded(folder: Path) -> Path:
    """The tiny model with every other tensor in a second file."""
    write_tiny_llama(folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    weight_map = {name: SHARDS[number % 2] for number, name in enumerate(tensors)}
    for shard in SHARDS:
        save_file({name: tensors[name] for name in tensors if weight_map[name] == shard}, folder / shard, {"format": "pt"})
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


@pytest.mark.parametrize("missing", SHARDS)
def test_weights_that_lack_a_shard(missing: str, tmp_path: Path) -> None:
    write_sharded(tmp_path)
    check_model_folder(tmp_path, SETTING)
    (tmp_path / missing).unlink()
    with pytest.raises(
        ConfigError, match=rf"holds no {missing} \(1 of 2 files that {INDEX} names are missing\)\. Give a complete"
    ):
        locate_model(str(tmp_path), None, SETTING)


@pytest.mark.parametrize("index", [None, "{", "[]", '{"weight_map": 3}'])
def test_shards_without_an_index_of_use(index: str | None, tmp_path: Path) -> None:
    file = write_sharded(tmp_path) / INDEX
    file.unlink() if index is None else file.write_text(index)
    with pytest.raises(ConfigError, match=rf"holds no index of its shards .*\({INDEX}\)"):
        check_model_folder(tmp_path, SETTING)


def test_an_index_is_not_asked_for_what_stands_in_one_file(tmp_path: Path) -> None:
    """transformers reads that file, whatever else a repository holds."""
    write_tiny_llama(tmp_path)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"lm_head.weight": SHARDS[0]}}))
    check_model_folder(tmp_path, SETTING)


def test_a_missing_model_folder() -> None:
    with pytest.raises(ConfigError, match=r"which is no folder\. Give a model folder, or run `make setup` for the demo's"):
        locate_model("/no/such/model", None, SETTING)


def in_hub_cache(cache: Path, commit: str = COMMIT, seed: int = 0) -> Path:
    """A snapshot as the hub's client keeps it."""
    snapshot = cache / "models--toys--tiny" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    return write_tiny_llama(snapshot, seed=seed)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_a_hub_id_is_read_from_the_cache_at_its_commit(cache: Path) -> None:
    snapshot = in_hub_cache(cache)
    source = locate_model("toys/tiny", COMMIT, SETTING)
    assert (source.name, source.folder, source.loading) == ("tiny", snapshot, {})
    assert source.identity() == locate_model(str(snapshot), None, SETTING).identity()


def test_a_folder_of_that_name_comes_first(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_hub_cache(cache)
    folder = tmp_path / "toys" / "tiny"
    folder.mkdir(parents=True)
    write_tiny_llama(folder)
    monkeypatch.chdir(tmp_path)
    assert locate_model("toys/tiny", COMMIT, SETTING).folder == Path("toys/tiny")


@pytest.mark.parametrize("revision", [None, "main", COMMIT[:12]])
def test_a_hub_id_without_a_commit_is_refused(cache: Path, revision: str | None) -> None:
    in_hub_cache(cache)
    with pytest.raises(ConfigError, match=r"set embed_items\.revision to the commit.*a branch may move"):
        locate_model("toys/tiny", revision, SETTING)


@pytest.mark.parametrize(
    "locate",
    [
        lambda values: locate_extractor(parse_config(values, "test").embed_items),
        lambda values: check_sentence_model(parse_config(values, "test").understand_feedback),
        lambda values: listener_id(parse_config(values, "test").understand_feedback, NO_WORDS),
    ],
    ids=["extractor", "check of the listener", "listener"],
)
def test_the_commit_is_asked_for_by_a_key_that_there_is(cache: Path, locate: Callable[[dict[str, Any]], object]) -> None:
    in_hub_cache(cache)
    sections: dict[str, dict[str, str]] = {name: {"model_path": "toys/tiny"} for name in ("embed_items", "understand_feedback")}
    with pytest.raises(ConfigError, match="to take it from the hub, set ") as caught:
        locate(sections)
    said = re.search(r"set (\w+)\.(\w+) to the commit", str(caught.value))
    assert said is not None
    sections[said[1]][said[2]] = COMMIT
    locate(sections)


def test_who_listens_is_known_by_the_model_of_the_commit(cache: Path) -> None:
    other = COMMIT[::-1]
    snapshots = [in_hub_cache(cache), in_hub_cache(cache, other, seed=5)]
    ids = [
        listener_id(UnderstandFeedbackSection(model_path="toys/tiny", revision=commit), NO_WORDS) for commit in (COMMIT, other)
    ]
    assert ids[0] != ids[1]
    # By its bytes, so that who copies the model goes on with what was understood.
    copies = [shutil.copytree(snapshot, cache / snapshot.name / "tiny") for snapshot in snapshots]
    assert ids == [listener_id(UnderstandFeedbackSection(model_path=str(copy)), NO_WORDS) for copy in copies]


def test_what_the_hub_does_not_give_is_told(cache: Path) -> None:
    with pytest.raises(ConfigError, match=r"'toys/none', and the hub does not give it at 0123.*HF_HUB_OFFLINE"):
        locate_model("toys/none", COMMIT, SETTING)


def test_a_download_that_was_interrupted_is_completed(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = write_sharded(in_hub_cache(cache))
    shard = shutil.move(snapshot / SHARDS[1], tmp_path / SHARDS[1])

    def download(hub_id: str, revision: str, allow_patterns: list[str], local_files_only: bool = False) -> str:
        if not local_files_only:
            shutil.copy(shard, snapshot)
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert locate_model("toys/tiny", COMMIT, SETTING).folder == snapshot
    assert (snapshot / SHARDS[1]).is_file()


def identity_of(folder: Path) -> tuple[str, str]:
    """As an extractor, and as the base of a Constructor."""
    return locate_model(str(folder), None, SETTING).identity(), base_identity(folder)


@pytest.mark.parametrize("at", ["the end", "the middle"])
@pytest.mark.parametrize("is_large", [False, True])
def test_other_weights_of_the_same_shape_are_another_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, is_large: bool
) -> None:
    """Even where the first MiB, the names and the shapes are the same: as after a fine-tuning of the upper layers."""
    write_tiny_llama(tmp_path)
    if is_large:  # a piece of every 200 bytes is read
        monkeypatch.setattr(language_models, "BYTES_HASHED_WHOLE", 1000)
        monkeypatch.setattr(language_models, "BYTES_PER_PIECE", 50)
        monkeypatch.setattr(language_models, "BYTES_BETWEEN_PIECES", 200)
    before = identity_of(tmp_path)
    weights = next(tmp_path.glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    place = len(content) - 200 if at == "the end" else len(content) // 2
    content[place : place + 200] = bytes(byte ^ 1 for byte in content[place : place + 200])
    weights.write_bytes(content)
    assert all(one != other for one, other in zip(identity_of(tmp_path), before, strict=True))


def test_another_tokenizer_is_another_model(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path)
    before = identity_of(tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_text(file.read_text() + " ")
    assert all(one != other for one, other in zip(identity_of(tmp_path), before, strict=True))


def test_what_says_nothing_about_the_numbers_does_not_count(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path)
    before = identity_of(tmp_path)
    (tmp_path / "README.md").write_text("about the model")
    assert identity_of(tmp_path) == before


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """First weights of each model that is hashed."""
    files: list[Path] = []
    update = language_models.update_by_weights

    def note(digest: Any, weights: list[Path]) -> None:
        files.append(weights[0])
        update(digest, weights)

    monkeypatch.setattr(language_models, "update_by_weights", note)
    return files


@pytest.mark.parametrize("changed", ["config.json", "tokenizer.json", "model.safetensors"])
def test_large_files_are_hashed_once_until_one_of_them_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hashed: list[Path], changed: str
) -> None:
    source = ModelSource("tiny", write_tiny_llama(tmp_path / "model"))
    afresh = source.identity()
    monkeypatch.setattr(language_models, "MIN_BYTES_REMEMBERED", 1)
    hashed.clear()
    assert [source.identity(), ModelSource("tiny", tmp_path / "model").identity()] == [afresh] * 2
    assert len(hashed) == 1
    file = tmp_path / "model" / changed
    content, moment = file.read_bytes(), file.stat().st_mtime_ns
    file.write_bytes(content[:-2] + bytes([content[-2] ^ 1, content[-1]]))  # of the same size
    os.utime(file, ns=(moment, moment + 4_000_000))
    assert source.identity() != afresh
    assert len(hashed) == 2


def test_small_files_are_hashed_anew(tmp_path: Path, hashed: list[Path]) -> None:
    """A change may come within a tick of the clock by which files are dated."""
    source = ModelSource("tiny", write_tiny_llama(tmp_path))
    file = tmp_path / "config.json"
    moment = file.stat().st_mtime_ns
    before = source.identity()
    file.write_bytes(file.read_bytes().replace(b"llama", b"Llama"))
    os.utime(file, ns=(moment, moment))
    assert source.identity() != before
    assert len(hashed) == 2


def test_a_gguf_file_is_its_own_folder(tmp_path: Path) -> None:
    file = tmp_path / "tiny-q4.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_tensor("output.weight", np.ones((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    source = locate_model(str(file), None, SETTING)
    assert (source.name, source.folder, source.loading) == ("tiny-q4", tmp_path, {"gguf_file": "tiny-q4.gguf"})
    before = source.identity()
    with file.open("r+b") as opened:
        opened.seek(-4, 2)
        opened.write(b"\0\0\0\0")
    assert locate_model(str(file), None, SETTING).identity() != before


@pytest.mark.parametrize(("content", "message"), [(None, "there is no such file"), (b"PK", "not a GGUF file")])
def test_what_is_no_gguf_file_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        locate_model(str(tmp_path / "model.gguf"), None, SETTING)
