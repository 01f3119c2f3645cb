"""`config` and `doctor`: what is set, and what the machine offers."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from ..settings import Loaded, options
from .output import Output


def run(given: Namespace, loaded: Loaded, out: Output) -> int:
    """Do one of the two.

    Returns:
        The exit status.
    """
    if given.command == "doctor":
        return _doctor(loaded, out)
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
        values[key] = getattr(getattr(loaded.settings, option.group), option.name)
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


def _doctor(loaded: Loaded, out: Output) -> int:
    from ..doctor import examine, healthy

    checks = list(examine(loaded.settings))
    ok = healthy(checks)
    if out.json_wanted:
        fields = ("name", "status", "found", "advice", "needed")
        entries = [{name: getattr(check, name) for name in fields} for check in checks]
        out.document({"ok": ok, "home": str(loaded.settings.home), "checks": entries})
    else:
        rows = [(c.name, c.status, c.found + (f"; to do: {c.advice}" if c.advice else "")) for c in checks]
        out.table(("what", "status", "found"), rows)
        if not ok:
            missing = ", ".join(c.name for c in checks if c.needed and c.status == "missing")
            out.error(f"ToolScore cannot work here without: {missing}")
    return 0 if ok else 1
