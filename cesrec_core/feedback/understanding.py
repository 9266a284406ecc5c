"""What an utterance means, in the catalogue's own vocabulary: what is wanted, what is not, and whether it can be acted on.

Three steps: find what is spoken of (titles, ordinals, pronouns, attributes), walk through the clauses while keeping track of
whether they approve or reject, then settle every mention. Plain rules, so that the same words always mean the same and a new
catalogue needs no training. The cost is linear in the utterance, which is cut first, and does not depend on the catalogue.
"""

import html
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cesrec_core.feedback.cues import (
    AFTER_ANSWER,
    CLAUSE_OPENERS,
    CONTRASTS,
    LIGHT_WORDS,
    LISTING,
    OPINION_VERBS,
    QUESTION_WORDS,
    SUBJECTS,
    Cue,
    cue_at,
)
from cesrec_core.feedback.mentions import Mention, find_mentions
from cesrec_core.feedback.vocabulary import Vocabulary, Word, words_of

PARSER_VERSION = "rules-1"

ACCEPT = "accept"
REJECT = "reject"
CRITIQUE = "critique"
INQUIRE = "inquire"
OTHER = "other"

_EXPLICIT = 0.9
_IMPLIED = 0.6
_UNSAID = 0.7
# Words looked at beyond the current one: bounds the work on text without an end, and no clause of a person is longer.
_LOOK_AHEAD = 60

_CONTRACTED_NOT = re.compile(
    r"\b(do|does|did|is|are|was|were|ca|could|wo|would|should|have|has|had|ai|must|need)n['’]?t\b", re.I
)
_ACCEPTANCE = re.compile(
    r"\b(check (\w+ )?out|look(ing)? for?ward|sounds? (good|great|interesting|perfect|awesome|fun)|perfect|"
    r"(ill|i will|going to|gonna|want to|have to|definitely) (watch|see|try|take|get|buy|play|go with))\b"
)
_DISMISSAL = re.compile(
    r"\b(pass|no thanks?|no thank you|not interested|something else|anything else|what else|different (one|ones|suggestion)|"
    r"other (suggestion|suggestions|recommendation|recommendations|ideas|options))\b"
)


@dataclass(frozen=True)
class Signals:
    """What was understood. Attributes are spelled as in the catalogue; all tuples are in the order of mention.

    Attributes:
        intents: accept, reject, critique, inquire; other where none of these.
        is_vague: nothing can be acted on.
        confidence: between 0 and 1; 0 where vague.
    """

    intents: tuple[str, ...]
    wanted_attributes: tuple[str, ...]
    unwanted_attributes: tuple[str, ...]
    wanted_item_ids: tuple[str, ...]
    unwanted_item_ids: tuple[str, ...]
    is_vague: bool
    confidence: float


def model_id(vocabulary: Vocabulary) -> str:
    """What understood: the version of these rules and the catalogue they were applied to."""
    return f"{PARSER_VERSION}-{vocabulary.fingerprint}"


def understand(utterance: str, recommended_item_ids: Sequence[str], vocabulary: Vocabulary, max_characters: int) -> Signals:
    """Read one utterance. Never raises on text, whatever it holds.

    Args:
        utterance: the words, untrusted.
        recommended_item_ids: what they react to, best first; "the second one" is counted here.
        max_characters: longer utterances are cut.
    """
    words = words_of(_plain(utterance[:max_characters]))
    mentions = find_mentions(words, recommended_item_ids, vocabulary)
    reader = _Reader(words, {mention.start: mention for mention in mentions}, recommended_item_ids)
    settled = reader.read()
    return _signals(settled, words, set(recommended_item_ids))


def _plain(utterance: str) -> str:
    unescaped = html.unescape(utterance)
    visible = "".join(" " if unicodedata.category(character)[0] == "C" else character for character in unescaped)
    return _CONTRACTED_NOT.sub(r"\1 not", visible.replace("…", ".").replace("’", "'"))


@dataclass
class _Opinion:
    """A mention with its polarity: 1 wanted, -1 unwanted, 0 neither. Not explicit = no cue said so yet."""

    mention: Mention
    polarity: int
    is_explicit: bool
    clause: int


@dataclass
class _Clause:
    """State while a clause is walked through. `polarity` is None until a cue sets it."""

    polarity: int | None = None
    is_negated: bool = False
    is_next_negated: bool = False
    flips_at_comma: bool = False
    is_rather: bool = False
    is_request: bool = False
    has_items: bool = False
    dangling: int | None = None
    opinions: list[_Opinion] = field(default_factory=list)


