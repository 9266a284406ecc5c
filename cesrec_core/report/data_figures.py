"""Pictures of a dataset."""

import datetime as dt
from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import PercentFormatter, StrMethodFormatter, SymmetricalLogLocator

from cesrec_core.report.data_profile import DataProfile
from cesrec_core.report.pictures import INK, LINE, ONE, SOFT, TWO, Picture, name_rows, say, style
from cesrec_core.report.ticks import whole_numbers

NUM_BARS = 40
# Shares of the most popular items that the picture names.
HEAD_SHARE = 0.1


def history_lengths_figure(profile: DataProfile) -> Picture:
    """How many people have histories of which length."""
    picture = Picture(7.5, 3.2, f"Lengths of the histories of {profile.num_users:,} people")
    axes = picture.subplots()
    lengths, people = (np.array(column) for column in zip(*profile.lengths, strict=True))
    is_wide = lengths[-1] > NUM_BARS
    edges = np.geomspace(lengths[0], lengths[-1] + 1, 25) if is_wide else np.arange(lengths[0], lengths[-1] + 2) - 0.5
    axes.hist(lengths, bins=edges.tolist(), weights=people, color=ONE, edgecolor="white")
    median = float(np.repeat(lengths, people)[(profile.num_users - 1) // 2])
    axes.axvline(median, color=TWO, linewidth=1.5)
    axes.annotate(f" half have {median:.0f} or fewer", (median, 0.98), xycoords=("data", "axes fraction"), color=TWO, va="top")
    # Room for the words above the bars.
    axes.margins(y=0.18)
    if is_wide:
        axes.set_xscale("log")
        ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if lengths[0] <= tick <= lengths[-1]]
        axes.set_xticks(ticks, labels=[f"{tick:,}" for tick in ticks])
        axes.minorticks_off()
    else:
        axes.xaxis.set_major_locator(whole_numbers())
    axes.yaxis.set_major_locator(whole_numbers())
    axes.set(xlabel="items in the history", ylabel="people")
    style(axes, "How long the histories are", "y")
    return picture


def popularity_figure(profile: DataProfile) -> Picture:
    """Which share of the interactions the most popular items have."""
    items_share, interactions_share = lorenz_curve(profile.popularity)
    head = float(np.interp(HEAD_SHARE, items_share, interactions_share))
    picture = Picture(5.6, 4.0, f"The most popular {HEAD_SHARE:.0%} of the items have {head:.0%} of the interactions")
    axes = picture.subplots()
    axes.plot([0, 1], [0, 1], color=SOFT, linestyle=":", linewidth=1)
    axes.text(0.62, 0.55, "all items equally popular", color=SOFT, fontsize=9, rotation=33, rotation_mode="anchor")
    axes.fill_between(items_share, interactions_share, color=ONE, alpha=0.15)
    axes.plot(items_share, interactions_share, color=ONE, linewidth=2)
    axes.plot([HEAD_SHARE], [head], "o", color=TWO)
    axes.annotate(
        f"{HEAD_SHARE:.0%} of the items:\n{head:.0%} of the interactions", (HEAD_SHARE + 0.03, head), color=TWO, va="top"
    )
    axes.set(xlabel="items, the most popular first", ylabel="interactions with them", xlim=(0, 1), ylim=(0, 1.02))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    style(axes, "How unequal items are", "both")
    return picture


def lorenz_curve(popularity: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Share of the items, most popular first, and of the interactions that are with them; float64, both from 0 to 1."""
    rows, items = (np.array(column, dtype=np.float64)[::-1] for column in zip(*sorted(popularity), strict=True))
    shares = (np.concatenate([[0.0], np.cumsum(values)]) for values in (items, rows * items))
    of_items, of_interactions = (values / max(values[-1], 1.0) for values in shares)
    return of_items, of_interactions


def density_figure(profile: DataProfile) -> Picture:
    """Which share of the pairs of people and items have met, by length of the history and popularity of the item."""
    picture = Picture(6.6, 4.0, f"{profile.filled_share:.3%} of all pairs of a person and an item have met")
    axes = picture.subplots()
    lengths, popularity = _by_bits(profile.lengths), _by_bits(profile.popularity)
    rows, columns = sorted(lengths), sorted(popularity)
    table = np.array(
        [[profile.pairs.get((row, column), 0) / (lengths[row] * popularity[column]) for column in columns] for row in rows]
    )
    image = axes.imshow(table, origin="lower", aspect="auto", cmap="Blues", vmin=0.0)
    for (row, column), share in np.ndenumerate(table):
        is_dark = share > 0.6 * table.max()
        axes.text(column, row, _percent(share), ha="center", va="center", fontsize=8, color="white" if is_dark else INK)
    axes.set_xticks(range(len(columns)), labels=[_range_of(bits) for bits in columns], rotation=25, ha="right")
    axes.set_yticks(range(len(rows)), labels=[_range_of(bits) for bits in rows])
    axes.set(xlabel="interactions of the item", ylabel="items in the history")
    style(axes, f"How empty the table of people and items is: {_percent(profile.filled_share)} is filled", "")
    picture.colorbar(image, ax=axes, format=PercentFormatter(1.0), shrink=0.9).outline.set_visible(False)
    return picture


def activity_figure(profile: DataProfile) -> Picture:
    """When people did what they did."""
    picture = Picture(7.5, 2.8, f"{profile.num_interactions:,} interactions over time")
    axes = picture.subplots()
    first, last = profile.days[0][0], profile.days[-1][0]
    per_bar = max(1, -(-((last - first).days + 1) // NUM_BARS))
    counts: dict[int, int] = {}
    for day, count in profile.days:
        number = (day - first).days // per_bar
        counts[number] = counts.get(number, 0) + count
    starts = [first + dt.timedelta(days=number * per_bar) for number in counts]
    axes.bar(starts, list(counts.values()), width=0.9 * per_bar, align="edge", color=ONE)  # type: ignore[arg-type]
    axes.set(ylabel=f"interactions in {per_bar} days" if per_bar > 1 else "interactions in a day")
    axes.yaxis.set_major_locator(whole_numbers())
    axes.tick_params(axis="x", labelrotation=20)
    style(axes, "When people did it", "y")
    return picture


def attributes_figure(profile: DataProfile) -> Picture:
    """Which attributes the catalogue has, and which people take."""
    picture = Picture(7.5, 0.9 + 0.3 * max(4, len(profile.attributes)), "Attributes by share of items and of interactions")
    axes = picture.subplots()
    if not profile.attributes:
        say(axes, "No item has an attribute: words can then be matched with titles only.")
        return picture
    places = np.arange(len(profile.attributes))
    of_items = [use.num_items / max(1, profile.num_items) for use in profile.attributes]
    of_interactions = [use.num_interactions / max(1, profile.num_interactions) for use in profile.attributes]
    axes.barh(places - 0.19, of_items, 0.36, color=LINE, label="share of the items")
    axes.barh(places + 0.19, of_interactions, 0.36, color=ONE, label="share of the interactions")
    name_rows(axes, [use.name for use in profile.attributes])
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    style(axes, "What the items are, and what people take")
    return picture


def feedback_figure(profile: DataProfile) -> Picture:
    """Where what was said comes from."""
    picture = Picture(7.5, 0.9 + 0.4 * max(1, len(profile.feedback)), "Feedback by source")
    axes = picture.subplots()
    style(axes, "Who has said something")
    if not profile.feedback:
        say(axes, "Nobody has said anything yet.")
        return picture
    bars = axes.barh(range(len(profile.feedback)), list(profile.feedback.values()), 0.6, color=ONE)
    axes.bar_label(bars, fmt="{:,.0f}", padding=4, color=INK, fontsize=9)
    axes.xaxis.set_visible(False)
    axes.margins(x=0.12)
    name_rows(axes, list(profile.feedback))
    return picture


def exposure_figure(exposure: Sequence[tuple[int, int, int]]) -> Picture:
    """Interactions of items against the number of lists that they are on.

    Args:
        exposure: interactions, lists, and how many items have so many of both.
    """
    rows, lists, items = (np.array(column, dtype=np.float64) for column in zip(*exposure, strict=True))
    share = float(items[lists > 0].sum() / items.sum())
    picture = Picture(6.6, 3.8, f"{share:.0%} of the catalogue is on somebody's list")
    axes = picture.subplots()
    axes.scatter(rows, lists, s=14 + 6 * np.sqrt(items), color=ONE, alpha=0.45, linewidths=0)
    # Logarithms that know a zero: many items are on no list.
    axes.set_xscale("symlog", linthresh=1)
    axes.set_yscale("symlog", linthresh=1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1, subs=[1, 2, 5]))
        axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set(xlabel="interactions with the item", ylabel="lists that it is on")
    style(axes, f"Who gets shown: {share:.0%} of the catalogue is on some list", "both")
    return picture


def _by_bits(counts: Sequence[tuple[int, int]]) -> dict[int, int]:
    """How many have a number of so many binary digits less one; zeros are left out."""
    result: dict[int, int] = {}
    for number, count in counts:
        if number > 0:
            bits = int(number).bit_length() - 1
            result[bits] = result.get(bits, 0) + count
    return result


def _range_of(bits: int) -> str:
    return "1" if bits == 0 else f"{2**bits:,}–{2 ** (bits + 1) - 1:,}"


def _percent(share: float) -> str:
    return "" if share == 0.0 else f"{share:.0%}" if share >= 0.1 else f"{share:.1%}" if share >= 0.001 else f"{share:.2%}"
