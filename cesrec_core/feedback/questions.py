"""What to ask somebody whose words cannot be acted on: the question whose answer tells most about what they want.

The user wants one of their candidates, each with the probability that the base recommender gives it. A question offers one
attribute to say yes or no to, or two to choose from; its worth is the mutual information between the wanted item and the
answer, in nats.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cesrec_core.prompts import attribute_words

# Pairs are looked for among so many attributes with the best questions of their own; the work grows with its square.
MAX_PAIRED_ATTRIBUTES = 64
# Sums of probabilities in another order differ by less, so that which question is asked does not hang on it.
GAIN_DECIMALS = 9


@dataclass(frozen=True)
class Question:
    """Something to ask.

    Attributes:
        attributes: what it offers, as the catalogue spells it: one, two, or none where it is open.
        information_gain: nats; 0 where it is open.
    """

    text: str
    attributes: tuple[str, ...] = ()
    information_gain: float = 0.0


OPEN_QUESTION = Question("What would you like more of?")


def best_question(probabilities: NDArray[np.float64], has: NDArray[np.bool_], names: Sequence[str]) -> Question:
    """The question with the greatest information gain; of equals the one with fewer attributes, then by their names.

    Args:
        probabilities: [C] of the candidates; sums to 1.
        has: bool [C, A], True where a candidate has the attribute.
        names: the A attributes, sorted; those without a letter that could be said are never asked about.

    Returns:
        `OPEN_QUESTION` where no attribute tells the candidates apart.
    """
    sayable = [place for place, name in enumerate(names) if attribute_words(name)]
    of_one = np.round(yes_or_no_gains(probabilities, has[:, sayable]), GAIN_DECIMALS)
    in_order = [int(place) for place in np.argsort(-of_one, kind="stable") if of_one[place] > 0][:MAX_PAIRED_ATTRIBUTES]
    if not in_order:
        return OPEN_QUESTION
    best = Question(_ask([names[sayable[in_order[0]]]]), (names[sayable[in_order[0]]],), float(of_one[in_order[0]]))
    kept = sorted(in_order)
    of_two = np.round(either_or_gains(probabilities, has[:, [sayable[place] for place in kept]]), GAIN_DECIMALS)
    first, second = np.unravel_index(int(np.argmax(of_two)), of_two.shape)
    if of_two[first, second] <= best.information_gain:
        return best
    pair = tuple(names[sayable[kept[int(place)]]] for place in sorted((first, second)))
    return Question(_ask(pair), pair, float(of_two[first, second]))


def yes_or_no_gains(probabilities: NDArray[np.float64], has: NDArray[np.bool_]) -> NDArray[np.float64]:
    """[A]: gain of asking for each attribute alone. The wanted item decides the answer, so this is the answer's entropy."""
    yes = np.clip(probabilities @ has, 0.0, 1.0)
    return _entropy(np.stack([yes, 1.0 - yes]))


def either_or_gains(probabilities: NDArray[np.float64], has: NDArray[np.bool_]) -> NDArray[np.float64]:
    """[A, A]: gain of letting somebody choose between two attributes, 0 on the diagonal.

    The answer is one of the two, or neither. Who wants an item with both names either, as likely one as the other: of the
    answer's entropy, that much is noise.
    """
    weighted = has * probabilities[:, None]
    both = weighted.T @ has
    of_one = np.diagonal(both)
    first = of_one[:, None] - both / 2
    second = of_one[None, :] - both / 2
    answers = np.stack([first, second, 1.0 - first - second])
    gains = _entropy(np.clip(answers, 0.0, 1.0)) - both * np.log(2.0)
    np.fill_diagonal(gains, 0.0)
    result: NDArray[np.float64] = np.maximum(gains, 0.0)
    return result


def _entropy(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Entropy in nats over the first axis; a share of 0 counts for nothing."""
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    result: NDArray[np.float64] = -(shares * logs).sum(axis=0)
    return result


def _ask(attributes: Sequence[str]) -> str:
    words = [attribute_words(attribute) for attribute in attributes]
    return f"Would you like {words[0]}?" if len(words) == 1 else f"Would you rather have {words[0]} or {words[1]}?"