class _Reader:
    """Walks through an utterance once, clause by clause."""

    def __init__(self, words: list[Word], mentions: dict[int, Mention], recommended: Sequence[str]) -> None:
        self._words = words
        self._texts = [word.text for word in words]
        self._mentions = mentions
        self._recommended = recommended
        self._opinions: list[_Opinion] = []
        self._clause = _Clause()
        self._num_clauses = 0
        self._question = self._is_question(0)

    def read(self) -> list[_Opinion]:
        place = 0
        while place < len(self._words):
            place = self._step(place)
        self._end_clause()
        return self._opinions

    def _step(self, place: int) -> int:
        mention = self._mentions.get(place)
        if mention is not None:
            if self._texts[place] in SUBJECTS:
                self._end_clause()
            self._take_mention(mention)
            after = mention.end
        else:
            after = self._take_word(place)
        mark = self._words[after - 1].after
        if mark in (".", "?"):
            self._end_clause()
            self._question = self._is_question(after)
        elif mark == ",":
            self._pause(after)
        return after

    def _take_word(self, place: int) -> int:
        text = self._texts[place]
        opens = tuple(self._texts[place : place + 2]) in CLAUSE_OPENERS
        if opens or text in CONTRASTS or (text in SUBJECTS and not self._is_opinion(place)):
            self._end_clause()
        cue, after = cue_at(self._texts, place)
        if text == "no" and after == place + 1 and self._is_answer(place):
            return after
        if text in ("to", "over") and self._clause.is_rather and self._clause.opinions and place + 1 in self._mentions:
            self._clause.polarity = -1
            return place + 1
        if cue is None or any(inside in self._mentions for inside in range(place, after)):
            return place + 1
        self._take_cue(cue, place, after)
        return after

    def _take_cue(self, cue: Cue, place: int, after: int) -> None:
        clause = self._clause
        if cue is Cue.IGNORE or (self._texts[place] == "too" and self._ends_clause(after)):
            return
        if cue is Cue.NEGATE_NEXT:
            clause.is_next_negated = True
            return
        if cue is Cue.COMPARE:
            clause.polarity = -1 if clause.is_rather else 0
            return
        if cue is Cue.MENTION:
            if clause.polarity != 1 or clause.is_negated:
                clause.polarity, clause.dangling = 0, None
            return
        clause.is_rather = clause.is_rather or self._texts[place] in ("rather", "prefer", "prefers", "preferred")
        clause.is_negated = cue is Cue.NEGATE or (clause.is_negated and cue is not Cue.APPROVE)
        clause.is_request = clause.is_request or (cue is Cue.REQUEST and not clause.is_negated)
        clause.polarity = _polarity(cue, clause.is_negated)
        clause.flips_at_comma = cue is Cue.REJECT_THEN_APPROVE
        if not clause.is_request and not self._question and self._is_light(after):
            clause.dangling = clause.polarity

    def _take_mention(self, mention: Mention) -> None:
        clause = self._clause
        is_explicit = clause.polarity is not None
        polarity = clause.polarity if clause.polarity is not None else int(not mention.is_pronoun)
        if clause.is_next_negated:
            polarity, is_explicit, clause.is_next_negated = -1, True, False
        clause.dangling = None
        if self._question or (mention.attributes and self._is_description()):
            return
        opinion = _Opinion(mention, polarity, is_explicit, self._num_clauses)
        clause.opinions.append(opinion)
        clause.has_items = clause.has_items or bool(mention.item_ids)
        self._opinions.append(opinion)

    def _is_description(self) -> bool:
        """True where an item was named and nothing said of it: "that one is a drama" tells of the item, not of a wish."""
        return self._clause.polarity is None and self._clause.has_items

    def _pause(self, after: int) -> None:
        """A comma: a list goes on with the same polarity, anything else begins anew."""
        clause = self._clause
        self._question = self._question or self._is_question(after)
        is_list, has_listing = self._chunk(after)
        ends_rejection = clause.polarity == -1 and not has_listing
        if clause.flips_at_comma or not is_list or ends_rejection:
            self._end_clause()

    def _chunk(self, start: int) -> tuple[bool, bool]:
        """Whether what follows a comma is bare list items, and whether an "and" or "or" comes before the sentence ends."""
        is_list, has_listing, in_first, place = False, False, True, start
        while place < min(len(self._words), start + _LOOK_AHEAD):
            mention = self._mentions.get(place)
            if mention is None:
                text = self._texts[place]
                has_listing = has_listing or text in LISTING
                if text in SUBJECTS or text in CONTRASTS:
                    break
                if in_first and cue_at(self._texts, place)[0] is not None:
                    return False, has_listing
            is_list = is_list or (in_first and mention is not None)
            place = place + 1 if mention is None else mention.end
            mark = self._words[place - 1].after
            if mark in (".", "?"):
                break
            in_first = in_first and mark != ","
        return is_list, has_listing

    def _end_clause(self) -> None:
        """Settle what the clause's last cue, with nothing after it, was said of."""
        clause = self._clause
        if clause.dangling is None and clause.polarity == -1 and clause.opinions and clause.opinions[-1].mention.attributes:
            for opinion in clause.opinions:  # "that was not a good comedy"
                if opinion.mention.item_ids and not opinion.is_explicit:
                    opinion.polarity, opinion.is_explicit = -1, True
        if clause.dangling is not None:
            weak = [opinion for opinion in clause.opinions if not opinion.is_explicit or opinion.polarity == 0]
            if not clause.opinions:
                weak = self._antecedents()
            for opinion in weak:
                opinion.polarity, opinion.is_explicit = clause.dangling, True
        self._clause = _Clause()
        self._num_clauses += 1

    def _antecedents(self) -> list[_Opinion]:
        """What a clause without a mention of its own speaks of: the last mention, else the only recommendation."""
        if self._opinions:
            last = self._opinions[-1]
            is_open = not last.is_explicit or last.polarity == 0
            return [last] if is_open and last.clause >= self._num_clauses - 2 else []
        if len(self._recommended) != 1:
            return []
        implied = _Opinion(Mention(0, 0, item_ids=tuple(self._recommended), evidence=_UNSAID), 0, False, self._num_clauses)
        self._opinions.append(implied)
        return [implied]

    def _is_question(self, start: int) -> bool:
        if start >= len(self._words) or self._texts[start] not in QUESTION_WORDS:
            return False
        opening = tuple(self._texts[start : start + 2])
        if opening in CLAUSE_OPENERS or opening[1:] == ("there",):
            return False
        sentence = self._words[start : start + _LOOK_AHEAD]
        mark = next((word.after for word in sentence if word.after in (".", "?")), "")
        return mark == "?"

    def _is_opinion(self, place: int) -> bool:
        return self._clause.is_negated and place > 0 and self._texts[place - 1] in OPINION_VERBS

    def _is_answer(self, place: int) -> bool:
        begins = place == 0 or self._words[place - 1].after in (".", "?", ",")
        stops = self._words[place].after in (",", ".", "?") or place + 1 >= len(self._words)
        return stops or (begins and self._texts[place + 1] in AFTER_ANSWER)

    def _ends_clause(self, after: int) -> bool:
        return after >= len(self._words) or self._words[after - 1].after not in ("", "-") or self._texts[after] in CONTRASTS

    def _is_light(self, after: int) -> bool:
        """True where only words without content of their own follow the cue in its clause."""
        allowed = 2 if self._texts[after - 1] in ("too", "less", "more") else 0
        for following in range(after, min(len(self._words), after + _LOOK_AHEAD)):
            if self._words[following - 1].after not in ("", "-") or self._texts[following] in CONTRASTS:
                return True
            if following in self._mentions:
                return True
            if self._texts[following] not in LIGHT_WORDS and cue_at(self._texts, following)[0] is None:
                if not allowed:
                    return False
                allowed -= 1
        return True


