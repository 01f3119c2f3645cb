"""`config`: what is set and where from, a template for the file, its path, and what reading it again would change."""

from __future__ import annotations

import asyncio
import sqlite3
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from ...runners.spec import Installation
from ...tools.database import Where
from ...tools.errors import StoreError
from ...tools.mark import Mark
from ...tools.named_uses import stored
from ...tools.reconcile_plan import plan
from ...tools.rows import Origin, ServerRow
from ...tools.secrets import Secrets
from .. import models as m
from ..database_home import store_of
from ..home import Home
from ..owner import current_owner
from ..reload import changed_setting, outlined
from ..settings import Loaded, SettingsError, load, options
from ..settings_hot import HOT, compare
from .output import Output
from .reload import asked, home_of, show


def run(given: Namespace, loaded: Loaded, out: Output) -> int:
    """Show the settings or the path of their file.

    Returns:
        The exit status.
    """
    if given.what == "path":
        if out.json_wanted:
            out.document({"path": str(loaded.config_file), "exists": loaded.config_exists})
        else:
            out.line(str(loaded.config_file))
        return 0
    return _show(loaded, out, origin=given.origin)


def _show(loaded: Loaded, out: Output, *, origin: bool) -> int:
    values: dict[str, Any] = {"home": loaded.settings.home}
    for key, option in options().items():
        values[key] = option.shown(getattr(getattr(loaded.settings, option.group), option.name))
    if out.json_wanted:
        plain = {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}
        if origin:
            out.document({key: {"value": plain[key], "origin": loaded.origins[key]} for key in plain})
        else:
            out.document(plain)
        return 0
    rows = []
    for key, value in values.items():
        shown = str(value) if key == "home" else options()[key].written(value) or '""'
        rows.append((f"{key} = {shown}", f"({loaded.origins[key]})") if origin else (f"{key} = {shown}",))
    out.table(("setting", "origin") if origin else ("setting",), rows)
    return 0


def check(given: Namespace, out: Output) -> int:
    """Validate a file, and show what a reload would change with it; nothing is changed.

    The ToolScore that runs is asked where it is its own file that is meant, as it alone knows what holds now.

    Returns:
        The exit status: 1 if the file is invalid, or declares what is refused.
    """
    home = home_of(given)
    owner = current_owner(home)
    if given.file is None and owner is not None and owner.mode != "command":
        return show(asyncio.run(asked(owner, check=True)), out)
    try:
        now = load(given.set, home=given.home, config=given.config) if given.file is not None else None
    except SettingsError:
        now = None  # what is compared with; the file in question may be the one that puts it right
    try:
        loaded = load(given.set, home=given.home, config=given.file or given.config)
    except SettingsError as error:
        named = str(given.file or given.config or home.config_file)
        return show(m.ReloadResult(file=named, valid=False, done=False, problems=list(error.problems)), out)
    return show(_compared(loaded, now, home), out)


def _compared(loaded: Loaded, now: Loaded | None, home: Home) -> m.ReloadResult:
    try:
        where = store_of(loaded.settings, home)
    except StoreError:
        where = home.store_file
    rows, unreadable = stored_servers(where)
    secrets = Secrets(home.secrets_file)
    todo = plan(loaded.declared, rows, lambda name: Mark.read(secrets, name), unreadable)
    changes = compare(now.settings, loaded.settings) if now is not None else []
    result = outlined(loaded, todo)
    result.settings = [
        changed_setting(change, "now" if change.key in HOT else "next start") for change in changes
    ]
    result.remarks = list(loaded.remarks)
    return result


def stored_servers(where: Where) -> tuple[Mapping[str, ServerRow], set[str]]:
    """Read the servers out of a store that somebody else may be using, and the names of those not understood."""
    rows: dict[str, ServerRow] = {}
    unreadable: set[str] = set()
    if isinstance(where, Path) and not where.exists():
        return rows, unreadable
    try:
        found = stored(where)
    except (sqlite3.Error, StoreError):
        found = []  # no table yet: a store that was never finished
    for name, origin, enabled, installation in found:
        try:
            known = Installation.model_validate(installation)
            rows[name] = ServerRow(name, cast(Origin, origin), enabled, known)
        except (ValidationError, ValueError):
            unreadable.add(name)
    return rows, unreadable
