"""Runs a function inside the sandbox: this file's text is the code of the execution, and is not imported by it.

What to run comes on standard input as JSON, so that nothing of it is ever a part of this code. The source gets a
module of its own: its lines are its own in tracebacks, and `if __name__ == "__main__":` is not what runs.
"""

import dataclasses
import datetime
import enum
import json
import linecache
import sys
import types
import typing
from typing import Any

_SCALARS = (datetime.datetime, datetime.date, datetime.time)


def _into(value: Any, hint: Any) -> Any:
    """Make of JSON what an annotation says: a set of a list, a date of a text."""
    if isinstance(hint, typing.NewType):
        return _into(value, hint.__supertype__)
    if hasattr(hint, "__value__"):  # `type X = ...`
        return _into(value, hint.__value__)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Annotated, typing.Required, typing.NotRequired, typing.Final):
        return _into(value, inner[0])
    if origin in (typing.Union, types.UnionType):
        return _of_union(value, inner)
    kind: Any = origin or hint
    if not isinstance(kind, type):
        return value
    made: Any = kind
    if isinstance(value, list):
        return _of_list(value, kind, inner)
    if isinstance(value, dict):
        return _of_object(value, kind, inner)
    if issubclass(kind, enum.Enum):
        # A parameter that is null by default takes it whatever its annotation says.
        return None if value is None and all(one.value is not None for one in kind) else kind(value)
    if isinstance(value, str):
        if kind in _SCALARS:
            return kind.fromisoformat(value)
        if kind.__module__ in ("uuid", "pathlib"):
            return made(value)
    if kind is float and type(value) is int:
        return float(value)
    if kind is int and type(value) is float:
        return int(value)
    return value


def _of_union(value: Any, options: Any) -> Any:
    problem = None
    if any(type(value) is option for option in options):
        return value
    for option in options:
        if option is type(None) or not _may_be(value, option):
            continue
        try:
            return _into(value, option)
        except (ValueError, TypeError, KeyError) as error:
            problem = error
    if problem is not None and str not in options:
        raise problem
    return value


def _may_be(value: Any, hint: Any) -> bool:
    kind = typing.get_origin(hint) or hint
    if not isinstance(kind, type):
        return True
    if isinstance(value, dict):
        return issubclass(kind, dict) or dataclasses.is_dataclass(kind) or hasattr(kind, "_fields")
    if isinstance(value, list):
        return issubclass(kind, list | tuple | set | frozenset) or kind.__module__ == "collections.abc"
    return True


def _of_list(value: Any, kind: Any, inner: Any) -> Any:
    if issubclass(kind, tuple) and not hasattr(kind, "_fields"):
        hints = list(inner)
        if len(hints) == 2 and hints[1] is ...:
            hints = [hints[0]] * len(value)
        hints += [typing.Any] * (len(value) - len(hints))
        return tuple(_into(item, hint) for item, hint in zip(value, hints, strict=False))
    items = [_into(item, inner[0]) for item in value] if inner else value
    if kind.__name__ in ("set", "Set", "MutableSet"):
        return set(items)
    return frozenset(items) if kind is frozenset else items


def _of_object(value: Any, kind: Any, inner: Any) -> Any:
    if typing.is_typeddict(kind) or dataclasses.is_dataclass(kind) or hasattr(kind, "_fields"):
        hints = typing.get_type_hints(kind, include_extras=True)
        made: Any = kind
        members = {name: _into(item, hints.get(name, typing.Any)) for name, item in value.items()}
        return members if typing.is_typeddict(kind) else made(**members)
    if len(inner) == 2:
        return {_into(key, inner[0]): _into(item, inner[1]) for key, item in value.items()}
    return value


def _out(value: Any) -> Any:
    """Make JSON of what a function gave; what has no form in it is left as it is."""
    if isinstance(value, enum.Enum):
        return _out(value.value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _out(getattr(value, field.name)) for field in dataclasses.fields(value)}
    as_dict = getattr(value, "_asdict", None)
    if isinstance(value, tuple) and as_dict is not None:
        return _out(as_dict())
    if isinstance(value, dict):
        return {_key(key): _out(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_out(item) for item in value]
    if isinstance(value, set | frozenset):
        items = [_out(item) for item in value]
        try:
            return sorted(items)
        except TypeError:
            return items
    if isinstance(value, _SCALARS):
        return value.isoformat()
    if type(value).__module__ in ("uuid", "pathlib"):
        return str(value)
    return value


def _key(key: Any) -> Any:
    """Make a key of JSON; one that has no form in it is left, and so is told of with the whole."""
    if isinstance(key, enum.Enum):
        return _key(key.value)
    return key if isinstance(key, tuple | frozenset) or dataclasses.is_dataclass(key) else _out(key)


def _bound(function: Any, given: Any) -> Any:
    """Give what to call a function with."""
    import inspect

    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception:  # an annotation that means something to readers only
        hints = {}
    by_place, by_name = [], dict(given)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            others = hints.get(name, typing.Any)
            named = inspect.signature(function).parameters
            by_name = {key: item if key in named else _into(item, others) for key, item in by_name.items()}
        if name not in by_name and type(parameter.default).__module__ == "pydantic.fields":
            by_name[name] = parameter.default.get_default(call_default_factory=True)
        if name not in by_name:
            continue
        value = _into(by_name[name], hints.get(name, typing.Any))
        if parameter.kind is parameter.POSITIONAL_ONLY:
            by_place.append(value)
            del by_name[name]
        else:
            by_name[name] = value
    return by_place, by_name


def _run() -> Any:
    digits = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    job = json.loads(sys.stdin.buffer.read())
    sys.set_int_max_str_digits(digits)
    source, file = job["source"], job["file"]
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    module = types.ModuleType(job["module"])
    module.__file__ = file
    sys.modules[module.__name__] = module
    exec(compile(source, file, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 -- what the box is for
    function = getattr(module, job["entry"])
    by_place, by_name = _bound(function, job["arguments"])
    value = function(*by_place, **by_name)
    if hasattr(value, "__await__"):
        import asyncio

        async def awaited() -> Any:
            return await value

        value = asyncio.run(awaited())
    return _out(value)
