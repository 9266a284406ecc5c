"""Ways in which people react to recommendations, by kind. Neutral of the domain: a shop of toys must work too.

`{wish}` stands for one or two attributes asked for, `{unwanted}` for one turned down, `{item}` for the title of something that
was shown.
"""

WISH = (
    "I'd like something with {wish}",
    "I am in the mood for {wish}",
    "show me more {wish}",
    "could you find me some {wish} instead?",
    "what I really want is {wish}",
    "do you have any {wish}?",
    "I was hoping for {wish}",
    "give me {wish} please",
    "I feel like {wish} right now",
    "something more along the lines of {wish} would be great",
    "I usually go for {wish}, that would be nice",
    "these are fine, but I would rather have {wish}",
    "can we try {wish} next?",
    "looking for {wish} this time",
    "I could use some {wish}",
    "I'd love to see {wish} for a change",
)

REJECT = (
    "not another {unwanted} one",
    "I don't like {unwanted}",
    "no more {unwanted}, please",
    "I've had enough of {unwanted}",
    "too much {unwanted} for me",
    "{unwanted} is really not my thing",
    "please stop suggesting {unwanted}",
    "I am tired of {unwanted}",
    "anything but {unwanted}",
    "why so much {unwanted}? I never go for that",
    "I would skip {unwanted}",
    "that is all {unwanted}, which I don't enjoy",
)

BOTH = (
    "not another {unwanted} one, something with {wish}",
    "I don't like {unwanted}, I'd prefer {wish}",
    "enough {unwanted}, show me {wish}",
    "no {unwanted} please, I want {wish}",
    "too much {unwanted}, I was hoping for {wish}",
    "{unwanted} is not my thing, do you have {wish}?",
    "instead of {unwanted} give me {wish}",
    "I am tired of {unwanted} and would love some {wish}",
    "could we drop the {unwanted} and try {wish}?",
    "these are all {unwanted}; I'm looking for {wish}",
    "I'd swap the {unwanted} for {wish}",
    "anything but {unwanted}, ideally {wish}",
    "I asked for {wish} but I keep getting {unwanted}",
    "rather {wish} than {unwanted}, please",
)

COMPARE_WISH = (
    "like these, but with more {wish}",
    "similar, only closer to {wish}",
    "a bit more {wish} than this",
    "the same sort of thing with some {wish} in it",
    "these come close, but they need more {wish}",
    "nearly there, just more {wish}",
    "like what I had before, but {wish}",
    "more {wish} than what you showed me",
    "good direction, now lean towards {wish}",
    "compared with these I'd go further into {wish}",
    "something along these lines but more {wish}",
    "the last ones were better, they had {wish}",
)

COMPARE_BOTH = (
    "less {unwanted} and more {wish}",
    "like these, but {wish} instead of {unwanted}",
    "similar, only less {unwanted} and closer to {wish}",
    "more {wish} than this, and not so {unwanted}",
    "a little less {unwanted}, a little more {wish}",
    "the same sort of thing, but {wish} rather than {unwanted}",
    "closer to {wish}, further from {unwanted}",
    "these lean towards {unwanted}; I lean towards {wish}",
    "tone down the {unwanted}, turn up the {wish}",
    "good, but trade some {unwanted} for {wish}",
    "compared with these I want more {wish} and less {unwanted}",
    "I liked the ones with {wish} better than the {unwanted} ones",
)

TERSE_WISH = (
    "{wish}",
    "more {wish}",
    "{wish} please",
    "{wish}!",
    "some {wish}",
    "need {wish}",
    "want {wish}",
    "{wish} instead",
    "{wish}, thanks",
    "only {wish}",
    "just {wish}",
    "got {wish}?",
)

TERSE_BOTH = (
    "{wish}, not {unwanted}",
    "no {unwanted}. {wish}",
    "{wish} > {unwanted}",
    "less {unwanted}, more {wish}",
    "{unwanted}: no, {wish}: yes",
    "not {unwanted}, {wish}",
    "{wish} over {unwanted}",
    "skip {unwanted}, want {wish}",
    "{wish} instead of {unwanted}",
    "without {unwanted}, with {wish}",
    "minus {unwanted}, plus {wish}",
    "{wish}; never {unwanted}",
)

VAGUE = (
    "not really",
    "hmm, I don't know",
    "something else maybe",
    "these are okay I guess",
    "surprise me",
    "not quite what I had in mind",
    "could be better",
    "meh",
    "I am not sure what I want",
    "anything good?",
    "no, try again",
    "I'd like something different",
    "none of these",
    "what else is there?",
    "it depends on my mood",
)

# Of one attribute at once asked for and turned down.
CONTRADICTION = (
    "more {wish}, but no {wish}",
    "I love {wish}. No more {wish}, please",
    "I want {wish}, anything but {wish}",
    "show me {wish}. I don't like {wish}",
    "no {wish} please, I want {wish}",
    "less {wish} and more {wish}",
)

# Said of something that was shown: what was wanted is like it or unlike it, but for the wish.
COMPARE_ITEM = (
    "like {item}, but with more {wish}",
    "{item} was close, only more {wish} please",
    "something in the way of {item}, more {wish} though",
    "not like {item}, rather {wish}",
    "{item} is not for me, I'd rather have {wish}",
    "{wish} instead of {item}",
    "less like {item} and more {wish}",
    "why {item}? I was after {wish}",
    "I did not care for {item}; do you have {wish}?",
    "had my fill of things like {item}, now {wish}",
)

# Said to the recommender, and about something else.
OFF_TOPIC = (
    "thanks, talk to you later",
    "how do I change my password?",
    "what is the weather like tomorrow?",
    "hello, is anybody there?",
    "who made this app?",
    "the page takes ages to load",
    "can you call me a taxi",
    "my sister says hi",
    "I had pasta for dinner",
    "when is the shop open?",
    "please cancel my subscription",
    "how old are you?",
)

PAIRS_OF_WISHES = ("{first} and {second}", "{first}, {second}", "{first} with some {second}", "{first} or {second}")

# Answers to a question that offers one thing, or two.
ANSWER_YES = ("yes", "yes please", "sure", "yeah", "ok", "of course")
ANSWER_NO = ("no", "no thanks", "nope", "rather not", "not really")
ANSWER_NEITHER = ("neither", "no", "neither of them", "none of these")
ANSWER_PLACE = (("the first", "the first one", "the former"), ("the second", "the second one", "the latter"))
