"""`doctor`: what the machine offers."""

from __future__ import annotations

from ..settings import Loaded
from .output import Output


def run(loaded: Loaded, out: Output) -> int:
    """Examine the machine.

    Returns:
        The exit status: 1 if something that is needed is missing.
    """
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
            out.error(f"ToolScore cannot work here before this is mended: {missing}")
    return 0 if ok else 1
