"""Pictures of the vectors of items: many dimensions on a sheet of paper."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from cesrec_core.catalogue import CatalogueFeatures, Space
from cesrec_core.report.pictures import LINE, SOFT, Picture, style

# More colours than these nobody tells apart.
COLOURS = ("#2f5fb3", "#c05a1c", "#146c43", "#8e4aa8", "#a3231b", "#2a8a95", "#b58900", "#6b4f3a")
MEANINGS = {
    "semantic": "by their texts",
    "collaborative": "by who takes them",
    "aligned": "by their texts, after the Adapter",
}


def item_map(features: CatalogueFeatures, spaces: Sequence[Space]) -> Picture:
    """Items as points, one plot for each space, coloured by an attribute.

    Collaborative and aligned vectors are of one space, and are seen from the same side.
    """
    told = " and ".join(MEANINGS[space] for space in spaces)
    picture = Picture(4.6 * len(spaces) + 1.4, 4.2, f"Items {told}, in the two directions in which they differ most")
    all_axes = picture.subplots(1, len(spaces), squeeze=False)[0]
    names, numbers = telling_attributes(features, len(COLOURS))
    directions: dict[int, np.ndarray] = {}
    for axes, space in zip(all_axes, spaces, strict=True):
        vectors = np.nan_to_num(features.in_space(space).astype(np.float64))
        has_vector = features.is_active & vectors.any(axis=1)
        centred = vectors - vectors[has_vector].mean(axis=0)
        seen_from = directions.setdefault(vectors.shape[1], two_directions(centred[has_vector]))
        points = centred @ seen_from.T  # [N, 2]
        others = has_vector & (numbers < 0)
        axes.plot(*points[others].T, "o", color=LINE, markersize=3, markeredgewidth=0, label="others" if others.any() else "")
        for number, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
            chosen = has_vector & (numbers == number)
            axes.plot(*points[chosen].T, "o", color=colour, markersize=4, alpha=0.7, markeredgewidth=0, label=name)
        style(axes, f"Items {MEANINGS[space]}", "")
        axes.set(xticks=[], yticks=[])
    legend = all_axes[-1].legend(frameon=False, fontsize=8.5, labelcolor=SOFT, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for text in legend.get_texts():
        text.set_parse_math(False)
    return picture


def telling_attributes(features: CatalogueFeatures, num_attributes: int) -> tuple[list[str], np.ndarray]:
    """The most frequent attributes of active items, and which of them says most of each item: its rarest.

    Returns:
        names, and int64 [N], places in them; -1 for items that have none of them.
    """
    of_items = features.catalogue.attributes
    counts = Counter(name for code in np.flatnonzero(features.is_active) for name in of_items[code])
    names = sorted(counts, key=lambda name: (-counts[name], name))[:num_attributes]
    place_of = {name: place for place, name in enumerate(names)}
    return names, np.array([max((place_of.get(name, -1) for name in of_item), default=-1) for of_item in of_items], np.int64)


def two_directions(centred: np.ndarray) -> np.ndarray:
    """The first two principal components, float64 [2, D]; signs are such that their greatest part is positive."""
    directions = np.linalg.svd(centred, full_matrices=False)[2][:2]
    greatest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1)
    result: np.ndarray = directions * np.sign(greatest)
    return result
