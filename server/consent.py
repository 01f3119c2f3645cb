"""Asking the person behind a client that may not manage servers by itself, before it does."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

from ..runners.errors import FaultError
from ..tools.caller import CALL, MANAGE
from ..tools.outcome import Outcome, RefusalError
from .call import Call

_WHAT = {
    "install_server": "fetch {source} and run it on this machine as a server",
    "register_tool": "run or reach a server named '{name}' ({how})",
    "uninstall_server": "uninstall the server '{name}' and delete what is its own",
    "unregister_tool": "remove the server '{name}'",
    "manage_server": "{action} the server '{name}'",
    "configure_server": "set {settings} for the server '{name}'",
    "reload_configuration": "read the configuration file again",
}
"""What each of the tools that change something is about to do."""

_FORM = {
    "type": "object",
    "properties": {"allow": {"type": "boolean", "title": "Allow it", "default": True}},
}


async def consented(tool: str, arguments: dict[str, Any], call: Call) -> Call:
    """Let a call of an own tool through if its caller may manage servers, or a person at the client agrees.

    Args:
        tool: The own tool's name.
        arguments: Its arguments, looked at before.
        call: The call.

    Returns:
        The call, with the right to do this one thing.

    Raises:
        RefusalError: If the caller may not, and nobody could be asked or agreed.
    """
    caller = call.caller
    if tool not in _WHAT or MANAGE in caller.rights or CALL not in caller.rights:
        return call
    given = [arguments.get("command"), *(arguments.get("args") or ()), arguments.get("url")]
    how = shlex.join(str(word) for word in given if word)
    what = _WHAT[tool].format_map({**arguments, "how": how})
    if tool == "install_server" and how:
        what += f", with the arguments {how}"
    if names := [*(arguments.get("env") or ()), *(arguments.get("headers") or ())]:
        what += f", with values for {', '.join(names)}"  # a variable can change what a program does
    # On one line: nothing in it may push the question out of sight.
    what = " ".join("".join(one if one.isprintable() else " " for one in what).split())
    grant = (
        "To allow it without asking, give it a token that may: `toolscore token create NAME --allow call,manage`, "
        "or the setting network.rights."
    )
    if call.exchange is None:
        raise RefusalError(Outcome.REFUSED, f"'{caller.principal}' may not {what}. {grant}")
    try:
        answer = await call.exchange.ask(
            "elicitation/create",
            {
                "message": f"A client of ToolScore ('{caller.principal}', over the network) asks to {what}. "
                "Allow it?",
                "requestedSchema": _FORM,
            },
        )
    except FaultError as exc:
        raise RefusalError(
            Outcome.NEEDS_APPROVAL,
            f"'{caller.principal}' may not {what} by itself, and could not be asked: {exc.message}. {grant}",
        ) from exc
    content = answer.get("content")
    if answer.get("action") != "accept" or (isinstance(content, dict) and content.get("allow") is False):
        raise RefusalError(Outcome.REFUSED, f"It was not allowed to {what}: the person asked said no.")
    return replace(call, caller=replace(caller, rights=caller.rights | {MANAGE}))
