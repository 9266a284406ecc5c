"""The words of a catalogue: its attributes and titles, indexed so that an utterance is read without scanning the catalogue."""

import hashlib
import re
import unicodedata
from collections import ChainMap, Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cesrec_core.datasets import Catalogue
from cesrec_core.feedback.spelling import without_a_letter


def word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words that say nothing of content in English: alone they are neither an attribute nor a title.
FUNCTION_WORDS = word_set(
    "a about after all also am an and another any anything are as at be been before being both but by can could did do does "
    "down each either else enough ever every everything few first for from get give go good had has have he her here him his "
    "how i if in into is it its just last less like lot many may maybe me more most much my new next no none nor not nothing "
    "now of off old on once one only or other our out over please same second she should show so some something still such "
    "than thank thanks that the their them then there these they thing things third this those to too two three under up us "
    "very want was way we well were what when where which while who why will with without would yes you your"
)

MAX_TITLE_WORDS = 12
MAX_ATTRIBUTE_WORDS = 5
_MIN_TELLING_WORDS_OF_SUBTITLE = 2
_MAX_WORDS_OF_COMMON_PART = 2
# A word that more names share finds no misspelt name: it bounds the work for each word said.
MAX_NAMES_PER_WORD = 50
# Names of a single word are looked up without a letter of theirs from this length on.
_MIN_LETTERS_OF_MISSPELT = 6
# A name that more items share (a series, a platform) does not single out items.
MAX_ITEMS_PER_NAME = 5

_TOKEN = re.compile(
    r"(?P<word>[^\W_]+(?:['’][^\W_]+)*)|(?P<and>&)|(?P<stop>[.!?;\n]+)|(?P<pause>[,:()–—]|\s-+\s)|(?P<hyphen>-)",
)
_CONTRACTED_NOT = re.compile(
    r"\b(do|does|did|is|are|was|were|ca|could|wo|would|should|have|has|had|ai|must|need)n['’]?t\b", re.IGNORECASE
)
_POSSESSIVE = re.compile(r"(?<=\w)['’]s\b", re.IGNORECASE)
_ARTICLES = frozenset(("the", "a", "an"))
_YEAR = re.compile(r"\((\d{4})\)")
_TRAILING_BRACKETS = re.compile(r"\s*[(\[][^()\[\]]*[)\]]\s*$")
# Of the languages whose titles an English catalogue sorts by the word behind them: "Cage aux Folles, La".
_TRAILING_ARTICLE = re.compile(
    r"^(.*),\s*(the|an?|la|las|le|les|l['’]|el|los|il|lo|gli|das|der|die|den|un|una|une)$", re.IGNORECASE | re.DOTALL
)
_TITLE_PARTS = re.compile(r"(?:,?\s+or)?:\s|,\s+or\s|\s[-–—|/]\s", re.IGNORECASE)
# "Tom and the Magic Lamp": somebody or something, and what they meet.
_TITLE_SIDES = re.compile(r"\s+(?:and|&)\s+(?=the\s)", re.IGNORECASE)
_ALSO_KNOWN_AS = re.compile(r"[(\[]\s*a\.?k\.?a\.?\s+([^()\[\]]+)[)\]]", re.IGNORECASE)
_ALSO = re.compile(r"[,/]?\s*a\.?k\.?a\.?\s+", re.IGNORECASE)
_ATTRIBUTE_PARTS = re.compile(r"\s*[&/,]\s*|\s+and\s+", re.IGNORECASE)

# Endings by which English turns a noun into an adjective, or a doer into a doing; read in both directions.
_RELATED_ENDINGS = (
    ("ance", "antic"),
    ("ence", "ent"),
    ("ation", "ated"),
    ("ery", "erious"),
    ("edy", "edic"),
    ("ama", "amatic"),
    ("ure", "urous"),
    ("er", "ing"),
)
_SHORTEST_STEM = 3


@dataclass(frozen=True)
class Word:
    """A word of a text, normalised; `after` is the punctuation that follows: "", "-", "," or one of . ! ? ;

    Characters [start, end) of the text are the word as it was said.
    """

    text: str
    after: str
    is_capitalised: bool
    start: int = 0
    end: int = 0


