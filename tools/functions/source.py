"""Untrusted Python source as a syntax tree, without running any of it.

For `reader` only: Python's own parser and compiler do not survive every text, nor does what parses after them.
"""

from __future__ import annotations

import ast
import threading
import typing
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .errors import FunctionError

Def = ast.FunctionDef | ast.AsyncFunctionDef

_STARS = {
    "typing": tuple(typing.__all__),
    "enum": ("Enum", "IntEnum", "StrEnum", "auto"),
    "dataclasses": ("dataclass",),
    "datetime": ("date", "datetime", "time"),
}
"""What `from MODULE import *` brings that an annotation can be made of."""

_warnings = threading.Lock()


@dataclass(frozen=True)
class Source:
    """A module's source, as far as it says what its functions take and give.

    Attributes:
        tree: Its syntax tree.
        functions: Its functions, by name.
        classes: Its classes, by name.
        names: What it imports, by the name it has here: `typing.Optional` for `from typing import Optional`.
        aliases: What else is assigned to a plain name, such as an alias of a type.
    """

    tree: ast.Module
    functions: dict[str, Def] = field(default_factory=dict)
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, ast.expr] = field(default_factory=dict)

    def imports(self, module: str) -> bool:
        """Tell whether it imports a module, or one within it, anywhere."""
        found: list[str] = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += (name.name for name in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.append(node.module or "")
        return any(name.partition(".")[0] == module for name in found)

    def chosen(self, name: str) -> Def:
        """Choose the function that is the tool: the one of that name, the only public one, or `main`.

        Raises:
            FunctionError: If there is no such function.
        """
        if name in self.functions:
            return self.functions[name]
        public = [one for one in self.functions if not one.startswith("_")]
        if len(public) == 1:
            return self.functions[public[0]]
        if "main" in self.functions:
            return self.functions["main"]
        if not public:
            raise FunctionError(f"the source has no function: write `def {name}(...):` at its top level")
        shown = ", ".join(public[:10])
        raise FunctionError(
            f"the source has several functions ({shown}), none of them named '{name}': name the one that is to be "
            "the tool so, or begin the names of the others with _"
        )


def parse(text: str) -> Source:
    """Read a source.

    Raises:
        FunctionError: If it is no Python, or more than can be looked at.
    """
    tree = parsed(text, "exec")
    assert isinstance(tree, ast.Module)
    source = Source(tree)
    for node in _statements(tree.body):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                source.functions[node.name] = node
            case ast.ClassDef():
                source.classes[node.name] = node
            case ast.Import():
                for name in node.names:
                    whole = name.name if name.asname else name.name.partition(".")[0]
                    source.names[name.asname or whole] = whole
            case ast.ImportFrom():
                module = node.module or ""
                for name in node.names:
                    wanted = _STARS.get(module, ()) if name.name == "*" else (name.name,)
                    source.names.update((name.asname or one, f"{module}.{one}") for one in wanted)
            case ast.Assign(targets=[ast.Name(id=target)]):
                source.aliases[target] = node.value
            case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value):
                source.aliases[target] = value
            case _ if type(node).__name__ == "TypeAlias":  # Python 3.12
                alias: Any = node
                source.aliases[alias.name.id] = alias.value
    return source


def parsed(text: str, mode: str) -> ast.AST:
    """Make a syntax tree of a bounded text.

    Raises:
        FunctionError: If it is no Python, with the line and a mark under the place.
    """
    try:
        # The filters of warnings are the process's: two threads at once could leave each other's behind.
        with _warnings, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree: Any = compile(text, "<source>", mode, ast.PyCF_ONLY_AST, dont_inherit=True)
            if mode == "exec":
                compile(
                    tree, "<source>", mode, dont_inherit=True
                )  # `return` outside of a function, and the like
    except SyntaxError as error:
        raise FunctionError(_told(error, text)) from None
    except (RecursionError, MemoryError, SystemError):
        raise FunctionError(
            "the source is nested too deep for Python: make its expressions shorter"
        ) from None
    except ValueError as error:  # null characters, in older Pythons
        raise FunctionError(f"the source is no Python: {error}") from None
    assert isinstance(tree, ast.AST)
    return tree


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Give the statements at the top level, also those under `if` and `try`."""
    left = list(reversed(body))
    while left:
        node = left.pop()
        yield node
        if isinstance(node, ast.If | ast.Try):
            inner = [*node.body, *node.orelse]
            if isinstance(node, ast.Try):
                inner += [one for handler in node.handlers for one in handler.body]
            left += reversed(inner)


def _told(error: SyntaxError, text: str) -> str:
    """Say where a syntax error is as Python does: the line, and a mark under the place."""
    line = error.lineno or 1
    lines = text.splitlines()
    shown = lines[line - 1] if 0 < line <= len(lines) else (error.text or "")
    told = f"line {line}: {error.msg}"
    place = (error.offset or 1) - 1
    if not shown.strip() or len(shown) > 500:
        return told
    blanks = "".join("\t" if one == "\t" else " " for one in shown[:place])
    return f"{told}\n  {shown.rstrip()}\n  {blanks}^"
