"""How understanding and final ranking hang on who speaks: people, simulated users of several moods, with a question or without.

    python tests/benchmarks/feedback_sources.py --phrasings FILE.jsonl [--config FILE] [--set evaluate.max_users=300]
        [--without-constructor]

Works on the warehouse of a finished spark-submit jobs/nightly_refresh.py whose models were trained with dataset.split
leave_one_out; scratch files are written there, no table is. FILE.jsonl has one utterance a line; of those that
tests/data/phrasings.json knows, genres and titles are replaced by what fits each user's held-out item. Rows have the same
users. As in the nightly job, nothing is done for a user whose words cannot be acted on: they count with the base recommender's
figures. Rows "asked" go on: the job's own question, the true answer, both read together. Only what `recommend.rejected_days`
keeps from a list after a mere "no" is left out here, since the list that was shown may hold the very item.

Weights of the re-rank are chosen on validation items, for each source. Intervals: 95 %, bootstrap over users. Prints a table,
paired differences, and one JSON object on the last line.
"""

import argparse
import dataclasses
import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from voices import Item, Person, Voice, answer, of_people, read_phrasings, voices

from cesrec_core import columns as c
from cesrec_core.actors.ask_clarifications import AskClarifications
from cesrec_core.actors.session import RaySession
from cesrec_core.config import load_config
from cesrec_core.datasets import Histories
from cesrec_core.delta_io.session import spark_session
from cesrec_core.evaluation.significance import Interval, bootstrap_interval, paired_test
from cesrec_core.evaluation.variants import (
    NUM_SHOWN,
    VARIANTS,
    Cases,
    Evaluator,
    Heard,
    Variant,
    Weights,
    choose_weights,
    per_user_measures,
)
from cesrec_core.feedback.answers import read_answer
from cesrec_core.feedback.clarity import reason_not_to_act
from cesrec_core.feedback.leaks import LeakCheck
from cesrec_core.feedback.simulated_users import Past
from cesrec_core.frames.histories import past_opinions
from cesrec_core.schemas import INTERACTIONS
from cesrec_core.sequences import Moment
from cesrec_core.stages.catalogue_features import export_features
from cesrec_core.stages.context import RunContext
from cesrec_core.stages.evaluate import open_evaluator
from cesrec_core.stages.runner import open_run

BASE, RE_RANK = "base", "base + re-rank"
OF_CONSTRUCTOR = ("CESRec", "next place alone")
MEASURES = ("HR@10", "NDCG@10")
ASKED = ", asked"
# Rows that are measured again with the question answered.
WITH_QUESTION = (
    "human",
    "human, names no genre",
    "simulated, knows the target, vague",
    "simulated, knows the target, contradictory",
)
PAIRS = (
    ("human", "simulated, knows the target"),
    ("human, names a genre", "simulated, knows the target"),
    ("simulated, knows past ratings", "simulated, knows the target"),
    *((name + ASKED, name) for name in WITH_QUESTION),
)


@dataclass(frozen=True)
class Row:
    """A source of feedback: what it was worth.

    Attributes:
        is_clear: bool [B], whether the words can be acted on.
        fits: bool [B], whether all that was read as wanted is the target's, and nothing that was read as unwanted.
        measures: by variant and measure, float64 [B].
        weights: of the re-rank.
    """

    name: str
    is_clear: np.ndarray
    fits: np.ndarray
    measures: dict[tuple[str, str], np.ndarray]
    weights: Weights


@dataclass(frozen=True)
class Moments:
    """The users of one moment, and who they are."""

    cases: Cases
    people: list[Person]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phrasings", type=Path, required=True)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--without-constructor", action="store_true")
    options = parser.parse_args()
    config = load_config(options.config, options.overrides)
    spark = spark_session(config.spark, "cesrec feedback sources")
    with RaySession(config.ray) as ray:
        context = open_run(config, spark, ray, dt.datetime.now(dt.UTC).date())
        evaluator, histories = open_evaluator(context)
        moments = [_moment(context, evaluator, histories, moment) for moment in ("validation", "test")]
        asker = _asker(context)
    spark.stop()
    catalogue, section = evaluator.features.catalogue, config.simulate_feedback
    leaks = LeakCheck(catalogue.item_ids, catalogue.titles, catalogue.attributes)
    phrasings = read_phrasings(options.phrasings)
    speakers = voices(phrasings, leaks, section.max_attributes, section.unwanted_share, config.run.seed)
    variants = () if options.without_constructor else OF_CONSTRUCTOR
    rows = [_base_row(evaluator, moments[1], variants)]
    for name, voice in speakers.items():
        rows += _rows(evaluator, moments, name, voice, Asking(asker, leaks), rows[0], variants)
        print(f"measured: {name}", flush=True)
    _print(rows, variants, len(phrasings), config.evaluate.num_bootstrap_samples, config.run.seed)
    return 0


