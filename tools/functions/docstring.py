"""What a docstring says, in Google's, NumPy's or Sphinx's style: of the whole, and of each parameter."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field

LONGEST = 4_000
"""Characters of a description."""

_SECTION = re.compile(
    r"(Args|Arguments|Parameters|Returns|Return|Yields|Raises|Attributes|Keyword Args|Other Parameters|Note|Notes|"
    r"Example|Examples|See Also|References|Todo|Warning|Warnings|Warns)"
)
_GOOGLE = re.compile(rf"{_SECTION.pattern}:\s*")
_RULE = re.compile(r"-{3,}\s*")
_PARAMETERS = ("Args", "Arguments", "Parameters", "Attributes", "Keyword Args", "Other Parameters")
_ENTRY = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")
_NUMPY_ENTRY = re.compile(r"(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?")
_FIELD = re.compile(r"[:@](\w+)(?:[ \t]+([^:\n]{1,200}))?:(?:\s+(.*))?")
_SPHINX_PARAMETERS = ("param", "parameter", "arg", "argument", "key", "keyword", "var", "ivar", "cvar")
_SPHINX_OTHERS = (
    *("type", "return", "returns", "rtype", "raise", "raises", "except", "exception"),
    *("vartype", "yield", "yields", "meta"),
)


@dataclass(frozen=True)
class Docstring:
    """A docstring in parts.

    Attributes:
        summary: What it says of the whole.
        parameters: What it says of each parameter.
        returns: What it says of the result.
    """

    summary: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    returns: str = ""


def read(text: str | None) -> Docstring:
    """Read a docstring; one in another style is all summary."""
    if not text:
        return Docstring()
    lines, parameters, returns = _without_fields(inspect.cleandoc(text[: 16 * LONGEST]).splitlines())
    sections, ruled = _sections(lines)
    for name in _PARAMETERS:
        found = sections.get(name, [])
        parameters |= _numpy_entries(found) if name in ruled else _entries(found)
    name = "Returns" if "Returns" in sections else "Return"
    told = sections.get(name, [])
    if name in ruled:  # the type stands alone, and what it is below it
        told = [line for line in told if line[:1].isspace()] or told
    returns = " ".join(" ".join(told).split()) or returns
    return Docstring(_cut("\n".join(sections[""]).strip()), parameters, _cut(returns))


def _sections(lines: list[str]) -> tuple[dict[str, list[str]], set[str]]:
    """Take sections apart; also tell which of them have a rule under their heading, as NumPy's have."""
    sections: dict[str, list[str]] = {"": []}
    ruled: set[str] = set()
    at = ""
    for number, line in enumerate(lines):
        if found := _GOOGLE.fullmatch(line):
            at = found[1]
            sections.setdefault(at, [])
        elif _SECTION.fullmatch(line.rstrip()) and _RULE.fullmatch("".join(lines[number + 1 : number + 2])):
            at = line.rstrip()
            sections.setdefault(at, [])
            ruled.add(at)
        elif at in ruled and _RULE.fullmatch(line):
            continue
        elif line and not line[0].isspace() and at and at not in ruled:
            at = ""
            sections[at] += ["", line]  # a paragraph after a section
        else:
            sections[at].append(line)
    return sections, ruled


def _without_fields(lines: list[str]) -> tuple[list[str], dict[str, str], str]:
    """Take out fields of Sphinx, `:param name: what it is`; give the rest, and what they say."""
    rest: list[str] = []
    parameters: dict[str, list[str]] = {}
    returns: list[str] = []
    words: list[str] | None = None
    for line in lines:
        found = _FIELD.fullmatch(line)
        kind = found[1] if found else ""
        if found and kind in _SPHINX_PARAMETERS and found[2]:
            words = parameters.setdefault(found[2].split()[-1].lstrip("*"), [])
            words.append(found[3] or "")
        elif found and kind in _SPHINX_OTHERS:
            words = returns if kind in ("return", "returns") else []
            words.append(found[3] or "")
        elif words is not None and line[:1].isspace() and line.strip():
            words.append(line.strip())
        else:
            words = None
            rest.append(line)
    told = {name: _cut(" ".join(said).strip()) for name, said in parameters.items()}
    return rest, told, " ".join(returns).strip()


def _numpy_entries(lines: list[str]) -> dict[str, str]:
    """Read `name : type`, or several names, with what it is indented below."""
    entries: dict[str, list[str]] = {}
    words: list[list[str]] = []
    for line in lines:
        if line[:1].isspace():
            for each in words:
                each.append(line.strip())
        elif found := _NUMPY_ENTRY.fullmatch(line.strip()):
            words = [entries.setdefault(name.strip().lstrip("*"), []) for name in found[1].split(",")]
    return {name: _cut(" ".join(said).strip()) for name, said in entries.items() if any(said)}


def _entries(lines: list[str]) -> dict[str, str]:
    """Read `name (type): what it is`, with lines that go on indented further."""
    filled = [line for line in lines if line.strip()]
    if not filled:
        return {}
    margin = len(filled[0]) - len(filled[0].lstrip())
    entries: dict[str, list[str]] = {}
    words: list[str] = []
    for line in filled:
        indent = len(line) - len(line.lstrip())
        if indent <= margin and (found := _ENTRY.fullmatch(line.strip())):
            words = entries.setdefault(found[1], [])
            words.append(found[2])
        else:
            words.append(line.strip())
    return {name: _cut(" ".join(words).strip()) for name, words in entries.items()}


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
