"""What an utterance speaks of: titles, recommended items by ordinal or pronoun, attributes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cesrec_core.feedback.cues import ASPECTS, CONTRASTS, Cue, cue_at
from cesrec_core.feedback.plain_text import plain_text
from cesrec_core.feedback.spelling import is_misspelt
from cesrec_core.feedback.vocabulary import (
    FUNCTION_WORDS,
    MAX_TITLE_WORDS,
    CatalogueVocabulary,
    Word,
    names_of,
    without_contractions,
    word_set,
    words_of,
)

_ORDINALS = {
    word: place
    for place, words in enumerate(
        ("first 1st", "second 2nd", "third 3rd", "fourth 4th", "fifth 5th", "sixth 6th", "seventh 7th", "eighth 8th")
    )
    for word in words.split()
} | {"former": 0, "ninth": 8, "9th": 8, "tenth": 9, "10th": 9}
_NUMBERING = word_set("number option choice pick")
_AROUND_NUMBERS = word_set("and or please the a maybe definitely id ill i take go for with want pick choose thanks")
_AFTER_ORDINAL = word_set("and or better over than instead please i we not yes no too")
_FROM_THE_END = frozenset(("last", "latter"))
_NUMBERS = {"two": 2, "2": 2, "three": 3, "3": 3, "four": 4, "4": 4, "couple": 2, "few": 3}
_REFERENCE_NOUNS = word_set(
    "one ones item items title titles option options choice choices pick picks suggestion suggestions recommendation "
    "recommendations movie movies film films game games book books show shows song songs product products"
)
_STATEMENT_VERBS = word_set("is was are were looks look sounds sound seems seem isnt wasnt would did do lean leans")
_SINGULAR = frozenset(("it", "that", "this"))
_PLURAL = frozenset(("them", "those", "these", "they", "both"))
_OF_KINDS = frozenset(("they", "them"))
# "Horror scares them, let us stay away FROM that."
_BEFORE_A_KIND = word_set("from of with about")
# Behind these a pronoun stands for nothing: "or something like that", "drama is not it".
_IDLE = frozenset((("something", "like"), ("stuff", "like"), ("things", "like"), ("is", "not"), ("are", "not"), ("was", "not")))
_COMPLEMENT_STARTS = (("the", "rest"), ("the", "others"), ("the", "other"), ("all", "the", "others"))
_AFTER_PRONOUN = (
    _STATEMENT_VERBS | CONTRASTS | word_set("and or too out so at as very because tonight tomorrow today later soon this")
)
# "I would like it to be", "I like it when", "I like it loud"
_AFTER_LIKING = word_set("to when if where more less better with without be being")
_NUMBERED = re.compile(r"\d{1,2}")
_COUNTED = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_THE = re.compile(r"^the\b|,\s*the\b", re.IGNORECASE)
_SEQUEL = re.compile(r"\d|i{2,3}|iv|vi{0,3}|ix")
_YEAR = re.compile(r"(19|20)\d{2}")
# "That actor is great" says little of what was shown, and "this week was long" nothing.
_OF_OTHERS = word_set(
    "time times day days night nights week weekend month year years way kind kinds sort sorts type types genre genres part "
    "parts half halves hour hours minute minutes season seasons episode episodes scene scenes chapter chapters act acts level "
    "levels actor actors actress director author writer guy guys man woman person people one ones shop store brand series"
)
# Behind these, as behind an attribute, "that" begins what is said of them and stands for nothing that was shown.
_ANTECEDENTS = _REFERENCE_NOUNS | word_set("something anything nothing everything those stuff thing things")
_HAD = word_set("loved liked hated enjoyed adored disliked despised watched rewatched saw finished")
_OF_SOMETHING_HAD = word_set("was sucked rocked ruled bored disappointed")
_OF_CLASSICS = frozenset((("is", "the"), ("is", "my"), ("is", "overrated"), ("is", "underrated")))
_BEFORE_LIKENESS = _REFERENCE_NOUNS | word_set("something anything more much things stuff just exactly")
# Words within a title that are written small, "not" where a contraction was taken apart.
_SMALL_IN_TITLES = word_set("of the and in a an to on at for from with not")

_EXACT, _BY_REFERENCE, _PARTIAL, _BY_MEANING = 1.0, 0.9, 0.8, 0.6
# A part of a recommended title counts from this share of its content words on.
_MIN_SHARE_OF_TITLE = 0.5
_MIN_LETTERS_OF_PART = 4


@dataclass(frozen=True)
class Mention:
    """Words [start, end) of an utterance that stand for attributes, or for items; `evidence` between 0 and 1.

    A pronoun merely keeps a sentence together: it counts only where something is said of it. A title that the catalogue does
    not have stands for nothing, but it is what is spoken of. By meaning an attribute is spoken of in other words than its own.
    """

    start: int
    end: int
    attributes: tuple[str, ...] = ()
    item_ids: tuple[str, ...] = ()
    evidence: float = _EXACT
    is_pronoun: bool = False
    is_title: bool = False
    is_by_meaning: bool = False


def find_mentions(words: Sequence[Word], recommended: Sequence[str], vocabulary: CatalogueVocabulary) -> list[Mention]:
    """Mentions in order, none overlapping another. A title's words are not read as attributes."""
    titles = _TitleFinder(words, recommended, vocabulary)
    foreign = _foreign_titles(words)
    written = titles.copied() | {
        title.start: title for start, end in foreign.items() if (title := titles.written_out(start, end)) is not None
    }
    mentions: list[Mention] = []
    place = 0
    while place < len(words):
        found = [mention for mention in (written.get(place), titles.at(place)) if mention is not None]
        mention = max(found, key=lambda mention: mention.end, default=None)
        is_known = any(place <= start < foreign.get(place, 0) for start in written)
        if place in foreign and not is_known and (mention is None or mention.end < foreign[place]):
            mention = Mention(place, foreign[place], evidence=_PARTIAL, is_title=True)
        mention = mention or _attribute(words, place, vocabulary)
        if mention is not None:
            mentions.append(mention)
        place = place + 1 if mention is None else mention.end
    taken = {inside for mention in mentions for inside in range(mention.start, mention.end)}
    spoken_of = {item_id for mention in mentions for item_id in mention.item_ids}
    mentions += _references(words, recommended, taken, spoken_of)
    return _resolved(sorted(mentions, key=lambda mention: mention.start), words)


