"""The worker that asks users what they mean, in construct_pseudo_sequences."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from cesrec_core import columns as c
from cesrec_core.actors.open_items import by_segments, closed_items, read_rules
from cesrec_core.catalogue import CatalogueFeatures
from cesrec_core.config import Config
from cesrec_core.feedback.clarity import CONFLICTING_FEEDBACK, reason_not_to_act
from cesrec_core.feedback.questions import OPEN_QUESTION, Question, best_question
from cesrec_core.ranking.scoring import Scorer
from cesrec_core.recommenders.artifact import load_recommender
from cesrec_core.schemas import CLARIFICATIONS


class AskClarifications:
    """user_id, item_ids, pseudo_item_ids, closed_item_ids, segments and unclear feedback -> clarifications.

    Each user's candidates are the base recommender's best for the history after the last round; nothing that they have had,
    rejected, or may not be recommended is among them. See `frames.histories.unclear_feedback` for the feedback.

    Args:
        rules_file: Parquet of rule, segment, item_id; None where there are no allow- or block-lists.
    """

    def __init__(
        self, recommender_folder: Path, catalogue_folder: Path, rules_file: Path | None, config: Config, run_id: str
    ) -> None:
        self.recommender_folder = recommender_folder
        self.catalogue_folder = catalogue_folder
        self.rules_file = rules_file
        self.config = config
        self.run_id = run_id

    def setup(self) -> None:
        recommender, _ = load_recommender(self.recommender_folder)
        self.scorer = Scorer(recommender, CatalogueFeatures.load(self.catalogue_folder))
        self.rules = read_rules(self.rules_file, self.scorer.vocabulary.idx_of)
        self.names = self.scorer.features.attribute_names

    def process(self, shard: pa.Table) -> pa.Table:
        rows = [
            row
            for users, allowed in by_segments(shard, self.rules, len(self.scorer.vocabulary))
            for row in self._of_segment(users, allowed & self.scorer.allowed)
        ]
        return pa.Table.from_pylist(rows, schema=CLARIFICATIONS.arrow_schema())

    @torch.inference_mode()
    def _of_segment(self, users: pa.Table, allowed: Tensor) -> list[dict[str, Any]]:
        current = self.scorer.read(pc.coalesce(users[c.PSEUDO_ITEM_IDS], users[c.ITEM_IDS]))
        closed = self.scorer.read(closed_items(users)).idx
        number = self.config.construct_pseudo_sequences.num_question_candidates
        found = self.scorer.best(current, closed, allowed, number)
        return [
            self._row(user, item_idx[item_idx > 0], products[item_idx > 0])
            for user, item_idx, products in zip(users.to_pylist(), found.item_idx, found.products, strict=True)
        ]

    def _row(self, user: dict[str, Any], item_idx: Tensor, products: Tensor) -> dict[str, Any]:
        wanted = user[c.WANTED_ATTRIBUTES], user[c.WANTED_ITEM_IDS]
        unwanted = user[c.UNWANTED_ATTRIBUTES], user[c.UNWANTED_ITEM_IDS]
        reason = reason_not_to_act(user[c.UTTERANCE], user[c.IS_VAGUE], wanted, unwanted)
        in_conflict = set(wanted[0]) & set(unwanted[0]) if reason == CONFLICTING_FEEDBACK else set()
        question = OPEN_QUESTION
        if in_conflict:
            question = self._question(item_idx, products, in_conflict)
        if question is OPEN_QUESTION:
            question = self._question(item_idx, products, set(self.names) - set(user[c.KNOWN_ATTRIBUTES]))
        return {
            c.RUN_ID: self.run_id,
            c.USER_ID: user[c.USER_ID],
            c.FEEDBACK_ID: user[c.FEEDBACK_ID],
            c.REASON: reason,
            c.QUESTION: question.text,
            c.QUESTION_ATTRIBUTES: list(question.attributes),
            c.INFORMATION_GAIN: question.information_gain,
        }

    def _question(self, item_idx: Tensor, products: Tensor, attributes: set[str]) -> Question:
        """The best question about some attributes; among what the user may still get, and about nothing that all of it has."""
        places = [place for place, name in enumerate(self.names) if name in attributes]
        if not len(item_idx) or not places:
            return OPEN_QUESTION
        probabilities = products.softmax(dim=0).double().cpu().numpy()
        has = self.scorer.item_attributes[item_idx.cpu()][:, places].numpy() > 0
        return best_question(np.asarray(probabilities), np.asarray(has), [self.names[place] for place in places])
