"""How feedback fares before anybody is asked: ratings put into words, and why people's words are not acted on.

python tests/benchmarks/feedback_without_questions.py --items DATASET/items.parquet --utterances FILE.jsonl
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from cesrec_core.feedback.clarity import reason_not_to_act
from cesrec_core.feedback.understanding import Signals, understand
from cesrec_core.feedback.vocabulary import CatalogueVocabulary

MAX_CHARACTERS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=Path, required=True, help="Parquet of item_id, title, attributes")
    parser.add_argument("--utterances", type=Path, required=True, help="JSON lines with `utterance`")
    arguments = parser.parse_args()
    rows = [row for row in pq.read_table(arguments.items).to_pylist() if row["title"]]
    ids, titles = [str(row["item_id"]) for row in rows], [row["title"] for row in rows]
    vocabulary = CatalogueVocabulary.from_items(ids, titles, [row.get("attributes") or [] for row in rows])
    right = sum(_is_read_right(item_id, title, vocabulary) for item_id, title in zip(ids, titles, strict=True))
    print(f"ratings of {len(ids)} titles read as what they say, both ways: {right} ({right / len(ids):.1%})")
    reasons: Counter[str] = Counter()
    for line in arguments.utterances.read_text(encoding="utf-8").splitlines():
        reasons[_reason(json.loads(line)["utterance"], vocabulary)] += 1
    for reason, count in reasons.most_common():
        print(f"{reason}: {count} of {reasons.total()} utterances")


def _is_read_right(item_id: str, title: str, vocabulary: CatalogueVocabulary) -> bool:
    liked = understand(f"I liked {title}", [item_id], vocabulary, MAX_CHARACTERS)
    disliked = understand(f"I did not like {title}", [item_id], vocabulary, MAX_CHARACTERS)
    of_liked, of_disliked = _items_and_attributes(liked), _items_and_attributes(disliked)
    return of_liked == ((item_id,), (), (), ()) and of_disliked == ((), (item_id,), (), ())


def _items_and_attributes(read: Signals) -> tuple[tuple[str, ...], ...]:
    return read.wanted_item_ids, read.unwanted_item_ids, read.wanted_attributes, read.unwanted_attributes


def _reason(utterance: str, vocabulary: CatalogueVocabulary) -> str:
    s = understand(utterance, [], vocabulary, MAX_CHARACTERS)
    wanted, unwanted = (s.wanted_attributes, s.wanted_item_ids), (s.unwanted_attributes, s.unwanted_item_ids)
    return reason_not_to_act(utterance, s.is_vague, wanted, unwanted) or "acted on"


if __name__ == "__main__":
    main()
