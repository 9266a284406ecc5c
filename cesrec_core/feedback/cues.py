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
    REDUCE = "rejects, unless the word before negates it"
    SURFEIT = "rejects where it begins a clause"
    COMPLAIN = "what was shown too often: rejects until a word of its own says otherwise"
    OBSERVE = "what was shown: unwanted only where the utterance asks for something else"
    RECEIVE = "as OBSERVE, also within a clause that asks for something"
    LEAN = "asks; said of what was shown it observes"
    SWAP = "rejects up to a word of exchange, approves after it; nothing without that word"
    OVER = "between two mentions: rather the first than the second"
    UNDER = "between two mentions: rather the second than the first"
    BETTER = "as OVER, between two attributes only; otherwise it approves and compares"
    WORSE = "as UNDER, between two attributes only; otherwise it rejects and compares"
    EXCEED = "as OVER, between two attributes only; otherwise a yardstick"
    REJECT_THEN_APPROVE = "rejects up to the next comma, approves after it"
    MENTION = "neither: has seen, has heard of"
    COMPARE = "a yardstick, neither wanted nor not"
    IGNORE = "takes words out of the way that would be read as another cue"


def _frames(*frames: tuple[str, str]) -> tuple[str, ...]:
    """Every beginning joined to every end: "you|it", "keep|always" gives four phrases."""
    return tuple(f"{first} {last}" for firsts, lasts in frames for first in firsts.split("|") for last in lasts.split("|"))


