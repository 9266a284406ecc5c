"""A local language model that writes titles, under the trie of the candidates' titles or freely."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from cesrec_core.config import ConstructSection, FinetuneConstructorSection
from cesrec_core.constructor.layout import token_ids
from cesrec_core.constructor.model import load_language_model
from cesrec_core.constructor.title_trie import TitleTrie, TrieProcessor
from cesrec_core.constructor.titles import Question, TitleDecoder, Titles, Written
from cesrec_core.prompts import Piece
from cesrec_core.rewriting.fallbacks import TRUNCATED_ANSWER

# Stands for the message while a chat template is taken apart; no template holds it.
_MESSAGE = "THE-MESSAGE-ITSELF"


class PromptTokens:
    """Prompts as token ids of one model: the chat template around pieces, and no special token from untrusted text.

    Args:
        max_words_tokens, max_title_tokens: what a user said, and a title, are cut after so many.
    """

    def __init__(self, tokenizer: Any, max_words_tokens: int, max_title_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._limits = {"user": max_words_tokens, "catalogue": max_title_tokens}
        self._special = frozenset(tokenizer.all_special_ids)
        self._before, self._after = self._around()

    def _around(self) -> tuple[list[int], list[int]]:
        tokenizer = self._tokenizer
        if not tokenizer.chat_template:
            return list(tokenizer("")["input_ids"]), token_ids(tokenizer, "\n")
        message = [{"role": "user", "content": _MESSAGE}]
        text: str = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        before, _, after = text.partition(_MESSAGE)
        first, second = (list(tokenizer(part, add_special_tokens=False)["input_ids"]) for part in (before, after))
        return first, second

    def __call__(self, pieces: Sequence[Piece]) -> list[int]:
        parts = [self.untrusted(piece.text)[: self._limits.get(piece.author)] for piece in pieces]
        return [*self._before, *(token for part in parts for token in part), *self._after]

    def untrusted(self, text: str) -> list[int]:
        """Ids of text that may hold what looks like a special token."""
        return [token for token in token_ids(self._tokenizer, text) if token not in self._special]

    def shorten(self, label: str) -> str:
        """The longest beginning of a cleaned title that takes no more tokens than a title may, and reads back as it is."""
        limit = self._limits["catalogue"]
        ids = self.untrusted(label)[:limit]
        while ids:
            # A cut may leave half a letter behind.
            text = self.text(ids).replace("\ufffd", "").strip()
            again = self.untrusted(text)
            if len(again) <= limit and self.text(again).strip() == text:
                return text
            ids.pop()
        return ""

    def text(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


class LanguageModelWriter:
    """Greedy generation, batched over users.

    Args:
        model, tokenizer: a causal language model of transformers, in evaluation mode.
        trie: of the candidates' titles; None lets the model write what it will.
        num_title_tokens: of the longest title, its line's end included; so many are generated for each at most.
    """

    def __init__(
        self, model: Any, tokenizer: Any, prompts: PromptTokens, trie: TitleTrie | None, num_title_tokens: int, batch_size: int
    ) -> None:
        self._model = model
        self._prompts = prompts
        self._trie = trie
        self._num_title_tokens = num_title_tokens
        self._batch_size = batch_size
        # What the model's own configuration says besides (temperature, penalties) is for conversation.
        own_ends = model.generation_config.eos_token_id
        ends = own_ends if isinstance(own_ends, list) else [own_ends]
        self._end = int(tokenizer.eos_token_id)
        self._ends = sorted({self._end, *(int(token) for token in ends if token is not None)})
        # The last of them: some tokenizers put a space of their own before every text.
        self._end_of_line = token_ids(tokenizer, "\n")[-1]
        model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=False, num_beams=1, eos_token_id=self._ends, pad_token_id=self._end, bos_token_id=tokenizer.bos_token_id
        )

    @torch.inference_mode()
    def write(self, questions: Sequence[Question]) -> list[Written]:
        """See `TitleWriter`."""
        prompts = [self._prompts(question.prompt) for question in questions]
        # Of similar length together, longest first, so that memory runs out at once or not at all.
        order = sorted(range(len(questions)), key=lambda number: -len(prompts[number]))
        answers: dict[int, Written] = {}
        for start in range(0, len(order), self._batch_size):
            numbers = order[start : start + self._batch_size]
            batch = self._generate([prompts[number] for number in numbers], [questions[number] for number in numbers])
            answers |= dict(zip(numbers, batch, strict=True))
        return [answers[number] for number in range(len(questions))]

    def _generate(self, prompts: Sequence[Sequence[int]], questions: Sequence[Question]) -> list[Written]:
        width = max(map(len, prompts))
        # On the left, so that every answer begins in one column.
        ids = torch.tensor([[self._end] * (width - len(prompt)) + list(prompt) for prompt in prompts])
        is_real = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        nums_lines = [len(question.places) for question in questions]
        constraint = TrieProcessor(self._trie, questions, self._end_of_line, self._end) if self._trie else None
        is_enough = _EnoughLines(self._prompts.text, nums_lines, width)
        output = self._model.generate(
            input_ids=ids.to(self._model.device),
            attention_mask=is_real.to(self._model.device),
            max_new_tokens=max(nums_lines) * self._num_title_tokens,
            logits_processor=LogitsProcessorList([constraint] if constraint else []),
            stopping_criteria=StoppingCriteriaList([] if constraint else [is_enough]),
        )
        chances = constraint.log_probabilities if constraint else [None] * len(questions)
        answers = output[:, width:].tolist()
        return [self._written(*row) for row in zip(answers, nums_lines, chances, strict=True)]

    def _written(self, answer: list[int], num_lines: int, chances: list[float] | None) -> Written:
        length = next((at for at, token in enumerate(answer) if token in self._ends), None)
        text = self._prompts.text(answer[:length])
        whole = _whole_lines(text)
        if length is None and len(whole) < num_lines:
            return Written(text, TRUNCATED_ANSWER)
        return Written("\n".join(whole[:num_lines]) if length is None else text, None, chances)


class _EnoughLines(StoppingCriteria):
    """Ends an answer that has as many whole lines as titles were asked for: what a chatty model adds is not waited for."""

    def __init__(self, text: Callable[[Sequence[int]], str], nums_lines: Sequence[int], prompt_width: int) -> None:
        self._text = text
        self._nums_lines = nums_lines
        self._prompt_width = prompt_width

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """bool [B]."""
        answers = input_ids[:, self._prompt_width :].tolist()
        is_done = [
            len(_whole_lines(self._text(answer))) >= number for answer, number in zip(answers, self._nums_lines, strict=True)
        ]
        return torch.tensor(is_done, device=input_ids.device)


def _whole_lines(text: str) -> list[str]:
    return [line for line in text.split("\n")[:-1] if line.strip()]


def local_title_decoder(
    folder: Path, base: FinetuneConstructorSection, section: ConstructSection, titles: Sequence[str], device: str
) -> TitleDecoder:
    """A decoder around the Constructor's base model, as the configuration says, without any fine-tuning.

    Args:
        titles: of the catalogue; untrusted.

    Raises:
        ConfigError: see `load_language_model`.
    """
    model, tokenizer = load_language_model(folder, base.num_layers, base.dtype)
    return title_decoder_around(model.to(device).eval(), tokenizer, base, section, titles)


def title_decoder_around(
    model: Any, tokenizer: Any, base: FinetuneConstructorSection, section: ConstructSection, titles: Sequence[str]
) -> TitleDecoder:
    """The same around a causal language model that is there already, on the device it is on."""
    prompts = PromptTokens(tokenizer, base.max_feedback_tokens, section.max_title_tokens)
    catalogue = Titles.of(titles, prompts.shorten)
    trie = TitleTrie(catalogue, [prompts.untrusted(label) for label in catalogue.labels])
    writer = LanguageModelWriter(
        model, tokenizer, prompts, trie if section.title_trie else None, trie.longest, section.batch_size
    )
    return TitleDecoder(catalogue, writer, base.history_items, section.written_titles, is_listing=not section.title_trie)
