"""Values in a source that can be told without running it: literals, and members of its enums."""

from __future__ import annotations

import ast
import copy
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from .errors import FunctionError


def literal(node: ast.expr) -> Any:
    """Give the value of a default that JSON can hold.

    Raises:
        ValueError: If it is another one, or no literal at all.
    """
    try:
        value = ast.literal_eval(node)
    except (TypeError, RecursionError, MemoryError) as error:
        raise ValueError from error
    if isinstance(value, set | frozenset):
        value = sorted(value, key=repr)
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, RecursionError) as error:
        raise ValueError from error
    if len(text) > 1000 or _deep(value := json.loads(text)):
        raise ValueError("too long")
    return value


def members(node: ast.ClassDef) -> dict[str, Any]:
    """Give the members of an enum.

    Raises:
        FunctionError: If one is no text or number.
    """
    found: dict[str, Any] = {}
    for member in node.body:
        match member:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=called)) if _is_auto(called):
                text = any(isinstance(base, ast.Name) and base.id == "StrEnum" for base in node.bases)
                found[name] = name.lower() if text else len(found) + 1
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                try:
                    found[name] = ast.literal_eval(value)
                except (ValueError, TypeError, RecursionError, MemoryError):
                    raise _wrong(member, node) from None
            case ast.Assign():
                raise _wrong(member, node)
    if not found or not all(isinstance(value, str | int | float) for value in found.values()):
        raise _wrong(node, node)
    return found


class Members(ast.NodeTransformer):
    """Puts the values of enum members in their place: `Color.RED`, `Color.RED.value`.

    Args:
        classes: The classes of the source, the enums among them.
    """

    def __init__(self, classes: Mapping[str, ast.ClassDef]) -> None:
        self._classes = classes
        self._known: dict[str, dict[str, Any]] = {}

    def of(self, node: ast.expr) -> ast.expr:
        """Give an expression with the values in it; the one that was given stays as it is."""
        made: ast.expr = self.visit(copy.deepcopy(node))
        return made

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        """Put in a value; called by `visit`."""
        inner = node.value.value if isinstance(node.value, ast.Attribute) and node.attr == "value" else None
        member = node.value if inner is not None else node
        assert isinstance(member, ast.Attribute)
        found = self._members(member.value.id) if isinstance(member.value, ast.Name) else {}
        return ast.copy_location(ast.Constant(found[member.attr]), node) if member.attr in found else node

    def _members(self, name: str) -> dict[str, Any]:
        if name not in self._known:
            self._known[name] = {}
            with suppress(FunctionError):
                self._known[name] = members(self._classes[name]) if name in self._classes else {}
        return self._known[name]


def _is_auto(called: ast.expr) -> bool:
    return (isinstance(called, ast.Name) and called.id == "auto") or (
        isinstance(called, ast.Attribute) and called.attr == "auto"
    )


def _wrong(where: ast.AST, node: ast.ClassDef) -> FunctionError:
    return FunctionError.at(where, f"the values of enum {node.name} must be texts or numbers")


def _deep(value: Any, levels: int = 10) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(_deep(item, levels - 1) for item in inner)
