"""What there is to call: tools, servers, and what is missing for a task."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Raw = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool.

    Attributes:
        name: What it is called by: `server__tool`.
        description: What it does; of one that was searched for, its purpose in short.
        server: Whose it is, where that was said.
        input_schema: JSON Schema of its arguments, as far as it was asked for. Of one that was searched for it is the
            compact form of docs/search.md.
        output_schema: JSON Schema of its structured result, if it has one and was asked for.
        annotations: MCP annotations, where they were asked for.
        score: How well it fits a search, 0 to 1.
        quarantined: Why it cannot be called now (docs/trust.md), or `None`.
        raw: All that was said.
    """

    name: str
    description: str = ""
    server: str = ""
    input_schema: Raw | None = None
    output_schema: Raw | None = None
    annotations: Raw = field(default_factory=dict)
    score: float | None = None
    quarantined: str | None = None
    raw: Raw = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, raw: Raw) -> Tool:
        """Make one of what `list_tools`, `search_tools` or `describe_tool` say."""
        return cls(
            name=raw["name"],
            description=raw.get("description") or raw.get("purpose") or "",
            server=raw.get("server") or raw["name"].partition("__")[0],
            input_schema=raw.get("inputSchema") or raw.get("arguments"),
            output_schema=raw.get("outputSchema"),
            annotations=raw.get("annotations") or {},
            score=raw.get("score"),
            quarantined=raw.get("quarantined"),
            raw=raw,
        )

    @property
    def repeatable(self) -> bool:
        """Whether it may be called twice: it is annotated read-only or idempotent."""
        return self.annotations.get("readOnlyHint") is True or self.annotations.get("idempotentHint") is True


@dataclass(frozen=True, slots=True)
class Server:
    """A server.

    Attributes:
        name: Its name.
        state: As in docs/lifecycle.md.
        tools: How many it has.
        version: Its own, where it said one.
        reason: Why it is not ready, or `None`.
        raw: All that was said.
    """

    name: str
    state: str
    tools: int = 0
    version: str | None = None
    reason: str | None = None
    raw: Raw = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, raw: Raw) -> Server:
        """Make one of what `list_servers` or `server_state` say."""
        tools = raw.get("tools")
        return cls(
            name=raw["name"],
            state=raw["state"],
            tools=len(tools) if isinstance(tools, list) else int(tools or 0),
            version=raw.get("version"),
            reason=raw.get("reason"),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Offer:
    """A server that could be installed.

    Attributes:
        name: Its name in the catalog.
        about: What it does.
        requires: Settings it wants to be given.
        call: The call of an own tool that installs it: `tool` and `arguments`.
        raw: All that was said.
    """

    name: str
    about: str = ""
    requires: tuple[str, ...] = ()
    call: Raw = field(default_factory=dict)
    raw: Raw = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, raw: Raw) -> Offer:
        """Make one of what `find_tool_gap` says."""
        requires = tuple(raw.get("requires") or ())
        return cls(raw["name"], raw.get("about") or "", requires, raw.get("call") or {}, raw)


@dataclass(frozen=True, slots=True)
class Need:
    """One need of a task.

    Attributes:
        need: In words.
        label: `covered`, `gap` or `unsure`.
        tools: Those that serve it, best first; of a gap, the nearest ones.
        offers: Servers that would fill the gap, best first.
    """

    need: str
    label: str
    tools: tuple[Tool, ...] = ()
    offers: tuple[Offer, ...] = ()


@dataclass(frozen=True, slots=True)
class Gaps:
    """What a task needs, and what of it is there.

    Attributes:
        label: Of the whole: `covered`, `gap` or `unsure`.
        needs: One by one.
        next: What to do next, in words.
        done: Of `ensure_tools`, what was done about servers: `name`, `server`, `done` (`installed`, `enabled`,
            `undone`, `failed`, `declined`), `reason`.
        raw: All that was said.
    """

    label: str
    needs: tuple[Need, ...]
    next: str = ""
    done: tuple[Raw, ...] = ()
    raw: Raw = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, raw: Raw) -> Gaps:
        """Make one of what `find_tool_gap` or `ensure_tools` say."""
        needs = tuple(
            Need(
                need["need"],
                need["label"],
                tuple(Tool.of(tool) for tool in need.get("tools") or ()),
                tuple(Offer.of(server) for server in need.get("servers") or ()),
            )
            for need in raw.get("needs") or ()
        )
        return cls(raw["label"], needs, raw.get("next") or "", tuple(raw.get("done") or ()), raw)

    @property
    def tools(self) -> list[Tool]:
        """The tools that cover needs, each once."""
        found = {tool.name: tool for need in self.needs if need.label != "gap" for tool in need.tools}
        return list(found.values())

    @property
    def offers(self) -> list[Offer]:
        """The best server for each gap, each once."""
        found = {
            need.offers[0].name: need.offers[0] for need in self.needs if need.label == "gap" and need.offers
        }
        return list(found.values())
