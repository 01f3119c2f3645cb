"""The policy file of a running ToolScore: a new one takes the place of the old only if it is in order."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .errors import PolicyError, Problem
from .gate import Gate
from .policy import Policy
from .reading import read

logger = logging.getLogger(__name__)

Stamp = tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Look:
    """What a file was when it was read.

    Attributes:
        path: The file.
        stamp: By which a change of it is seen.
        policy: What it says, or what is wrong with it; `None` where it is not there.
    """

    path: Path
    stamp: Stamp
    policy: Policy | PolicyError | None


class PolicyFile:
    """Reads the file, and hands what it says to the gate.

    Args:
        path: The file.
        gate: Keeps to it.
        required: Whether it must be there, as somebody named it.
    """

    def __init__(self, path: Path, gate: Gate, *, required: bool) -> None:
        self.path = path
        self._gate = gate
        self._required = required
        self.problems: tuple[str, ...] = ()
        """What is wrong with the file as it is now; then what was read before goes on to hold."""
        self.since: float | None = None
        """When the policy that holds was read, in seconds since 1970; `None` without one."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when another policy holds, and when it turns out what is wrong with the file, or nothing is."""

        self.seen: Stamp = None
        """The file as it was when it was read last."""

    def open(self) -> None:
        """Read it for the first time.

        Raises:
            PolicyError: If it cannot be used, or must be there and is not.
        """
        self.seen = self.stamp()
        try:
            self._gate.take(read(self.path))
            self.since = time.time()
        except FileNotFoundError:
            if self._required or os.path.lexists(self.path):
                raise PolicyError(self.path, [_missing(self.path)]) from None

    def stamp(self) -> Stamp:
        """Tell whether the file is the same without reading it; `None` where there is none."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        # The time of any change, for that of mode and owner.
        return (
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
            status.st_mode,
        )

    def check(self) -> tuple[str, ...]:
        """Tell what is wrong with it as it is now, without letting it hold."""
        try:
            read(self.path)
        except FileNotFoundError:
            return (self._gone(),) if self._required or self._gate.policy is not None else ()
        except PolicyError as error:
            return tuple(error.lines())
        return ()

    def look(self) -> Look:
        """Read it, without letting it hold. May be called in any thread."""
        # The stamp before it is read: what changes meanwhile is seen the next time.
        path, stamp = self.path, self.stamp()
        try:
            return Look(path, stamp, read(path))
        except FileNotFoundError:
            return Look(path, stamp, None)
        except PolicyError as error:
            return Look(path, stamp, error)

    def again(self, look: Look | None = None) -> tuple[str, ...]:
        """Read it again; if anything is wrong with it, all stays as it was.

        Args:
            look: What was read, where that was done already.

        Returns:
            What is wrong with it.
        """
        if look is None or look.path != self.path or look.stamp != self.stamp():
            look = self.look()
        held, before = self._gate.policy, self.problems
        self.seen, found = look.stamp, look.policy
        if found is None:
            self.problems = (self._gone(),) if self._required or held is not None else ()
        elif isinstance(found, PolicyError):
            self.problems = tuple(found.lines())
        else:
            self.problems = ()
            if held is None or (found.rules, found.limits, found.path, _at(found.limits)) != (
                held.rules,
                held.limits,
                held.path,
                _at(held.limits),
            ):
                self._gate.take(found)
                self.since = time.time()
                count = f"{len(found.rules)} rules, {len(found.limits)} limits"
                logger.info("the policy %s holds now: %s", self.path, count)
                self.on_change()
                return self.problems
        if self.problems != before:
            if self.problems:
                kept = "the policy that was read before goes on to hold" if held else "there is no policy"
                logger.error("the policy file cannot be used, so %s:", kept)
                for problem in self.problems:
                    logger.error("policy: %s", problem)
            else:
                logger.info("the policy file %s is in order again", self.path)
            self.on_change()
        return self.problems

    def move(self, path: Path, *, required: bool) -> None:
        """Read another file from now on."""
        self.path, self._required = path, required
        self.again()

    def _gone(self) -> str:
        return f"{self.path}: {_missing(self.path).text}"


def _at(limits: tuple[object, ...]) -> list[int]:
    return [getattr(limit, "line", 0) for limit in limits]


def _missing(path: Path) -> Problem:
    return Problem(
        0,
        "there is no such file (any more). Put it back; an empty file is a policy that leaves all as it is without "
        "one.",
    )
