"""One client, as the one to whom things are said: what it can do, what it wants to hear, how it is asked."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from ..runners.errors import FaultError
from ..runners.patron import ProgressSink
from ..tools.caller import Caller
from ..tools.exposure import Exposure

if TYPE_CHECKING:
    from .balanced.remembered import Remembered
    from .exchange import Exchange
    from .tape.recorder import SessionTape

LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""Levels of log messages (RFC 5424), the least important first."""

METHOD_NOT_FOUND = -32601

Message = dict[str, Any]


class Peer(ABC):
    """A connected client.

    Args:
        caller: Who it is.

    Attributes:
        capabilities: The client capabilities it declared in the handshake.
        modern: Whether it speaks the 2026-07-28 era, in which a client is not sent requests.
        ready: Whether it said that it is initialized, so that it may be told things.
        log_level: The least important log messages it wants; `None` where it did not say.
        exposure: Which tools it is shown; `None` where that is what all are shown.
        roots: What servers are told of as roots where it has none itself (MCP `Root`); `None` where it did not say.
        lends: Names of the environment variables that can be asked of its relay.
        name: What it calls itself, for people only.
        version: Its version, as it says.
        protocol: Version of MCP that is spoken with it, once that is settled.
        relay: Version of its relay, where it has one.
        tape: What is recorded of it; `None` where nothing is.
        remembered: What other gateways can go on with; `None` where none could.
    """

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.capabilities: dict[str, Any] = {}
        self.modern = False
        self.ready = False
        self.log_level: str | None = None
        self.exposure: Exposure | None = None
        self.roots: list[dict[str, str]] | None = None
        self.lends: frozenset[str] = frozenset()
        self.name = ""
        self.version = ""
        self.protocol = ""
        self.relay = ""
        self.tape: SessionTape | None = None
        self.remembered: Remembered | None = None
        self._since = time.time()

    def introduced(self, info: Any) -> None:
        """Learn what it calls itself (MCP `clientInfo`)."""
        if isinstance(info, dict) and isinstance(info.get("name"), str):
            self.name = info["name"][:100]
            version = info.get("version")
            self.version = version[:100] if isinstance(version, str) else ""

    def speaks(self, protocol: Any) -> None:
        """Learn which version of MCP is spoken with it."""
        if isinstance(protocol, str):
            self.protocol = protocol[:20]

    def described(self) -> dict[str, Any]:
        """Tell of it what the owner of the home wants to know."""
        return {
            "connection": self.caller.connection,
            "listener": self.caller.listener,
            "principal": self.caller.principal,
            "name": self.name,
            "relay": self.relay or None,
            "cwd": self.caller.cwd,
            "seconds": round(time.time() - self._since),
        }

    def is_on(self, _connection: object) -> bool:
        """Tell whether this is the client of a connection."""
        return False

    @abstractmethod
    def notify(self, method: str, params: dict[str, Any] | None, *, droppable: bool = False) -> None:
        """Send a notification.

        Args:
            method: Its method.
            params: Its parameters.
            droppable: Whether it may be left out while the client does not read.
        """

    @abstractmethod
    async def ask(
        self, exchange: Exchange, method: str, params: dict[str, Any], on_progress: ProgressSink | None
    ) -> dict[str, Any]:
        """Send a request in the course of serving one of the client's own, and wait for its result.

        Raises:
            FaultError: If the client answers with an error, or is gone.
        """

    def notify_within(self, exchange: Exchange, method: str, params: dict[str, Any]) -> None:
        """Send a notification that belongs to one request of the client, for transports that keep those apart."""
        self.notify(method, params, droppable=True)


def offers(capabilities: dict[str, Any], method: str, params: dict[str, Any]) -> bool:
    """Tell whether a client with these capabilities takes a request of a server."""
    match method:
        case "sampling/createMessage":
            sampling = capabilities.get("sampling")
            if not isinstance(sampling, dict):
                return False
            return "tools" in sampling or not {"tools", "toolChoice"} & params.keys()
        case "elicitation/create":
            elicitation = capabilities.get("elicitation")
            if not isinstance(elicitation, dict):
                return False
            # Before there were modes, an empty object meant forms.
            mode = params.get("mode", "form")
            return mode in elicitation or (mode == "form" and "url" not in elicitation)
        case "roots/list":
            return isinstance(capabilities.get("roots"), dict)
        case _:
            return False


def not_offered(method: str) -> FaultError:
    """Say to a server that the client cannot be asked for this."""
    return FaultError(METHOD_NOT_FOUND, f"the client in whose name this call runs does not offer {method}")


def wanted(level: Any, least: str | None) -> bool:
    """Tell whether a log message of a level is wanted by who asked for `least` and above."""
    if least is None or level not in LEVELS or least not in LEVELS:
        return True
    return LEVELS.index(level) >= LEVELS.index(least)
