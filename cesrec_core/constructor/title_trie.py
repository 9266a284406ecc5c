"""The token trie of a catalogue's titles: which tokens may come next, for a batch of users with candidates of their own."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import LogitsProcessor

from cesrec_core.constructor.titles import Filling, Question, Titles

_END = -1


class TitleTrie:
    """All titles as sorted rows of token ids. A node of the trie is the set of rows that begin with one prefix.

    Attributes:
        tokens: int32 [N, T + 1], in lexical order; each title is followed by _END.
        codes: int64 [N], the item of each row; equal rows by item code.
    """

    def __init__(self, titles: Titles, token_lists: Sequence[Sequence[int]]) -> None:
        self.titles = titles
        table = np.full((len(token_lists), max(map(len, token_lists), default=0) + 1), _END, dtype=np.int32)
        for row, tokens in zip(table, token_lists, strict=True):
            row[: len(tokens)] = tokens
        self.codes = np.lexsort(table.T[::-1])
        self.tokens = table[self.codes]

    @property
    def longest(self) -> int:
        """Tokens of the longest title and of the line's end."""
        return int(self.tokens.shape[1])


class _Walk:
    """One user's way through the trie, title after title.

    Attributes:
        next_tokens: int, those that may come next.
        line: how many titles are whole.
    """

    def __init__(self, trie: TitleTrie, question: Question, end_of_line: int, end_of_answer: int) -> None:
        self._trie = trie
        self._filling = Filling(question)
        self._last_place = question.places[-1]
        self._end_of_line, self._end_of_answer = end_of_line, end_of_answer
        self.line = 0
        self._start()

    @property
    def is_over(self) -> bool:
        return self._filling.place is None

    def _start(self) -> None:
        self._rows = np.flatnonzero(self._filling.candidates()[self._trie.codes])
        self._depth = 0
        self._look()

    def _look(self) -> None:
        found = self._trie.tokens[self._rows, self._depth]
        # Rows are sorted, and so are the tokens that follow a prefix.
        self.next_tokens = found[np.append(True, found[1:] != found[:-1])]
        self.next_tokens[self.next_tokens == _END] = self._end

    @property
    def _end(self) -> int:
        return self._end_of_answer if self._filling.place == self._last_place else self._end_of_line

    def advance(self, token: int) -> None:
        if self.is_over:
            return
        found = self._trie.tokens[self._rows, self._depth]
        if token != self._end:
            self._rows, self._depth = self._rows[found == token], self._depth + 1
            self._look()
            return
        label = self._trie.titles.labels[self._trie.codes[self._rows[found == _END][0]]]
        # As the answer will be read: of titles that differ in case only, it may be another's.
        item = self._trie.titles.match(label, self._filling.candidates())
        assert item is not None
        self._filling.fill(item)
        self.line += 1
        if self.is_over:
            self.next_tokens = np.array([self._end_of_answer])
        else:
            self._start()


class TrieProcessor(LogitsProcessor):
    """Leaves a batch of greedy generations nothing but titles of candidates, and keeps how likely the chosen ones were."""

    def __init__(self, trie: TitleTrie, questions: Sequence[Question], end_of_line: int, end_of_answer: int) -> None:
        self._walks = [_Walk(trie, question, end_of_line, end_of_answer) for question in questions]
        self._has_begun = False
        self.log_probabilities = [[0.0] * len(question.places) for question in questions]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Mask the scores [B, size of the vocabulary] of the token after input_ids [B, T]."""
        if self._has_begun:
            for walk, token in zip(self._walks, input_ids[:, -1].tolist(), strict=True):
                walk.advance(token)
        self._has_begun = True
        rows = np.repeat(np.arange(len(self._walks)), [len(walk.next_tokens) for walk in self._walks])
        tokens = np.concatenate([walk.next_tokens for walk in self._walks]).astype(np.int64)
        places = torch.from_numpy(rows).to(scores.device), torch.from_numpy(tokens).to(scores.device)
        allowed = torch.full_like(scores, float("-inf"))
        allowed[places] = scores[places]
        # Greedy: the likeliest is what is chosen.
        chosen = (allowed.max(-1).values.double() - allowed.double().logsumexp(-1)).tolist()
        for walk, of_user, chance in zip(self._walks, self.log_probabilities, chosen, strict=True):
            if not walk.is_over:
                of_user[walk.line] += chance
        return allowed
