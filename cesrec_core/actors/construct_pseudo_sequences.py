"""The worker of construct_pseudo_sequences."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from cesrec_core import columns as c
from cesrec_core.actors.chat_endpoint import ChatEndpoint, Ledger
from cesrec_core.actors.devices import device_of_worker
from cesrec_core.artifacts import read_manifest
from cesrec_core.catalogue import CatalogueFeatures
from cesrec_core.config import Config
from cesrec_core.constructor.artifact import base_identity, load_constructor
from cesrec_core.constructor.construction import Decoder
from cesrec_core.constructor.decoding import NO_ITEM
from cesrec_core.constructor.title_writer import local_title_decoder
from cesrec_core.constructor.titles import TitleDecoder, Titles
from cesrec_core.ranking.scoring import Scorer
from cesrec_core.recommenders.artifact import load_recommender
from cesrec_core.rewriting.outliers import OutlierRule
from cesrec_core.rewriting.rewriter import Remark, Rewriter, RewriteRequest, Round, item_decoder
from cesrec_core.schemas import PSEUDO_SEQUENCES


class ConstructPseudoSequences:
    """user_id, item_ids, masked_positions, said -> pseudo_sequences, one row per round.

    Args:
        ledger: file in which the requests of a run to an endpoint are counted; needed where one decides.
    """

    def __init__(
        self,
        recommender_folder: Path,
        constructor_folder: Path,
        catalogue_folder: Path,
        config: Config,
        run_id: str,
        ledger: Path | None = None,
    ) -> None:
        self.recommender_folder = recommender_folder
        self.constructor_folder = constructor_folder
        self.catalogue_folder = catalogue_folder
        self.config = config
        self.run_id = run_id
        self.ledger = ledger

    def setup(self) -> None:
        self.features = CatalogueFeatures.load(self.catalogue_folder)
        section, seed = self.config.construct_pseudo_sequences, self.config.run.seed
        rule = OutlierRule.of(self.config.mask_outliers, seed)
        scorer = None
        if section.needs_recommender:
            recommender, _ = load_recommender(self.recommender_folder)
            scorer = Scorer(recommender.to(device_of_worker()), self.features)
        decoder, self.constructor_id = self._decoder(scorer)
        self.rewriter = Rewriter(decoder, self.features, rule, section, scorer)

    def _decoder(self, scorer: Scorer | None) -> tuple[Decoder, str]:
        """Who decides masked places, and its name."""
        section, base = self.config.construct_pseudo_sequences, self.config.finetune_constructor
        folder, titles = Path(base.model_path), self.features.catalogue.titles
        if section.decoder == "items":
            model = load_constructor(self.constructor_folder, folder, self.features.for_constructor()).to(device_of_worker())
            artifact_id = read_manifest(self.constructor_folder, "constructor").artifact_id
            return item_decoder(model, section, self.config.run.seed, scorer), artifact_id
        if section.decoder == "titles":
            return local_title_decoder(folder, base, section, titles, device_of_worker()), f"titles-{base_identity(folder)}"
        if self.ledger is None:
            raise ValueError("an endpoint needs a file to count requests in: give the worker a ledger")
        ledger = Ledger(self.ledger, section.endpoint.max_requests, section.endpoint.max_tokens)
        endpoint = ChatEndpoint(section.endpoint, section.max_title_tokens, ledger)
        decoder = TitleDecoder(Titles.of(titles), endpoint, base.history_items, section.written_titles)
        return decoder, f"endpoint-{section.endpoint.model}"

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
            c.PROBABILITIES: _known(done.probabilities),
            c.MARGINS: _known(done.margins),
            c.RUNNER_UP_ITEM_IDS: [None if code == NO_ITEM else item_ids[code] for code in done.runner_ups],
            c.FEEDBACK_ID: done.feedback_id,
            c.IS_FALLBACK: done.fallback_reason is not None,
            c.FALLBACK_REASON: done.fallback_reason,
            c.CONSTRUCTOR_ID: self.constructor_id,
            c.REJECTED_TITLES: list(done.rejected) or None,
        }


def _known(values: Sequence[float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values]


def _remark(row: dict[str, Any]) -> Remark:
    return Remark(
        feedback_id=row[c.FEEDBACK_ID],
        utterance=row[c.UTTERANCE],
        is_vague=row[c.IS_VAGUE],
        unwanted_item_ids=tuple(row[c.UNWANTED_ITEM_IDS]),
        unwanted_attributes=tuple(row[c.UNWANTED_ATTRIBUTES]),
        wanted_item_ids=tuple(row[c.WANTED_ITEM_IDS]),
        wanted_attributes=tuple(row[c.WANTED_ATTRIBUTES]),
    )
