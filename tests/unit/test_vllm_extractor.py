"""The vLLM engine against a stand-in with the documented interface of vLLM 0.18, which computes by transformers.

vLLM itself needs a GPU that it supports; what is tested is everything on this side of its interface.
"""

import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from tiny_llama import write_tiny_llama
from transformers import AutoModel

from cesrec_core.actors.embed_items import EmbedItems
from cesrec_core.config import EmbedItemsSection
from cesrec_core.errors import ConfigError
from cesrec_core.extractor.identity import extractor_id
from cesrec_core.extractor.transformer import Extractor
from cesrec_core.extractor.vllm import VllmExtractor

TEXTS = ["Puzzle set", "A racing car of some length, red", "x", "Plush bear (1987)", "Craft"]


@dataclass
class PoolerConfig:
    pooling_type: str
    use_activation: bool | None = None


class LLM:
    made: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, *, model: str, pooler_config: PoolerConfig, **others: Any) -> None:
        LLM.made.append(others)
        self.pooler_config = pooler_config
        self.model = AutoModel.from_pretrained(model).eval()
        hidden_size = self.model.config.hidden_size
        self.llm_engine = types.SimpleNamespace(model_config=types.SimpleNamespace(get_hidden_size=lambda: hidden_size))

    @torch.inference_mode()
    def embed(self, prompts: list[dict[str, list[int]]], *, use_tqdm: bool) -> list[Any]:
        assert not use_tqdm
        answers = []
        for prompt in prompts:
            [hidden] = self.model(input_ids=torch.tensor([prompt["prompt_token_ids"]])).last_hidden_state
            vector = hidden.mean(dim=0) if self.pooler_config.pooling_type == "MEAN" else hidden[-1]
            if self.pooler_config.use_activation is not False:
                vector = torch.nn.functional.normalize(vector, dim=0)
            answers.append(types.SimpleNamespace(outputs=types.SimpleNamespace(embedding=vector.tolist())))
        return answers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    package, config = types.ModuleType("vllm"), types.ModuleType("vllm.config")
    package.LLM, config.PoolerConfig = LLM, PoolerConfig  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", package)
    monkeypatch.setitem(sys.modules, "vllm.config", config)


def section(folder: Path, **values: Any) -> EmbedItemsSection:
    return EmbedItemsSection(model_path=str(folder), engine="vllm", **values)


@pytest.mark.usefixtures("vllm")
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_vectors_are_those_of_the_other_engine(folder: Path, pooling: str) -> None:
    settings = section(folder, pooling=pooling, instruction="what is this: ", max_tokens=18)
    found = VllmExtractor(settings, gpu_share=0.5).embed(TEXTS)
    expected = Extractor(settings, "cpu").embed(TEXTS)
    assert found.dtype == np.float32
    assert len(np.unique(found.round(4), axis=0)) == len(TEXTS)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert VllmExtractor(settings, 1.0).embed([]).shape == (0, expected.shape[1])


@pytest.mark.usefixtures("vllm")
def test_an_actor_takes_its_share_of_the_gpu(folder: Path) -> None:
    settings = section(folder, dtype="bfloat16")
    worker = EmbedItems(settings, extractor_id(settings), gpu_share=0.5)
    worker.setup()
    assert isinstance(worker.extractor, VllmExtractor)
    asked = LLM.made[-1]
    assert asked["gpu_memory_utilization"] == pytest.approx(0.45)
    assert (asked["runner"], asked["convert"], asked["dtype"], asked["max_model_len"]) == ("pooling", "embed", "bfloat16", 64)


@pytest.mark.usefixtures("vllm")
def test_a_pooling_that_it_does_not_know_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="'weighted', which vLLM does not know"):
        VllmExtractor(section(folder, pooling="weighted"), 1.0)


def test_where_it_is_not_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ConfigError, match="not installed where the actors run"):
        VllmExtractor(section(folder), 1.0)


def test_the_engine_is_part_of_the_extractors_name(folder: Path) -> None:
    assert extractor_id(section(folder)) != extractor_id(EmbedItemsSection(model_path=str(folder)))
