"""Why an item stands where it does for a user, in one sentence."""

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass

from cesrec_core.prompts import MAX_TITLE_CHARACTERS, attribute_words, clean_text

# Parts of a score that are closer to 0 than this are not worth a word.
_LEAST_PART = 0.005


@dataclass(frozen=True)
class Score:
    """The parts of an item's score, in nats. `base_unwritten` is the base score by the user's own history."""

    base: float
    base_unwritten: float
    attributes: float = 0.0
    aligned: float = 0.0
    constructor: float = 0.0

    @property
    def total(self) -> float:
        return self.base + self.attributes + self.aligned + self.constructor


@dataclass(frozen=True)
class Standing:
    """Everything that decides where an item stands.

    Attributes:
        rank: its place among all items that may be shown, from 1; for one that may not, the place that it would have.
        top_k: length of the lists.
        score: None where the recommender has no vector of it; then `rank` is None, too.
        wanted, unwanted: attributes that the user asked for, and turned down.
        attributes: the item's own.
        replaced: titles of the history that were replaced, and what stands there now.
        closed: why it is not shown, in the order in which they are told.
    """

    title: str
    rank: int | None
    top_k: int
    score: Score | None
    wanted: Sequence[str] = ()
    unwanted: Sequence[str] = ()
    attributes: Sequence[str] = ()
    replaced: Sequence[tuple[str, str]] = ()
    closed: Sequence[str] = ()

    @property
    def is_recommended(self) -> bool:
        return not self.closed and self.rank is not None and self.rank <= self.top_k


HAD = "they have had it"
GONE = "it is not in the catalogue any more"
FORBIDDEN = "an allow- or block-list forbids it"
UNKNOWN = "nobody had had it when the recommender was trained"


def turned_down(until: dt.date) -> str:
    """Why an item is closed that the user rejected."""
    return f"they turned it down, and it stays away until {until.isoformat()}"


def sentence(standing: Standing) -> str:
    """The standing in words."""
    name = f'"{clean_text(standing.title, MAX_TITLE_CHARACTERS)}"'
    place = f"{standing.rank} of {standing.top_k}" if standing.is_recommended else f"{standing.rank}"
    if standing.is_recommended:
        begin = f"{name} is number {place} on the list"
    elif standing.closed:
        begin = f"{name} is not recommended, since {_joined(standing.closed)}"
        begin += f"; it would be number {place}" if standing.rank is not None else ""
    else:
        begin = f"{name} is not recommended, since it is number {place} and the list ends at {standing.top_k}"
    return f"{begin}{_of_score(standing)}."


def _of_score(standing: Standing) -> str:
    score = standing.score
    if score is None:
        return ""
    parts = [f"{score.base:.2f} from the history, which makes it {_percent(score.base)} likely{_of_rewrite(standing, score)}"]
    if abs(score.attributes) >= _LEAST_PART or standing.wanted or standing.unwanted:
        parts.append(f"{score.attributes:+.2f} from its attributes{_of_words(standing)}")
    if abs(score.aligned) >= _LEAST_PART:
        parts.append(f"{score.aligned:+.2f} from its likeness to what the words ask for")
    if abs(score.constructor) >= _LEAST_PART:
        parts.append(f"{score.constructor:+.2f} from the Constructor")
    return f", with a score of {score.total:.2f}: {_joined(parts)}"


def _of_rewrite(standing: Standing, score: Score) -> str:
    if not standing.replaced:
        return ""
    changes = [
        f'"{clean_text(old, MAX_TITLE_CHARACTERS)}" gave way to "{clean_text(new, MAX_TITLE_CHARACTERS)}"'
        for old, new in standing.replaced
    ]
    return f" ({score.base_unwritten:.2f} before {_joined(changes)})"


def _of_words(standing: Standing) -> str:
    own = set(standing.attributes)
    said = [
        f"the words {verb} {_named(attributes, own)}"
        for verb, attributes in (("ask for", standing.wanted), ("turn down", standing.unwanted))
        if attributes
    ]
    return f" ({_joined(said)})" if said else ""


def _named(attributes: Sequence[str], own: set[str]) -> str:
    """ "comedy, which it has, and drama, which it has not"."""
    has = [attribute_words(attribute) for attribute in attributes if attribute in own]
    lacks = [attribute_words(attribute) for attribute in attributes if attribute not in own]
    told = [f"{_joined(words)}, which it {verb}" for words, verb in ((has, "has"), (lacks, "has not")) if words]
    return ", and ".join(told)


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _percent(log_probability: float) -> str:
    return f"{math.exp(log_probability):.2%}"