def _resolved(mentions: Sequence[Mention], words: Sequence[Word]) -> list[Mention]:
    """A bare "they" or "them" stands for the kind of things that was named last, unless an item was named since."""
    result: list[Mention] = []
    named: Mention | None = None
    for mention in mentions:
        if (
            mention.is_pronoun
            and _may_be_a_kind(words, mention.start)
            and mention.end == mention.start + 1
            and named is not None
        ):
            by_meaning = named.is_by_meaning
            result.append(replace(mention, item_ids=(), attributes=named.attributes, is_by_meaning=by_meaning))
            continue
        named = mention if mention.attributes else None
        result.append(mention)
    return result


def _may_be_a_kind(words: Sequence[Word], place: int) -> bool:
    return words[place].text in _OF_KINDS or (words[place].text == "that" and _text_at(words, place - 1) in _BEFORE_A_KIND)


def _attribute(words: Sequence[Word], place: int, vocabulary: CatalogueVocabulary) -> Mention | None:
    found, end = vocabulary.attributes_at(words, place)
    if found and words[end - 1].is_capitalised and _YEAR.fullmatch(_text_at(words, end)):
        return None  # the end of a title that the catalogue does not have, followed by its year
    if found:
        return Mention(place, end, attributes=found)
    found, end = vocabulary.synonym_at(words, place)
    return Mention(place, end, attributes=found, evidence=_BY_MEANING, is_by_meaning=True) if found else None


