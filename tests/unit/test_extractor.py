import json
import shutil
import threading
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_gguf import write_tiny_gguf
from tiny_llama import write_tiny_llama
from transformers import CONFIG_MAPPING, AutoModel, BertConfig, BertModel

import cesrec_core.extractor.transformer as extractor_module
from cesrec_core.actors.embed_items import EmbedItems
from cesrec_core.config import Config, EmbedItemsSection
from cesrec_core.errors import ConfigError
from cesrec_core.extractor.identity import READ_MODULES, extractor_id, trained_pooling
from cesrec_core.extractor.pooling import pool
from cesrec_core.extractor.transformer import (
    Extractor,
    TokenLists,
    _enough_tokens_of,
    _refuse_more_than_is_read,
    token_batches,
    tokenise,
)
from cesrec_core.language_models import ModelSource
from cesrec_core.stages import embed_items
from cesrec_core.token_counts import counted_tokens

HIDDEN = torch.tensor([[[1.0, 10.0], [3.0, 30.0], [100.0, 1000.0]], [[5.0, 50.0], [7.0, 70.0], [9.0, 90.0]]])
TEXTS = ["Puzzle set", "A racing car of some length, red", "x", "Plush bear (1987)", "Craft"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny"))


def section(folder: Path, **values: object) -> EmbedItemsSection:
    return EmbedItemsSection(model_path=str(folder), **values)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_mean_reads_real_tokens_alone(dtype: torch.dtype) -> None:
    """(1 + 3) / 2 with padding on the right; (7 + 9) / 2 with padding on the left."""
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]], dtype=dtype)
    assert pool(HIDDEN, mask, "mean").tolist() == [[2.0, 20.0], [8.0, 80.0]]


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_last_is_the_last_real_token_on_either_side_of_padding(dtype: torch.dtype) -> None:
    assert pool(HIDDEN, torch.tensor([[1, 1, 0], [0, 1, 1]], dtype=dtype), "last").tolist() == [[3.0, 30.0], [9.0, 90.0]]


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_weighted_counts_later_tokens_more(dtype: torch.dtype) -> None:
    """(1 * 1 + 2 * 3) / 3 with padding on the right; (1 * 7 + 2 * 9) / 3 with padding on the left."""
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]], dtype=dtype)
    pooled = pool(HIDDEN, mask, "weighted")
    assert torch.allclose(pooled, torch.tensor([[7.0, 70.0], [25.0, 250.0]]) / 3)


def test_a_text_without_tokens_has_a_finite_mean() -> None:
    for how in ("mean", "weighted"):
        assert pool(HIDDEN[:1], torch.zeros(1, 3), how).tolist() == [[0.0, 0.0]]


def test_batches_hold_every_row_once_within_the_budget() -> None:
    lengths = np.array([3, 50, 1, 7, 0, 7, 12, 2])
    batches = [batch.tolist() for batch in token_batches(lengths, 20)]
    # 50 is over the budget and stands alone; 12 leaves no room for another; 7 + 7; then 3, 2, 1 and 0.
    assert batches == [[1], [6], [3, 5], [0, 7, 2, 4]]


def test_an_accelerator_wants_more_tokens_for_small_layers_and_enough_for_its_cores_always() -> None:
    """2 layers of 1e6 weights each: 4e10 / 1e6 tokens; of 1e8 each 400, too few for the cores. Embeddings do no work."""

    def model(weights_per_layer: int) -> Any:
        sizes = [("embed_tokens.weight", 10**9), ("layers.0.weight", weights_per_layer), ("layers.1.weight", weights_per_layer)]
        named = [(name, SimpleNamespace(numel=lambda size=size: size)) for name, size in sizes]
        return SimpleNamespace(named_parameters=lambda: named, config=SimpleNamespace(num_hidden_layers=2))

    assert _enough_tokens_of(model(10**6)) == 40_000
    assert _enough_tokens_of(model(10**8)) == 4096


