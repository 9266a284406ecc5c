"""What every recommender of the registry promises."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from cesrec_core.artifacts import MANIFEST, Manifest
from cesrec_core.config import TrainRecommenderSection, load_config
from cesrec_core.errors import ArtifactError
from cesrec_core.recommenders import (
    RECOMMENDERS,
    CountingRecommender,
    Recommender,
    TrainableRecommender,
    Vocabulary,
    build_recommender,
    unread_settings,
)
from cesrec_core.recommenders.artifact import VOCABULARY, load_recommender, save_recommender
from cesrec_core.recommenders.losses import make_loss
from cesrec_core.recommenders.popularity import Popularity

CONF = Path(__file__).parents[2] / "conf"
ITEM_IDS = [f"item{number}" for number in range(20)]
HISTORY = [3, 7, 1, 12, 20]


# Every model as it comes, and what its settings make another model of.
VARIANTS = [
    *((name, "learned", "dot") for name in sorted(RECOMMENDERS)),
    *((name, "rotary", "dot") for name in ("esasrec", "hstu", "sasrec")),
    *((name, "learned", "cosine") for name in ("gru4rec", "hstu")),
]


def settings_for(name: str, positions: str = "learned", similarity: str = "dot") -> TrainRecommenderSection:
    size = {"embedding_dim": 16, "num_blocks": 2, "num_heads": 2, "max_history_items": 8}
    kind = {"model": name, "positions": positions, "similarity": similarity}
    return TrainRecommenderSection(dropout=0.5, markov_decay=0.5, **size, **kind)


def manifest_for(settings: TrainRecommenderSection) -> Manifest:
    return Manifest("recommender", "r1", "all", settings=settings.model_dump())


@pytest.fixture(params=VARIANTS, ids="-".join)
def settings(request: pytest.FixtureRequest) -> TrainRecommenderSection:
    return settings_for(*request.param)


@pytest.fixture
def model(settings: TrainRecommenderSection) -> TrainableRecommender:
    """Weights far from their small initial values, so that every part leaves a trace in the states."""
    built = build_recommender(ITEM_IDS, settings, seed=1)
    if isinstance(built, CountingRecommender):
        rng = np.random.default_rng(2)
        built.fit_counts([rng.integers(1, len(ITEM_IDS) + 1, size=12) for _ in range(30)])
        return built.eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if "norm" not in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        built.load_state_dict({**built.state_dict(), "items.weight": zero_first_row(built.items.weight)})
    return built.eval()


def zero_first_row(table: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.zeros_like(table[:1]), table[1:]])


def test_registry_and_configuration_name_the_same_models() -> None:
    assert set(get_args(TrainRecommenderSection.model_fields["model"].annotation)) == set(RECOMMENDERS)


# Another value than the default's, for what a model or a loss may read; the loop of training reads the rest.
CHANGES = {
    "num_negatives": 3,
    "popular_negatives_share": 1.0,
    "gbce_calibration": 0.1,
    "markov_decay": 0.5,
    "embedding_dim": 32,
    "num_blocks": 1,
    "num_heads": 2,
    "positions": "rotary",
    "similarity": "cosine",
    "temperature": 0.2,
    "dropout": 0.4,
    "max_history_items": 6,
}


def loss_of_a_batch(settings: TrainRecommenderSection) -> float:
    """By the loss that the settings name; of those that count, a score."""
    built = build_recommender(ITEM_IDS, settings, seed=1)
    if isinstance(built, CountingRecommender):
        rng = np.random.default_rng(2)
        built.fit_counts([rng.integers(1, len(ITEM_IDS) + 1, size=12) for _ in range(30)])
        return float(built.encode(torch.tensor([[2, 4, 6, *HISTORY]])) @ built.item_vectors()[4])
    torch.manual_seed(0)
    state = built.train().encode(torch.tensor([[2, 4, 6, *HISTORY]]))
    loss = make_loss(settings, torch.arange(len(ITEM_IDS) + 1, dtype=torch.float64))
    return loss(state, built.item_vectors(), torch.tensor([4]), torch.Generator().manual_seed(0)).item()


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("loss", ["cross_entropy", "sampled_softmax", "gbce", "bce"])
@pytest.mark.parametrize("name", sorted(RECOMMENDERS))
def test_settings_that_are_not_read_are_those_that_change_nothing(name: str, loss: str, similarity: str) -> None:
    size = {"embedding_dim": 16, "max_history_items": 8, "num_negatives": 4, "markov_decay": 0.2}
    as_it_comes = {"model": name, "loss": loss, "similarity": similarity, **size}
    before = loss_of_a_batch(TrainRecommenderSection(**as_it_comes))
    for setting, value in CHANGES.items():
        changed = TrainRecommenderSection(**{**as_it_comes, setting: value})
        if value == as_it_comes.get(setting):
            continue
        assert (setting in unread_settings(changed)) == (loss_of_a_batch(changed) == before), setting


def test_defaults_are_not_told_as_unread() -> None:
    assert unread_settings(TrainRecommenderSection(model="popularity")) == []
    assert unread_settings(TrainRecommenderSection(model="markov", batch_size=7, markov_decay=0.5)) == ["batch_size"]


@pytest.mark.parametrize("name", sorted(RECOMMENDERS))
@pytest.mark.parametrize("file", sorted(CONF.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_shipped_configuration_takes_every_model(file: Path, name: str) -> None:
    """Also with what is unread, as `model: gru4rec` beside the rotary positions of another: training names it."""
    settings = load_config(file, [f"train_recommender.model={name}"]).train_recommender
    assert len(build_recommender(ITEM_IDS, settings, seed=1).item_vectors()) == len(ITEM_IDS) + 1
    is_unread = name in ("gru4rec", "markov", "popularity") and (settings.positions, settings.num_heads) != ("learned", 1)
    assert is_unread == bool({"positions", "num_heads"} & set(unread_settings(settings)))


@pytest.mark.parametrize("name", ["gru4rec", "markov", "popularity"])
def test_a_width_is_shared_among_heads_where_there_are_any(name: str) -> None:
    assert TrainRecommenderSection(model=name, embedding_dim=9, num_heads=2, positions="rotary").embedding_dim == 9


def test_satisfies_the_protocol(model: TrainableRecommender) -> None:
    assert isinstance(model, Recommender)
    assert model.item_ids == ITEM_IDS
    assert model.item_vectors().shape == (len(ITEM_IDS) + 1, model.embedding_dim)
    assert not model.item_vectors()[0].any()
    assert model.encode(torch.tensor([HISTORY])).shape == (1, model.embedding_dim)
    assert model.encode(torch.tensor([HISTORY])).dtype == torch.float32


def test_the_future_never_changes_a_past_state(model: TrainableRecommender) -> None:
    is_blind = isinstance(model, Popularity)
    before = model.states(torch.tensor([HISTORY]))
    for place in range(1, len(HISTORY)):
        changed = torch.tensor([HISTORY])
        changed[0, place] = 9
        after = model.states(changed)
        assert torch.allclose(before[:, :place], after[:, :place], atol=1e-6)
        assert is_blind == torch.allclose(before[:, place], after[:, place], atol=1e-3)


def test_more_items_never_change_a_past_state_but_by_learned_places(
    model: TrainableRecommender, settings: TrainRecommenderSection
) -> None:
    """Learned vectors of places count from the newest item, as SASRec's do: what was third from the end is fourth then."""
    counts_from_the_end = settings.model in ("sasrec", "esasrec", "hstu") and settings.positions == "learned"
    before = model.states(torch.tensor([HISTORY[:-1]]))
    after = model.states(torch.tensor([HISTORY]))[:, :-1]
    assert torch.allclose(before, after, atol=1e-5) != counts_from_the_end


