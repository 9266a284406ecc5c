from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_features import tiny_features

from cesrec_core.catalogue import FEATURES_FILE, ITEMS_FILE, CatalogueFeatures
from cesrec_core.errors import ArtifactError


def test_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    features = tiny_features(inactive=(2,))
    features.save(tmp_path / "catalogue")
    loaded = CatalogueFeatures.load(tmp_path / "catalogue")
    assert loaded.catalogue == features.catalogue
    for name in ("is_active", "semantic", "aligned", "collaborative", "has_collaborative"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(features, name))
        assert getattr(loaded, name).dtype == getattr(features, name).dtype


@pytest.mark.parametrize("damage", ["cut off", "of other items", "lacks an array", "gone", "items cut off"])
def test_damaged_vectors_are_told_with_what_to_do(tmp_path: Path, damage: str) -> None:
    tiny_features().save(tmp_path)
    file = tmp_path / FEATURES_FILE
    arrays = load_file(file)
    if damage == "cut off":
        file.write_bytes(file.read_bytes()[:-20])
    elif damage == "of other items":
        save_file({**arrays, "semantic": arrays["semantic"][1:]}, file)
    elif damage == "lacks an array":
        save_file({name: array for name, array in arrays.items() if name != "aligned"}, file)
    elif damage == "gone":
        file.unlink()
    else:
        (tmp_path / ITEMS_FILE).write_bytes(b"PAR1")
    told = rf"{FEATURES_FILE} or {ITEMS_FILE} beside it is damaged .* Remove {tmp_path}, and start again"
    with pytest.raises(ArtifactError, match=told):
        CatalogueFeatures.load(tmp_path)


def test_items_outside_the_catalogue_have_no_code() -> None:
    codes = tiny_features().codes(["i3", "gone", "i0", "i3"])
    assert codes.tolist() == [3, 0, 3]
    assert codes.dtype == np.int64
    assert tiny_features().codes([]).dtype == np.int64


def test_attribute_names_are_sorted_and_distinct() -> None:
    assert tiny_features().attribute_names == ["Blue", "Red", "Round"]


def test_items_are_found_by_their_attributes() -> None:
    features = tiny_features()
    for attribute in features.attribute_names:
        expected = [attribute in attributes for attributes in features.catalogue.attributes]
        assert features.has_any_attribute([attribute, "unheard of"]).tolist() == expected
    assert features.has_any_attribute(features.attribute_names).all()
    assert not features.has_any_attribute([]).any()


def test_the_constructor_reads_the_same_rows() -> None:
    features = tiny_features()
    items = features.for_constructor()
    assert list(items.titles) == features.catalogue.titles
    np.testing.assert_array_equal(items.collaborative.numpy(), features.collaborative)
