"""Where the histories of a dataset folder are cut for training, validation and test.

The nightly job knows two of these splits (`cesrec_core.sequences`, history by history); training commands and offline
evaluation know all four.
"""

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cesrec_core.datasets import UNITS_PER_SECOND, Histories
from cesrec_core.errors import ConfigError, InputDataError
from cesrec_core.sequences import MIN_ITEMS_TO_HOLD_OUT, Moment

SplitName = Literal["all", "leave_one_out", "leave_last_out", "global_timeline"]
SPLIT_NAMES: tuple[str, ...] = get_args(SplitName)
NOWHERE = -1
UNLESS_REAL = (
    "Use leave_one_out (--split, or dataset.split); if they are real all the same, give --set dataset.has_real_timestamps=true."
)
# Of all interactions, the newest that the global timeline tests on, and those before them that it validates on.
TIMELINE_SHARE = 0.1
# Days, weeks or so, that two moments can be told apart on.
MIN_MOMENTS = 10
# People do not all begin in the same second; numbers of places do.
SAME_START_SHARE = 0.5
# Of all steps within histories that may be equally long; nobody is so regular.
SAME_STEP_SHARE = 0.95
MIN_STEPS = 20
# Where half of the people have begun so few steps after the first, and most steps are taken, places are numbered.
EARLY_STEPS = 5
DENSE_SHARE = 0.5
# A day in the units that numbers of this size count in since 1970; smaller ones than these are no seconds either.
SECONDS_PER_DAY = 86_400
DAYS = (*((least, number * SECONDS_PER_DAY) for least, number in UNITS_PER_SECOND), (1e8, SECONDS_PER_DAY))


@dataclass(frozen=True)
class Cuts:
    """Places in U histories; a target's input is everything before it.

    Attributes:
        name: of the split.
        training_end: int64 [U], length of the part that models may be trained on.
        validation_at, test_at: int64 [U], place of the target; NOWHERE (-1) where the user has none.
        boundaries: what was decided from the whole dataset, for the manifest.
    """

    name: str
    training_end: NDArray[np.int64]
    validation_at: NDArray[np.int64]
    test_at: NDArray[np.int64]
    boundaries: dict[str, int] = field(default_factory=dict)

    def targets_at(self, moment: Moment) -> NDArray[np.int64]:
        return self.validation_at if moment == "validation" else self.test_at


def cut_histories(histories: Histories, split: str, has_real_timestamps: bool = False) -> Cuts:
    """Cut all histories by a split.

    `leave_one_out`: the last item is the test target, the one before it the validation target. `leave_last_out`: the same
    test target, but the validation item is trained on. `global_timeline`: everybody is cut at the same two moments; the
    target is a user's first item after one. `all`: nothing is held out.

    Args:
        has_real_timestamps: somebody vouches for them; otherwise those that look like places are refused for a global timeline.

    Raises:
        ConfigError: the split has another name.
        InputDataError: a global timeline is asked for, and there are no real timestamps.
    """
    lengths = np.diff(histories.offsets)
    nowhere = np.full(len(lengths), NOWHERE, np.int64)
    if split == "all":
        return Cuts(split, lengths, nowhere, nowhere)
    if split == "global_timeline":
        return _cut_at_moments(histories, has_real_timestamps)
    is_long = lengths >= MIN_ITEMS_TO_HOLD_OUT
    last = np.where(is_long, lengths - 1, NOWHERE)
    if split == "leave_one_out":
        second_last = np.where(is_long, lengths - 2, NOWHERE)
        return Cuts(split, np.where(is_long, lengths - 2, lengths), second_last, last)
    if split == "leave_last_out":
        return Cuts(split, np.where(is_long, lengths - 1, lengths), nowhere, last)
    raise ConfigError(f"There is no split {split!r}. Choose one of {', '.join(SPLIT_NAMES)}.")


def _cut_at_moments(histories: Histories, has_real_timestamps: bool) -> Cuts:
    if histories.timestamps is None:
        raise InputDataError(
            "A global timeline needs timestamps, and interactions.parquet has no column `timestamp`. Use leave_one_out "
            "(--split, or dataset.split)."
        )
    if not has_real_timestamps:
        _refuse_places(histories, histories.timestamps)
    times = histories.timestamps
    in_order = np.sort(times)
    validation_from = int(in_order[int(len(times) * (1 - 2 * TIMELINE_SHARE))])
    test_from = int(in_order[int(len(times) * (1 - TIMELINE_SHARE))])
    num_before_validation = _count_before(histories, times, validation_from)
    num_before_test = _count_before(histories, times, test_from)
    lengths = np.diff(histories.offsets)
    has_validation = (num_before_validation > 0) & (num_before_validation < num_before_test)
    has_test = (num_before_test > 0) & (num_before_test < lengths)
    return Cuts(
        "global_timeline",
        num_before_validation,
        np.where(has_validation, num_before_validation, NOWHERE),
        np.where(has_test, num_before_test, NOWHERE),
        {"validation_from": validation_from, "test_from": test_from},
    )


