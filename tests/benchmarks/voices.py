"""Who speaks for a user in `feedback_sources.py`, and in which words: real phrasings, simulated users, answers to questions.

Real phrasings are utterances of a file that is not part of this project. `tests/data/phrasings.json` says by the hash of an
utterance where in it a genre or a title stands and how people meant it; at run time these words are replaced.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from cesrec_core.feedback import phrases
from cesrec_core.feedback.leaks import LeakCheck
from cesrec_core.feedback.personas import Mood, Persona
from cesrec_core.feedback.simulated_users import GuardedSimulator, Past, Situation, TemplateSimulator, blind_situation
from cesrec_core.feedback.simulator import answer_utterance, bare_wish, draw_unwanted, vague_utterance
from cesrec_core.feedback.vocabulary import words_of
from cesrec_core.hashing import short_hash
from cesrec_core.prompts import MAX_TITLE_CHARACTERS, attribute_words, clean_text

# Of an item alone, with no attribute in it.
REJECT_ITEM = (
    "not {item}",
    "{item} is not for me",
    "I did not care for {item}",
    "no more things like {item}, please",
    "I would skip {item}",
    "{item} was boring",
)
LIKE_ITEM = (
    "something like {item}",
    "more like {item}, please",
    "I loved {item}, have you got more of that?",
    "similar to {item}",
    "{item} was great",
    "I'd like something close to {item}",
)
SLOTS = Path(__file__).parents[1] / "data" / "phrasings.json"
_HASH_DIGITS = 16


class Item(NamedTuple):
    """What a catalogue says of an item."""

    item_id: str
    title: str
    attributes: tuple[str, ...]


@dataclass(frozen=True)
class Person:
    """A user at the moment of recommendation.

    Attributes:
        target: what they want; its title and id are known to the leak check alone.
        shown: what they react to, best first.
        history: what they had before, oldest first.
        past: what they liked and disliked of that.
    """

    user_id: str
    target: Item
    shown: tuple[Item, ...]
    history: tuple[Item, ...]
    past: Past


@dataclass(frozen=True)
class Slot:
    """Words [start, end) of a phrasing that name something: wanted (1), turned down (-1), or neither (0)."""

    start: int
    end: int
    kind: Literal["attribute", "shown_title", "other_title"]
    polarity: int


@dataclass(frozen=True)
class Phrasing:
    """What somebody said, with what in it belongs to their own catalogue."""

    text: str
    slots: tuple[Slot, ...]

    @property
    def names_attributes(self) -> bool:
        return any(slot.kind == "attribute" for slot in self.slots)


def read_phrasings(file: Path, slots_file: Path = SLOTS) -> list[Phrasing]:
    """Utterances of a file of JSON lines, in its order, that `slots_file` knows; each once."""
    slots_of = json.loads(slots_file.read_text(encoding="utf-8"))
    texts = dict.fromkeys(json.loads(line)["utterance"] for line in file.read_text(encoding="utf-8").splitlines())
    keys = {text: hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS] for text in texts}
    return [Phrasing(text, tuple(Slot(*slot) for slot in slots_of[key])) for text, key in keys.items() if key in slots_of]


def filled(phrasing: Phrasing, person: Person, rng: np.random.Generator) -> str | None:
    """The phrasing in the mouth of a person who wants their target; None where they have nothing to name in a slot.

    Wanted attributes become the target's, others such as are common in what was shown and foreign to the target. Titles become
    those of what was shown, or of the history: the likest to the target by attributes where they are praised, else the least.
    """
    words = words_of(phrasing.text)
    wanted = [name for name in dict.fromkeys(map(attribute_words, person.target.attributes)) if name]
    wanted = [wanted[place] for place in rng.permutation(len(wanted))]
    pieces, place, used = [], 0, 0
    for slot in phrasing.slots:
        if slot.kind != "attribute":
            name = _title(slot, person, rng)
        elif slot.polarity > 0:
            name = wanted[used % len(wanted)] if wanted else None
            used += 1
        else:
            name = draw_unwanted(wanted, [item.attributes for item in person.shown], rng)
        if name is None:
            return None
        pieces += [phrasing.text[place : words[slot.start].start], name]
        place = words[slot.end - 1].end
        # The year of a title stands in brackets.
        place += phrasing.text[place - 5 : place + 1].startswith("(") and phrasing.text[place : place + 1] == ")"
    return "".join([*pieces, phrasing.text[place:]])


def _title(slot: Slot, person: Person, rng: np.random.Generator) -> str | None:
    items = [item for item in (person.shown if slot.kind == "shown_title" else person.history) if item.title]
    items = [item for item in items if item.item_id != person.target.item_id]
    if not items:
        return None
    likeness = np.array([_likeness(item, person.target) for item in items]) * (slot.polarity or 0)
    best = np.flatnonzero(likeness == likeness.max())
    return clean_text(items[int(rng.choice(best))].title, MAX_TITLE_CHARACTERS)


def _likeness(item: Item, target: Item) -> float:
    """Jaccard index of their attributes."""
    union = {*item.attributes, *target.attributes}
    return len(set(item.attributes).intersection(target.attributes)) / max(len(union), 1)


Voice = Callable[[Person], str]


@dataclass(frozen=True)
class HumanVoice:
    """Every person says one of the phrasings, drawn by their id; such as give the target away are not said."""

    phrasings: Sequence[Phrasing]
    leaks: LeakCheck
    seed: int

    def __call__(self, person: Person) -> str:
        rng = _generator(self.seed, "phrasing", person.user_id)
        for place in rng.permutation(len(self.phrasings)):
            said = filled(self.phrasings[int(place)], person, rng)
            if said is not None and self.leaks.leak(said, person.target.item_id) is None:
                return said
        return vague_utterance(rng)


@dataclass(frozen=True)
class Kind:
    """Feedback of one kind, as templates of `cesrec_core.feedback.phrases`; `title` is whose `{item}` stands for."""

    templates: tuple[str, ...]
    title: Slot = Slot(0, 0, "shown_title", -1)


KINDS = {
    "rejects an item": Kind(REJECT_ITEM),
    "turns down an attribute": Kind(phrases.REJECT),
    "wishes for an attribute": Kind(phrases.WISH + phrases.TERSE_WISH),
    "compares with what was shown": Kind(phrases.COMPARE_WISH),
    "compares with an item of their own": Kind(LIKE_ITEM, Slot(0, 0, "other_title", 1)),
    "does several at once": Kind(phrases.BOTH + phrases.COMPARE_BOTH + phrases.TERSE_BOTH),
}


@dataclass(frozen=True)
class KindVoice:
    """Somebody who knows the target, and names one attribute of it, one that is foreign to it, or an item."""

    kind: Kind
    leaks: LeakCheck
    seed: int

    def __call__(self, person: Person) -> str:
        rng = _generator(self.seed, "kind", person.user_id)
        for place in rng.permutation(len(self.kind.templates)):
            said = self._filled(self.kind.templates[int(place)], person, rng)
            if said is not None and self.leaks.leak(said, person.target.item_id) is None:
                return said
        return vague_utterance(rng)

    def _filled(self, template: str, person: Person, rng: np.random.Generator) -> str | None:
        wanted = [name for name in dict.fromkeys(map(attribute_words, person.target.attributes)) if name]
        named = {
            "wish": str(rng.choice(wanted)) if wanted else None,
            "unwanted": draw_unwanted(wanted, [item.attributes for item in person.shown], rng),
            "item": _title(self.kind.title, person, rng),
        }
        used = {name: value for name, value in named.items() if f"{{{name}}}" in template}
        return None if None in used.values() else template.format(**used)


@dataclass(frozen=True)
class SimulatedVoice:
    """Templates, guarded as in simulate_feedback.

    Attributes:
        knows: the target, or what the person liked and disliked before.
    """

    guarded: GuardedSimulator
    mood: Mood
    knows: Literal["target", "past"]
    seed: int

    def __call__(self, person: Person) -> str:
        persona = Persona.of(person.user_id, self.seed, [self.mood])
        seed = (self.seed, int(short_hash([person.user_id, "voice"]), 16))
        shown = tuple(item.attributes for item in person.shown)
        situation = Situation(person.target.attributes, shown, persona, seed)
        if self.knows == "past":
            situation = blind_situation(person.past, shown, persona, seed)
        (said,) = self.guarded.say([situation], [person.target.item_id])
        return said.utterance


def voices(
    phrasings: Sequence[Phrasing], leaks: LeakCheck, max_attributes: int, unwanted_share: float, seed: int
) -> Mapping[str, Voice]:
    """The sources that are compared, by the name of their row."""
    templates = TemplateSimulator(max_attributes, unwanted_share)
    guarded = GuardedSimulator(templates, templates, leaks)
    naming = [phrasing for phrasing in phrasings if phrasing.names_attributes]
    others = [phrasing for phrasing in phrasings if not phrasing.names_attributes]
    moods: tuple[Mood, ...] = ("patient", "terse", "vague", "contradictory")
    return {
        "human": HumanVoice(phrasings, leaks, seed),
        "human, names a genre": HumanVoice(naming, leaks, seed),
        "human, names no genre": HumanVoice(others, leaks, seed),
        "simulated, knows the target": SimulatedVoice(guarded, "plain", "target", seed),
        **{f"simulated, knows the target, {mood}": SimulatedVoice(guarded, mood, "target", seed) for mood in moods},
        "simulated, knows past ratings": SimulatedVoice(guarded, "plain", "past", seed),
        **{f"simulated, knows the target, {name}": KindVoice(kind, leaks, seed) for name, kind in KINDS.items()},
    }


def answer(offered: Sequence[str], person: Person, leaks: LeakCheck, seed: int) -> str:
    """What the person truly answers, in a few words, to a question that offers attributes; to an open one, a wish."""
    for draw in range(5):
        rng = _generator(seed, f"answer {draw}", person.user_id)
        said = answer_utterance(offered, person.target.attributes, rng) if offered else bare_wish(person.target.attributes)
        if said is not None and leaks.leak(said, person.target.item_id) is None:
            return said
    return bare_wish([name for name in offered if name in person.target.attributes]) or "no"


def of_people(people: Sequence[Person], voice: Voice) -> list[str]:
    """What each of them says."""
    return [voice(person) for person in people]


def _generator(seed: int, purpose: str, user_id: str) -> np.random.Generator:
    """Keyed by the user: what one person says does not depend on who else is asked."""
    return np.random.default_rng([seed, int(short_hash([purpose, user_id]), 16)])
