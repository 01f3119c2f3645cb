"""Words of a text: identifiers taken apart, stop words dropped, stemmed; what is written without spaces by pairs."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

from .stemming import stem

LONGEST = 40
"""Characters of one word; what is longer is a hash or noise, and is cut."""

STOP = frozenset(
    [
        "a",
        "about",
        "am",
        "an",
        "and",
        "any",
        "anybody",
        "anyone",
        "anything",
        "are",
        "as",
        "at",
        "be",
        "been",
        "being",
        "but",
        "by",
        "can",
        "could",
        "d",
        "did",
        "do",
        "does",
        "doing",
        "don",
        "for",
        "from",
        "had",
        "has",
        "have",
        "having",
        "he",
        "her",
        "here",
        "hers",
        "him",
        "his",
        "how",
        "i",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "itself",
        "just",
        "ll",
        "m",
        "may",
        "me",
        "might",
        "mine",
        "my",
        "myself",
        "no",
        "nor",
        "of",
        "off",
        "on",
        "onto",
        "or",
        "our",
        "ours",
        "out",
        "over",
        "please",
        "re",
        "s",
        "shall",
        "she",
        "should",
        "so",
        "some",
        "somebody",
        "someone",
        "something",
        "such",
        "t",
        "than",
        "that",
        "the",
        "their",
        "theirs",
        "them",
        "themselves",
        "then",
        "there",
        "these",
        "they",
        "this",
        "those",
        "through",
        "to",
        "too",
        "under",
        "until",
        "up",
        "upon",
        "us",
        "ve",
        "very",
        "was",
        "we",
        "were",
        "what",
        "whatever",
        "when",
        "where",
        "whether",
        "which",
        "while",
        "who",
        "whom",
        "whose",
        "why",
        "will",
        "with",
        "within",
        "without",
        "would",
        "you",
        "your",
        "yours",
        "yourself",
        "also",
        "am",
        "let",
        "lets",
        "want",
        "wants",
        "wanted",
        "need",
        "needs",
        "needed",
        "like",
        "help",
        "hi",
        "hello",
        "thanks",
        "thank",
        "know",
        "tell",
        "give",
        "show",
        "get",
    ]
)
"""Words that tell no tool from another: function words, and those that any request is wrapped in."""

_CJK_RANGES = "\u3040-\u30ff\u3105-\u312f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_CJK_RANGES += "\U00020000-\U0003134f"
# Thai, Lao, Khmer and Burmese have no spaces between words either, and signs in them that are no letters to `re`.
_CJK_RANGES += "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ebd\u0ec0-\u0ece\u1780-\u17d3\u1000-\u103f\u1050-\u109d"
_CJK = re.compile(f"[{_CJK_RANGES}]+")
_PIECE = re.compile(f"[{_CJK_RANGES}]+|[^\\W_{_CJK_RANGES}]+")
_HYPHEN = re.compile("[-\u2010]")
_RUN = re.compile(f"[{_CJK_RANGES}]+|[^\\W_{_CJK_RANGES}]+(?:[-\u2010][^\\W_{_CJK_RANGES}]+)*")
_ASCII_RUN = re.compile(r"[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*")
_PARTS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+|[^\x00-\x7f]+")
_MARKS = re.compile(
    # Accents; points of Hebrew and Arabic, which most leave out; signs of vowels in the scripts of India, at which a
    # word would be taken apart.
    "[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670"
    + "".join(
        f"{chr(at)}-{chr(at + 3)}{chr(at + 0x3A)}-{chr(at + 0x3C)}{chr(at + 0x3E)}-{chr(at + 0x4D)}"
        for at in range(0x900, 0xD80, 0x80)
    )
    + "\u0d81-\u0d83\u0dca-\u0ddf]"
)
_PARTICLES = re.compile(
    "请问|请|帮我|帮忙|帮|给我|我想要|我想|我要|我需要|需要|想要|能不能|能否|可以|可否|怎么样|怎样|怎么|如何|什么|哪些|哪个|哪里|"
    "哪|多少|是否|有没有|一下|一个|这个|那个|我的|你的|的|了|吗|呢|吧|啊|呀|把|我|你|您|和|与|或|是|在|"
    "ください|について|したい|です|ます|から|まで|する|して|を|は|が|に|の|で|と|へ|も"
)


_PARTS_OF_A_RUN = 16
"""Parts of what hyphens hold together that are looked at for words of two parts."""

KEPT = 30_000
"""Words whose stems are kept at hand; when there are more, all are forgotten."""
_stems: dict[str, tuple[str, ...]] = {}


def folded(text: str) -> str:
    """Bring letters of all widths and with all accents to their plain form; lone surrogates go."""
    if text.isascii():
        return text
    text = text.encode("utf-8", "ignore").decode("utf-8", "ignore")
    return unicodedata.normalize("NFKC", _MARKS.sub("", unicodedata.normalize("NFKD", text)))


def squeezed(name: str) -> str:
    """Give a name as it is compared: in lower case, without what separates the words in it."""
    return "".join(_PIECE.findall(folded(name))).casefold()


def words(text: str) -> list[str]:
    """Give the words of a text as they are indexed."""
    found: list[str] = []
    known = _stems.get
    for piece in _runs(text):
        stems = known(piece)
        found += _learned(piece) if stems is None else stems
    return found


def endings(text: str) -> set[str]:
    """Give the last character of each run without spaces: no pair begins with it, and it may be asked for alone."""
    return set() if text.isascii() else {run[-1] for run in _runs(text) if _CJK.match(run)}


def alone(word: str) -> bool:
    """Tell whether a word is one character of a text without spaces, and so the beginning of pairs too."""
    return len(word) == 1 and _CJK.match(word) is not None


def joined(text: str) -> dict[str, tuple[str, ...]]:
    """Give the words that a text writes with a hyphen and others as one (`e-mail`), with the words of their parts."""
    if text.isascii() and "-" not in text:
        return {}
    return {
        whole: (*_word(first), *_word(second))
        for run in _runs(text)
        for first, second in _hyphened(run)
        for whole in _stem(f"{first}{second}".lower()[:LONGEST])
    }


def compound(text: str) -> list[str]:
    """Give the words of a text that are indexed beside the words they are made of (`getUser2`)."""
    whole = [_word(piece) for run in _runs(text) for piece in _HYPHEN.split(run) if not _plain(piece)]
    return [stems[0] for stems in whole if len(stems) > 1]


def _plain(piece: str) -> bool:
    """Tell whether a piece is one word whatever stands in it."""
    return (
        piece.isalpha() and (piece.islower() or piece.istitle() or piece.isupper())
    ) or not piece.isascii()


def _runs(text: str) -> list[str]:
    """Take a text apart at all but hyphens."""
    return _ASCII_RUN.findall(text) if text.isascii() else _RUN.findall(_PARTICLES.sub(" ", folded(text)))


def _hyphened(run: str) -> list[tuple[str, str]]:
    """Give the parts of a run that may be one word together: both of two, and of more those that are very short."""
    parts = _HYPHEN.split(run)
    if len(parts) == 2:
        return [(parts[0], parts[1])] if len(run) <= LONGEST and not "".join(parts).isdigit() else []
    return [
        (first, second)
        for first, second in pairwise(parts[:_PARTS_OF_A_RUN])
        if first.isalpha() and second.isalpha() and (len(first) == 1 or len(first) == len(second) == 2)
    ]


def _word(piece: str) -> tuple[str, ...]:
    stems = _stems.get(piece)
    return _learned(piece) if stems is None else stems


def _learned(piece: str) -> tuple[str, ...]:
    plain = piece.isascii()
    if not plain and _CJK.match(piece):
        return tuple(pairs(piece))
    lower = piece.lower()
    if "-" in piece or (not plain and "\u2010" in piece):
        stems: tuple[str, ...] = ()
        for part in _HYPHEN.split(piece):
            stems += _word(part)
        stems += tuple(joined(piece))
    elif piece == lower and piece.isalpha():
        lower = lower[:LONGEST]
        stems = _stem(lower)
    else:
        stems = _of_parts(piece[: 4 * LONGEST])
    if len(piece) <= LONGEST:
        if len(_stems) >= KEPT:
            _stems.clear()
        _stems[piece] = stems
    return stems


def _stem(word: str) -> tuple[str, ...]:
    if word in STOP:
        return ()
    return (stem(word) if word.isascii() else word,)


def _of_parts(piece: str) -> tuple[str, ...]:
    """Give the whole of it, and the words it is made of (`getUser2` has three): either may be asked for."""
    lower = piece.lower()
    parts = [part.lower() for part in _PARTS.findall(piece)]
    if len(parts) == 1:
        return _alone(lower)
    found = _stem(lower[:LONGEST])
    for part in parts:
        found += _alone(part)
    return found


def _alone(word: str) -> tuple[str, ...]:
    stems = _stems.get(word)
    if stems is None:
        if word.isalpha():
            return _learned(word)
        return (word[:LONGEST],)
    return stems


def pairs(run: str) -> list[str]:
    """Give the overlapping pairs of characters of a run without spaces; of a single one, itself."""
    return [run[at : at + 2] for at in range(len(run) - 1)] or [run]
