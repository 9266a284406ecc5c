"""A simulated user, who knows the target by its attributes and nothing else: never its title, never an id.

The target-aware simulator: one or two attributes in words a person would use. The one
title that may be named is that of something that was shown.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from cesrec_core.feedback import phrases
from cesrec_core.prompts import MAX_TITLE_CHARACTERS, attribute_words, clean_text

# How often each kind of phrasing is used, in the order of the phrase tables below.
_WISH_KINDS = (phrases.WISH, phrases.COMPARE_WISH, phrases.TERSE_WISH)
_BOTH_KINDS = (phrases.BOTH, phrases.COMPARE_BOTH, phrases.TERSE_BOTH)
_KIND_SHARES = (0.55, 0.25, 0.2)
# People sometimes only turn something down and leave the wish unsaid.
_REJECTION_ONLY_SHARE = 0.1
# Where titles of what was shown are known.
_COMPARED_WITH_ITEM_SHARE = 0.1


def simulate_utterance(
    target_attributes: Sequence[str],
    shown_attributes: Sequence[Sequence[str]],
    rng: np.random.Generator,
    max_attributes: int,
    unwanted_share: float,
    shown_titles: Sequence[str] = (),
) -> str:
    """What a person who wants the target would say of what was shown.

    Args:
        target_attributes: attributes of the item the person wants; without any the utterance is vague.
        shown_attributes: attributes of each item that was recommended, or put into the history.
        max_attributes: at most this many wishes, and at most two.
        unwanted_share: probability that the person also turns something down: an attribute common in what was shown
            and absent from the target.
        shown_titles: titles that the person may compare with, the target's not among them; untrusted, and cleaned here.
    """
    wanted = _wishes(target_attributes)
    if not wanted:
        return vague_utterance(rng)
    unwanted = draw_unwanted(wanted, shown_attributes, rng) if rng.random() < unwanted_share else None
    wish = _say_wish(wanted, rng, max_attributes)
    # Without titles nothing is drawn, so that the words of a seed stay what they are.
    if shown_titles and rng.random() < _COMPARED_WITH_ITEM_SHARE:
        item = clean_text(_pick(shown_titles, rng), MAX_TITLE_CHARACTERS)
        return _pick(phrases.COMPARE_ITEM, rng).format(wish=wish, item=item)
    if unwanted is None:
        return _pick(_pick_kind(_WISH_KINDS, rng), rng).format(wish=wish)
    if rng.random() < _REJECTION_ONLY_SHARE:
        return _pick(phrases.REJECT, rng).format(unwanted=unwanted)
    return _pick(_pick_kind(_BOTH_KINDS, rng), rng).format(wish=wish, unwanted=unwanted)


def terse_utterance(target_attributes: Sequence[str], rng: np.random.Generator) -> str:
    """One attribute in as few words as possible; vague without any."""
    wanted = _wishes(target_attributes)
    return _pick(phrases.TERSE_WISH, rng).format(wish=_pick(wanted, rng)) if wanted else vague_utterance(rng)


def contradictory_utterance(target_attributes: Sequence[str], rng: np.random.Generator) -> str:
    """One attribute asked for and turned down in one breath; vague without any."""
    wanted = _wishes(target_attributes)
    return _pick(phrases.CONTRADICTION, rng).format(wish=_pick(wanted, rng)) if wanted else vague_utterance(rng)


def bare_wish(target_attributes: Sequence[str]) -> str | None:
    """An attribute and nothing else; None where there is none to say."""
    return next(iter(_wishes(target_attributes)), None)


def answer_utterance(offered: Sequence[str], target_attributes: Sequence[str], rng: np.random.Generator) -> str:
    """What a person who wants the target answers to a question that offers one attribute, or two to choose from.

    Args:
        offered: as the catalogue spells them.
    """
    fitting = [place for place, attribute in enumerate(offered) if attribute in target_attributes]
    if not fitting:
        return _pick(phrases.ANSWER_NO if len(offered) == 1 else phrases.ANSWER_NEITHER, rng)
    if len(offered) == 1:
        return _pick(phrases.ANSWER_YES, rng)
    place = fitting[int(rng.integers(len(fitting)))]
    named = attribute_words(offered[place])
    return _pick((*phrases.ANSWER_PLACE[place], "{wish}", "{wish} please"), rng).format(wish=named)


def _wishes(attributes: Sequence[str]) -> list[str]:
    return sorted({words for attribute in attributes if (words := attribute_words(attribute))})


def vague_utterance(rng: np.random.Generator) -> str:
    """Words that cannot be acted on."""
    return _pick(phrases.VAGUE, rng)


def off_topic_utterance(rng: np.random.Generator) -> str:
    """Words about something else."""
    return _pick(phrases.OFF_TOPIC, rng)


def _say_wish(wanted: list[str], rng: np.random.Generator, max_attributes: int) -> str:
    num_wishes = int(rng.integers(1, min(max_attributes, len(wanted), 2) + 1))
    drawn = [wanted[int(index)] for index in rng.choice(len(wanted), size=num_wishes, replace=False)]
    if num_wishes == 1:
        return drawn[0]
    return _pick(phrases.PAIRS_OF_WISHES, rng).format(first=drawn[0], second=drawn[1])


def draw_unwanted(wanted: Sequence[str], shown_attributes: Sequence[Sequence[str]], rng: np.random.Generator) -> str | None:
    """An attribute of what was shown that is not wanted, drawn by how common it is there; in words; None without one."""
    counts = Counter(attribute_words(attribute) for shown in shown_attributes for attribute in shown)
    candidates = sorted((words, count) for words, count in counts.items() if words and words not in wanted)
    if not candidates:
        return None
    weights = np.array([count for _, count in candidates], dtype=np.float64)
    drawn = int(rng.choice(len(candidates), p=weights / weights.sum()))
    return candidates[drawn][0]


def _pick_kind(kinds: Sequence[tuple[str, ...]], rng: np.random.Generator) -> tuple[str, ...]:
    return kinds[int(rng.choice(len(kinds), p=_KIND_SHARES))]


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]