def _foreign_titles(words: Sequence[Word]) -> dict[int, int]:
    """Where capitalised words with a year in brackets begin, and the place after the year: a title, known or not."""
    found = {}
    for year in range(1, len(words)):
        if not _YEAR.fullmatch(words[year].text) or words[year - 1].after != ",":
            continue
        start = year
        while start > max(0, year - MAX_TITLE_WORDS) and (start == year or words[start - 1].after not in (".", "?")):
            if not words[start - 1].is_capitalised and words[start - 1].text not in _SMALL_IN_TITLES:
                break
            start -= 1
        while start < year and (not words[start].is_capitalised or words[start].text == "i"):
            start += 1
        if start < year:
            found[start] = year + 1
    return found


class _TitleFinder:
    """Finds titles: those recommended generously, those of the whole catalogue only where they can hardly be other words."""

    def __init__(self, words: Sequence[Word], recommended: Sequence[str], vocabulary: CatalogueVocabulary) -> None:
        self._words = words
        self._vocabulary = vocabulary
        self._words_of_titles: dict[str, list[str]] = {}
        self._recommended: dict[str, list[str]] = {}
        self._shown = tuple(dict.fromkeys(recommended))
        for item_id in self._shown:
            for name in names_of(vocabulary.titles.get(item_id, "")):
                self._recommended.setdefault(name, []).append(item_id)
        self._first_words = {name.split(" ", 1)[0] for name in self._recommended}
        self._parts = self._unique_parts()
        self._misspelt = self._find_misspelt()

    def at(self, start: int) -> Mention | None:
        begins = self._words[start].text in self._first_words or self._words[start].text in self._vocabulary.first_words
        longest = min(MAX_TITLE_WORDS, len(self._words) - start) if begins else 0
        name_words = [word.text for word in self._words[start : start + longest]]
        for length in range(longest, 0, -1):
            name = " ".join(name_words[:length])
            if name in self._recommended or name in self._vocabulary.names:
                mention = self._named(name, start, start + length)
                if mention is not None:
                    return mention
        return self._misspelt.get(start) or self._part(start)

    def copied(self) -> dict[int, Mention]:
        """Recommended titles that stand there word for word and capital for capital, by their first word.

        What such a title holds besides a name, such as a series in brackets, or a year that it consists of, names nothing else.
        """
        whole: dict[tuple[tuple[str, bool], ...], list[str]] = {}
        for item_id in self._shown:
            title = _as_said(words_of(plain_text(self._vocabulary.titles.get(item_id, ""))))
            whole.setdefault(title, []).append(item_id)
        said = _as_said(self._words)
        found: dict[int, Mention] = {}
        for title, item_ids in sorted(whole.items(), key=lambda entry: len(entry[0])):
            for start in range(len(said) - len(title) + 1) if title else ():
                if said[start : start + len(title)] == title and (len(title) > 1 or self._is_opinion_of_number(start)):
                    found[start] = Mention(start, start + len(title), item_ids=tuple(item_ids), is_title=True)
        return found

    def _is_opinion_of_number(self, place: int) -> bool:
        """Whether somebody likes a number or does not, "I liked 1984", which says no more of time than a title does."""
        verb = cue_at([self._words[place - 1].text], 0)[0] if place else None
        return self._words[place].text.isdecimal() and verb in (Cue.LIKE, Cue.DISLIKE)

    def written_out(self, start: int, end: int) -> Mention | None:
        """The title as the catalogue writes it, article behind and brackets included, that ends with the year before `end`."""
        texts = [word.text for word in self._words[start:end]]
        shown = [item_id for item_ids in self._recommended.values() for item_id in item_ids]
        for place in range(start, end):
            mention = self.at(place)
            candidates = dict.fromkeys([*shown, *(mention.item_ids if mention is not None else ())])
            whole = texts[place - start :]
            found = tuple(item_id for item_id in candidates if self._title_words(item_id) == whole)
            if found:
                return Mention(place, end, item_ids=found, is_title=True)
        return None

    def _title_words(self, item_id: str) -> list[str]:
        if item_id not in self._words_of_titles:
            title = without_contractions(self._vocabulary.titles.get(item_id, ""))
            self._words_of_titles[item_id] = [word.text for word in words_of(title)]
        return self._words_of_titles[item_id]

    def _find_misspelt(self) -> dict[int, Mention]:
        """Titles by their first word, where a word or two of them are written otherwise.

        Recommended titles are looked for at every place, those of the catalogue only where a word of theirs stands that few
        titles have: the cost does not depend on the catalogue.
        """
        names = {name: name.split() for name in self._recommended}
        found: dict[int, Mention] = {}
        for place, word in enumerate(self._words):
            for name in names:
                self._compare(name, names[name], place, found)
            for name in self._vocabulary.names_by_word.get(word.text, ()):
                parts = name.split()
                self._compare(name, parts, place - parts.index(word.text), found)
            if word.is_capitalised and place > 0 and self._words[place - 1].after not in (".", "?"):
                for name in self._vocabulary.names_misspelt_as(word.text):
                    self._compare(name, [name], place, found)
        return found

    def _compare(self, name: str, parts: list[str], start: int, found: dict[int, Mention]) -> None:
        end = start + len(parts)
        if start < 0 or end > len(self._words) or self._words[start].text[0] != parts[0][0]:
            return  # a first letter is never a slip
        window = [word.text for word in self._words[start:end]]
        if window == parts or not all(
            one == other or is_misspelt(one, other) for one, other in zip(window, parts, strict=True)
        ):
            return
        if any(self._vocabulary.attributes_at(self._words, place)[0] for place in range(start, end) if len(parts) == 1):
            return
        mention = self._named(name, start, end)
        if mention is not None and (start not in found or mention.end > found[start].end):
            found[start] = replace(mention, evidence=min(mention.evidence, _PARTIAL))

    def _named(self, name: str, start: int, end: int) -> Mention | None:
        year = self._words[end].text if end < len(self._words) and _YEAR.fullmatch(self._words[end].text) else None
        everywhere = self._vocabulary.names.get(name, ())
        candidates = [*self._recommended.get(name, ()), *everywhere]
        of_year = [item_id for item_id in candidates if year is not None and self._vocabulary.years.get(item_id) == year]
        if of_year:
            return Mention(start, end + 1, item_ids=tuple(dict.fromkeys(of_year)), is_title=True)
        before = self._words[start - 1] if start > 0 and not self._words[start - 1].after else None
        of_year = [
            item_id for item_id in candidates if before is not None and self._vocabulary.years.get(item_id) == before.text
        ]
        if of_year:  # "the 1954 Sabrina"
            return Mention(start, end, item_ids=tuple(dict.fromkeys(of_year)), is_title=True)
        follows = not self._words[end - 1].after and _SEQUEL.fullmatch(_text_at(self._words, end))
        if follows or _YEAR.fullmatch(name):
            return None
        if name in self._recommended and self._is_said_as_title(start, end, is_recommended=True):
            return Mention(start, end, item_ids=tuple(self._recommended[name]), is_title=True)
        is_loose = name in self._vocabulary.loose and not self._is_in_capitals(start, end)
        everywhere = self._with_the_article_said(everywhere, start, end)
        if everywhere and not is_loose and self._is_said_as_title(start, end, is_recommended=False):
            return Mention(start, end, item_ids=everywhere, evidence=_PARTIAL, is_title=True)
        return None

    def _with_the_article_said(self, item_ids: tuple[str, ...], start: int, end: int) -> tuple[str, ...]:
        """Of items named by one small word behind a "the", those whose title has one, too: "the guy" is no "Guy"."""
        is_word = end == start + 1 and not self._words[start].is_capitalised
        if not is_word or start == 0 or self._words[start - 1].text != "the":
            return item_ids
        return tuple(item_id for item_id in item_ids if _THE.search(self._vocabulary.titles.get(item_id, "")))

    def _is_in_capitals(self, start: int, end: int) -> bool:
        """Whether each word of content is written with a capital, and one of them not because it begins a sentence."""
        content = [place for place in range(start, end) if self._words[place].text not in _SMALL_IN_TITLES]
        begins = start == 0 or self._words[start - 1].after in (".", "?")
        return all(self._words[place].is_capitalised for place in content) and (not begins or content[1:] != [])

    def _is_said_as_title(self, start: int, end: int, is_recommended: bool) -> bool:
        window = self._words[start:end]
        # A capital says something only within a sentence, and not of "I".
        begins = start == 0 or self._words[start - 1].after in (".", "?")
        has_capital = window[0].is_capitalised and not begins
        content = [word for word in window if word.text not in FUNCTION_WORDS]
        if not content:
            return has_capital and window[0].text != "i" and (is_recommended or len(window) > 2)
        is_attribute = self._vocabulary.attributes_at(self._words, start)[1] >= end
        if is_attribute:
            return has_capital and is_recommended
        if is_recommended:
            return len(content) > 1 or has_capital or len(content[0].text) >= _MIN_LETTERS_OF_PART
        if start > 0 and self._words[start - 1].text in ("a", "an", "some", "any", "more"):
            return has_capital
        return has_capital or len(content) > 1 or self._stands_for_something_had(start, end)

    def _stands_for_something_had(self, start: int, end: int) -> bool:
        """Whether a single word without a capital is where titles stand and other words seldom do.

        "fargo was boring", "i loved the matrix", "anything like gladiator".
        """
        if self._words[start].text in _REFERENCE_NOUNS | ASPECTS:
            return False
        first = start - (start > 0 and self._words[start - 1].text == "the")
        before = [word.text for word in self._words[max(first - 2, 0) : first]]
        begins = first == 0 or self._words[first - 1].after not in ("", "-") or before[-1] in CONTRASTS
        stops = bool(self._words[end - 1].after) or end == len(self._words)
        following = "" if stops else self._words[end].text
        if begins:
            return following in _OF_SOMETHING_HAD or (following, _text_at(self._words, end + 1)) in _OF_CLASSICS
        is_named = before[-1] in _HAD or tuple(before) == ("similar", "to")
        is_named = is_named or (before[-1] == "like" and before[0] in _BEFORE_LIKENESS)
        return is_named and (stops or following in FUNCTION_WORDS)

    def _unique_parts(self) -> dict[str, tuple[str, float]]:
        """Content words of exactly one recommended title → the item and the word's share of that title."""
        owners: dict[str, set[str]] = {}
        shares: dict[str, float] = {}
        for name, item_ids in self._recommended.items():
            content = {word for word in name.split() if word not in FUNCTION_WORDS}
            for word in content:
                owners.setdefault(word, set()).update(item_ids)
                shares[word] = max(shares.get(word, 0.0), 1 / len(content))
        return {word: (next(iter(ids)), shares[word]) for word, ids in owners.items() if len(ids) == 1}

    def _part(self, start: int) -> Mention | None:
        word = self._words[start]
        item_id, share = self._parts.get(word.text, ("", 0.0))
        is_telling = len(word.text) >= _MIN_LETTERS_OF_PART and not _YEAR.fullmatch(word.text)
        if share < _MIN_SHARE_OF_TITLE or not is_telling or self._vocabulary.attributes_at(self._words, start)[0]:
            return None
        return Mention(start, start + 1, item_ids=(item_id,), evidence=_PARTIAL, is_title=True)


