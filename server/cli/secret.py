"""`secret`: values that specs refer to by name. It needs no lock of the home, so a ToolScore may run meanwhile."""

from __future__ import annotations

import asyncio
import sys
from argparse import Namespace
from collections.abc import Iterable
from typing import Any

from ...runners.spec import silent
from ...tools import passphrase
from ...tools.errors import StoreError
from ...tools.named import LONGEST, NamedSecrets, UnknownSecretError
from ...tools.named_uses import uses
from ...tools.secrets import Secrets
from ..database_home import store_of
from ..home import Home, prepare
from ..owner import current_owner
from ..settings import Settings
from .output import Output
from .passphrase import hidden, on_terminal
from .results import ToolFailedError, structured


def run(options: Namespace, settings: Settings, out: Output) -> int:
    """Set, list, delete or rename secrets, or seal the file they are in.

    Returns:
        The exit status.

    Raises:
        HomeError: If the home cannot be used.
        SecretsError: If the secrets cannot.
    """
    home = Home.at(settings.home)
    secrets = Secrets(home.secrets_file)
    named = NamedSecrets(secrets, home.path)
    try:
        match options.what:
            case "set":
                prepare(home)
                return _set(options, settings, named, home, out)
            case "delete":
                return _delete(options.names[0], settings, named, home, out)
            case "rename":
                return _rename(options.names[0], options.names[1], settings, named, home, out)
            case "seal":
                prepare(home)
                return _seal(secrets, home, out)
            case "unseal":
                return _unseal(secrets, out)
            case _:
                _list(settings, named, home, out)
    except UnknownSecretError as error:
        out.error(str(error))
        return 4
    return 0


def _uses(settings: Settings, home: Home, names: Iterable[str]) -> dict[str, list[str]]:
    try:
        return uses(store_of(settings, home), names)
    except StoreError:  # the one that is being set may be what opens it
        return {name: [] for name in names}


def _set(options: Namespace, settings: Settings, named: NamedSecrets, home: Home, out: Output) -> int:
    name = options.names[0]
    if on_terminal():
        value = hidden(f"Value of {name}: ")
    else:
        value = sys.stdin.read(LONGEST + 2)
        value = value.removesuffix("\n").removesuffix("\r")  # of `echo`, which is no part of it
    put = named.set(name, value, options.keep)
    servers = _uses(settings, home, [name])[name]
    started = asyncio.run(_start_waiting(name, servers, settings, home, out)) if servers else []
    if out.json_wanted:
        out.document({"name": name, "kept": put.where, "servers": servers, "started": started})
        return 0
    out.line(f"{name}: kept in the {put.where}")
    if put.why:
        out.remark(f"It is not in the system's keyring: {put.why}.")
    if started:
        out.remark(f"Started: {', '.join(started)}")
    if others := [one for one in servers if one not in started]:
        out.remark(f"It takes effect at the next start of: {', '.join(others)}")
    return 0


async def _start_waiting(
    name: str, servers: list[str], settings: Settings, home: Home, out: Output
) -> list[str]:
    """Have the running ToolScore start the servers that failed for want of a secret; give their names."""
    from .backend import BackendError, open_backend

    owner = current_owner(home)
    if owner is None or owner.mode == "command":
        return []
    started = []
    try:
        async with open_backend(settings, out.remark) as backend:
            listed: list[dict[str, Any]] = structured(await backend.call("list_servers", {}, silent))[
                "servers"
            ]
            for one in listed:
                wants = f"`toolscore secret set {name}`" in (one["reason"] or "")
                if one["name"] in servers and one["enabled"] and one["state"] == "FAILED" and wants:
                    asked = {"name": one["name"], "action": "start"}
                    try:
                        structured(await backend.call("manage_server", asked, silent))
                        started.append(one["name"])
                    except ToolFailedError as failure:
                        out.remark(f"{one['name']} was tried again, and did not start: {failure}")
    except BackendError as error:
        out.remark(f"The running ToolScore was not asked to start what waits for it: {error}")
    return started


def _delete(name: str, settings: Settings, named: NamedSecrets, home: Home, out: Output) -> int:
    named.delete(name)
    servers = _uses(settings, home, [name])[name]
    if out.json_wanted:
        out.document({"deleted": name, "servers": servers})
        return 0
    out.line(f"deleted: {name}")
    if servers:
        out.remark(f"These refer to it, and do not start without it: {', '.join(servers)}")
    return 0


def _rename(old: str, new: str, settings: Settings, named: NamedSecrets, home: Home, out: Output) -> int:
    put = named.rename(old, new)
    servers = _uses(settings, home, [old])[old]
    if out.json_wanted:
        out.document({"renamed": old, "name": new, "kept": put.where, "servers": servers})
        return 0
    out.line(f"{old} is {new} now")
    if servers:
        out.remark(f"These refer to it by its old name: {', '.join(servers)}")
    return 0


def _seal(secrets: Secrets, home: Home, out: Output) -> int:
    if secrets.sealed:
        out.error("The secrets are sealed already. To change the passphrase, unseal them first.")
        return 1
    phrase = passphrase.given(ask=False)
    if phrase is None and on_terminal():
        phrase = hidden("New passphrase: ")
        if phrase and phrase != hidden("The same again: "):
            out.error("These were two different passphrases. Nothing was changed.")
            return 1
    if not phrase:
        out.error(
            f"There is no passphrase to seal with: set {passphrase.FILE_VARIABLE} or {passphrase.VARIABLE}, or "
            "run this on a terminal."
        )
        return 1
    passphrase.remember(phrase)
    secrets.seal(phrase)
    if out.json_wanted:
        out.document({"sealed": True})
    else:
        out.line("sealed: the secrets can be read with the passphrase only")
        if (owner := current_owner(home)) is not None and owner.mode != "command":
            out.remark(
                "The ToolScore that runs now cannot read them any more: restart it with the passphrase."
            )
    return 0


def _unseal(secrets: Secrets, out: Output) -> int:
    if not secrets.sealed:
        out.error("The secrets are not sealed.")
        return 1
    secrets.unseal()
    if out.json_wanted:
        out.document({"sealed": False})
    else:
        out.line("unsealed: whoever can read the file can read the secrets")
    return 0


def _list(settings: Settings, named: NamedSecrets, home: Home, out: Output) -> None:
    names = named.names()
    used = _uses(settings, home, names)
    if out.json_wanted:
        listed = [{"name": name, "kept": where, "servers": used[name]} for name, where in names.items()]
        out.document({"secrets": listed})
    elif not names:
        out.line("no secrets: `toolscore secret set NAME` keeps one")
    else:
        rows = [(name, where, ", ".join(used[name]) or "-") for name, where in names.items()]
        out.table(("secret", "kept in", "used by"), rows)