_PHRASES: dict[Cue, tuple[str, ...]] = {
    Cue.NEGATE: (
        "not|no|never|without|sans|neither|nor|none|nothing|cannot|hardly|barely|nobody|not say i|never say i",
        *_frames(
            ("no way", "i|im|i am|ill|i will|we|we are|we will"),
        ),
    ),
    Cue.NEGATE_NEXT: ("non",),
    Cue.REQUEST: (
        "want|wants|wanted|need|needs|looking for|searching for|hoping for|recommend|suggest|show me|give me|find me|try",
        "thinking|something|anything|more|please|what about|how about|rather|sooner|prefer|prefers|preferred|similar",
        "closer to|plus",
        "craving|crave|asked for|ask for|asking for|requested|wish for|wished for|wishing for|hoped for|im after|am after",
        "were after",
        "dying for|itching for|longing for|hungry for|nearer to|towards|toward|further into|deeper into|turn up|dial up",
        "crank up",
        "ramp up|amp up|bring on|bring back|up the|boost|increase|raise|heavier on|big on|double down on|switch to|move to",
        "stick to|stick with|stay with|add|include|choose|pick|opt for|lack|lacks|lacking|missing|short on|could do with",
        "more of a|more of an|put back|weakness for|soft spot for",
        *_frames(("would|could|will|can|id|ill", "watch|play|play with|read")),
        *_frames(
            ("as long as|so long as|provided", "it is|its|it has|there is|they are|theyre"),
            ("could|can|may", "we have|i have|we get|i get|you get me|you get us|you find me|you find us"),
        ),
    ),
    Cue.LIKE: (
        "like|likes|liked|love|loves|loved|loving|enjoy|enjoys|enjoyed|in the mood for|mood for|fan|fans|into|interested",
        "interest in|interesting|care|cared|favorite|favorites|favourite|favourites|up for|fond|keen|appreciate|appeals",
        "appealing|check|go with|going with|take|good|great|awesome|amazing|excellent|perfect|fantastic|wonderful|best|better",
        "brilliant|lovely|nice|cool|thumbs up|adore|adores|adored|superb|outstanding|terrific|delightful|fabulous|works for me",
        "work for me|worked for me|suits me|suit me|suited me|hooked on|addicted to|partial to|sucker for|crazy about",
        "mad about|up my alley|up my street|obsessed with|cracks me up|cracked me up|could not put it down|not put it down",
        *_frames(
            ("give it|give that|give this", "a go|a try|a shot|a chance"),
        ),
        *_frames(
            ("exactly what i|exactly what we|just what i|just what we", "want|wanted|need|needed|had in mind|was looking for"),
        ),
    ),
    Cue.DISLIKE: (
        "bad|boring|terrible|awful|horrible|lame|dull|crap|garbage|rubbish|sucks|sucked|worst|worse|disappointing|disappointed",
        "overrated|annoying|dumb|stupid|meh|tired of|sick of|bored of|bored with|bored by|fed up with|weary of",
        "dreadful|atrocious|appalling|mediocre|tedious|pointless|bland|underwhelming|unbearable|tiresome|waste of time",
        "trash|a slog|a dud|a flop|a chore|a snooze|a snoozefest|a mess|a joke|a disaster|nothing special|ruined|ruins",
        "ruined my|ruins my|ruined our|ruins our|fell apart|falls apart|broke after|stopped working|wears me out|wore me out",
        "stress me out|stresses me out|stressed me out",
        "waste of money|a letdown|a let down|fell asleep|fall asleep|suck|depressing|ew|eww|over my dead body",
        *_frames(
            (
                "bore|bores|bored|annoy|annoys|annoyed|irritate|irritates|irritated|bug|bugs|bugged|disappointed|scare|scares|"
                "scared|terrify|terrifies|upset|upsets|depress|depresses|depressed|disgust|disgusts|frighten|frightens",
                "me|us|him|her|them",
            ),
            ("freak|freaks|freaked|creep|creeps|creeped", "me out|us out|him out|her out|them out"),
            ("get|gets|got", "on my nerves|on our nerves"),
            ("give|gives|gave", "me nightmares|us nightmares|him nightmares|her nightmares|them nightmares"),
            ("let|lets", "me down|us down"),
            ("make|makes|made", "me cringe|me sick|me dizzy|me yawn|me sleepy|me fall asleep|us cringe|us yawn"),
            ("put|puts|send|sends|sent", "me to sleep|us to sleep"),
        ),
        "overload|overdose|overkill|fatigue|gets old|getting old|got old",
        "bores|annoys|irritates|puts me off|put me off|leaves me cold|leave me cold|left me cold",
        "nightmares from|nightmares of|scared of|afraid of|terrified of|sick to death of|burned out on|burnt out on",
        "stay away from",
        *_frames(("zero|little|lost|losing|no", "interest in"), ("have|has|need|needs", "to go")),
        "is out|are out|a rest|a miss|hate|hates|hated|dislike|dislikes|disliked|despise|detest|loathe",
    ),
    Cue.APPROVE: (
        "not enough|not get enough|never get enough|not wait|not mind|no problem with|nothing wrong with|nothing but",
        "none other than|could use|not go wrong|not bad|not too bad|not boring|not against|not forget|why not|why no",
        "why is there no|why are there no|why do i never|why do you never|not have too much|not have too many",
        "you never|you rarely|you hardly ever|not say no to|never say no to|nothing against",
        "ca not stop|could not stop|not want to stop|do not stop|never stop",
        "never have too much|never have too many|never get too much|never get too many",
        "never go wrong|nothing beats|not beat a|not beat|nothing better than|anything better than|not live without",
        "not opposed to|not averse to|nothing except|too little|too few",
        "not ask for more|not ask for better|not ask for anything more|not be happier|not be better|none better|not disappoint",
        "not disappoint me|not disappointed|never disappoints",
        "not pass this up|not pass it up|not pass that up|not pass up|not miss this|not miss it|not miss out on",
        "no one should miss|nobody should miss|nothing i do not like|nothing we do not like|no complaints|no complaints about",
        "no objections|no objections to|no objection to|no regrets",
        "not see enough|not seen enough|not had enough of|what happened to all the",
        *_frames(
            ("who does not", "love|like|enjoy"),
            ("if", "its not|it is not|they are not|there is no|there are no|it has no|it does not have"),
            ("if you|if they", "do not have|do not have any|have no|have not got|have not got any"),
            ("do not you|have not you|did not you", "have|have any|got|got any"),
        ),
        *_frames(
            (
                "not watch|not play|not play with|not read|not buy|never watch|never play|never play with|never read|never buy|"
                "do not watch|do not play|do not play with|do not read|do not buy|does not watch|does not play|"
                "does not play with|does not read|does not buy",
                "anything but|anything except|anything other than",
            ),
            ("not that i|not that we|not that she|not that he|not that they|never said i|not say i", "do not|does not|did not"),
            ("not that i|not that we|never said i|never said we|not say i|not say we", "dislike|disliked|hate|hated"),
            ("not saying i|not saying we", "dislike|hate|do not like"),
            ("unless", "it is|its|it has|there is|they are|theyre"),
            ("not let|never let", "me down|us down"),
        ),
    ),
    Cue.REJECT: (
        "except|except for|excluding|minus|anything but|who needs|allergic to|count me out|count us out",
        *_frames(
            (
                "not what i|not what we",
                "need|want|asked for|wanted|had in mind|am after|was after|am looking for|was looking for",
            ),
            ("not interest|not appeal to|not excite", "me|us|him|her|them"),
            ("never|do not|does not|not", "watch|play|read|buy"),
            ("is|are|was|were", "not it"),
            ("used to", "like|love|enjoy|watch|play|read"),
        ),
        "everything but|anything except|everything except|anything other than|other than|had enough|enough of|enough with",
        "had my fill of|too much|too many|way too|too|less|fewer|pass on|pass|not stand|stop|no more|rid of|unlike",
        "no thx|no ty|ban|hide all|hide the|hide any|filter out|off the table|off limits|regret|regretted",
        "gave up on|give up on|giving up on|veto|vetoes|vetoed|lost my taste for|lost my appetite for|lost patience with",
        "could do without|can do without",
        "no thanks|no thank you|hold the|spare me|ugh|yuck|turned off|done with|over with|am over",
        "im over",
        "so over|further from|farther from|far from|further away from|farther away from|lighter on|light on|too heavy on",
        "easy on",
        "more than enough|thumbs down|not so big on|away with|down with|too much like|too like",
        "opposite of|opposite to|suck at|sucks at|bad at|hopeless at|no good at|drowning in|swamped with|bombarded with",
        *_frames(
            ("last thing", "i want|i need|we want|we need|i wanted|we wanted"),
            ("if i see|if i get|if we see|if we get", "one more|another"),
        ),
        "had it with|up to here with|welcome change from|nice change from|a change from",
        "break from|rest from|too similar to|too close to|outgrown|outgrew|grown out of|grew out of",
        *_frames(("i|we|already", "have plenty of|have plenty|got plenty of|own plenty of")),
    ),
    Cue.REDUCE: (
        "drop|ditch|avoid|skip|exclude|remove|reduce|decrease|limit|minimise|minimize|scrap|quit|lose the|lose some|cut the",
        "cut out",
        "cut down on|cut back on|cut back|cut down|tone down|dial down|dial back|turn down|scale back|scale down|pull back on",
        "ease off|ease up on|ease off on|back off|back off on|lay off|go easy on|leave out|leave behind|steer clear of",
        "swap out",
        "take away|forget|forget about|trim|dropped|ditched|removed|excluded|hold off on|hold back on",
    ),
    Cue.SURFEIT: ("enough|thats enough|so much|so many",),
    Cue.COMPLAIN: (
        *_frames(
            ("you|you guys|it", "keep|keeps|kept|always|only|constantly|just keep|only ever|are always|are only|insist on"),
            ("i keep|i kept|all i keep", "getting|seeing|finding|being"),
            ("i only|i only ever|i always|all i|all i ever", "get|see|got|can see|seem to get|find"),
            ("i am always|i am only|all i am", "getting|seeing|offered"),
            ("all you|all you ever|all it", "show|shows|give|gives|recommend|suggest|offer|do is|keep showing"),
            ("why", "so much|so many|all the|all this|all these|always|another|only|is everything|is it always|is it all"),
            (
                "why",
                "are they all|are these all|are those all|is this all|do i keep|do i only|do i always|do you keep|do you only",
            ),
            ("why", "do you always|are you always|does it keep|is there so much|are there so many|am i always|am i only"),
            ("i get|i got|we get|we got|i see|seen|got|been|is|are|get|getting", "nothing but"),
            ("shown me|given me|suggested|recommended", "nothing but"),
            ("yet|still|oh no|oh great|great", "another|more|only"),
            ("there is|theres|there are|here is|its", "nothing but|so much|so many"),
        ),
        "everything is|everything seems|everything looks|everything you|every one is|every single one is",
        "everything here|everything so far|all of it is",
    ),
    Cue.OBSERVE: (
        *_frames(
            (
                "are|is|were|was|theyre|these|those|they",
                "all|mostly|mainly|only|all just|nearly all|almost all|pretty much all",
            ),
            ("its|thats|seem|look|feel", "all|mostly|mainly|a|an"),
            ("it|this|that|this one|that one", "is|was"),
            ("they|these|those", "are|were"),
            (
                "every|every single|each",
                "recommendation is|suggestion is|pick is|option is|result is|title is|item is|film is|movie is|game is|book is",
            ),
            ("all", "seem|look|feel|sound"),
            ("is|are", "full of|heavy on"),
        ),
    ),
    Cue.RECEIVE: (
        "got|and got|but got|i got|i get|and get|but get|ended up with|end up with|gave me|given me|was given|got served",
        "showed me",
        "i am getting|im getting|been getting|i received|and received|sent me|i was shown|and what i see is",
        "what i got was|what i get is|what i see is",
    ),
    Cue.LEAN: _frames(("lean|leans|leaning|leaned|tend|tends|skew|skews|drift|drifts|veer|veers", "towards|toward|to|into")),
    Cue.SWAP: (
        "swap|swapping|trade|trading|exchange|exchanging|replace|replacing|switch|switching|change|changing|move from|go from",
        "moving from|shift from|pivot from|swap out|away from|move on from|moving on from|moved on from",
    ),
    Cue.OVER: ("over|ahead of|beats|trumps|above",),
    Cue.UNDER: ("replaced by|replaced with|swapped for|traded for|exchanged for|below",),
    Cue.BETTER: ("better than|nicer than|more fun than",),
    Cue.WORSE: ("worse than|less than",),
    Cue.EXCEED: ("more than",),
    Cue.REJECT_THEN_APPROVE: ("instead of|rather than|in place of|as opposed to|apart from|aside from|besides|in lieu of",),
    Cue.MENTION: (
        "seen|saw|watched|watch|heard|heard of|hear|familiar|familiar with|already have|read|played|i have a|we have a|i own",
        "already has|already own|already owns|already got|has already|have already",
    ),
    Cue.COMPARE: ("than|compared to|compared with",),
    Cue.IGNORE: (
        "not only|not just|not merely|not necessarily|not always|not to mention|no idea|no doubt|no wonder|no worries",
        "no problem|not sure|not know|nothing in particular|too bad|my bad|seems like|seem like|looks like|look like",
        "sounds like|feels like|felt like|more or less|no matter|for a change|change of pace|more than ever|more than anything",
        "more than happy|more than one|over and over|again and again|drop me|take over|thank you so much|thanks so much",
        "nothing else|no one else|nobody else|thank you very much|thanks very much|thanks a lot|thank you a lot",
    ),
}

