"""What one execution may use, and how a caller's wishes meet the operator's limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

UNITS = {
    "wall": ("seconds", 1),
    "cpu": ("seconds", 1),
    "memory": ("MiB", 1 << 20),
    "disk": ("MiB", 1 << 20),
    "output": ("bytes", 1),
    "result": ("MiB", 1 << 20),
    "files": ("MiB", 1 << 20),
}
"""What limits are told in, as callers give them, and what that is in `Limits`; the others are numbers of things."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one execution; of one box where it is a session.

    Attributes:
        wall: Seconds until it is ended.
        cpu: Seconds of processor time of the whole box.
        memory: Bytes of memory of the whole box.
        processes: Processes and threads at the same time.
        open_files: Open files of each process.
        disk: Bytes that `/workspace` can hold; `/tmp` can hold as many.
        inodes: Files and folders in each of the two.
        output: Bytes that are kept of standard output, and as many of standard error; more ends the execution.
        result: Bytes of the value and of the figures, as JSON.
        files: Bytes of created files that are taken out of the box.
    """

    wall: float = 30.0
    cpu: float = 30.0
    memory: int = 512 << 20
    processes: int = 32
    open_files: int = 256
    disk: int = 64 << 20
    inodes: int = 4096
    output: int = 1 << 20
    result: int = 8 << 20
    files: int = 32 << 20

    def lowered(self, asked: Mapping[str, Any]) -> tuple[Limits, list[str]]:
        """Give these limits with those that a caller asked for, where they are lower.

        Args:
            asked: Limits by name; values above 0.

        Returns:
            The limits that hold, and a remark on each wish that was above its limit.
        """
        remarks = []
        kept: dict[str, Any] = {}
        for field in fields(self):
            wish = asked.get(field.name)
            if wish is None:
                continue
            most = getattr(self, field.name)
            if wish > most:
                asked_for, here = shown(field.name, wish), shown(field.name, most)
                remarks.append(f"{field.name}: {asked_for} was asked for, {here} is the most here")
            else:
                kept[field.name] = type(most)(wish)
        return replace(self, **kept), remarks


def shown(name: str, value: float) -> str:
    """Give a limit's value with its unit, as a person writes it."""
    unit, size = UNITS.get(name, ("", 1))
    return f"{_plain(value / size)} {unit}".rstrip()


def mib(size: int) -> str:
    """Give a number of bytes in MiB."""
    return f"{_plain(size / (1 << 20))} MiB"


def _plain(number: float) -> str:
    if 1 <= number < 1e15:
        return f"{number:.2f}".rstrip("0").rstrip(".")
    return f"{number:.3g}"  # nobody counts these digits
