"""What `sandbox_status` tells, in a text for people."""

from __future__ import annotations

import platform
from dataclasses import asdict
from typing import Any

from .limits import shown
from .settings import SandboxSettings


def plain(settings: SandboxSettings) -> dict[str, Any]:
    """Give what is so by the settings alone."""
    return {
        "minimum": str(settings.minimum),
        "limits": asdict(settings.limits),
        "python": platform.python_version(),
        "packages": list(settings.packages),
        "preload": list(settings.preload),
        "allow_packages": list(settings.allow_packages),
    }


def told_lines(told: dict[str, Any], unready: str, at_once: str) -> list[str]:
    """Say it in lines.

    Args:
        told: The structured form.
        unready: What is the matter, where it is not ready.
        at_once: How much runs at the same time, and where.
    """
    isolation = told["isolation"]
    lines = [f"isolation: {isolation['tier']}", *(f"  {k}: {v}" for k, v in isolation["layers"].items())]
    if told["problem"] is not None:
        lines.insert(0, f"{unready}: {told['problem']}")
    lines.append(
        "limits: " + ", ".join(f"{name} {shown(name, most)}" for name, most in told["limits"].items())
    )
    installed = ", ".join(told["installed"]) or ", ".join(told["packages"])
    lines.append(f"packages: {installed or 'the standard library only'}")
    if told["preload"]:
        lines.append(f"imported beforehand: {', '.join(told['preload'])}")
    if told["allow_packages"]:
        lines.append(f"can be asked for: {', '.join(told['allow_packages'])}")
    for pool in told["pools"]:
        have = ", ".join(pool["packages"]) or "the standard library"
        where = f" on {pool['node']}" if "node" in pool else ""
        lines.append(
            f"pool with {have}{where}: {pool.get('warm', 0)} boxes ready, {pool.get('executions', 0)} executions"
        )
    lines.append(f"at the same time: {at_once}")
    lines.append(f"tools can be called from code: {'yes' if told['tools'] else 'no'}")
    lines.append(f"your sessions: {', '.join(s['session'] for s in told['sessions']) or 'none'}")
    return lines
