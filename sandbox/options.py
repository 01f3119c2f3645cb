"""Settings of an executor that runs by itself: flags and environment variables, named as ToolScore's are."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .isolation import Tier
from .settings import SandboxSettings, SettingsError, json_object

MIB, KIB = 1 << 20, 1 << 10
ENVIRONMENT = "TOOLSCORE_SANDBOX_"
"""How the names of the environment variables begin."""


@dataclass(frozen=True, slots=True)
class Option:
    """One setting.

    Attributes:
        name: Its name among ToolScore's settings, `sandbox.<name>`.
        value: What is given, as `--help` shows it.
        text: What it is, after `number` or `list`.
        unit: What its number is multiplied with.
        limit: Whether it is one of the limits.
        least: The least it may be.
    """

    name: str
    value: str
    text: str
    unit: int = 1
    limit: bool = False
    least: int = 0

    @property
    def flag(self) -> str:
        """Its flag."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def help(self) -> str:
        """What `--help` says of it."""
        return (
            self.text
            if self.text.startswith("the ")
            else f"{'list' if self.value == 'LIST' else 'number'} {self.text}"
        )

    def read(self, given: str, said: str) -> Any:
        """Read it as it was given.

        Args:
            given: What was given.
            said: Where, for the error.

        Raises:
            SettingsError: If it cannot be.
        """
        default = getattr(SandboxSettings().limits if self.limit else SandboxSettings(), self.name)
        if isinstance(default, tuple):
            # A comma also parts the versions of one requirement: numpy>=2,<3.
            return [part.strip() for part in re.split(r",(?=\s*[\w*])", given) if part.strip()]
        if isinstance(default, Tier):
            return given.strip()
        try:
            number = float(given)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise SettingsError(f"{said}: a number {self.text}, not {given!r}")
        if number < self.least:
            raise SettingsError(f"{said}: {self.least} or more, not {given.strip()}")
        scaled = number * self.unit
        return round(scaled) if isinstance(default, int) and self.unit > 1 else scaled


OPTIONS = (
    Option("wall", "SECONDS", "of seconds an execution may take", limit=True),
    Option("cpu", "SECONDS", "of seconds of processor time an execution may use", limit=True),
    Option(
        "memory",
        "MIB",
        "of MiB of memory an execution may use, with all it starts",
        MIB,
        limit=True,
        least=32,
    ),
    Option("processes", "NUMBER", "of processes and threads at the same time", limit=True),
    Option("open_files", "NUMBER", "of files each process may have open", limit=True, least=16),
    Option("disk", "MIB", "of MiB an execution may write", MIB, limit=True),
    Option("output", "KIB", "of KiB of standard output, and as many of standard error", KIB, limit=True),
    Option("packages", "LIST", "of packages that all code finds, such as numpy,pandas==2.3.0"),
    Option("preload", "LIST", "of modules that are imported beforehand, such as numpy,json"),
    Option("allow_packages", "LIST", "of further packages a call may ask for; * is any"),
    Option("warm", "NUMBER", "of boxes kept ready"),
    Option("most", "NUMBER", "of executions at the same time"),
    Option("minimum", "TIER", f"the weakest isolation accepted: {', '.join(list(Tier)[:3])}"),
    Option("session_ttl", "SECONDS", "of seconds a session lives at the most"),
    Option("session_idle", "SECONDS", "of seconds after which an unused session ends"),
    Option("sessions", "NUMBER", "of sessions at the same time"),
)


TOOLSCORES = ("enabled", "mode", "tools", "cluster_cpu", "cluster_labels", "cluster_fallback")
"""Settings of ToolScore's about the executor that are none of its own: nothing is said where they are set."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each."""
    group = parser.add_argument_group(
        "settings",
        f"Each can be an environment variable too: {ENVIRONMENT} and its name, such as {ENVIRONMENT}WALL=10. "
        "In ToolScore's own configuration they are sandbox.wall and so on.",
    )
    for option in OPTIONS:
        group.add_argument(option.flag, metavar=option.value, help=option.help)


def settings(text: str, given: argparse.Namespace, environ: Mapping[str, str]) -> SandboxSettings:
    """Put the settings together: defaults, then the environment, then the JSON, then the flags.

    Args:
        text: All or some as one JSON object, in the sandbox's own units.
        given: The parsed flags.
        environ: The environment.

    Raises:
        SettingsError: If one cannot hold; the message says which, where it is from, and what it may be.
    """
    values: dict[str, Any] = {"limits": {}}
    for option in OPTIONS:
        name = f"{ENVIRONMENT}{option.name.upper()}"
        if environ.get(name, "").strip():
            _put(values, option, environ[name], name)
    own = sorted(f"{ENVIRONMENT}{option.name.upper()}" for option in OPTIONS)
    known = {*own, *(f"{ENVIRONMENT}{name.upper()}" for name in TOOLSCORES)}
    if unknown := sorted(name for name in environ if name.startswith(ENVIRONMENT) and name not in known):
        raise SettingsError(f"{unknown[0]}: there is no such setting; there are {', '.join(own)}")
    whole = json_object(text, "--settings")
    try:
        SandboxSettings.of(whole)
    except SettingsError as exc:
        raise SettingsError(f"--settings: {exc}") from None
    values |= {**whole, "limits": values["limits"] | whole.get("limits", {})}
    for option in OPTIONS:
        if (flagged := getattr(given, option.name)) is not None:
            _put(values, option, flagged, option.flag)
    return SandboxSettings.of(values)


def _put(values: dict[str, Any], option: Option, given: str, said: str) -> None:
    value = option.read(given, said)
    alone = {"limits": {option.name: value}} if option.limit else {option.name: value}
    try:
        SandboxSettings.of(alone)
    except SettingsError as exc:
        raise SettingsError(f"{said}: {str(exc).partition(': ')[2] or exc}") from None
    (values["limits"] if option.limit else values)[option.name] = value
