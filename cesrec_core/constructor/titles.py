"""A Constructor that writes titles, as the paper's does: what is asked for, and the strict reading of what was written.

Who writes (a local language model, an endpoint) is another's business: a `TitleWriter`. A title stands for the first
candidate, by item_id, that bears it; titles that differ in case or white space only are one title.
"""

import logging
import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from cesrec_core.constructor.construction import Construction
from cesrec_core.constructor.decoding import NO_ITEM, ConstructionRequest, Decision, candidates_of, mask_of
from cesrec_core.prompts import MAX_TITLE_CHARACTERS, UNTITLED, Piece, clean_text, title_prompt
from cesrec_core.rewriting.fallbacks import NOT_A_CANDIDATE, WRONG_NUMBER_OF_TITLES

log = logging.getLogger(__name__)

# Longer lists would fill the prompt.
MAX_LISTED_TITLES = 100
# What a model wrote may be repeated in a log up to here; how many lines of a worker are told is decided where they arrive.
MAX_LOGGED_CHARACTERS = 120


class Titles:
    """The titles of a catalogue as a model reads and writes them.

    Attributes:
        labels: one for each of N items, cleaned and never empty.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = list(labels)
        codes: dict[str, list[int]] = {}
        for code, label in enumerate(self.labels):
            codes.setdefault(normalised(label), []).append(code)
        self._codes = codes

    @classmethod
    def of(cls, titles: Sequence[str], shorten: Callable[[str], str] = lambda label: label) -> "Titles":
        """From untrusted titles.

        Args:
            shorten: cuts a cleaned title further, for a writer with a limit of its own.
        """
        return cls([shorten(clean_text(title, MAX_TITLE_CHARACTERS)) or UNTITLED for title in titles])

    def match(self, line: str, candidates: np.ndarray) -> int | None:
        """The first candidate with exactly this title, after `normalised` and nothing else.

        Args:
            candidates: bool [N].
        """
        codes = self._codes.get(normalised(line), ())
        return next((int(code) for code in codes if candidates[code]), None)


def normalised(text: str) -> str:
    """One form for all ways of writing the same characters: NFKC, case folded, white space collapsed.

    >>> normalised(" Ame\\u0301lie  (2001)") == normalised("am\\u00c9lie (2001)")
    True
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split())


class Filling:
    """A history whose places are filled one after the other.

    Attributes:
        codes: int64 [L], with what was put in so far.
    """

    def __init__(self, question: "Question") -> None:
        self.codes = np.array(question.request.history, dtype=np.int64)
        self._question = question
        self._num_filled = 0

    @property
    def place(self) -> int | None:
        """The next place to fill; None when all are."""
        places = self._question.places
        return places[self._num_filled] if self._num_filled < len(places) else None

    def candidates(self) -> np.ndarray:
        """bool [N], of the next place: those of the item decoder. An item that is to be copied, and one that nothing may
        replace, is its own only candidate."""
        place = self.place
        if place is None:
            raise RuntimeError("every place of this answer is filled")
        question = self._question
        candidates = candidates_of(self.codes, place, question.allowed)
        if not question.masked[place] or not candidates.any():
            candidates = np.zeros_like(candidates)
            candidates[self.codes[place]] = True
        return candidates

    def fill(self, item: int) -> None:
        """Put an item into the next place."""
        self.codes[self._question.places[self._num_filled]] = item
        self._num_filled += 1


class Question:
    """What a writer is asked for one user.

    Attributes:
        places: those whose titles are to be written, ascending.
        masked: bool [L].
        allowed: bool [N].
        prompt: what the writer reads.
    """

    def __init__(
        self, request: ConstructionRequest, titles: Titles, asks_for: Literal["masked", "all"], is_listing: bool
    ) -> None:
        self.request = request
        self.masked = mask_of(request)
        self.places: list[int] = np.flatnonzero(self.masked | (asks_for == "all")).tolist()
        self.allowed = np.ones(len(titles.labels), dtype=bool) if request.allowed is None else request.allowed.astype(bool)
        history = [None if hidden else titles.labels[code] for code, hidden in zip(request.history, self.masked, strict=True)]
        listed: list[str] = []
        if is_listing and self.allowed.sum() <= MAX_LISTED_TITLES:
            listed = [titles.labels[code] for code in np.flatnonzero(self.allowed)]
        self.prompt: list[Piece] = title_prompt(request.feedback, history, listed, len(self.places))

    @property
    def has_choice(self) -> bool:
        """Whether any masked place has another candidate than what stands there."""
        history = np.asarray(self.request.history)
        codes = np.arange(len(self.allowed))
        return any(
            bool((candidates_of(history, place, self.allowed) & (codes != history[place])).any())
            for place in np.flatnonzero(self.masked).tolist()
        )


