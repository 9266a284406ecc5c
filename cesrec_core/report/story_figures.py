"""Pictures of what a run did for one person."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from cesrec_core.report.contents import Replacement, Rewrite
from cesrec_core.report.pictures import BAD, GOOD, INK, LINE, ONE, SOFT, TWO, HtmlTable, Picture, name_rows, say, style
from cesrec_core.report.story import Listed, Said, StoryRound, UserStory
from cesrec_core.report.text import shown

MAX_TITLE, MAX_WORDS = 38, 400
# Of the axes that words stand on.
WIDTH = 10.0
# Places of a history that fit on a picture.
MAX_PLACES = 30
# Of the parts of a score: what draws an item up and what draws it down. Log-probabilities are never above 0.
PARTS = {
    "base": ((ONE, "history (log-probability)"),) * 2,
    "attributes": ((GOOD, "attributes asked for"), (BAD, "attributes turned down")),
    "aligned": ((TWO, "likeness to what was asked for"), ("#e0b088", "unlike it, or like what was turned down")),
    "constructor": (("#8e4aa8", "Constructor's next place (log-probability)"),) * 2,
}


def history_figure(story: UserStory) -> Picture:
    """The newest places of the history by their similarity to the core taste; masked ones stand out."""
    read = [place for place in story.history if place.similarity is not None][-MAX_PLACES:]
    picture = Picture(
        9.0, 1.1 + 0.27 * max(3, len(read)), f"{sum(place.is_masked for place in read)} of {len(read)} places are masked"
    )
    axes = picture.subplots()
    style(axes, "The history, oldest first: how near each item is to the core taste")
    if not read:
        say(axes, "The mask has read nothing of this history: no item has a vector.")
        return picture
    cosines = np.array([place.similarity for place in read], dtype=np.float64)
    colours = [TWO if place.is_masked else ONE for place in read]
    axes.hlines(range(len(read)), min(0.0, cosines.min()), cosines, color=colours, linewidth=1.5)
    axes.scatter(cosines, range(len(read)), color=colours, s=26, zorder=3)
    axes.axvline(float(np.median(cosines)), color=SOFT, linestyle=":", linewidth=1)
    for row, place in enumerate(read):
        told = ", ".join(place.attributes)
        if place.is_masked and place.explained is not None:
            told = f"masked: {place.explained.deviations:.1f} deviations below the median · {told}"
        axes.text(
            max(0.0, float(cosines[row])) + 0.03,
            row,
            shown(told, 70),
            va="center",
            fontsize=8,
            color=colours[row],
            parse_math=False,
        )
    name_rows(axes, [place.title for place in read], MAX_TITLE)
    axes.set(xlabel="cosine to the mean of the history; dotted: the median", xlim=(min(0.0, cosines.min()) - 0.02, 1.7))
    axes.set_xticks(np.linspace(0.0, 1.0, 5))
    return picture


def said_figure(story: UserStory) -> Picture:
    """What the person said, and how it was understood."""
    blocks = [(_quote(said), _chips(said)) for said in story.said]
    heights = [0.3 * len(lines) + 0.42 * (chips[-1].row + 1) + 0.45 for lines, chips in blocks]
    picture = Picture(9.0, 0.5 + max(0.8, sum(heights)), f"{len(story.said)} utterances and how they were understood")
    axes = picture.subplots()
    style(axes, "What was said, and how it was understood", "")
    axes.set_axis_off()
    if not story.said:
        say(axes, "Nothing was said.")
        return picture
    axes.set(xlim=(0, WIDTH), ylim=(sum(heights), 0))
    top = 0.0
    for (lines, chips), height in zip(blocks, heights, strict=True):
        axes.text(0.0, top + 0.1, "\n".join(lines), va="top", fontsize=12, color=INK, style="italic", parse_math=False)
        for chip in chips:
            y = top + 0.3 * len(lines) + 0.35 + 0.42 * chip.row
            box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": chip.colour, "linewidth": 1}
            axes.text(chip.x, y, chip.text, va="center", fontsize=9, color=chip.colour, parse_math=False, bbox=box)
        top += height
    return picture


class Chip(NamedTuple):
    """A word in a box, from `x` on; rows are counted from 0."""

    row: int
    x: float
    text: str
    colour: str


def _quote(said: Said) -> list[str]:
    return textwrap.wrap(f"“{shown(said.utterance, MAX_WORDS)}”", 92)


def _chips(said: Said) -> list[Chip]:
    """Intents, what is wanted, what is not: beside each other, and below where the row is full."""
    words = [
        *((intent.replace("_", " "), SOFT) for intent in said.intents),
        *((f"+ {shown(name, 30)}", GOOD) for name in (*said.wanted, *said.wanted_items)),
        *((f"− {shown(name, 30)}", BAD) for name in (*said.unwanted, *said.unwanted_items)),
        *([("vague", TWO)] if said.is_vague else []),
        (f"confidence {said.confidence:.2f}", SOFT),
    ]
    chips: list[Chip] = []
    row, x = 0, 0.05
    for text, colour in words:
        # About what a letter takes on average; the room between chips makes up for the rest.
        width = 0.45 + 0.088 * len(text)
        if x + width > WIDTH and x > 0.05:
            row, x = row + 1, 0.05
        chips.append(Chip(row, x, text, colour))
        x += width
    return chips


def rewrite_figure(story: UserStory) -> Picture:
    """What left the history and what came, with probability and the runner-up's."""
    entries = [(turn, replacement) for turn in story.rounds for replacement in turn.replacements]
    picture = Picture(9.0, 1.2 + 0.75 * max(1, len(entries)), f"{len(entries)} items of the history were replaced")
    axes = picture.subplots()
    style(axes, "The rewrite: how likely what came was, and what came second")
    if not entries:
        say(axes, why_kept(story.rounds))
        return picture
    for row, (_, replacement) in enumerate(entries):
        _bar(axes, row - 0.18, replacement.probability, replacement.after, ONE)
        _bar(axes, row + 0.18, _of_runner_up(replacement), replacement.runner_up, LINE)
    name_rows(axes, [f"round {turn.round}: {shown(of.before or 'nothing', MAX_TITLE)} left" for turn, of in entries], 60)
    axes.set(xlim=(0, 1.75), xlabel="probability by the Constructor")
    axes.set_xticks(np.linspace(0.0, 1.0, 5))
    return picture


