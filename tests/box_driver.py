"""A pool of boxes in a process of its own, which runs jobs as lines of JSON ask for it; see `boxes`.

Its own process, because it runs as another user, without user namespaces, or without Landlock; and from a copied
tree, since an ordinary user cannot read root's checkout. Only the standard library and what the sandbox itself needs.
"""

from __future__ import annotations

import asyncio
import base64
import ctypes
import errno
import gc
import json
import os
import sys
from collections import defaultdict
from contextlib import suppress
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from toolscore.sandbox.errors import BoxError, SandboxRefusedError
from toolscore.sandbox.execution import Execution, InputFile, Job
from toolscore.sandbox.isolation import Tier
from toolscore.sandbox.limits import Limits
from toolscore.sandbox.pool import Kept, Pool, PoolConfig


class FakeTools:
    """Tools for code in a box.

    One answers what it was given, one answers much, one never does but opens the gate it is told, and one answers
    when its gate is open.
    """

    def __init__(self, gates: dict[str, asyncio.Event]) -> None:
        self._gates = gates

    async def servers(self) -> list[dict[str, Any]]:
        return [{"name": "echo"}]

    async def tools(self, server: str) -> list[dict[str, Any]]:
        return [{"name": f"{server}__say", "inputSchema": {"type": "object"}}]

    async def call(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if name == "slow__wait":
            self._gates[arguments["opens"]].set()
            await asyncio.Event().wait()
        if name == "gate__pass":
            await self._gates[arguments["gate"]].wait()
        text = f"{name} {arguments}"
        if name == "echo__large":
            text = arguments["letter"] * arguments["size"]
        return {"content": [{"type": "text", "text": text}]}


class Driver:
    """The process."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sessions: dict[str, Kept] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._gates: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def serve(self) -> None:
        """Do what the lines say until there are no more."""
        reader = asyncio.StreamReader(limit=1 << 28)
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        while line := await reader.readline():
            order = json.loads(line)
            if order["do"] == "cancel":
                if task := self._tasks.get(order["of"]):
                    task.cancel()
                continue
            task = asyncio.create_task(self._do(order))
            self._tasks[order["id"]] = task
            task.add_done_callback(partial(self._forget, order["id"]))
        for task in list(self._tasks.values()):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    def _forget(self, number: int, _: asyncio.Task[None]) -> None:
        self._tasks.pop(number, None)

    async def _do(self, order: dict[str, Any]) -> None:
        answer: dict[str, Any]
        try:
            answer = await getattr(self, f"_{order['do']}")(order)
        except asyncio.CancelledError:
            answer = {"raised": "CancelledError", "text": ""}
        except (BoxError, SandboxRefusedError) as error:
            answer = {"raised": type(error).__name__, "text": str(error)}
        except Exception as error:  # the test sees it as a failure of the code under test
            answer = {"raised": f"unexpected {type(error).__name__}", "text": str(error)}
        _say({"id": order["id"], "done": answer})

    async def _run(self, order: dict[str, Any]) -> dict[str, Any]:
        files = tuple(InputFile(path, base64.b64decode(data)) for path, data in order["files"])
        stdin = base64.b64decode(order["stdin"])
        job = Job(order["code"], Limits(**order["limits"]), stdin, files, order["tools"], order["keep"])
        tools = FakeTools(self._gates) if order["tools"] else None

        def heard(name: str, data: bytes) -> None:
            if order["stream"]:
                _say({"id": order["id"], "output": [name, len(data)]})

        if order["session"]:
            execution = await self._sessions[order["session"]].run(job, on_output=heard, tools=tools)
        else:
            execution = await self._pool.run(job, on_output=heard, tools=tools)
        return _told(execution)

    async def _open(self, order: dict[str, Any]) -> dict[str, Any]:
        self._sessions[order["session"]] = await self._pool.open()
        return {}

    async def _close(self, order: dict[str, Any]) -> dict[str, Any]:
        await self._sessions.pop(order["session"]).close()
        return {}

    async def _let(self, order: dict[str, Any]) -> dict[str, Any]:
        self._gates[order["gate"]].set()
        return {}

    async def _kept(self, order: dict[str, Any]) -> dict[str, Any]:
        gc.collect()
        with suppress(AttributeError):  # glibc's own; what it holds in reserve is not what we keep
            ctypes.CDLL(None).malloc_trim(0)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return {"bytes": pages * os.sysconf("SC_PAGE_SIZE")}

    async def _look(self, order: dict[str, Any]) -> dict[str, Any]:
        found = await self._pool.isolation()
        layers = {layer.name: [layer.active, layer.detail] for layer in found.layers}
        return {"tier": str(found.tier), "layers": layers, "stats": self._pool.stats()}


def _told(execution: Execution) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for field in fields(execution):
        value = getattr(execution, field.name)
        if isinstance(value, bytes):
            value = base64.b64encode(value).decode()
        told[field.name] = value
    told["truncated"] = sorted(execution.truncated)
    told["isolation"] = str(execution.isolation.tier)
    told["usage"] = [execution.usage.wall, execution.usage.cpu, execution.usage.peak_memory]
    error = execution.error
    told["error"] = [error.type, error.message, error.traceback] if error else None
    told["images"] = len(execution.images)
    told["files"] = [
        [file.path, file.size, None if file.data is None else base64.b64encode(file.data).decode()]
        for file in execution.files
    ]
    return told


def _say(message: dict[str, Any]) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(1, data) :]


def without_namespaces() -> None:
    """Enter a user namespace in which no other can be made; the limit counts from here down, see namespaces(7)."""
    from toolscore.sandbox import linux

    uid, gid = os.getuid(), os.getgid()
    linux.unshare(linux.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    Path("/proc/sys/user/max_user_namespaces").write_text("0")


def without_landlock() -> None:
    """Have the kernel answer as one that has no Landlock."""
    from seccompy import Action, Filter, _syscall

    rules = Filter(Action.ALLOW)
    for name in ("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"):
        rules.errno(name, errno.ENOSYS)
    _syscall.set_no_new_privs()
    _syscall.set_mode_filter(rules.program, 0)


async def main(order: dict[str, Any]) -> None:
    """Serve with a pool."""
    config = PoolConfig(
        Path(order["state"]),
        Limits(**order["limits"]),
        warm=1,
        most=6,
        minimum=Tier(order["minimum"]),
        skip=frozenset(order["skip"]),
    )
    if order["platform"]:
        sys.platform = order["platform"]
    async with Pool(config) as pool:
        await Driver(pool).serve()


if __name__ == "__main__":
    wanted = json.loads(sys.argv[1])
    if wanted["without"]:
        for lost in wanted["without"]:
            {"namespaces": without_namespaces, "landlock": without_landlock}[lost]()
        wanted["without"] = []
        # A program started anew has none of the rights that its namespace's maker had, unless it is root's.
        os.execv(sys.executable, [sys.executable, "-P", sys.argv[0], json.dumps(wanted)])
    asyncio.run(main(wanted))
