"""Training pairs as Parquet: drawn where the histories are, read where the Constructor learns.

A training of a million histories needs some ten thousand of their windows. Drawn by the processes that hold the histories, the
pairs are all that the training process has to read.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from cesrec_core import columns as c
from cesrec_core.catalogue import CatalogueFeatures
from cesrec_core.constructor.pairs import (
    HISTORIES_NEEDED,
    MASKED,
    MIN_CONTEXT_ITEMS,
    PairDrawer,
    PairSettings,
    TrainingPair,
)
from cesrec_core.errors import InputDataError

TRAINING, MASKED_PLACES, NEXT_PLACE = "training", "masked_places", "next_place"
# One row is one pair. Item codes are places in the catalogue sorted by item_id; `history` holds MASKED where `target` is asked
# for. `seen`: codes of the user's training history, of validation pairs alone. `pair_id` tells nobody whose history it is.
SCHEMA = pa.schema(
    [
        pa.field(c.PAIR_ID, pa.string()),
        pa.field(c.PAIR_KIND, pa.string()),
        pa.field(c.UTTERANCE, pa.string()),
        pa.field(c.HISTORY, pa.list_(pa.int32())),
        pa.field(c.TARGET, pa.list_(pa.int32())),
        pa.field(c.SEEN, pa.list_(pa.int32())),
    ]
)


class DrawPairs:
    """Users' training histories -> rows of SCHEMA, batch by batch.

    What is drawn of a user hangs on the user and the seed, on nobody else.

    Args:
        features_folder: of CatalogueFeatures, on storage that every worker sees.
        num_interactions: int [N], how often training histories hold each item of the catalogue.
    """

    def __init__(
        self,
        features_folder: Path,
        num_interactions: np.ndarray,
        settings: PairSettings,
        seed: int,
    ) -> None:
        self.features_folder = features_folder
        self.num_interactions = num_interactions
        self.settings = settings
        self.seed = seed

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Input columns: user_id, item_ids (what may be learned from, oldest first), target_item_id (the item after them; null
        but for validation users), num_pairs (to draw for training)."""
        features = CatalogueFeatures.load(self.features_folder)
        training = self._drawer(features, self.settings)
        # Every validation pair has words that say something: what they are worth is the question.
        validation = self._drawer(features, dataclasses.replace(self.settings, vague_share=0.0))
        for batch in batches:
            rows = []
            for user, item_ids, target, num_pairs in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                history = features.codes(item_ids)
                if len(history) <= MIN_CONTEXT_ITEMS:
                    continue
                key = hashlib.sha256(f"{self.seed} {user}".encode()).hexdigest()[:16]
                rng = np.random.default_rng(int(key, 16))
                rows += [to_row(f"{key}-{number:04}", TRAINING, training.draw(history, rng)) for number in range(num_pairs)]
                if target is not None:
                    code = int(features.codes([target])[0])
                    rows.append(to_row(key, MASKED_PLACES, validation.masked_places(history, rng), history))
                    rows.append(to_row(key, NEXT_PLACE, validation.next_place(history, code, rng), history))
            yield pa.RecordBatch.from_pylist(rows, schema=SCHEMA)

    def _drawer(self, features: CatalogueFeatures, settings: PairSettings) -> PairDrawer:
        catalogue = features.catalogue
        return PairDrawer(catalogue.titles, catalogue.attributes, features.collaborative, self.num_interactions, settings)


def to_row(pair_id: str, kind: str, pair: TrainingPair, seen: Sequence[int] | np.ndarray = ()) -> dict[str, Any]:
    """A pair as a row of SCHEMA."""
    values = {c.PAIR_ID: pair_id, c.PAIR_KIND: kind, c.UTTERANCE: pair.feedback}
    return {**values, c.HISTORY: pair.history, c.TARGET: pair.target, c.SEEN: np.asarray(seen, np.int32)}


class StoredPairs:
    """Training pairs that were drawn beforehand, and those that validation asks about.

    Raises:
        InputDataError: there are none, they cannot be read, or have codes of another catalogue.
    """

    def __init__(self, folder: Path, num_items: int) -> None:
        from cesrec_core.constructor.validation import ValidationSet

        # Whatever order its files and their rows were written in.
        table = _read(folder).sort_by([(c.PAIR_KIND, "ascending"), (c.PAIR_ID, "ascending")])
        for name in (c.HISTORY, c.TARGET, c.SEEN):
            codes = pc.list_flatten(table[name]).to_numpy()
            if len(codes) and not MASKED <= codes.min() <= codes.max() < num_items:
                raise InputDataError(f"{folder} holds pairs of another catalogue. Draw them again from this one.")
        of_kind = {kind: table.filter(pc.equal(table[c.PAIR_KIND], kind)) for kind in (TRAINING, MASKED_PLACES, NEXT_PLACE)}
        self._table, masked, next_place = of_kind.values()
        if not len(self._table) or not len(masked):
            raise InputDataError(
                f"{folder} holds {len(self._table)} pairs to train on and {len(masked)} to validate with. {HISTORIES_NEEDED}"
            )
        seen = [np.asarray(codes) for codes in masked[c.SEEN].to_pylist()]
        self.validation = ValidationSet(_pairs(masked), _pairs(next_place), seen)

    def __len__(self) -> int:
        return len(self._table)

    def draw(self, rng: np.random.Generator) -> TrainingPair:
        """One of the pairs at random."""
        return _pairs(self._table.slice(int(rng.integers(len(self._table))), 1))[0]


def _read(folder: Path) -> pa.Table:
    try:
        return pads.dataset(folder, format="parquet").to_table().cast(SCHEMA)
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        raise InputDataError(
            f"{folder} holds no training pairs as Parquet ({error}). Name a folder that the nightly job drew pairs into, or "
            "leave --pairs out."
        ) from None


def _pairs(table: pa.Table) -> list[TrainingPair]:
    columns = (table[name].to_pylist() for name in (c.UTTERANCE, c.HISTORY, c.TARGET))
    arrays = (
        (said, np.array(history, np.int32), np.array(target, np.int32)) for said, history, target in zip(*columns, strict=True)
    )
    return [TrainingPair(said, history, history == MASKED, target) for said, history, target in arrays]
