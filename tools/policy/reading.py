"""Reads a policy file. All that is wrong with it is told at once, each with its line; then nothing of it holds."""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from .errors import PolicyError, Problem
from .lines import Place, places
from .policy import Policy
from .rule import ACTIONS, ANSWERS, FIGURES, HINTS, LISTENERS, Action, Answer, Limit, Rule, Selector

LARGEST = 1 << 20
"""Bytes of a policy file."""

_SELECTING = ("who", "listener", "servers", "tools", "hints", "sources")
_RULE = (
    "who",
    "listener",
    "what",
    "servers",
    "tools",
    "hints",
    "sources",
    "answer",
    "remember",
    "grant",
    "why",
)
_LIMIT = ("who", "listener", "servers", "tools", "hints", *FIGURES)
_GRANTABLE = frozenset({"install", "manage", "approve"})
_AT = re.compile(r"\(at line (\d+)")


def read(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        FileNotFoundError: If there is none.
        PolicyError: If it cannot be used, with everything that is wrong with it.
    """
    try:
        with open(path, "rb", opener=_not_waiting) as file:
            if (wrong := _shared(path, os.fstat(file.fileno()))) is not None:
                raise PolicyError(path, [Problem(0, wrong)])
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        text = (
            f"it cannot be read: {error.strerror or error}. Make it readable for the user ToolScore runs as."
        )
        raise PolicyError(path, [Problem(0, text)]) from error
    if len(content) > LARGEST:
        raise PolicyError(path, [Problem(0, f"it has more than {LARGEST >> 20} MiB. Make it shorter.")])
    return parse(path, content)


def parse(path: Path, content: bytes) -> Policy:
    """Read what is in a policy file.

    Raises:
        PolicyError: As in `read`.
    """
    import tomllib

    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
        found = tomllib.loads(text)
    except UnicodeDecodeError as error:
        problem = Problem(0, f"it is not UTF-8 (byte {error.start}). Save it as UTF-8.")
        raise PolicyError(path, [problem]) from error
    except tomllib.TOMLDecodeError as error:
        at = _AT.search(str(error))
        line = int(at[1]) if at else content.count(b"\n") + 1
        said = str(error).partition(" (at ")[0]
        problem = Problem(line, f"it is not valid TOML: {said}. `toolscore policy template` shows the form.")
        raise PolicyError(path, [problem]) from error
    except RecursionError as error:
        raise PolicyError(path, [Problem(0, "it is nested too deeply.")]) from error
    reader = _Reader(places(text))
    policy = reader.policy(found, path)
    if reader.problems:
        raise PolicyError(path, sorted(reader.problems, key=lambda one: one.line))
    return policy


class _Reader:
    """One reading.

    Args:
        lines: Where tables and keys are.
    """

    def __init__(self, lines: Mapping[Place, int]) -> None:
        self._lines = lines
        self._here = ("", 0)
        self.problems: list[Problem] = []

    def policy(self, found: Mapping[str, Any], path: Path) -> Policy:
        rules: list[Rule] = []
        limits: list[Limit] = []
        for key, value in found.items():
            self._here = ("", 0)
            if key not in ("rule", "limit"):
                self._unknown(key, ("rule", "limit"), "A policy has tables [[rule]] and [[limit]]")
            elif not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
                line = self._lines.get((key, 0, "")) or self._lines.get(("", 0, key), 0)
                text = f"{key} must be tables, each begun with [[{key}]] in two pairs of brackets."
                self.problems.append(Problem(line, text))
            else:
                for number, one in enumerate(value):
                    self._here = (key, number)
                    if key == "rule":
                        rules.append(self._rule(one, number + 1))
                    else:
                        limits.append(self._limit(one, number + 1))
        return Policy(tuple(rules), tuple(limits), path)

    def _rule(self, found: Mapping[str, Any], number: int) -> Rule:
        self._known(found, _RULE)
        selector = self._selector(found)
        answer = self._one_of("answer", found.get("answer"), ANSWERS)
        if "answer" not in found:
            self._problem("", f'rule {number} has no answer. Add answer = "allow", "deny" or "ask".')
        written = cast(tuple[Action, ...], self._each_of("what", found, ACTIONS))
        possible = _possible(selector)
        if selector.sources and (selector.servers or selector.tools or selector.hints):
            self._problem(
                "sources",
                "sources is about what is installed, and goes with neither servers, tools nor hints.",
            )
        for action in written:
            if action not in possible:
                self._problem("what", _astray(action, selector))
        actions = set(written or possible)
        # Who may call may see; who may not see may not call.
        if answer != "deny" and "call" in actions:
            actions.add("see")
        if answer == "deny" and "see" in actions:
            actions.add("call")
        remember = found.get("remember")
        if remember is not None and (remember != "session" or answer != "ask"):
            self._problem("remember", 'remember must be "session", and goes with answer = "ask".')
        grant = found.get("grant", False)
        if not isinstance(grant, bool):
            self._problem("grant", "grant must be true or false.")
        elif grant:
            self._check_grant(selector, written, answer)
        why = found.get("why", "")
        if not isinstance(why, str) or len(why) > 500:
            self._problem("why", "why must be a text of 500 characters at the most.")
            why = ""
        return Rule(
            number,
            self._line(""),
            selector,
            frozenset(actions),
            cast(Answer, answer or "deny"),
            written,
            grant is True,
            remember is not None,
            " ".join(why.split()),
        )

    def _check_grant(self, selector: Selector, written: tuple[Action, ...], answer: str) -> None:
        if answer != "allow" or not written or not set(written) <= _GRANTABLE:
            self._problem(
                "grant",
                'grant goes with answer = "allow" and a what of install, manage and approve alone: it gives those '
                "rights to who has them not. The right to call comes with a token.",
            )
        if not selector.who or all(set(glob) <= {"*", "?"} for glob in selector.who):
            self._problem("grant", 'grant must say to whom: add who = "NAME", the name of a token.')

    def _limit(self, found: Mapping[str, Any], number: int) -> Limit:
        self._known(found, _LIMIT)
        figures: dict[str, Any] = {}
        for name in FIGURES:
            if name not in found:
                continue
            value = found[name]
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not (whole or (name == "seconds" and isinstance(value, float))) or not 0 < value < 1e15:
                kind = "a number of seconds" if name == "seconds" else "a whole number"
                self._problem(name, f"{name} must be {kind} above 0.")
                continue
            figures[name] = value
        if not any(name in found for name in FIGURES):
            self._problem("", f"limit {number} limits nothing. Add one or more of {', '.join(FIGURES)}.")
        return Limit(number, self._line(""), self._selector(found), **figures)

    def _selector(self, found: Mapping[str, Any]) -> Selector:
        listeners = self._each_of("listener", found, tuple(LISTENERS))
        return Selector(
            self._texts("who", found),
            tuple(LISTENERS[one] for one in listeners),
            self._texts("servers", found),
            self._texts("tools", found),
            self._each_of("hints", found, HINTS),
            self._texts("sources", found),
        )

    def _texts(self, key: str, found: Mapping[str, Any]) -> tuple[str, ...]:
        if key not in found:
            return ()
        value = found[key]
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not values or not all(isinstance(one, str) for one in values):
            self._problem(
                key, f'{key} must be a text, or a list of one or more, such as {key} = ["a", "b-*"].'
            )
            return ()
        for one in values:
            if not one or one != one.strip() or len(one) > 256:
                self._problem(
                    key, f"{key}: {one!r:.80} must have 1 to 256 characters, and no blanks around them."
                )
            elif key == "servers" and "__" in one:
                self._problem(key, f'servers: "{one}" looks like a tool. Write tools = "{one}".')
            elif key == "tools" and "__" not in one and "*" not in one:
                self._problem(
                    key, f'tools: "{one}" must be a full name, server__tool, or a pattern such as {one}__*.'
                )
        return tuple(values)

    def _each_of(self, key: str, found: Mapping[str, Any], known: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(
            one for text in self._texts(key, found) if (one := self._one_of(key, text, known, each=True))
        )

    def _one_of(self, key: str, value: Any, known: tuple[str, ...], *, each: bool = False) -> str:
        if value is None:
            return ""
        if value in known if isinstance(value, str) else False:
            return str(value)
        near = difflib.get_close_matches(str(value), known, n=1)
        hint = f' Did you mean "{near[0]}"?' if near else ""
        must = f"{key}: {value!r:.80} is none of" if each else f"{key} must be one of"
        self._problem(key, f"{must} {', '.join(known)}.{hint}")
        return ""

    def _known(self, found: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for key in found:
            if key not in known:
                self._unknown(key, known, f"A [[{self._here[0]}]] has {', '.join(known)}")

    def _unknown(self, key: str, known: tuple[str, ...], there_is: str) -> None:
        swapped = [one for one in known if sorted(one) == sorted(key)]
        near = swapped or difflib.get_close_matches(key, known, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"{there_is}."
        line = (
            self._lines.get((self._here[0], self._here[1], key))
            or self._lines.get((key, 0, ""))
            or self._line("")
        )
        self.problems.append(Problem(line, f"there is no key {key!r:.80}. {hint}"))

    def _problem(self, key: str, text: str) -> None:
        self.problems.append(Problem(self._line(key), text))

    def _line(self, key: str) -> int:
        table, number = self._here
        for place in ((table, number, key), (table, number, ""), ("", 0, table)):
            if place in self._lines:
                return self._lines[place]
        return 0


def _possible(selector: Selector) -> tuple[Action, ...]:
    """Give what a rule can be about that selects so."""
    if selector.sources:
        return ("install",)
    if selector.tools or selector.hints:
        return ("see", "call", "approve")
    if selector.servers:
        return ("see", "call", "manage", "approve")
    return ACTIONS


def _astray(action: Action, selector: Selector) -> str:
    if action == "install":
        return 'install is about what is fetched and run: select that with sources, such as "pypi:*".'
    if action == "manage":
        return "manage is about whole servers: select them with servers."
    return f"{action} is about servers and tools that are there: sources does not go with it."


def _shared(path: Path, status: os.stat_result) -> str | None:
    """Tell why a file is not to be trusted; `None` if it is."""
    if not stat.S_ISREG(status.st_mode):
        return "it is not a file. Move it away, and write a policy file in its place."
    if os.name != "posix":
        return None
    if status.st_uid not in (os.geteuid(), 0):
        return f"it belongs to another user (uid {status.st_uid}), who could change it. Copy it, and use the copy."
    if stat.S_IMODE(status.st_mode) & 0o022:
        return f"others can write to it, and so could change who may do what. Run `chmod go-w {path}`."
    return None


def _not_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe in its place must not hold us up
