"""How the health of a plain service is told: by its port, by HTTP, or by a command inside."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from collections.abc import Mapping
from typing import Any, Protocol

from ..service import Service
from .attachment import Frames
from .engine import Engine, EngineError

LONGEST_SAID = 300
"""Characters that are told of what a command wrote."""

PROXY = 0.5
"""Seconds in which the engine's proxy closes a connection behind which nobody listens."""

_NANO = 1e9


class ProbeFailedError(Exception):
    """A probe failed; the text is a clause that says how."""


class Probe(Protocol):
    """Tells whether a service works."""

    def __str__(self) -> str:
        """Name it, such as `tcp 5432`."""
        ...

    async def look(self) -> None:
        """Look once.

        Raises:
            ProbeFailedError: If it does not work.
            MachineAwayError: If that cannot be told, as the engine is away.
        """
        ...


class Where(Protocol):
    """Knows where a container's ports are reached from here."""

    async def reached(self, port: int) -> tuple[str, int]:
        """Give machine and port.

        Raises:
            ProbeFailedError: If it cannot be reached.
        """
        ...


class TcpProbe:
    """Somebody listens.

    Args:
        where: Where the service is reached.
        port: Its port inside.
    """

    def __init__(self, where: Where, port: int) -> None:
        self._where = where
        self._port = port

    def __str__(self) -> str:
        return f"tcp {self._port}"

    async def look(self) -> None:
        """Connect. The engine's own proxy takes connections without anybody behind it, and closes them at once."""
        host, port = await self._where.reached(self._port)
        try:
            reader, writer = await asyncio.open_connection(host, port)
        except OSError as error:
            raise ProbeFailedError(_told(error)) from None
        try:
            try:
                async with asyncio.timeout(PROXY):
                    said = await reader.read(1)
            except TimeoutError:
                return  # it waits for us to speak
            if not said:
                raise ProbeFailedError("nobody listens")
        except OSError as error:
            raise ProbeFailedError(_told(error)) from None
        finally:
            writer.transport.abort()


class HttpProbe:
    """It answers a GET with a status below 400.

    Args:
        where: Where the service is reached.
        port: Its port inside.
        path: The path.
    """

    def __init__(self, where: Where, port: int, path: str) -> None:
        self._where = where
        self._port = port
        self._path = path

    def __str__(self) -> str:
        return f"http :{self._port}{self._path}"

    async def look(self) -> None:
        """Ask."""
        host, port = await self._where.reached(self._port)
        writer: asyncio.StreamWriter | None = None
        try:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(
                f"GET {self._path} HTTP/1.1\r\nHost: localhost:{self._port}\r\nUser-Agent: toolscore\r\n"
                "Accept: */*\r\nConnection: close\r\n\r\n".encode()
            )
            line = (await reader.readline()).decode("latin-1").split(None, 2)
        except (OSError, ValueError) as error:
            raise ProbeFailedError(_told(error)) from None
        finally:
            if writer is not None:
                writer.transport.abort()
        if len(line) < 2 or not line[0].startswith("HTTP/") or not line[1].isdigit():
            raise ProbeFailedError("it gave no answer" if not line else "its answer is no HTTP")
        if int(line[1]) >= 400:
            raise ProbeFailedError(f"it answered with status {' '.join(line[1:]).strip()}")


class CommandProbe:
    """A program inside ends with status 0. One that does not end is waited for, so that never two are under way.

    Args:
        engine: The engine.
        container: The container's id.
        command: The program and its arguments.
    """

    def __init__(self, engine: Engine, container: str, command: tuple[str, ...]) -> None:
        self._engine = engine
        self._container = container
        self._command = command
        self._begun: str | None = None

    def __str__(self) -> str:
        return f"command {self._command[0]}"

    async def look(self) -> None:
        """Run it."""
        if self._begun is not None and (await self._told(self._begun))["Running"]:
            raise ProbeFailedError("the one before has not ended yet")
        try:
            self._begun = None
            made = await self._engine.ask(
                "POST",
                f"/containers/{self._container}/exec",
                body={"Cmd": list(self._command), "AttachStdout": True, "AttachStderr": True},
            )
            self._begun = made["Id"]
            said = await self._run(made["Id"])
            told = await self._told(made["Id"])
        except EngineError as error:
            raise ProbeFailedError(error.message) from None
        if told["ExitCode"] != 0:
            last = said.strip().splitlines()[-1:]
            more = f": {last[0][:LONGEST_SAID]}" if last else ""
            raise ProbeFailedError(f"it ended with status {told['ExitCode']}{more}")

    async def _run(self, begun: str) -> str:
        kept: list[bytes] = []
        frames = Frames(lambda _stream, data: kept.append(data) if len(kept) < 100 else None)
        async with self._engine.stream(
            "POST", f"/exec/{begun}/start", body={"Detach": False, "Tty": False}, patience=math.inf
        ) as response:
            import aiohttp

            with contextlib.suppress(aiohttp.ClientError, OSError):
                async for data in response.content.iter_any():
                    frames.feed(data)
        return b"".join(kept)[-64 * 1024 :].decode("utf-8", "replace")

    async def _told(self, begun: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = await self._engine.ask("GET", f"/exec/{begun}/json")
        except EngineError as error:
            if error.status == 404:
                return {"Running": False, "ExitCode": None}  # the engine was started anew meanwhile
            raise
        return found


def declared(service: Service, image: Mapping[str, Any]) -> Service:
    """Give the probe of a service: its own, or else what its image declares as its HEALTHCHECK."""
    if service.command is not None or service.port is not None:
        return service
    check = (image.get("Config") or {}).get("Healthcheck") or {}
    test = [str(word) for word in check.get("Test") or ()]
    match test:
        case ["CMD", *words] if words:
            command = tuple(words)
        case ["CMD-SHELL", text]:
            shell = (image.get("Config") or {}).get("Shell") or ["/bin/sh", "-c"]
            command = (*map(str, shell), text)
        case _:
            return service
    changed: dict[str, Any] = {"command": command}
    for key, name in (("Interval", "interval"), ("Timeout", "timeout")):
        if check.get(key):
            changed[name] = max(0.1, check[key] / _NANO)
    if check.get("Retries"):
        changed["retries"] = int(check["Retries"])
    return service.model_copy(update=changed)


async def looked(probe: Probe, seconds: float) -> str | None:
    """Look once, for so long at the most; say what is wrong, or `None`.

    Raises:
        MachineAwayError: If that cannot be told, as the engine is away.
    """
    try:
        async with asyncio.timeout(seconds):
            await probe.look()
    except TimeoutError:
        return f"no answer within {seconds:g} s"
    except ProbeFailedError as failed:
        return str(failed)
    except EngineError as error:
        return error.message
    return None


def _told(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else str(error) or type(error).__name__
