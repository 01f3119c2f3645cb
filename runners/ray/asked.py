"""What ToolScore asks an agent besides starting servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..errors import StartError
from ..launching import still_fetching
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
        case "usage":
            wanted = {children[number]: number for number in message["children"] if number in children}
            used = await host.sampler.look(wanted)
            return {"usage": {number: asdict(used[one]) for one, number in wanted.items() if one in used}}
        case "fetching":
            child = children.get(int(message["child"]))
            pid = None if child is None or child.process is None else child.process.pid
            return {"fetching": pid is not None and await asyncio.to_thread(still_fetching, pid)}
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
