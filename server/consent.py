"""Asking the person behind a client that may not manage servers by itself, before it does."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..runners.errors import FaultError
from ..tools.caller import CALL, MANAGE
from ..tools.catalog.installing import PREFIX as REGISTRY
from ..tools.errors import echoed
from ..tools.outcome import Outcome, RefusalError
from .call import Call

if TYPE_CHECKING:
    from ..tools.servers import Servers

_WHAT = {
    "install_server": "fetch {source} and run it on this machine as a server",
    "register_tool": "run or reach a server named '{name}' ({how})",
    "uninstall_server": "uninstall the server '{name}' and delete what is its own",
    "unregister_tool": "remove the server '{name}'",
    "manage_function": "{action} the function '{name}', which is a tool",
    "sync_catalog": "read servers that could be installed into the catalog (source: {source})",
    "manage_server": "{action} the server '{name}'",
    "configure_server": "set {settings} for the server '{name}'",
    "accept_server": "take the tools of the server '{name}' as they are now for its pin",
    "upgrade_server": "put another version of the server '{name}' in its place",
    "sync_server": "install the server '{name}' as a lock says",
    "reload_configuration": "read the configuration file again",
}
"""What each of the tools that change something is about to do. `ensure_tools` asks by itself, once it knows what."""

LONGEST = 1_500
"""Characters of a question: what is longer is not read to its end."""

_FORM = {
    "type": "object",
    "properties": {"allow": {"type": "boolean", "title": "Allow it", "default": True}},
}


async def consented(
    tool: str, arguments: dict[str, Any], call: Call, servers: Servers, *, ask: bool = False
) -> Call:
    """Let a call of an own tool through if its caller may manage servers, or a person at the client agrees.

    Args:
        tool: The own tool's name.
        arguments: Its arguments, looked at before.
        call: The call.
        servers: Tells what an entry of the catalog would fetch and run.
        ask: Whether the person is asked in any case, as the policy says.

    Returns:
        The call, with the right to do this one thing.

    Raises:
        RefusalError: If the caller may not, and nobody could be asked or agreed; or there is nothing to ask about.
    """
    caller = call.caller
    if tool not in _WHAT or (MANAGE in caller.rights and not ask) or CALL not in caller.rights:
        return call
    given = [arguments.get("command"), *(arguments.get("args") or ()), arguments.get("url")]
    how = shlex.join(str(word) for word in given if word)
    what = _WHAT[tool].format_map({**arguments, "how": how})
    if tool == "sync_catalog" and arguments.get("forget"):
        what = f"forget a source of the catalog, with the servers it gave (source: {arguments['source']})"
    if tool in ("upgrade_server", "sync_server"):
        from ..tools.pins.question import fetches
        from ..tools.pins.question import question as pinned_question

        what = pinned_question(servers, tool, arguments)
        what += await fetches(servers, arguments) if tool == "upgrade_server" else ""
    entry = str(arguments.get("source")).strip() if tool == "install_server" else ""
    plan = None
    if entry.startswith(REGISTRY):
        from ..tools.catalog.installing import planned

        plan = await planned(servers, entry)
    if tool == "register_tool" and (source := arguments.get("source")) is not None:
        from ..tools.functions.function import packages_of

        name, lines = arguments.get("name"), len(str(source).splitlines())
        what = f"run code in the sandbox as the tool 'functions__{name}' when it is called ({lines} lines of Python)"
        if packages := arguments.get("packages") or packages_of(str(source)):
            what += f", with the packages {', '.join(map(str, packages))}"
    if tool == "uninstall_server" and arguments.get("volumes"):
        what += ", with its volumes and all data in them"
    if plan is not None:
        from ..tools.catalog.question import question

        what = question(plan, arguments.get("settings") or {}, arguments.get("env") or {}, caller.cwd)
    if tool == "install_server" and how:
        what += f", with the arguments {how}"
    if tool == "install_server" and (container := arguments.get("container")):
        what += f", in a container with {json.dumps(container, ensure_ascii=False)[:600]}"
    settings = (arguments.get("settings") or ()) if tool == "install_server" else ()
    names = [*(arguments.get("env") or ()), *settings, *(arguments.get("headers") or ())]
    if names and plan is None:
        what += f", with values for {', '.join(names)}"  # a variable can change what a program does
        from ..runners.template import references

        given = [*(arguments.get("env") or {}).values(), *(arguments.get("headers") or {}).values()]
        if found := references(given):
            what += f", among them {', '.join(found)}"  # secrets of other servers, or of the operator
    await agreed(what, call, "The policy has a person asked before this is done." if ask else None)
    return replace(call, caller=replace(caller, rights=caller.rights | {MANAGE}), agreed=plan)


async def agreed(what: str, call: Call, why: str | None = None) -> None:
    """Ask the person at the client whether something may be done, and return only if they agree.

    A caller who may manage servers can be asked too, where what is done was not the client's own choice.

    Args:
        what: What is about to be done, as in "asks to ...".
        call: The call.
        why: Why somebody is asked, where that is not for lack of a right.

    Raises:
        RefusalError: If nobody could be asked (`needs_approval`), or nobody agreed (`refused`).
    """
    caller = call.caller
    # On one line: nothing in it may push the question out of sight. Nor is any of it left out.
    too_long = len(what) > 2 * LONGEST
    if not too_long:
        what = " ".join("".join(one if one.isprintable() else " " for one in what).split())
    if too_long or len(what) > LONGEST:
        raise RefusalError(
            Outcome.INVALID_ARGUMENTS,
            f"A person would have to read more than {LONGEST} characters to agree to this: make it shorter.",
        )
    if MANAGE in caller.rights:
        who, refused = "", "It was not done"
        grant = "Make the call yourself, if that is what is wanted."
    else:
        who = f" ('{caller.principal}', over the network)"
        refused = f"'{caller.principal}' may not {what} by itself"
        grant = (
            "To allow it without asking, give it a token that may: "
            "`toolscore token create NAME --allow call,manage`, or the setting network.rights."
        )
    if why is not None:
        grant = why
    if call.exchange is None:
        outcome = Outcome.NEEDS_APPROVAL if MANAGE in caller.rights else Outcome.REFUSED
        raise RefusalError(outcome, f"{refused}, and there is nobody to ask. {grant}")
    try:
        answer = await call.exchange.ask(
            "elicitation/create",
            {"message": f"A client of ToolScore{who} asks to {what}. Allow it?", "requestedSchema": _FORM},
        )
    except FaultError as exc:
        raise RefusalError(
            Outcome.NEEDS_APPROVAL, f"{refused}, and could not be asked: {echoed(exc.message)}. {grant}"
        ) from exc
    content = answer.get("content")
    if answer.get("action") != "accept" or (isinstance(content, dict) and content.get("allow") is False):
        raise RefusalError(Outcome.REFUSED, f"It was not allowed to {what}: the person asked said no.")
    # Left empty, the form stands as it was shown; anything else is not the answer to it, and so no consent.
    empty = content is None or (isinstance(content, dict) and not content)
    if not empty and not clear_yes(answer):
        raise RefusalError(Outcome.REFUSED, f"It was not allowed to {what}: the answer was no clear yes.")


def clear_yes(answer: dict[str, Any]) -> bool:
    """Tell whether the answer to a question with one tick, `allow`, is a yes and nothing else."""
    content = answer.get("content")
    if answer.get("action") != "accept":
        return False
    # Left empty, the form stands as it was shown.
    empty = content is None or content == {}
    return empty or (isinstance(content, dict) and content.get("allow") is True and len(content) == 1)
