"""Names a model sees: `server__tool`, short and plain enough for every client, never two tools' at once."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Container, Iterable
from itertools import count

LONGEST = 64
"""Longest name the common model interfaces take; their alphabet is `[A-Za-z0-9_-]`."""

LONGEST_SERVER = 32
"""Longest name of a server, which leaves a tool 30 characters at the least."""

OWN_SERVER = "toolscore"
"""The server ToolScore's own tools belong to."""

OWN_PREFIX = f"{OWN_SERVER}__"
"""How their full names begin."""

_BETWEEN = "__"
_FOREIGN = re.compile(r"[^A-Za-z0-9_-]")
_HASH_LENGTH = 8


def exposed_name(server: str, tool: str) -> str:
    """Give the name under which a tool is shown, from its own two names alone.

    It is `server__tool` wherever that is short and plain enough and can be taken apart in one way only.
    Otherwise foreign characters become `_`, the end is cut, and `_` and eight hex digits of a hash over the
    true names follow: equal names of two tools are then a matter of chance (1 in 2^32), and `assign` sees to
    that chance.
    """
    plain = f"{server}{_BETWEEN}{tool}"
    # With no `__` in the server's part and no `_` at its end, the first `__` is the border.
    clear = _BETWEEN not in server and not server.endswith("_")
    if clear and len(plain) <= LONGEST and not _FOREIGN.search(plain):
        return plain
    return _hashed(server, tool, 0)


def assign(server: str, tools: Iterable[str], taken: Container[str]) -> dict[str, str]:
    """Give each tool of a server a name that no other tool has.

    A tool gets `exposed_name` unless that is contested: by another tool of this server, in which case every
    contestant gets a hashed name, or by a name taken before. The result does not depend on the order of
    `tools`. Nor does it on the order servers were installed in, since the names of well-formed servers
    (`valid_server_name`) all begin differently and so cannot meet; only for others does the first come first.

    Args:
        server: The server's name.
        tools: The tools' names as the server knows them.
        taken: Exposed names of other servers' tools.

    Returns:
        The exposed name of each tool, in the order given.
    """
    listed = list(dict.fromkeys(tools))
    wanted = {tool: exposed_name(server, tool) for tool in listed}
    contests = Counter(wanted.values())
    names = {tool: name for tool, name in wanted.items() if contests[name] == 1 and name not in taken}
    used = set(names.values())
    for tool in sorted(set(listed) - set(names)):
        # A server that picks its tools' names with malice can meet any one hash, but not every hash.
        names[tool] = next(
            name
            for turn in count()
            if (name := _hashed(server, tool, turn)) not in used and name not in taken
        )
        used.add(names[tool])
    return {tool: names[tool] for tool in listed}


def valid_server_name(name: str) -> str | None:
    """Check a name for a new server.

    Returns:
        `None` if it is fine, otherwise the reason and the rule, as a sentence.
    """
    if not name:
        return "A server needs a name."
    if len(name) > LONGEST_SERVER:
        return f"A server's name has at most {LONGEST_SERVER} characters, and this has {len(name)}."
    if _FOREIGN.search(name):
        return "A server's name consists of the letters A-Z and a-z, digits, `-` and `_`."
    if not name[0].isalnum():
        return "A server's name starts with a letter or a digit."
    if _BETWEEN in name or name.endswith("_"):
        return (
            "A server's name has no `__` and no `_` at its end, because `__` comes between server and tool."
        )
    if name.lower() == OWN_SERVER:
        return f"The name {OWN_SERVER} is that of ToolScore's own tools; give the server another."
    return None


def fitting_server_name(name: str) -> str | None:
    """Give the name for a new server that is nearest to a text: itself where it is one; `None` if nothing is left."""
    if valid_server_name(name) is None:
        return name
    plain = (
        re.sub(r"_{2,}", "_", re.sub(r"[^A-Za-z0-9_-]+", "-", name)).strip("-_")[:LONGEST_SERVER].rstrip("-_")
    )
    return plain if plain and not valid_server_name(plain) else None


def _hashed(server: str, tool: str, turn: int) -> str:
    true_names = "\0".join((server, tool) if turn == 0 else (server, tool, str(turn)))
    # A lone surrogate, which JSON can carry, has no UTF-8 of its own.
    digest = hashlib.sha256(true_names.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_LENGTH]
    stem = _FOREIGN.sub("_", f"{server}{_BETWEEN}{tool}")[: LONGEST - _HASH_LENGTH - 1]
    return f"{stem}_{digest}"