def without_contractions(text: str) -> str:
    """Text in which "not" is a word of its own: "don't" as "do not", and "can't" as "ca not"."""
    return _CONTRACTED_NOT.sub(r"\1 not", text)


def words_of(text: str) -> list[Word]:
    """The words of a text in order, lower case, without accents and possessive endings."""
    words: list[Word] = []
    for match in _TOKEN.finditer(text):
        if match.lastgroup in ("word", "and"):
            token = match.group()
            normalised = "and" if token == "&" else normalise_word(token)
            if normalised:
                words.append(Word(normalised, "", token[0].isupper() or token[0].isdigit(), match.start(), match.end()))
        elif words:
            mark = {"stop": "?" if "?" in match.group() else ".", "pause": ",", "hyphen": "-"}[match.lastgroup or "pause"]
            words[-1] = replace(words[-1], after=_stronger(words[-1].after, mark))
    return words


def _stronger(first: str, second: str) -> str:
    return max(first, second, key=["", "-", ",", ".", "?"].index)


def normalise_word(token: str) -> str:
    if token.isascii() and "'" not in token:
        return token.lower()
    lowered = unicodedata.normalize("NFKD", token.replace("’", "'").casefold())
    plain = "".join(character for character in lowered if not unicodedata.combining(character))
    return plain.removesuffix("'s").replace("'", "")


def singular(word: str) -> str:
    """One form for singular and plural. Not always the dictionary's, but the same for both."""
    if len(word) <= 3 or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zes", "oes")):
        return word[:-2]
    return word.removesuffix("s")


