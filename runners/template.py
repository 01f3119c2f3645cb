"""Templates in a spec: `${NAME}` and its kin, replaced at each start and never kept replaced.

A subset of the shell's parameter expansion (POSIX 2.6.2), with the `env:` prefix other MCP clients write.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from .errors import MissingVariableError, RunnerError, StartError
from .spec import ServerSpec

Lookup = Callable[[str], str | None]
"""Gives the value of a name, or `None` where it has none."""

_FORM = re.compile(
    r"\$\{(?:"
    r"(?P<env>env:)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^{}]*))?"
    r"|secret:(?P<secret>[^{}]+)"
    r")\}"
)
_BRACE = re.compile(r"[{}]")


class MissingSecretError(MissingVariableError):
    """A `${secret:KEY}` in a spec has no value. It disables that server only.

    Args:
        key: The key that is not in the secrets file.
        where: The part of the spec that uses it, such as `env.API_KEY`.
    """

    def __init__(self, key: str, where: str) -> None:
        RunnerError.__init__(
            self,
            f"The secret {key} is not in the secrets file, and {where} uses it: install or register the "
            "server again with its value.",
        )
        self.variable = f"secret:{key}"


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


def variables(spec: ServerSpec) -> frozenset[str]:
    """Give the names of the environment variables that a spec is expanded with."""
    texts = [spec.command, spec.cwd, spec.url, *spec.args, *spec.env.values(), *spec.headers.values()]
    texts += spec.confine.paths if spec.confine else ()
    forms = (form for text in texts if text is not None for form in _forms(text))
    return frozenset(form["name"] for form in forms if form["name"] is not None)


def expand(text: str, where: str, lookup: Lookup, secrets: Lookup, extra: Mapping[str, str]) -> str:
    """Replace every `${NAME}`, `${NAME:-default}`, `${env:NAME}`, `${env:NAME:-default}` and `${secret:KEY}`.

    A default counts where the variable is unset or empty. What was put in is not looked at again. Everything
    else stays as it is: `$$`, `$NAME`, and a `${` that is nested or not well-formed.

    Args:
        text: The template.
        where: The part of the spec it stands in, for the error.
        lookup: Environment variables.
        secrets: Secrets.
        extra: Values of this start, such as `PORT`; they come before the environment, but not for `env:`.

    Raises:
        MissingVariableError: If a variable without a default is not set.
        MissingSecretError: If a secret is not there.
    """
    parts: list[str] = []
    end = 0
    for form in _forms(text):
        parts += text[end : form.start()], _value(form, where, lookup, secrets, extra)
        end = form.end()
    return "".join((*parts, text[end:]))


def expand_spec(spec: ServerSpec, lookup: Lookup, secrets: Lookup, extra: Mapping[str, str]) -> ServerSpec:
    """Replace the templates in every part of a spec. Names of variables and headers are no templates.

    Raises:
        MissingVariableError: If a variable or secret is not set; it names the part, such as `args[2]`.
        StartError: If what results is not a spec, such as an empty command.
    """

    def one(text: str, where: str) -> str:
        return expand(text, where, lookup, secrets, extra)

    values: dict[str, Any] = {
        "command": None if spec.command is None else one(spec.command, "command"),
        "args": tuple(one(text, f"args[{index}]") for index, text in enumerate(spec.args)),
        "env": {name: one(text, f"env.{name}") for name, text in spec.env.items()},
        "cwd": None if spec.cwd is None else one(spec.cwd, "cwd"),
        "url": None if spec.url is None else one(spec.url, "url"),
        "headers": {name: one(text, f"headers.{name}") for name, text in spec.headers.items()},
    }
    values["sse"] = spec.sse
    if spec.confine is not None:
        values["confine"] = spec.confine.each(one)
    try:
        return ServerSpec.model_validate(values)
    except ValidationError as error:
        # Not its text: that quotes the values, secrets among them.
        reasons = "; ".join(str(part["msg"]).removeprefix("Value error, ") for part in error.errors())
        raise StartError(
            f"The server cannot be started once its ${{...}} are replaced: {reasons}. "
            "Check the variables it uses."
        ) from None


def _value(form: re.Match[str], where: str, lookup: Lookup, secrets: Lookup, extra: Mapping[str, str]) -> str:
    key, name, default = form["secret"], form["name"], form["default"]
    if key is not None:
        value = secrets(key)
        if value is None:
            raise MissingSecretError(key, where)
        return value
    value = extra[name] if name in extra and not form["env"] else lookup(name)
    if default is not None:
        return value or default
    if value is None:
        raise MissingVariableError(name, where)
    return value


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