def test_batches_that_are_large_enough_end_with_a_length() -> None:
    """513 tokens of three lengths are mixed; of one length there are as many as the budget allows."""
    lengths = np.array([10] * 40 + [9] * 30 + [8] * 200 + [1] * 3)
    batches = [sorted(set(lengths[batch].tolist())) for batch in token_batches(lengths, 1000)]
    assert batches == [[9, 10], [8], [8], [1]]
    sizes = [len(batch) for batch in token_batches(lengths, 1000)]
    assert sizes == [70, 125, 75, 3]
    assert sorted(row for batch in token_batches(lengths, 1000) for row in batch.tolist()) == list(range(273))


def test_no_rows_are_no_batches() -> None:
    assert list(token_batches(np.array([], dtype=int), 20)) == []


@pytest.mark.parametrize("pooling", ["mean", "last", "weighted"])
def test_an_embedding_depends_on_its_text_alone(folder: Path, pooling: str) -> None:
    together = Extractor(section(folder, pooling=pooling, tokens_per_batch=1000), "cpu").embed(TEXTS)
    alone = Extractor(section(folder, pooling=pooling, tokens_per_batch=1), "cpu").embed(TEXTS[::-1])[::-1]
    assert together.shape == (5, 32)
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, alone, atol=1e-4)
    assert np.abs(together[0] - together[1]).max() > 0.1


