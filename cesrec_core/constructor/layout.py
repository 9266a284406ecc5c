"""What the Constructor reads, slot by slot: [words] [history, masked places hidden] [SEPARATOR] [v*, teacher-forced].

The state of the slot that holds v*_{t-1} (the separator for t = 0) decides v*_t. The slot is told what I(u) holds at place
t: a learned vector where it is masked, a gated copy of the item elsewhere. A model that has to find the aligned place by
counting does not learn to in a few hundred steps, and its loss of copying stays near that of guessing by popularity.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from cesrec_core.prompts import AFTER_FEEDBACK, BEFORE_FEEDBACK, quoted

PADDING, TOKEN, WORD, ITEM, MASK, SEPARATOR = range(6)

# What a slot may be asked for, besides the code of an item to copy.
DECIDES = -1
NOTHING = -2


class TokenIds(Protocol):
    """The one thing needed of a Hugging Face tokenizer."""

    def __call__(self, text: str, *, add_special_tokens: bool, split_special_tokens: bool) -> Any: ...


@dataclass(frozen=True)
class PromptIds:
    """Token ids of a prompt; `is_word` is True for those of the utterance."""

    ids: list[int]
    is_word: list[bool]

    def __len__(self) -> int:
        return len(self.ids)


class Prompt:
    """Turns an utterance into token ids: the instruction is never cut, the utterance after `max_feedback_tokens`."""

    def __init__(self, tokenizer: TokenIds, max_feedback_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._max_feedback_tokens = max_feedback_tokens
        self._before = token_ids(tokenizer, BEFORE_FEEDBACK)
        self._after = token_ids(tokenizer, AFTER_FEEDBACK)

    def __call__(self, utterance: str) -> PromptIds:
        words = token_ids(self._tokenizer, quoted(utterance))[: self._max_feedback_tokens]
        is_word = [False] * len(self._before) + [True] * len(words) + [False] * len(self._after)
        return PromptIds([*self._before, *words, *self._after], is_word)


def token_ids(tokenizer: TokenIds, text: str) -> list[int]:
    """Ids of untrusted text; `split_special_tokens` makes a special token that survived cleaning ordinary characters."""
    return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])


@dataclass(frozen=True, eq=False)
class Slots:
    """Slots of one user, or of a batch padded on the right.

    Attributes:
        kinds: int64 [S] or [B, S], one of PADDING, TOKEN (instruction), WORD (utterance), ITEM, MASK, SEPARATOR.
        values: int64, same shape: token id or item code, 0 elsewhere.
        asked: int64, same shape: what I(u) holds at the place that the slot's state decides. An item code, DECIDES where it
            is masked, NOTHING in slots that decide no place.
    """

    kinds: torch.Tensor
    values: torch.Tensor
    asked: torch.Tensor

    def to(self, device: torch.device) -> "Slots":
        return Slots(self.kinds.to(device), self.values.to(device), self.asked.to(device))


def reading_slots(prompt: PromptIds, history: np.ndarray, masked: np.ndarray) -> Slots:
    """The part before v*, separator included.

    Args:
        history: int [L], item codes; ignored where masked.
        masked: bool [L], True at hidden places.
    """
    num_tokens, num_places = len(prompt), len(history)
    kinds = np.full(num_tokens + num_places + 1, SEPARATOR, dtype=np.int64)
    kinds[:num_tokens] = np.where(prompt.is_word, WORD, TOKEN)
    kinds[num_tokens:-1] = np.where(masked, MASK, ITEM)
    values = np.zeros_like(kinds)
    values[:num_tokens] = prompt.ids
    values[num_tokens:-1] = np.where(masked, 0, history)
    asked = np.full(len(kinds), NOTHING, dtype=np.int64)
    asked[-1] = _asked(history, masked)[0]
    return Slots(torch.from_numpy(kinds), torch.from_numpy(values), torch.from_numpy(asked))


def writing_slots(rewritten: np.ndarray, masked: np.ndarray, start: int, stop: int) -> Slots:
    """Slots that hold v*_start .. v*_{stop-1}.

    Args:
        rewritten: int [L], v* where it is known or copied; masked places from `stop` on are not read.
        masked: bool [L], True at the places to decide.
    """
    values = torch.from_numpy(np.array(rewritten[start:stop], dtype=np.int64))
    asked = torch.from_numpy(_asked(rewritten, masked)[start + 1 : stop + 1])
    return Slots(torch.full_like(values, ITEM), values, asked)


def _asked(history: np.ndarray, masked: np.ndarray) -> np.ndarray:
    """int64 [L + 1], what each place asks for; nothing stands after the last."""
    return np.append(np.where(masked, DECIDES, history), NOTHING).astype(np.int64)


def joined(first: Slots, second: Slots) -> Slots:
    """Two pieces of one user, one after the other."""
    return Slots(
        torch.cat([first.kinds, second.kinds]),
        torch.cat([first.values, second.values]),
        torch.cat([first.asked, second.asked]),
    )


def padded(rows: Sequence[Slots]) -> Slots:
    """One batch [B, S]. Padding stands on the right: a causal model's real slots never see it, and every padded slot has
    something to attend to, so that no softmax runs over nothing."""
    kinds = torch.nn.utils.rnn.pad_sequence([row.kinds for row in rows], batch_first=True, padding_value=PADDING)
    values = torch.nn.utils.rnn.pad_sequence([row.values for row in rows], batch_first=True)
    asked = torch.nn.utils.rnn.pad_sequence([row.asked for row in rows], batch_first=True, padding_value=NOTHING)
    return Slots(kinds, values, asked)
