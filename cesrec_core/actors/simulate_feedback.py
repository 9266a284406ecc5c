"""The worker of simulate_feedback."""

import dataclasses
import datetime as dt
import hashlib
from pathlib import Path

import pyarrow as pa

from cesrec_core import columns as c
from cesrec_core.actors.chat_endpoint import ChatEndpoint, Ledger
from cesrec_core.actors.devices import device_of_worker
from cesrec_core.catalogue import CatalogueFeatures
from cesrec_core.config import SimulateFeedbackSection
from cesrec_core.feedback.leaks import LeakCheck
from cesrec_core.feedback.local_chat import LocalChat
from cesrec_core.feedback.personas import Persona
from cesrec_core.feedback.prompted_simulator import PromptedSimulator
from cesrec_core.feedback.simulated_users import (
    GuardedSimulator,
    Past,
    Simulator,
    Situation,
    TemplateSimulator,
    blind_situation,
)
from cesrec_core.language_models import locate_model
from cesrec_core.ranking.scoring import Scorer
from cesrec_core.recommenders.artifact import load_recommender
from cesrec_core.schemas import FEEDBACK, Column

NUM_SHOWN = 10
SOURCES = {"target": "simulated_aware", "past": "simulated_blind"}
# Rows of `feedback`, and why a template spoke instead of the simulator, where one did.
SIMULATED_FEEDBACK = dataclasses.replace(
    FEEDBACK,
    columns=(*FEEDBACK.columns, Column(c.FALLBACK_REASON, "string", "Why a template spoke: leak or no_answer", nullable=True)),
)


class SimulateFeedback:
    """user_id, item_ids, target_item_id, liked_item_ids, disliked_item_ids -> feedback, with a reason where a template spoke.

    Each user reacts to the base recommender's list. What they know of is their target's attributes, or those of what they had
    before (`knows`).

    Args:
        ledger: file in which an endpoint's budget is kept.
    """

    def __init__(
        self,
        recommender_folder: Path,
        catalogue_folder: Path,
        section: SimulateFeedbackSection,
        seed: int,
        said_at: dt.datetime,
        ledger: Path,
    ) -> None:
        self.recommender_folder = recommender_folder
        self.catalogue_folder = catalogue_folder
        self.section = section
        self.seed = seed
        self.said_at = said_at
        self.ledger = ledger

    def setup(self) -> None:
        recommender, _ = load_recommender(self.recommender_folder)
        self.features = CatalogueFeatures.load(self.catalogue_folder)
        self.scorer = Scorer(recommender, self.features)
        catalogue = self.features.catalogue
        templates = TemplateSimulator(self.section.max_attributes, self.section.unwanted_share)
        leaks = LeakCheck(catalogue.item_ids, catalogue.titles, catalogue.attributes)
        self.simulator = GuardedSimulator(self._engine(templates), templates, leaks)

    def process(self, shard: pa.Table) -> pa.Table:
        users, targets = shard[c.USER_ID].to_pylist(), shard[c.TARGET_ITEM_ID].to_pylist()
        lists = self.scorer.top_items(self.scorer.read(shard[c.ITEM_IDS]), NUM_SHOWN)
        past = zip(shard[c.LIKED_ITEM_IDS].to_pylist(), shard[c.DISLIKED_ITEM_IDS].to_pylist(), strict=True)
        situations = [self._situation(*row) for row in zip(users, targets, lists, past, strict=True)]
        said = self.simulator.say(situations, targets)
        columns = {
            c.FEEDBACK_ID: [self._key(user) for user in users],
            c.USER_ID: users,
            c.CREATED_AT: [self.said_at] * len(users),
            c.RECOMMENDED_ITEM_IDS: lists,
            c.UTTERANCE: [utterance.utterance for utterance in said],
            c.SOURCE: [SOURCES[self.section.knows]] * len(users),
            c.FALLBACK_REASON: [utterance.fallback_reason for utterance in said],
        }
        return pa.table(columns, schema=SIMULATED_FEEDBACK.arrow_schema())

    def _engine(self, templates: TemplateSimulator) -> Simulator:
        section = self.section
        if section.engine == "templates":
            return templates
        if section.engine == "endpoint":
            ledger = Ledger(self.ledger, section.endpoint.max_requests, section.endpoint.max_tokens)
            endpoint = ChatEndpoint(section.endpoint, section.max_new_tokens, ledger, setting="simulate_feedback.endpoint")
            return PromptedSimulator(endpoint, section.max_attributes, section.unwanted_share)
        source = locate_model(section.model_path, section.revision, "simulate_feedback.model_path")
        chat = LocalChat(source, section.max_new_tokens, device_of_worker())
        return PromptedSimulator(chat, section.max_attributes, section.unwanted_share)

    def _key(self, user: str) -> str:
        text = f"{self.seed}\x1f{self.said_at.isoformat()}\x1f{user}"
        return "simulated-" + hashlib.sha256(text.encode()).hexdigest()[:24]

    def _situation(self, user: str, target: str, shown: list[str], past: tuple[list[str], list[str]]) -> Situation:
        persona = Persona.of(user, self.seed, self.section.moods)
        # Keyed by the user: what one person says does not depend on who else is asked.
        seed = (self.seed, int(self._key(user)[-8:], 16))
        if self.section.knows == "past":
            liked, disliked = (self._attributes(items) for items in past)
            return blind_situation(Past(liked, disliked), self._attributes(shown), persona, seed)
        (wanted,) = self._attributes([target])
        return Situation(wanted, self._attributes(shown), persona, seed)

    def _attributes(self, item_ids: list[str]) -> tuple[tuple[str, ...], ...]:
        catalogue = self.features.catalogue
        return tuple(catalogue.attributes[catalogue.code_of[item_id]] for item_id in item_ids)
