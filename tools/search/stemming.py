"""Porter's stemmer (M.F. Porter, "An algorithm for suffix stripping", 1980): words of one stem count as one."""

from __future__ import annotations

_VOWELS = frozenset("aeiou")
_SECOND = {
    "ational": "ate",
    "tional": "tion",
    "enci": "ence",
    "anci": "ance",
    "izer": "ize",
    "abli": "able",
    "alli": "al",
    "entli": "ent",
    "eli": "e",
    "ousli": "ous",
    "ization": "ize",
    "ation": "ate",
    "ator": "ate",
    "alism": "al",
    "iveness": "ive",
    "fulness": "ful",
    "ousness": "ous",
    "aliti": "al",
    "iviti": "ive",
    "biliti": "ble",
}
_THIRD = {
    "icate": "ic",
    "ative": "",
    "alize": "al",
    "iciti": "ic",
    "ical": "ic",
    "ful": "",
    "ness": "",
}
_FOURTH = (
    *(
        "ement",
        "ance",
        "ence",
        "able",
        "ible",
        "ment",
        "ant",
        "ent",
        "ism",
        "ate",
        "iti",
        "ous",
        "ive",
        "ize",
    ),
    *("ion", "al", "er", "ic", "ou"),
)
_SECOND_ORDER = tuple(sorted(_SECOND, key=len, reverse=True))
_THIRD_ORDER = tuple(sorted(_THIRD, key=len, reverse=True))


def stem(word: str) -> str:
    """Give the stem of an English word in lower case."""
    if len(word) <= 2:
        return word
    word = _plural(word)
    word = _past(word)
    if word.endswith("y") and _has_vowel(word[:-1]):
        word = word[:-1] + "i"
    word = _replaced(word, _SECOND, _SECOND_ORDER)
    word = _replaced(word, _THIRD, _THIRD_ORDER)
    for suffix in _FOURTH if word.endswith(_FOURTH) else ():
        if word.endswith(suffix):
            base = word[: -len(suffix)]
            if _measure(base) > 1 and (suffix != "ion" or base.endswith(("s", "t"))):
                word = base
            break
    if word.endswith("e"):
        base = word[:-1]
        measure = _measure(base)
        if measure > 1 or (measure == 1 and not _short(base)):
            word = base
    if word.endswith("ll") and _measure(word) > 1:
        word = word[:-1]
    return word


def _plural(word: str) -> str:
    if word.endswith("sses") or word.endswith("ies"):
        return word[:-2]
    if word.endswith("s") and not word.endswith("ss"):
        return word[:-1]
    return word


def _past(word: str) -> str:
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    if word.endswith("ed") and _has_vowel(word[:-2]):
        base = word[:-2]
    elif word.endswith("ing") and _has_vowel(word[:-3]):
        base = word[:-3]
    else:
        return word
    if base.endswith(("at", "bl", "iz")):
        return base + "e"
    if len(base) > 1 and base[-1] == base[-2] and not _vowel(base, len(base) - 1) and base[-1] not in "lsz":
        return base[:-1]
    if _measure(base) == 1 and _short(base):
        return base + "e"
    return base


def _replaced(word: str, table: dict[str, str], order: tuple[str, ...]) -> str:
    for suffix in order if word.endswith(order) else ():
        if word.endswith(suffix):
            base = word[: -len(suffix)]
            return base + table[suffix] if _measure(base) > 0 else word
    return word


def _vowel(word: str, at: int) -> bool:
    letter = word[at]
    return letter in _VOWELS or (letter == "y" and at > 0 and not _vowel(word, at - 1))


def _has_vowel(word: str) -> bool:
    return any(_vowel(word, at) for at in range(len(word)))


def _measure(word: str) -> int:
    """Count the changes from vowels to consonants."""
    count = 0
    before = False
    for at, letter in enumerate(word):
        now = letter in _VOWELS or (letter == "y" and at > 0 and not before)
        if before and not now:
            count += 1
        before = now
    return count


def _short(word: str) -> bool:
    """Whether it ends in consonant, vowel, consonant, the last not being w, x or y."""
    end = len(word) - 1
    return (
        end >= 2
        and word[end] not in "wxy"
        and not _vowel(word, end)
        and _vowel(word, end - 1)
        and not _vowel(word, end - 2)
    )
