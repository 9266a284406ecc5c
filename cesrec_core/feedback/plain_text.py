"""Text as it is read: without control characters and tags, with signs that say yes, no or a number in words."""

import re
import unicodedata

from cesrec_core.feedback.vocabulary import without_contractions
from cesrec_core.web_text import with_characters

# "A > B": neither an arrow, nor a smiley, nor the end of a tag.
_TAG = re.compile(r"</?[a-z][^<>]*>", re.I)
_GREATER = re.compile(r"(?<![<=:;-])>{1,3}(?=\s*\w)")
_LESS = re.compile(r"<{1,3}(?=\s*[^\W\d])")
_NUMBER_SIGN = re.compile(r"#\s?(\d{1,2})\b")
# "8/10", "two thumbs" in pictures, and what they say: yes or no.
_OF_TEN = re.compile(r"(?<![\d/.])(\d{1,2}(?:\.\d)?)\s?/\s?(5|10)(?![\d/])")
_GOOD_MARK, _BAD_MARK = 0.7, 0.4
_THUMBS_UP = re.compile("[\U0001f44d\u2705\u2714]\ufe0f?[\U0001f3fb-\U0001f3ff]?")
_THUMBS_DOWN = re.compile("[\U0001f44e\u274c\u2716]\ufe0f?[\U0001f3fb-\U0001f3ff]?")


def plain_text(utterance: str) -> str:
    """What was said without control characters and tags, in one line, with signs that say yes, no or a number in words."""
    unescaped = with_characters(utterance)
    visible = "".join(" " if unicodedata.category(character)[0] == "C" else character for character in unescaped)
    drawn = _THUMBS_UP.sub(" yes, ", _THUMBS_DOWN.sub(" no, ", _OF_TEN.sub(_as_verdict, _TAG.sub(" ", visible))))
    spelled = _NUMBER_SIGN.sub(r"number \1", _LESS.sub(" below ", _GREATER.sub(" over ", drawn)))
    # Long runs of spaces would take the splitting into sentences a time that grows with their square.
    return without_contractions(" ".join(spelled.split()).replace("…", ".").replace("’", "'"))


def _as_verdict(mark: re.Match[str]) -> str:
    share = float(mark.group(1)) / float(mark.group(2))
    return " yes, " if share >= _GOOD_MARK else " no, " if share <= _BAD_MARK else " "
