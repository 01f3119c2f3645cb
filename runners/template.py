"""Templates in a spec: `${NAME}` and its kin, replaced at each start and never kept replaced.

A subset of the shell's parameter expansion (POSIX 2.6.2), with the prefixes `env:` and `input:` that other MCP
clients write.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from .errors import MissingVariableError, RunnerError, StartError
from .spec import ServerSpec

Lookup = Callable[[str], str | None]
"""Gives the value of a name, or `None` where it has none."""

_FORM = re.compile(
    r"\$\{(?:"
    r"(?P<env>env:)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^{}]*))?"
    r"|input:(?P<input>[A-Za-z_][A-Za-z0-9_.-]*)(?::-(?P<otherwise>[^{}]*))?"
    r"|secret:(?P<secret>[^{}]+)"
    r"|service:(?P<service>[A-Za-z0-9_-]+)(?::(?P<part>host|port))?(?::(?P<inside>[0-9]{1,5}))?"
    r")\}"
)
_BRACE = re.compile(r"[{}]")


class MissingSecretError(MissingVariableError):
    """A `${secret:KEY}` or `${input:NAME}` in a spec has no value. It disables that server only.

    Args:
        key: The key that is not in the secrets file, or the name of a secret.
        where: The part of the spec that uses it, such as `env.API_KEY`.
        prefix: What stands before it.
    """

    def __init__(self, key: str, where: str, prefix: str = "secret") -> None:
        if "/" in key:
            text = (
                f"The secret {key} is not in the secrets file, and {where} uses it: install or register the "
                "server again with its value."
            )
        else:
            text = (
                f"${{{prefix}:{key}}} is not set, and {where} uses it: run `toolscore secret set {key}`, and start "
                "the server again."
            )
        RunnerError.__init__(self, text)
        self.variable = f"{prefix}:{key}"


def is_template(text: str) -> bool:
    """Tell whether a text holds anything that `expand` would replace."""
    return next(_forms(text), None) is not None


def split(text: str) -> Iterator[tuple[str, bool]]:
    """Cut a text into what stands for itself and what `expand` would replace.

    Yields:
        Each piece in order, and whether it is a template.
    """
    end = 0
    for form in _forms(text):
        if form.start() > end:
            yield text[end : form.start()], False
        yield form[0], True
        end = form.end()
    if end < len(text):
        yield text[end:], False


def references(texts: Iterable[Any]) -> list[str]:
    """Give what of some texts would be replaced, such as `${API_KEY}`, each once; what is no text has nothing."""
    found = (piece for text in texts if isinstance(text, str) for piece, template in split(text) if template)
    return list(dict.fromkeys(found))


def variables(spec: ServerSpec) -> frozenset[str]:
    """Give the names of the environment variables that a spec is expanded with."""
    return frozenset(form["name"] for form in _all_forms(spec) if form["name"] is not None)


def secret_names(spec: ServerSpec) -> frozenset[str]:
    """Give the names of the named secrets that a spec is expanded with, where there are such."""
    found = set()
    for form in _all_forms(spec):
        if form["name"] is not None and not form["env"]:
            found.add(form["name"])
        elif form["input"] is not None:
            found.add(form["input"])
        elif form["secret"] is not None and "/" not in form["secret"]:
            found.add(form["secret"])
    return frozenset(found)


def services(spec: ServerSpec) -> dict[str, tuple[str, str | None, int | None]]:
    """Give what a spec wants to know of where services are.

    Returns:
        By what stands in the braces: the service, `host` or `port` or `None` for both, and which of its ports.
    """
    found = {}
    for form in _all_forms(spec):
        if form["service"] is not None:
            inside = None if form["inside"] is None else int(form["inside"])
            found[form[0][2:-1]] = form["service"], form["part"], inside
    return found


def _all_forms(spec: ServerSpec) -> Iterator[re.Match[str]]:
    texts = [spec.command, spec.cwd, spec.url, *spec.args, *spec.env.values(), *spec.headers.values()]
    texts += spec.confine.paths if spec.confine else ()
    texts += spec.container.texts if spec.container else ()
    return (form for text in texts if text is not None for form in _forms(text))


def no_names(_name: str) -> None:
    """Be the `Lookup` of named secrets where there are none."""


def expand(
    text: str,
    where: str,
    lookup: Lookup,
    secrets: Lookup,
    extra: Mapping[str, str],
    named: Lookup = no_names,
) -> str:
    """Replace every `${NAME}`, `${env:NAME}` and `${input:NAME}`, also with `:-default`, and `${secret:KEY}`.

    `${service:NAME}`, and with `:host` or `:port` behind the name, is where a service is, a value of this start.
    `${NAME}` is a value of this start, or else the secret of that name, or else the environment variable;
    `${env:NAME}` is the variable only, and `${input:NAME}` and a `${secret:NAME}` without a slash the secret only. A
    default counts where there is no value or an empty one. What was put in is not looked at again. Everything else
    stays as it is: `$$`, `$NAME`, and a `${` that is nested or not well-formed.

    Args:
        text: The template.
        where: The part of the spec it stands in, for the error.
        lookup: Environment variables.
        secrets: Values of this server's own, by key.
        extra: Values of this start, such as `PORT`.
        named: Secrets by the names a person gave them.

    Raises:
        MissingVariableError: If a variable without a default is not set.
        MissingSecretError: If a secret is not there.
    """
    parts: list[str] = []
    end = 0
    for form in _forms(text):
        parts += text[end : form.start()], _value(form, where, lookup, secrets, extra, named)
        end = form.end()
    return "".join((*parts, text[end:]))


def expand_spec(
    spec: ServerSpec, lookup: Lookup, secrets: Lookup, extra: Mapping[str, str], named: Lookup = no_names
) -> ServerSpec:
    """Replace the templates in every part of a spec. Names of variables and headers are no templates.

    Raises:
        MissingVariableError: If a variable or secret is not set; it names the part, such as `args[2]`.
        StartError: If what results is not a spec, such as an empty command.
    """

    def one(text: str, where: str) -> str:
        return expand(text, where, lookup, secrets, extra, named)

    values: dict[str, Any] = {
        "command": None if spec.command is None else one(spec.command, "command"),
        "args": tuple(one(text, f"args[{index}]") for index, text in enumerate(spec.args)),
        "env": {name: one(text, f"env.{name}") for name, text in spec.env.items()},
        "cwd": None if spec.cwd is None else one(spec.cwd, "cwd"),
        "url": None if spec.url is None else one(spec.url, "url"),
        "headers": {name: one(text, f"headers.{name}") for name, text in spec.headers.items()},
    }
    values["sse"] = spec.sse
    values["cluster"] = spec.cluster
    if spec.confine is not None:
        values["confine"] = spec.confine.each(one)
    try:
        if spec.container is not None:
            values["container"] = spec.container.each(one)
        return ServerSpec.model_validate(values)
    except ValidationError as error:
        # Not its text: that quotes the values, secrets among them.
        reasons = "; ".join(str(part["msg"]).removeprefix("Value error, ") for part in error.errors())
        raise StartError(
            f"The server cannot be started once its ${{...}} are replaced: {reasons}. "
            "Check the variables it uses."
        ) from None


def _value(
    form: re.Match[str],
    where: str,
    lookup: Lookup,
    secrets: Lookup,
    extra: Mapping[str, str],
    named: Lookup,
) -> str:
    if form["service"] is not None:
        whole = form[0][2:-1]
        where_it_is = extra.get(whole) or lookup(whole)
        if where_it_is is None:
            raise _unset_service(form["service"], where)
        return where_it_is
    key, name = form["secret"], form["name"]
    if key is not None:
        value = secrets(key)
        if value is None and "/" not in key:
            value = named(key)
        if value is None:
            raise MissingSecretError(key, where)
        return value
    if name is None:
        value, default = named(form["input"]), form["otherwise"]
    else:
        default = form["default"]
        if form["env"]:
            value = lookup(name)
        elif name in extra:
            value = extra[name]
        else:
            value = named(name)
            value = lookup(name) if value is None else value
    if default is not None:
        return value or default
    if value is None:
        raise MissingSecretError(form["input"], where, "input") if name is None else _unset(form, where)
    return value


def _unset_service(name: str, where: str) -> StartError:
    return StartError(f"{where} uses where service '{name}' is, and it is not running.")


def _unset(form: re.Match[str], where: str) -> MissingVariableError:
    return MissingVariableError(form["name"], where, secret=not form["env"])


def _forms(text: str) -> Iterator[re.Match[str]]:
    """Find the well-formed ones, none of them inside another `${`."""
    at = 0
    while (at := text.find("${", at)) >= 0:
        if form := _FORM.match(text, at):
            yield form
            at = form.end()
        else:
            at = _closing(text, at)


def _closing(text: str, at: int) -> int:
    """Give the end of a malformed `${...}`: behind its brace, or behind the `${` if it is never closed."""
    depth = 0
    for brace in _BRACE.finditer(text, at):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.end()
    return at + 2