def test_the_past_matters(model: TrainableRecommender) -> None:
    """A model that looks at the newest item only would be causal too."""
    oldest_changed = torch.tensor([[9, *HISTORY[1:]]])
    is_blind = isinstance(model, Popularity)
    assert is_blind == torch.allclose(model.encode(torch.tensor([HISTORY])), model.encode(oldest_changed), atol=1e-3)


def test_padding_never_matters(model: TrainableRecommender) -> None:
    alone = model.states(torch.tensor([HISTORY]))
    padded = model.states(torch.tensor([[0, 0, 0, *HISTORY], [5, 6, 8, *HISTORY]]))
    assert torch.allclose(alone[0], padded[0, 3:], atol=1e-5)
    assert torch.isfinite(padded).all()


def test_only_the_newest_items_are_read(model: TrainableRecommender) -> None:
    newest = [1, 2, 3, 4, 5, 6, 7, 8]
    long = model.encode(torch.tensor([[11, 12, 13, *newest]]))
    assert torch.allclose(long, model.encode(torch.tensor([newest])), atol=1e-6)


def test_an_empty_history_has_a_finite_state(model: TrainableRecommender) -> None:
    assert torch.isfinite(model.encode(torch.zeros(1, 4, dtype=torch.int64))).all()


def test_same_seed_same_model_and_the_callers_random_state_is_left_alone(settings: TrainRecommenderSection) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (build_recommender(ITEM_IDS, settings, seed).eval() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    inputs = torch.tensor([HISTORY])
    assert torch.equal(first.encode(inputs), again.encode(inputs))
    if not isinstance(first, CountingRecommender):
        assert not torch.equal(first.encode(inputs), other.encode(inputs))


@pytest.mark.parametrize("name", ["sasrec", "esasrec", "hstu"])
def test_threads_add_gradients_up_in_one_order(name: str) -> None:
    """At lengths that are worth several threads: else a training that is done again, or resumed, comes to other weights."""
    size = {"embedding_dim": 16, "num_blocks": 1, "num_heads": 1, "max_history_items": 200}
    model = build_recommender(ITEM_IDS, TrainRecommenderSection(model=name, dropout=0.0, **size), seed=1)
    inputs = torch.randint(1, len(ITEM_IDS) + 1, (8, 200), generator=torch.Generator().manual_seed(2))
    num_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = []
        for _ in range(12):
            model.zero_grad()
            model.states(inputs).square().sum().backward()
            found.append({key: weight.grad.clone() for key, weight in model.named_parameters() if weight.grad is not None})
    finally:
        torch.set_num_threads(num_threads)
    assert found[0] and not [
        key for again in found for key, gradient in again.items() if not torch.equal(gradient, found[0][key])
    ]


def test_save_and_load(model: TrainableRecommender, settings: TrainRecommenderSection, tmp_path: Path) -> None:
    save_recommender(tmp_path / "artifact", model, manifest_for(settings))
    loaded, manifest = load_recommender(tmp_path / "artifact")
    inputs = torch.tensor([HISTORY])
    assert torch.equal(loaded.encode(inputs), model.encode(inputs))
    assert torch.equal(loaded.item_vectors(), model.item_vectors())
    assert loaded.item_ids == ITEM_IDS
    assert manifest == manifest_for(settings)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_artifacts_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    settings = settings_for("sasrec")
    save_recommender(tmp_path, build_recommender(ITEM_IDS, settings, seed=1), manifest_for(settings))
    (tmp_path / VOCABULARY).write_text('["only one"]', encoding="utf-8")
    with pytest.raises(ArtifactError, match="do not fit together"):
        load_recommender(tmp_path)
    (tmp_path / VOCABULARY).unlink()
    with pytest.raises(ArtifactError, match=r"vocabulary\.json is missing"):
        load_recommender(tmp_path)
    manifest = (tmp_path / MANIFEST).read_text(encoding="utf-8")
    (tmp_path / MANIFEST).write_text(manifest.replace('"sasrec"', '"oracle"'), encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"(?s)not a recommender's.*Train it again"):
        load_recommender(tmp_path)


def test_vocabulary_leaves_out_what_it_does_not_know() -> None:
    vocabulary = Vocabulary(["a", "b"])
    assert vocabulary.encode(["b", "unknown", "a"]).tolist() == [2, 1]
    assert vocabulary.decode(vocabulary.encode(["b", "a"])) == ["b", "a"]
