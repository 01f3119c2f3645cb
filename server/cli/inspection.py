"""`doctor`: what the machine offers, what is wrong with the home, and mending it."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..mending.finding import Check, Fix, MendError
from ..settings import Loaded, SettingsError, load
from .output import Output
from .passphrase import on_terminal


def run(options: Namespace, out: Output) -> int:
    """Examine the machine and the home, and mend what is to be mended.

    Returns:
        The exit status: 1 if something that is needed is missing, or something broken was not mended; 3 if the
        settings still cannot be used.
    """
    from ..doctor import healthy, left_over

    mender = _Mender(options, out)
    loaded, checks = _settings(options)
    checks += _others(loaded, options)
    if not out.json_wanted:
        _show(checks, out)
    left, every = checks, list(checks)
    if mender.mend(checks):
        # What one finding comes from may be what another was mended by; and a mended file may say what is wrong next.
        loaded, left = _settings(options)
        left += _others(loaded, options)
        new = [check for check in left if check not in checks]
        every += new
        if not out.json_wanted:
            _show([check for check in new if check.status != "ok"], out)
    if out.json_wanted:
        home = None if loaded is None else str(loaded.settings.home)
        told = list(dict.fromkeys(check.name for check in left if left_over([check])))
        entries = [_entry(check, mender) for check in every]
        out.document({"ok": healthy(left), "home": home, "left": told, "checks": entries})
    else:
        _sum_up(left, mender, out)
    return 3 if loaded is None else 1 if left_over(left) else 0


def _settings(options: Namespace) -> tuple[Loaded | None, list[Check]]:
    """Load the settings; where they cannot be used, say what is wrong with them."""
    from ..mending.settings_file import look
    from .reload import home_of

    try:
        return load(options.set, home=options.home, config=options.config), []
    except SettingsError as error:
        given = options.config or os.environ.get("TOOLSCORE_CONFIG", "").strip()
        file = Path(given).expanduser().absolute() if given else home_of(options).config_file
        return None, list(look(error.problems, file))


def _others(loaded: Loaded | None, options: Namespace) -> list[Check]:
    """Look at all else, with the settings as they are by default where they cannot be used."""
    from ..doctor import examine

    loaded = loaded or _by_default(options)
    return [] if loaded is None else list(examine(loaded.settings))


def _by_default(options: Namespace) -> Loaded | None:
    """Give the settings without their file and variables; `None` if it is the home that is wrong."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == "TOOLSCORE_HOME" or not name.startswith(("TOOLSCORE_", "PROCESS_"))
    }
    try:
        return load({}, home=options.home, config=os.devnull, environ=kept)
    except SettingsError:
        return None


class _Mender:
    """Mends findings, once each: asks, or does not, as the command line says.

    Args:
        options: The command line.
        out: Where a person reads.
    """

    def __init__(self, options: Namespace, out: Output) -> None:
        self.dry: bool = options.dry_run
        self.asks = on_terminal() and not (out.json_wanted or options.fix or options.yes)
        self._options = options
        self._out = out
        self.tried: dict[str, tuple[bool, str]] = {}
        """What became of each fix that was tried, by what it does: whether it was done, and what is to be said."""

    def mend(self, checks: Iterable[Check]) -> bool:
        """Mend what is to be mended; tell whether anything was."""
        fixes = {check.fix.what: (check, check.fix) for check in checks if check.fix is not None}
        for check, fix in fixes.values():
            if not self.dry and self._agreed(check, fix):
                self._do(check, fix)
        return any(done for done, _ in self.tried.values())

    def _do(self, check: Check, fix: Fix) -> None:
        try:
            done, said = True, fix.do()
        except MendError as error:
            done, said = False, str(error)
        self.tried[fix.what] = done, said
        if self._out.json_wanted:
            return
        if done:
            self._out.line(f"mended: {check.name}: {said}")
        else:
            self._out.error(f"{check.name} could not be mended: {said}")

    def _agreed(self, check: Check, fix: Fix) -> bool:
        if self._options.yes or (self._options.fix and fix.safe):
            if fix.shown and not self._out.json_wanted:
                self._out.line(fix.shown.rstrip())
            return True
        if not self.asks:
            return False
        self._out.line()
        self._out.line(f"{check.name}: {check.found}")
        if fix.shown:
            self._out.line(fix.shown.rstrip())
        print(f"To mend it: {fix.what}. Do this? [y/N] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes", "是")


def _show(checks: Iterable[Check], out: Output) -> None:
    rows = []
    for check in checks:
        told = check.found + (f"; to do: {check.advice}" if check.advice else "")
        if check.fix is not None:
            told += f"; doctor can {check.fix.what}"
        rows.append((check.name, check.status, told))
    out.table(("what", "status", "found"), rows)


def _entry(check: Check, mender: _Mender) -> dict[str, Any]:
    entry: dict[str, Any] = {
        name: getattr(check, name) for name in ("name", "status", "found", "advice", "needed", "broken")
    }
    if (fix := check.fix) is not None:
        mended, said = mender.tried.get(fix.what, (False, None))
        entry["fix"] = {"what": fix.what, "safe": fix.safe, "difference": fix.shown or None}
        entry |= {"mended": mended, "said": said}
    return entry


def _sum_up(left: list[Check], mender: _Mender, out: Output) -> None:
    missing = ", ".join(dict.fromkeys(c.name for c in left if c.needed and c.status == "missing"))
    if missing:
        out.error(f"ToolScore cannot work here before this is mended: {missing}")
    fixes = {check.fix.what: check.fix for check in left if check.fix is not None}
    offered = [fix for what, fix in fixes.items() if what not in mender.tried]
    if mender.dry:
        for fix in offered:
            out.line(f"would {fix.what}")
            if fix.shown:
                out.line(fix.shown.rstrip())
    if not offered or mender.asks:
        return
    safe = sum(fix.safe for fix in offered)
    ways = [f"`toolscore doctor --fix` mends {safe} without asking"] if safe else []
    if len(offered) > safe:
        ways.append(
            f"`toolscore doctor` on a terminal asks about {'the rest' if safe else 'what it can mend'}, and --yes "
            "says yes to all"
        )
    out.remark(f"{'; '.join(ways)}.")
