"""A catalogue of eight items with vectors, for tests of what reads it."""

import numpy as np

from cesrec_core.catalogue import CatalogueFeatures
from cesrec_core.datasets import Catalogue

NUM_ITEMS = 8
ITEM_IDS = [f"i{code}" for code in range(NUM_ITEMS)]


def tiny_features(inactive: tuple[int, ...] = ()) -> CatalogueFeatures:
    """Even items are Blue, odd ones Red; every fourth is Round besides. Semantic width 6, aligned and collaborative 4."""
    rng = np.random.default_rng(0)
    attributes = [(("Red",) if code % 2 else ("Blue",)) + (("Round",) if code % 4 == 0 else ()) for code in range(NUM_ITEMS)]
    is_active = np.array([code not in inactive for code in range(NUM_ITEMS)])
    vectors = [rng.normal(size=(NUM_ITEMS, width)).astype(np.float32) for width in (6, 4, 4)]
    catalogue = Catalogue(list(ITEM_IDS), [f"Thing {code}" for code in range(NUM_ITEMS)], attributes)
    has_collaborative = np.array([code != 7 for code in range(NUM_ITEMS)])
    return CatalogueFeatures(catalogue, is_active, *vectors, has_collaborative, np.eye(4, dtype=np.float32))