def _references(words: Sequence[Word], recommended: Sequence[str], taken: set[int], spoken_of: set[str]) -> list[Mention]:
    mentions: list[Mention] = []
    place = 0
    while place < len(words):
        is_silent = place in taken or not recommended or _is_relative(words, place, taken)
        found = None if is_silent else _reference(words, place, recommended, spoken_of)
        if found is None or any(inside in taken for inside in range(found.start, found.end)):
            place += 1
            continue
        mentions.append(found)
        spoken_of = spoken_of | set(found.item_ids)
        place = found.end
    return mentions


def _is_relative(words: Sequence[Word], place: int, taken: set[int]) -> bool:
    """Whether a word is the "that" of "something that is short": taken for what was shown, it would be asked for."""
    if words[place].text != "that" or place == 0 or words[place - 1].after:
        return False
    follows = words[place - 1].text in _ANTECEDENTS or place - 1 in taken
    return follows and _text_at(words, place + 1) in _STATEMENT_VERBS and not words[place].after


def _reference(words: Sequence[Word], place: int, recommended: Sequence[str], spoken_of: set[str]) -> Mention | None:
    texts = [word.text for word in words[place : place + 4]]
    complement = next((start for start in _COMPLEMENT_STARTS if tuple(texts[: len(start)]) == start), None)
    if complement is not None and spoken_of:
        rest = tuple(item_id for item_id in recommended if item_id not in spoken_of)
        end = place + len(complement)
        end += end < len(words) and (words[end].text in _REFERENCE_NOUNS or words[end].text in _NUMBERS)
        return Mention(place, end, item_ids=rest, evidence=_BY_REFERENCE) if rest else None
    return _ordinal(words, place, recommended) or _pronoun(words, place, recommended, spoken_of)


