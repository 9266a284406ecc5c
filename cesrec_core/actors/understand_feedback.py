"""The worker of understand_feedback."""

from pathlib import Path

import pyarrow as pa

from cesrec_core import columns as c
from cesrec_core.actors.devices import device_of_worker
from cesrec_core.config import UnderstandFeedbackSection
from cesrec_core.datasets import read_catalogue
from cesrec_core.feedback.listening import listener_id, open_listener
from cesrec_core.feedback.vocabulary import Vocabulary
from cesrec_core.schemas import FEEDBACK_SIGNALS


class UnderstandFeedback:
    """feedback_id, utterance, recommended_item_ids, utterance_hash -> feedback_signals.

    Args:
        cache: folder for what is fitted on the sentence model.
    """

    def __init__(self, catalogue_folder: Path, section: UnderstandFeedbackSection, cache: Path | None = None) -> None:
        self.catalogue_folder = catalogue_folder
        self.section = section
        self.cache = cache

    def setup(self) -> None:
        catalogue = read_catalogue(self.catalogue_folder)
        vocabulary = Vocabulary.from_items(catalogue.item_ids, catalogue.titles, catalogue.attributes)
        self.model_id = listener_id(self.section, vocabulary)
        self.listener = open_listener(self.section, vocabulary, device_of_worker(), self.cache)

    def process(self, shard: pa.Table) -> pa.Table:
        signals = self.listener.read(shard[c.UTTERANCE].to_pylist(), shard[c.RECOMMENDED_ITEM_IDS].to_pylist())
        columns = {
            c.FEEDBACK_ID: shard[c.FEEDBACK_ID],
            c.MODEL_ID: [self.model_id] * len(shard),
            c.UTTERANCE_HASH: shard[c.UTTERANCE_HASH],
            **{
                name: [getattr(signal, name) for signal in signals]
                for name in (
                    c.INTENTS,
                    c.WANTED_ATTRIBUTES,
                    c.UNWANTED_ATTRIBUTES,
                    c.WANTED_ITEM_IDS,
                    c.UNWANTED_ITEM_IDS,
                    c.IS_VAGUE,
                    c.CONFIDENCE,
                )
            },
        }
        return pa.table(columns, schema=FEEDBACK_SIGNALS.arrow_schema())
