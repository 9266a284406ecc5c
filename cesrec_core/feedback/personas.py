"""Who a simulated user is: a mood and a manner of speaking that stay the same from round to round."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

# Plain speakers have no manner of their own: they use every kind of phrasing.
Mood = Literal["plain", "patient", "terse", "vague", "contradictory"]

_OPENINGS = ("", "Thanks for these. ", "Thank you. ", "I appreciate the effort. ", "Good try. ")
_CLOSINGS = ("", " Thank you!", " Take your time.", " Thanks in advance.")
_LOWER_CASE_SHARE = 0.4


@dataclass(frozen=True)
class Persona:
    """One simulated user.

    Attributes:
        opening, closing: what a patient one says before and after.
        is_lower_case: whether they write without capitals.
    """

    mood: Mood = "plain"
    opening: str = ""
    closing: str = ""
    is_lower_case: bool = False

    @classmethod
    def of(cls, user_id: str, seed: int, moods: Sequence[Mood]) -> "Persona":
        """The user's persona: the same on every date, and whoever else is simulated."""
        digest = hashlib.sha256(f"{seed}\x1fpersona\x1f{user_id}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        mood = moods[int(rng.integers(len(moods)))]
        opening, closing = (str(rng.choice(np.array(options))) for options in (_OPENINGS, _CLOSINGS))
        is_lower_case = bool(rng.random() < _LOWER_CASE_SHARE)
        if mood == "plain":
            return cls(mood)
        is_patient = mood == "patient"
        return cls(mood, opening if is_patient else "", closing if is_patient else "", is_lower_case)

    def spoken(self, utterance: str) -> str:
        """An utterance in this person's manner."""
        text = f"{self.opening}{utterance}{self.closing}"
        return text.lower() if self.is_lower_case else text
