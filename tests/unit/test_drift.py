import ast
import dataclasses
import inspect
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_features import tiny_features

from cesrec_core.adapter import fit_adapter
from cesrec_core.config import Config
from cesrec_core.drift import changes, relative_change, vector_health
from cesrec_core.stages import audit
from cesrec_core.stages.audit import LIMITS, Limit


def test_the_health_of_vectors_by_hand() -> None:
    """Of eight items one is inactive, one has no text and one is unknown to the recommender."""
    features = tiny_features(inactive=(2,))
    semantic, aligned = features.semantic.copy(), features.collaborative.copy()
    semantic[3] = 0.0
    aligned[3] = 0.0
    aligned[0] += 1.0
    health = vector_health(dataclasses.replace(features, semantic=semantic, aligned=aligned))
    assert health["semantic_coverage_share"] == health["aligned_coverage_share"] == pytest.approx(6 / 7)
    assert health["collaborative_coverage_share"] == pytest.approx(6 / 7)
    with_text = [0, 1, 4, 5, 6, 7]
    assert health["semantic_norm"] == pytest.approx(np.linalg.norm(semantic[with_text], axis=1).mean())
    # Items 0, 1, 4, 5 and 6 have both; only the first is off, by 1 in each dimension.
    known = features.collaborative[[0, 1, 4, 5, 6]]
    assert health["alignment_mse"] == pytest.approx(1 / 5, rel=1e-5)
    assert health["alignment_normalised_mse"] == pytest.approx(1 / 5 / np.square(known - known.mean(axis=0)).mean(), rel=1e-5)
    assert health["alignment_median_rank_share"] == pytest.approx(1 / 5)


def test_a_catalogue_that_nobody_knows_has_no_alignment() -> None:
    features = tiny_features()
    health = vector_health(dataclasses.replace(features, has_collaborative=np.zeros(8, bool)))
    assert not [name for name in health if name.startswith("alignment")]
    assert health["collaborative_coverage_share"] == 0.0


def complaints_about(semantic: torch.Tensor, collaborative: torch.Tensor) -> list[str]:
    """What an audit says of an Adapter between these vectors, a tenth of them held out, beside what it says of any run."""
    fit = fit_adapter(semantic, collaborative, Config().train_adapter.model_copy(update={"check_after_epochs": 1000}), seed=1)
    context: Any = SimpleNamespace(artifact=lambda kind: (None, SimpleNamespace(metrics=fit.metrics)))
    measured = audit._of_adapter(context)
    return [limit.name for limit in LIMITS if limit.complaint(measured, Config())]


def test_an_adapter_that_has_learned_nothing_is_not_published() -> None:
    """Of the items that it learned from, it knows some by heart; of 60 that it has not seen, none."""
    generator = torch.Generator().manual_seed(0)
    semantic, noise = (torch.randn(600, width, generator=generator) for width in (24, 8))
    assert "held_out_alignment_error" in complaints_about(semantic, noise)
    assert complaints_about(semantic, semantic[:, :8]) == []
    # Of few held-out items, nothing can be told.
    assert complaints_about(semantic[:300], noise[:300]) == []


@pytest.mark.parametrize(("now", "before", "change"), [(1.1, 1.0, 0.1), (0.5, 1.0, 0.5), (0.0, 0.0, 0.0), (0.1, 0.0, 1.0)])
def test_relative_change(now: float, before: float, change: float) -> None:
    assert relative_change(now, before) == pytest.approx(change)


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
def test_limits_stand_in_the_configuration_and_are_told(limit: Limit) -> None:
    config = Config()
    section, key = limit.setting.split(".")
    value = float(getattr(getattr(config, section), key))
    wrong, right = (value - 0.01, value + 0.01) if limit.is_lowest else (value + 0.01, value - 0.01)
    assert limit.complaint({}, config) is None
    assert limit.complaint({limit.name: value}, config) is None
    assert limit.complaint({limit.name: right}, config) is None
    complaint = limit.complaint({limit.name: wrong}, config)
    assert complaint is not None
    assert limit.complaint({limit.name: float("nan")}, config) is not None
    assert format(wrong, limit.form) in complaint
    assert limit.setting in complaint


def test_changes_by_hand() -> None:
    before = {"semantic_norm": 2.0, "aligned_norm": 4.0, "users_masked_share": 0.3}
    now = {"semantic_norm": 3.0, "aligned_norm": 3.0, "users_masked_share": 0.2}
    moved = {"semantic_norm_change": 0.5, "aligned_norm_change": 0.25, "users_masked_share_change": 0.1}
    assert changes(now, before) == pytest.approx(moved)
    assert set(changes(now, before, ["semantic_norm"])) == {"semantic_norm_change", "users_masked_share_change"}
    assert changes(now, {}) == {}


def keys_written_by_audit() -> Iterator[str]:
    """Of the literal dictionaries that its functions make: counting takes Spark, and the names alone do not."""
    functions = [node for node in ast.parse(inspect.getsource(audit)).body if isinstance(node, ast.FunctionDef)]
    made = [node for function in functions for node in ast.walk(function) if isinstance(node, ast.Dict)]
    return (key.value for node in made for key in node.keys if isinstance(key, ast.Constant))


def test_what_a_limit_is_about_is_measured() -> None:
    """A limit whose name is misspelt would never be left: what was not measured is not wrong."""
    health = vector_health(tiny_features())
    measured = {
        *keys_written_by_audit(),
        *health,
        *changes({**health, "users_masked_share": 1.0}, {**health, "users_masked_share": 1.0}),
    }
    assert [limit.name for limit in LIMITS if limit.name not in measured] == []
    # Else a name of the other kind would do.
    assert not any(limit.name.startswith(audit.UNGATED) for limit in LIMITS)
