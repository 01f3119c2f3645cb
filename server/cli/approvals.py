"""`approvals`, `approve` and `reject`: what is in quarantine, and the decision on it."""

from __future__ import annotations

import asyncio
import sys
from argparse import Namespace
from typing import Any

from ...runners.spec import silent
from ..database_home import has_store
from ..settings import Settings
from .backend import Backend, open_backend
from .output import Output
from .results import structured


async def run(options: Namespace, settings: Settings, out: Output) -> int:
    """Show what is in quarantine, approve it, or note that it is not wanted.

    Returns:
        The exit status: 1 where something was to be decided and was not.
    """
    if not has_store(settings):
        if options.command == "approvals" and options.server is None:
            if out.json_wanted:
                out.document({"tools": [], "noted": [], "next": "Nothing is in quarantine."})
            else:
                out.line("nothing is in quarantine")
            return 0
        out.error(f"There is no server named '{options.server}'. There are: none yet.")
        return 4
    async with open_backend(settings, out.remark) as backend:
        told = await _held(backend, options.server)
        if options.command == "approvals":
            return _shown(told, out)
        return await _decided(options, told["tools"], backend, out)


async def accept(backend: Backend, server: str, out: Output) -> list[str]:
    """Approve what was held back of a server that a person has just added, findings or not.

    Returns:
        The tools.
    """
    done = []
    for one in (await _held(backend, server))["tools"]:
        for line in one["excerpts"] or ():
            out.remark(f"accepted: {one['tool']}: {line}")
        await _tell(backend, "approve_tool", one)
        done.append(one["tool"])
    return done


async def _held(backend: Backend, server: str | None) -> dict[str, Any]:
    asked = {} if server is None else {"server": server}
    return structured(await backend.call("list_quarantined", asked, silent))


async def _tell(backend: Backend, tool: str, one: dict[str, Any]) -> dict[str, Any]:
    # Exactly what was shown, whatever the server lists by now.
    asked = {"server": one["server"], "tool": one["tool"], "digest": one["digest"]}
    return structured(await backend.call(tool, asked, silent))


def _shown(told: dict[str, Any], out: Output) -> int:
    if out.json_wanted:
        out.document(told)
        return 0
    if not told["tools"]:
        out.line("nothing is in quarantine")
    for one in told["tools"]:
        _show(one, out)
    if told["tools"]:
        out.line(
            "`toolscore approve SERVER TOOL` approves one of them, `toolscore reject SERVER TOOL` notes a no"
        )
    for note in told["noted"]:
        out.line(f"approved, with findings: {note}")
    return 0


def _show(one: dict[str, Any], out: Output) -> None:
    rejected = ", rejected" if one["rejected"] else ""
    out.line(f"{one['tool']}  (server {one['server']}, in quarantine since {one['since']}{rejected})")
    if one["original"] not in (None, one["tool"].partition("__")[2]):
        out.line(f"  its name at the server: {one['original']}")
    out.line(f"  {one['why']}")
    out.line(f"  digest {one['digest']}")
    for line in one["excerpts"] or ():
        out.line(f"  ! {line}")
    for line in one["diff"] or ():
        out.line(f"  {line}")
    out.line()


async def _decided(options: Namespace, held: list[dict[str, Any]], backend: Backend, out: Output) -> int:
    wanted = [
        one
        for one in held
        if options.tool in (None, one["tool"], one["original"], one["tool"].partition("__")[2])
    ]
    if not wanted:
        what = (
            f"tool '{options.tool}' of server '{options.server}'"
            if options.tool
            else f"server '{options.server}'"
        )
        out.error(f"Nothing of {what} is in quarantine; `toolscore approvals` shows what is.")
        return 4
    if options.digest is not None:
        matching = [one for one in wanted if one["digest"].startswith(options.digest)]
        if len(matching) != 1 or len(options.digest) < 12:
            out.error(
                f"No definition in quarantine has the digest '{options.digest}': it has changed again, or fewer than "
                "12 characters were given. `toolscore approvals` shows what there is now. Nothing was done."
            )
            return 1
        wanted = matching
    done, left = [], 0
    verb = "approve" if options.command == "approve" else "reject"
    for one in wanted:
        if not out.json_wanted:
            _show(one, out)
        if not (options.yes or options.digest is not None):
            if not (sys.stdin.isatty() and out.terminal):
                out.error(
                    f"Nobody is here to be asked. To approve exactly this: toolscore approve {options.server} "
                    f"--digest {one['digest']}"
                )
                left += 1
                continue
            answer = await asyncio.to_thread(input, f"Approve {one['tool']} as it is now? [y/N] ")
            if answer.strip().lower() not in ("y", "yes"):
                left += 1
                continue
        done.append(await _tell(backend, f"{verb}_tool", one))
        if not out.json_wanted:
            out.line(f"{done[-1]['state']} {one['tool']}")
    if out.json_wanted:
        out.document({"done": done, "left": left})
    return 1 if left else 0
