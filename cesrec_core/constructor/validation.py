"""What a trained Constructor is worth on users it has not been asked about: with their words, with none, and with somebody
else's."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cesrec_core.constructor.model import ItemConstructor, forbid
from cesrec_core.constructor.pairs import PairDrawer, TrainingPair
from cesrec_core.constructor.training import scored_batch

TOP_K = 10
_NUM_BOOTSTRAP_SAMPLES = 2000


@dataclass(frozen=True, eq=False)
class ValidationSet:
    """One user per entry of each list.

    Attributes:
        masked: places hidden inside the user's training window.
        next_place: the place after the training history; its target is the held-out item.
        seen: item codes of the user's training history, never counted as wrong answers for the next place.
    """

    masked: list[TrainingPair]
    next_place: list[TrainingPair]
    seen: list[np.ndarray]


def validation_set(
    drawer: PairDrawer, histories: Sequence[np.ndarray], targets: Sequence[int], rng: np.random.Generator
) -> ValidationSet:
    """Pairs for held-out places; `histories` end before `targets`, and masked places lie within `histories`."""
    return ValidationSet(
        masked=[drawer.masked_places(history, rng) for history in histories],
        next_place=[drawer.next_place(history, target, rng) for history, target in zip(histories, targets, strict=True)],
        seen=[np.asarray(history) for history in histories],
    )


def measure(model: ItemConstructor, examples: ValidationSet, batch_size: int, seed: int) -> dict[str, float]:
    """Figures for the manifest.

    Returns:
        Shares of places whose true item is among the first TOP_K or is the first: with the user's words, with none (`_without`)
        and with another user's (`_shuffled`), which mislead; and what the words add to recall, compared with none and with
        another user's (`_over_others`), with bootstrap intervals (95 %, over users). The next place is that of a held-out
        item; the masked places lie in histories that training also saw.
    """
    # SciPy's statistics take a second, and a training needs them at its end alone.
    from cesrec_core.evaluation.significance import bootstrap_interval

    figures: dict[str, float] = {}
    for prefix, pairs, seen in (("masked", examples.masked, None), ("next_place", examples.next_place, examples.seen)):
        of_words = {"": pairs, "_without": without_words(pairs), "_shuffled": shuffled_words(pairs)}
        ranks = {name: place_ranks(model, said, batch_size, seen) for name, said in of_words.items()}
        figures |= {f"{prefix}_recall_at_10{name}": float(_recall(found).mean()) for name, found in ranks.items()}
        if seen is None:
            figures |= {f"{prefix}_accuracy{name}": float(_accuracy(found).mean()) for name, found in ranks.items()}
        worth = "words_worth" if seen is None else f"{prefix}_words_worth"
        for name, other in ((worth, "_without"), (f"{worth}_over_others", "_shuffled")):
            gain = bootstrap_interval(_recall(ranks[""]) - _recall(ranks[other]), _NUM_BOOTSTRAP_SAMPLES, seed)
            figures |= {name: gain.mean, f"{name}_low": gain.low, f"{name}_high": gain.high}
    return {**figures, "num_validation_users": float(len(examples.masked))}


def without_words(pairs: Sequence[TrainingPair]) -> list[TrainingPair]:
    """The same pairs of people who say nothing."""
    return [dataclasses.replace(pair, feedback="") for pair in pairs]


def shuffled_words(pairs: Sequence[TrainingPair]) -> list[TrainingPair]:
    """The same pairs, each with the words of the next one: nobody keeps their own."""
    words = [pair.feedback for pair in pairs]
    return [dataclasses.replace(pair, feedback=other) for pair, other in zip(pairs, words[1:] + words[:1], strict=True)]


@torch.inference_mode()
def place_ranks(
    model: ItemConstructor, pairs: Sequence[TrainingPair], batch_size: int, seen: Sequence[np.ndarray] | None = None
) -> list[np.ndarray]:
    """Rank, from 1, of the true item at each masked place, with the places before it filled truly.

    Args:
        seen: item codes that are no candidates besides those in the pair's own sequence, per pair.

    Returns:
        int64 arrays, one per pair, one rank per masked place.
    """
    was_training = model.training
    model.eval()
    ranks: list[np.ndarray] = []
    for start in range(0, len(pairs), batch_size):
        chunk = pairs[start : start + batch_size]
        batch = scored_batch(chunk, model.prompt, None).to(model.device)
        logits = forbid(model.score_places(batch), batch.taken, batch.targets)
        if seen is not None:
            for place, row in enumerate(batch.rows.tolist()):
                codes = seen[start + row]
                logits[place, torch.from_numpy(codes[codes != int(batch.targets[place])]).long()] = float("-inf")
        true_logits = logits.gather(1, batch.targets.unsqueeze(1))
        # Ties count against the model, and so does what is no number, or a collapsed one would score perfectly.
        found = (~(logits < true_logits)).sum(1).cpu().numpy()
        ranks += np.split(found, np.cumsum([int(pair.masked.sum()) for pair in chunk])[:-1])
    model.train(was_training)
    return ranks


def _recall(ranks: Sequence[np.ndarray]) -> np.ndarray:
    """float64 [U], share of a user's places whose true item is among the first TOP_K."""
    return np.array([(places <= TOP_K).mean() for places in ranks])


def _accuracy(ranks: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([(places == 1).mean() for places in ranks])
