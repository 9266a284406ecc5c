"""The worker of understand_feedback."""

from pathlib import Path

import pyarrow as pa

from cesrec_core import columns as c
from cesrec_core.datasets import read_catalogue
from cesrec_core.feedback.answers import read_answer
from cesrec_core.feedback.understanding import Signals, model_id, understand
from cesrec_core.feedback.vocabulary import Vocabulary
from cesrec_core.schemas import FEEDBACK_SIGNALS


class UnderstandFeedback:
    """feedback_id, utterance, recommended_item_ids, question_attributes, utterance_hash -> feedback_signals.

    `question_attributes` are what the question had offered that the utterance answers; null where it answers none.
    """

    def __init__(self, catalogue_folder: Path, max_characters: int) -> None:
        self.catalogue_folder = catalogue_folder
        self.max_characters = max_characters

    def setup(self) -> None:
        catalogue = read_catalogue(self.catalogue_folder)
        self.vocabulary = Vocabulary.from_items(catalogue.item_ids, catalogue.titles, catalogue.attributes)
        self.model_id = model_id(self.vocabulary)

    def process(self, shard: pa.Table) -> pa.Table:
        said = (shard[name].to_pylist() for name in (c.UTTERANCE, c.RECOMMENDED_ITEM_IDS, c.QUESTION_ATTRIBUTES))
        read = [self._read(*row) for row in zip(*said, strict=True)]
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

    def _read(self, utterance: str, shown: list[str], offered: list[str] | None) -> tuple[Signals, str | None]:
        signals = understand(utterance, shown, self.vocabulary, self.max_characters)
        return read_answer(utterance[: self.max_characters], offered, signals) if offered else (signals, None)
