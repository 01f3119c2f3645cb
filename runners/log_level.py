"""How important a line of a server's standard error is, read from the ways loggers commonly write that."""

from __future__ import annotations

import re

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
"""The levels of a log, the least important first."""

FRONT = 160
"""Characters at the beginning of a line in which its level is looked for."""

FRONT_OF_JSON = 2000
"""The same for a line that is a JSON object, whose level may stand behind its message."""

_NAMES = {
    "DEBUG": ("debug", "trace", "verbose", "silly", "dbg", "10", "20"),
    "INFO": ("info", "information", "notice", "log", "inf", "30"),
    "WARNING": ("warning", "warn", "wrn", "40"),
    "ERROR": (
        "error",
        "err",
        "critical",
        "crit",
        "fatal",
        "alert",
        "emerg",
        "emergency",
        "panic",
        "50",
        "60",
    ),
}
_LEVEL_OF = {name: level for level, names in _NAMES.items() for name in names}

_WORDS = "TRACE|VERBOSE|DEBUG|INFO|NOTICE|WARNING|WARN|ERROR|CRITICAL|FATAL|PANIC|EMERGENCY"
_ANY_CASE = "trace|verbose|debug|info|notice|warning|warn|error|err|critical|crit|fatal|panic|dbg|inf|wrn"

_JSON = re.compile(
    r'"(?:level|severity|levelname|log_?level|lvl)"\s*:\s*"?([A-Za-z]+|[1-6]0)\b', re.IGNORECASE
)
_CAPITALS = re.compile(rf"(?<![\w.'\"=/-])(?:{_WORDS}|ERR!?)(?![\w'\"=/.])")
"""Capitals stand for a level where they are a word of their own: `12:00 - app - ERROR - text`, `INFO: text`."""

_PARTS = ("INFO", "ERR", "WARN", "DEBUG", "CRIT", "FATAL", "NOTICE", "TRACE", "VERBOSE", "PANIC", "EMERG")
"""One of these is in each of them; looking for it first costs a tenth."""

# Small letters need brackets, an equals sign, or to be the very first and followed by a colon.
_BRACKETED = re.compile(rf"[\[(<]({_ANY_CASE})[\])>]", re.IGNORECASE)
_ASSIGNED = re.compile(rf"(?<![\w-])(?:level|lvl|severity)=\"?({_ANY_CASE})\b", re.IGNORECASE)
_FIRST = re.compile(rf"({_ANY_CASE}):|npm (warn|error) ", re.IGNORECASE)
_FAILURE = re.compile(
    r"Traceback \(most recent call last\)"
    r"|(?:During handling of the above|The above exception)"
    r"|(?:Uncaught |Unhandled )?[\w.]*(?:Error|Exception|Interrupt)(?: \[\w+\])?(?::|$)"
    r"|(?:panic|fatal error): |thread '.*' panicked|Segmentation fault|Uncaught |Unhandled |UnhandledPromise"
)
_WARNING = re.compile(r"\S+:\d+: \w*Warning: |\(node:\d+\) (?:\[\w+\] )?\w*Warning: ")
_CONTINUED = re.compile(r"\s|[)}\]]+[,;]?$|$")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def level_of(text: str) -> str | None:
    """Tell how important a line is.

    Returns:
        One of `LEVELS`; `None` where the line does not say, and continues the one before (an indented line, or an
        empty one). A line that says nothing and begins something new is `INFO`.
    """
    if text[:1] == "{" and (found := _JSON.search(text, 0, FRONT_OF_JSON)):
        return _LEVEL_OF.get(found[1].lower(), "INFO")
    front = text[:FRONT]
    if "\x1b" in front:
        front = _COLOUR.sub("", front)
    if _FAILURE.match(front):
        return "ERROR"
    if (shown := _shown(front)) is not None:
        return _LEVEL_OF[shown.lower().rstrip("!")]
    if _WARNING.match(front):
        return "WARNING"
    return None if _CONTINUED.match(front) else "INFO"


def _shown(front: str) -> str | None:
    if found := _FIRST.match(front):
        return found[1] or found[2]
    if any(part in front for part in _PARTS) and (found := _CAPITALS.search(front)):
        return found[0]
    if found := _BRACKETED.search(front):
        return found[1]
    if "=" in front and (found := _ASSIGNED.search(front)):
        return found[1]
    return None


def at_least(level: str, wanted: str | None) -> bool:
    """Tell whether a level is as important as the one that is wanted; `None` wants all."""
    return wanted is None or LEVELS.index(level) >= LEVELS.index(wanted)
