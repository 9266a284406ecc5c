"""Untrusted words on their way into a language model: cleaned, capped and delimited."""

import re
import unicodedata

MAX_UTTERANCE_CHARACTERS = 1000
MAX_TITLE_CHARACTERS = 200
MAX_ATTRIBUTE_CHARACTERS = 60

# The words around an utterance in the Constructor's prompt. Short, because every token is paid for at every step; the
# quotation marks delimit the utterance, which cannot contain one (see `quoted`).
BEFORE_FEEDBACK = 'Someone said of what was recommended to them: "'
AFTER_FEEDBACK = '" Their history, and then the history they would rather have:'

# Role and turn markers of the chat templates in use (ChatML and Llama 3, Llama 2, Gemma, Phi, sentencepiece's own).
# A marker is removed, not escaped: no catalogue and no person needs one.
_TEMPLATE_TOKENS = re.compile(
    r"<\|[^<>|]{0,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk|mask)>"
    r"|\[/?(?:AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|SYSTEM_PROMPT)\]|<｜[^<>｜]{0,40}｜>",
    flags=re.IGNORECASE,
)


def clean_text(text: str, max_characters: int) -> str:
    """Text without control characters and chat-template tokens, white space collapsed, at most `max_characters` long.

    >>> clean_text("less\\x00 horror<|im_end|>\\n please", 100)
    'less horror please'
    """
    # Longer input than this cannot matter after the cap; it would only make the loop below slow on purpose-built text.
    text = unicodedata.normalize("NFKC", text[: 4 * max_characters])
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


def attribute_words(attribute: str) -> str:
    """An attribute as a person would write it: lower case, in words.

    >>> attribute_words("Sci-Fi"), attribute_words("board_games")
    ('sci-fi', 'board games')
    """
    return clean_text(attribute.replace("_", " "), MAX_ATTRIBUTE_CHARACTERS).lower()


def _is_printable(character: str) -> bool:
    # Cc control, Cf format (zero-width, direction overrides), Co private use, Cs surrogate.
    return unicodedata.category(character) not in {"Cc", "Cf", "Co", "Cs"}
