"""How long the relay waits for what, and how often it has a crashed ToolScore started again."""

from __future__ import annotations

import time
from collections import deque

from .landlord import UnreachableError

DRAIN = 10.0
"""Seconds ToolScore may stay silent after our input ended, before we go anyway. A client that closes its pipe wants
us gone; a ToolScore that hangs must not leave relays behind."""

WELCOME_DEADLINE = 30.0
"""Seconds ToolScore may take to welcome us, and to take in what is told anew."""

CRASHES, CRASH_WINDOW = 5, 60.0
"""So many crashes within so many seconds, and no further ToolScore is started."""

BACK_OFF = (0.0, 0.2, 0.5, 1.0)
"""Seconds before the first, second, ... start after crashes within the window."""

LOOK, LOOKS = 0.5, 60
"""Seconds between two looks for a ToolScore that somebody else may start after a goodbye, and how many."""


class Crashes:
    """The crashes of the ToolScore behind one relay."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=CRASHES)
        self._may_be_same = True

    def back_off(self, welcomed: bool) -> float:
        """Note the end of a connection; give the seconds to wait before the next start.

        A process that is being killed gives back its connections one after the other, the one at which it takes in
        others late, perhaps: who is quick comes to the same process once more, and loses that connection too. That is
        no further crash. It cannot be met a third time, as what ended the second connection was that it listens no
        more.

        Args:
            welcomed: Whether it had taken us in.

        Raises:
            UnreachableError: If it is not to be started any more.
        """
        same, self._may_be_same = self._may_be_same and not welcomed, welcomed
        if same:
            return 0.0
        now = time.monotonic()
        self._times.append(now)
        recent = sum(now - crash < CRASH_WINDOW for crash in self._times)
        if recent >= CRASHES:
            raise UnreachableError(
                f"it crashed {recent} times within {CRASH_WINDOW:g} s and is not started again. Its log, "
                "logs/toolscore.log in the home, tells more."
            )
        return BACK_OFF[min(recent, len(BACK_OFF)) - 1]
