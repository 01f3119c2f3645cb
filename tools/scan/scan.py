"""Looks through the definition of a tool for what poisoning looks like.

Nothing is fetched and no model is asked. What is found is a hint for a person: a text that is meant to mislead can
always be written so that no rule finds it, and an honest one can look like one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .encoded import encoded
from .finding import ORDER, Finding, Severity
from .hidden import hidden
from .names import Names
from .plain import pieces
from .rules import RULES, Rule
from .visible import excerpt
from .walk import Path, TooLargeError, texts, written

MOST = 50
"""Findings of one definition that are kept, the worst ones."""

LONG, VERY_LONG = 6_000, 30_000
"""Characters of a description that are much, and far too much."""

_CHANGES = re.compile(
    r"^(?:delete|remove|drop|wipe|erase|destroy|purge|truncate|write|create|update|insert|send|post|pay|transfer|"
    r"execute|run|install|kill|move|rename|upload|overwrite|format|set|add|edit)(?:$|[_\-A-Z])"
)
_DESTROYS = re.compile(r"^(?:delete|remove|drop|wipe|erase|destroy|purge|truncate|format)(?:$|[_\-A-Z])")


def scan(
    definition: Mapping[str, Any], server: str, names: Mapping[str, Sequence[str]] | Names
) -> tuple[Finding, ...]:
    """Look through a definition.

    Args:
        definition: The tool as its server lists it.
        server: The server.
        names: Names of tools by server, with ToolScore's own as `toolscore`; for many definitions, made once.

    Returns:
        What was found, the worst first. It takes time in proportion to the size of the definition.
    """
    known = names if isinstance(names, Names) else Names(names, server)
    found = list(_found(definition, known))
    name = definition.get("name")
    if isinstance(name, str):
        found += known.look_alikes(name)
        found += _annotations(name, definition.get("annotations"))
    description = definition.get("description")
    if isinstance(description, str) and len(description) > LONG:
        severity: Severity = "medium" if len(description) > VERY_LONG else "low"
        said = f"a description of {len(description)} characters"
        found.append(Finding("long", severity, "description", "", said))
    return settled(found)


def scan_text(text: str, place: str, known: Names) -> Iterator[Finding]:
    """Look through one text.

    Args:
        text: The text.
        place: Where it stands.
        known: Names of other servers' tools.
    """
    for kind, severity, start, end, said in hidden(text, name=False):
        yield Finding(kind, severity, place, excerpt(text, start, end), said)
    yield from _words(text, place)
    yield from _named(text, place, known)
    yield from _encoded(text, place)


def settled(found: list[Finding]) -> tuple[Finding, ...]:
    """Give each finding once, the worst first, without weaker ones of the same kind at the same place."""
    worst: dict[tuple[str, str], int] = {}
    for one in found:
        key = one.kind, one.place
        worst[key] = min(worst.get(key, 9), ORDER[one.severity])
    kept = [one for one in dict.fromkeys(found) if ORDER[one.severity] <= worst[one.kind, one.place]]
    kept.sort(key=lambda one: ORDER[one.severity])
    return tuple(kept[:MOST])


def _found(definition: Mapping[str, Any], known: Names) -> Iterator[Finding]:
    try:
        for text, path, is_name in texts(definition):
            if len(text) < 3:
                continue
            if is_name or path == (None, "name"):
                yield from _name(text, path, known)
            else:
                yield from scan_text(text, written(path), known) if _worth(text) else ()
    except TooLargeError:
        yield Finding("long", "high", "", "", "more text than is looked through")


def _worth(text: str) -> bool:
    """Tell whether a text can hold a sentence, or anything unseen."""
    return len(text) >= 12 or not text.isascii() or not text.isprintable()


def _name(text: str, path: Path, known: Names) -> Iterator[Finding]:
    if text.isascii() and text.isprintable() and len(text) < 12:
        return
    place = written(path)
    for kind, severity, start, end, said in hidden(text, name=True):
        yield Finding(kind, severity, place, excerpt(text, start, end), said)
    # Names of members can say something too, with other signs between their words.
    yield from _words(text, place)
    if "_" in text or "-" in text:
        yield from _words(text.replace("_", " ").replace("-", " "), place)


def _words(text: str, place: str, *, decoded: str = "") -> Iterator[Finding]:
    found: set[Rule] = set()
    for said in pieces(text):
        for rule in RULES:
            if rule in found or not any(trigger in said for trigger in rule.triggers):
                continue
            if match := rule.pattern.search(said):
                found.add(rule)
                yield Finding(
                    rule.kind, rule.severity, place, excerpt(said, *match.span()), rule.said + decoded
                )


def _named(text: str, place: str, known: Names) -> Iterator[Finding]:
    for start, end, server, demanded in known.named(text):
        severity: Severity = "high" if demanded else "medium"
        what = "ToolScore itself" if server == "toolscore" else f"server {server}"
        said = f"demands something about a tool of {what}" if demanded else f"names a tool of {what}"
        yield Finding("shadowing", severity, place, excerpt(text, start, end, around=60), said)


def _encoded(text: str, place: str) -> Iterator[Finding]:
    for _start, _end, how, said in encoded(text):
        inner = list(_words(said, place, decoded=f", written in {how}"))
        severity: Severity = "high" if any(one.severity == "high" for one in inner) else "medium"
        yield Finding("encoded", severity, place, excerpt(said, 0, 120), f"a text written in {how}")
        yield from inner


def _annotations(name: str, annotations: Any) -> Iterator[Finding]:
    if not isinstance(annotations, dict):
        return
    if annotations.get("readOnlyHint") is True and _CHANGES.search(name):
        said = "is called read-only, and has the name of something that changes things"
        yield Finding("annotation", "low", "annotations.readOnlyHint", excerpt(name, 0, 80), said)
    elif annotations.get("destructiveHint") is False and _DESTROYS.search(name):
        said = "is called not destructive, and has the name of something that destroys"
        yield Finding("annotation", "low", "annotations.destructiveHint", excerpt(name, 0, 80), said)
