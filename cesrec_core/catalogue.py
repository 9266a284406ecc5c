"""The catalogue with its vectors, as workers load it: one folder, rows sorted by item_id.

All arrays share the row order of `Catalogue`; the whole of it must fit into one worker's memory
(a million items of widths 384 and 64 take about 2 GiB).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from cesrec_core import columns as c
from cesrec_core.arrow import places_in
from cesrec_core.datasets import Catalogue, read_catalogue
from cesrec_core.errors import ArtifactError, InputDataError, is_no_answer
from cesrec_core.item_lists import ItemLists
from cesrec_core.local_scratch import copied_from_local_disk

if TYPE_CHECKING:
    from cesrec_core.constructor.model import ItemFeatures

Space = Literal["aligned", "semantic", "collaborative"]

ITEMS_FILE = "items.parquet"
FEATURES_FILE = "features.safetensors"


@dataclass(frozen=True)
class CatalogueFeatures:
    """Items and their vectors, for N items.

    Attributes:
        catalogue: ids, titles and attributes.
        is_active: bool [N]; only active items may be recommended or put into a history.
        semantic: float32 [N, H].
        aligned: float32 [N, D], the semantic embeddings after the Adapter.
        collaborative: float32 [N, D], the recommender's item vectors; aligned ones where it does not know the item.
        has_collaborative: bool [N], True where the recommender knows the item.
        residual_covariance: float32 [D, D], see `Adapter`.
    """

    catalogue: Catalogue
    is_active: np.ndarray
    semantic: np.ndarray
    aligned: np.ndarray
    collaborative: np.ndarray
    has_collaborative: np.ndarray
    residual_covariance: np.ndarray

    @cached_property
    def attribute_names(self) -> list[str]:
        return sorted(self._codes_of_attribute)

    @cached_property
    def _codes_of_attribute(self) -> dict[str, list[int]]:
        codes: dict[str, list[int]] = {}
        for code, attributes in enumerate(self.catalogue.attributes):
            for attribute in attributes:
                codes.setdefault(attribute, []).append(code)
        return codes

    def has_any_attribute(self, attributes: Iterable[str]) -> np.ndarray:
        """bool [N], True for items with at least one of the attributes; unknown attributes count for nothing."""
        result = np.zeros(len(self.catalogue), dtype=bool)
        for attribute in attributes:
            result[self._codes_of_attribute.get(attribute, [])] = True
        return result

    def in_space(self, space: Space) -> np.ndarray:
        """Vectors of all items, float32 [N, D], or [N, H] for `semantic`; NaN for an item that has none of its own there."""
        if space == "collaborative":
            return np.where(self.has_collaborative[:, None], self.collaborative, np.float32(np.nan))
        return self.aligned if space == "aligned" else self.semantic

    @cached_property
    def _item_array(self) -> pa.Array:
        return pa.array(self.catalogue.item_ids, pa.string())

    def code_lists(self, item_ids: pa.ListArray | pa.ChunkedArray) -> ItemLists:
        """Codes of the items of B histories; those that the catalogue lacks are left out."""
        return places_in(item_ids, self._item_array)

    def codes(self, item_ids: list[str]) -> np.ndarray:
        """int64 codes of items; those that the catalogue lacks are left out."""
        code_of = self.catalogue.code_of
        return np.array([code_of[item_id] for item_id in item_ids if item_id in code_of], dtype=np.int64)

    def for_constructor(self) -> "ItemFeatures":
        """What the Constructor reads of the catalogue."""
        import torch

        from cesrec_core.constructor.model import ItemFeatures

        semantic, collaborative = torch.from_numpy(self.semantic), torch.from_numpy(self.collaborative)
        return ItemFeatures(self.catalogue.titles, self.catalogue.attributes, semantic, collaborative)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        table = pa.table(
            {
                c.ITEM_ID: self.catalogue.item_ids,
                c.TITLE: self.catalogue.titles,
                c.ATTRIBUTES: pa.array([list(values) for values in self.catalogue.attributes], pa.list_(pa.string())),
                c.IS_ACTIVE: self.is_active,
            }
        )
        pq.write_table(table, folder / ITEMS_FILE)
        names = ("semantic", "aligned", "collaborative", "has_collaborative", "residual_covariance")
        arrays = {name: getattr(self, name) for name in names}
        with copied_from_local_disk(folder / FEATURES_FILE) as scratch:
            save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, scratch)

    @classmethod
    def load(cls, folder: Path) -> "CatalogueFeatures":
        """Read what `save` wrote.

        Raises:
            ArtifactError: a file is damaged or gone, or the two are not of the same items.
        """
        try:
            catalogue = read_catalogue(folder)
            is_active = pq.read_table(folder / ITEMS_FILE, columns=[c.ITEM_ID, c.IS_ACTIVE]).sort_by(c.ITEM_ID)[c.IS_ACTIVE]
            features = cls(catalogue, np.asarray(is_active.to_pylist(), dtype=bool), **load_file(folder / FEATURES_FILE))
            of_items = (features.semantic, features.aligned, features.collaborative, features.has_collaborative)
            if any(len(array) != len(catalogue) for array in of_items):
                raise ValueError(f"its arrays are not of the {len(catalogue)} items beside it")
        except (InputDataError, OSError, SafetensorError, ValueError, LookupError, TypeError) as error:
            if is_no_answer(error):
                raise
            raise ArtifactError(
                f"{folder / FEATURES_FILE} or {ITEMS_FILE} beside it is damaged ({error}). Remove {folder}, and start again: "
                "it is made anew."
            ) from None
        return features
