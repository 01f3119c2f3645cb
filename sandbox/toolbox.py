"""The module `toolscore_tools`: other servers' tools as functions, for code that was given them.

    from toolscore_tools import time
    time.convert_time(source_timezone="Europe/Berlin", time="12:00", target_timezone="Asia/Tokyo")

Servers and tools are asked for when they are first named. Names, descriptions and schemas come from servers nobody
vouches for: they become names, signatures and docstrings as data; none is ever compiled.
"""

from __future__ import annotations

import sys
from _frozen_importlib import ModuleSpec

from .channel import Channel, ToolError
from .signatures import function, identifiers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAME = "toolscore_tools"

DISABLED = (
    "calling tools from code is not enabled for you: "
    "the operator sets sandbox.tools to enable it for your caller; there is no toolscore_tools without it"
)


class Toolbox(type(sys)):  # type: ignore[misc]  # ModuleType, without importing types
    """`toolscore_tools` itself. Its other attributes are the servers."""

    ToolError = ToolError

    def __init__(self, channel: Channel) -> None:
        super().__init__(NAME, _DOC)
        self._channel = channel
        self._known: dict[str, dict[str, Any]] | None = None
        self._servers: dict[str, Server] = {}
        self.__path__: list[str] = []

    def servers(self) -> list[dict[str, str]]:
        """List the servers: each with its `name`, the `module` it is here, and its `description`."""
        return [
            {"name": entry["name"], "module": module, "description": str(entry.get("description") or "")}
            for module, entry in self._catalogue().items()
        ]

    def tools(self, server: str | Server) -> list[dict[str, Any]]:
        """List a server's tools as MCP describes them, by the server's name."""
        name = server._name if isinstance(server, Server) else server
        listed: list[dict[str, Any]] = self._channel.call("tools", {"server": name})
        return listed

    def list_tools(self, server: str | None = None) -> list[str]:
        """List tools as they are called, a line each; of one server, or of all of them."""
        lines = []
        for module, entry in self._catalogue().items():
            if server not in (None, module, entry["name"]):
                continue
            try:
                lines += self._server(module)._lines()
            except ToolError as error:
                lines.append(f"{module}: cannot be asked: {error}")
        if server is not None and not lines and server not in self._catalogue():
            raise ToolError(self._absent(server))
        return lines

    def call_tool(self, name: str, arguments: dict[str, Any] | None = None, raw: bool = False) -> Any:
        """Call a tool by its full name, `server__tool`.

        Args:
            name: The name.
            arguments: Its arguments by name.
            raw: Whether to give the whole MCP `CallToolResult`, also of a failure, instead of what it holds.

        Returns:
            The tool's structured result (what is in it where it is only `{"result": ...}`); else its text where it
            is one text; else the list of its content blocks.

        Raises:
            ToolError: If the tool failed, with its text; `.result` is the whole result.
        """
        if type(name) is not str or not isinstance(arguments, (dict, type(None))):
            raise TypeError("call_tool takes a tool's full name (server__tool) and a dict of arguments")
        result = self._channel.call("call", {"name": name, "arguments": arguments or {}})
        return result if raw else content(result)

    def _catalogue(self) -> dict[str, dict[str, Any]]:
        if self._known is None:
            listed = {str(entry["name"]): entry for entry in self._channel.call("servers", {})}
            names = identifiers(listed, taken=_API)
            self._known = {module: listed[name] for module, name in names.items()}
        return self._known

    def _server(self, module: str) -> Server:
        if module not in self._servers:
            entry = self._catalogue()[module]
            self._servers[module] = Server(self, module, entry)
        return self._servers[module]

    def _absent(self, name: str) -> str:
        return f"there is no server {name!r}; there are: {', '.join(self._catalogue()) or 'none'}"

    def __getattr__(self, name: str) -> Any:
        if name == "__all__":
            return [*_API, *self._catalogue()]
        if name.startswith("__") or name not in self._catalogue():
            raise AttributeError(f"module {NAME!r} has no attribute {name!r}")
        return sys.modules.setdefault(f"{NAME}.{name}", self._server(name))

    def __dir__(self) -> list[str]:
        return [*_API, *self._catalogue()]


