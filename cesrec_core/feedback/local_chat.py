"""A chat model in this process, read from disk or from the hub at one commit."""

from collections.abc import Sequence
from typing import Any

import torch

from cesrec_core.feedback.prompted_simulator import Message
from cesrec_core.language_models import ModelSource
from cesrec_core.token_counts import watch


class LocalChat:
    """Answers greedily and one conversation at a time: what else is asked, and how it is padded, changes no answer."""

    def __init__(self, source: ModelSource, max_new_tokens: int, device: str) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.max_new_tokens = max_new_tokens
        self.device = device
        self._tokenizer: Any = AutoTokenizer.from_pretrained(source.folder, **source.loading)
        model: Any = AutoModelForCausalLM.from_pretrained(source.folder, dtype=torch.float32, **source.loading)
        self._model = model.to(device).eval()
        watch(self._model.base_model)

    def complete(self, conversations: Sequence[Sequence[Message]]) -> list[str | None]:
        """See `prompted_simulator.ChatModel`; there always is an answer, which may be empty."""
        return [self._answer(conversation) for conversation in conversations]

    @torch.inference_mode()
    def _answer(self, conversation: Sequence[Message]) -> str:
        ids = self._tokenizer(self._prompt(conversation), return_tensors="pt", add_special_tokens=False).input_ids
        newest = ids[:, -self._room :].to(self.device)
        written = self._model.generate(
            newest,
            attention_mask=torch.ones_like(newest),
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=self._tokenizer.eos_token_id,
        )
        return str(self._tokenizer.decode(written[0, newest.shape[1] :], skip_special_tokens=True))

    @property
    def _room(self) -> int:
        """Tokens that a prompt may have beside the answer."""
        return max(1, int(self._model.config.max_position_embeddings) - self.max_new_tokens)

    def _prompt(self, conversation: Sequence[Message]) -> str:
        """In the model's own chat template; a base model without one goes on with plain text."""
        if self._tokenizer.chat_template:
            return str(self._tokenizer.apply_chat_template(list(conversation), tokenize=False, add_generation_prompt=True))
        return "\n\n".join(message["content"] for message in conversation) + "\n\n"
