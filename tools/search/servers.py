"""Which server would serve a need: by its tools, and by what its entry in a registry says."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from .index import Hit

TOOLS = 5
"""Tools that are named of one server."""

_TOOL, _ENTRY, _NEXT = 0.64, 0.27, 0.045
_UNSEEN = 0.8
"""What a description counts for where no tool is known: nearly as much as it would with a tool that fits as well."""


@dataclass(frozen=True, slots=True)
class ServerHit:
    """One server that was found.

    Attributes:
        server: Its name.
        score: 0 to 1.
        why: What it was found by.
        tools: Its tools that were found, the best first.
    """

    server: str
    score: float
    why: str
    tools: tuple[str, ...]


def rank_servers(
    tool_hits: Sequence[Hit],
    entry_hits: Sequence[Hit],
    limit: int = 10,
    *,
    with_tools: Container[str] | None = None,
) -> list[ServerHit]:
    """Order servers by their best tool and their own description together, and a little by their next two tools.

    Args:
        tool_hits: What the index of tools found.
        entry_hits: What the index of registry entries found; a document there is one server.
        limit: How many at most.
        with_tools: Servers of which tools are known; all where it is `None`. That none of the others' tools was
            found tells nothing: they go by their description.
    """
    tools: dict[str, list[Hit]] = {}
    for hit in tool_hits:
        tools.setdefault(hit.server, []).append(hit)
    entries = {hit.server: hit for hit in reversed(entry_hits)}
    found: list[ServerHit] = []
    for server in dict.fromkeys((*tools, *entries)):
        own = tools.get(server, [])
        entry = entries.get(server)
        if own or with_tools is None or server in with_tools:
            score = _TOOL * (own[0].score if own else 0.0) + _ENTRY * (entry.score if entry else 0.0)
            score += _NEXT * sum(hit.score for hit in own[1:3])
        else:
            score = _UNSEEN * (entry.score if entry else 0.0)
        why = own[0].why if own else entry.why if entry else ""
        found.append(ServerHit(server, score, why, tuple(hit.key for hit in own[:TOOLS])))
    found.sort(key=lambda one: (-one.score, one.server))
    return found[:limit]
