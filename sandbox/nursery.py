"""Where boxes come from: the server's end of one zygote, which is started when a box is first wanted."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import harvest
from .errors import BoxError, PreloadError, TierError
from .isolation import Tier
from .limits import Limits

START = 60.0
"""Seconds a zygote has to get ready: it may import large packages."""

FORK = 20.0
"""Seconds a zygote has to fork a box, on a machine that has much else to do."""

UNUSED = range(61184, 65520)
"""Users that systemd keeps for services without one of their own; the boxes of root's ToolScore are one of them."""


PLACES = "toolscore-code-"
"""How folders of boxes begin that cannot be below the state; the pid namespace and the process they are of follow."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Packages that code can import besides the standard library.

    Attributes:
        site: The folder they are in; `None` for the standard library alone.
        preload: Modules that are imported before any box is made.
        names: What is in it, for people.
    """

    site: Path | None
    preload: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(slots=True)
class Newborn:
    """A box that was forked and makes itself ready.

    Attributes:
        line: The server's end of its line.
        handle: A pidfd of its init.
        pid: The init's number out here.
        zygote: Number of the zygote that made it, with which it ends.
        folder: Its folder out here, where it has no root of its own.
    """

    line: socket.socket
    handle: int
    pid: int
    zygote: int | None
    folder: str | None


@dataclass(slots=True)
class Nursery:
    """One zygote and its boxes.

    Args:
        tier: `FULL` or `REDUCED`.
        limits: The operator's limits.
        state: A folder for its temporary ones.
        environment: The packages, if there are any.
        skip: Layers that are left out: for tests of what happens without them.
    """

    tier: Tier
    limits: Limits
    state: Path
    environment: Environment | None = None
    skip: frozenset[str] = frozenset()
    pid: int | None = None
    layers: dict[str, str] = field(default_factory=dict)
    """Why a layer is not used, as the zygote found."""
    starts: int = 0
    """How often a zygote was started."""
    _process: subprocess.Popen[bytes] | None = None
    _control: socket.socket | None = None
    _place: str = ""
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock)
    _ready: asyncio.Future[dict[str, Any]] | None = None
    _wanted: dict[int, asyncio.Future[int]] = field(default_factory=dict)
    _count: int = 0
    _endings: set[asyncio.Task[None]] = field(default_factory=set)

    async def born(self) -> Newborn:
        """Have a box forked, starting the zygote if there is none.

        Raises:
            BoxError: If it cannot be.
        """
        async with self._starting:
            if self._control is None:
                await self._start()
        control, zygote, place = self._control, self.pid, self._place
        if control is None:
            raise BoxError("the zygote ended")
        self._count += 1
        number = self._count
        ours, theirs = socket.socketpair()
        wanted = self._wanted[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(FORK):
                with theirs:
                    await _send(control, str(number).encode(), theirs.fileno())
                handle = await wanted
            pid = _number(handle)
        except OSError as error:  # a time-out is one
            self._wanted.pop(number, None)
            _let_go(ours, wanted)
            if self._control is control:
                self._gone(f"it does not answer: {error}")  # the next box need not wait to hear of it
            raise BoxError(f"the zygote does not answer: {error or 'not in time'}") from error
        except BaseException:
            _let_go(ours, wanted)
            raise
        finally:
            self._wanted.pop(number, None)
        ours.setblocking(False)
        folder = None if self.tier is Tier.FULL else os.path.join(place, f"box-{pid}")  # noqa: PTH118
        return Newborn(ours, handle, pid, zygote, folder)

    async def _start(self) -> None:
        uid = self._make_place()
        try:
            told = await self._booted(uid)
        except OSError as error:  # a time-out is one
            self._gone(f"it did not get ready: {error or 'no answer'}")
            raise BoxError(f"no box can be made: {error or 'no answer of the zygote'}") from error
        except BaseException:
            self._gone("nobody waits for it any more")
            raise
        if "failed" in told:
            self._gone(told["failed"])
            if told.get("preload"):
                raise PreloadError(told["failed"])
            raise TierError(f"no box can be made: {told['failed']}")
        self.layers = told["layers"]

    async def _booted(self, uid: int) -> dict[str, Any]:
        """Start the zygote; gives what it says of itself.

        Raises:
            OSError: If it cannot be started, or says nothing in time.
        """
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        boot = Path(__file__).with_name("boot.py")
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(boot), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={},
                cwd="/",
                start_new_session=True,
            )
        self.starts += 1
        self.pid = self._process.pid
        self._control = ours
        ours.setblocking(False)
        self._ready = loop.create_future()
        loop.add_reader(ours, self._heard)
        ours.send(json.dumps(self._order(uid)).encode())
        return await asyncio.wait_for(self._ready, START)

    def _make_place(self) -> int:
        """Make the folder of the boxes; gives the user they are to be, where this one is root, and else 0."""
        self.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        uid = random.choice(UNUSED) if os.geteuid() == 0 else 0  # noqa: S311 -- not a secret
        if self.tier is Tier.FULL or not uid:
            self._place = tempfile.mkdtemp(prefix="boxes-", dir=self.state)
            return uid
        # Theirs, and where they can get at it: the state of root's ToolScore is mostly below folders of root alone.
        _sweep()
        self._place = tempfile.mkdtemp(prefix=f"{PLACES}{_namespace()}-{os.getpid()}-")
        try:
            os.chown(self._place, uid, uid)
        except OSError:
            return (
                0  # a root without that right, or of a namespace that has no other users, can be nobody else
            )
        return uid

    def _order(self, uid: int) -> dict[str, Any]:
        """Say what the zygote is to make."""
        import landlockpy
        import seccompy

        here = Path(__file__).parent
        libraries = {str(Path(str(module.__file__)).parent) for module in (landlockpy, seccompy)}
        prefix = os.path.realpath(sys.base_prefix)
        python = os.path.realpath(sys.executable)
        environment = {}
        binds = {str(here): "/opt/toolscore/toolscore/sandbox"}
        binds |= {path: f"/opt/toolscore/{Path(path).name}" for path in libraries}
        full = self.tier is Tier.FULL
        if full and not _is_below(prefix, "/usr"):
            binds[prefix] = "/opt/python"
            python = f"/opt/python/{os.path.relpath(python, prefix)}"
            environment["LD_LIBRARY_PATH"] = "/opt/python/lib"
        site = str(self.environment.site) if self.environment and self.environment.site else None
        if site and full:
            binds[site] = "/opt/packages"
            site = "/opt/packages"
        return {
            "tier": str(self.tier),
            "place": self._place,
            "paths": [str(here.parent.parent), *{str(Path(path).parent) for path in libraries}],
            "binds": binds,
            "hidden": _packages_of(python),
            "python": python,
            "environment": environment,
            "uid": uid,
            "site": site,
            "preload": list(self.environment.preload) if self.environment else [],
            "skip": sorted(self.skip),
            "limits": asdict(self.limits),
        }

    def _heard(self) -> None:
        control = self._control
        assert control is not None
        try:
            data, descriptors, _, _ = socket.recv_fds(control, 1 << 16, 1)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        if not data:
            self._gone("the zygote ended")
            return
        told = json.loads(data)
        if "box" in told:
            wanted = self._wanted.get(told["box"])
            if wanted is None or wanted.done():
                for descriptor in descriptors:  # nobody waits for it any more; its line is closed, so it ends
                    os.close(descriptor)
            elif descriptors:
                wanted.set_result(descriptors[0])
            else:
                wanted.set_exception(BoxError(f"no box can be made: {told.get('failed')}"))
        elif self._ready is not None and not self._ready.done():
            self._ready.set_result(told)

    def _gone(self, reason: str) -> None:
        """Take note that there is no zygote; the next box starts another."""
        control, self._control = self._control, None
        if control is not None:
            asyncio.get_running_loop().remove_reader(control)
            control.close()
        process, self._process, place, self._place = self._process, None, self._place, ""
        if process is not None:
            process.kill()
        if process is not None or place:
            # Taking many namespaces apart takes the kernel a while.
            ending = asyncio.get_running_loop().create_task(asyncio.to_thread(_end, process, place))
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)
        self.pid = None
        if self._ready is not None and not self._ready.done():
            self._ready.set_result({"failed": reason})
        for wanted in self._wanted.values():
            if not wanted.done():
                wanted.set_exception(BoxError(f"no box can be made: {reason}"))

    async def close(self) -> None:
        """End the zygote, and with it every box."""
        self._gone("it is being closed")
        while self._endings:
            await asyncio.wait(self._endings)