@dataclass(frozen=True)
class CatalogueVocabulary:
    """Lookups into a catalogue.

    Attributes:
        attributes: singular words joined by spaces → the attributes they stand for, as the catalogue spells them.
        beginnings: first two letters of the keys of `attributes` and `abbreviations`: most words are none of them.
        abbreviations: two letters of each part → hyphenated attributes of short parts ("Sci-Fi"), with their parts.
        names: words of a title, without article and year → items of that name.
        first_words: of the names.
        loose: names of two words that count only where they are written as names are, in capitals: parts of titles.
        years: item → year in its title.
        titles: item → title.
        written: title as it stands in the catalogue, but for case and spaces → items.
        names_by_word: content word → names of two words or more that have it, where these are few.
        names_by_letters: name of a single word, whole and without each letter → such names.
        fingerprint: changes with any of it.
        synonyms: words that the catalogue does not have → the attributes that they stand for in one utterance.
    """

    attributes: Mapping[str, tuple[str, ...]]
    beginnings: frozenset[str]
    abbreviations: dict[str, tuple[tuple[str, tuple[str, ...]], ...]]
    names: dict[str, tuple[str, ...]]
    first_words: frozenset[str]
    loose: frozenset[str]
    years: Mapping[str, str]
    titles: Mapping[str, str]
    written: dict[str, tuple[str, ...]]
    names_by_word: dict[str, tuple[str, ...]]
    names_by_letters: dict[str, tuple[str, ...]]
    fingerprint: str
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, catalogue: Catalogue) -> "CatalogueVocabulary":
        """Index a catalogue."""
        return cls.from_items(catalogue.item_ids, catalogue.titles, catalogue.attributes)

    @classmethod
    def from_items(
        cls, item_ids: Sequence[str], titles: Sequence[str], attributes: Sequence[Iterable[str]]
    ) -> "CatalogueVocabulary":
        """Index the items of a catalogue; the three sequences are parallel."""
        of_items = [tuple(values) for values in attributes]
        spellings = sorted({attribute for values in of_items for attribute in values})
        names: dict[str, list[str]] = defaultdict(list)
        # "The Godfather" is the first one, although two others are called so before a subtitle.
        wholes: dict[str, list[str]] = defaultdict(list)
        firm: set[str] = set()
        years = {}
        for item_id, title in zip(item_ids, titles, strict=True):
            of_title, loose = _named(title)
            firm |= of_title
            for name in of_title | loose:
                names[name].append(item_id)
            if (bare := _bare(title)) == _YEAR.sub("", title).strip():  # a bracket may hold an edition
                for name in _in_order(bare):
                    wholes[name].append(item_id)
            if year := _YEAR.search(title):
                years[item_id] = year.group(1)
        is_common = _common_parts(titles)
        telling = {
            name: tuple(sorted(found))
            for name, found in (names | wholes).items()
            if len(found) <= MAX_ITEMS_PER_NAME and not is_common(name)
        }
        phrases, abbreviations = _attribute_index(spellings), _abbreviation_index(spellings)
        return cls(
            attributes=phrases,
            beginnings=frozenset(key[:2] for key in (*phrases, *abbreviations)),
            abbreviations=abbreviations,
            names=telling,
            first_words=frozenset(name.split(" ", 1)[0] for name in telling),
            loose=frozenset(telling.keys() - firm),
            years=years,
            titles=dict(zip(item_ids, titles, strict=True)),
            written=_index_by_title(item_ids, titles),
            names_by_word=_index_by_word(telling),
            names_by_letters=_index_by_letters(telling),
            fingerprint=_fingerprint(item_ids, titles, of_items),
        )

    def with_titles(self, titles: Mapping[str, str]) -> "CatalogueVocabulary":
        """The same with titles that the catalogue does not have, by ids of their own; they count where recommended."""
        years = {key: year.group(1) for key, title in titles.items() if (year := _YEAR.search(title))}
        return replace(self, titles=ChainMap(dict(titles), self.titles), years=ChainMap(years, self.years))  # type: ignore[arg-type]

    def with_synonyms(self, synonyms: Mapping[str, str]) -> "CatalogueVocabulary":
        """The same, with attributes by words that stand for them."""
        return replace(self, synonyms={words: (attribute,) for words, attribute in synonyms.items()})

    def spelled_attributes(self) -> set[str]:
        """All attributes, as the catalogue spells them."""
        named = {attribute for found in self.attributes.values() for attribute in found}
        return named | {attribute for found in self.abbreviations.values() for attribute, _ in found}

    def synonym_at(self, words: Sequence[Word], start: int) -> tuple[tuple[str, ...], int]:
        """The attributes that the words from `start` stand for, and the place after them; ((), start) for none."""
        for end in range(min(start + MAX_ATTRIBUTE_WORDS, len(words)), start, -1) if self.synonyms else ():
            if found := self.synonyms.get(" ".join(word.text for word in words[start:end]), ()):
                return found, end
        return (), start

    def names_misspelt_as(self, word: str) -> set[str]:
        """Names of a single word that may be meant by `word`; those a letter away are among them."""
        if len(word) < _MIN_LETTERS_OF_MISSPELT:
            return set()
        return {name for key in without_a_letter(word) for name in self.names_by_letters.get(key, ())}

    def items_titled(self, title: str) -> tuple[str, ...]:
        """Items that a title written out stands for: those of just this title, else of its name and year, else the only one of
        its name."""
        if written := self.written.get(_as_written(title)):
            return written
        year = _YEAR.search(title)
        found = {item_id for name in names_of(title) for item_id in self.names.get(name, ())}
        of_year = sorted(item_id for item_id in found if year is not None and self.years.get(item_id) == year.group(1))
        undated = sorted(item_id for item_id in found if year is None or item_id not in self.years)
        return tuple(of_year) or (tuple(undated) if len(undated) == 1 else ())

    def attributes_at(self, words: Sequence[Word], start: int) -> tuple[tuple[str, ...], int]:
        """The attributes of the longest phrase that begins at `start`, and the place after it; ((), start) for none."""
        text = words[start].text
        if len(text) > 1 and text[:2] not in self.beginnings:
            return (), start
        longest = min(MAX_ATTRIBUTE_WORDS, len(words) - start)
        for length in range(longest, 0, -1):
            window = words[start : start + length]
            found = self._attributes_named(window)
            if found:
                return found, start + length
        return (), start

    def _attributes_named(self, window: Sequence[Word]) -> tuple[str, ...]:
        if any(word.after in (".", "?", ",") for word in window[:-1]):
            return ()
        if all(word.text in FUNCTION_WORDS for word in window):
            return ()
        found = self.attributes.get(" ".join(singular(word.text) for word in window), ())
        if not found and len(window) > 1 and all(word.after == "-" for word in window[:-1]):
            found = self.attributes.get("".join(singular(word.text) for word in window), ())
        return found or self._abbreviated(window)

    def _abbreviated(self, window: Sequence[Word]) -> tuple[str, ...]:
        candidates = self.abbreviations.get(" ".join(word.text[:2] for word in window), ())
        return tuple(
            attribute
            for attribute, parts in candidates
            if all(word.text.startswith(part) for word, part in zip(window, parts, strict=True))
        )


