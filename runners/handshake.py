"""Agreeing with a server on a protocol version: the handshake of old, or discovery in the modern era."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import ChildFaultError, StartError

if TYPE_CHECKING:
    from .session import ChildSession

HANDSHAKE_VERSION = "2025-11-25"
"""The handshake-era version ToolScore offers."""

HANDSHAKE_VERSIONS = frozenset({"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"})
"""The handshake-era versions it accepts as an answer."""

MODERN_VERSION = "2026-07-28"
"""The modern version, spoken with servers that refuse the handshake."""

_LONGEST = 2_000
"""Characters of each text by which a server calls itself: name, title, version, description."""

UNSUPPORTED_VERSION = -32022
METHOD_NOT_FOUND = -32601


async def agree(session: ChildSession, *, modern_first: bool = False) -> None:
    """Agree on a protocol version and learn what the server offers.

    Args:
        session: The session, which is open.
        modern_first: Skip the handshake of old, for a server that is known to refuse it.

    Raises:
        StartError: If the server answers, but not as an MCP server.
        ChildGoneError: If it ends meanwhile.
    """
    if modern_first:
        try:
            await _discover(session)
            return
        except ChildFaultError:
            session.version = None  # it was replaced by one that does not speak it
    try:
        await _initialize(session)
        return
    except ChildFaultError as exc:
        if modern_first or exc.code not in (UNSUPPORTED_VERSION, METHOD_NOT_FOUND):
            raise StartError(f"the server refused the handshake: {exc.message} (code {exc.code})") from exc
    try:
        await _discover(session)
    except ChildFaultError as exc:
        session.version = None
        raise StartError(
            f"the server refused both protocol eras: {exc.message} (code {exc.code}). It may need a newer "
            "ToolScore, or is no MCP server."
        ) from exc


async def _discover(session: ChildSession) -> None:
    session.use_version(MODERN_VERSION)
    result = session.clean(await session.request("server/discover", {}))
    versions = result.get("supportedVersions")
    if not isinstance(versions, list) or MODERN_VERSION not in versions:
        raise StartError(f"the server speaks only {versions}, which this ToolScore does not.")
    _learn(session, result, _object(result, "_meta").get("io.modelcontextprotocol/serverInfo"))


async def _initialize(session: ChildSession) -> None:
    declared = session.patron.capabilities if session.patron is not None else {}
    result = await session.request(
        "initialize",
        {
            "protocolVersion": HANDSHAKE_VERSION,
            "capabilities": declared,
            "clientInfo": session.client_info,
        },
    )
    result = session.clean(result)
    version = result.get("protocolVersion")
    if version not in HANDSHAKE_VERSIONS:
        raise StartError(
            f"the server answered the handshake with protocol version {version!r}, unknown here."
        )
    session.use_version(version)
    _learn(session, result, result.get("serverInfo"))
    session.notify("notifications/initialized", None)


def _learn(session: ChildSession, result: dict[str, Any], server_info: Any) -> None:
    known = server_info if isinstance(server_info, dict) else {}
    # These are shown in lists of all servers, which one of them must not fill.
    session.server_info = {
        key: value[:_LONGEST] if isinstance(value, str) else value for key, value in known.items()
    }
    session.capabilities = _object(result, "capabilities")
    instructions = result.get("instructions")
    session.instructions = instructions if isinstance(instructions, str) else None


def _object(value: dict[str, Any], key: str) -> dict[str, Any]:
    member = value.get(key)
    return member if isinstance(member, dict) else {}
