"""An answer is read together with its question: "yes", "the first" and "neither" speak of what was offered."""

import dataclasses
import itertools
from collections.abc import Sequence

from cesrec_core.feedback.intents import CRITIQUE_ADD, CRITIQUE_FEATURE
from cesrec_core.feedback.plain_text import plain_text
from cesrec_core.feedback.understanding import Signals
from cesrec_core.feedback.vocabulary import Word, word_set, words_of
from cesrec_core.prompts import attribute_words

_YES = word_set(
    "yes yeah yea ye yess y yep yup sure ok okay absolutely definitely certainly indeed gladly fine sounds perfect love great "
    "cool alright right works always okey"
)
_NO = word_set("no nope nah naw n not never neither none nor hate bad pass")
_FIRST = word_set("first 1st former 1")
_SECOND = word_set("second 2nd latter last 2")
_BOTH = word_set("both either any each")
# What may stand around an answer without making it something else.
_AROUND = word_set(
    "a an and but the one ones option choice i id would do like rather have prefer pick take want think guess suppose it that "
    "this them these really very much please thanks thank you so well hmm oh of course more some with for me go let lets us "
    "actually maybe probably why kind type sort way hell god be is are good lovely nice sound does did should mix anything "
    "then to those above by now today tonight at all in mood ahead number two"
)
# Whole answers whose words say yes together, as `words_of` gives them: "let's" without its "s".
_ASSENTS = frozenset(
    (
        *("i guess", "i guess so", "i suppose", "i suppose so", "i would", "i do", "i would like that", "id like that"),
        *("let do it", "let do that", "let go", "go ahead", "go for it", "bring it on", "you bet", "could not hurt"),
        *("it could not hurt", "that could not hurt", "more than anything", "sounds like a plan", "no problem", "no doubt"),
        *("no objections", "by all means", "count me in", "im in"),
    )
)
_COUNTING = frozenset(("option", "number", "choice"))
# "the first" is still turned down by a "not" so many words before it.
_REACH_OF_NOT = 2
_CONFIDENCE = 0.9
_STRESSED_NO = frozenset((first, "not") for first in ("absolutely", "definitely", "certainly", "sure", "course", "do", "would"))
_MAX_WORDS_OF_LEAD = 4
_FOR_THE_OFFER = word_set("them these those both it that neither none")


def read_answer(utterance: str, offered: Sequence[str], signals: Signals) -> tuple[Signals, str | None]:
    """What an utterance means as the answer to a question.

    Args:
        offered: attributes that the question offers, one or two, in the order in which it names them.
        signals: what the utterance was understood to mean by itself.

    Returns:
        The signals, and the utterance in words that need no question; `signals` and None where the utterance does not
        refer to what was offered.
    """
    words = words_of(plain_text(utterance))
    is_whole = _is_nothing_else(words)
    polarity = _of_answer(words, offered) if is_whole else None
    if polarity is not None:
        wanted = tuple(attribute for attribute in offered if polarity.get(attribute) == 1)
        unwanted = tuple(attribute for attribute in offered if polarity.get(attribute) == -1)
        # Whatever else was understood took the answer for a remark on what was recommended.
        alone = dataclasses.replace(signals, wanted_item_ids=(), unwanted_item_ids=())
        return _clear(alone, wanted, unwanted), _restated(wanted, unwanted)
    if is_whole and not _YES.isdisjoint(said := {word.text for word in words}) and not _NO.isdisjoint(said):
        return signals, None  # "yes. Actually no"
    leading, is_of_offer = _leading(words, offered)
    named = {*signals.wanted_attributes, *signals.unwanted_attributes}
    open_ones = tuple(attribute for attribute in offered if attribute not in named)
    if leading == 0 or not open_ones:
        return signals, None
    wanted, unwanted = (open_ones, ()) if leading > 0 else ((), open_ones)
    if leading > 0 and len(offered) > 1 and named.intersection(offered):
        return signals, None  # "yes, the comedy": the choice is made
    if is_of_offer:  # "none of them, horror": they are what was offered
        signals = dataclasses.replace(signals, wanted_item_ids=(), unwanted_item_ids=())
    read = _clear(signals, (*signals.wanted_attributes, *wanted), (*signals.unwanted_attributes, *unwanted))
    return read, f"{_restated(wanted, unwanted)}. {utterance}"