def names_of(title: str) -> set[str]:
    """The names people may use for a title: all its words, those before a subtitle, a subtitle, what else it is known as, and
    both sides of "and the"; without year and leading article. With a contraction or a possessive also as it is read or often
    written: "do not", "schindlers"."""
    firm, loose = _named(title)
    return firm | loose


def _named(title: str) -> tuple[set[str], set[str]]:
    """Names of a title, and loose ones: see `CatalogueVocabulary.loose`."""
    firm: set[str] = set()
    loose: set[str] = set()
    others = [other for found in _ALSO_KNOWN_AS.findall(title) for other in _ALSO.split(found)]
    for bare in filter(None, (_bare(title), *others)):
        for spelling in dict.fromkeys((bare, without_contractions(bare), _POSSESSIVE.sub("s", bare))):
            firm |= _names_of_bare(spelling)
            loose |= _loose_names(spelling)
    long = {name for name in loose if name.count(" ") > 1 and _num_telling(name) >= _MIN_TELLING_WORDS_OF_SUBTITLE}
    return firm | long, loose - long - firm


def _bare(title: str) -> str:
    """The title without brackets at its end."""
    bare = title
    while (shorter := _TRAILING_BRACKETS.sub("", bare)) not in (bare, ""):
        bare = shorter
    return bare


def _names_of_bare(bare: str) -> set[str]:
    names = _in_order(bare)
    first_part, *others = _TITLE_PARTS.split(bare)
    if others:
        names |= _in_order(first_part)
        # A subtitle is a name where it can hardly be a platform, an edition or a volume.
        for other in others:
            names |= {name for name in _in_order(other) if _num_telling(name) >= _MIN_TELLING_WORDS_OF_SUBTITLE}
    return {name for name in names if name and not all(word in FUNCTION_WORDS for word in name.split())} | _own_name(bare)


def _loose_names(bare: str) -> set[str]:
    """Parts of words alone, two or more: short subtitles ("A New Hope"), and both sides of "and the"."""
    sides = _TITLE_SIDES.split(bare)
    parts = [*_TITLE_PARTS.split(bare)[1:], *(sides if len(sides) > 1 else ())]
    names = (name for part in parts for name in _in_order(part))
    # "Part I" is where a sentence begins, too.
    return {
        name
        for name in names
        if " " in name and name.replace(" ", "").isalpha() and not {"i"} & {*name.split()} and _num_telling(name) > 0
    }


def _as_written(title: str) -> str:
    return " ".join(title.casefold().split())


def _index_by_title(item_ids: Sequence[str], titles: Sequence[str]) -> dict[str, tuple[str, ...]]:
    index: dict[str, list[str]] = defaultdict(list)
    for item_id, title in zip(item_ids, titles, strict=True):
        index[_as_written(title)].append(item_id)
    return {title: tuple(sorted(found)) for title, found in index.items()}


def _common_parts(titles: Iterable[str]) -> Callable[[str], bool]:
    """Whether a name is a short part of titles and of words that many share, such as a platform: it singles out nothing."""
    wholes = {_name(_bare(title)) for title in titles}
    counts = Counter(word for whole in wholes for word in set(whole.split()))

    def is_common(name: str) -> bool:
        words = name.split()
        is_short = len(words) <= _MAX_WORDS_OF_COMMON_PART and name not in wholes
        return is_short and all(counts[word] > MAX_NAMES_PER_WORD for word in words)

    return is_common


