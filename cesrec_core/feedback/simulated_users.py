"""Simulated users behind one interface: what they know of, what they say, and that it gives no target away.

They see attributes only. A target-aware user knows those of the item that they want; a target-blind one those of what they
had before.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from cesrec_core.feedback import phrases
from cesrec_core.feedback.leaks import LeakCheck
from cesrec_core.feedback.personas import Persona
from cesrec_core.feedback.simulator import (
    bare_wish,
    contradictory_utterance,
    simulate_utterance,
    terse_utterance,
    vague_utterance,
)

# Templates that happen to hold a word of the target's title are drawn again so often.
_MAX_DRAWS = 5
# Even who never knows what they want says something now and then.
_VAGUE_SHARE = 0.75
# Of the things somebody liked or disliked, only so many of the newest are on their mind.
_NUM_REMEMBERED = 10

FallbackReason = Literal["leak", "no_answer"]


@dataclass(frozen=True)
class Situation:
    """What a simulated user knows when they speak.

    Attributes:
        wanted: attributes of what they have in mind.
        unwelcome: attributes of each thing that they may turn down something of: what they were shown, or did not like.
        seed: of everything that is drawn for this utterance.
    """

    wanted: tuple[str, ...]
    unwelcome: tuple[tuple[str, ...], ...]
    persona: Persona
    seed: tuple[int, ...]


class Simulator(Protocol):
    """Speaks for users. The same situation is always answered in the same words."""

    def say(self, situations: Sequence[Situation]) -> list[str | None]:
        """One utterance each; None where there is none to be had."""
        ...


@dataclass(frozen=True)
class TemplateSimulator:
    """Says one or two attributes in seeded phrases.

    Attributes:
        max_attributes, unwanted_share: see `simulate_utterance`.
    """

    max_attributes: int
    unwanted_share: float

    def say(self, situations: Sequence[Situation]) -> list[str | None]:
        """See `Simulator`; there always is an utterance."""
        return [self.utterance(situation) for situation in situations]

    def utterance(self, situation: Situation) -> str:
        rng = np.random.default_rng(list(situation.seed))
        return situation.persona.spoken(self._of_mood(situation, rng))

    def _of_mood(self, situation: Situation, rng: np.random.Generator) -> str:
        mood = situation.persona.mood
        if mood == "terse":
            return terse_utterance(situation.wanted, rng)
        if mood == "contradictory":
            return contradictory_utterance(situation.wanted, rng)
        if mood == "vague" and rng.random() < _VAGUE_SHARE:
            return vague_utterance(rng)
        return simulate_utterance(situation.wanted, situation.unwelcome, rng, self.max_attributes, self.unwanted_share)


@dataclass(frozen=True)
class Said:
    """An utterance, and why it is not what the simulator said, if it is not."""

    utterance: str
    fallback_reason: FallbackReason | None = None


@dataclass(frozen=True)
class GuardedSimulator:
    """Hands on what a simulator says unless it gives the target away; then, and where it says nothing, a template speaks."""

    simulator: Simulator
    templates: TemplateSimulator
    leaks: LeakCheck

    def say(self, situations: Sequence[Situation], targets: Sequence[str]) -> list[Said]:
        """One utterance each.

        Args:
            targets: item ids, known to the check alone.
        """
        utterances = self.simulator.say(situations)
        return [self._guarded(*row) for row in zip(utterances, situations, targets, strict=True)]

    def _guarded(self, utterance: str | None, situation: Situation, target: str) -> Said:
        if utterance is not None and self.leaks.leak(utterance, target) is None:
            return Said(utterance)
        return Said(self._template(situation, target), "no_answer" if utterance is None else "leak")

    def _template(self, situation: Situation, target: str) -> str:
        for draw in range(1, _MAX_DRAWS + 1):
            again = dataclasses.replace(situation, seed=(*situation.seed, draw))
            utterance = self.templates.utterance(again)
            if self.leaks.leak(utterance, target) is None:
                return utterance
        # Attributes alone never give anything away.
        bare = bare_wish(situation.wanted)
        harmless = [words for words in phrases.VAGUE if self.leaks.leak(words, target) is None]
        return bare if bare is not None else harmless[0]


@dataclass(frozen=True)
class Past:
    """What a user had before the target, oldest first, by attributes.

    Attributes:
        liked, disliked: by the ratings that they gave.
    """

    liked: tuple[tuple[str, ...], ...] = ()
    disliked: tuple[tuple[str, ...], ...] = field(default=())


def blind_situation(past: Past, shown: Sequence[tuple[str, ...]], persona: Persona, seed: tuple[int, ...]) -> Situation:
    """Somebody who knows no target: they have in mind one of the newest things that they liked."""
    rng = np.random.default_rng([*seed, 0])
    liked = past.liked[-_NUM_REMEMBERED:]
    wanted = liked[int(rng.integers(len(liked)))] if liked else ()
    return Situation(wanted, past.disliked[-_NUM_REMEMBERED:] or tuple(shown), persona, seed)