# Words after which a new clause begins: what was negated before is over.
CONTRASTS = word_set("but however though although yet while whereas then because since otherwise")
# After what was turned down, and before what is wanted instead: "no horror, so MAYBE a comedy", "no horror AND MORE comedy",
# "no horror JUST comedy".
CONCLUSIONS = word_set("maybe perhaps so and just only")
_AFTER_CONCLUSION = {
    "maybe": None,
    "perhaps": None,
    "just": None,
    "only": None,
    "so": word_set("maybe perhaps a an some something give show can could please any lets what how id rather"),
    "and": word_set("more maybe perhaps instead rather give show go"),
}
SUBJECTS = word_set("i we you he she they im ill id ive lets let")
# "I do not think I want ..." negates the wanting.
OPINION_VERBS = word_set("think believe feel guess suppose")
CLAUSE_OPENERS = frozenset((("what", "about"), ("how", "about"), ("show", "me"), ("give", "me")))
# A sentence that begins with one of these and ends in a question mark asks about things instead of asking for them.
QUESTION_WORDS = word_set("is isnt are was were does did who whose when where why which whats has")
# A "why" with one of these complains or asks for something: it does not ask about things.
COMPLAINING_WORDS = word_set("so all always keep only everything another no not never nothing more too again")
# What was shown, as the subject of a clause.
SHOWN = word_set(
    "these those they this that it everything all most list suggestions recommendations picks results options choices"
)
# With these a following "than", "to" or "over" names what is less wanted.
RATHER = word_set("rather sooner prefer prefers preferred")
# "swap one FOR the other", "replace one WITH the other", "switch from one TO the other"
EXCHANGES = word_set("for with to by into against")
# "turn the one DOWN", "crank the other UP", where these verbs come before.
ADJUSTING_VERBS = word_set("turn tone dial crank bring cut leave take scale ramp push notch pull")
PARTICLES = {"down": -1, "off": -1, "out": -1, "back": -1, "away": -1, "up": 1}
# "Not ANYTHING but this" asks for this and nothing else.
EXCLUSIVE = word_set("anything")
# Before a "like" that compares, and before one that approves.
THINGS = word_set("thing things something anything one ones stuff much more")
UNNAMED = word_set("something anything another")
ADVERBS = word_set("really also actually always usually only still do does did would id youd wed theyd")
# Between what was named and what is said of it.
COPULAS = word_set("is was are were be been looks looked sounds sounded seems seemed")
# Between a "not" or "never" and what it turns round.
EMPHASES = word_set("ever even please again")
DEGREES = word_set("pretty quite rather totally absolutely completely extremely incredibly super kinda simply truly honestly")
# Whom something bored or pleased: behind them nothing more is needed.
OBJECTS = word_set("me us my our")
# What is said of something shown without naming it: "acting was terrible".
ASPECTS = word_set(
    "acting plot story storyline ending beginning music soundtrack graphics gameplay quality price design idea look looks "
    "cover writing characters dialogue humor humour jokes pace pacing length visuals effects cast reviews rating"
)
# Who speaks. What somebody else likes is no wish where these only take it back: "my kids like it, I DO NOT".
FIRST_PERSONS = word_set("i im id ive ill we")
# "I hate it BUT HE DOES NOT", "I did not think so BUT I DID": what was said holds the other way round for who speaks.
ELLIPSES = frozenset(
    tuple(words.split())
    for words in (
        "i do not",
        "i did not",
        "i do",
        "i did",
        "not me",
        "me",
        "me not so much",
        "not for me",
        "i am not",
        "im not",
        "i would not",
        "i never did",
        "not mine",
        "not us",
        "we do not",
    )
)
# "I have not seen a good one IN AGES": it is missed.
FOR_LONG = frozenset(
    (*first.split(), last)
    for first, lasts in (
        ("in", "ages years months forever decades"),
        ("for", "ages years months"),
        ("in a", "while long very good year month week"),
        ("in so", "long"),
        ("in so many", "years months weeks"),
    )
    for last in lasts.split()
)
# Answers to what was just named: "the first: no, the second: yes".
REFUSALS = word_set("no nope nah nay")
CONSENTS = word_set("yes yep yeah yup")
# A clause may begin with these before its first word of weight.
INTERJECTIONS = SUBJECTS | word_set(
    "played watched read bought tried have has had got get seen own already weve youve ok okay well so "
    "and hey please alright right now oh sorry honestly guys thats really just seriously"
)
# A lone "no" before one of these answers instead of negating.
AFTER_ANSWER = SUBJECTS | word_set("it that this those these thank thanks thats its")
LISTING = frozenset(("and", "or", "nor", "plus"))
# After a cue these say no more than the cue alone: "not my type", "not a fan", "too much for me".
LIGHT_WORDS = FUNCTION_WORDS | word_set(
    "type types taste tastes kind style cup tea really quite bit little liking opinion honestly though sorry actually "
    "interested work works today tonight imo tbh ngl lol haha idk pls plz thx rn tho fan movie "
    "film game book item title suggestion recommendation option choice pick "
    "looking mood anymore right movies films games books items titles suggestions recommendations options choices"
)


def concludes(words: Sequence[str], place: int) -> bool:
    """Whether a word leads from what was turned down to what is wanted instead."""
    if words[place] not in CONCLUSIONS:
        return False
    expected = _AFTER_CONCLUSION[words[place]]
    return expected is None or (place + 1 < len(words) and words[place + 1] in expected)


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