def _moment(context: RunContext, evaluator: Evaluator, histories: Histories, moment: Moment) -> Moments:
    cases = evaluator.cases(histories, moment)
    scorer, catalogue = evaluator.scorer, evaluator.features.catalogue
    items = {
        item_id: Item(item_id, title, tuple(attributes))
        for item_id, title, attributes in zip(catalogue.item_ids, catalogue.titles, catalogue.attributes, strict=True)
    }
    shown = scorer.top_items(scorer.read(cases.histories), NUM_SHOWN)
    targets = [catalogue.item_ids[target] for target in cases.targets]
    past = _past(context, cases, targets, items)
    people = [
        Person(
            user_id,
            items[target],
            *(tuple(items[one] for one in ids) for ids in (seen, had)),
            past[user_id],
        )
        for user_id, target, seen, had in zip(cases.user_ids, targets, shown, cases.histories, strict=True)
    ]
    return Moments(cases, people)


def _past(context: RunContext, cases: Cases, targets: Sequence[str], items: dict[str, Item]) -> dict[str, Past]:
    """What each user liked and disliked of their history, as simulate_feedback takes it: nothing from the target on."""
    known = context.spark.createDataFrame(
        list(zip(cases.user_ids, cases.histories, targets, strict=True)),
        f"{c.USER_ID} string, {c.ITEM_IDS} array<string>, {c.TARGET_ITEM_ID} string",
    )
    interactions = context.warehouse.read(INTERACTIONS)
    section = context.config.ingest
    rows = past_opinions(known, interactions, section.liked_rating, section.disliked_rating).toArrow().to_pylist()
    return {
        row[c.USER_ID]: Past(
            *(
                tuple(items[item_id].attributes for item_id in row[name] or ())
                for name in (c.LIKED_ITEM_IDS, c.DISLIKED_ITEM_IDS)
            )
        )
        for row in rows
    }


def _asker(context: RunContext) -> AskClarifications:
    worker = AskClarifications(context.artifact("recommender")[0], export_features(context), None, context.config, "benchmark")
    worker.setup()
    return worker


@dataclass(frozen=True)
class Asking:
    """Questions of the nightly job's own worker, and true answers."""

    worker: AskClarifications
    leaks: LeakCheck

    def heard(self, evaluator: Evaluator, moment: Moments, said: Sequence[Heard]) -> list[Heard]:
        """What is understood after those whose words are not clear have been asked; what the others said."""
        unclear = [place for place, heard in enumerate(said) if not _is_clear(heard)]
        result = list(said)
        if not unclear:
            return result
        questions = self.worker.process(_unclear_table(moment.cases, said, unclear)).to_pylist()
        offered_to = {row[c.USER_ID]: row[c.QUESTION_ATTRIBUTES] for row in questions}
        for place in unclear:
            person = moment.people[place]
            offered = offered_to[person.user_id]
            words = answer(offered, person, self.leaks, evaluator.config.run.seed)
            (heard,) = _heard(evaluator, [words], [person])
            signals, restated = read_answer(words, offered, heard.signals) if offered else (None, None)
            result[place] = Heard(restated or words, signals or heard.signals)
        return result


def _unclear_table(cases: Cases, said: Sequence[Heard], places: Sequence[int]) -> pa.Table:
    """What `AskClarifications` reads, of users in some places."""
    strings = pa.list_(pa.string())
    nothing = pa.nulls(len(places), strings)
    signals = [said[place].signals for place in places]
    user_ids = pa.array([cases.user_ids[place] for place in places], pa.string())
    return pa.table(
        {
            c.USER_ID: user_ids,
            c.FEEDBACK_ID: user_ids,
            c.ITEM_IDS: pa.array([cases.histories[place] for place in places], strings),
            c.PSEUDO_ITEM_IDS: nothing,
            c.CLOSED_ITEM_IDS: nothing,
            c.SEGMENTS: nothing,
            c.KNOWN_ATTRIBUTES: pa.array([[]] * len(places), strings),
            c.UTTERANCE: pa.array([said[place].utterance for place in places], pa.string()),
            c.IS_VAGUE: pa.array([one.is_vague for one in signals], pa.bool_()),
            **{
                name: pa.array([list(getattr(one, name)) for one in signals], strings)
                for name in (c.WANTED_ATTRIBUTES, c.UNWANTED_ATTRIBUTES, c.WANTED_ITEM_IDS, c.UNWANTED_ITEM_IDS)
            },
        }
    )


def _heard(evaluator: Evaluator, utterances: Sequence[str], people: Sequence[Person]) -> list[Heard]:
    shown = [[item.item_id for item in person.shown] for person in people]
    return [Heard(*one) for one in zip(utterances, evaluator.listener.read(utterances, shown), strict=True)]


def _is_clear(heard: Heard) -> bool:
    signals = heard.signals
    wanted = signals.wanted_attributes, signals.wanted_item_ids
    unwanted = signals.unwanted_attributes, signals.unwanted_item_ids
    return reason_not_to_act(heard.utterance, signals.is_vague, wanted, unwanted) is None


def _fits(heard: Heard, person: Person) -> bool:
    own = set(person.target.attributes)
    return own.issuperset(heard.signals.wanted_attributes) and own.isdisjoint(heard.signals.unwanted_attributes)


