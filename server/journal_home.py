"""The journal of one home, put together: what it is told, and who is told of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..runners.lifecycle import State
from ..tools.journal.journal import Journal
from ..tools.journal.options import MIB, Options
from .journal_follow import JournalFollow
from .journal_tools import JournalTools
from .models import ReloadResult
from .own_tools import OWN_SERVER

if TYPE_CHECKING:
    from ..runners.process import ProcessRunner
    from ..runners.supervisor import Unit
    from ..tools.journal.reader import Reader
    from ..tools.library import Library
    from ..tools.library_change import Change
    from .front import Front
    from .home import Home
    from .settings import Settings
    from .toolset import ToolSet

DAY = 24 * 3600.0

_STATES = {
    State.READY: ("server_started", "ok"),
    State.STOPPED: ("server_stopped", "ok"),
    State.BACKOFF: ("server_failed", "error"),
    State.FAILED: ("server_failed", "failed"),
}
"""The states that have a record; the others only lead to them."""


def options_of(settings: Settings) -> Options:
    """Give how the settings want the journal to be kept."""
    given = settings.journal
    return Options(
        contents=given.contents,
        content_bytes=given.content_bytes,
        max_bytes=given.max_size * MIB,
        max_age=given.max_age * DAY,
        on_full=given.on_full,
    )


def journal_of(settings: Settings, home: Home, runner: ProcessRunner, library: Library) -> Journal | None:
    """Begin the journal of a home whose lock is held; `None` where there is to be none."""
    if not settings.journal.enabled:
        return None

    def version(server: str) -> str | None:
        row = library.servers.get(server)
        if row is None:
            return None
        said = (row.server_info or {}).get("version")
        return row.installation.version or (said if isinstance(said, str) else None)

    journal = Journal(home.journal_dir, options_of(settings), mask=runner.masked, version=version)
    journal.start()
    return journal


def take_journal(
    journal: Journal | None,
    toolset: ToolSet,
    settings: Settings,
    secret: Callable[[str], str | None],
    reader: Callable[[], Reader] | None = None,
) -> None:
    """Have a tool set's calls written down.

    Args:
        journal: The journal, if there is one.
        toolset: The tools.
        settings: The settings.
        secret: Gives secrets, for the headers of a collector.
        reader: Makes what reads over all gateways, where there are several.
    """
    if journal is None:
        toolset.extend(JournalTools(None).handlers)
        return
    toolset.journal = journal
    tools = JournalTools(journal)
    toolset.journal_follow = JournalFollow(tools)
    tools.reader = reader
    toolset.extend(tools.handlers)
    router = toolset.router
    router.guards, router.watch = (journal, *router.guards), journal.watch
    builtins, rows = toolset.servers.builtins, toolset.library.servers

    def private(server: str) -> bool:
        row, builtin = rows.get(server), builtins.get(server)
        return builtin is not None and builtin.private and row is not None and row.origin == "builtin"

    journal.private = private
    toolset.setters["journal"] = lambda settings: journal.configure(options_of(settings))
    given = settings.journal
    if given.otlp_endpoint:
        from ..tools.journal.sender import Sender

        sender = Sender(given.otlp_endpoint, given.otlp_headers, os.environ.get, secret)
        sender.start()
        journal.sent = lambda: (sender.sent, sender.unsent)
        journal.writer.sink = sender.offer
        journal.after = sender.close


def note_state(journal: Journal | None, unit: Unit) -> None:
    """Write down that a server came up, ended or failed."""
    found = _STATES.get(unit.life.state)
    if journal is None or found is None:
        return
    kind, outcome = found
    instance = unit.key.partition("#")[2]
    detail: dict[str, Any] = {"instance": int(instance)} if instance else {}
    if unit.life.restarts:
        detail["restarts"] = unit.life.restarts
    said = unit.life.reason if kind == "server_failed" else None
    journal.note(kind, server=unit.name, outcome=outcome, said=said, **detail)


def note_change(journal: Journal, change: Change) -> None:
    """Write down what became different with the tools of a server."""
    for kind, names in change.kinds.items():
        journal.note(kind, server=change.server, tools=list(names))


def attach(toolset: ToolSet, front: Front, later: Callable[[], None]) -> None:
    """Write down who comes and goes, and tell clients when nothing can be written.

    Args:
        toolset: The tools, with their journal.
        front: Knows the clients and the events.
        later: Announces new events.
    """
    journal = toolset.journal
    if journal is None:
        return
    front.visits.attach(journal.note)

    def trouble(why: str | None) -> None:
        kind, details = ("journal_resumed", {}) if why is None else ("journal_stopped", {"reason": why})
        front.events.append(kind, OWN_SERVER, **details)
        later()

    journal.on_trouble = trouble


def note_reload(toolset: ToolSet, result: ReloadResult) -> None:
    """Write down that the configuration file was read again, and what became of that."""
    if toolset.journal is None:
        return
    toolset.journal.note(
        "configuration",
        server=OWN_SERVER,
        outcome="ok" if result.valid else "error",
        added=result.added,
        changed=[server.name for server in result.changed],
        removed=result.removed,
        refused=[server.name for server in result.refused],
        settings=[setting.name for setting in result.settings],
    )
