"""What of a history may be seen at which moment, history by history; `cesrec_core.splits` cuts whole datasets.

Leave-one-out: the last item is the test target, the one before it the validation target, the rest is training. The
test input includes the validation item. Histories under `MIN_ITEMS_TO_HOLD_OUT` are training data only.
"""

from collections.abc import Sequence
from typing import Literal, TypeVar

T = TypeVar("T")
Split = Literal["all", "leave_one_out"]
Moment = Literal["validation", "test"]

MIN_ITEMS_TO_HOLD_OUT = 3


def training_part(history: Sequence[T], split: Split) -> Sequence[T]:
    """The items that models may be trained on."""
    if split == "all" or len(history) < MIN_ITEMS_TO_HOLD_OUT:
        return history
    return history[:-2]


def observed_part(history: Sequence[T], split: Split) -> Sequence[T]:
    """The items that the nightly job reads: all of them, or all but the test target."""
    if split == "all" or len(history) < MIN_ITEMS_TO_HOLD_OUT:
        return history
    return history[:-1]


def input_and_target(history: Sequence[T], moment: Moment) -> tuple[Sequence[T], T] | None:
    """Input and target of a leave-one-out evaluation; None for histories too short to hold out two items."""
    if len(history) < MIN_ITEMS_TO_HOLD_OUT:
        return None
    cut = -2 if moment == "validation" else -1
    return history[:cut], history[cut]
