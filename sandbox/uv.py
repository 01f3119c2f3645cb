"""Calling uv: with what it needs of our environment and nothing else, bounded in time, ended with all it started."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

MOST_WORDS = 1_500
"""Characters of uv's words that are told, from the beginning: the reason comes first, hints after it."""

_PASSED = frozenset(
    [
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "TEMP", "TMP"),
        *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "SSL_CLIENT_CERT", "NETRC", "NO_PROXY", "no_proxy"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"),
        # By this one, whoever cleans up after a ToolScore that was killed knows that a process was its.
        "TOOLSCORE_CHILD_ID",
    ]
)
# Would lead uv to another interpreter or project than the one it is called for.
_DROPPED = frozenset({"UV_PROJECT", "UV_PROJECT_ENVIRONMENT", "UV_PYTHON", "UV_WORKING_DIR", "UV_TARGET"})
_CERTIFICATES = ("UV_SYSTEM_CERTS", "UV_NATIVE_TLS", "SSL_CERT_FILE")
# What it says of its progress; the rest is what went wrong.
_STEPS = re.compile(r" ?(Resolved|Downloading|Downloaded|Prepared|Installed|Bytecode compiled) ")
_REMARKS = re.compile(r"Using |warning: | [+~-] ")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_PASSWORDS = re.compile(r"(?<=://)[^/@\s]+@")


Tell = Callable[[str], None]
"""Is told what uv does, a line at a time."""


# prctl(2): PR_SET_PDEATHSIG is 1; it stays over exec. The parent may be gone before it holds.
_TIED = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9);"
    "os.getppid() == int(sys.argv[1]) or os._exit(1); os.execv(sys.argv[2], sys.argv[2:])"
)


class UvError(Exception):
    """It did not do what it was called for; what it said."""


def find() -> str:
    """Find uv: the one ToolScore depends on, or the machine's own.

    Raises:
        UvError: If there is none.
    """
    try:
        from uv import find_uv_bin

        return find_uv_bin()
    except (ImportError, FileNotFoundError):
        if found := shutil.which("uv"):
            return found
    raise UvError("uv is missing, and packages are installed with it: run `pip install uv`")


def names(environ: Mapping[str, str]) -> list[str]:
    """Name what is set in an environment that uv reads."""
    return sorted(
        name for name in environ if name in _PASSED or (name.startswith("UV_") and name not in _DROPPED)
    )


def environment() -> dict[str, str]:
    """Give what uv needs of our environment: its mirrors, credentials, proxies and certificates."""
    passed = {name: os.environ[name] for name in names(os.environ)}
    if not any(name in passed for name in _CERTIFICATES):
        passed["UV_SYSTEM_CERTS"] = "true"  # those of a company's own proxy are among them
    return passed | {"NO_COLOR": "1", "UV_NO_PROGRESS": "1"}


def _tied(program: str) -> list[str]:
    """Give the command that starts a program which does not outlive this process, however that ends."""
    if not sys.platform.startswith("linux"):
        return [program]
    return [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), program]


async def run(arguments: Sequence[str], timeout: float, keep: int, tell: Tell | None = None) -> None:
    """Run uv to its end. Whatever ends the wait early ends it and all it started.

    Args:
        arguments: Its arguments.
        timeout: Seconds it may take.
        keep: A descriptor it holds as long as it lives.
        tell: Told what it does.

    Raises:
        UvError: If it fails.
        TimeoutError: If it takes longer.
    """
    # The root as the working directory: a neutral place, without a project or a configuration of one.
    process = await asyncio.create_subprocess_exec(
        *_tied(find()),
        *arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        limit=1 << 20,  # of one line
        env=environment(),
        cwd="/",
        start_new_session=True,
        pass_fds=[keep],
    )
    assert process.stderr is not None
    said: list[str] = []
    try:
        async with asyncio.timeout(timeout):
            while line := await process.stderr.readline():
                text = _ESCAPES.sub("", line.decode(errors="replace")).rstrip()
                if _STEPS.match(text):
                    if tell is not None:
                        tell(text.strip())
                elif not _REMARKS.match(text):
                    said.append(text)
            await process.wait()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):  # it may have ended, and only the news of that be under way
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.shield(process.wait())
    if process.returncode:
        words = _PASSWORDS.sub("***@", "\n".join(said)).strip()
        if len(words) > MOST_WORDS:
            words = f"{words[:MOST_WORDS]} […]"
        raise UvError(words or f"uv ended with status {process.returncode} and said nothing")
