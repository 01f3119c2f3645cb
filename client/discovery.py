"""Finding tools and servers, and adding what is missing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Unpack

from .library import Gaps, Server, Tool
from .options import InstallOptions
from .result import Result


class Discovery:
    """The part of a client that finds things. What is refused here is raised as `CallError`."""

    async def call(
        self,
        tool: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        repeat: bool | None = None,
        check: bool | None = None,
    ) -> Result:
        """Call a tool; `ToolScore` has it."""
        raise NotImplementedError

    async def _own(
        self, own: str, timeout: float | None = None, /, *, reads: bool = False, **arguments: Any
    ) -> dict[str, Any]:
        given = {key: value for key, value in arguments.items() if value is not None}
        repeat = True if reads else None
        result = await self.call(f"toolscore__{own}", given, timeout=timeout, repeat=repeat, check=True)
        structured: dict[str, Any] = result.structured
        return structured

    async def tools(self, server: str | None = None) -> AsyncGenerator[Tool]:
        """Give all tools, page by page, in short: name, first sentence, server.

        Args:
            server: Only this server's; `toolscore` for ToolScore's own.
        """
        cursor: str | None = None
        while True:
            page = await self._own("list_tools", reads=True, server=server, cursor=cursor)
            for raw in page["tools"]:
                yield Tool.of(raw)
            cursor = page.get("nextCursor")
            if cursor is None:
                return

    async def search(
        self, query: str, *, limit: int = 5, server: str | None = None, max_tokens: int = 20_000
    ) -> list[Tool]:
        """Give the tools for a need, best first, with their arguments in the compact form of docs/search.md.

        Args:
            query: What the tool should do, in plain words, or its name.
            limit: Tools at most, up to 50.
            server: Only this server's.
            max_tokens: What the answer may weigh; later tools come without arguments then.
        """
        found = await self._own(
            "search_tools", reads=True, query=query, limit=limit, server=server, max_tokens=max_tokens
        )
        return [Tool.of(raw) for raw in found["tools"]]

    async def describe(self, tool: str) -> Tool:
        """Give all there is to know of a tool: description, schemas, annotations."""
        return Tool.of(await self._own("describe_tool", reads=True, tool=tool))

    async def servers(self) -> list[Server]:
        """Give the servers, with state and reason."""
        return [Server.of(raw) for raw in (await self._own("list_servers", reads=True))["servers"]]

    async def server_state(self, name: str) -> dict[str, Any]:
        """Give all that is known of a server (docs/lifecycle.md)."""
        return await self._own("server_state", reads=True, name=name)

    async def find_gaps(
        self, task: str, *, needs: Sequence[str] = (), ask: str = "never", max_tokens: int = 20_000
    ) -> Gaps:
        """Give, for each need of a task, the tools that cover it, or the servers that would.

        Args:
            task: What is to be done, in plain words.
            needs: The task, split already into what one tool each would do.
            ask: `auto`: `on_sampling` may be asked to split a hard task; `never`: rules do it.
            max_tokens: What the answer may weigh.
        """
        told = await self._own(
            "find_tool_gap", reads=True, task=task, needs=list(needs), ask=ask, max_tokens=max_tokens
        )
        return Gaps.of(told)

    async def ensure_tools(
        self,
        task: str,
        *,
        needs: Sequence[str] = (),
        install: str = "ask",
        settings: Mapping[str, Any] | None = None,
        max_installs: int = 3,
        ask: str = "never",
        timeout: float | None = None,
    ) -> Gaps:
        """The same, and install what is missing, as far as rights and policy allow it.

        Args:
            task: What is to be done.
            needs: The task, split already.
            install: `ask`: a person confirms each server (`on_elicitation`); `allowed`: as the token's rights allow;
                `never`: only propose.
            settings: Settings and secrets of servers, by server or by name.
            max_installs: Servers at most.
            ask: As for `find_gaps`.
            timeout: Seconds; a call that is too late is cancelled, and what was not complete is undone.
        """
        told = await self._own(
            "ensure_tools",
            timeout,
            task=task,
            needs=list(needs),
            install=install,
            settings=dict(settings or {}),
            max_installs=max_installs,
            ask=ask,
            max_tokens=20_000,
        )
        return Gaps.of(told)

    async def install(
        self,
        source: str,
        *,
        name: str | None = None,
        timeout: float | None = None,
        **options: Unpack[InstallOptions],
    ) -> dict[str, Any]:
        """Install a server, and give its name, version and the first of its tools.

        Args:
            source: `pypi:NAME`, `npm:NAME`, `registry:NAME`, ... (README, "Where servers come from").
            name: What it is to be called.
            timeout: Seconds; a call that is too late is cancelled, and nothing of the server is kept.
            **options: `args`, `env`, `settings`, `confine`, `container`, `url` and `cluster` of `install_server`.
        """
        return await self._own("install_server", timeout, source=source, name=name, **options)
