"""Names of tools: those that look like another one, and those of other servers' tools in a text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from .finding import Finding
from .plain import folded, skeleton
from .rules import IMPERATIVE
from .visible import visible

OWN = "toolscore"
"""Under which name ToolScore's own tools are among the servers."""

SHORTEST = 8
"""Letters of a name from which on one letter more or less makes a look-alike, not another word."""

MOST = 20_000
"""Names that are compared."""

_AROUND = 120
_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{5,64}")


class Names:
    """The names of the tools of other servers.

    Args:
        names: Names of tools by server, ToolScore's own among them.
        server: The server whose tools are looked through.
    """

    def __init__(self, names: Mapping[str, Sequence[str]], server: str) -> None:
        own = set(names.get(server, ()))
        self.others: dict[str, str] = {}
        for other, tools in names.items():
            if other != server:
                for tool in tools:
                    self.others.setdefault(tool, other)
        self._own = own
        others = list(self.others)[:MOST]
        self._looks = {skeleton(tool): tool for tool in others}
        self._by_length: dict[int, list[str]] = {}
        for tool in others:
            self._by_length.setdefault(len(folded(tool)), []).append(tool)

    def look_alikes(self, name: str) -> Iterator[Finding]:
        """Find the tool of another server that a name looks like without being the same."""
        same = folded(name)
        if name in self.others:
            if self.others[name] == OWN:
                yield _finding("medium", name, name, OWN)
            return
        twin = self._looks.get(skeleton(name))
        if twin is not None and folded(twin) != same:
            yield _finding("high", name, twin, self.others[twin])
            return
        if len(same) < SHORTEST:
            return
        for length in (len(same) - 1, len(same), len(same) + 1):
            for other in self._by_length.get(length, ()):
                if _near(same, folded(other)):
                    yield _finding("medium", name, other, self.others[other])
                    return

    def named(self, text: str) -> Iterator[tuple[int, int, str, bool]]:
        """Find the names of other servers' tools in a text.

        Yields:
            Where, which tool of which server, and whether something is demanded there.
        """
        seen: set[str] = set()
        for match in _IDENTIFIER.finditer(text):
            name = match.group()
            if name in self.others and name not in self._own and name not in seen and _is_name(name):
                seen.add(name)
                around = text[max(0, match.start() - _AROUND) : match.end() + _AROUND].lower()
                yield match.start(), match.end(), self.others[name], IMPERATIVE.search(around) is not None


def _is_name(name: str) -> bool:
    """Tell a name from a word that a sentence has anyway."""
    return "_" in name or "-" in name or (not name.islower() and not name.istitle() and not name.isupper())


def _near(one: str, other: str) -> bool:
    """Tell whether two names differ in one letter, or in two that changed places; not in a plural."""
    if one == other or one.rstrip("s") == other.rstrip("s"):
        return False
    if len(one) == len(other):
        differing = [at for at, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
        if len(differing) == 1:
            # Numbers tell tools apart on purpose: search_v1, search_v2.
            return not (one[differing[0]].isdigit() and other[differing[0]].isdigit())
        if len(differing) != 2 or differing[1] != differing[0] + 1:
            return False
        first, second = differing
        return one[first] == other[second] and one[second] == other[first]
    short, long = sorted((one, other), key=len)
    at = next((at for at, letter in enumerate(short) if letter != long[at]), len(short))
    return short[at:] == long[at + 1 :] and not long[at].isdigit()


def _finding(severity: str, name: str, twin: str, server: str) -> Finding:
    what = "has the name of" if name == twin else "looks like"
    return Finding(
        "lookalike",
        "high" if severity == "high" else "medium",
        "name",
        f"{visible(name)[:80]} ~ {visible(twin)[:80]}",
        f"{what} another tool ({'of ToolScore itself' if server == OWN else 'of server ' + server})",
    )
