"""How English says yes and no: cues, and the clauses they hold for. Nothing here knows what a catalogue sells."""

from collections import defaultdict
from collections.abc import Sequence
from enum import Enum

from cesrec_core.feedback.vocabulary import FUNCTION_WORDS, word_set


class Cue(Enum):
    """What a phrase does to what follows it in its clause, or, with nothing after it, to what came before."""

    NEGATE = "turns a following REQUEST, LIKE or DISLIKE round; alone it rejects"
    NEGATE_NEXT = "rejects the next mention only"
    REQUEST = "asks for what follows; says nothing of what came before"
    LIKE = "approves"
    DISLIKE = "rejects"
    APPROVE = "approves even after a negation, which is part of the phrase"
    REJECT = "rejects even after a negation"
    REJECT_THEN_APPROVE = "rejects up to the next comma, approves after it"
    MENTION = "neither: has seen, has heard of"
    COMPARE = "a yardstick, neither wanted nor not"
    IGNORE = "takes words out of the way that would be read as another cue"


_PHRASES: dict[Cue, tuple[str, ...]] = {
    Cue.NEGATE: ("not|no|never|without|neither|nor|none|nothing|cannot|hardly|barely|nobody",),
    Cue.NEGATE_NEXT: ("non",),
    Cue.REQUEST: (
        "want|wants|wanted|need|needs|looking for|searching for|hoping for|recommend|suggest|show me|give me|find me|try",
        "thinking|something|anything|more|please|what about|how about|rather|prefer|prefers|preferred|similar|closer to|plus",
        "craving",
    ),
    Cue.LIKE: (
        "like|likes|liked|love|loves|loved|loving|enjoy|enjoys|enjoyed|in the mood for|mood for|fan|fans|into|interested",
        "interest in|interesting|care|cared|favorite|favorites|favourite|favourites|up for|fond|keen|appreciate|appeals",
        "appealing|check|go with|going with|take|good|great|awesome|amazing|excellent|perfect|fantastic|wonderful|best|better",
        "brilliant|lovely|nice|cool",
    ),
    Cue.DISLIKE: (
        "bad|boring|terrible|awful|horrible|lame|dull|crap|garbage|rubbish|sucks|sucked|worst|worse|disappointing|disappointed",
        "overrated|annoying|dumb|stupid|meh|tired of|sick of|bored of|bored with|bored by|fed up with|weary of",
    ),
    Cue.APPROVE: (
        "not enough|not get enough|never get enough|not wait|not mind|no problem with|nothing wrong with|nothing but",
        "none other than|could use|not go wrong|not bad|not too bad|not boring|not against",
    ),
    Cue.REJECT: (
        "hate|hates|hated|dislike|dislikes|disliked|avoid|skip|except|except for|excluding|exclude|minus|anything but",
        "everything but|anything except|everything except|anything other than|other than|had enough|enough of|enough with",
        "had my fill of|too much|too many|way too|too|less|fewer|away from|pass on|pass|not stand|stop|no more|rid of|unlike",
        "no thanks|no thank you|despise|detest|loathe|hold the|spare me|ugh|yuck|turned off|done with|over with",
    ),
    Cue.REJECT_THEN_APPROVE: ("instead of|rather than|in place of|as opposed to|apart from|aside from",),
    Cue.MENTION: ("seen|saw|watched|watch|heard|heard of|hear|familiar|familiar with|already have|read|played",),
    Cue.COMPARE: ("than|compared to|compared with",),
    Cue.IGNORE: (
        "not only|not just|not merely|not necessarily|not always|not to mention|no idea|no doubt|no wonder|no worries",
        "no problem|not sure|not know|nothing in particular|too bad|my bad|seems like|seem like|looks like|look like",
        "sounds like|feels like|felt like|more or less|no matter",
    ),
}

# Words after which a new clause begins: what was negated before is over.
CONTRASTS = word_set("but however though although yet while whereas then because since otherwise")
SUBJECTS = word_set("i we you he she they im ill id ive lets let")
# "I do not think I want ..." negates the wanting.
OPINION_VERBS = word_set("think believe feel guess suppose")
CLAUSE_OPENERS = frozenset((("what", "about"), ("how", "about"), ("show", "me"), ("give", "me")))
# A sentence that begins with one of these and ends in a question mark asks about things instead of asking for them.
QUESTION_WORDS = word_set("is isnt are was were does did who whose when where why which whats has")
# A lone "no" before one of these answers instead of negating.
AFTER_ANSWER = SUBJECTS | word_set("it that this those these thank thanks thats its")
LISTING = frozenset(("and", "or", "nor", "plus"))
# After a cue these say no more than the cue alone: "not my type", "not a fan", "too much for me".
LIGHT_WORDS = FUNCTION_WORDS | word_set(
    "type types taste tastes kind style cup tea really quite bit little liking opinion honestly though sorry actually "
    "interested work works today tonight fan movie film game book item title suggestion recommendation option choice pick "
    "looking mood movies films games books items titles suggestions recommendations options choices"
)


def _index_phrases(phrases: dict[Cue, tuple[str, ...]]) -> dict[str, list[tuple[tuple[str, ...], Cue]]]:
    """First word → phrases that begin with it, longest first."""
    index: dict[str, list[tuple[tuple[str, ...], Cue]]] = defaultdict(list)
    for cue, joined in phrases.items():
        for phrase in "|".join(joined).split("|"):
            words = tuple(phrase.split())
            index[words[0]].append((words, cue))
    for found in index.values():
        found.sort(key=lambda entry: -len(entry[0]))
    return dict(index)


_INDEX = _index_phrases(_PHRASES)


def cue_at(words: Sequence[str], start: int) -> tuple[Cue | None, int]:
    """The longest cue that begins at `start`, and the place after it; (None, start) for none."""
    for phrase, cue in _INDEX.get(words[start], ()):
        if tuple(words[start : start + len(phrase)]) == phrase:
            return cue, start + len(phrase)
    return None, start
