"""One registered function, as it is kept, as it is listed, and as a file of its own."""

from __future__ import annotations

import hashlib
import json
import keyword
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..names import LONGEST, exposed_name
from .errors import FunctionError
from .names import SERVER, VERSION_KEY

if TYPE_CHECKING:
    from .signature import Signature

HINTS = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")
"""Annotations of a tool that whoever registers it may give, besides `title`."""

MOST_PACKAGES = 32
LONGEST_NAME = LONGEST - len(SERVER) - 2

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
HEADER = "# toolscore-function: "
"""How the first line begins of a function's file; JSON follows."""

_HEADER = re.compile(rf"{HEADER}(\{{.*\}})\r?\n?")


@dataclass(frozen=True)
class Function:
    """One version of a function.

    Attributes:
        name: Its name.
        version: Its number, from 1.
        source: Its source.
        packages: Packages it needs.
        hints: Annotations of the tool (MCP `ToolAnnotations`).
        definition: The tool as it is listed (MCP `Tool`).
        current: Whether this version is the one that is called.
        created: When it was registered, as ISO 8601.
        notes: What could be better said in its source.
        calls_tools: Whether its source imports the module by which code calls tools; known where it is registered.
    """

    name: str
    version: int
    source: str
    packages: tuple[str, ...]
    hints: dict[str, Any]
    definition: dict[str, Any]
    current: bool = True
    created: str = ""
    notes: list[str] = field(default_factory=list)
    calls_tools: bool = False

    @property
    def tool(self) -> str:
        """The name it is called by."""
        return exposed_name(SERVER, self.name)

    @property
    def entry(self) -> str:
        """Name of the function in its source."""
        return str(self.definition["_meta"]["toolscore/entry"])

    @property
    def description(self) -> str:
        """What it does."""
        return str(self.definition.get("description", ""))

    def as_file(self) -> str:
        """Give it as a Python file that says in its first line what it is."""
        told = {
            "name": self.name,
            "version": self.version,
            "packages": self.packages,
            "annotations": self.hints,
        }
        return f"{HEADER}{json.dumps(told)}\n{self.source}"


@dataclass(frozen=True)
class Draft:
    """A function that somebody wants registered: what it is, before it has a version."""

    name: str
    source: str
    packages: tuple[str, ...] = ()
    hints: dict[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """What tells it from another one, in a short text."""
        parts = json.dumps([self.source, self.packages, self.hints], sort_keys=True)
        return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()[:8]

    def check(self) -> None:
        """Refuse what cannot be a tool, whatever its source says.

        Raises:
            FunctionError: With the reason.
        """
        check_name(self.name)
        check_hints(self.hints)
        if len(self.packages) > MOST_PACKAGES or not all(0 < len(one) <= 200 for one in self.packages):
            raise FunctionError(f"packages: {MOST_PACKAGES} names at the most")

    def made(self, version: int, said: Signature) -> Function:
        """Make a version of it.

        Args:
            version: Its number.
            said: What its source says.
        """
        definition: dict[str, Any] = {"name": self.name}
        if title := self.hints.get("title"):
            definition["title"] = title
        definition |= {"description": said.description, "inputSchema": said.input_schema}
        if said.output_schema is not None:
            definition["outputSchema"] = said.output_schema
        if hints := {key: value for key, value in self.hints.items() if key != "title"}:
            definition["annotations"] = hints
        # The number alone would be that of another one, once this is removed and its name is used again.
        definition["_meta"] = {VERSION_KEY: f"{version}-{self.digest}", "toolscore/entry": said.entry}
        return Function(
            self.name,
            version,
            self.source,
            self.packages,
            self.hints,
            definition,
            notes=said.notes,
            calls_tools=said.calls_tools,
        )


def check_name(name: str) -> None:
    """Refuse what cannot be a function's name.

    Raises:
        FunctionError: With the rule.
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise FunctionError(
            f"'{name[:80]}' cannot be a function's name: it is one of Python's, of the letters A-Z and a-z, digits "
            "and _, with a letter first, and no keyword"
        )
    if len(name) > LONGEST_NAME:
        raise FunctionError(
            f"a function's name has at most {LONGEST_NAME} characters, and this has {len(name)}"
        )


def check_hints(hints: dict[str, Any]) -> None:
    """Refuse what are no annotations of a tool.

    Raises:
        FunctionError: With what they can be.
    """
    for key, value in hints.items():
        right = isinstance(value, bool) if key in HINTS else key == "title" and isinstance(value, str)
        if not right or (isinstance(value, str) and len(value) > 200):
            raise FunctionError(
                f"annotations: there are {', '.join(HINTS)} (true or false) and title (a text)"
            )


def from_file(text: str, name: str) -> Draft:
    """Read what `Function.as_file` wrote, or any Python source.

    Args:
        text: What the file holds.
        name: Its name where it does not say any, such as that of the file.

    Raises:
        FunctionError: If its first line is of ours, but cannot be understood.
    """
    found = _HEADER.match(text)
    if found is None:
        return Draft(name, text)
    try:
        told = json.loads(found[1])
        packages, hints = told.get("packages", []), told.get("annotations", {})
        wanted = str(told.get("name", name))
        if not isinstance(hints, dict) or not all(isinstance(one, str) for one in packages):
            raise ValueError("packages and annotations are not what they should be")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise FunctionError(f"line 1: what it says of the function cannot be understood: {error}") from None
    return Draft(wanted, text[found.end() :], tuple(packages), hints)


def packages_of(text: str) -> tuple[str, ...]:
    """Give the packages that a function's file says it needs; none where it says nothing that can be understood."""
    try:
        return from_file(text, "").packages
    except FunctionError:
        return ()
