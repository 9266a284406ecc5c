"""Histograms out of what Spark has counted in fine bins, or out of values."""

from collections.abc import Mapping, Sequence

import numpy as np

from cesrec_core.report.contents import Histogram

# Cosines lie between these; Spark counts them in so many bins, and the page shows the occupied ones in about as many as below.
COSINES = (-1.0, 1.0)
NUM_FINE_BINS = 200
NUM_SHOWN_BINS = 25


def fine_bins(cosines: np.ndarray) -> np.ndarray:
    """int64 [NUM_FINE_BINS], how many of the cosines fall into each; what lies outside by rounding counts to the ends."""
    return np.histogram(np.clip(cosines, *COSINES), bins=NUM_FINE_BINS, range=COSINES)[0].astype(np.int64)


def histogram_of(counts: Mapping[str, Sequence[int] | np.ndarray], title: str, meaning: str, axis: str) -> Histogram | None:
    """The occupied range of fine bins, several of them in one; None where nothing was counted.

    Args:
        counts: NUM_FINE_BINS numbers for each kind.
    """
    table = np.array([np.asarray(of_kind, dtype=np.int64) for of_kind in counts.values()])  # [kinds, NUM_FINE_BINS]
    occupied = np.flatnonzero(table.sum(axis=0)) if table.size else np.array([], dtype=np.int64)
    if not len(occupied):
        return None
    per_bin = max(1, -(-(occupied[-1] - occupied[0] + 1) // NUM_SHOWN_BINS))
    first = occupied[0] // per_bin * per_bin
    num_bins = -(-(occupied[-1] + 1 - first) // per_bin)
    padded = np.zeros((len(table), first + num_bins * per_bin), np.int64)
    padded[:, : min(padded.shape[1], NUM_FINE_BINS)] = table[:, : padded.shape[1]]
    shown = padded[:, first:].reshape(len(table), num_bins, per_bin).sum(axis=2)
    width = (COSINES[1] - COSINES[0]) / NUM_FINE_BINS
    edges = tuple(float(COSINES[0] + width * (first + number * per_bin)) for number in range(num_bins + 1))
    by_kind = {kind: tuple(int(count) for count in row) for kind, row in zip(counts, shown, strict=True)}
    return Histogram(title, meaning, axis, edges, by_kind)