def test_padding_is_hidden_from_a_model_that_looks_both_ways(folder: Path, tmp_path: Path) -> None:
    """A causal one never sees what stands behind."""
    shutil.copytree(folder, tmp_path / "bert", ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    BertModel(BertConfig(vocab_size=vocabulary, initializer_range=0.12, **sizes)).save_pretrained(tmp_path / "bert")
    together = Extractor(section(tmp_path / "bert", tokens_per_batch=1000), "cpu").embed(TEXTS)
    alone = Extractor(section(tmp_path / "bert", tokens_per_batch=1), "cpu").embed(TEXTS)
    np.testing.assert_allclose(together, alone, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_model_is_read_in_the_dtype_that_is_configured(folder: Path, dtype: str) -> None:
    model = Extractor(section(folder, dtype=dtype), "cpu").model
    assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}


def test_no_texts_are_no_rows_of_the_right_width(folder: Path) -> None:
    assert Extractor(section(folder), "cpu").embed([]).shape == (0, 32)


def test_an_instruction_stands_before_every_text(folder: Path) -> None:
    instructed = Extractor(section(folder, instruction="A toy: "), "cpu").embed(TEXTS)
    written_out = Extractor(section(folder), "cpu").embed([f"A toy: {text}" for text in TEXTS])
    assert np.array_equal(instructed, written_out)


def test_a_models_own_tokens_in_a_text_are_characters(folder: Path) -> None:
    extractor = Extractor(section(folder), "cpu")
    own = extractor.tokenizer.all_special_tokens[0]
    [ids] = tokenise(extractor.tokenizer, [f"Puzzle {own} set"], extractor.section)
    plain = [token for token in ids if token in extractor.tokenizer.all_special_ids]
    [without] = tokenise(extractor.tokenizer, ["Puzzle set"], extractor.section)
    assert plain == [token for token in without if token in extractor.tokenizer.all_special_ids]
    assert len(ids) > len(without)


def test_the_short_way_to_tokens_gives_what_transformers_gives(folder: Path) -> None:
    """Whatever the tokenizer was last set up for: some are saved with padding."""
    extractor = Extractor(section(folder, max_tokens=9), "cpu")
    tokenizer = extractor.tokenizer
    texts = ["", *TEXTS, f"a {tokenizer.all_special_tokens[0]}"]
    tokenizer.backend_tokenizer.enable_padding(length=40)
    tokenizer.backend_tokenizer.no_truncation()
    short = tokenise(tokenizer, texts, extractor.section)

    class InPython:
        is_fast = False
        pad_token_id = tokenizer.pad_token_id

        def __call__(self, texts: list[str], **settings: Any) -> Any:
            return tokenizer(texts, **settings)

    assert short == tokenise(InPython(), texts, extractor.section)
    assert [len(ids) for ids in short] == [1, 9, 9, 1, 9, 5, 2 + len(tokenizer.all_special_tokens[0])]


def test_texts_are_tokenised_while_others_are_embedded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of five texts, two at a time: the model is not through with the first before the last are tokens."""
    extractor = Extractor(section(folder), "cpu")
    expected = extractor.embed(TEXTS)
    forward, seen, are_all_tokens = extractor.model.forward, [], threading.Event()

    def tokenise_and_tell(tokenizer: Any, texts: list[str], settings: EmbedItemsSection) -> list[list[int]]:
        seen.append(len(texts))
        if len(seen) == 3:
            are_all_tokens.set()
        return tokenise(tokenizer, texts, settings)

    def forward_when_all_are(**inputs: Any) -> Any:
        assert are_all_tokens.wait(timeout=30)
        return forward(**inputs)

    monkeypatch.setattr(extractor_module, "TEXTS_PER_CHUNK", 2)
    monkeypatch.setattr(extractor_module, "tokenise", tokenise_and_tell)
    monkeypatch.setattr(extractor.model, "forward", forward_when_all_are)
    np.testing.assert_allclose(extractor.embed(TEXTS), expected, atol=1e-5)
    assert seen == [2, 2, 1]


def test_a_text_that_cannot_be_tokenised_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extractor_module, "TEXTS_PER_CHUNK", 2)
    with pytest.raises(TypeError):
        Extractor(section(folder), "cpu").embed([*TEXTS, b"no text"])


def test_weights_of_another_model_are_refused(folder: Path, tmp_path: Path) -> None:
    """transformers would fill in what is missing at random, differently in every worker."""
    mixed = tmp_path / "mixed"
    shutil.copytree(folder, mixed)
    weights = mixed / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(weights).items() if "mlp" not in name}
    save_file(kept, weights, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"lack \d+ tensors .*mlp"):
        Extractor(section(mixed), "cpu")


def test_lengths_that_do_not_fit_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="nothing of an item would be read"):
        Extractor(section(folder, instruction="A toy for children of all ages, with a box: ", max_tokens=4), "cpu")
    with pytest.raises(ConfigError, match="the model reads"):
        Extractor(section(folder, max_tokens=1_000_000), "cpu")
    # Three tokens as the model's own, and far more as they are read.
    with pytest.raises(ConfigError, match="nothing of an item would be read"):
        Extractor(section(folder, instruction="[SEP]" * 3, max_tokens=8), "cpu")


@pytest.mark.parametrize(
    ("kind", "places"),
    [("roberta", 32), ("xlm-roberta", 32), ("camembert", 32), ("mpnet", 32), ("longformer", 32), ("bert", 34)],
)
def test_as_many_tokens_are_allowed_as_a_model_has_positions_for(folder: Path, kind: str, places: int) -> None:
    """Of 34, models of RoBERTa's kind keep one for padding, number 1, and never use number 0: transformers itself tells."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 50}
    more = {"attention_window": [places]} if kind == "longformer" else {}
    model = AutoModel.from_config(CONFIG_MAPPING[kind](**sizes, **more, max_position_embeddings=34, pad_token_id=1)).eval()
    tokens = torch.full((1, places), 5)
    assert model(input_ids=tokens).last_hidden_state.shape == (1, places, 8)
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.cat([tokens, tokens[:, :1]], dim=1))
    _refuse_more_than_is_read(model, section(folder, max_tokens=places))
    with pytest.raises(ConfigError, match=f"max_tokens is {places + 1}, and the model reads {places} at most"):
        _refuse_more_than_is_read(model, section(folder, max_tokens=places + 1))


