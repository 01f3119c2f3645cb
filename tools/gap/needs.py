"""Splitting a task in plain words into the needs it consists of, by rules alone; English and Chinese.

A need is what one tool, or a few of one kind, might do: `book a hotel in Rome`. Sentences, lists, and requests that
`and then`, a comma or `and` joins are taken apart; objects that share a verb are not. Greetings drop out, and so does
background, unless the request after it says `it` and means that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from . import words as w
from .wording import is_chinese

LONGEST = 8000
"""Characters of a task that are read."""

MOST = 12
"""Needs of one task."""

LONGEST_NEED = 400
"""Characters of one need."""

_PLENTY = 30
"""Words of one need after which it is doubtful that it is one."""

_MASKS = re.compile(
    r"```.*?(?:```|$)|`[^`\n]{1,200}`|\"[^\"\n]{1,300}\"|“[^”\n]{1,300}”|‘[^’\n]{1,300}’|「[^」\n]{1,300}」|《[^》\n]{1,100}》|"
    r"(?<![\w'])'[^'\n]{1,200}'(?!\w)|\([^()\n]{1,300}\)|（[^（）\n]{1,300}）|"
    r"\b[a-z][a-z0-9+.-]{1,20}://[^\s，。；）)]{1,500}(?<![.,;:!?])|\b[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64}){1,8}|"
    r"(?<![\w/])(?:~|\.{1,2})?/[\w.@%+,-]{1,200}(?:/[\w.@%+,-]{0,200}){0,30}(?<![.,;:])|"
    r"\b(?:e\.g|i\.e|a\.m|p\.m|U\.S(?:\.A)?|U\.K)\.|\b(?:etc|vs|Dr|Mr|Mrs|Ms|St|No|approx|Inc|Ltd|Co|Corp)\.(?=\s+\S)",
    re.DOTALL | re.ASCII,
)
"""What is one thing, whatever stands in it: quotations, code, links, addresses, paths, brackets, abbreviations."""

_FIRST_MASK = 0xE000
_MASK = re.compile(r"[\ue000-\uf8ff]")
_ITEM = re.compile(
    r"^\s*(?:[-*•·‣▪●–—]+\s+|\(?\d{1,2}[.)、:：]\s*|（\d{1,2}）|[①-⑳]\s*|[一二三四五六七八九十]{1,2}[、.．]\s*|"
    r"第[一二三四五六七八九十\d]{1,2}步?[，,、:：]?\s*|(?i:step)\s+\d{1,2}\s*[.):-]?\s*|#{1,6}\s+|\[[ xX]?\]\s*)+"
)
_INLINE = re.compile(r"(?<=[\s:：，,;；。.])(?:\(?[1-9]\d?[.)](?=\s*[^\W\d])|（[1-9]\d?）|[①-⑳])\s*")
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|(?<=[。！？；])\s*")
_RELATIVE = re.compile(
    r"(?i)\b(?:(?:that|which|who)\b|(?:script|function|program|code|app|tool|bot|macro|class|query|able)\s+to\b)[^,]*$"
)
_AFTER = re.compile(
    r"(?i)^(?:after|before|once|when|while)\s+(\w+ing)\b([^,]{3,200}),\s*(?:please\s+)?(.{3,})$", re.DOTALL
)
_GIVING = re.compile(
    r"(?i)(?:please\s+)?(?:give|return|show|display|present|output|tell)\s+(?:me\s+|us\s+|back\s+)?"
    r"(?:it|them|that|those|(?:the|its|their)\s+(?:results?|answers?|contents?|output))\b"
    r"(?=\s*(?:$|[.,;!?]|(?:as|in|back|here|formatted|to\s+(?:me|us))\b))"
)
"""What only says in which form to have what comes of the request before it."""
_ZH_COMMA = re.compile(r"\s*[，,]\s*")
_TOKEN = re.compile(r"[^\W_][\w'’-]*|[\ue000-\uf8ff]")


@dataclass(frozen=True, slots=True)
class Split:
    """A task taken apart.

    Attributes:
        needs: What it needs, in its order.
        sure: Whether the rules had no doubt; otherwise somebody who understands the task may know better.
        cut: Whether the task or its needs were more than is looked at.
    """

    needs: tuple[str, ...]
    sure: bool
    cut: bool


def clean(text: str, longest: int = LONGEST) -> str:
    """Give a text without what cannot be read: control characters, lone surrogates, private ones; bounded."""
    kept = "".join(
        one if one in "\n" or (one.isprintable() and not "\ue000" <= one <= "\uf8ff") else " "
        for one in text[:longest].replace("\r\n", "\n").replace("\u2028", "\n")
    )
    return re.sub(r"[^\S\n]+", " ", kept).strip()


def split(task: str, most: int = MOST) -> Split:
    """Split a task into its needs.

    Args:
        task: In plain words.
        most: How many needs at the most.

    Returns:
        At least one need, unless there is no word in the task.
    """
    text = clean(task)
    if not any(one.isalnum() for one in text):
        return Split((), sure=True, cut=False)
    held: list[str] = []

    def hold(match: re.Match[str]) -> str:
        if len(held) >= 6000:
            return match[0]
        held.append(match[0])
        return chr(_FIRST_MASK + len(held) - 1)

    def restored(part: str) -> str:
        return _MASK.sub(lambda match: held[ord(match[0]) - _FIRST_MASK], part)

    found = _Gathering()
    for sentence in _sentences(_MASKS.sub(hold, text)):
        found.take(sentence)
    needs = list(dict.fromkeys(" ".join(restored(need).split())[:LONGEST_NEED] for need in found.all()))
    doubtful = not found.requests or any(len(_TOKEN.findall(need)) > _PLENTY for need in needs)
    if not found.requests or not needs:
        needs = [" ".join(text.split())[:LONGEST_NEED]]
        doubtful = len(_TOKEN.findall(text)) > 8
    return Split(
        tuple(needs[:most]),
        sure=not doubtful and len(needs) <= most,
        cut=len(needs) > most or len(task) > LONGEST,
    )


class _Gathering:
    """The needs found so far, and the background that waits for one."""

    def __init__(self) -> None:
        self.requests = 0
        self._needs: list[str] = []
        self._background = ""

    def take(self, sentence: str) -> None:
        """Take one sentence, or one item of a list."""
        if not _TOKEN.search(sentence) or w.GREETING.match(sentence):
            return
        if not _is_request(sentence):
            if self._needs and w.PURPOSE.search(sentence):
                self._needs[-1] += f" {sentence}"
            elif not self._needs:
                self._background = sentence
            return
        self.requests += 1
        for clause in _clauses(sentence):
            if self._needs and _only_shows(clause):
                continue
            about = self._background
            meant = about and w.ANAPHORA.search(clause) and len(_TOKEN.findall(about)) <= 25
            self._needs.append(f"{about} {clause}" if meant else clause)
            self._background = ""

    def all(self) -> list[str]:
        """Give the needs; of several, none that only says how to answer."""
        kept = [need for need in self._needs if not _only_shows(need)]
        return kept or self._needs


def _sentences(text: str) -> list[str]:
    """Take a text apart into sentences and items of lists; items that share the verb above them stay with it."""
    if len(_INLINE.findall(text)) >= 2:
        text = _INLINE.sub("\n- ", text)
    sentences: list[str] = []
    head, items = "", list[str]()

    def close() -> None:
        nonlocal head, items
        if items and head and not all(_starts(item, first=True) or _is_request(item) for item in items):
            sentences.append(f"{head.rstrip(' :：')} {', '.join(items)}")
        else:
            if head and not items:
                sentences.append(head)
            sentences.extend(items)
        head, items = "", []

    for line in text.split("\n"):
        if not line.strip():
            continue
        bare = _ITEM.sub("", line).strip()
        if bare != line.strip():
            parts = _SENTENCE.split(bare)
            items.append(bare if len(parts) == 1 else parts[0])
            items.extend(part for part in parts[1:] if _is_request(part))
            continue
        close()
        parts = [part for part in _SENTENCE.split(line.strip()) if part]
        if parts and parts[-1].endswith((":", "：")):
            head = parts.pop()
        sentences.extend(parts)
    close()
    return sentences


def _bare(text: str) -> str:
    """Take off what is polite or joins, and the full stop."""
    chinese = is_chinese(text)
    text = text.strip(" ,，;；、-–—")
    for _ in range(12):
        shorter = w.ZH_POLITE.sub("", text) if chinese else w.POLITE.sub("", text)
        if shorter == text or not _TOKEN.search(shorter):
            break
        text = shorter.lstrip(" ,，;；、")
    text = re.sub(r"(?i)(?:\s*,)?\s+(?:please|thanks|thank you|for me|for us)\s*[.!?]*$", "", text)
    return text.rstrip(" .!。！,，;；、")


def _words(text: str) -> list[str]:
    return _TOKEN.findall(text)


def _starts(text: str, *, first: bool, gerunds: bool = False) -> bool:
    """Tell whether a text begins with what somebody is to do.

    Args:
        text: The text.
        first: Whether it stands where a request is likely, so that less evidence will do.
        gerunds: Whether `finding` is as good as `find`.
    """
    bare = re.sub(r"(?i)^to\s+", "", _bare(text))
    if bare.startswith(tuple("“\"'`")):
        return False
    words = _words(bare)
    while len(words) > 1 and len(words[0]) > 4 and words[0].lower().endswith("ly"):
        words.pop(0)
    if len(words) < 2:
        return False
    verb, after = words[0].lower(), words[1]
    if gerunds and (stem := w.base(verb)) is not None:
        return stem in w.VERBS or after.lower() in w.AFTER_VERB
    if verb in w.VERBS:
        return after.lower() not in ("and", "or", "of", "is", "are", "was")
    if verb not in w.NOUNS_TOO:
        return after.lower() in w.DETERMINERS and _could_be_a_verb(words[0], first=first)
    plain = after.lower() in w.AFTER_VERB or after[0].isupper() or _MASK.match(after) is not None
    return plain or (first and after.lower() not in ("and", "or", "of", "is", "are", "was"))


def _could_be_a_verb(word: str, *, first: bool) -> bool:
    """Tell whether a word that is in no list could be a verb in its base form."""
    small = word.lower()
    if (
        small in w.NO_VERBS
        or small in w.AFTER_VERB
        or not (small.isascii() and small.isalpha())
        or len(small) < 3
    ):
        return False
    plain = not small.endswith(("ly", "ing", "ed", "'s")) and (
        not small.endswith("s") or small.endswith("ss")
    )
    return plain and (first or word == small)


def _is_request(sentence: str) -> bool:
    """Tell whether a sentence asks for something; otherwise it is background."""
    if is_chinese(sentence):
        if w.ZH_CONTEXT.match(sentence) and not w.ZH_QUESTION.search(sentence):
            return False
        return bool(w.ZH_REQUEST.search(sentence) or w.ZH_QUESTION.search(sentence))
    bare = _bare(sentence)
    if w.REQUEST.search(sentence) or sentence.rstrip().endswith(("?", "？")) or _starts(sentence, first=True):
        return True
    if _asks(bare):
        return True
    return any(_starts(part, first=False) for part in w.WEAK.split(bare)[1:])


def _asks(text: str) -> bool:
    """Tell whether a text begins with a question word."""
    return re.split(r"['’]", (_words(text) or [""])[0].lower())[0] in w.ASKING


def _has_object(text: str) -> bool:
    """Tell whether a request says more than verbs."""
    return any(
        word.lower() not in w.VERBS
        and word.lower() not in w.NOUNS_TOO
        and word.lower() not in ("and", "or", "to")
        for word in _words(_bare(text))
    )


def _only_shows(clause: str) -> bool:
    """Tell whether a clause only says how to answer."""
    return all(word.lower() in w.SHOWING for word in _words(clause))


def _clauses(sentence: str) -> list[str]:
    """Take a sentence apart into its requests; what is not one stays with the next, or the one before."""
    if is_chinese(sentence):
        return _zh_clauses(sentence)
    if (after := _AFTER.match(sentence)) is not None and (verb := w.base(after[1].lower())) is not None:
        first, second = [f"{verb}{after[2]}"], _clauses(after[3])
        return second + first if sentence[:6].lower() == "before" else first + second
    clauses: list[str] = []
    rest = _bare(sentence)
    start = 0
    for at in sorted(
        (*w.STRONG.finditer(rest), *w.WEAK.finditer(rest)), key=lambda match: (match.start(), -match.end())
    ):
        if at.start() <= start:
            continue
        left, right = rest[start : at.start()], rest[at.end() :]
        strong = w.STRONG.match(at[0]) is not None
        if _parted(left, right, strong=strong, first=not clauses):
            clauses.append(_bare(left))
            start = at.end()
    clauses.append(_bare(rest[start:]))
    return [clause for clause in clauses if _words(clause)]


def _parted(left: str, right: str, *, strong: bool, first: bool) -> bool:
    """Tell whether one request ends before a connector and another begins behind it."""
    if (
        len(_words(right)) < 2
        or not _has_object(left)
        or not _is_request(left)
        or _GIVING.match(_bare(right))
    ):
        return False
    if strong:
        return not re.match(r"(?i)(?:if|when|whenever|unless)\b", left.strip())
    if _RELATIVE.search(left):
        return False
    gerunds = any(w.base(word.lower()) is not None for word in _words(left))
    if _starts(right, first=False, gerunds=gerunds):
        return True
    if re.match(
        r"(?i)(?:please|(?:can|could|would|will) you|i (?:also )?(?:need|want)|help me)\b", right.strip()
    ):
        return True
    if not _asks(right) or len(_words(right)) < 3:
        return False
    bare = _bare(left)
    return w.QUESTION.match(bare) is not None or re.match(r"(?i)(?:tell|show|let)\b", bare) is not None


def _zh_clauses(sentence: str) -> list[str]:
    pieces = [piece for piece in w.ZH_JOINT.split(sentence) if piece and _TOKEN.search(piece)]
    finer: list[str] = []
    for piece in pieces:
        parts = _ZH_COMMA.split(piece)
        asking = [bool(w.ZH_QUESTION.search(part)) and len(part) >= 4 for part in parts]
        finer.extend(parts if len(parts) > 1 and all(asking) else [piece])
    clauses: list[str] = []
    lead = ""
    for piece in finer:
        whole = f"{lead}，{piece}" if lead else piece
        if not (w.ZH_REQUEST.search(whole) or w.ZH_QUESTION.search(whole)) or len(_bare(whole)) < 3:
            lead = whole
            continue
        lead = ""
        clauses.append(_bare(whole))
    if lead:
        clauses[-1:] = [f"{clauses[-1]}，{lead}" if clauses else lead]
    return clauses
