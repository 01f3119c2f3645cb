"""Running an installing program (uv, npm, git): captured, reported, bounded in time, ended as a whole."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from ..environment import child_environment
from ..errors import InstallError
from ..guard import Guard
from ..launch import launch
from ..pin import Locked
from ..spec import Report
from .file_list import text_hash
from .mask import mask

MAX_OUTPUT = 16 * 1024
"""Bytes of output that are kept, counted from the end: compilers write megabytes, the reason comes last."""
MAX_LINE = 300
"""Characters of one reported line."""
HEARTBEAT = 5.0
"""Seconds of silence after which a running program is reported, so that clients do not give up waiting."""
LINGER = 1.0
"""Seconds to go on reading after a program ended whose background children still hold its output open."""
CLEANUP = 5.0
"""Seconds the end of a killed tree is waited for."""

# Would make uv use ToolScore's own environment instead of the server's.
_DROPPED = frozenset({"UV_PROJECT_ENVIRONMENT"})
# Besides what launchers get: the credentials and certificates of uv and git, and what compilers are told.
_PASSED = frozenset(
    {
        "NETRC",
        "SSL_CLIENT_CERT",
        "SSH_AUTH_SOCK",
        "CC",
        "CXX",
        "CFLAGS",
        "CXXFLAGS",
        "LDFLAGS",
        "PKG_CONFIG_PATH",
        "DEVELOPER_DIR",
        "SDKROOT",
    }
)
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# One line for each of thirty packages says nothing a person waits for; errors come with the exception.
_TRIVIAL = re.compile(r"[+~-] \S+$|Using Python |npm (?:warn|error)\b|cause: ")


@dataclass(frozen=True, slots=True)
class Finished:
    """A program that ended: its exit status, and the end of what it wrote on both its outputs."""

    returncode: int
    output: str


@dataclass(slots=True)
class Job:
    """What all steps of one installation share.

    Attributes:
        directory: The server's own folder, already made.
        report: Told of every step and every line of output.
        timeout: Seconds the whole installation may take.
        python: The interpreter that Python environments are made with.
        node: The `node` program to use; found when `None`.
        constraints: Version constraints of the Python environment.
        guard: Starts the programs; without one they outlive a ToolScore that is killed.
        locked: What must come out of it.
        locks: Hash of each lock that was kept, by its name.
        unhashed: What they name without a hash.
        content: What the source came to, where it is one thing; see `Pin`.
        cached: Whether uv may take packages from its cache.
    """

    directory: Path
    report: Report
    timeout: float
    python: str
    node: str | None = None
    constraints: tuple[str, ...] = ()
    guard: Guard | None = None
    locked: Locked | None = None
    locks: dict[str, str] = field(default_factory=dict)
    unhashed: list[str] = field(default_factory=list)
    content: str | None = None
    cached: bool = field(default=True, init=False)
    _deadline: float = field(init=False)
    _steps: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._deadline = time.monotonic() + self.timeout

    def begin_anew(self) -> None:
        """Forget what came of it, and take nothing from uv's cache from here on; time and steps go on."""
        self.cached = False
        self.locks.clear()
        self.unhashed.clear()
        self.content = None

    def left(self) -> float:
        """Give the seconds that are left to the whole installation."""
        return max(0.0, self._deadline - time.monotonic())

    def keep(self, name: str, text: str) -> Path:
        """Keep a lock with what is installed.

        Args:
            name: Its name.
            text: It.

        Returns:
            Its file.
        """
        folder = self.directory / "locks"
        folder.mkdir(exist_ok=True)
        path = folder / name
        path.write_text(text, encoding="utf-8", newline="")
        self.locks[name] = text_hash(text)
        return path

    def came_to(self, content: str, what: str) -> None:
        """Take note of what the source came to.

        Args:
            content: See `Pin`.
            what: The source, for the error.

        Raises:
            InstallError: If it is not what it must be.
        """
        if self.locked is not None and self.locked.content != content:
            raise InstallError(
                f"{what} is not what was locked: it is {content} now, and {self.locked.content} is expected. Nothing "
                "was installed; get what was locked, or lock what there is."
            )
        self.content = content

    async def say(self, message: str) -> None:
        """Report one step."""
        self._steps += 1
        await self.report(float(self._steps), None, message)

    async def run(
        self, argv: Sequence[str], *, cwd: str | Path = "/", env: Mapping[str, str | None] | None = None
    ) -> Finished:
        """Run one program of this installation within the time that is left.

        Args:
            argv: Program and arguments; never through a shell.
            cwd: Working directory. The root by default: a neutral place, without a project, a configuration
                file or a folder named like a package.
            env: Variables on top of the passed environment; `None` removes one.

        Raises:
            InstallError: If the time is over, or the program cannot be started.
        """
        output = Tail()
        if not self.cached:
            env = {**(env or {}), "UV_NO_CACHE": "1"}
        try:
            with anyio.fail_after(self.left()):
                return await run(
                    argv,
                    output=output,
                    say=self.say,
                    cwd=cwd,
                    env=installer_environment(env),
                    guard=self.guard,
                )
        except TimeoutError:
            raise InstallError(
                f"Installing took longer than {self.timeout:g} seconds and was stopped in "
                f"{Path(argv[0]).name}; what "
                "was downloaded so far is cached, so try again, or allow it more time.",
                stderr=output.text(),
            ) from None
        except (FileNotFoundError, PermissionError) as error:
            raise InstallError(f"{argv[0]} cannot be started: {error.strerror}.") from None