def _bar(axes: Axes, y: float, probability: float | None, title: str | None, colour: str) -> None:
    if title is None:
        return
    known = probability if probability is not None and np.isfinite(probability) else None
    axes.barh(y, known or 0.0, 0.32, color=colour)
    told = f" {shown(title, MAX_TITLE)}" + ("" if known is None else f"  {known:.3f}")
    axes.text(known or 0.0, y, told, va="center", fontsize=9, color=INK if colour == ONE else SOFT, parse_math=False)


def _of_runner_up(replacement: Replacement) -> float | None:
    if replacement.probability is None or replacement.margin is None:
        return None
    return replacement.probability - replacement.margin


def why_kept(rounds: Sequence[StoryRound]) -> str:
    """In words, why nothing of a history was replaced."""
    reasons = dict.fromkeys((turn.kept_because or "nothing better was found").replace("_", " ") for turn in rounds)
    return f"The history was kept: {', '.join(reasons)}." if reasons else "Nothing was said, so nothing was rewritten."


def lists_figure(story: UserStory) -> Picture:
    """Both lists side by side: lines for what is on both, and colours for what was asked for and what is new."""
    num_rows = max(1, len(story.before), len(story.after))
    num_new = len({item.item_id for item in story.after} - {item.item_id for item in story.before})
    picture = Picture(10.0, 1.1 + 0.36 * num_rows, f"{num_new} of {len(story.after)} recommended items are new to the list")
    axes = picture.subplots()
    axes.set_axis_off()
    axes.set(xlim=(0, WIDTH), ylim=(num_rows + 1.1, -0.6))
    for x, title, align in ((3.9, "Without the words", "right"), (6.1, "With the words", "left")):
        axes.text(x, -0.3, title, ha=align, fontsize=11, fontweight="bold", color=INK)
    place_of = {item.item_id: item.rank for item in story.before}
    for item in story.after:
        if item.item_id in place_of:
            axes.plot([4.1, 5.9], [place_of[item.item_id], item.rank], color=LINE, linewidth=1.5)
        else:
            axes.plot([5.9], [item.rank], marker="o", color=TWO, markersize=5)
    for items, x, align in ((story.before, 3.9, "right"), (story.after, 6.1, "left")):
        for item in items:
            told = _line_of(item, align == "right")
            axes.text(x, item.rank, told, ha=align, va="center", fontsize=9.5, color=_colour_of(item, story), parse_math=False)
    legend = "green: has what was asked for   red: has what was turned down   dot: new on the list"
    axes.text(5.0, num_rows + 0.95, legend, ha="center", fontsize=8.5, color=SOFT)
    return picture


