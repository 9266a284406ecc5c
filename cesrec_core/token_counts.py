"""How many tokens went through language models in this process: what a night costs, beside its seconds.

Counted behind a model's forward pass by shapes alone, padding included, since that is what is computed and asks no accelerator.
A pass that failed, for lack of memory as a rule, is not counted: its texts come again in smaller batches.
Items that stand in for tokens count as such.
"""

from collections.abc import Mapping
from typing import Any

_total = 0


def count_tokens(number: int) -> None:
    global _total
    _total += number


def counted_tokens() -> int:
    """Since the process began."""
    return _total


def watch(model: Any) -> None:
    """Count what goes through a transformer from now on; of a model with a head, watch what is beneath it."""
    model.register_forward_hook(_count_inputs, with_kwargs=True)


def _count_inputs(model: Any, arguments: tuple[Any, ...], named: Mapping[str, Any], answer: Any) -> None:
    given = (named.get("input_ids"), named.get("inputs_embeds"), *arguments)
    inputs = next(tensor for tensor in given if tensor is not None)
    count_tokens(inputs.shape[0] * inputs.shape[1])