class Tail:
    """The end of a stream of bytes, and its lines as they are completed."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._line = bytearray()

    def feed(self, chunk: bytes) -> list[str]:
        """Take a chunk; give the lines worth telling it completed, without escape sequences and passwords."""
        self._kept += chunk
        del self._kept[:-MAX_OUTPUT]
        # Progress bars redraw their line with a carriage return.
        *complete, rest = bytes(self._line + chunk).replace(b"\r", b"\n").split(b"\n")
        self._line = bytearray(rest[-MAX_OUTPUT:])
        lines = [_clean(raw).strip()[:MAX_LINE] for raw in complete]
        return [line for line in lines if line and not _TRIVIAL.match(line)]

    def text(self) -> str:
        """Give what was kept."""
        return _clean(bytes(self._kept)).strip()


def _clean(raw: bytes) -> str:
    text = _ESCAPES.sub("", raw.decode(errors="replace"))
    return mask(text)


def installer_environment(extra: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Give installers what they need of ToolScore's environment, and nothing else.

    Builds run code of foreign packages, which must not see what else was exported in the shell. What they do
    see are the mirrors, proxies, certificates and configuration of uv, npm and git, because they run below those.

    Args:
        extra: Variables to set; `None` removes one.
    """
    ours = {name: value for name, value in os.environ.items() if name not in _DROPPED}
    passed = _PASSED.union(name for name in ours if name.startswith("GIT_"))
    env = child_environment(ours, spec_env={}, program="uv", pass_env=passed)
    env |= {"NO_COLOR": "1", "UV_NO_PROGRESS": "1", "npm_config_update_notifier": "false"}
    for key, value in (extra or {}).items():
        if value is None:
            env.pop(key, None)
        else:
            env[key] = value
    return env


async def run(
    argv: Sequence[str],
    *,
    output: Tail,
    say: Callable[[str], Awaitable[None]],
    cwd: str | Path,
    env: Mapping[str, str],
    guard: Guard | None = None,
) -> Finished:
    """Run a program to its end. Whatever ends the wait early ends the program and all it started.

    Args:
        argv: Program and arguments.
        output: Receives what it writes.
        say: Told every line it writes.
        cwd: Working directory.
        env: Its whole environment.
        guard: Starts it.

    Raises:
        OSError: If it cannot be started.
        InstallError: If it was ended together with its guardian.
    """
    nothing = os.open(os.devnull, os.O_RDONLY)
    read_end, write_end = os.pipe()
    try:
        process = await launch(
            argv, stdin=nothing, stdout=write_end, stderr=write_end, cwd=cwd, env=env, guard=guard
        )
    except BaseException:
        os.close(read_end)
        raise
    finally:
        os.close(write_end)
        os.close(nothing)
    ended = asyncio.ensure_future(process.exited.wait())
    try:
        async with _reader(read_end) as (reader, close):
            ended.add_done_callback(lambda _: asyncio.get_running_loop().call_later(LINGER, close))
            started = time.monotonic()
            while True:
                chunk: bytes | None = None
                with anyio.move_on_after(HEARTBEAT):
                    chunk = await reader.read(65536)
                if chunk is None:
                    await say(f"{Path(argv[0]).name} is still at work ({time.monotonic() - started:.0f} s)")
                    continue
                if not chunk:
                    break
                for line in output.feed(chunk):
                    await say(line)
            await asyncio.shield(ended)
        if process.reason:
            raise InstallError(
                f"{Path(argv[0]).name} was ended: {process.reason}. Try again.", stderr=output.text()
            )
        assert process.returncode is not None
        return Finished(process.returncode, output.text())
    finally:
        process.end()
        with anyio.move_on_after(CLEANUP, shield=True):
            await asyncio.wait({ended})


@contextlib.asynccontextmanager
async def _reader(fd: int) -> AsyncIterator[tuple[asyncio.StreamReader, Callable[[], None]]]:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb", 0)
    )
    try:
        yield reader, transport.close
    finally:
        transport.close()
