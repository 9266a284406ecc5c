"""Whether a word is another one with a slip of the fingers in it."""

# Shorter words are other words when a letter of them changes: "heat" and "heap".
_MIN_LETTERS = 5
# From so many letters on two slips are forgiven.
_LETTERS_FOR_TWO = 8


def is_misspelt(word: str, meant: str) -> bool:
    """One letter added, left out, changed or swapped with its neighbour; two in long words. The first letter must be right.

    Plurals are words of their own, and so are numbers.
    """
    if min(len(word), len(meant)) < _MIN_LETTERS or word[0] != meant[0] or word == meant:
        return False
    if word.removesuffix("s") == meant.removesuffix("s") or not (word.isalpha() and meant.isalpha()):
        return False
    limit = 2 if len(meant) >= _LETTERS_FOR_TWO else 1
    return abs(len(word) - len(meant)) <= limit and _distance(word, meant) <= limit


def _distance(one: str, other: str) -> int:
    """Optimal string alignment: Levenshtein's distance in which swapped neighbours count once."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, start=1):
        above, row, long_ago = row, [i], before
        for j, against in enumerate(other, start=1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (letter != against))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == against:
                cost = min(cost, long_ago[j - 2] + 1)
            row.append(cost)
        before = above
    return row[-1]


def without_a_letter(word: str) -> set[str]:
    """The word, and the word without each of its letters but the first: two words a slip apart have one of these in common."""
    return {word, *(word[:place] + word[place + 1 :] for place in range(1, len(word)))}
