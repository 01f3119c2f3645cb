"""Tools as functions: names, signatures, annotations and docstrings made of their schemas, as data.

The schemas come from servers nobody vouches for; nothing of them is ever compiled.
"""

from __future__ import annotations

import keyword

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from typing import Any

_TYPES = {
    "string": str, "integer": int, "number": float, "boolean": bool,
    "array": list, "object": dict, "null": type(None),
}  # fmt: skip


def identifiers(names: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """Give each name as one that Python code can use.

    Other characters become `_`, keywords and names that are taken get a `_` at their end, doubles a number.

    Args:
        names: The names.
        taken: Identifiers that cannot be used.

    Returns:
        The names by their identifiers.
    """
    found: dict[str, str] = {}
    taken = set(taken)
    for name in names:
        base = name if name.isascii() else _normal(name)
        base = "".join(char if char == "_" or char.isalnum() else "_" for char in base)
        if not base.isidentifier():
            base = f"_{base}"
        if not base.isidentifier():
            base = "_".join(("", *(f"{ord(char):x}" for char in name)))
        if base.startswith("__"):
            base = f"x{base}"  # means something else in a class or a module
        if keyword.iskeyword(base) or base in taken:
            base += "_"
        candidate, number = base, 2
        while candidate in found or candidate in taken:
            candidate, number = f"{base}_{number}", number + 1
        found[candidate] = name
    return found


def _normal(name: str) -> str:
    """Give a name as Python reads it in source (PEP 3131)."""
    import unicodedata

    return unicodedata.normalize("NFKC", name)


def function(
    tool: dict[str, Any], name: str, module: str, call: Callable[[str, dict[str, Any]], Any]
) -> Callable[..., Any]:
    """Make the function of a tool: with a signature, annotations and a docstring from its schema.

    Required arguments come first, in the schema's order, and may be given by position; the others are keywords.
    An argument that is left out is not sent; nor is `None` where the argument is optional and cannot be null.

    Args:
        tool: The MCP `Tool`.
        name: The function's name.
        module: Name of its module.
        call: Calls a tool by its full name.

    Returns:
        The function. It raises `TypeError` for arguments that the schema does not name, before anything is sent.
    """
    import inspect

    schema = _mapping(tool.get("inputSchema"))
    properties = {str(key): _mapping(value) for key, value in _mapping(schema.get("properties")).items()}
    listed: Any = schema.get("required")
    required = [key for key in dict.fromkeys(listed if type(listed) is list else ()) if isinstance(key, str)]
    order = [*required, *(key for key in properties if key not in required)]
    names = identifiers(order)
    parameters = []
    for identifier, key in names.items():
        about = properties.get(key, {})
        annotation = _annotation(about)
        parameters.append(
            inspect.Parameter(
                identifier,
                inspect.Parameter.POSITIONAL_OR_KEYWORD
                if key in required
                else inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if key in required else about.get("default"),
                annotation=inspect.Parameter.empty if annotation is None else annotation,
            )
        )
    more = None
    if isinstance(schema.get("additionalProperties"), dict) or schema.get("additionalProperties") is True:
        more = next(iter(identifiers(["more"], taken=names)))
        parameters.append(inspect.Parameter(more, inspect.Parameter.VAR_KEYWORD))
    result = _annotation(_result(tool.get("outputSchema")))
    signature = inspect.Signature(
        parameters, return_annotation=inspect.Signature.empty if result is None else result
    )
    full = str(tool["name"])

    def function(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{name}() {error}; it is {name}{signature}") from None
        arguments = dict(bound.pop(more, {})) if more else {}
        for identifier, value in bound.items():
            key = names[identifier]
            if value is not None or key in required or _takes_null(properties.get(key, {})):
                arguments[key] = value
        return call(full, arguments)

    function.__name__ = function.__qualname__ = name
    function.__module__ = module
    function.__doc__ = _docstring(tool, names, properties, required)
    function.__annotations__ = {
        parameter.name: parameter.annotation
        for parameter in parameters
        if parameter.annotation is not inspect.Parameter.empty
    }
    if result is not None:
        function.__annotations__["return"] = result
    function.__signature__ = signature  # type: ignore[attr-defined]
    return function


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _result(schema: Any) -> dict[str, Any]:
    """Give the schema of what a call gives: unwrapped as `content` does."""
    properties = _mapping(_mapping(schema).get("properties"))
    return _mapping(properties["result"]) if set(properties) == {"result"} else _mapping(schema)


def _annotation(schema: dict[str, Any]) -> Any:
    """Give a schema's type where it is a simple one; else `None`."""
    named = schema.get("type")
    choices = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(named, str):
        kind = _TYPES.get(named)
        item = _annotation(_mapping(schema.get("items"))) if kind is list else None
        if item is not None:
            return list.__class_getitem__(item)
        return None if named == "null" else kind
    if isinstance(named, list):
        choices = [{"type": name} for name in named]
    if not isinstance(choices, list) or not choices:
        return None
    union: Any = None
    for choice in map(_mapping, choices):
        kind = type(None) if choice.get("type") == "null" else _annotation(choice)
        if kind is None:
            return None
        union = kind if union is None else union | kind
    return union


def _takes_null(schema: dict[str, Any]) -> bool:
    choices = [schema, *(schema.get("anyOf") or ()), *(schema.get("oneOf") or ())]
    types = [choice.get("type") for choice in map(_mapping, choices)]
    return any(kind == "null" or (isinstance(kind, list) and "null" in kind) for kind in types)


def _docstring(
    tool: dict[str, Any],
    names: dict[str, str],
    properties: dict[str, dict[str, Any]],
    required: Collection[str],
) -> str:
    lines = [str(tool.get("description") or tool.get("title") or f"The tool {tool['name']}.").strip()]
    if names:
        lines += ["", "Args:"]
    for identifier, key in names.items():
        about = properties.get(key, {})
        notes = [] if key in required else ["optional"]
        if isinstance(about.get("enum"), list):
            notes.append(f"one of {', '.join(map(repr, about['enum']))}")
        if "default" in about:
            notes.append(f"{about['default']!r} if left out")
        if identifier != key:
            notes.append(f"sent as {key!r}")
        text = " ".join(str(about.get("description") or "").split())
        note = f" ({'; '.join(notes)})" if notes else ""
        lines.append(f"    {identifier}{note}: {text}".rstrip())
    return "\n".join(lines)
