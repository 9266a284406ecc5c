"""What the page of a run says, as plain values: the stage `report` fills them in, `page.render` shows them.

Texts may hold anything that people and catalogues hold; the page escapes them. Nothing here names a user.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class StageLine:
    """One stage in this run.

    Attributes:
        outcome: `ran`, `skipped`, `failed` or `not reached`.
        reason: why it ran or did not; the error where it failed.
        seconds: of the work, where it ran or failed.
        usual_seconds: median over earlier runs in which it ran; None where there are none.
        counts: rows and the like, by name.
        tokens: read or written by language models, where the stage counts them.
    """

    name: str
    outcome: str
    reason: str
    seconds: float | None = None
    usual_seconds: float | None = None
    counts: Mapping[str, float] = field(default_factory=dict)
    tokens: int | None = None


@dataclass(frozen=True)
class Check:
    """A limit of the audit, and where this run stands.

    Attributes:
        text: what is measured, with {} for the number.
        value: None where it was not measured.
        form: how number and limit are written.
        setting: where in the configuration the limit stands; empty for what must be zero.
    """

    text: str
    value: float | None
    limit: float
    is_lowest: bool
    form: str
    setting: str = ""

    @property
    def is_met(self) -> bool:
        return self.value is None or (self.value >= self.limit if self.is_lowest else self.value <= self.limit)

    @property
    def form_of_value(self) -> str:
        return "not measured" if self.value is None else format(self.value, self.form)

    @property
    def form_of_limit(self) -> str:
        return format(self.limit, self.form)

    @property
    def is_near(self) -> bool:
        """Within the last fifth of its room: of a share below 1 or above 0, and of what may not fall, a tenth above it."""
        if self.value is None or not self.is_met or not self.setting:
            return False
        if not self.is_lowest:
            return self.value > 0.8 * self.limit
        if self.form.endswith("%"):
            return 1.0 - self.value > 0.8 * (1.0 - self.limit)
        return self.limit > 0.0 and self.value < 1.1 * self.limit


@dataclass(frozen=True)
class Point:
    """A number in one run, with an interval where it was measured."""

    run_id: str
    run_date: dt.date
    value: float
    low: float | None = None
    high: float | None = None

    def interval(self, form: str) -> str:
        """[low, high], or nothing where there is none."""
        return "" if self.low is None or self.high is None else f"[{format(self.low, form)}, {format(self.high, form)}]"


@dataclass(frozen=True)
class Trend:
    """A number over runs, oldest first; the last point is this run's, where it has one.

    Attributes:
        meaning: one line for people who do not know the name.
        form: how its values are written.
        is_better: 1 where more is better, -1 where less is, 0 where neither.
    """

    title: str
    meaning: str
    points: tuple[Point, ...]
    form: str = ".3f"
    is_better: int = 0

    @property
    def is_drawn(self) -> bool:
        """One run makes no line."""
        return len(self.points) > 1


@dataclass(frozen=True)
class EvaluatedVariant:
    """NDCG@10 by full ranking of one variant, with its interval, in this evaluation and in earlier ones."""

    name: str
    values: tuple[Point | None, ...]


@dataclass(frozen=True)
class Evaluation:
    """Held-out figures of jobs/evaluate.py.

    Attributes:
        run_ids: of the evaluations, newest first; the first measured this run's artifacts.
        num_users: in the newest.
    """

    run_ids: tuple[str, ...]
    num_users: int
    variants: tuple[EvaluatedVariant, ...]


@dataclass(frozen=True)
class Histogram:
    """Counts per bin of one or two kinds of things.

    Attributes:
        edges: n + 1 numbers, ascending.
        counts: n whole numbers for each kind.
    """

    title: str
    meaning: str
    axis: str
    edges: tuple[float, ...]
    counts: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Replacement:
    """An item that left a history and the one that came; None where nothing left or came.

    Attributes:
        margin: its lead over the runner-up, in probability.
    """

    before: str | None
    after: str | None
    probability: float | None = None
    runner_up: str | None = None
    margin: float | None = None


@dataclass(frozen=True)
class Rewrite:
    """What one utterance did to one history."""

    utterance: str
    round: int
    replacements: tuple[Replacement, ...]


@dataclass(frozen=True)
class Tally:
    """How often something happened, what it means, and a few examples."""

    name: str
    count: int
    meaning: str = ""
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunLine:
    """One run among others.

    Attributes:
        seconds: from its beginning to its end, pauses between single stages included; None where it has not ended.
        is_read: whether consumers read it now.
    """

    run_id: str
    run_date: dt.date
    status: str
    seconds: float | None
    is_read: bool


@dataclass(frozen=True)
class Artifact:
    """A trained model of this run and what it was built on."""

    kind: str
    artifact_id: str
    parents: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """Everything the page says of one run.

    Attributes:
        made_at: when the page was made, UTC.
        status: of the table `runs`.
        published_run_id: the run that consumers read then; `published_run_date` is what it stands for.
        is_dropped: whether jobs/maintain.py has dropped what is known of it but its row in `runs`.
        error: why the run stopped, where it did.
        changed_people: share of people whose list is another than in `compared_with`, the run published before.
        tiles: the numbers of the first screen.
        notes: what the page could not show, and why.
    """

    made_at: dt.datetime
    run_id: str
    run_date: dt.date
    status: str
    started_at: dt.datetime
    finished_at: dt.datetime | None
    code_version: str
    config_hash: str
    published_run_id: str | None
    published_run_date: dt.date | None = None
    is_dropped: bool = False
    error: str | None = None
    compared_with: str | None = None
    changed_people: float | None = None
    changed_since: tuple[str, ...] = ()
    stages: tuple[StageLine, ...] = ()
    checks: tuple[Check, ...] = ()
    tiles: tuple[Trend, ...] = ()
    quality: tuple[Trend, ...] = ()
    evaluation: Evaluation | None = None
    histograms: tuple[Histogram, ...] = ()
    rewrites: tuple[Rewrite, ...] = ()
    num_rewrites: int = 0
    fallbacks: tuple[Tally, ...] = ()
    clarifications: tuple[Tally, ...] = ()
    quarantine: tuple[Tally, ...] = ()
    input_versions: Mapping[str, str] = field(default_factory=dict)
    output_versions: Mapping[str, str] = field(default_factory=dict)
    artifacts: tuple[Artifact, ...] = ()
    notes: tuple[str, ...] = ()

    def has_been_through(self, stage: str) -> bool:
        """Whether what the stage writes is known: 0 rows of what a run did not come to would be no measurement."""
        return all(line.outcome in ("ran", "skipped") for line in self.stages if line.name == stage)