def _index_by_word(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    index: dict[str, list[str]] = defaultdict(list)
    for name in names:
        words = name.split()
        for word in dict.fromkeys(words) if len(words) > 1 else ():
            if word not in FUNCTION_WORDS and len(index[word]) <= MAX_NAMES_PER_WORD:
                index[word].append(name)
    return {word: tuple(found) for word, found in index.items() if len(found) <= MAX_NAMES_PER_WORD}


def _index_by_letters(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    index: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if name.isalpha() and len(name) >= _MIN_LETTERS_OF_MISSPELT:
            for key in without_a_letter(name):
                index[key].append(name)
    return {key: tuple(found[:MAX_NAMES_PER_WORD]) for key, found in index.items()}


def _own_name(bare: str) -> set[str]:
    """A title made of function words alone ("It") is kept: it counts where the item was recommended or its year is said."""
    name = _name(bare)
    return {name} if name else set()


def _num_telling(name: str) -> int:
    return sum(word not in FUNCTION_WORDS and word.isalpha() for word in name.split())


def _name(title: str) -> str:
    """Words of a title without the article that leads it, or of English stands behind it."""
    moved = _TRAILING_ARTICLE.match(title.strip())
    words = [word.text for word in words_of(moved.group(1) if moved else title)]
    if len(words) > 1 and words[0] in _ARTICLES:
        words = words[1:]
    return " ".join(words[:MAX_TITLE_WORDS])


def _in_order(title: str) -> set[str]:
    """The name, and with the article in front where that belongs to the name, as in "Il Postino"."""
    names = {_name(title)}
    moved = _TRAILING_ARTICLE.match(title.strip())
    if moved and moved.group(2).lower() not in _ARTICLES:
        rest, article = moved.groups()
        names.add(_name(f"{article}{rest}" if article[-1] in "'’" else f"{article} {rest}"))
    return names


def _attribute_index(spellings: Iterable[str]) -> dict[str, tuple[str, ...]]:
    index: dict[str, list[str]] = defaultdict(list)
    for attribute in spellings:
        for key in dict.fromkeys(_attribute_keys(attribute)):
            index[key].append(attribute)
    exact: dict[str, list[str]] = defaultdict(list)
    for attribute in spellings:
        exact[" ".join(singular(word.text) for word in words_of(attribute))].append(attribute)
    # A word that is an attribute of its own means that one, not those it is merely a part or relative of.
    return {key: tuple(exact.get(key, found)) for key, found in index.items()}


def _attribute_keys(attribute: str) -> Iterator[str]:
    for phrase in dict.fromkeys((attribute, *_ATTRIBUTE_PARTS.split(attribute))):
        words = words_of(phrase)
        if not words or all(word.text in FUNCTION_WORDS for word in words):
            continue
        yield " ".join(singular(word.text) for word in words)
        if any(word.after == "-" for word in words):
            yield "".join(singular(word.text) for word in words)
        if len(words) == 1:
            yield from _related(words[0].text)


def _related(word: str) -> Iterator[str]:
    """Adjective of a noun and noun of an adjective, by ending: "romance" and "romantic"."""
    stem_of = singular(word)
    for one, other in _RELATED_ENDINGS:
        for ending, replacement in ((one, other), (other, one)):
            if stem_of.endswith(ending) and len(stem_of) - len(ending) >= _SHORTEST_STEM:
                yield stem_of.removesuffix(ending) + replacement


def _abbreviation_index(spellings: Iterable[str]) -> dict[str, tuple[tuple[str, tuple[str, ...]], ...]]:
    index: dict[str, list[tuple[str, tuple[str, ...]]]] = defaultdict(list)
    for attribute in spellings:
        parts = tuple(word.text for word in words_of(attribute))
        if "-" in attribute and len(parts) > 1 and all(2 <= len(part) <= 4 for part in parts):
            index[" ".join(part[:2] for part in parts)].append((attribute, parts))
    return {key: tuple(found) for key, found in index.items()}


def _fingerprint(item_ids: Sequence[str], titles: Sequence[str], attributes: Sequence[tuple[str, ...]]) -> str:
    """Independent of the order of items."""
    digest = hashlib.sha256()
    for entry in sorted(zip(item_ids, titles, attributes, strict=True)):
        digest.update(repr(entry).encode("utf-8", errors="backslashreplace"))
    return digest.hexdigest()[:16]
