"""A settings file that cannot be used: what is wrong with it, and the file without that."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..clients.rewriting import difference, rewrite, secrets_in
from ..settings_file import SERVERS
from ..settings_model import options
from .finding import Check, Fix, MendError

_PLACE = re.compile(
    r"\(file (?P<file>.+?), (?:(?P<server>\[mcpServers\.[^\]]*\])|(?:\[(?P<group>[^\]]*)\] )?(?P<name>[^\s()]+))\)"
)
"""Where a setting stands, as a problem with it says."""
_MEANT = re.compile(r"is not a setting .* Did you mean (?P<key>[A-Za-z0-9_.]+)(?: or [A-Za-z0-9_.]+)?\?")
_STARTS = frozenset({"command", "url", "source"})
"""What a declared server is nothing without: it is commented out as a whole."""
_NEAR = 0.85
"""How much a name must be like a setting's to be taken for it (`difflib`)."""
_HEADER = re.compile(r"\s*\[(?P<name>[^\[\]]+)\]\s*(?:#.*)?")
_KEY = re.compile(
    r"(?P<blank>\s*)(?P<key>[A-Za-z0-9_-]+(?:\s*\.\s*[A-Za-z0-9_-]+)*)(?P<rest>\s*=.*)", re.DOTALL
)

_MARK = "# toolscore doctor: "


def look(problems: Iterable[str], file: Path) -> Iterator[Check]:
    """Give a finding for each problem; those that can be mended have one and the same fix.

    Args:
        problems: As `SettingsError` has them.
        file: The settings file.
    """
    problems = list(problems)
    fix = _fix(problems, file)
    for problem in problems:
        mine = fix if fix is not None and _place(problem, file) is not None else None
        yield Check("settings", "missing", problem, "", needed=True, broken=True, fix=mine)


def _fix(problems: list[str], file: Path) -> Fix | None:
    wrong: dict[tuple[str, ...], tuple[str, ...] | None] = {}
    for problem in problems:
        if (key := _place(problem, file)) is not None:
            wrong[key] = _meant(problem, key)
    wrong = {key: meant for key, meant in wrong.items() if not (len(key) > 2 and key[:2] in wrong)}
    if not wrong:
        return None
    try:
        old = file.read_text(encoding="utf-8")
        new = mended(old, wrong)
    except (OSError, ValueError):
        return None
    if new is None:
        return None
    hidden = secrets_in(tomllib.loads(old))
    shown = difference(file, old, new, hidden)
    renamed = sum(meant is not None for meant in wrong.values())
    words = [f"rename {renamed}"] * bool(renamed) + [f"comment out {len(wrong) - renamed}"] * (
        renamed < len(wrong)
    )
    what = f"{' and '.join(words)} of the settings in {file}, so that ToolScore can start"

    def do() -> str:
        try:
            if file.read_text(encoding="utf-8") != old:
                raise MendError(f"{file} was changed meanwhile. Run `toolscore doctor` again.")
            copy = rewrite(file, new)
        except OSError as error:
            raise MendError(f"{file} cannot be written: {error.strerror or error}.") from error
        return f"{file} can be used again; what it was is kept in {copy}"

    return Fix(what, do, safe=True, shown=shown)


def _place(problem: str, file: Path) -> tuple[str, ...] | None:
    """Give the key that a problem is about, if that stands in the file."""
    found = _PLACE.search(problem)
    if found is None or found["file"] != str(file):
        return None
    if found["server"]:
        return tuple(found["server"].strip("[]").split("."))
    key = (*found["group"].split("."), found["name"]) if found["group"] else (found["name"],)
    return key[:2] if len(key) == 3 and key[0] == SERVERS and key[2] in _STARTS else key


def _meant(problem: str, key: tuple[str, ...]) -> tuple[str, ...] | None:
    """Give the setting that an unknown one is surely meant to be: there is one that is near, in the same group."""
    found = _MEANT.search(problem)
    if found is None or found["key"] not in options():
        return None
    meant = tuple(found["key"].split("."))
    near = difflib.SequenceMatcher(None, meant[-1], key[-1]).ratio() >= _NEAR
    return meant if near and meant[:-1] == key[:-1] else None


def mended(text: str, wrong: Mapping[tuple[str, ...], tuple[str, ...] | None]) -> str | None:
    """Give a TOML text with some keys renamed or commented out, all else as it stands.

    Args:
        text: The text, which is valid.
        wrong: The keys, and what each is renamed to; `None` comments it out.

    Returns:
        The new text; `None` where it is of a form that is better changed by hand.
    """
    before = tomllib.loads(text)
    lines, table, found = text.splitlines(keepends=True), tuple[str, ...](), set[tuple[str, ...]]()
    at = 0
    while at < len(lines):
        line = lines[at]
        if (header := _HEADER.fullmatch(line.rstrip("\r\n"))) is not None:
            table = _table(header)
            if (key := table) in wrong and wrong[key] is None:
                # A table that is no group, or a server: it and all in it.
                end = next((i for i in range(at + 1, len(lines)) if _is_other(lines[i], key)), len(lines))
                lines[at:end] = [_commented(one) for one in lines[at:end]]
                found.add(key)
                at = end
                continue
        elif (entry := _KEY.fullmatch(line)) is not None:
            key = (*table, *(part.strip() for part in entry["key"].split(".")))
            if key in wrong:
                end = _end(lines, at)
                meant = wrong[key]
                if meant is None or _at(before, meant) is not None:
                    lines[at:end] = [_commented(one) for one in lines[at:end]]
                else:
                    name = ".".join(meant[len(table) :])
                    lines[at] = f"{entry['blank']}{name}{entry['rest']}"
                found.add(key)
                at = end
                continue
        at += 1
    new = "".join(lines)
    try:
        after = tomllib.loads(new)
    except tomllib.TOMLDecodeError:
        return None
    expected = _expected(before, wrong)
    for one in (after, expected):
        if one.get(SERVERS) == {}:
            del one[SERVERS]  # whose last server went
    if found != set(wrong) or after != expected:
        return None
    return new


def _is_other(line: str, key: tuple[str, ...]) -> bool:
    """Tell whether a line begins a table that is not within another."""
    if (header := _HEADER.fullmatch(line.rstrip("\r\n"))) is None:
        return line.lstrip().startswith("[")
    return _table(header)[: len(key)] != key


def _table(header: re.Match[str]) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in header["name"].split("."))


def _commented(line: str) -> str:
    return f"{_MARK}{line}" if line.strip() else line


def _end(lines: list[str], at: int) -> int:
    """Give where the value that begins in a line ends: the first place up to which it is valid by itself."""
    for end in range(at + 1, len(lines) + 1):
        try:
            tomllib.loads("".join(lines[at:end]))
        except tomllib.TOMLDecodeError:
            continue
        return end
    return at + 1


def _at(value: Any, key: tuple[str, ...]) -> Any:
    for part in key:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _expected(
    value: dict[str, Any], wrong: Mapping[tuple[str, ...], tuple[str, ...] | None]
) -> dict[str, Any]:
    """Give what the new text must hold: the old values, but for what was taken out or has another name."""

    def copied(one: Any) -> Any:
        return {key: copied(inner) for key, inner in one.items()} if isinstance(one, dict) else one

    new: dict[str, Any] = copied(value)
    for key, meant in wrong.items():
        holder = _at(new, key[:-1]) if key[:-1] else new
        taken = holder.pop(key[-1], None) if isinstance(holder, dict) else None
        if meant is not None and _at(value, meant) is None:
            holder[meant[-1]] = taken
    return new
