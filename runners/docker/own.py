"""Networks and volumes of this home's own: made when a container first needs one, told from others by their labels.

A network goes when no container is on it any more. A volume stays until somebody asks for its end: it holds data.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Collection, Iterator
from typing import Any

from ..base import Which
from ..container import INTERNAL, OWN, SHARED_NETWORKS, Container, volume
from ..errors import RunnerError, SpecError
from .config import HOME_LABEL, SERVER_LABEL
from .engine import Engine, EngineError

NETWORK_LABEL = "org.toolscore.network"
VOLUME_LABEL = "org.toolscore.volume"


class Own:
    """Makes and removes them.

    Args:
        engine: The engine.
        home: The id of this home.
    """

    def __init__(self, engine: Engine, home: str) -> None:
        self._engine = engine
        self._home = home
        self._changing = asyncio.Lock()
        self._joining = 0
        self._new: dict[str, set[str]] = {}

    def name(self, name: str) -> str:
        """Give what the engine knows one by: no two homes of an engine have the same."""
        return f"toolscore-{self._home[:12]}-{name}"

    @contextlib.contextmanager
    def joining(self) -> Iterator[None]:
        """Let nobody remove a network from before it is made until a container is on it."""
        self._joining += 1
        try:
            yield
        finally:
            self._joining -= 1

    async def made(self, server: str, container: Container) -> Container:
        """Make what a container needs and is not there, and put the engine's names of it into its options.

        Args:
            server: The server, or one instance of it. The server itself is found by its name.
            container: The options of its container.

        Raises:
            EngineError: If the engine refuses.
            MachineAwayError: If it cannot be reached.
            SpecError: If a network is there that is not as it is to be.
        """
        changed: dict[str, Any] = {}
        if container.network not in SHARED_NETWORKS and "#" not in server:
            changed["aliases"] = (server, *container.aliases)
        if container.network.startswith(OWN):
            name = container.network.removeprefix(OWN)
            async with self._changing:
                changed["network"] = await self._network(
                    name.removesuffix(INTERNAL), internal=name.endswith(INTERNAL)
                )
        if container.own_volumes:
            for name in container.own_volumes:
                await self._volume(name, server.partition("#")[0])
            changed["volumes"] = tuple(self._placed(text) for text in container.volumes)
        return container.model_copy(update=changed) if changed else container

    def _placed(self, text: str) -> str:
        source, target, writable = volume(text)
        if not source.startswith(OWN):
            return text
        return f"{self.name(source.removeprefix(OWN))}:{target}{':rw' if writable else ''}"

    async def _network(self, name: str, *, internal: bool) -> str:
        whole = self.name(name)
        there = await self._networks({NETWORK_LABEL: name})
        if there:
            if bool(there[0].get("Internal")) != internal:
                raise SpecError(
                    f"It is to be on the network {OWN}{name}{INTERNAL if internal else ''}, which is there, and is "
                    f"{'not ' if internal else ''}internal: write it the same for all servers that are on it, and "
                    "stop those first."
                )
            return whole
        await self._engine.ask(
            "POST",
            "/networks/create",
            body={
                "Name": whole,
                "Driver": "bridge",
                "Internal": internal,
                "CheckDuplicate": True,
                "Labels": {HOME_LABEL: self._home, NETWORK_LABEL: name},
            },
        )
        return whole

    async def _networks(self, labels: dict[str, str]) -> list[dict[str, Any]]:
        wanted = [f"{key}={value}" for key, value in {HOME_LABEL: self._home, **labels}.items()]
        found: list[dict[str, Any]] = await self._engine.ask(
            "GET", "/networks", params={"filters": json.dumps({"label": wanted})}
        )
        return found

    async def _volume(self, name: str, server: str) -> None:
        if not await self._there([name]):
            self._new.setdefault(server, set()).add(name)
        await self._engine.ask(
            "POST",
            "/volumes/create",
            body={
                "Name": self.name(name),
                "Labels": {HOME_LABEL: self._home, VOLUME_LABEL: name, SERVER_LABEL: server},
            },
        )

    async def tidy(self, server: str | None = None) -> None:
        """Remove the networks of this home that no container is on, as far as the engine lets them go now.

        Args:
            server: One that was removed: the volumes it made are not new any more.
        """
        self._new.pop(server or "", None)
        with contextlib.suppress(RunnerError):
            async with self._changing:
                for one in await self._networks({}):
                    if self._joining:
                        return
                    # The engine refuses while a container is on it.
                    with contextlib.suppress(EngineError):
                        await self._engine.ask("DELETE", f"/networks/{one['Id']}")

    async def _there(self, names: Collection[str]) -> list[str]:
        """Give those of some volumes that are there."""
        wanted = json.dumps({"label": [f"{HOME_LABEL}={self._home}"]})
        told = await self._engine.ask("GET", "/volumes", params={"filters": wanted})
        labels = [one.get("Labels") or {} for one in told.get("Volumes") or ()]
        there = {one.get(VOLUME_LABEL) for one in labels}
        return [name for name in names if name in there]

    async def remove_volumes(self, server: str, names: Collection[str], which: Which) -> list[str]:
        """Remove volumes with all that is in them; see `BaseRunner.remove_volumes`.

        Raises:
            EngineError: If a container still uses one.
            MachineAwayError: If the engine cannot be reached.
        """
        if which == "new":
            names = self._new.get(server, set()).intersection(names)
        found = await self._there(names)
        for name in found if which != "none" else ():
            await self._engine.ask("DELETE", f"/volumes/{self.name(name)}")
        return found
