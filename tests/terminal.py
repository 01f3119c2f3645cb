"""A program in a terminal of its own: its keys, its size, and what stands on its screen."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyte

PATIENCE = 60.0


class Terminal:
    """A terminal, and the program in it.

    Args:
        process: The program.
        master: The terminal's other side.
        inside: The program's side, which tells how it is set.
        columns: Its width.
        lines: Its height.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], master: int, inside: int, columns: int, lines: int
    ) -> None:
        self.process = process
        self.raw = b""
        """All that came from the program."""
        self._master = master
        self._inside = inside
        self._screen: Any = pyte.Screen(columns, lines)
        self._stream: Any = pyte.ByteStream(self._screen)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def resize(self, columns: int, lines: int) -> None:
        """Make it another size, as a person does who drags its corner."""
        self._screen.resize(lines, columns)
        fcntl.ioctl(self._inside, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    @property
    def lines(self) -> list[str]:
        """What stands on it; a character of two cells is one character."""
        shown = []
        for number in range(self._screen.lines):
            row = self._screen.buffer[number]
            shown.append("".join(row[column].data for column in range(self._screen.columns)).rstrip())
        return shown

    @property
    def text(self) -> str:
        """The same as one text."""
        return "\n".join(self.lines)

    @property
    def is_plain(self) -> bool:
        """Whether it is set as a shell wants it: a line at a time, with what is typed shown."""
        wanted = termios.ICANON | termios.ECHO
        return bool(termios.tcgetattr(self._inside)[3] & wanted == wanted)

    def until(self, condition: Callable[[], Any]) -> None:
        """Take what comes until a condition holds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            self.pump()
            assert time.monotonic() < deadline, f"it did not come true in time:\n{self.text}"

    def shows(self, text: str) -> None:
        """Wait until a text stands on it."""
        self.until(lambda: text in self.text)

    def ended(self) -> int:
        """Wait for the program's end; give its exit status."""
        self.until(lambda: self.process.poll() is not None)
        while self.pump():  # a terminal gives a few thousand bytes at a time
            pass
        assert self.process.returncode is not None
        return self.process.returncode

    def pump(self) -> bool:
        """Take what has come, or wait a moment for it; tell whether there was anything."""
        if not select.select([self._master], [], [], 0.05)[0]:
            return False
        data = os.read(self._master, 1 << 16)
        self.raw += data
        # A mark of one kind of terminal, which pyte would show.
        self._stream.feed(data.replace(b"\x1b[?2026h", b"").replace(b"\x1b[?2026l", b""))
        return True


@contextmanager
def terminal(
    command: list[str], environ: dict[str, str], cwd: Path, *, columns: int = 100, lines: int = 30
) -> Iterator[Terminal]:
    """Run a program in a terminal; it is killed at the end if it still runs."""
    master, inside = pty.openpty()
    try:
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        process = subprocess.Popen(
            command,
            env={**environ, "TERM": "xterm-256color"},
            cwd=cwd,
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
            preexec_fn=_own,  # noqa: PLW1509 - it makes one system call, which takes no lock
        )
        try:
            yield Terminal(process, master, inside, columns, lines)
        finally:
            process.kill()
            process.wait()
    finally:
        os.close(master)
        os.close(inside)


def _own() -> None:
    """Make it the terminal of the new session, so that Ctrl-C and a new size are told."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
