"""What holds for every test."""

from __future__ import annotations

import os
import signal

from toolscore_client import BARE, WORDS_ONLY

# Most tests count servers and tools, so the homes they make are empty: without the servers that are part of
# ToolScore. Those that are about these take it out again.
os.environ.update(BARE | WORDS_ONLY)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A script that runs the tests in the background has it ignored, and what they start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