def _end(process: subprocess.Popen[bytes] | None, place: str) -> None:
    if process is not None:
        process.wait()
    if place:
        harvest.remove(place)


def _sweep() -> None:
    """Remove the folders of processes that are gone."""
    for path in Path(tempfile.gettempdir()).glob(f"{PLACES}*"):
        space, number, *_ = [*path.name.removeprefix(PLACES).split("-"), ""]
        try:
            # Of a process in another pid namespace nobody here knows whether it lives.
            mine = space == str(_namespace()) and path.lstat().st_uid in {0, *UNUSED}
            if mine and number.isdigit() and not Path(f"/proc/{number}").exists():
                harvest.remove(str(path))
        except OSError:
            continue


async def _send(control: socket.socket, data: bytes, descriptor: int) -> None:
    while True:
        try:
            socket.send_fds(control, [data], [descriptor])
            return
        except BlockingIOError:
            await asyncio.sleep(0.001)  # its queue is full: it forks as fast as it can


def _let_go(line: socket.socket, wanted: asyncio.Future[int]) -> None:
    """Close what a box is held by that nobody wants any more; it ends then."""
    line.close()
    if wanted.done() and not wanted.cancelled() and wanted.exception() is None:
        os.close(wanted.result())


def _namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino


def _number(handle: int) -> int:
    """Give the process number behind a pidfd, as it is out here; see pidfd_open(2)."""
    for line in Path(f"/proc/self/fdinfo/{handle}").read_text().splitlines():
        if line.startswith("Pid:"):
            return int(line.split()[1])
    raise BoxError("this kernel does not tell the number of a process by its handle")


def _packages_of(python: str) -> list[str]:
    """List where an interpreter that code starts in a box would find packages of the host's."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    prefix = os.path.dirname(os.path.dirname(python))  # noqa: PTH120 -- a path in the box
    found = [f"{prefix}/lib/{version}/site-packages", f"/usr/local/lib/{version}/site-packages"]
    return [*found, f"/usr/local/lib/{version}/dist-packages", "/usr/lib/python3/dist-packages"]


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")
