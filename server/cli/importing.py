"""`import`: what MCP clients have comes to ToolScore."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from pathlib import Path
from typing import Any

from ...tools.declared import TABLE
from ...tools.errors import StoreError
from ...tools.named import NamedSecrets
from ...tools.names import fitting_server_name
from ...tools.secrets import Secrets
from ..clients import found
from ..clients.client import NAMES, Machine, client_named
from ..clients.importing import apply
from ..clients.plan import Plan, Taken, plan, shown
from ..database_home import store_of
from ..home import Home, prepare
from ..owner import current_owner
from ..settings import Loaded
from .connecting import machine_of
from .output import Output
from .passphrase import hidden, on_terminal


def run(options: Namespace, loaded: Loaded, out: Output) -> int:
    """Take over servers.

    Returns:
        The exit status.

    Raises:
        HomeError: If the home cannot be used.
        SecretsError: If the secrets cannot.
    """
    if (machine := machine_of(out)) is None:
        return 1
    home = Home.at(loaded.settings.home)
    if (search := _searched(options, machine, out)) is None:
        return 1
    named = NamedSecrets(Secrets(home.secrets_file), home.path)
    made = plan(
        search.servers,
        machine,
        taken=_taken(loaded, home),
        there=[one.spec for one in loaded.declared.values()],
        secrets=named.names(),
        secret=named.get,
        wanted=options.only or (),
    )
    there = {name for one in search.servers for name in (one.name, fitting_server_name(one.name))}
    if missing := set(options.only or ()) - there:
        search.problems.append(f"No client has a server named {', '.join(sorted(missing))}.")
    if not out.json_wanted:
        _show(made, search, loaded.config_file, out)
    status = 1 if search.problems else 0
    if made.taken and not options.dry_run and (options.yes or _agreed(len(made.taken), out)):
        prepare(home)
        for name, what in sorted(
            {key: text for one in made.taken for key, text in one.inputs.items()}.items()
        ):
            if on_terminal() and not out.json_wanted and (value := hidden(f"{what} ({name}): ")):
                named.set(name, value)
        done = apply(made, loaded.config_file, named)
        said = _reload(loaded, home, out)
        if out.json_wanted:
            out.document(_document(made, search, str(loaded.config_file), said))
        else:
            _told(made, loaded.config_file, done, said, named, out)
        return status
    if out.json_wanted:
        out.document(_document(made, search, None, None))
    return status


def _searched(options: Namespace, machine: Machine, out: Output) -> found.Search | None:
    project = Path(options.project).expanduser().absolute() if options.project else Path.cwd()
    if not project.is_dir():
        out.error(f"{project} is no folder.")
        return None
    if not options.sources:
        return found.search(machine, project)
    search = found.Search()
    for source in options.sources:
        path = Path(source).expanduser()
        if source in NAMES:
            one = found.search(machine, project, [client_named(source)])
            if not one.files and not one.problems:
                places = ", ".join(str(place.path) for place in client_named(source).places(machine, project))
                one.problems.append(f"{client_named(source).title} has no file here: {places}.")
        elif path.is_file():
            one = found.look_into(path, machine)
        else:
            out.error(f"{source!r} is neither a file nor one of {', '.join(NAMES)}.")
            return None
        search.servers += one.servers
        search.files += one.files
        search.problems += one.problems
    return search


def _taken(loaded: Loaded, home: Home) -> set[str]:
    from .config import stored_servers

    try:
        rows, unreadable = stored_servers(store_of(loaded.settings, home))
    except StoreError:
        rows, unreadable = {}, set()
    return {*rows, *unreadable, *loaded.declared}


def _agreed(number: int, out: Output) -> bool:
    if not on_terminal() or out.json_wanted:
        out.remark("Nothing was changed; add --yes to take them over.")
        return False
    try:
        answer = input(f"Take over {number} server{'s' if number > 1 else ''}? [y/N] ")
    except EOFError:
        answer = ""
    return answer.strip().lower() in ("y", "yes", "是")


def _show(made: Plan, search: found.Search, config: Path, out: Output) -> None:
    for client, file in search.files:
        out.remark(f"{client_named(client).title}: {file}")
    for text in search.problems:
        out.error(text)
    if not search.files and not search.problems:
        out.line("No MCP client's file was found.")
    for one in made.taken:
        out.line(f"\n{one.name}  ({client_named(one.found.client).title})")
        for line in shown(one.entry, config).splitlines():
            out.line(f"    {line.replace('.NAME]', f'.{one.name}]')}")
        for secret in one.secrets:
            out.line(f"    secret: {secret}, kept apart from the file")
        for name, what in one.inputs.items():
            out.line(f"    needs:  {name} ({what})")
        for remark in one.remarks:
            out.line(f"    note:   {remark}")
    for left, why in made.left:
        out.line(f"\n{left.name}  ({client_named(left.client).title}): left out, as {why}")
    if made.taken:
        out.line()


def _reload(loaded: Loaded, home: Home, out: Output) -> str | None:
    """Have the running ToolScore read the file; give what it said was wrong, `None` where none runs."""
    from .backend import BackendError
    from .reload import asked
    from .results import ToolFailedError

    owner = current_owner(home)
    if owner is None or owner.mode == "command":
        return None
    try:
        result = asyncio.run(asked(owner, check=False))
    except (BackendError, ToolFailedError) as error:
        return str(error)
    return "; ".join(result.problems)


def _told(
    made: Plan, config: Path, copy: Path | None, said: str | None, named: NamedSecrets, out: Output
) -> None:
    out.line(f"Taken over into {config}: {', '.join(one.name for one in made.taken)}")
    if copy is not None:
        out.remark(f"What it was before: {copy}")
    if said is None:
        out.remark("They start with the next ToolScore of this home: a client's, or `toolscore start`.")
    elif said:
        out.error(f"the running ToolScore did not take them: {said}")
    else:
        out.remark("The running ToolScore starts them now: `toolscore status`.")
    there = named.names()
    for name in sorted({key for one in made.taken for key in one.inputs if key not in there}):
        out.remark(f"One needs a value: `toolscore secret set {name}`")
    clients = dict.fromkeys(one.found.client for one in made.taken)
    for client in clients:
        out.remark(
            f"{client_named(client).title} still starts its own: `toolscore connect {client}`, then take them out "
            "of its file."
        )


def _document(made: Plan, search: found.Search, config: str | None, said: str | None) -> dict[str, Any]:
    def one(taken: Taken) -> dict[str, Any]:
        return {
            "name": taken.name,
            "client": taken.found.client,
            "file": str(taken.found.file),
            "entry": taken.entry,
            "secrets": sorted(taken.secrets),
            "needs": taken.inputs,
            "remarks": taken.remarks,
        }

    return {
        "written": config,
        "table": TABLE,
        "servers": [one(taken) for taken in made.taken],
        "left": [
            {"name": left.name, "client": left.client, "file": str(left.file), "reason": why}
            for left, why in made.left
        ],
        "problems": [*search.problems, *([said] if said else [])],
    }