def test_what_did_not_fit_is_let_go_before_the_halves_are_tried(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = Extractor(section(folder), "cpu")
    forward, failed = extractor.model.forward, []

    def with_room_for_two(input_ids: torch.Tensor, **more: object) -> object:
        assert [reference() for reference in failed] == [None] * len(failed)
        if len(input_ids) > 2:
            large = torch.zeros(10)
            failed.append(weakref.ref(large))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(input_ids=input_ids, **more)

    monkeypatch.setattr(extractor.model, "forward", with_room_for_two)
    extractor.embed(TEXTS)
    assert len(failed) == 2


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate"),
        MemoryError("Unable to allocate"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
    ],
)
def test_batches_are_halved_until_they_fit(folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    extractor = Extractor(section(folder), "cpu")
    expected = extractor.embed(TEXTS)
    forward, sizes = extractor.model.forward, []

    def with_room_for_two(input_ids: torch.Tensor, **more: object) -> object:
        sizes.append(len(input_ids))
        if len(input_ids) > 2:
            raise error
        return forward(input_ids=input_ids, **more)

    monkeypatch.setattr(extractor.model, "forward", with_room_for_two)
    np.testing.assert_allclose(extractor.embed(TEXTS), expected, atol=1e-4)
    assert sizes[0] == 5
    assert max(sizes[-2:]) <= 2


def test_what_did_not_fit_once_is_not_tried_again_and_told_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """64 texts of one length; the device has room for a third of a batch of 16."""
    texts = [f"Puzzle set {letter}" for letter in "abcdefgh" * 8]
    extractor = Extractor(section(folder), "cpu")
    expected = extractor.embed(texts)
    (length,) = {len(ids) for ids in tokenise(extractor.tokenizer, texts, extractor.section)}
    extractor = Extractor(section(folder, tokens_per_batch=16 * length), "cpu")
    forward, sizes = extractor.model.forward, []

    def with_little_room(input_ids: torch.Tensor, **more: object) -> object:
        sizes.append(len(input_ids))
        if len(input_ids) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(input_ids=input_ids, **more)

    monkeypatch.setattr(extractor.model, "forward", with_little_room)
    np.testing.assert_allclose(extractor.embed(texts), expected, atol=1e-4)
    assert sizes == [16, 8, *[4] * 16]
    assert caplog.text.count(f"Lower embed_items.tokens_per_batch ({16 * length})") == 1
    extractor.embed(texts[:8])
    assert sizes[18:] == [4, 4]


@pytest.mark.parametrize(
    ("kind", "sizes", "width"),
    [
        (
            "opt",
            {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "word_embed_proj_dim": 16},
            16,
        ),
        ("xlnet", {"d_model": 32, "d_inner": 64, "n_layer": 1, "n_head": 2}, 32),
    ],
    ids=["another width than its hidden one", "relative positions alone"],
)
def test_models_whose_configuration_tells_less(
    folder: Path, tmp_path: Path, kind: str, sizes: dict[str, int], width: int
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / kind))
    AutoModel.from_config(CONFIG_MAPPING[kind](vocab_size=300, **sizes)).save_pretrained(copy)
    vectors = Extractor(section(copy, max_tokens=16), "cpu").embed(["Toy Story", "A longer title, (1995)", "Heat"])
    assert vectors.shape == (3, width)
    assert np.isfinite(vectors).all() and np.abs(vectors).sum(axis=1).all()


def a_model_of_another_kind(folder: Path) -> Path:
    """T5's decoder wants to be given its own tokens."""
    model = CONFIG_MAPPING["t5"](vocab_size=300, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    AutoModel.from_config(model).save_pretrained(folder)
    return folder


def test_a_model_that_embeds_no_text_is_refused_before_any_text_is(folder: Path, tmp_path: Path) -> None:
    settings = section(a_model_of_another_kind(Path(shutil.copytree(folder, tmp_path / "t5"))))
    with pytest.raises(ConfigError, match=r"'.*/t5', which embeds no text \(ValueError: .*decoder"):
        EmbedItems(settings, extractor_id(settings)).setup()


def test_a_model_that_answers_with_no_number_is_refused_before_any_text_is(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "overflows"))
    weights = load_file(copy / "model.safetensors")
    weights["model.norm.weight"][:] = torch.inf
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"NaN or infinity in float32\. Its weights are damaged"):
        EmbedItems(section(copy), extractor_id(section(copy))).setup()


def test_a_model_that_answers_with_zeros_is_refused_before_any_text_is(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "silent"))
    weights = load_file(copy / "model.safetensors")
    weights["model.norm.weight"][:] = 0.0
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"/silent' answers with zeros"):
        EmbedItems(section(copy), extractor_id(section(copy))).setup()


def test_a_worker_that_finds_another_model_than_the_job_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"On the machine \S+ embed_items\.model_path .* is another model"):
        EmbedItems(section(folder), extractor_id(section(folder, pooling="last"))).setup()


