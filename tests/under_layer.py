"""Python run in a process of its own under a layer of ours, and what it said."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from machine import CALLS


@dataclass
class Ended:
    """How it ended, and the value its code left in `said`."""

    status: int
    said: Any
    stderr: str


def under(layer: str, code: str, before: str = "") -> Ended:
    """Run code after the statement `layer`; what `before` prepares is done without it."""
    lines = "\n".join("    " + line for line in code.strip().splitlines())
    program = f"""
import ctypes, errno, json, os, signal, socket, subprocess, sys, threading
from toolscore.sandbox import landlock, seccomp
{CALLS}
{before}
said = None
{layer}
try:
{lines}
finally:
    os.write(1, json.dumps(said).encode())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60
    )
    return Ended(done.returncode, json.loads(done.stdout or "null"), done.stderr)
