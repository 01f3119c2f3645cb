"""Clients of a ToolScore, in two kinds that need no floor of the package.

`ToolScore` is for runtimes of agents: it connects over WebSocket, stays connected, and calls tools in parallel.
`websocket` is a transport for the MCP SDK's own client. Nothing is imported before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import ClosedError as ClosedError
    from .errors import JSONRPCError as JSONRPCError
    from .errors import LineLostError as LineLostError
    from .errors import TimedOutError as TimedOutError
    from .errors import WebSocketError as WebSocketError
    from .events import Event as Event
    from .lease import Instance as Instance
    from .library import Gaps as Gaps
    from .library import Need as Need
    from .library import Offer as Offer
    from .library import Server as Server
    from .library import Tool as Tool
    from .python import Execution as Execution
    from .python import PythonSession as PythonSession
    from .result import CallError as CallError
    from .result import Outcome as Outcome
    from .result import Result as Result
    from .runtime import ToolScore as ToolScore
    from .tasks import Task as Task
    from .transport import websocket as websocket

_PLACES = {
    "CallError": "result",
    "ClosedError": "errors",
    "Event": "events",
    "Execution": "python",
    "Gaps": "library",
    "Instance": "lease",
    "JSONRPCError": "errors",
    "LineLostError": "errors",
    "Need": "library",
    "Offer": "library",
    "Outcome": "result",
    "PythonSession": "python",
    "Result": "result",
    "Server": "library",
    "Task": "tasks",
    "TimedOutError": "errors",
    "Tool": "library",
    "ToolScore": "runtime",
    "WebSocketError": "errors",
    "websocket": "transport",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f".{_PLACES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