_API = ("ToolError", "call_tool", "list_tools", "servers", "tools")

_DOC = """The tools of other servers.

from toolscore_tools import <server>; <server>.<tool>(...) calls a tool; help(<server>) and
help(<server>.<tool>) tell what there is. servers() lists the servers, list_tools() all tools with their
signatures, tools("<server>") their full descriptions. call_tool("server__tool", {...}) calls by name.
Calls block; several threads may call at the same time. A tool that fails raises ToolError.
"""


class Server(type(sys)):  # type: ignore[misc]
    """A server, as a module whose functions are its tools."""

    def __init__(self, toolbox: Toolbox, module: str, entry: dict[str, Any]) -> None:
        super().__init__(f"{NAME}.{module}", str(entry.get("description") or "") or None)
        self._toolbox = toolbox
        self._name: str = entry["name"]
        self._tools: dict[str, dict[str, Any]] | None = None

    def _catalogue(self) -> dict[str, dict[str, Any]]:
        if self._tools is None:
            start = f"{self._name}__"
            listed = {str(tool["name"]): tool for tool in self._toolbox.tools(self._name)}
            short = {name.removeprefix(start): name for name in listed}
            self._tools = {name: listed[short[tool]] for name, tool in identifiers(short).items()}
        return self._tools

    def _lines(self) -> list[str]:
        module = self.__name__.rpartition(".")[2]
        lines = []
        for name, tool in self._catalogue().items():
            about = str(tool.get("description") or "").strip().partition("\n")[0]
            lines.append(f"{module}.{name}{getattr(self, name).__signature__}  {about}".rstrip())
        return lines

    def __getattr__(self, name: str) -> Any:
        if name == "__all__":
            return list(self._catalogue())
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in self._catalogue():
            there = ", ".join(self._catalogue())
            raise AttributeError(f"server {self._name!r} has no tool {name!r}; it has: {there}")
        made = function(self._catalogue()[name], name, self.__name__, self._toolbox.call_tool)
        setattr(self, name, made)
        return made

    def __dir__(self) -> list[str]:
        return list(self._catalogue())


def content(result: dict[str, Any]) -> Any:
    """Give what a `CallToolResult` holds, as `Toolbox.call_tool` says.

    Raises:
        ToolError: If it tells a failure.
    """
    blocks = result.get("content") or []
    texts = [block["text"] for block in blocks if block.get("type") == "text"]
    if result.get("isError"):
        raise ToolError("\n".join(texts) or "the tool failed without saying why", result=result)
    structured = result.get("structuredContent")
    if structured is not None:
        return structured["result"] if set(structured) == {"result"} else structured
    return texts[0] if len(blocks) == len(texts) == 1 else blocks


class Finder:
    """Finds `toolscore_tools` and its servers for `import`, before any file of that name.

    Args:
        channel: The way to the tools.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._toolbox: Toolbox | None = None

    def open(self, tools: bool) -> None:
        """Begin a job: what an earlier one knew of servers is forgotten."""
        for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
            del sys.modules[name]
        self._toolbox = Toolbox(self._channel) if tools else None

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Find a module, as the import system asks (`importlib.abc.MetaPathFinder`)."""
        if name.partition(".")[0] != NAME:
            return None
        if self._toolbox is None:
            raise ImportError(DISABLED, name=NAME)
        module = name[len(NAME) + 1 :]
        if module and module not in self._toolbox._catalogue():
            raise ImportError(self._toolbox._absent(module))
        return ModuleSpec(name, self, origin="toolscore", is_package=not module)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> Any:
        """Give the module: `importlib.abc.Loader`."""
        assert self._toolbox is not None
        return self._toolbox._server(spec.name[len(NAME) + 1 :]) if "." in spec.name else self._toolbox

    def exec_module(self, module: Any) -> None:
        """Nothing to do: it is complete."""


def install(channel: Channel) -> Finder:
    """Put a finder before all others; `toolscore_tools` stays refused until a job opens it."""
    finder = Finder(channel)
    sys.meta_path.insert(0, finder)
    return finder
