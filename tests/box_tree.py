"""Where another user than the tests' own finds the sandbox, and a Python to run it with."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

ORDINARY = 58234
"""A user nobody is."""


@cache
def tree() -> Path:
    """Copy what the sandbox is made of to where every user can read it; gone when the tests are over."""
    import landlockpy
    import seccompy

    import toolscore.sandbox

    place = Path(tempfile.mkdtemp(prefix="toolscore-acceptance-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    place.chmod(0o755)
    (place / "toolscore").mkdir()
    (place / "toolscore" / "__init__.py").touch()
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(toolscore.sandbox.__file__).parent, place / "toolscore" / "sandbox", ignore=ignored)
    for module in (landlockpy, seccompy):
        shutil.copytree(Path(module.__file__ or "").parent, place / module.__name__, ignore=ignored)
    shutil.copy(Path(__file__).with_name("box_driver.py"), place)
    subprocess.run(["chmod", "-R", "a+rX", str(place)], check=True)
    return place


@cache
def python_of(user: str) -> str | None:
    """Find an interpreter that the user can run."""
    if user == "root" or os.geteuid() != 0:
        return sys.executable
    for found in ("/usr/bin/python3", "/usr/local/bin/python3", sys.executable):
        with suppress(OSError, ValueError):
            done = subprocess.run(
                [found, "-c", "import sys; print(sys.version_info >= (3, 11))"],
                capture_output=True,
                text=True,
                user=ORDINARY,
                group=ORDINARY,
                extra_groups=[],
                cwd="/",
                check=False,
            )
            if done.stdout.strip() == "True":
                return found
    return None
