"""A simulated user played by a language model, which is told attributes, a mood and nothing else."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cesrec_core.feedback.personas import Mood
from cesrec_core.feedback.simulated_users import Situation
from cesrec_core.prompts import attribute_words, clean_text

Message = dict[str, str]

MAX_CHARACTERS = 200
_MAX_SHOWN = 5
_MAX_WORDS = 20
_RULES = (
    "You play a customer of a shop who was shown some recommendations. Reply with one sentence that this customer would say to "
    "the recommender, in the first person and without quotation marks. Never name a product, and say nothing but the sentence."
)
# Small models follow examples where they do not follow rules. Of no shop in particular.
_EXAMPLES = (
    (
        "You want: quiet and short.\nYou do not want: loud.\nSay plainly what you want.",
        "Less of the loud ones, please, something quiet.",
    ),
    ("You want: bright.\nYou are in a hurry: use four words at most.", "Bright, please."),
)
_OF_MOOD: dict[Mood, str] = {
    "plain": "Say plainly what you want.",
    "patient": "You are patient and polite.",
    "terse": "You are in a hurry: use four words at most.",
    "vague": "You do not know what you want: name nothing in particular.",
    "contradictory": "You contradict yourself: ask for it and turn it down in one sentence.",
}
_SPEAKER = re.compile(r"^\s*(?:[-*]|(?:me|i|user|customer|assistant|sentence|reply)\s*:)\s*", re.IGNORECASE)
_QUOTES = "\"'`“”„«»"


class ChatModel(Protocol):
    """A language model that holds conversations: one in this process, or one behind an endpoint."""

    def complete(self, conversations: Sequence[Sequence[Message]]) -> list[str | None]:
        """The next message of each conversation of `role` and `content`; None where there is no answer."""
        ...


@dataclass(frozen=True)
class PromptedSimulator:
    """See `simulated_users.Simulator`. With a model that answers the same way every time, so does this.

    Attributes:
        max_attributes: at most so many wishes are named to the model.
        unwanted_share: how often it is told of something to turn down.
    """

    chat: ChatModel
    max_attributes: int
    unwanted_share: float

    def say(self, situations: Sequence[Situation]) -> list[str | None]:
        """What the model says, in one line; None where it says nothing, or nothing of what it was told to."""
        told = [self._told(situation) for situation in situations]
        answers = self.chat.complete([_conversation(*row) for row in zip(situations, told, strict=True)])
        return [_usable(*row) for row in zip(answers, situations, told, strict=True)]

    def conversation(self, situation: Situation) -> list[Message]:
        """What the model is told. Attributes are untrusted, and cleaned."""
        return _conversation(situation, self._told(situation))

    def _told(self, situation: Situation) -> "_Told":
        rng = np.random.default_rng(list(situation.seed))
        wanted = _drawn(situation.wanted, self.max_attributes, rng)
        others = sorted({value for shown in situation.unwelcome for value in shown} - set(situation.wanted))
        return _Told(wanted, _drawn(others, 1, rng) if rng.random() < self.unwanted_share else [])


@dataclass(frozen=True)
class _Told:
    """What somebody is to ask for and to turn down, in words."""

    wanted: list[str]
    unwanted: list[str]


def _conversation(situation: Situation, told: _Told) -> list[Message]:
    shown = ["/".join(filter(None, map(attribute_words, values))) for values in situation.unwelcome[:_MAX_SHOWN]]
    lines = [
        f"You were shown: {', '.join(filter(None, shown))}." if any(shown) else "",
        f"You want: {' and '.join(told.wanted)}." if told.wanted else "You are not sure what you want.",
        f"You do not want: {' and '.join(told.unwanted)}." if told.unwanted else "",
        f"{_OF_MOOD[situation.persona.mood]} At most {_MAX_WORDS} words.",
    ]
    content = "\n".join(line for line in lines if line)
    examples = [
        {"role": role, "content": text} for pair in _EXAMPLES for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    return [{"role": "system", "content": _RULES}, *examples, {"role": "user", "content": content}]


def _usable(answer: str | None, situation: Situation, told: _Told) -> str | None:
    line = spoken_line(answer) if answer is not None else None
    to_name = [*told.wanted, *told.unwanted]
    if line is None or situation.persona.mood == "vague" or not to_name:
        return line
    return line if any(words in line.lower() for words in to_name) else None


def spoken_line(answer: str) -> str | None:
    """The first line of an answer, without the name of a speaker and quotation marks; None where nothing is left."""
    for line in answer.splitlines():
        text = clean_text(_SPEAKER.sub("", line), MAX_CHARACTERS).strip(_QUOTES + " ")
        if text:
            return text
    return None


def _drawn(attributes: Sequence[str], most: int, rng: np.random.Generator) -> list[str]:
    words = sorted({said for attribute in attributes if (said := attribute_words(attribute))})
    if not words:
        return []
    number = int(rng.integers(1, min(most, len(words)) + 1))
    return [words[int(place)] for place in rng.choice(len(words), size=number, replace=False)]
