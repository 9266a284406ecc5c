"""Everything about one person in one run, as plain values: `stages/user_story.py` reads them, `story_figures` draws them."""

from collections.abc import Mapping
from dataclasses import dataclass

from cesrec_core.report.contents import Replacement
from cesrec_core.rewriting.outliers import Explanation


@dataclass(frozen=True)
class HistoryPlace:
    """One place of the history that was observed, from the oldest on.

    Attributes:
        similarity: cosine to the core taste; None where the mask did not read the place.
        explained: how it compares with the other places; None where it was not read.
        replaced_by: title of what stands there after the last round; None where nothing changed.
    """

    position: int
    item_id: str
    title: str
    attributes: tuple[str, ...]
    is_masked: bool
    similarity: float | None = None
    explained: Explanation | None = None
    replaced_by: str | None = None


@dataclass(frozen=True)
class Said:
    """One utterance and how it was understood.

    Attributes:
        source: who or what said it, see `schemas.FEEDBACK_SOURCES`.
        wanted_items, unwanted_items: titles.
        restated: what it says together with the question that it answers; None where it speaks for itself.
    """

    round: int
    utterance: str
    source: str
    intents: tuple[str, ...]
    wanted: tuple[str, ...]
    unwanted: tuple[str, ...]
    wanted_items: tuple[str, ...]
    unwanted_items: tuple[str, ...]
    is_vague: bool
    confidence: float
    restated: str | None = None


@dataclass(frozen=True)
class StoryRound:
    """What one utterance did to the history; `kept_because` where nothing was done."""

    round: int
    replacements: tuple[Replacement, ...]
    kept_because: str | None = None


@dataclass(frozen=True)
class Listed:
    """An item of a list and the parts of its score, in nats, by name."""

    rank: int
    item_id: str
    title: str
    attributes: tuple[str, ...]
    score: float
    parts: Mapping[str, float]


@dataclass(frozen=True)
class UserStory:
    """Everything that a run knows of one person.

    Attributes:
        before: what the same models recommend from the history alone, without words.
        after: what was recommended.
        question: what the person is asked, where their words were unclear.
    """

    run_id: str
    history: tuple[HistoryPlace, ...]
    said: tuple[Said, ...]
    rounds: tuple[StoryRound, ...]
    before: tuple[Listed, ...]
    after: tuple[Listed, ...]
    question: str | None = None

    @property
    def wanted(self) -> frozenset[str]:
        """Attributes asked for, in any round."""
        return frozenset(name for said in self.said for name in said.wanted)

    @property
    def unwanted(self) -> frozenset[str]:
        """Attributes turned down, in any round."""
        return frozenset(name for said in self.said for name in said.unwanted)