@dataclass(frozen=True)
class Written:
    """What a writer answered.

    Attributes:
        text: one title a line.
        reason: why the answer is not used, whatever it holds; None where it can be.
        log_probabilities: of each title among the candidates, in nats; None where the writer does not know them.
    """

    text: str
    reason: str | None = None
    log_probabilities: Sequence[float] | None = None


class TitleWriter(Protocol):
    """Writes the titles that are asked for. What it answers to one question depends on no other."""

    def write(self, questions: Sequence[Question]) -> list[Written]:
        """One answer for each question, in order."""


class TitleDecoder:
    """Has titles written and reads them strictly: an answer of which anything does not fit is dropped as a whole.

    Args:
        history_items: longest history that is put into a prompt.
        asks_for: titles of the masked places, or of the whole rewritten history, as the paper trains it.
        is_listing: whether prompts list the candidates, where they are few.
    """

    def __init__(
        self,
        titles: Titles,
        writer: TitleWriter,
        history_items: int,
        asks_for: Literal["masked", "all"] = "masked",
        is_listing: bool = True,
    ) -> None:
        self.history_items = history_items
        self._titles = titles
        self._writer = writer
        self._asks_for: Literal["masked", "all"] = asks_for
        self._is_listing = is_listing

    def construct(self, requests: Sequence[ConstructionRequest]) -> list[Construction]:
        """See `Decoder`."""
        questions = [Question(request, self._titles, self._asks_for, self._is_listing) for request in requests]
        asked = [question for question in questions if question.has_choice]
        answers = iter(self._writer.write(asked) if asked else [])
        return [self._read(each, next(answers)) if each.has_choice else _kept(each) for each in questions]

    def _read(self, question: Question, written: Written) -> Construction:
        lines = [line for line in written.text.split("\n") if line.strip()]
        filling, items, rejected = Filling(question), [], []
        for place, line in zip(question.places, lines, strict=False):
            item = self._titles.match(line, filling.candidates())
            if item is None:
                rejected.append(clean_text(line, MAX_LOGGED_CHARACTERS))
                item = int(question.request.history[place])
            items.append(item)
            filling.fill(item)
        for text in rejected:
            log.warning("Not the title of a candidate: %r", text)
        if (reason := _fault(question, written, lines, rejected)) is not None:
            return _kept(question, reason, tuple(rejected))
        chances = written.log_probabilities or [math.nan] * len(items)
        decisions = tuple(
            Decision(place, int(question.request.history[place]), item, math.exp(chance), NO_ITEM, math.nan)
            for place, item, chance in zip(question.places, items, chances, strict=True)
            if question.masked[place]
        )
        return Construction(filling.codes.astype(np.int32), decisions)


def _fault(question: Question, written: Written, lines: Sequence[str], rejected: Sequence[str]) -> str | None:
    if written.reason is not None:
        return written.reason
    if len(lines) != len(question.places):
        return WRONG_NUMBER_OF_TITLES
    return NOT_A_CANDIDATE if rejected else None


def _kept(question: Question, reason: str | None = None, rejected: tuple[str, ...] = ()) -> Construction:
    """The history as it was."""
    history = question.request.history
    places = np.flatnonzero(question.masked).tolist() if reason is None else []
    decisions = tuple(Decision(place, int(history[place]), int(history[place]), 1.0, NO_ITEM, 1.0) for place in places)
    return Construction(np.array(history, dtype=np.int32), decisions, reason, rejected)
