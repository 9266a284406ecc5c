"""Untrusted words on their way into a language model: cleaned, capped and delimited."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

MAX_UTTERANCE_CHARACTERS = 1000
MAX_TITLE_CHARACTERS = 200
MAX_ATTRIBUTE_CHARACTERS = 60

# The words around an utterance in the Constructor's prompt. Short, because every token is paid for at every step; the
# quotation marks delimit the utterance, which cannot contain one (see `quoted`).
BEFORE_FEEDBACK = 'Someone said of what was recommended to them: "'
AFTER_FEEDBACK = '" Their history, and then the history they would rather have:'

# What titles are asked for with. Each title has a line to itself, which no cleaned title can leave, and stands there as it
# is to be written: a bullet or quotation marks would be written, too.
BEFORE_TITLES = '" Here is what they chose, oldest first, one title a line:\n'
AFTER_TITLES = "That was what they chose.\n"
BEFORE_LISTED = "These titles can be had:\n"
AFTER_LISTED = "Those were the titles that can be had.\n"
HIDDEN_TITLE = "[MASK]"
UNTITLED = "untitled"
ASK_FOR_ONE = "Which title should stand in place of [MASK], so that it suits what they said? Write its line alone."
ASK_FOR_SOME = (
    "Which {} titles should stand in place of [MASK], so that they suit what they said? Write their lines alone, in order."
)
ASK_FOR_ALL = (
    "Write all {} lines again, in order, with another title that suits what they said in place of [MASK]. No other words."
)

# Role and turn markers of the chat templates in use (ChatML and Llama 3, Llama 2, Gemma, Phi, sentencepiece's own).
# A marker is removed, not escaped: no catalogue and no person needs one.
_TEMPLATE_TOKENS = re.compile(
    r"<\|[^<>|]{0,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk|mask)>"
    r"|\[/?(?:AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|SYSTEM_PROMPT)\]|<｜[^<>｜]{0,40}｜>",
    flags=re.IGNORECASE,
)


@dataclass(frozen=True)
class Piece:
    """A part of a prompt, cleaned; by whom it was written decides how many tokens of it are read."""

    text: str
    author: Literal["us", "user", "catalogue"] = "us"


def title_prompt(words: str, history: Sequence[str | None], listed: Sequence[str], num_titles: int) -> list[Piece]:
    """What asks for the titles of some places of a history, or of all.

    Args:
        words: an utterance.
        history: cleaned titles, oldest first; None at masked places.
        listed: cleaned titles to choose among; none where they are too many.
        num_titles: how many are asked for.
    """
    lines = [Piece(HIDDEN_TITLE) if title is None else Piece(title, "catalogue") for title in history]
    choice = [Piece(title, "catalogue") for title in listed]
    num_hidden = sum(title is None for title in history)
    ask = ASK_FOR_ALL if num_titles > num_hidden else ASK_FOR_ONE if num_titles == 1 else ASK_FOR_SOME
    return [
        Piece(BEFORE_FEEDBACK),
        Piece(quoted(words), "user"),
        Piece(BEFORE_TITLES),
        *_in_lines(lines),
        Piece(AFTER_TITLES),
        *([Piece(BEFORE_LISTED), *_in_lines(choice), Piece(AFTER_LISTED)] if choice else []),
        Piece(ask.format(num_titles)),
    ]


def _in_lines(pieces: Sequence[Piece]) -> list[Piece]:
    return [part for piece in pieces for part in (piece, Piece("\n"))]


def clean_text(text: str, max_characters: int) -> str:
    """Text without control characters and chat-template tokens, white space collapsed, at most `max_characters` long.

    >>> clean_text("less\\x00 horror<|im_end|>\\n please", 100)
    'less horror please'
    """
    # Longer input than this cannot matter after the cap; it would only make the loop below slow on purpose-built text.
    text = text[: 4 * max_characters]
    if not (text.isascii() and text.isprintable()):
        text = unicodedata.normalize("NFKC", text)
        text = "".join(character if _is_printable(character) else " " for character in text)
    # Removing one token can join the halves of another, so until nothing changes.
    while (shorter := _TEMPLATE_TOKENS.sub("", text)) != text:
        text = shorter
    return " ".join(text.split())[:max_characters].rstrip()


def quoted(utterance: str, max_characters: int = MAX_UTTERANCE_CHARACTERS) -> str:
    """A cleaned utterance that cannot end its own quotation: double quotation marks become single ones.

    >>> quoted('more "noir", please')
    "more 'noir', please"
    """
    return re.sub('["\u201c\u201d\u201e\u00ab\u00bb]', "'", clean_text(utterance, max_characters))


# A catalogue has few attributes, and some of them is said in every sentence that is made up.
@lru_cache(maxsize=1 << 14)
def attribute_words(attribute: str) -> str:
    """An attribute as a person would write it: lower case, in words.

    >>> attribute_words("Sci-Fi"), attribute_words("board_games")
    ('sci-fi', 'board games')
    """
    return clean_text(attribute.replace("_", " "), MAX_ATTRIBUTE_CHARACTERS).lower()


def _is_printable(character: str) -> bool:
    # Cc control, Cf format (zero-width, direction overrides), Co private use, Cs surrogate.
    return unicodedata.category(character) not in {"Cc", "Cf", "Co", "Cs"}