def _line_of(item: Listed, ends_with_rank: bool) -> str:
    title = shown(item.title, MAX_TITLE + 4)
    return f"{title}  {item.rank}" if ends_with_rank else f"{item.rank}  {title}"


def _colour_of(item: Listed, story: UserStory) -> str:
    own = set(item.attributes)
    return BAD if own & story.unwanted else GOOD if own & story.wanted else INK


def parts_figure(story: UserStory) -> Picture:
    """What each recommended item's score is made of, beside the best of the list by the history alone."""
    picture = Picture(9.0, 1.2 + 0.34 * max(1, len(story.after)), "Parts of the scores of the recommended items")
    axes = picture.subplots()
    style(axes, "What put them there: parts of the scores")
    if not story.after:
        say(axes, "Nothing was recommended.")
        return picture
    rows = np.arange(len(story.after))
    ends = {1: np.zeros(len(rows)), -1: np.zeros(len(rows))}
    for name, looks in PARTS.items():
        values = np.array([item.parts[name] for item in story.after])
        for (sign, end), (colour, label) in zip(ends.items(), looks, strict=True):
            of_sign = np.where(np.sign(values) == sign, values, 0.0)
            axes.barh(rows, of_sign, 0.6, left=end, color=colour, label=label if of_sign.any() else None)
            end += of_sign
    axes.axvline(0.0, color=SOFT, linewidth=1)
    name_rows(axes, [f"{item.rank}  {item.title}" for item in story.after], MAX_TITLE + 4)
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axes.set(xlabel="nats: log-probability by the history, and what the words add")
    return picture


def masked_table(story: UserStory) -> HtmlTable:
    """Why each masked place is masked, in numbers."""
    rows = []
    for place in story.history:
        if place.is_masked and place.explained is not None:
            near = (f"{story.history[other.position].title} ({other.similarity:.2f})" for other in place.explained.nearest)
            rank = f"{place.explained.rank} of {place.explained.num_ranked}"
            rows.append((place.position, place.title, place.similarity, rank, place.replaced_by, list(near)))
    columns = ("place", "item", "cosine", "rank from the farthest", "now stands there", "most like it in the history")
    return HtmlTable.of(columns, rows, "Why these places are masked")


def said_table(said: Iterable[Said], caption: str) -> HtmlTable:
    """Utterances with what was understood of them."""
    columns = ("what was said", "intents", "asked for", "turned down", "confidence")
    rows = [
        (
            one.utterance,
            one.intents,
            (*one.wanted, *one.wanted_items),
            (*one.unwanted, *one.unwanted_items),
            "vague" if one.is_vague else f"{one.confidence:.2f}",
        )
        for one in said
    ]
    return HtmlTable.of(columns, rows, caption)


def rewrites_table(rewrites: Iterable[Rewrite], caption: str) -> HtmlTable:
    """What left histories and what came, with the words that caused it."""
    rows = [
        (rewrite.utterance, of.before, of.after, of.probability, of.runner_up, of.margin)
        for rewrite in rewrites
        for of in rewrite.replacements
    ]
    columns = ("what was said", "left", "came", "probability", "runner-up", "lead over it")
    return HtmlTable.of(columns, rows, caption)
