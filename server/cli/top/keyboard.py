"""The terminal while the live view has it: keys one by one, a screen of its own, all given back at the end."""

from __future__ import annotations

import asyncio
import codecs
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_NAMES = {
    "\x1b[A": "up",
    "\x1bOA": "up",
    "\x1b[B": "down",
    "\x1bOB": "down",
    "\x1b[5~": "page-up",
    "\x1b[6~": "page-down",
    "\x1b[H": "home",
    "\x1bOH": "home",
    "\x1b[1~": "home",
    "\x1b[F": "end",
    "\x1bOF": "end",
    "\x1b[4~": "end",
    "\x1b": "escape",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\x08": "backspace",
}
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.)|\x1b|.", re.DOTALL)
"""A key: an escape sequence (ECMA-48), an escape by itself, or one character."""

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J"
"""To the alternate screen, without a cursor."""
_LEAVE = "\x1b[?25h\x1b[0m\x1b[?1049l"


def keys(text: str) -> list[str]:
    """Give the keys of what a terminal sent: names of those without a character, otherwise the character."""
    found: list[str] = _SEQUENCE.findall(text)
    return [_NAMES.get(one, one) for one in found if one in _NAMES or not one.startswith("\x1b")]


def can_be_live() -> bool:
    """Tell whether there is a terminal for a live view: of both sides, and not a dumb one."""
    try:
        import termios  # noqa: F401 - Windows has none
    except ImportError:
        return False
    return (
        sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")
    )


if sys.platform != "win32":
    import termios

    class Terminal:
        """The terminal of this process.

        Args:
            on_key: Called with each key.
            on_change: Called when its size is another, or it is this one's again.
        """

        def __init__(self, on_key: Callable[[str], None], on_change: Callable[[], None]) -> None:
            self._on_key = on_key
            self._on_change = on_change
            self._before: list[object] | None = None
            self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

        @contextmanager
        def taken(self) -> Iterator[None]:
            """Have it; at the end, however that comes, it is as it was."""
            loop = asyncio.get_running_loop()
            self._enter()
            try:
                loop.add_reader(0, self._read)
                for number, handler in (
                    (signal.SIGWINCH, self._on_change),
                    (signal.SIGTSTP, self._stopped),
                    (signal.SIGCONT, self._continued),
                ):
                    loop.add_signal_handler(number, handler)
                yield
            finally:
                loop.remove_reader(0)
                for number in (signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT):
                    loop.remove_signal_handler(number)
                self._leave()

        def write(self, text: str) -> None:
            """Write, all of it."""
            data = text.encode(sys.stdout.encoding or "utf-8", "backslashreplace")
            while data:
                try:
                    data = data[os.write(1, data) :]
                except BlockingIOError:  # somebody made it so, and it is slow
                    import select

                    select.select([], [1], [], 1.0)

        def _enter(self) -> None:
            self._before = termios.tcgetattr(0)
            mode = termios.tcgetattr(0)
            mode[3] &= ~(termios.ICANON | termios.ECHO)  # Ctrl-C and Ctrl-Z remain signals
            mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
            termios.tcsetattr(0, termios.TCSADRAIN, mode)
            self.write(_ENTER)

        def _leave(self) -> None:
            before, self._before = self._before, None
            with suppress(OSError):
                self.write(_LEAVE)
            if before is not None:
                with suppress(OSError, termios.error):  # it was hung up
                    termios.tcsetattr(0, termios.TCSAFLUSH, before)  # type: ignore[arg-type]

        def _stopped(self) -> None:
            """Give it back for as long as this is stopped by Ctrl-Z."""
            self._leave()
            os.kill(os.getpid(), signal.SIGSTOP)

        def _continued(self) -> None:
            if self._before is None:
                with suppress(OSError, termios.error):
                    self._enter()
            self._on_change()

        def _read(self) -> None:
            try:
                data = os.read(0, 4096)
            except OSError:
                data = b""
            if not data:  # it was hung up
                asyncio.get_running_loop().remove_reader(0)
                self._on_key("q")
                return
            for key in keys(self._decoder.decode(data)):
                self._on_key(key)