def _polarity(cue: Cue, is_negated: bool) -> int:
    if cue in (Cue.LIKE, Cue.REQUEST):
        return -1 if is_negated else 1
    if cue is Cue.DISLIKE:
        return 1 if is_negated else -1
    return 1 if cue is Cue.APPROVE else -1


def _signals(opinions: list[_Opinion], words: list[Word], recommended: set[str]) -> Signals:
    attributes, items = _settled(opinions, "attributes"), _settled(opinions, "item_ids")
    acted_on = [
        opinion for opinion in opinions if opinion.polarity and (opinion.mention.attributes or opinion.mention.item_ids)
    ]
    is_vague = not any(attributes.values()) and not any(items.values())
    evidence = [(_EXPLICIT if opinion.is_explicit else _IMPLIED) * opinion.mention.evidence for opinion in acted_on]
    return Signals(
        intents=_intents(attributes, items, words, recommended),
        wanted_attributes=_with(attributes, 1),
        unwanted_attributes=_with(attributes, -1),
        wanted_item_ids=_with(items, 1),
        unwanted_item_ids=_with(items, -1),
        is_vague=is_vague,
        confidence=0.0 if is_vague else round(sum(evidence) / len(evidence), 3),
    )


def _settled(opinions: Iterable[_Opinion], name: str) -> dict[str, int]:
    """Value → polarity. Where people contradict themselves, an explicit word outweighs an implied one, then the last counts."""
    polarity: dict[str, int] = {}
    is_explicit: dict[str, bool] = {}
    for opinion in opinions:
        for value in getattr(opinion.mention, name):
            if opinion.polarity and (opinion.is_explicit or not is_explicit.get(value, False)):
                polarity[value] = opinion.polarity
                is_explicit[value] = opinion.is_explicit
    return polarity


def _with(polarities: dict[str, int], wanted: int) -> tuple[str, ...]:
    return tuple(value for value, polarity in polarities.items() if polarity == wanted)


def _intents(attributes: dict[str, int], items: dict[str, int], words: list[Word], recommended: set[str]) -> tuple[str, ...]:
    text = " ".join(word.text for word in words)
    is_rejected = any(polarity < 0 and item_id in recommended for item_id, polarity in items.items())
    is_accepted = any(polarity > 0 and item_id in recommended for item_id, polarity in items.items())
    found = {
        ACCEPT: is_accepted or bool(_ACCEPTANCE.search(text)),
        REJECT: is_rejected or bool(_DISMISSAL.search(text)) or text.startswith(("no ", "nope")) or text == "no",
        CRITIQUE: bool(attributes) or any(item_id not in recommended for item_id in items),
        INQUIRE: any(word.after == "?" for word in words) and not attributes and not items,
    }
    return tuple(intent for intent, holds in found.items() if holds) or (OTHER,)
