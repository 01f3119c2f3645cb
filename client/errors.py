"""What goes wrong between a client and a ToolScore."""

from __future__ import annotations


class WebSocketError(ConnectionError):
    """No connection, or none any more. The text says what to check, and holds no token.

    Attributes:
        status: HTTP status of a server that refused, or 0.
        code: WebSocket close code (RFC 6455, 7.4) of a connection that ended, or 0. 1006: no closing frame.
        reason: What the other side said about it.
    """

    def __init__(self, text: str, status: int = 0, code: int = 0, reason: str = "") -> None:
        super().__init__(text)
        self.status, self.code, self.reason = status, code, reason


class JSONRPCError(Exception):
    """A request that was answered with a JSON-RPC error (JSON-RPC 2.0, 5.1): a fault of the protocol.

    A refusal of a tool call is none; that is a `Result` with an outcome.

    Attributes:
        code: Its code.
        data: What else the server said.
    """

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(f"{message} ({code})")
        self.code, self.message, self.data = code, message, data


class LineLostError(ConnectionError):
    """The line ended before the answer came.

    Attributes:
        unheard: Whether it is known that the request was not heard, so that nothing came of it.
    """

    def __init__(self, text: str, *, unheard: bool = False) -> None:
        super().__init__(text)
        self.unheard = unheard


class ClosedError(ConnectionError):
    """The client itself was closed."""


class TimedOutError(TimeoutError):
    """No answer within the time that was given; what was asked was cancelled.

    Attributes:
        unheard: Whether nothing was sent, as there was no line, or no room on it.
    """

    def __init__(self, text: str, *, unheard: bool = False) -> None:
        super().__init__(text)
        self.unheard = unheard
