"""`backup` and `restore`: a home as one file. Neither needs settings, which may be what is wrong."""

from __future__ import annotations

import os
from argparse import Namespace
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from ..home import Home
from .output import Output
from .reload import home_of


def run(given: Namespace, out: Output) -> int:
    """Do one of the two.

    Returns:
        The exit status.

    Raises:
        HomeError: If it cannot be done, with the reason and the next step.
    """
    home = home_of(given)
    return _backup(given, home, out) if given.command == "backup" else _restore(given, home, out)


def _backup(given: Namespace, home: Home, out: Output) -> int:
    from ..backup import back_up

    name = given.file or f"toolscore-{datetime.now():%Y%m%d-%H%M%S}.tar.gz"
    target = Path(name).expanduser().absolute()
    _refuse_shared(given, home)
    with out.working(f"writing {target}"):
        made = back_up(home, target, secrets=not given.no_secrets)
    config = given.config or os.environ.get("TOOLSCORE_CONFIG", "").strip()
    if config and Path(config).expanduser().absolute() != home.config_file:
        made.remarks.append(f"the settings file {config} does not lie in the home as config.toml: not in it")
    made.remarks += _policy_elsewhere(given, home)
    if out.json_wanted:
        held = {key: value for key, value in asdict(made).items() if key not in ("files", "links", "folders")}
        out.document({"file": str(target), **held, "files": len(made.files), "bytes": target.stat().st_size})
        return 0
    count = len(made.servers)
    out.line(f"written: {target} ({target.stat().st_size / 1e6:.1f} MB)")
    out.line(f"servers: {count}{': ' + ', '.join(made.servers) if count else ''}")
    for remark in made.remarks:
        out.remark(f"remark: {remark}")
    if given.no_secrets:
        out.remark(
            f"without the secrets of: {', '.join(made.without_secrets) or 'none, as no server has any'}"
        )
    else:
        out.remark("It holds secrets and tokens as they are: keep it as you keep those.")
    return 0


def _refuse_shared(given: Namespace, home: Home) -> None:
    from ..backup import BackupError
    from ..settings import SettingsError, load

    try:
        shared = bool(load(given.set, home=given.home, config=given.config).settings.database.url)
    except SettingsError:
        shared = False  # a backup is made all the same
    if shared or (home.gateway_file.exists() and not home.store_file.exists()):
        raise BackupError(
            f"The store of {home.path} is a database that several homes share: back that up with pg_dump, and keep "
            "this home's secrets.json and config.toml (docs/database.md)."
        )


def _policy_elsewhere(given: Namespace, home: Home) -> list[str]:
    """Say where the policy is, if it is not the file in the home that is in every backup."""
    from ..policy_path import NAME, path_of
    from ..settings import SettingsError, load

    try:
        settings = load(given.set, home=given.home, config=given.config).settings
    except SettingsError:
        if not home.config_file.exists():
            return []
        return [
            "the settings cannot be used, so it is not known whether policy.file names a policy elsewhere"
        ]
    path, named = path_of(settings)
    if not named or path.absolute() == home.path.absolute() / NAME:
        return []
    return [
        f"the policy {path}, which policy.file names, is not in it: keep a copy, as ToolScore does not start without"
    ]


def _restore(given: Namespace, home: Home, out: Output) -> int:
    from ..restore import restore

    archive = Path(given.file).expanduser().absolute()
    with out.working(f"unpacking and checking {archive}"):
        restored = restore(archive, home, force=given.force)
    backup, aside = restored.backup, restored.aside
    if out.json_wanted:
        out.document(
            {
                "home": str(home.path),
                "from": backup.home,
                "made": backup.made,
                "servers": backup.servers,
                "aside": str(aside) if aside is not None else None,
                "remarks": list(restored.remarks),
            }
        )
        return 0
    out.line(f"restored: {home.path}, as {backup.home} was at {backup.made}")
    out.line(f"servers: {len(backup.servers)}{': ' + ', '.join(backup.servers) if backup.servers else ''}")
    if aside is not None:
        out.line(f"moved aside: {aside}")
    for remark in restored.remarks:
        out.remark(f"remark: {remark}")
    return 0
