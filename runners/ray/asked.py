"""What ToolScore asks an agent besides starting servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import StartError
from ..process import measure

if TYPE_CHECKING:
    from .host import Host
    from .hosted import Hosted

Say = Callable[[dict[str, Any]], None]


async def asked(
    host: Host, children: Mapping[int, Hosted], message: Mapping[str, Any], say: Say
) -> dict[str, Any]:
    """Do what is asked.

    Args:
        host: The node's agent.
        children: What runs on the line it came over.
        message: The request: `what`, and what belongs to it.
        say: Tells ToolScore something meanwhile.

    Returns:
        The answer.

    Raises:
        RunnerError: If it cannot be done.
    """
    match message["what"]:
        case "measure":
            child = children.get(int(message["child"]))
            if child is None or child.process is None:
                return {}
            memory, cpu = await asyncio.to_thread(measure, child.process.pid)
            return {"memory": memory, "cpu": cpu}
        case "install":
            from .installing import build

            number = message["id"]

            def report(done: float, total: float | None, text: str) -> None:
                say({"op": "progress", "id": number, "done": done, "total": total, "text": text})

            return await build(host, message, report)
        case "forget":
            from .installing import forget

            await forget(host, str(message["server"]))
            return {}
        case other:
            raise StartError(f"the agent does not know how to {other}")
