"""What ToolScore's own tools are about to do, held against the policy: installing, managing, approving."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..runners.errors import SourceError
from ..runners.spec import SourceKind
from ..runners.template import references
from ..tools.caller import CALL, MANAGE
from ..tools.catalog.installing import PREFIX as REGISTRY
from ..tools.functions.names import SERVER as FUNCTIONS
from ..tools.groups import resolve_names
from ..tools.meant import unknown_server
from ..tools.names import OWN_SERVER
from ..tools.outcome import Outcome, RefusalError
from ..tools.policy.policy import subject_of
from ..tools.policy.rule import Action, Rule, Subject
from ..tools.sight import CURRENT, unseen, visible
from ..tools.whereabouts import from_there
from .call import Call

if TYPE_CHECKING:
    from ..tools.catalog.plan import Plan
    from ..tools.policy.gate import Gate
    from ..tools.tool import Tool
    from .toolset import ToolSet

MANAGING = (
    "uninstall_server",
    "unregister_tool",
    "manage_server",
    "configure_server",
    "upgrade_server",
    "accept_server",
)
"""Own tools that change servers, which their argument `name` tells."""

OF_ALL = {"manage_function": FUNCTIONS, "sync_catalog": OWN_SERVER, "reload_configuration": OWN_SERVER}
"""Own tools that change something else, each with the server that a rule names for it."""

APPROVING = ("approve_tool", "reject_tool")
"""Own tools by which tools are approved that are new or other than before."""

INSTALLING = ("install_server", "register_tool", "sync_server")

_ASKED_ALL_THE_SAME = ("env", "args", "headers", "packages")
"""Arguments by which a source does something else than by itself: a grant for the source does not cover them."""

_RANK = {"allow": 0, "ask": 1, "deny": 2}
"""Answers, the strictest last."""


class Judging:
    """Holds calls of own tools against the policy.

    Args:
        gate: Keeps to it.
        toolset: The own tools, and what they are about.
    """

    def __init__(self, gate: Gate, toolset: ToolSet) -> None:
        self._gate = gate
        self._toolset = toolset

    async def judged(self, tool: str, arguments: dict[str, Any], call: Call) -> tuple[Call, bool]:
        """Judge one call of an own tool.

        Args:
            tool: Its name.
            arguments: Its arguments, looked at before.
            call: The call.

        Returns:
            The call, with the right that the policy grants for it, and whether a person is to be asked in any case.

        Raises:
            RefusalError: If the policy says no.
        """
        profile = self._gate.profile(call.caller)
        if profile is None:
            return call, False
        plan: Plan | None = None
        action: Action
        if tool in INSTALLING:
            action = "install"
            texts, plan = await self._sources(tool, arguments, call)
            subjects = [Subject(source=text) for text in texts]
        elif tool in MANAGING:
            action, subjects = "manage", self._servers(arguments["name"])
        elif tool in OF_ALL:
            action, subjects = "manage", [Subject(OF_ALL[tool])]
        elif tool in APPROVING:
            action, subjects = "approve", self._approved(arguments)
        else:
            self._look(tool, arguments, call)
            return call, False
        rule = profile.strictest(action, subjects)
        if (also := await self._also(tool, arguments)) is not None:
            other = profile.strictest(*also)
            if other is not None and (rule is None or _RANK[other.answer] > _RANK[rule.answer]):
                rule, (action, subjects) = other, also
        if rule is None:
            return call, False
        if rule.answer == "deny":
            raise refused(rule, call.caller.principal, action, subjects)
        if rule.answer == "ask":
            return call, call.agreed is None
        rights = call.caller.rights
        covered = not any(arguments.get(name) for name in _ASKED_ALL_THE_SAME) and not (
            tool == "sync_server" or self._elsewhere(tool, arguments) or _refers(tool, arguments)
        )
        if rule.grant and covered and MANAGE not in rights and CALL in rights:
            granted = replace(call.caller, rights=rights | {MANAGE})
            return replace(call, caller=granted, agreed=plan or call.agreed), False
        return call, False

    async def _also(self, tool: str, arguments: dict[str, Any]) -> tuple[Action, list[Subject]] | None:
        """Give what else a call does: a lock changes a server that is there, and an upgrade fetches something.

        Raises:
            RefusalError: If the name of a server is taken that may not be known here, or there is no such version.
        """
        name = arguments.get("name")
        row = self._toolset.library.servers.get(name) if isinstance(name, str) else None
        if row is None:
            return None
        if tool == "sync_server":
            if not visible([row.name]):
                raise RefusalError(
                    Outcome.NAME_TAKEN,
                    f"A server named '{name}' is already there. Give this one another name.",
                )
            return "manage", [Subject(row.name)]
        if tool != "upgrade_server" or arguments.get("rollback") or row.installation.directory is None:
            return None
        from ..tools.pins.upgrading import next_version

        candidate = await next_version(self._toolset.servers, row, arguments.get("to"))
        places = [candidate.source, candidate.label or row.installation.source]
        names = [one for place in places for one in names_of(place)]
        return "install", [Subject(source=one) for one in dict.fromkeys(names)]

    def _elsewhere(self, tool: str, arguments: dict[str, Any]) -> bool:
        """Tell whether an upgrade takes a server from another place, of which who granted it knew nothing."""
        row = self._toolset.library.servers.get(str(arguments.get("name")))
        return (
            tool == "upgrade_server"
            and bool(arguments.get("to"))
            and (row is None or row.installation.kind in (SourceKind.FOLDER, SourceKind.MCPB))
        )

    def _look(self, tool: str, arguments: dict[str, Any], call: Call) -> None:
        """Make sure that what an own tool that only looks, or holds a server, names may be known and used.

        Raises:
            RefusalError: If not.
        """
        name = arguments.get("name")
        if not isinstance(name, str):
            return
        if tool == "acquire_server":
            profile = self._gate.profile(call.caller)
            seen = unseen(self._toolset.library, name) is None  # who asks for any other is told so
            if profile is not None and seen and not profile.may_call_any(name):
                raise refused(profile.request(name).rule, call.caller.principal, "call", [Subject(name)])
        elif tool == "show_functions":
            sight = CURRENT.get()
            full = f"{FUNCTIONS}__{name.removeprefix(f'{FUNCTIONS}__')}"
            if sight is not None and not sight.named(full, FUNCTIONS):
                raise self._toolset.router.lookup.unknown(full)

    def _servers(self, name: str) -> list[Subject]:
        library = self._toolset.library
        function = name.removeprefix(f"{FUNCTIONS}__")
        if name not in library.servers and f"{FUNCTIONS}__{function}" in library.tools:
            return [Subject(FUNCTIONS)]
        if name in library.servers or name in library.missing or name in library.held:
            if (hidden := unseen(library, name)) is not None:
                raise hidden
            return [Subject(name)]
        known = set(visible(library.servers))
        shown = {one: keeping for one, keeping in self._toolset.servers.keepings().items() if one in known}
        resolve_names(name, shown)  # which refuses, in words of what may be known
        # All that is meant, also what may not be known: it would be changed as well.
        return [Subject(one) for one in resolve_names(name, self._toolset.servers.keepings())] or [
            Subject(name)
        ]

    def _approved(self, arguments: dict[str, Any]) -> list[Subject]:
        server, tool = str(arguments.get("server") or ""), str(arguments.get("tool") or "")
        if not visible([server]):
            raise unknown_server(server, visible(self._toolset.library.servers))
        known = self._toolset.library.tools.get(tool)
        if known is None:  # by its name at its server, which may be written quite otherwise
            of_it = self._toolset.library.of(server)
            known = next((one for one in of_it if one.original == tool), None)
        if known is not None and known.server == (server or known.server):
            return subjects_of(self._toolset, known)
        return [Subject(server, f"{server}__{tool}" if tool else "")]

    async def _sources(
        self, tool: str, arguments: dict[str, Any], call: Call
    ) -> tuple[list[str], Plan | None]:
        """Give all the names of what is to be installed, as rules have them."""
        if tool == "sync_server":
            locked = arguments["locked"]
            places = [arguments.get("source"), *(locked.get(key) for key in ("source", "fetched", "url"))]
            if locked.get("kind") in ("command", "registered") and isinstance(locked.get("command"), str):
                words = [str(word) for word in locked.get("args") or ()]
                places.append(f"command: {shlex.join([locked['command'], *words])}")
            from ..tools.pins.question import addresses

            places += addresses(locked)
            given = [str(place).strip() for place in places if place]
            return list(dict.fromkeys(name for place in given for name in names_of(place))), None
        if tool == "register_tool":
            if arguments.get("source") is not None:
                return [f"function:{arguments.get('name')}"], None
            found = [str(arguments["url"])] if arguments.get("url") else []
            if arguments.get("command"):
                command = from_there(str(arguments["command"]), call.caller)
                found.append(f"command: {shlex.join([command, *(arguments.get('args') or ())])}")
            return found, None
        source = str(arguments["source"]).strip()
        if not source.startswith(REGISTRY):
            return names_of(from_there(source, call.caller), source), None
        from ..tools.catalog.installing import planned

        plan = await planned(self._toolset.servers, source)
        inner = names_of(plan.source) if plan.source is not None else [str(plan.transport.url)]
        return list(dict.fromkeys([source, f"{REGISTRY}{plan.entry.name}", *inner])), plan


def subjects_of(toolset: ToolSet, tool: Tool) -> list[Subject]:
    """Give what a rule about approving is held against: a tool as it is known, and as it would be from then on."""
    found = [subject_of(tool)]
    record = toolset.approvals.record(tool.server, tool.original) if toolset.approvals is not None else None
    if record is not None and record.held_definition is not None:
        found.append(subject_of(replace(tool, definition=record.held_definition)))
    return found


def _refers(tool: str, arguments: dict[str, Any]) -> bool:
    """Tell whether a secret or a variable is to be put in: who granted a source did not grant it those."""
    settings = arguments.get("settings")
    given = [arguments.get("url"), arguments.get("command")]
    if tool == "install_server":  # of register_tool it is Python
        given.append(arguments.get("source"))
    found = references([*given, *(settings.values() if isinstance(settings, dict) else ())])
    return any(one != "${PORT}" for one in found)


def names_of(source: str, *also: str) -> list[str]:
    """Give the names of a source: as it is written, and in the one form its kind has."""
    from ..runners.installers.source import parse

    found = [*also, source]
    try:
        parsed = parse(source)
    except SourceError:  # the installer says so
        return list(dict.fromkeys(found))
    kind = str(parsed.kind)
    if kind == "pypi":
        # PEP 503: upper and lower case, and `-_.`, are no difference.
        name = re.sub(r"[-_.]+", "-", parsed.name).lower()
        found = [f"pypi:{name}" + (f"@{parsed.version}" if parsed.version else "")]
    elif kind == "npm":
        found = [f"npm:{parsed.name}" + (f"@{parsed.version}" if parsed.version else "")]
    elif kind == "docker":
        found = [f"docker:{parsed.path or parsed.name}"]
    elif kind == "command":
        found = [f"command: {shlex.join(parsed.argv)}"]
    elif parsed.path is not None:
        found = [str(parsed.path)]
    return list(dict.fromkeys(found))


def refused(rule: Rule | None, principal: str, action: Action, subjects: list[Subject]) -> RefusalError:
    """Give the refusal of what the policy does not allow."""
    named = "no rule" if rule is None else f"rule {rule.number} of the policy"
    why = f" {rule.why.rstrip('.')}." if rule is not None and rule.why else ""
    sight = CURRENT.get()
    shown = [str(one) for one in subjects if one.source or sight is None or sight.server(one.server)]
    what = ", ".join(shown[:3]) + (" and more" if len(shown) != len(subjects) or len(shown) > 3 else "")
    return RefusalError(
        Outcome.REFUSED,
        f"The policy does not let '{principal}' {action} {what[:300]} ({named}).{why} explain_policy says more.",
    )
