"""The worker of construct_pseudo_sequences."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from cesrec_core import columns as c
from cesrec_core.actors.devices import device_of_worker
from cesrec_core.artifacts import read_manifest
from cesrec_core.catalogue import CatalogueFeatures
from cesrec_core.config import Config
from cesrec_core.constructor.artifact import load_constructor
from cesrec_core.constructor.decoding import NO_ITEM
from cesrec_core.outliers import OutlierRule
from cesrec_core.recommenders.artifact import load_recommender
from cesrec_core.rewriting import Remark, Rewriter, RewriteRequest, Round
from cesrec_core.schemas import PSEUDO_SEQUENCES
from cesrec_core.scoring import Scorer


class ConstructPseudoSequences:
    """user_id, item_ids, masked_positions, said -> pseudo_sequences, one row per round."""

    def __init__(
        self, recommender_folder: Path, constructor_folder: Path, catalogue_folder: Path, config: Config, run_id: str
    ) -> None:
        self.recommender_folder = recommender_folder
        self.constructor_folder = constructor_folder
        self.catalogue_folder = catalogue_folder
        self.config = config
        self.run_id = run_id

    def setup(self) -> None:
        self.features = CatalogueFeatures.load(self.catalogue_folder)
        base = Path(self.config.finetune_constructor.model_path)
        model = load_constructor(self.constructor_folder, base, self.features.for_constructor())
        self.constructor_id = read_manifest(self.constructor_folder, "constructor").artifact_id
        section, seed = self.config.construct_pseudo_sequences, self.config.run.seed
        rule = OutlierRule.of(self.config.mask_outliers, seed)
        scorer = None
        if section.needs_recommender:
            recommender, _ = load_recommender(self.recommender_folder)
            scorer = Scorer(recommender.to(device_of_worker()), self.features)
        self.rewriter = Rewriter(model.to(device_of_worker()), self.features, rule, section, seed, scorer)

    def process(self, shard: pa.Table) -> pa.Table:
        users = shard[c.USER_ID].to_pylist()
        histories = shard[c.ITEM_IDS].to_pylist()
        masks = shard[c.MASKED_POSITIONS].to_pylist()
        said = shard[c.SAID].to_pylist()
        requests = [
            RewriteRequest(self.features.codes(history), mask, [_remark(row) for row in rows])
            for history, mask, rows in zip(histories, masks, said, strict=True)
        ]
        rounds = self.rewriter.rewrite(requests)
        rows = [
            self._row(user, number, done)
            for user, of_user in zip(users, rounds, strict=True)
            for number, done in enumerate(of_user, start=1)
        ]
        return pa.Table.from_pylist(rows, schema=PSEUDO_SEQUENCES.arrow_schema())

    def _row(self, user: str, number: int, done: Round) -> dict[str, Any]:
        item_ids = self.features.catalogue.item_ids
        return {
            c.RUN_ID: self.run_id,
            c.USER_ID: user,
            c.ROUND: number,
            c.ITEM_IDS: [item_ids[code] for code in done.codes],
            c.REPLACED_POSITIONS: done.replaced_positions,
            c.REPLACED_ITEM_IDS: [item_ids[code] for code in done.replaced_codes],
            c.PROBABILITIES: done.probabilities,
            c.MARGINS: done.margins,
            c.RUNNER_UP_ITEM_IDS: [None if code == NO_ITEM else item_ids[code] for code in done.runner_ups],
            c.FEEDBACK_ID: done.feedback_id,
            c.IS_FALLBACK: done.fallback_reason is not None,
            c.FALLBACK_REASON: done.fallback_reason,
            c.CONSTRUCTOR_ID: self.constructor_id,
        }


def _remark(row: dict[str, Any]) -> Remark:
    names = (c.UNWANTED_ITEM_IDS, c.UNWANTED_ATTRIBUTES, c.WANTED_ITEM_IDS, c.WANTED_ATTRIBUTES)
    return Remark(row[c.FEEDBACK_ID], row[c.UTTERANCE], row[c.IS_VAGUE], *(tuple(row[name]) for name in names))