def _base_row(evaluator: Evaluator, moment: Moments, variants: Sequence[str]) -> Row:
    ranks = evaluator.parts(moment.cases).full_ranks(_variant(BASE), [Weights()])[0]
    of_base = per_user_measures(ranks)
    silent = np.zeros(len(moment.people), dtype=bool)
    measures = {(variant, name): of_base[name] for variant in (RE_RANK, *variants) for name in MEASURES}
    return Row("nothing is said", silent, silent, measures, Weights())


def _rows(
    evaluator: Evaluator,
    moments: Sequence[Moments],
    name: str,
    voice: Voice,
    asking: Asking,
    base: Row,
    variants: Sequence[str],
) -> list[Row]:
    """A source's row, and that with questions where there is one."""
    heard = [_heard(evaluator, of_people(moment.people, voice), moment.people) for moment in moments]
    rows = [_measured(evaluator, moments, name, heard, base, variants)]
    if name in WITH_QUESTION:
        answered = [asking.heard(evaluator, moment, said) for moment, said in zip(moments, heard, strict=True)]
        rows.append(_measured(evaluator, moments, name + ASKED, answered, base, variants))
    return rows


def _measured(
    evaluator: Evaluator,
    moments: Sequence[Moments],
    name: str,
    heard: Sequence[list[Heard]],
    base: Row,
    variants: Sequence[str],
) -> Row:
    validation, test = (_clear_cases(moment.cases, said) for moment, said in zip(moments, heard, strict=True))
    is_clear = np.array([_is_clear(one) for one in heard[1]])
    fits = np.array([_fits(one, person) for one, person in zip(heard[1], moments[1].people, strict=True)])
    measures = {key: values.copy() for key, values in base.measures.items()}
    weights = Weights()
    if validation.user_ids:
        weights = choose_weights(evaluator.parts(validation), _variant(RE_RANK), evaluator.config.evaluate.weight_grid)
    if test.user_ids:
        parts = evaluator.parts(test)
        for variant in (RE_RANK, *variants):
            # Ranking by the next place alone has no weight that would matter.
            chosen = weights if variant == RE_RANK else Weights(constructor=1.0)
            of_variant = per_user_measures(parts.full_ranks(_variant(variant), [chosen])[0])
            for measure in MEASURES:
                measures[variant, measure][is_clear] = of_variant[measure]
    return Row(name, is_clear, fits & is_clear, measures, weights)


def _clear_cases(cases: Cases, heard: Sequence[Heard]) -> Cases:
    """The users whose words can be acted on, with these words."""
    places = [place for place, one in enumerate(heard) if _is_clear(one)]
    return dataclasses.replace(
        cases,
        user_ids=[cases.user_ids[place] for place in places],
        histories=[cases.histories[place] for place in places],
        codes=[cases.codes[place] for place in places],
        targets=cases.targets[places],
        target_idx=cases.target_idx[places],
        remarks=[[heard[place] for place in places]],
    )


def _variant(name: str) -> Variant:
    return next(variant for variant in VARIANTS if variant.name == name)


def _print(rows: Sequence[Row], variants: Sequence[str], num_phrasings: int, num_samples: int, seed: int) -> None:
    columns = [(variant, measure) for variant in (RE_RANK, *variants) for measure in MEASURES]
    print(f"\n{len(rows[0].is_clear)} users; {num_phrasings} phrasings of people\n")
    print("| who speaks | acted on | of these, fits the target | " + " | ".join(f"{v}, {m}" for v, m in columns) + " |")
    print("|---|---|---|" + "---|" * len(columns))
    for row in rows:
        fits = f"{row.fits.sum() / row.is_clear.sum():.0%}" if row.is_clear.any() else ""
        cells = [_cell(bootstrap_interval(row.measures[key], num_samples, seed)) for key in columns]
        print(f"| {row.name} | {row.is_clear.mean():.0%} | {fits} | " + " | ".join(cells) + " |")
    print()
    by_name = {row.name: row for row in rows}
    figures: dict[str, Any] = {"rows": [_figures(row, num_samples, seed) for row in rows], "differences": {}}
    for first, second in PAIRS:
        for variant, measure in columns:
            key = variant, measure
            test = paired_test(by_name[first].measures[key], by_name[second].measures[key], num_samples, seed)
            figures["differences"][f"{first} - {second}: {variant}, {measure}"] = dataclasses.asdict(test)
            print(f"- {first} against {second}: {variant}, {measure} {_cell(test.difference, '+')}, p = {test.p_value:.4f}")
    print("\n" + json.dumps(figures))


def _cell(interval: Interval, sign: str = "") -> str:
    return f"{interval.mean:{sign}.3f} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


def _figures(row: Row, num_samples: int, seed: int) -> dict[str, Any]:
    return {
        "name": row.name,
        "acted on, share": float(row.is_clear.mean()),
        "fits, share": float(row.fits.mean()),
        "weights": dataclasses.asdict(row.weights),
        **{
            f"{variant}, {measure}": dataclasses.asdict(bootstrap_interval(values, num_samples, seed))
            for (variant, measure), values in row.measures.items()
        },
    }


if __name__ == "__main__":
    raise SystemExit(main())
