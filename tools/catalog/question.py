"""What a person is told of a plan before it is carried out: all that they would agree to, with no secret in it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...runners.template import references
from .arguments import composing
from .values import Given

if TYPE_CHECKING:
    from .filled import Filled
    from .plan import Plan

HIDDEN = "***"
"""Stands for a secret."""

_CHECKSUM = 16
"""Digits of a checksum that are shown."""

_SECRET = re.compile(
    r"(?i)token|secret|passw|passphrase|credential|cookie|session|auth|bearer|private|jwt|webhook|dsn|"
    r"conn\w*.?str|database.?ur[il]|(?:^|[^a-z])(?:pat|pwd|pass|pin)(?:$|[^a-z])|api.?key|key(?:$|[^a-z])"
)
"""What a secret is usually called, whatever an entry says of it. It is not shown; more does not depend on it."""


def question(plan: Plan, settings: Mapping[str, Any], env: Mapping[str, str], cwd: str | None = None) -> str:
    """Say what would be fetched and run or reached, and what it would be given, as in "asks to ...".

    Args:
        plan: The plan.
        settings: Values by the names in its `wanted`.
        env: Environment variables.
        cwd: Where relative paths begin.

    Raises:
        RefusalError: If a value is missing, unknown or cannot be, so that there is nothing to ask about.
    """
    wanted = {key: replace(one, secret=one.secret or _sounds(key)) for key, one in plan.wanted.items()}
    shown = replace(plan, wanted=wanted)
    filled = shown.filled(settings, env, server="server", cwd=cwd)
    given = Given(wanted, settings, env, cwd=cwd, more=plan.kind == "mcpb")
    if plan.source is None:
        said = f"use the server at {_address(filled)} ({plan.label})"
    else:
        checksum = plan.sha256 or plan.source.partition("#sha256=")[2]
        file = f" (sha256 {checksum[:_CHECKSUM]}...)" if checksum else ""
        said = f"fetch {plan.fetches}{file} and run it on this machine as a server ({plan.label})"
        if filled.args:
            said += f", started with: {_masked(shlex.join(filled.args), filled)}"
        if filled.url is not None:
            said += f", reached at {_address(filled)}"
    for pair in plan.package.environment_variables if plan.package else ():
        if pair.name in filled.env and not given.has(pair.name):
            hidden = pair.is_secret or any(wanted[one].secret for one in composing(pair) if one in wanted)
            said += f", with {pair.name}={HIDDEN if hidden else shlex.quote(filled.env[pair.name])}"
    for name, value in filled.headers.items():
        if not given.has(name):
            said += f", sent the header {name}: {shlex.quote(_masked(value, filled))}"
    if names := dict.fromkeys([*env, *settings]):
        said += f", with values for {', '.join(names)}"  # a variable can change what a program does
    if found := references([*env.values(), *settings.values()]):
        said += f", among them {', '.join(found)}"
    return said


def _sounds(name: str) -> bool:
    return _SECRET.search(name) is not None


def _masked(text: str, filled: Filled) -> str:
    for key in filled.secrets:
        text = text.replace(f"${{secret:{key}}}", HIDDEN)
    return text.replace("${PORT}", "<a free port>")


def _address(filled: Filled) -> str:
    """Give where a server is reached: a secret may be in it, but the host is never one."""
    whole = shown = filled.url or ""
    for key, value in filled.secrets.items():
        whole = whole.replace(f"${{secret:{key}}}", value)
    shown = _masked(shown, filled)
    host = re.match(r"https?://[^/?#\\]*", _masked(whole, filled))
    return shown if host is None or shown.startswith(host[0]) else f"{host[0]}/{HIDDEN}"