def test_a_model_that_cannot_be_loaded_is_named(folder: Path, tmp_path: Path) -> None:
    unknown = Path(shutil.copytree(folder, tmp_path / "unknown"))
    (unknown / "config.json").write_text('{"model_type": "unheard_of"}')
    file = write_tiny_gguf(tmp_path / "cut.gguf", write_tiny_llama(tmp_path / "whole", words=["QQ"]), merge=("Q", "Q"))
    file.write_bytes(file.read_bytes()[:-1000])
    for path in (unknown, file):
        with pytest.raises(ConfigError, match=rf"names '{path}', which cannot be loaded \(\w+: .*It is damaged, or of a kind"):
            Extractor(section(path), "cpu")


def test_a_text_that_does_not_fit_alone_and_other_errors_are_not_swallowed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor, sizes = Extractor(section(folder), "cpu"), []

    def fails(error: RuntimeError) -> object:
        def forward(input_ids: torch.Tensor, **more: object) -> object:
            sizes.append(len(input_ids))
            raise error

        return forward

    monkeypatch.setattr(extractor.model, "forward", fails(torch.OutOfMemoryError("no room at all")))
    with pytest.raises(torch.OutOfMemoryError, match="no room at all"):
        extractor.embed(TEXTS)
    assert sizes == [5, 2, 1]
    monkeypatch.setattr(extractor.model, "forward", fails(RuntimeError("shapes do not match")))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        extractor.embed(TEXTS)
    # The room that there was is remembered.
    assert sizes == [5, 2, 1, 1]


def test_texts_are_cut_at_max_tokens(folder: Path) -> None:
    cut = Extractor(section(folder, max_tokens=6), "cpu").embed(["Puzzle set", "Puzzle of another kind"])
    np.testing.assert_allclose(cut[0], cut[1], atol=1e-5)


def test_the_id_changes_with_everything_that_changes_an_embedding(folder: Path, tmp_path: Path) -> None:
    ids = [
        extractor_id(section(folder)),
        extractor_id(section(folder, pooling="last")),
        extractor_id(section(folder, dtype="bfloat16")),
        extractor_id(section(folder, max_tokens=8)),
        extractor_id(section(folder, instruction="A toy: ")),
        extractor_id(section(write_tiny_llama(tmp_path / folder.name, seed=5))),
    ]
    assert len(set(ids)) == len(ids)
    assert ids[0].startswith(f"{folder.name}-mean-float32-")
    assert extractor_id(section(folder)) == ids[0]
    assert extractor_id(section(folder, tokens_per_batch=1)) == ids[0]


@pytest.mark.parametrize(
    ("written", "pooling"),
    [
        ('{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false, "include_prompt": true}', "cls_token"),
        ('{"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}', "mean"),
        ('{"pooling_mode_lasttoken": true}', "last"),
        ('{"embedding_dimension": 384, "pooling_mode": "cls", "include_prompt": true}', "cls"),
        ('{"embedding_dimension": 384, "pooling_mode": ["mean"], "include_prompt": true}', "mean"),
        ('{"pooling_mode": "weightedmean"}', "weighted"),
        ('{"pooling_mode": ["cls", "max"]}', None),
        ('{"pooling_mode": null}', None),
        ('{"pooling_mode_mean_sqrt_len_tokens": true}', "mean"),
        ('{"pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": true}', None),
        ("{", None),
        ("[]", None),
    ],
)
def test_the_pooling_that_a_model_was_trained_with_is_read(tmp_path: Path, written: str, pooling: str | None) -> None:
    assert trained_pooling(ModelSource("a", tmp_path)) is None
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(written)
    assert trained_pooling(ModelSource("a", tmp_path)) == pooling


@pytest.mark.parametrize(("trained", "is_told"), [("cls_token", True), ("mean_tokens", False)])
def test_another_pooling_than_the_model_was_trained_with_is_told(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, trained: str, is_told: bool
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "encoder"))
    (copy / "1_Pooling").mkdir()
    (copy / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{trained}": True}))
    embed_items.check(SimpleNamespace(config=Config(embed_items=section(copy))))  # type: ignore[arg-type]
    assert ("embed_items.pooling is mean" in caplog.text and "trained with cls_token" in caplog.text) == is_told


def test_what_sentence_transformers_does_after_pooling_is_told_where_it_is_not_done_here(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "encoder"))
    modules = [{"idx": place, "type": f"sentence_transformers.models.{kind}"} for place, kind in enumerate(READ_MODULES)]
    for added in ([], [{"idx": 3, "type": "sentence_transformers.models.Dense"}]):
        (copy / "modules.json").write_text(json.dumps(modules + added))
        embed_items.check(SimpleNamespace(config=Config(embed_items=section(copy))))  # type: ignore[arg-type]
        assert ("made for sentence-transformers with Dense" in caplog.text) == bool(added)


