"""What users may be recommended: by the rules for their segments, and less what they have had or rejected."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from cesrec_core import columns as c
from cesrec_core.ranking.item_rules import ItemRules


def read_rules(file: Path | None, idx_of: dict[str, int]) -> ItemRules:
    """Allow- and block-lists from Parquet of rule, segment, item_id; none where there is no file."""
    if file is None:
        return ItemRules()
    rows = pq.read_table(file, columns=[c.RULE, c.SEGMENT, c.ITEM_ID]).to_pylist()
    return ItemRules.from_rows(((row[c.RULE], row[c.SEGMENT], row[c.ITEM_ID]) for row in rows), idx_of)


def by_segments(shard: pa.Table, rules: ItemRules, num_items: int) -> Iterator[tuple[pa.Table, Tensor]]:
    """Users of each combination of segments that rules name, and what these allow them: bool [num_items + 1].

    Each combination is a search of its own, so that segments without rules must not tell users apart.
    """
    rows_of: dict[tuple[str, ...], list[int]] = {}
    for row, segments in enumerate(shard[c.SEGMENTS].to_pylist()):
        rows_of.setdefault(rules.named(segments or ()), []).append(row)
    for key, rows in rows_of.items():
        yield shard.take(rows), torch.from_numpy(rules.allowed(key, num_items))


def closed_items(users: pa.Table) -> pa.ChunkedArray | list[list[str]]:
    """What users must not be shown: their histories (item_ids), and what else is closed to them (closed_item_ids)."""
    history, closed = users[c.ITEM_IDS], users[c.CLOSED_ITEM_IDS]
    if closed.null_count == len(users):
        return history
    both = zip(history.to_pylist(), closed.to_pylist(), strict=True)
    return [[*items, *(others or [])] for items, others in both]
