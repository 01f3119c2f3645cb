"""Asking the person behind a client for the settings a server cannot do without, before anything is installed.

By a form, as MCP has it (elicitation, 2025-11-25): for plain values only, since a form must not ask for secrets.
Those are set at the command line, and the refusal says how.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from ..runners.errors import FaultError
from ..runners.secret_look import looks_secret
from ..tools.errors import echoed
from ..tools.outcome import Outcome, RefusalError
from .call import Call
from .models import InstallServerArguments
from .peer import offers

ROUNDS = 3
"""Times somebody is asked in one call: a bundle of the catalog asks for what its entry does not know of."""

MOST = 20
"""Values of one form; nobody reads more."""

_LONGEST = 300
"""Characters of what an entry says of a value."""

_T = TypeVar("_T")


async def asking_for_settings(
    args: InstallServerArguments, call: Call, work: Callable[[InstallServerArguments], Awaitable[_T]]
) -> _T:
    """Install, and ask for what is missing as long as somebody answers.

    Args:
        args: What was asked for.
        call: The call.
        work: Installs, or refuses and leaves nothing.

    Raises:
        RefusalError: As `work` raises it, or if somebody was asked and gave nothing.
    """
    for _ in range(ROUNDS):
        try:
            return await work(args)
        except RefusalError as refusal:
            missing = refusal.details.get("missing")
            if not missing or not can_be_asked(missing, call):
                raise
            given = await asked(args.source, missing, call)
        env = {one["name"]: _text(given[one["name"]]) for one in missing if _is_variable(one, given)}
        settings = {name: value for name, value in given.items() if name not in env}
        update = {"env": {**args.env, **env}, "settings": {**args.settings, **settings}}
        args = args.model_copy(update=update)
    return await work(args)


def _is_variable(one: dict[str, Any], given: dict[str, Any]) -> bool:
    return one["place"] == "environment" and one["name"] in given


def can_be_asked(missing: list[dict[str, Any]], call: Call) -> bool:
    """Tell whether the client can show a form, and all that is missing may be in one.

    Args:
        missing: Values as a refusal for want of them names them.
        call: The call.
    """
    if call.exchange is None or len(missing) > MOST:
        return False
    if any(one.get("secret") or looks_secret(one["name"]) for one in missing):
        return False
    return offers(call.exchange.capabilities, "elicitation/create", {})


async def asked(source: str, missing: list[dict[str, Any]], call: Call) -> dict[str, Any]:
    """Ask for values by a form.

    Args:
        source: Of what server.
        missing: The values; see `can_be_asked`.
        call: The call.

    Returns:
        What was given, by name.

    Raises:
        RefusalError: If nobody could be asked, or nobody answered.
    """
    assert call.exchange is not None
    names = ", ".join(one["name"] for one in missing)
    form = {
        "type": "object",
        "properties": {one["name"]: _field(one) for one in missing},
        "required": [one["name"] for one in missing],
    }
    message = (
        f"The server {_line(source)} cannot be installed without: {_line(names)}. Do not enter secrets here."
    )
    try:
        answer = await call.exchange.ask("elicitation/create", {"message": message, "requestedSchema": form})
    except FaultError as exc:
        raise RefusalError(
            Outcome.INVALID_ARGUMENTS,
            f"{echoed(source)} needs {names}, and the client could not be asked: {echoed(exc.message)}. Give them "
            "in the call. Nothing was installed.",
            missing=missing,
        ) from exc
    content = answer.get("content")
    if answer.get("action") != "accept" or not isinstance(content, dict):
        raise RefusalError(
            Outcome.REFUSED,
            f"{echoed(source)} was not installed: the person who was asked for {names} gave no answer.",
        )
    return {one["name"]: content[one["name"]] for one in missing if content.get(one["name"]) is not None}


def _field(one: dict[str, Any]) -> dict[str, Any]:
    """Make one field of a form (MCP `PrimitiveSchemaDefinition`)."""
    about = one.get("description") or ""
    if example := one.get("placeholder"):
        about += f" Such as {example}"
    field: dict[str, Any] = {"title": _line(one["name"]), "description": _line(about)}
    if choices := one.get("choices"):
        return {"type": "string", **field, "enum": list(choices)}
    kind = one.get("format")
    return {"type": kind if kind in ("number", "boolean") else "string", **field}


def _line(text: str) -> str:
    """Put what somebody else wrote on one short line, so that nothing in it passes for ToolScore's own words."""
    shown = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
