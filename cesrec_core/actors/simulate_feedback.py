"""The worker of simulate_feedback."""

import datetime as dt
import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from cesrec_core import columns as c
from cesrec_core.catalogue import CatalogueFeatures
from cesrec_core.config import SimulateFeedbackSection
from cesrec_core.feedback.simulator import simulate_utterance
from cesrec_core.recommenders.artifact import load_recommender
from cesrec_core.schemas import FEEDBACK
from cesrec_core.scoring import Scorer

SOURCE = "simulated_aware"
NUM_SHOWN = 10


class SimulateFeedback:
    """user_id, item_ids, target_item_id -> feedback: each user reacts to the base recommender's list."""

    def __init__(
        self,
        recommender_folder: Path,
        catalogue_folder: Path,
        section: SimulateFeedbackSection,
        seed: int,
        said_at: dt.datetime,
    ) -> None:
        self.recommender_folder = recommender_folder
        self.catalogue_folder = catalogue_folder
        self.section = section
        self.seed = seed
        self.said_at = said_at

    def setup(self) -> None:
        recommender, _ = load_recommender(self.recommender_folder)
        self.features = CatalogueFeatures.load(self.catalogue_folder)
        self.scorer = Scorer(recommender, self.features)

    def process(self, shard: pa.Table) -> pa.Table:
        users = shard[c.USER_ID].to_pylist()
        lists = self.scorer.top_items(self.scorer.read(shard[c.ITEM_IDS]), NUM_SHOWN)
        targets = shard[c.TARGET_ITEM_ID].to_pylist()
        columns = {
            c.FEEDBACK_ID: [self._key(user) for user in users],
            c.USER_ID: users,
            c.CREATED_AT: [self.said_at] * len(users),
            c.RECOMMENDED_ITEM_IDS: lists,
            c.UTTERANCE: [self._say(*row) for row in zip(users, targets, lists, strict=True)],
            c.SOURCE: [SOURCE] * len(users),
        }
        return pa.table(columns, schema=FEEDBACK.arrow_schema())

    def _key(self, user: str) -> str:
        text = f"{self.seed}\x1f{self.said_at.isoformat()}\x1f{user}"
        return "simulated-" + hashlib.sha256(text.encode()).hexdigest()[:24]

    def _say(self, user: str, target: str, shown: list[str]) -> str:
        attributes = self.features.catalogue.attributes
        code_of = self.features.catalogue.code_of
        # Keyed by the user: what one person says does not depend on who else is asked.
        rng = np.random.default_rng([self.seed, int(self._key(user)[-8:], 16)])
        return simulate_utterance(
            attributes[code_of[target]],
            [attributes[code_of[item]] for item in shown],
            rng,
            self.section.max_attributes,
            self.section.unwanted_share,
        )
