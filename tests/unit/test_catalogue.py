from pathlib import Path

import numpy as np
from tiny_features import tiny_features

from cesrec_core.catalogue import CatalogueFeatures


def test_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    features = tiny_features(inactive=(2,))
    features.save(tmp_path / "catalogue")
    loaded = CatalogueFeatures.load(tmp_path / "catalogue")
    assert loaded.catalogue == features.catalogue
    for name in ("is_active", "semantic", "aligned", "collaborative", "has_collaborative"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(features, name))
        assert getattr(loaded, name).dtype == getattr(features, name).dtype


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