def _count_before(histories: Histories, times: NDArray[np.int64], moment: int) -> NDArray[np.int64]:
    """int64 [U]: how many items of each history are older than the moment."""
    is_before = np.concatenate([[0], np.cumsum(times < moment)])
    counts: NDArray[np.int64] = is_before[histories.offsets[1:]] - is_before[histories.offsets[:-1]]
    return counts


def _refuse_places(histories: Histories, times: NDArray[np.int64]) -> None:
    lengths = np.diff(histories.offsets)
    longest = int(lengths.max(initial=0))
    moments = np.unique(times)
    num_moments = len(moments)
    of_longest = times[histories.offsets[lengths.argmax()] :][:longest] if len(lengths) else np.empty(0)
    # Real days may be fewer than somebody's items, who then had several on some.
    is_numbered = len(np.unique(of_longest)) == longest
    if num_moments <= longest and (is_numbered or num_moments < MIN_MOMENTS):
        raise InputDataError(
            f"A global timeline needs real timestamps, and here {len(histories)} users share {num_moments} different ones, no "
            f"more than the longest history has items ({longest}). {UNLESS_REAL}"
        )
    if num_moments == len(times) > 2 and len(np.unique(np.diff(moments))) == 1:
        raise InputDataError(
            f"A global timeline needs real timestamps, and here those of all {num_moments} interactions are equally far "
            f"apart, as where the rows of a file are numbered. {UNLESS_REAL}"
        )
    starts, counts = np.unique(times[histories.offsets[:-1][lengths > 0]], return_counts=True)
    # A number within a history is no larger than one is long; on a real first day everybody may begin.
    if len(histories) > 2 and counts.max() > SAME_START_SHARE * counts.sum() and starts[counts.argmax()] <= longest:
        raise InputDataError(
            f"A global timeline needs real timestamps, and here {counts.max()} of {counts.sum()} users begin at the same one "
            f"({starts[counts.argmax()]}), as where each history is numbered by itself. {UNLESS_REAL}"
        )
    first, last = histories.offsets[:-1][lengths > 0], histories.offsets[1:][lengths > 0] - 1
    order = times[first].argsort()
    begun, ended = times[first][order], times[last][order]
    if len(order) > 2 and (begun[1:] > ended[:-1]).all():
        raise InputDataError(
            f"A global timeline needs real timestamps, and here each of {len(order)} users ends before the next begins, as "
            f"where the rows of a file that is sorted by user are numbered. {UNLESS_REAL}"
        )
    _refuse_steps(times, histories.offsets, moments)


def _refuse_steps(times: NDArray[np.int64], offsets: NDArray[np.int64], moments: NDArray[np.int64]) -> None:
    """Places in histories may have been turned into moments, an hour apiece, with some of them left out since."""
    is_inside = np.ones(max(0, len(times) - 1), bool)
    borders = offsets[1:-1]
    is_inside[borders[(borders > 0) & (borders < len(times))] - 1] = False
    lengths, counts = np.unique(np.diff(times)[is_inside], return_counts=True)
    is_step = lengths > 0
    num_steps = int(counts.sum())
    if num_steps >= MIN_STEPS and counts[is_step].max(initial=0) > SAME_STEP_SHARE * num_steps:
        raise InputDataError(
            f"A global timeline needs real timestamps, and here {counts[is_step].max()} of {num_steps} steps within histories "
            f"are equally long, as where places were turned into moments. {UNLESS_REAL}"
        )
    day = next((length for least, length in DAYS if moments[0] >= least), 0)
    step = int(np.gcd.reduce(np.diff(moments))) if len(moments) > 1 else 0
    if not 0 < step < day or len(offsets) <= 3:
        return
    span = int(moments[-1] - moments[0])
    starts = times[offsets[:-1][np.diff(offsets) > 0]]
    is_early = float(np.median(starts)) - moments[0] <= EARLY_STEPS * step
    if is_early and len(moments) > DENSE_SHARE * (span // step + 1):
        raise InputDataError(
            f"A global timeline needs real timestamps, and here half of {len(offsets) - 1} users begin at the very start, and "
            f"all moments are as many equal steps from it, as where places were turned into moments. {UNLESS_REAL}"
        )