def _is_nothing_else(words: Sequence[Word]) -> bool:
    known = _YES | _NO | _FIRST | _SECOND | _BOTH | _AROUND
    return bool(words) and (_is_assent(words) or all(word.text in known for word in words))


def _is_assent(words: Sequence[Word]) -> bool:
    return " ".join(word.text for word in words) in _ASSENTS


def _of_answer(words: Sequence[Word], offered: Sequence[str]) -> dict[str, int] | None:
    """Attribute -> 1 or -1; None where the words decide nothing ("not sure")."""
    texts = [word.text for word in words]
    if _is_assent(words):
        return dict.fromkeys(offered, 1)
    if texts[:2] == ["anything", "but"]:
        turned = _of_answer(words[2:], offered) or (dict.fromkeys(offered, 1) if len(offered) == 1 else {})
        return {attribute: -polarity for attribute, polarity in turned.items()} or None
    if len(offered) > 1:
        chosen = _chosen(texts, offered)
        if chosen:
            return chosen
        if ("no", "to") in itertools.pairwise(texts) or ("not" in texts and not {"either", "any"}.isdisjoint(texts)):
            return dict.fromkeys(offered, -1)  # "no to both"; "not both" may want one of them
        if _BOTH.intersection(texts):
            return None if {"not", "no"}.intersection(texts) else dict.fromkeys(offered, -1 if _NO.intersection(texts) else 1)
    is_asking_back = "why" in texts
    is_yes, is_no = bool(_YES.intersection(texts)) or "please" in texts or "course" in texts, bool(_NO.intersection(texts))
    if is_asking_back and is_no:
        return dict.fromkeys(offered, 1)  # "why not"
    is_stressed = any(pair in _STRESSED_NO for pair in itertools.pairwise(texts))
    if is_no and (is_stressed or not _YES.intersection(texts)):
        return dict.fromkeys(offered, -1)
    return dict.fromkeys(offered, 1) if is_yes and not is_no and not is_asking_back else None


def _chosen(texts: Sequence[str], offered: Sequence[str]) -> dict[str, int]:
    polarity: dict[str, int] = {}
    for place, text in enumerate(texts):
        is_counted = place > 0 and texts[place - 1] in _COUNTING
        is_first, is_second = (
            text in _FIRST or (is_counted and text == "one"),
            text in _SECOND or (is_counted and text == "two"),
        )
        attribute = offered[0] if is_first else offered[1] if is_second else None
        if attribute is not None:
            polarity[attribute] = -1 if "not" in texts[max(0, place - _REACH_OF_NOT) : place] else 1
    return polarity


def _leading(words: Sequence[Word], offered: Sequence[str]) -> tuple[int, bool]:
    """1 or -1 for an answer that stands by itself before the rest, else 0; and whether it has a word for what was offered."""
    length = next((place + 1 for place, word in enumerate(words) if word.after and word.after != "-"), len(words))
    head = words[:length]
    texts = {word.text for word in head}
    if length == len(words) or length > _MAX_WORDS_OF_LEAD or (length == 1 and texts <= {"not", "never"}):
        return 0, False
    decided = set((_of_answer(head, offered) or {}).values()) if _is_nothing_else(head) else set()
    return (decided.pop() if len(decided) == 1 else 0), bool(_FOR_THE_OFFER & texts)


def _clear(signals: Signals, wanted: tuple[str, ...], unwanted: tuple[str, ...]) -> Signals:
    return dataclasses.replace(
        signals,
        intents=(CRITIQUE_ADD if wanted else CRITIQUE_FEATURE,),
        wanted_attributes=wanted,
        unwanted_attributes=unwanted,
        is_vague=False,
        confidence=max(signals.confidence, _CONFIDENCE),
    )


def _restated(wanted: Sequence[str], unwanted: Sequence[str]) -> str:
    """In the words of `phrases`, which the Constructor has learned to hear."""
    parts = []
    if wanted:
        parts.append(f"I'd like something with {_joined(wanted)}")
    if unwanted:
        parts.append(f"no more {_joined(unwanted)}, please")
    return ". ".join(parts)


def _joined(attributes: Sequence[str]) -> str:
    return " and ".join(attribute_words(attribute) for attribute in attributes)
