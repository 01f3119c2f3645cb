"""`status`: who owns the home, and how its servers are."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from typing import Any

from ...runners.spec import silent
from ..database_home import has_store
from ..home import Home
from ..owner import current_owner
from ..settings import Loaded, Settings
from .backend import open_backend
from .output import Output
from .results import ToolFailedError, shown, structured
from .wording import for_people


async def status(loaded: Loaded, out: Output, name: str | None = None) -> int:
    """Show the owner and the servers, or one server in full.

    Returns:
        The exit status: 0, whether one runs or not.
    """
    settings = loaded.settings
    home = Home.at(settings.home)
    owner = current_owner(home)
    if name is not None:
        return await _one(name, settings, out)
    servers: list[dict[str, Any]] | None = []
    missing: list[dict[str, Any]] = []
    clients: list[dict[str, Any]] = []
    policy: dict[str, Any] = {}
    gateways: list[dict[str, Any]] = []
    trouble: str | None = None
    if owner is not None and owner.mode == "command":
        servers = None  # the one that could be asked is busy with something else
    elif owner is not None or has_store(settings):
        # Only then: looking must not make a home.
        async with open_backend(settings, out.remark) as backend:
            try:
                listed = structured(await backend.call("list_servers", {}, silent))
                servers, missing = listed["servers"], listed.get("missing", [])
                gateways, trouble = listed.get("gateways", []), listed.get("database")
                clients = await backend.clients()
            except ToolFailedError as failure:
                out.error(str(failure))
                return failure.status
            with suppress(ToolFailedError):  # one of an older version knows of no policy
                policy = structured(await backend.call("explain_policy", {}, silent))
    serving = owner is not None and owner.mode != "command"
    if out.json_wanted:
        told = asdict(owner) if owner is not None else None
        found = {
            "running": serving,
            "owner": told,
            "clients": clients,
            "servers": servers,
            "missing": missing,
            **({"gateways": gateways} if gateways else {}),
            **({"database": trouble} if trouble else {}),
            "policy": {key: policy.get(key) for key in ("file", "since", "problems")} if policy else None,
        }
        out.document({"home": str(home.path), **found})
        return 0
    if owner is None:
        out.line("not running")
    elif serving:
        out.line(f"running: ToolScore {owner.version}, process {owner.pid}, mode {owner.mode}")
        for address in owner.listening:
            out.line(f"listening: {address}")
    else:
        out.line(f"not running; a command (process {owner.pid}) is at work")
    out.line(f"home: {home.path}")
    if policy.get("since"):
        out.line(f"policy: {policy['file']}, as it was read at {policy['since']}")
    for problem in policy.get("problems") or ():
        out.error(f"the policy file cannot be used, and changes nothing: {problem}")
    if trouble:
        out.error(trouble)
    for gateway in gateways:
        if not gateway["here"]:
            out.line("other gateway: {name}, {state}, runs {}".format(len(gateway["servers"]), **gateway))
    for client in clients:
        out.line(f"client: {_described(client)}")
    if servers:
        show_servers(servers, out)
    elif servers is not None and not missing:
        out.line("no servers: `toolscore install SOURCE` adds one")
    tell_waiting(loaded, servers, out)
    for one in missing:
        out.line(f"not installed yet: {one['name']} ({one['state'].lower()}){_headline(one['reason'])}")
    return 0


def _headline(reason: str | None) -> str:
    return f": {reason.strip().partition(chr(10))[0]}" if reason else ""


def _described(client: dict[str, Any]) -> str:
    words = [client["name"] or "without a name", f"over {client['listener']}"]
    if client["principal"] != "owner":
        words.append(f"as {client['principal']}")
    if client["cwd"]:
        words.append(f"from {client['cwd']}")
    return ", ".join([*words, f"for {client['seconds']} s"])


async def _one(name: str, settings: Settings, out: Output) -> int:
    if not has_store(settings):
        # Looking must not make a home.
        out.error(f"There is no server named '{name}'. There are: none yet.")
        return 4
    async with open_backend(settings, out.remark) as backend:
        try:
            found = structured(await backend.call("server_state", {"name": name}, silent))
        except ToolFailedError as failure:
            out.error(str(failure))
            return failure.status
    if out.json_wanted:
        out.document(found)
        return 0
    rows = [
        ("state", f"{str(found['state']).lower()} since {found['since']}"),
        ("", found["doing"]),
        ("next", for_people(found["next"])),
        ("reason", (found["reason"] or "").strip()),
        ("gateway", found.get("gateway") or ""),
        ("last exit", "{at}: {reason}".format_map(found["last_exit"]).strip() if found["last_exit"] else ""),
        ("restarts", str(found["restarts"] or "")),
        ("processes", ", ".join(map(str, found["pids"]))),
        ("uses", _use(found)),
        ("protocol", found["protocol"] or ""),
        ("needs", _related(found["depends_on"])),
        ("needed by", _related(found["dependents"])),
        ("groups", ", ".join(found["groups"])),
        ("confined", _confinement(found.get("confined"))),
        ("set for it", ", ".join(f"{key}={shown(found['keeping'][key])}" for key in found["own"])),
    ]
    out.line(found["name"])
    for key, value in rows:
        if value:
            head, *rest = value.splitlines()
            out.line("\n".join([f"  {key:<11}{head}", *(f"  {'':<11}{line}" for line in rest)]))
    return 0


def _confinement(layers: dict[str, str] | None) -> str:
    if layers == {}:
        return "whenever it runs; shown then"
    return "\n".join(f"{name}: {state}" for name, state in (layers or {}).items())


def _use(found: dict[str, Any]) -> str:
    parts = [f"{found['memory'] / 2**20:.1f} MiB of memory"] if found["memory"] is not None else []
    if found["cpu"] is not None:
        parts.append(f"{found['cpu']:.2f} processors")
    for key, word in (("files", "open files"), ("processes", "processes")):
        if found[key] is not None:
            parts.append(f"{found[key]} {word}")
    return ", ".join(parts)


def _related(servers: list[dict[str, Any]]) -> str:
    return ", ".join(f"{one['name']} ({str(one['state']).lower()})" for one in servers)


def tell_waiting(loaded: Loaded, servers: list[dict[str, Any]] | None, out: Output) -> None:
    """Tell of servers in the settings file that are not here yet: only a ToolScore that serves takes them over."""
    owner = current_owner(Home.at(loaded.settings.home))
    if servers is None or (owner is not None and owner.mode != "command"):
        return  # it told of those itself
    if waiting := sorted(loaded.declared.keys() - {server["name"] for server in servers}):
        out.remark(
            f"In {loaded.config_file}, and not here yet: {', '.join(waiting)}. They come with the next ToolScore of "
            "this home: a client's, or `toolscore start`."
        )


def show_servers(servers: list[dict[str, Any]], out: Output) -> None:
    """Print a line for each server: name, state, tools, version, source, groups, and why it is not ready."""
    rows = []
    # A column that is empty for everybody says nothing.
    grouped = any(server["groups"] for server in servers)
    for server in servers:
        state = str(server["state"]).lower() if server["enabled"] else "disabled"
        count = server["tools"]
        what = (f"{count} tool{'' if count == 1 else 's'}", server["version"] or "-", server["source"])
        # One line: a reason may carry the tail of a log, which `logs` shows whole.
        reason = str(server["reason"] or "").strip().partition("\n")[0] if state != "ready" else ""
        groups = (" ".join(f"@{group}" for group in server["groups"]),) if grouped else ()
        rows.append((server["name"], state, *what, *groups, reason))
    out.table(
        ("server", "state", "tools", "version", "source", *(("groups",) if grouped else ()), "reason"), rows
    )
