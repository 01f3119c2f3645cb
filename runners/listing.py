"""What a server offers: its lists of tools, resources, resource templates and prompts, fetched whole."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .codec import FrameError, encode
from .errors import ChildFaultError, StartError

if TYPE_CHECKING:
    from .session import ChildSession

logger = logging.getLogger(__name__)

MAX_PAGES = 1000
"""Pages of one list; a server whose cursors go round in a circle must not be followed for ever."""

MOST = 25_000
"""Things of one list: whatever is done with one is done with each, and all clients wait for it."""

LARGEST = 64 * 1024 * 1024
"""Bytes of all pages of one list, which is kept in memory."""

PATIENCE = 8.0
"""Seconds for each list but that of the tools, which is not to keep those from being used."""

METHOD_NOT_FOUND = -32601

_SAID = 5
"""Tools that are left out of which it is said why."""

_LONGEST_NAME = 80

Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Offers:
    """What a server offers besides its tools, each object as the server listed it.

    Attributes:
        capabilities: Its server capabilities (MCP `ServerCapabilities`).
        resources: Its resources (`Resource`).
        templates: Its resource templates (`ResourceTemplate`).
        prompts: Its prompts (`Prompt`).
    """

    capabilities: dict[str, Any] = field(default_factory=dict)
    resources: list[Item] = field(default_factory=list)
    templates: list[Item] = field(default_factory=list)
    prompts: list[Item] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Give it as the store keeps it."""
        return {
            "capabilities": self.capabilities,
            "resources": self.resources,
            "resourceTemplates": self.templates,
            "prompts": self.prompts,
        }

    @classmethod
    def from_json(cls, value: Any) -> Offers:
        """Read what `as_json` gave; whatever else it is, nothing is offered."""
        if not isinstance(value, dict):
            return cls()
        capabilities = value.get("capabilities")
        return cls(
            capabilities if isinstance(capabilities, dict) else {},
            *(_items(value.get(key)) for key in ("resources", "resourceTemplates", "prompts")),
        )


async def list_all(session: ChildSession, method: str, key: str) -> list[Item]:
    """Fetch every page of a list.

    Args:
        session: The session with the server.
        method: The list's method, such as `tools/list`.
        key: The result's member that holds the items, such as `tools`.

    Raises:
        StartError: If the list does not end, or is longer than can be kept.
    """
    items: list[Item] = []
    size = 0
    cursor: Any = None
    seen: list[Any] = []
    for _ in range(MAX_PAGES):
        result = await session.request(method, {"cursor": cursor} if cursor else {})
        page = _items(session.clean(result).get(key))
        items.extend(page)
        # What one message may be, one page may be: only of further ones the size is looked at.
        cursor = result.get("nextCursor")
        size += _size([cursor] if len(items) == len(page) else [cursor, page])
        if len(items) > MOST or size > LARGEST:
            raise StartError(
                f"{method} is too long: no more than {MOST} {key} and {LARGEST >> 20} MiB of a server are kept."
            )
        if not cursor:
            return items
        if cursor in seen:
            raise StartError(
                f"{method} does not end: after {len(seen)} pages the server's cursors go in a circle."
            )
        seen.append(cursor)
    raise StartError(f"{method} did not end after {MAX_PAGES} pages.")


async def list_tools(session: ChildSession) -> list[Item]:
    """Fetch the server's tools; none, if it does not offer any."""
    if "tools" not in session.capabilities:
        return []
    listed = await list_all(session, "tools/list", "tools")
    named = _named(listed, "name")
    session.unusable = _unusable(listed) if len(named) < len(listed) else []
    return named


async def list_offers(session: ChildSession) -> Offers:
    """Fetch what else the server offers. A list that cannot be had is empty: its tools work all the same."""
    offered = session.capabilities
    # At once: a server that hangs in all of them costs the patience for one.
    resources, templates, prompts = await asyncio.gather(
        _list_if_any(session, "resources" in offered, "resources/list", "resources", "uri"),
        _list_if_any(
            session, "resources" in offered, "resources/templates/list", "resourceTemplates", "uriTemplate"
        ),
        _list_if_any(session, "prompts" in offered, "prompts/list", "prompts", "name"),
    )
    return Offers(offered, resources, templates, prompts)


async def _list_if_any(session: ChildSession, offered: bool, method: str, key: str, name: str) -> list[Item]:
    if not offered:
        return []
    try:
        async with asyncio.timeout(PATIENCE):
            return _named(await list_all(session, method, key), name)
    except TimeoutError:
        logger.warning("server %s: %s is not waited for longer than %g s", session.name, method, PATIENCE)
        return []
    except (ChildFaultError, StartError) as exc:
        if not isinstance(exc, ChildFaultError) or exc.code != METHOD_NOT_FOUND:
            logger.warning("server %s: %s failed: %s", session.name, method, exc)
        return []


def _size(value: Any) -> int:
    try:
        return len(encode(value))
    except FrameError:
        return len(repr(value))


def _items(value: Any) -> list[Item]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _named(items: list[Item], key: str) -> list[Item]:
    """Leave out what could not be asked for."""
    named = [item for item in items if isinstance(item.get(key), str)]
    return named if _has_form(named) else [item for item in named if _has_form(item)]


def _unusable(tools: list[Item]) -> list[str]:
    """Say of tools that are left out why they are."""
    nameless = sum(not isinstance(tool.get("name"), str) for tool in tools)
    said = [f"{nameless} of its tools have no name and are left out"] if nameless else []
    for tool in tools:
        if isinstance(name := tool.get("name"), str) and (why := _why_not(tool)):
            if len(said) == _SAID:
                return [*said, "and more are left out like that"]
            said.append(f"its tool {name[:_LONGEST_NAME]!r} is left out, since its definition is {why}")
    return said


def _why_not(value: Any) -> str | None:
    try:
        encode(value)
    except FrameError as exc:
        return str(exc)
    return None


def _has_form(value: Any) -> bool:
    """Tell whether it can be written again: one that cannot would spoil the lists of all servers (1e999)."""
    return _why_not(value) is None
