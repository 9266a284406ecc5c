"""Walks through the clauses of an utterance and says of every mention whether it is wanted or turned down."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cesrec_core.feedback.cues import (
    ADJUSTING_VERBS,
    ADVERBS,
    AFTER_ANSWER,
    ASPECTS,
    CLAUSE_OPENERS,
    COMPLAINING_WORDS,
    CONSENTS,
    CONTRASTS,
    COPULAS,
    DEGREES,
    ELLIPSES,
    EMPHASES,
    EXCHANGES,
    EXCLUSIVE,
    FIRST_PERSONS,
    FOR_LONG,
    INTERJECTIONS,
    LIGHT_WORDS,
    LISTING,
    OBJECTS,
    OPINION_VERBS,
    PARTICLES,
    QUESTION_WORDS,
    RATHER,
    REFUSALS,
    SHOWN,
    SUBJECTS,
    THINGS,
    UNNAMED,
    Cue,
    concludes,
    cue_at,
)
from cesrec_core.feedback.mentions import Mention
from cesrec_core.feedback.vocabulary import FUNCTION_WORDS, Word

# Evidence of an item that only the moment points to: the single one that was recommended.
_UNSAID = 0.7
# Words looked at beyond the current one: bounds the work on text without an end, and no clause of a person is longer.
_LOOK_AHEAD = 60
# "over any of the", between a cue and what it is said of; "for a bit of".
_MAX_DETERMINERS = 3
_MEASURES = frozenset(("bit", "little", "lot", "touch", "dose"))
_MAX_WORDS_OF_SUBJECT = 7
_BEFORE_A_SUBJECT = INTERJECTIONS | CONTRASTS | ADVERBS | COPULAS | DEGREES | {"definitely", "maybe", "perhaps"}
_INDEFINITE = frozenset(("a", "an", "some"))
_WISHES = frozenset(
    (first, second) for first in ("nothing", "something", "anything") for second in ("too", "so", "very", "overly")
)
_BETWEEN = frozenset((Cue.OVER, Cue.UNDER, Cue.BETTER, Cue.WORSE, Cue.EXCEED))
_DESTINATIONS = frozenset(("to", "into"))
_OF_ATTRIBUTES = frozenset((Cue.BETTER, Cue.WORSE, Cue.EXCEED))
_SHARES = frozenset((count, "of") for count in ("many", "much", "most", "some", "half", "few"))
_ASKS_FOR_OTHERS = (
    r"\b(pass|no thanks?|no thx|no thank you|not interested|something else|anything else|what else|"
    r"different (one|ones|suggestion)|other (suggestion|suggestions|recommendation|recommendations|ideas|options))\b"
)
DISMISSAL = re.compile(_ASKS_FOR_OTHERS)
# Of a whole utterance, lower case: it turns down what was shown, whatever a model of sentences makes of it. Java reads it, too.
_BEFORE_A_NO = "oh|hell|god|um|uh|well|please|sorry|how about|absolutely|definitely|certainly|simply|lol"
_NOT_A_NO = "idea|problem|doubt|worries|objections?|complaints?|notes|need|issues?|regrets?|i (have|had)(n['’]?t| not)"
_OUTRIGHT = "rather not|not for me|not my (thing|taste|style|kind|cup of tea)|(absolutely|definitely|certainly|of course) not"
_SIGNS_OF_NO = "[\U0001f44e\u274c\u2716]" r"|(?<![\d/.])([0-3](\.\d)?\s?/\s?10|4\s?/\s?10|[0-2]\s?/\s?5)(?![\d/])"
MERE_REJECTION = (
    rf"^\W*(({_BEFORE_A_NO})\W+)*(no|nope|nah|nay|neither|none|next)\b(?!\W+({_NOT_A_NO})\b)|\b({_OUTRIGHT})\b|"
    rf"{_SIGNS_OF_NO}|{_ASKS_FOR_OTHERS}"
)
BARE_REJECTION = re.compile(
    r"(no|nope|nah|nay|neither|none|next|pass)( (to|of|all|these|those|them|thanks?|thank|you|please|sorry|one))*"
)


@dataclass
class Opinion:
    """A mention with its polarity: 1 wanted, -1 unwanted, 0 neither. Not explicit = no cue said so yet.

    Observed = said to have been shown: unwanted if something else is asked for.
    """

    mention: Mention
    polarity: int
    is_explicit: bool
    clause: int
    is_observed: bool = False


@dataclass
class Clause:
    """State while a clause is walked through. `polarity` is None until a cue sets it; `is_implied` where it only hints.

    `exchange` is the place of the word at which the polarity turns round ("swap one FOR the other").
    """

    start: int = 0
    polarity: int | None = None
    is_implied: bool = False
    is_complaint: bool = False
    is_observing: bool = False
    is_adjusting: bool = False
    num_adjusted: int = 0
    exchange: int | None = None
    is_negated: bool = False
    is_next_negated: bool = False
    flips_at_comma: bool = False
    is_rather: bool = False
    is_ranking: bool = False
    is_request: bool = False
    has_items: bool = False
    dangling: int | None = None
    opinions: list[Opinion] = field(default_factory=list)


class Reader:
    """Walks through an utterance once, clause by clause."""

    def __init__(self, words: list[Word], mentions: dict[int, Mention], recommended: Sequence[str]) -> None:
        self._words = words
        self._texts = [word.text for word in words]
        self._mentions = mentions
        self._recommended = recommended
        self._opinions: list[Opinion] = []
        self._descriptions: list[Opinion] = []
        self._clause = Clause()
        self._num_clauses = 0
        self._question = self._is_question(0)

    def read(self) -> list[Opinion]:
        place = 0
        while place < len(self._words):
            place = self._step(place)
        self._end_clause(len(self._words))
        _contrast(self._opinions, self._descriptions, self._texts)
        return self._descriptions + self._opinions

    def _step(self, place: int) -> int:
        mention = self._mentions.get(place)
        if mention is not None:
            if self._texts[place] in SUBJECTS and not mention.is_title:
                self._end_clause(place)
            self._take_mention(mention)
            after = mention.end
        else:
            after = self._take_word(place)
        mark = self._words[after - 1].after
        if mark in (".", "?"):
            self._end_clause(after)
            self._question = self._is_question(after)
        elif mark == ",":
            self._pause(after)
        return after

    def _take_word(self, place: int) -> int:
        text = self._texts[place]
        if self._opens(place):
            self._end_clause(place)
        clause = self._clause
        cue, after = cue_at(self._texts, place)
        if text in REFUSALS and after <= place + 1 and self._is_answer(place):
            self._take_refusal(place)
            return place + 1
        if text in CONSENTS and clause.opinions and clause.opinions[-1].mention.end == place:
            _set_all(clause.opinions, 1)
            self._end_clause(place + 1)
            return place + 1
        if text == "would" and self._is_wished(place):
            _set_all(clause.opinions[-1:], 1)
            self._end_clause(place)
            return place + 1
        if place == clause.exchange and clause.polarity is not None:
            clause.polarity, clause.dangling = -clause.polarity, None
            return place + 1
        if text == "to" and clause.is_rather and clause.opinions and self._next_mention(place + 1) is not None:
            clause.polarity = -1
            return place + 1
        if (
            text == "free"
            and self._words[place - 1].after == "-"
            and clause.opinions
            and clause.opinions[-1].mention.end == place
        ):
            _set_all(clause.opinions[-1:], -1)  # "horror-free"
            return place + 1
        clause.is_adjusting = clause.is_adjusting or text in ADJUSTING_VERBS
        if text in PARTICLES and clause.is_adjusting and cue is None:
            _set_all(clause.opinions[clause.num_adjusted :], PARTICLES[text])
            clause.num_adjusted = len(clause.opinions)
        is_of_named = bool(clause.opinions) or self._begins(place)
        if text == "again" and is_of_named and clause.polarity is None and self._ends_clause(place + 1):
            clause.dangling, clause.is_implied = -1, True
        if cue is None or any(inside in self._mentions for inside in range(place, after)):
            return place + 1
        return self._take_cue(cue, place, after)

    def _opens(self, place: int) -> bool:
        """True where a clause begins: at a subject, a word of contrast, or a request such as "show me"."""
        text, previous = self._texts[place], self._texts[place - 1] if place else ""
        if tuple(self._texts[place : place + 2]) in CLAUSE_OPENERS:
            is_complaint = self._clause.is_complaint and not self._clause.opinions
            return not is_complaint and not self._is_negated_at(place)
        if text in ("neither", "nor") and self._clause.opinions and self._clause.dangling is not None:
            return True  # "this is not for me and neither is that"
        if self._clause.polarity == -1 and self._clause.opinions and concludes(self._texts, place):
            return True
        if text in SUBJECTS:
            return not self._is_opinion(place) and (previous, text) not in (("all", "you"), ("why", "you"))
        # "I hate it because of the gore": what follows is what is hated.
        return text in CONTRASTS and not (text == "because" and self._texts[place + 1 : place + 2] == ["of"])

    def _is_wished(self, place: int) -> bool:
        """True after "I hate horror a comedy" where "would be better" follows: it is said of the last one."""
        opinions = self._clause.opinions
        is_of_last = len(opinions) > 1 and opinions[-1].mention.end == place and self._clause.polarity == -1
        following = self._texts[place + 1 : place + 4]
        is_praise = any(cue_at(self._texts, place + 1 + at)[0] is Cue.LIKE for at in range(len(following)))
        return is_of_last and following[:1] == ["be"] and is_praise

    def _take_refusal(self, place: int) -> None:
        """A "no" that answers: it refuses what was named right before it. With a question mark it is a tag: "good, no?"."""
        if self._words[place].after == "?" or self._question:
            return
        if self._clause.opinions:
            self._clause.dangling = -1
        elif self._opinions:
            _set_all(self._antecedents(), -1)

    def _take_cue(self, cue: Cue, place: int, after: int) -> int:
        """Apply a cue; returns the place to go on from."""
        if cue is Cue.IGNORE or (self._texts[place] == "too" and self._ends_clause(after)):
            return after
        if cue is Cue.NEGATE_NEXT:
            self._clause.is_next_negated = True
        elif cue is Cue.MENTION:
            if self._clause.polarity != 1 or self._clause.is_negated:
                self._clause.polarity, self._clause.dangling = 0, None
        elif cue in _BETWEEN:
            return self._take_between(cue, place, after)
        elif cue in (Cue.COMPLAIN, Cue.OBSERVE, Cue.RECEIVE) or (cue is Cue.LEAN and self._is_of_shown(place)):
            if self._texts[place] != "got" or self._is_receipt(place, after):
                self._take_report(cue)
        elif cue is Cue.SWAP:
            self._take_swap(place, after)
        elif cue is Cue.SURFEIT and not self._begins(place):
            return after
        elif cue is Cue.COMPARE:
            self._clause.polarity = -1 if self._clause.is_rather else 0
        else:
            self._take_verdict(cue, place, after)
        return after

    def _take_verdict(self, cue: Cue, place: int, after: int) -> None:
        """A cue that approves or rejects what follows, or, with nothing after it, what came before."""
        clause = self._clause
        if self._only_repeats(cue, place):
            return
        if cue is Cue.REJECT and clause.is_negated and self._texts[place] in EXCLUSIVE:
            cue = Cue.APPROVE  # "nothing other than", "don't give me anything but"
        if clause.is_complaint and (cue is Cue.REQUEST or (clause.opinions and cue in (Cue.NEGATE, Cue.REJECT_THEN_APPROVE))):
            # "you keep suggesting these instead of those": the wish comes second.
            clause.polarity, clause.is_complaint = (1, False) if clause.opinions else (clause.polarity, True)
            return
        clause.is_observing = clause.is_complaint = False
        clause.is_implied = cue is Cue.SURFEIT and self._texts[place] == "so"
        clause.is_rather = clause.is_rather or self._texts[place] in RATHER
        clause.is_rather = clause.is_rather or self._texts[place : place + 2] == ["more", "of"]
        if cue is Cue.REDUCE:
            clause.polarity = 1 if self._is_negated_at(place) else -1
            clause.is_negated = False
            turn = self._exchange(after, frozenset(("for",)))
            clause.exchange = turn if turn is not None and self._next_mention(turn + 1) is not None else None
        else:
            clause.is_negated = cue is Cue.NEGATE or (clause.is_negated and cue is not Cue.APPROVE)
            clause.polarity = _polarity(cue, clause.is_negated)
        clause.is_request = clause.is_request or (cue in (Cue.REQUEST, Cue.LEAN) and not clause.is_negated)
        clause.flips_at_comma = cue is Cue.REJECT_THEN_APPROVE
        is_whole = self._is_light(after) or (cue in (Cue.LIKE, Cue.DISLIKE) and self._is_predicate(place, after))
        is_wish = cue is Cue.DISLIKE and clause.is_negated and not clause.opinions and not self._is_of_shown(place)
        if is_wish:
            clause.dangling = None  # "just not depressing"
        elif not clause.is_request and not self._question and is_whole:
            clause.dangling = clause.polarity

    def _only_repeats(self, cue: Cue, place: int) -> bool:
        """A "please" behind "no", "anything" behind a rejection, or "like" that compares.

        "No more things like these" turns down what is like them, too.
        """
        text, previous = self._texts[place], self._texts[place - 1] if place else ""
        if text == "please":
            return self._clause.is_negated and bool(self._clause.opinions)
        if text in UNNAMED and cue is Cue.REQUEST and self._clause.polarity == -1:
            # "leave out anything scary", "I'd rather build something than cuddle something soft"
            return self._clause.is_rather or (text == "anything" and not self._clause.opinions)
        is_noun = previous in THINGS or (
            previous not in FUNCTION_WORDS | SUBJECTS | ADVERBS and cue_at(self._texts, place - 1)[0] is None
        )
        return cue is Cue.LIKE and text == "like" and self._clause.polarity == -1 and not self._clause.is_negated and is_noun

    def _take_report(self, cue: Cue) -> None:
        """What was shown, rather than what is asked for: it hints at what is not wanted."""
        clause = self._clause
        if cue is Cue.OBSERVE and clause.polarity is not None:
            return
        clause.polarity = -1 if cue is Cue.COMPLAIN else 0
        clause.is_complaint, clause.is_observing = cue is Cue.COMPLAIN, cue is not Cue.COMPLAIN
        clause.is_implied, clause.is_negated, clause.dangling = True, False, None

    def _take_swap(self, place: int, after: int) -> None:
        clause = self._clause
        is_from = self._texts[after - 1] == "from"
        exchange = self._exchange(after, _DESTINATIONS if is_from else EXCHANGES)
        is_kept = self._is_negated_at(place)
        if exchange is None and not is_from:
            return
        is_told = exchange is not None and (self._next_mention(exchange + 1) is not None or self._is_unnamed(exchange + 1))
        if exchange is None or is_told or is_kept:
            clause.polarity, clause.exchange = 1 if is_kept else -1, exchange
            clause.is_negated = clause.is_implied = clause.is_complaint = clause.is_observing = False

    def _exchange(self, start: int, words: frozenset[str]) -> int | None:
        """The place of the first of these words in the rest of the clause."""
        for place in range(start, min(len(self._words), start + _LOOK_AHEAD)):
            if self._texts[place] in words and place not in self._mentions:
                return place
            if self._ends_clause(place + 1):
                return None
        return None

    def _take_between(self, cue: Cue, place: int, after: int) -> int:
        """One mention before and one after: which of the two is preferred. Otherwise the words of the phrase count singly."""
        clause = self._clause
        following = self._next_mention(after)
        last = clause.opinions[-1] if clause.opinions else None
        of_attributes = (
            following is not None and bool(following.attributes) and last is not None and bool(last.mention.attributes)
        )
        if following is None or last is None or (cue in _OF_ATTRIBUTES and not of_attributes):
            if cue in _OF_ATTRIBUTES and not clause.is_negated and following is not None:
                clause.polarity = 0
                if cue is Cue.WORSE and last is not None and last.mention.item_ids:
                    _set_all([last], -1)
                return after
            if cue is Cue.BETTER:
                self._take_verdict(Cue.LIKE, place, after)
            return after if cue in _OF_ATTRIBUTES else place + 1
        rather_first = cue in (Cue.OVER, Cue.BETTER, Cue.EXCEED)
        if clause.polarity == -1 and cue in (Cue.OVER, Cue.BETTER) and not clause.is_ranking:
            clause.polarity = 1  # "never this over that"
            return after
        preferred = 1 if rather_first else -1
        weak = [
            opinion for opinion in clause.opinions[-_LOOK_AHEAD:] if not opinion.is_explicit or cue in (Cue.UNDER, Cue.WORSE)
        ]
        _set_all(weak, preferred)
        clause.polarity, clause.is_implied, clause.dangling = -preferred, False, None
        clause.is_negated, clause.is_ranking = False, True
        return after

    def _take_mention(self, mention: Mention) -> None:
        clause = self._clause
        is_explicit = clause.polarity is not None and not clause.is_implied
        polarity = clause.polarity if clause.polarity is not None else int(not mention.is_pronoun)
        if clause.is_next_negated:
            polarity, is_explicit, clause.is_next_negated = -1, True, False
        clause.dangling = None
        if self._question:
            return
        if mention.attributes and self._is_description():
            if clause.opinions[-1].mention.is_pronoun:
                self._descriptions.append(Opinion(mention, 0, False, self._num_clauses, is_observed=True))
            return
        if (
            mention.is_pronoun
            and mention.start > 0
            and (self._is_share(mention.start) or self._texts[mention.start - 1] == "in")
        ):
            return  # neither "too many of these" nor "not enough action in these" speaks of all of them
        opinion = Opinion(mention, polarity, is_explicit, self._num_clauses, clause.is_observing)
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
        is_answered = self._texts[after - 1] in REFUSALS  # "this one no, that one yes"
        if clause.flips_at_comma or not is_list or ends_rejection or is_answered:
            self._end_clause(after)

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

    def _end_clause(self, start: int) -> None:
        """Settle what the clause's last cue, with nothing after it, was said of. The next clause begins at `start`."""
        clause = self._clause
        if not clause.opinions and self._opinions and self._is_ellipsis(clause.start, start):
            clause.dangling = None
            last = self._opinions[-1].clause
            for opinion in self._opinions:
                opinion.polarity = -opinion.polarity if opinion.clause == last else opinion.polarity
        if clause.is_negated and clause.opinions and self._is_missed(clause.start, start):
            _set_all(clause.opinions, 1)
            clause.dangling = None
        if clause.dangling is None and clause.polarity == -1 and clause.opinions and clause.opinions[-1].mention.attributes:
            for opinion in clause.opinions:  # "that was not a good comedy"
                if opinion.mention.item_ids and not opinion.is_explicit:
                    opinion.polarity, opinion.is_explicit = -1, True
        if clause.dangling is not None:
            weak = [opinion for opinion in clause.opinions if not opinion.is_explicit or opinion.polarity == 0]
            if not clause.opinions:
                weak = self._antecedents()
            for opinion in weak:
                opinion.polarity, opinion.is_explicit = clause.dangling, not clause.is_implied
        self._clause = Clause(start)
        self._num_clauses += 1

    def _is_ellipsis(self, start: int, end: int) -> bool:
        """Whether a clause is "but I do not" or the like: `ELLIPSES` after a word of contrast."""
        said = tuple(self._texts[start:end])
        if said[:1] and said[0] in CONTRASTS:
            said = said[1:]
        elif said[:1] != ("me",) and not (start and self._texts[start - 1] in CONTRASTS):
            # "My kids like it, I do not", but nothing is taken back by "I like it, I do not".
            return said in ELLIPSES and FIRST_PERSONS.isdisjoint(self._texts[max(0, start - _LOOK_AHEAD) : start])
        return said in ELLIPSES

    def _is_missed(self, start: int, end: int) -> bool:
        """Whether a clause has an "in ages": what has not been seen for so long is missed."""
        named = {inside for mention in self._mentions.values() for inside in range(mention.start, mention.end)}
        places = (place for place in range(start, min(end, start + _LOOK_AHEAD)) if place not in named)
        return any(tuple(self._texts[place : place + length]) in FOR_LONG for place in places for length in (2, 3, 4))

    def _antecedents(self) -> list[Opinion]:
        """What a clause without a mention of its own speaks of: the last mention, else the only recommendation."""
        if self._opinions:
            last = self._opinions[-1]
            is_open = not last.is_explicit or last.polarity == 0
            return [last] if is_open and last.clause >= self._num_clauses - 2 else []
        if len(self._recommended) != 1 or self._has_other_subject():
            return []
        implied = Opinion(Mention(0, 0, item_ids=tuple(self._recommended), evidence=_UNSAID), 0, False, self._num_clauses)
        self._opinions.append(implied)
        return [implied]

    def _has_other_subject(self) -> bool:
        """Whether a clause without a mention is about what nobody knows: "shawshank was great", "nothing too dark"."""
        start = self._clause.start
        while start < len(self._texts) and self._texts[start] in _BEFORE_A_SUBJECT:
            start += 1
        if tuple(self._texts[start : start + 2]) in _WISHES:
            return True
        start += start < len(self._texts) and self._texts[start] in _INDEFINITE
        if start >= len(self._texts) or self._texts[start] in FUNCTION_WORDS | LIGHT_WORDS | SHOWN | ASPECTS:
            return False
        for place in range(start, min(len(self._texts), start + _MAX_WORDS_OF_SUBJECT)):
            text = self._texts[place]
            cue, _ = cue_at(self._texts, place)
            is_predicate = text in COPULAS or text == "would" or cue in (Cue.LIKE, Cue.DISLIKE)
            if place > start and is_predicate:
                return True
            if cue is not None or text in LIGHT_WORDS - FUNCTION_WORDS or self._words[place].after:
                return False
        return False

    def _is_question(self, start: int) -> bool:
        if start >= len(self._words) or self._texts[start] not in QUESTION_WORDS:
            return False
        opening = tuple(self._texts[start : start + 2])
        if opening == ("who", "needs"):
            return False
        if opening in CLAUSE_OPENERS or opening[1:] == ("there",):
            return False
        is_missed = opening[0] in ("wheres", "where") and self._next_mention(start + 1) is not None
        if is_missed or opening == ("where", "is") or opening == ("where", "are"):
            wished = self._next_mention(start + (1 if is_missed else 2))
            if wished is not None and wished.attributes:
                return False
        sentence = self._words[start : start + _LOOK_AHEAD]
        length = next((place + 1 for place, word in enumerate(sentence) if word.after in (".", "?")), 0)
        if opening[0] == "why" and any(word.text in COMPLAINING_WORDS for word in sentence[:length]):
            return False
        return length > 0 and sentence[length - 1].after == "?"

    def _next_mention(self, start: int) -> Mention | None:
        """The mention that follows with no more than a few function words between, in the same clause."""
        for place in range(start, min(len(self._words), start + _MAX_DETERMINERS + 1)):
            if place in self._mentions:
                return self._mentions[place]
            if self._texts[place] not in FUNCTION_WORDS | _MEASURES or self._ends_clause(place + 1):
                return None
        return None

    def _is_unnamed(self, place: int) -> bool:
        """Whether something is asked for in words that the catalogue lacks: "for something soft"."""
        return place < len(self._texts) and self._texts[place] in UNNAMED

    def _begins(self, place: int) -> bool:
        """True where nothing of weight has been said in the clause."""
        return all(text in INTERJECTIONS or text in CONTRASTS for text in self._said_before(place))

    def _said_before(self, place: int) -> list[str]:
        """The words of the clause so far, the nearest ones where it is long."""
        return self._texts[max(self._clause.start, place - _LOOK_AHEAD) : place]

    def _is_of_shown(self, place: int) -> bool:
        said = self._said_before(place)
        return bool(SHOWN.intersection(said)) and not SUBJECTS.intersection(said)

    def _is_receipt(self, place: int, after: int) -> bool:
        """ "Asked for these, got those", but neither "got any" nor a question of its own, "Got one?"."""
        begins = place == 0 or self._words[place - 1].after in (".", "?")
        ends = next((word.after for word in self._words[place : place + _LOOK_AHEAD] if word.after in (".", "?")), "")
        if begins and ends == "?":
            return False
        return bool(self._opinions) and after < len(self._words) and self._texts[after] not in ("any", "some", "anything")

    def _is_negated_at(self, place: int) -> bool:
        before = place - 1
        while before > 0 and self._texts[before] in EMPHASES:
            before -= 1
        return before >= 0 and cue_at(self._texts, before)[0] is Cue.NEGATE

    def _is_share(self, place: int) -> bool:
        """Part of a group: "too many of these are" speaks of something else than of all of these."""
        return tuple(self._texts[max(place - 2, 0) : place]) in _SHARES

    def _is_opinion(self, place: int) -> bool:
        return self._clause.is_negated and place > 0 and self._texts[place - 1] in OPINION_VERBS

    def _is_answer(self, place: int) -> bool:
        begins = place == 0 or self._words[place - 1].after in (".", "?", ",")
        stops = self._words[place].after in (",", ".", "?") or place + 1 >= len(self._words)
        return stops or (begins and self._texts[place + 1] in AFTER_ANSWER)

    def _ends_clause(self, after: int) -> bool:
        return after >= len(self._words) or self._words[after - 1].after not in ("", "-") or self._texts[after] in CONTRASTS

    def _is_predicate(self, place: int, after: int) -> bool:
        """True where a cue says something of what was named right before: "that was dull from start to end"."""
        if not self._clause.opinions:
            return False
        between = self._texts[self._clause.opinions[-1].mention.end : place]
        is_near = (FUNCTION_WORDS | ADVERBS | DEGREES).issuperset(between)
        return is_near and (self._texts[after - 1] in OBJECTS or not COPULAS.isdisjoint(between))

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


def _set_all(opinions: Iterable[Opinion], polarity: int) -> None:
    for opinion in opinions:
        opinion.polarity, opinion.is_explicit = polarity, True


def _contrast(opinions: list[Opinion], descriptions: list[Opinion], texts: list[str]) -> None:
    """What was merely observed is unwanted once something else is asked for."""
    asked_for = {value for opinion in opinions if opinion.polarity > 0 for value in opinion.mention.attributes}
    is_turned_down = bool(DISMISSAL.search(" ".join(texts)))
    for opinion in opinions + descriptions:
        is_open = opinion.is_observed and opinion.polarity == 0
        if is_open and (is_turned_down or asked_for) and not asked_for.intersection(opinion.mention.attributes):
            opinion.polarity = -1


def _polarity(cue: Cue, is_negated: bool) -> int:
    if cue in (Cue.LIKE, Cue.REQUEST, Cue.LEAN):
        return -1 if is_negated else 1
    if cue is Cue.DISLIKE:
        return 1 if is_negated else -1
    return 1 if cue is Cue.APPROVE else -1
