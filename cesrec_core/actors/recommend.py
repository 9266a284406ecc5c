"""The worker of recommend."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from cesrec_core import columns as c
from cesrec_core.actors.devices import device_of_worker
from cesrec_core.actors.open_items import by_segments, closed_items, read_rules
from cesrec_core.catalogue import CatalogueFeatures
from cesrec_core.config import Config
from cesrec_core.constructor.artifact import load_constructor
from cesrec_core.constructor.recommender import NextPlaceRecommender
from cesrec_core.item_lists import ItemLists
from cesrec_core.ranking.next_place import next_place_part
from cesrec_core.ranking.product_search import top_products
from cesrec_core.ranking.scoring import ReadHistories, Scorer
from cesrec_core.ranking.top_k import base_scores, top_k
from cesrec_core.recommenders.artifact import load_recommender
from cesrec_core.recommenders.batches import left_pad
from cesrec_core.schemas import RECOMMENDATIONS

# Scores are nats; what lies between two float32 sums of the same numbers is a hundredth of this.
SCORE_DECIMALS = 6
# Of speaking users, whose every item has a score in several parts: 128 MiB a part.
SCORES_PER_BATCH = 2**24
# Of silent users, numbers in their vectors: 256 MiB.
VECTORS_PER_SEARCH = 2**26


@dataclass(frozen=True)
class ScoreParts:
    """The parts of the scores of B users, float64 [B, V + 1] in nats; `base` is -inf where an item is not allowed."""

    base: Tensor
    attributes: Tensor
    aligned: Tensor
    constructor: Tensor

    @property
    def total(self) -> Tensor:
        """Rounded, so that neither the other users of a batch nor the processor decide between items that are as good."""
        return (self.base + self.attributes + self.aligned + self.constructor).round(decimals=SCORE_DECIMALS)

    def of(self, chosen: Tensor) -> "ScoreParts":
        """Of some items of each user: item_idx int64 [B, k] -> parts [B, k]."""
        parts = (self.base, self.attributes, self.aligned, self.constructor)
        return ScoreParts(*(part.gather(1, chosen) for part in parts))


class Recommend:
    """user_id, item_ids, closed_item_ids, segments, pseudo_item_ids, round and words -> recommendations.

    Closed items are null for users who have none, and segments, sorted, for users in none. All columns after them are
    null for users without feedback, who get the base recommender on their own history. The words are utterance, the newest
    that is clear, and (un)wanted_attributes and (un)wanted_item_ids of all that they said.

    Args:
        rules_file: Parquet of rule, segment, item_id; None where there are no allow- or block-lists.
    """

    def __init__(
        self,
        recommender_folder: Path,
        constructor_folder: Path,
        catalogue_folder: Path,
        rules_file: Path | None,
        config: Config,
        run_id: str,
    ) -> None:
        self.recommender_folder = recommender_folder
        self.constructor_folder = constructor_folder
        self.catalogue_folder = catalogue_folder
        self.rules_file = rules_file
        self.config = config
        self.run_id = run_id

    def setup(self) -> None:
        features = CatalogueFeatures.load(self.catalogue_folder)
        settings = self.config.recommend
        self.constructor = None
        if settings.base == "constructor" or settings.constructor_weight > 0:
            model_folder = Path(self.config.finetune_constructor.model_path)
            constructor = load_constructor(self.constructor_folder, model_folder, features.for_constructor())
            self.constructor = constructor.to(device_of_worker())
        self.next_place = None
        if settings.base == "constructor" and self.constructor is not None:
            # It knows every item of the catalogue, cold ones too, by its text.
            self.next_place = NextPlaceRecommender(self.constructor, features.catalogue.item_ids)
            self.scorer = Scorer(self.next_place, features)
        else:
            recommender, _ = load_recommender(self.recommender_folder)
            recommender = recommender.to(device_of_worker())
            self.scorer = Scorer(recommender, features, settings.include_cold_items, settings.cold_item_bonus)
        self.rules = read_rules(self.rules_file, self.scorer.vocabulary.idx_of)

    def process(self, shard: pa.Table) -> pa.Table:
        tables = [
            part
            for users, allowed in by_segments(shard, self.rules, len(self.scorer.vocabulary))
            for part in self._of_segment(users, allowed & self.scorer.allowed)
            if len(part)
        ]
        return pa.concat_tables(tables) if tables else RECOMMENDATIONS.arrow_schema().empty_table()

    def _of_segment(self, users: pa.Table, allowed: Tensor) -> Iterator[pa.Table]:
        has_words = pc.is_valid(users[c.UTTERANCE])
        silent, speaking = users.filter(pc.invert(has_words)), users.filter(has_words)
        # The search blocks its users by itself, and learns on the way how large a block should be.
        size = max(1, VECTORS_PER_SEARCH // self.scorer.item_vectors.shape[1])
        for start in range(0, len(silent), size):
            yield self._silent(silent.slice(start, size), allowed)
        size = max(1, min(self.config.recommend.batch_size, SCORES_PER_BATCH // len(allowed)))
        for start in range(0, len(speaking), size):
            yield self._speaking(speaking.slice(start, size), allowed)

    @torch.inference_mode()
    def _silent(self, users: pa.Table, allowed: Tensor) -> pa.Table:
        read, closed = self._read(users)
        vectors = self.scorer.encode(read)
        items, top_k = self.scorer.item_vectors, self.config.recommend.top_k
        found = top_products(vectors, items, closed, allowed.to(items.device), top_k, is_normalised=True)
        if found.log_normaliser is None:
            raise RuntimeError("the search was asked for its normaliser and gave none")
        base = (found.products - found.log_normaliser[:, None]).float().cpu()
        nothing = torch.zeros_like(base)
        return self._rows(users, found.item_idx.cpu(), ScoreParts(base, nothing, nothing, nothing))

    @torch.inference_mode()
    def _speaking(self, users: pa.Table, allowed: Tensor) -> pa.Table:
        read, closed = self._read(users)
        parts = self._parts(users, read, allowed)
        chosen, _ = top_k(parts.total, list(closed), self.config.recommend.top_k)
        return self._rows(users, chosen, parts.of(chosen))

    @torch.inference_mode()
    def parts(self, users: pa.Table) -> tuple[ScoreParts, Tensor]:
        """Parts of the scores of all items for one user, and which the rules allow, bool [V + 1].

        What the user must not be shown has a score all the same, and what the rules forbid, too.
        """
        ((users, allowed),) = by_segments(users, self.rules, len(self.scorer.vocabulary))
        base = self.base_part(users)
        if users[c.UTTERANCE].null_count:
            nothing = torch.zeros_like(base)
            parts = ScoreParts(base, nothing, nothing, nothing)
        else:
            parts = self._parts(users, self._read(users)[0], self.scorer.allowed)
            parts = dataclasses.replace(parts, base=base)
        return parts, allowed & self.scorer.allowed

    @torch.inference_mode()
    def base_part(self, users: pa.Table) -> Tensor:
        """The base scores alone, float64 [B, V + 1], normalised over what the rules allow; all users of the same segments."""
        ((users, allowed),) = by_segments(users, self.rules, len(self.scorer.vocabulary))
        read, _ = self._read(users)
        vectors = self.scorer.encode(read) if users[c.UTTERANCE].null_count else self._vectors(users, read)
        products = vectors.double() @ self.scorer.item_vectors.double().T
        is_normalised_over = (allowed & self.scorer.allowed).to(products.device)
        normaliser = products[:, is_normalised_over].logsumexp(dim=1, keepdim=True)
        return (products - normaliser).masked_fill(~self.scorer.allowed.to(products.device), -torch.inf).cpu()

    def _parts(self, users: pa.Table, read: ReadHistories, allowed: Tensor) -> ScoreParts:
        items = self.scorer.item_vectors
        base = base_scores(self._vectors(users, read), items, allowed.to(items.device)).cpu()
        return ScoreParts(base, *self._feedback_scores(users), self._constructor_scores(users, read))

    def _vectors(self, users: pa.Table, read: ReadHistories) -> Tensor:
        """User vectors of those who spoke; only the Constructor hears the words."""
        if self.next_place is None:
            return self.scorer.encode(read)
        said, histories = users[c.UTTERANCE].to_pylist(), list(read.idx)
        size = self.config.construct_pseudo_sequences.batch_size
        blocks = [
            self.next_place.encode_with_words(
                left_pad(histories[start : start + size], self.next_place.max_history_items), said[start : start + size]
            )
            for start in range(0, len(histories), size)
        ]
        return torch.cat(blocks)

    def _read(self, users: pa.Table) -> tuple[ReadHistories, ItemLists]:
        """The history that is read, and what a user must not be shown.

        What they have had stays seen, whatever the pseudo-sequence put in its place.
        """
        closed = self.scorer.read(closed_items(users))
        rewritten = pc.coalesce(users[c.PSEUDO_ITEM_IDS], users[c.ITEM_IDS])
        return self.scorer.read(rewritten), closed.idx

    def _rows(self, users: pa.Table, chosen: Tensor, parts: ScoreParts) -> pa.Table:
        """One row for each place of the lists that holds an item; all [B, k]."""
        rows, places = np.nonzero(chosen.numpy())
        base, attributes, aligned, heard = (
            part.numpy()[rows, places] for part in (parts.base, parts.attributes, parts.aligned, parts.constructor)
        )
        columns = {
            c.RUN_ID: pa.repeat(self.run_id, len(rows)),
            c.USER_ID: users[c.USER_ID].take(rows),
            c.RANK: places + 1,
            c.ITEM_ID: self.scorer.vocabulary_array.take(chosen.numpy()[rows, places] - 1),
            c.SCORE: base + attributes + aligned + heard,
            c.BASE_SCORE: base,
            c.FEEDBACK_SCORE: attributes + aligned,
            c.CONSTRUCTOR_SCORE: heard,
            c.ROUND: pc.fill_null(users[c.ROUND], 0).take(rows),
            c.ATTRIBUTE_SCORE: attributes,
            c.ALIGNED_SCORE: aligned,
        }
        schema = RECOMMENDATIONS.arrow_schema()
        return pa.table({name: columns[name] for name in schema.names}).cast(schema)

    def _feedback_scores(self, users: pa.Table) -> tuple[Tensor, Tensor]:
        """Weighted match of words and items, by attributes and in the aligned space, [B, V + 1] each."""
        weights = self.config.recommend
        names = (c.WANTED_ATTRIBUTES, c.UNWANTED_ATTRIBUTES, c.WANTED_ITEM_IDS, c.UNWANTED_ITEM_IDS)
        match = self.scorer.match(*(users[name].to_pylist() for name in names))
        return weights.attribute_weight * match.attributes, weights.aligned_weight * match.aligned

    def _constructor_scores(self, users: pa.Table, read: ReadHistories) -> Tensor:
        """Weighted log-probabilities of the next place, [B, V + 1]."""
        if self.constructor is None or self.next_place is not None:
            return torch.zeros(len(users), len(self.scorer.codes))
        said, size = users[c.UTTERANCE].to_pylist(), self.config.construct_pseudo_sequences.batch_size
        weight = self.config.recommend.constructor_weight
        return weight * next_place_part(self.constructor, self.scorer, read.codes, said, size)
