"""`connect`: ToolScore comes into the file of an MCP client, and out of it again."""

from __future__ import annotations

import os
import shlex
from argparse import Namespace
from pathlib import Path
from typing import Any

from ..clients import rewriting
from ..clients.client import Client, Machine, Place, client_named
from ..clients.connecting import USUAL_NAME, ConnectError, Connections, change, reached, started
from ..home import Home, prepare
from ..settings import Loaded
from .output import Output


def machine_of(out: Output) -> Machine | None:
    """Give where files of clients are; `None`, and an error is told, where that cannot be known."""
    try:
        return Machine.this()
    except RuntimeError:
        out.error("there is no folder of this user's (HOME is not set), where clients keep their files.")
        return None


def run(options: Namespace, loaded: Loaded, out: Output) -> int:
    """Connect a client.

    Returns:
        The exit status.

    Raises:
        HomeError: If the home cannot be used.
    """
    if (machine := machine_of(out)) is None:
        return 1
    try:
        return _connect(options, loaded, machine, out)
    except ConnectError as error:
        out.error(str(error))
        return 1


def _connect(options: Namespace, loaded: Loaded, machine: Machine, out: Output) -> int:
    client = client_named(options.client)
    place = _place(options, client, machine)
    home = Home.at(loaded.settings.home)
    connections = Connections(home.path)
    if options.undo:
        if home.path.is_dir():
            prepare(home)  # what cannot be noted is not begun
        said = connections.undo(place, options.name)
        if out.json_wanted:
            out.document({"client": client.name, "file": str(place.path), "undone": said})
        else:
            out.line(f"{said}.")
        return 0
    entry = _entry(options, loaded, client, place)
    done = change(place, options.name, entry)
    difference = rewriting.difference(done.path, done.old, done.new, done.hidden)
    copy = None
    changed = done.old != done.new
    if changed and not options.dry_run:
        prepare(home)
        copy = connections.write(done, options.name)
    if out.json_wanted:
        out.document(
            {
                "client": client.name,
                "file": str(done.path),
                "entry": entry,
                "changed": changed and not options.dry_run,
                "copy": None if copy is None else str(copy),
                "difference": difference,
            }
        )
        return 0
    if not changed:
        out.line(f"{client.title} has ToolScore already, in {done.path}.")
        return 0
    out.line(difference.rstrip("\n"))
    if options.dry_run:
        return 0
    out.line(f"\n{client.title} has ToolScore now; to read its file again, {client.again}.")
    if copy is not None:
        out.remark(f"What the file was before: {copy}")
    again = shlex.join(["toolscore", "connect", client.name, *_where(options), "--undo"])
    out.remark(f"To undo it: `{again}`")
    if options.url and options.project:
        out.remark(
            "The token stays out of a file that others read: set TOOLSCORE_TOKEN for the client "
            "(`toolscore token show`)."
        )
    elif options.project:
        out.remark(
            "The path in it is this machine's. In a file that others read write `toolscore` instead, where all have "
            "it on their PATH."
        )
    return 0


def _where(options: Namespace) -> list[str]:
    words = ["--file", options.file] if options.file else []
    words += ["--project", options.project] if options.project else []
    words += ["--name", options.name] if options.name != USUAL_NAME else []
    return words + (["--home", options.home] if options.home else [])


def _place(options: Namespace, client: Client, machine: Machine) -> Place:
    first = client.user(machine)[0]
    if options.file:
        return Place(Path(options.file).expanduser().absolute(), "user", first.table)
    if not options.project:
        return first
    folder = Path(options.project).expanduser().absolute()
    if not folder.is_dir():
        raise ConnectError(f"{folder} is no folder.")
    if client.project is None:
        raise ConnectError(f"{client.title} knows no file of a project; connect it without --project.")
    path, table = client.project
    return Place(folder / path, "project", table)


def _entry(options: Namespace, loaded: Loaded, client: Client, place: Place) -> dict[str, Any]:
    if options.url:
        from ..tokens import TokenError
        from .home_tokens import home_tokens

        home = Home.at(loaded.settings.home)
        try:
            prepare(home)
            token = home_tokens(loaded, home).default()
        except TokenError as error:
            raise ConnectError(str(error)) from None
        return reached(client, options.url, token, project=place.scope == "project")
    # What a variable of this shell names goes in, too: clients do not have it.
    words: list[str] = []
    if loaded.origins["home"] != "default":
        words += ["--home", str(loaded.settings.home)]
    if options.config or os.environ.get("TOOLSCORE_CONFIG", "").strip():
        words += ["--config", str(loaded.config_file)]
    return started(client, words)