def _ordinal(words: Sequence[Word], place: int, recommended: Sequence[str]) -> Mention | None:
    """Such as "the second one", "the first two", "number 3", "the latter"."""
    text, following = words[place].text, _text_at(words, place + 1)
    if text in _NUMBERING and (number := _number(following)):
        return _chosen(place, place + 2, recommended, number - 1, number)
    if (number := _number(text)) and all(word.text in _AROUND_NUMBERS or _number(word.text) for word in words):
        return _chosen(place, place + 1, recommended, number - 1, number)  # "1 and 3 please"
    if text == "middle" and len(recommended) % 2 and following in _REFERENCE_NOUNS:
        return _chosen(place, place + 2, recommended, len(recommended) // 2, len(recommended) // 2 + 1)
    if text not in _ORDINALS and text not in _FROM_THE_END:
        return None
    if text == "last" and _text_at(words, place + 2) in ("i", "we"):
        return None  # "the last one I enjoyed" was had before
    is_alone = words[place].after in (".", "?", ",") or place + 1 >= len(words) or following in CONTRASTS | _AFTER_ORDINAL
    begins = place == 0 and (following in ("and", "or") or len(words) == 1)
    has_article = begins or (place > 0 and words[place - 1].text in ("the", "your", "that", "and", "or"))
    if following in _NUMBERS:
        count = _NUMBERS[following]
        first = max(len(recommended) - count, 0) if text == "last" else _ORDINALS.get(text, 0)
        return _chosen(place, place + 2, recommended, first, first + count)
    has_noun = not is_alone and _is_noun_of_shown(words, place + 1)
    if not has_noun and following not in _STATEMENT_VERBS and not (has_article and is_alone):
        return None
    end = place + 2 if has_noun else place + 1
    index = len(recommended) - 1 if text in _FROM_THE_END else _ORDINALS[text]
    return _chosen(place, end, recommended, index, index + 1)


def _number(text: str) -> int:
    """From 1 to 10, in figures or as a word; 0 for anything else."""
    if _NUMBERED.fullmatch(text):
        return int(text) if 1 <= int(text) <= len(_COUNTED) else 0
    return _COUNTED.index(text) + 1 if text in _COUNTED else 0


def _chosen(start: int, end: int, recommended: Sequence[str], first: int, stop: int) -> Mention | None:
    item_ids = tuple(dict.fromkeys(recommended[max(first, 0) : stop])) if stop <= len(recommended) else ()
    return Mention(start, end, item_ids=item_ids, evidence=_BY_REFERENCE) if item_ids else None


def _pronoun(words: Sequence[Word], place: int, recommended: Sequence[str], spoken_of: set[str]) -> Mention | None:
    """For "those" all that was recommended; for "it" or "that one" the only one recommended, or the only one spoken of."""
    text, following = words[place].text, _text_at(words, place + 1)
    ends = words[place].after in (".", "?", ",") or place + 1 >= len(words)
    if ends and text in ("it", "that") and _is_idle(words, place):
        return None
    has_noun = _is_noun_of_shown(words, place + 1) or (text in _PLURAL and following in _NUMBERS)
    has_noun = has_noun and not ends
    stands = ends or following in _AFTER_PRONOUN or (text == "it" and _is_liking(words, place, following))
    end = place + 2 if has_noun else place + 1
    if text in _PLURAL and (has_noun or stands or text == "them" or (text, following) == ("both", "of")):
        return Mention(place, end, item_ids=tuple(dict.fromkeys(recommended)), evidence=_BY_REFERENCE, is_pronoun=True)
    if text in _SINGULAR and (has_noun or stands):
        known = [item_id for item_id in dict.fromkeys(recommended) if not spoken_of or item_id in spoken_of]
        item_ids = tuple(known) if len(known) == 1 else ()
        return Mention(place, end, item_ids=item_ids, evidence=_BY_REFERENCE, is_pronoun=True) if item_ids else None
    return None


def _is_noun_of_shown(words: Sequence[Word], place: int) -> bool:
    """Whether what was shown is called so: by a word for a product, or by whatever has something said of it.

    "That kit is", "I hate that kit"; `place` is that of the noun.
    """
    text = _text_at(words, place)
    if text in _REFERENCE_NOUNS or not text.isalpha():
        return text in _REFERENCE_NOUNS
    is_subject = _text_at(words, place + 1) in _STATEMENT_VERBS and not words[place].after
    ends = words[place].after in (".", "?", ",") or place + 1 == len(words)
    verb = place - 2 if words[place - 2].text != "the" else place - 3
    is_object = ends and verb >= 0 and cue_at([words[verb].text], 0)[0] in (Cue.LIKE, Cue.DISLIKE)
    if is_subject and words[place - 1].text == "that" and place > 1 and not words[place - 2].after:
        is_subject = words[place - 2].text in FUNCTION_WORDS | CONTRASTS  # "a robot that talks would be"
    has_content = text not in FUNCTION_WORDS | ASPECTS | _OF_OTHERS | _STATEMENT_VERBS
    return (is_subject or is_object) and has_content and cue_at([text], 0)[0] is None


def _is_idle(words: Sequence[Word], place: int) -> bool:
    before = (_text_at(words, place - 2), _text_at(words, place - 1)) if place > 1 else ()
    is_vague = before[1:] == ("like",) and _text_at(words, place - 3) in ("or", "and")
    return before in _IDLE and (is_vague or before[1] == "not")


def _is_liking(words: Sequence[Word], place: int, following: str) -> bool:
    """Whether an "it" is what somebody liked or not: "loved it every time", but not "like it when" or "like it to be"."""
    verb = None if place == 0 else cue_at([words[place - 1].text], 0)[0]
    return verb in (Cue.LIKE, Cue.DISLIKE) and following not in _AFTER_LIKING


def _as_said(words: Sequence[Word]) -> tuple[tuple[str, bool], ...]:
    return tuple((word.text, word.is_capitalised) for word in words)


def _text_at(words: Sequence[Word], place: int) -> str:
    return words[place].text if 0 <= place < len(words) else ""
