"""A server that another gateway runs, as it is spoken to from here: a line to that gateway, for this server alone."""

from __future__ import annotations

from typing import Any

from .base import Unheard
from .remote import RemoteChild, WebSocketChannel

STOPPED = 4001
"""Close code of a line whose server was stopped, so that nobody is to start it again unasked (RFC 6455, 7.4.2)."""

MOVED = 4002
"""The same of one whose server is, or is going to be, another gateway's. All that was heard is answered before."""

ENDED = 4003
"""The same of one whose server ended by itself; the reason says how."""


class GatewayLine(WebSocketChannel):
    """The line.

    Args:
        connection: A connection of the websockets library to that gateway.
        gateway: The gateway's name.
    """

    def __init__(self, connection: Any, gateway: str) -> None:
        super().__init__("ws://gateway", {})
        self._connection = connection
        self._gateway = gateway

    @property
    def gateway(self) -> str:
        """The gateway's name."""
        return self._gateway

    @property
    def code(self) -> int | None:
        """The code it was closed with, once it is."""
        code: int | None = self._connection.close_code
        return code

    @property
    def unheard(self) -> Unheard:
        """All, where the gateway answered whatever it had heard before it closed the line."""
        return "all" if self.code == MOVED else None

    def epitaph(self) -> str:
        """Say why the line is closed."""
        reason: str = self._connection.close_reason or ""
        match self.code:
            case 4001:
                return f"gateway '{self.gateway}' stopped the server"
            case 4002:
                return f"gateway '{self.gateway}' does not run the server any more"
            case 4003 if reason:
                return f"gateway '{self.gateway}' says: {reason}"
        why = reason or self._why
        return f"the line to gateway '{self.gateway}' is closed" + (f": {why}" if why else "")


class ElsewhereChild(RemoteChild):
    """The server.

    Args:
        line: The line.
    """

    def __init__(self, line: GatewayLine) -> None:
        super().__init__(line)
        self._gateway_line = line

    @property
    def code(self) -> int | None:
        """The code its line was closed with, once it is."""
        return self._gateway_line.code

    @property
    def stopped_there(self) -> bool:
        """Whether it was stopped there on purpose."""
        return self._gateway_line.code == STOPPED
