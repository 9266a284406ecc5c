"""The worker of understand_feedback."""

from pathlib import Path

import pyarrow as pa

from cesrec_core import columns as c
from cesrec_core.actors.devices import device_of_worker
from cesrec_core.config import UnderstandFeedbackSection
from cesrec_core.datasets import read_catalogue
from cesrec_core.feedback.answers import read_answer
from cesrec_core.feedback.listening import listener_id, open_listener
from cesrec_core.feedback.understanding import Signals
from cesrec_core.feedback.vocabulary import CatalogueVocabulary
from cesrec_core.schemas import FEEDBACK_SIGNALS


class UnderstandFeedback:
    """feedback_id, utterance, recommended_item_ids, question_attributes, utterance_hash -> feedback_signals.

    `question_attributes` are what the question had offered that the utterance answers; null where it answers none.

    Args:
        cache: folder for what is fitted on the sentence model.
    """

    def __init__(self, catalogue_folder: Path, section: UnderstandFeedbackSection, cache: Path | None = None) -> None:
        self.catalogue_folder = catalogue_folder
        self.section = section
        self.cache = cache

    def setup(self) -> None:
        catalogue = read_catalogue(self.catalogue_folder)
        vocabulary = CatalogueVocabulary.of(catalogue)
        self.model_id = listener_id(self.section, vocabulary)
        self.listener = open_listener(self.section, vocabulary, device_of_worker(), self.cache)

    def process(self, shard: pa.Table) -> pa.Table:
        said = shard[c.UTTERANCE].to_pylist()
        alone = self.listener.read(said, shard[c.RECOMMENDED_ITEM_IDS].to_pylist())
        read = [self._read(*row) for row in zip(said, shard[c.QUESTION_ATTRIBUTES].to_pylist(), alone, strict=True)]
        signals = [signal for signal, _ in read]
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
            c.RESTATED: [restated for _, restated in read],
        }
        return pa.table(columns, schema=FEEDBACK_SIGNALS.arrow_schema())

    def _read(self, utterance: str, offered: list[str] | None, alone: Signals) -> tuple[Signals, str | None]:
        """What was understood, read as an answer where something had been offered; see `read_answer`."""
        if not offered:
            return alone, None
        return read_answer(utterance[: self.section.max_utterance_characters], offered, alone)