def test_one_changed_weight_changes_the_id(tmp_path: Path) -> None:
    before = extractor_id(section(write_tiny_llama(tmp_path)))
    weights = load_file(tmp_path / "model.safetensors")
    weights["model.norm.weight"][0] += 1.0
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert extractor_id(section(tmp_path)) != before


def test_a_text_without_tokens_and_long_ones_stand_beside_each_other(folder: Path) -> None:
    """Whatever stands in a batch, and with or without padding: a text's vector is its own."""
    extractor = Extractor(section(folder), "cpu")
    together = extractor.embed(["", *TEXTS, TEXTS[0]])
    alone = np.concatenate([extractor.embed([text]) for text in ["", *TEXTS, TEXTS[0]]])
    assert np.isfinite(together).all()
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_padding_stands_on_the_right() -> None:
    tokens = TokenLists.of([[5, 6, 7], [9, 9, 9, 9], [8]])
    ids, mask = tokens.padded(np.array([2, 0]), padding=0)
    assert ids.tolist() == [[8, 0, 0], [5, 6, 7]]
    assert mask.tolist() == [[True, False, False], [True, True, True]]


def test_vectors_that_are_no_numbers_are_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As half precision may give; what raises is found by halving, and its text laid aside."""
    worker = EmbedItems(section(folder), extractor_id(section(folder)))
    worker.setup()
    shard = pa.table({"text_hash": ["a", "b"], "item_text": TEXTS[:2]})
    assert worker.process(shard).num_rows == 2
    monkeypatch.setattr(worker.extractor, "embed", lambda texts: np.array([[1.0, np.nan], [1.0, 2.0]], np.float32))
    with pytest.raises(ArithmeticError, match="NaN or infinity"):
        worker.process(shard)


@pytest.mark.parametrize("pooling", ["mean", "last", "weighted"])
def test_a_gguf_file_embeds_as_the_model_it_was_made_of(tmp_path: Path, pooling: str) -> None:
    folder = write_tiny_llama(tmp_path / "folder", words=["QQ"])
    file = write_tiny_gguf(tmp_path / "tiny.gguf", folder, merge=("Q", "Q"))
    of_folder, of_file = (section(path, pooling=pooling) for path in (folder, file))
    expected = Extractor(of_folder, "cpu").embed(TEXTS)
    np.testing.assert_allclose(Extractor(of_file, "cpu").embed(TEXTS), expected, atol=1e-5)
    assert extractor_id(of_file).startswith(f"tiny-{pooling}-float32-")


def test_tokens_are_counted_as_they_go_through_the_model(folder: Path) -> None:
    """Two of one length and one of another, in two batches without padding."""
    extractor = Extractor(section(folder, tokens_per_batch=4), "cpu")
    before = counted_tokens()
    extractor.embed(["ab", "cd", "abcd"])
    assert counted_tokens() - before == 2 + 2 + 4


def test_tokens_of_a_batch_that_did_not_fit_are_counted_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four texts of two tokens: the first attempt finds no room, its halves do."""
    extractor = Extractor(section(folder), "cpu")
    forward = extractor.model.forward

    def with_room_for_two(input_ids: torch.Tensor, **more: object) -> object:
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(input_ids=input_ids, **more)

    monkeypatch.setattr(extractor.model, "forward", with_room_for_two)
    before = counted_tokens()
    extractor.embed(["ab", "cd", "ef", "gh"])
    assert counted_tokens() - before == 8


def test_no_keys_and_values_are_kept_for_tokens_that_do_not_come(folder: Path) -> None:
    extractor = Extractor(section(folder), "cpu")
    assert extractor.model(input_ids=torch.tensor([[5, 6, 7]])).past_key_values is None
