"""What is done to the servers and clients of a soak, and what each of these things must lead to."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime

import psutil
from booting import HTTP, listens
from callers import GONE, OK
from lines import Failed
from recovery import FAULTY
from soak_world import CALM, DEADLINE, World, command_source

RECOVERY = 90.0
"""Seconds after which a server must be READY again, whatever was done to it."""

EXPLAINED = 30.0
"""Seconds after which the reason of a server's end must be told."""

LONG_BACK_OFF = 4
"""Failures in a row from which on a server is left in peace: its back-off would only grow longer than the run."""

REMOVED = {OK, "outcome_unknown", "unavailable", "unknown_tool", "installing"}
"""What may become of a call to a server that is removed meanwhile."""

Fault = Callable[[World, str, random.Random], Awaitable[None]]


class Faults:
    """Does one thing after the other, several at the same time, never two to one server.

    Args:
        world: To whom.
        every: Mean seconds between two.
    """

    def __init__(self, world: World, every: float) -> None:
        self._world, self._every = world, every
        self._busy: set[str] = set()
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, until: float) -> None:
        """Do things until a moment; wait for the consequences of the last."""
        rng = self._world.rng
        kinds = [kind for kind, (weight, _) in FAULTS.items() for _ in range(weight)]
        if not self._world.long:
            kinds = [kind for kind in kinds if kind is not deaf]  # takes half a minute to be sure of
        first = list(dict.fromkeys(kinds))  # each of them once, before chance decides
        rng.shuffle(first)
        while time.monotonic() < until:
            self._begin(first.pop() if first else rng.choice(kinds), random.Random(rng.random()))
            await asyncio.sleep(rng.expovariate(1 / self._every))
        if self._running:
            await asyncio.wait(self._running)

    def _begin(self, kind: Fault, rng: random.Random) -> None:
        free = [name for name in FAULTS[kind][1] if name not in self._busy]
        if free:
            name = rng.choice(free)
            self._busy.add(name)
            task = asyncio.get_running_loop().create_task(self._do(kind, name, rng))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _do(self, kind: Fault, name: str, rng: random.Random) -> None:
        world = self._world
        try:
            if name in world.servers and (await world.state(name))["failures"] >= LONG_BACK_OFF:
                world.book.notes[f"{name} left in peace"] += 1
                return
            world.book.faults[kind.__name__] += 1
            await kind(world, name, rng)
        except (Failed, TimeoutError, OSError, psutil.Error) as exc:
            world.book.blame(f"{kind.__name__} of {name}: {exc!r}")
        finally:
            self._busy.discard(name)


async def explained(world: World, name: str, since: float, *words: str) -> None:
    """Wait until the end of a server since a moment (seconds since 1970) is told, in these words."""
    deadline = time.monotonic() + EXPLAINED
    told = "nothing"
    while time.monotonic() < deadline:
        last = (await world.state(name))["last_exit"]
        if last is not None and datetime.fromisoformat(last["at"]).timestamp() >= since - 0.05:
            told = last["reason"]
            if any(word in told for word in words):
                return
        await asyncio.sleep(0.1)
    world.book.blame(f"the end of {name} is explained by {told!r}, not by {words}")


async def back(world: World, name: str) -> None:
    """Wait until a server is READY and answers."""
    begun = time.monotonic()
    while True:
        state = await world.state(name)
        if state["state"] == "READY":
            call = await world.client.call(name, "echo", within=DEADLINE, text="back")
            if call.outcome == OK:
                world.book.longest_back = max(world.book.longest_back, time.monotonic() - begun)
                return
        elif state["state"] in ("BACKOFF", "FAILED") and not state["reason"]:
            world.book.blame(f"{name} is {state['state']} for no reason")
        if time.monotonic() > begun + RECOVERY:
            world.book.blame(f"{name} did not come back within {RECOVERY:g} s: {state}")
            return
        await asyncio.sleep(0.1)


async def _pid(world: World, name: str) -> int | None:
    pids = (await world.state(name))["pids"]
    return int(pids[0]) if pids else None


async def kill(world: World, name: str, rng: random.Random) -> None:
    """kill -9."""
    pid = await _pid(world, name)
    if pid is not None:
        since = time.time()
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            await explained(world, name, since, "SIGKILL")
    await back(world, name)


async def kill_instance(world: World, name: str, rng: random.Random) -> None:
    """kill -9 of one client's own process."""
    pids = (await world.state(name))["pids"]
    if pids:
        with suppress(ProcessLookupError):
            os.kill(rng.choice(pids), signal.SIGKILL)


async def pause(world: World, name: str, rng: random.Random) -> None:
    """SIGSTOP, and SIGCONT after a while; it may have been ended by then, as it gave no answers."""
    pid = await _pid(world, name)
    if pid is not None:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            process.suspend()
            await asyncio.sleep(rng.choice((0.3, 1.0, 3.0, 20.0) if world.long else (0.3, 1.0)))
            process.resume()
    await back(world, name)


async def exits(world: World, name: str, rng: random.Random) -> None:
    """It exits in the middle of a call."""
    since = time.time()
    call = await world.client.call(name, "exit", within=DEADLINE, status=7)
    if call.outcome == "outcome_unknown":
        await explained(world, name, since, "status 7", "was ended")
    elif call.outcome != "unavailable":
        world.book.blame(f"a call in which {name} exits ended with {call.outcome}: {call.text[:200]}")
    await back(world, name)


async def hang_up(world: World, name: str, rng: random.Random) -> None:
    """It closes its output and lives on."""
    since = time.time()
    call = await world.client.call(name, "close_output", within=DEADLINE)
    if call.outcome == "outcome_unknown":
        await explained(world, name, since, "closed its output", "was ended", "exited")
    await back(world, name)


async def deaf(world: World, name: str, rng: random.Random) -> None:
    """It reads nothing any more."""
    await world.client.call(name, "deaf", within=DEADLINE)
    await back(world, name)


async def flood(world: World, name: str, rng: random.Random) -> None:
    """It writes much on standard error."""
    await world.client.call(name, "stderr", within=DEADLINE, kib=rng.choice((64, 512, 4096)))
    await back(world, name)


async def noise(world: World, name: str, rng: random.Random) -> None:
    """It prints what is no message, also instead of an answer."""
    call = await world.client.call(
        name, "noise", within=DEADLINE, line="{not json, " + "n" * rng.choice((1, 9999))
    )
    if call.outcome not in (OK, "outcome_unknown", "unavailable", "timed_out"):
        world.book.blame(f"noise of {name} led to {call.outcome}: {call.text[:200]}")
    call = await world.client.call(name, "raw", timeout=1.0, within=DEADLINE, line="instead of an answer")
    if call.outcome not in ("timed_out", "outcome_unknown", "unavailable"):
        world.book.blame(f"no answer of {name} led to {call.outcome}: {call.text[:200]}")
    await back(world, name)


async def leave_grandchild(world: World, name: str, rng: random.Random) -> None:
    """It starts a process in a session of its own, and is killed."""
    call = await world.client.call(name, "spawn", within=DEADLINE)
    await kill(world, name, rng)
    if call.outcome == OK:
        deadline = time.monotonic() + 5
        while psutil.pid_exists(int(call.text)):
            if time.monotonic() > deadline:
                world.book.blame(f"what {name} had started lives on: {call.text}")
                return
            await asyncio.sleep(0.1)


async def restart(world: World, name: str, rng: random.Random) -> None:
    """Somebody restarts it."""
    with suppress(Failed):  # it may be killed by something else of its own meanwhile
        await world.client.own("manage_server", name=name, action="restart", force=True)
    await back(world, name)


async def configure(world: World, name: str, rng: random.Random) -> None:
    """Somebody keeps it another way."""
    settings = {
        "max_parallel": rng.randint(64, 256),
        "groups": [rng.choice(("one", "two"))],
        "idle_timeout": 900,
    }
    await world.client.own("configure_server", name=name, settings=settings)


async def guest(world: World, name: str, rng: random.Random) -> None:
    """A server is installed or registered, called, and removed while it is called."""
    installed = rng.random() < 0.5
    if installed:
        await world.client.own("install_server", source=command_source(FAULTY), name=name)
    else:
        await world.toolscore.register(name, FAULTY)
    calls = [
        asyncio.get_running_loop().create_task(
            client.call(name, "sleep", within=DEADLINE, seconds=rng.uniform(0, 0.6))
        )
        for client in world.clients
    ]
    await asyncio.sleep(rng.uniform(0, 0.3))
    await world.client.own("uninstall_server" if installed else "unregister_tool", name=name, force=True)
    for call in await asyncio.gather(*calls):
        if call.outcome not in REMOVED:
            world.book.blame(f"a call of a server that was removed: {call.outcome}: {call.text[:200]}")


async def reload(world: World, name: str, rng: random.Random) -> None:
    """The configuration file is changed: a server more, or not; or it is broken, and nothing changes."""
    declared = [f"declared{number}" for number in range(3) if rng.random() < 0.5]
    world.configure(*declared)
    done = await world.client.own("reload_configuration")
    if not done["valid"] or done["refused"]:
        world.book.blame(f"a right configuration file was refused: {done}")
    if rng.random() < 0.3:
        world.config.write_text("{ broken")
        done = await world.client.own("reload_configuration")
        if done["valid"]:
            world.book.blame(f"a broken configuration file was taken: {done}")
        world.configure(*declared)
    there = {server for server in await world.client.servers() if server.startswith("declared")}
    if there != set(declared):
        world.book.blame(f"{declared} are declared, and {sorted(there)} are there")


async def vanish(world: World, name: str, rng: random.Random) -> None:
    """A client vanishes in the middle of its calls."""
    join = rng.choice((world.toolscore.unix, world.toolscore.socket))
    client = await join("passer-by")
    names = ("plain", "per-client", "calm-sdk", "http", "calm-ws")
    calls = [
        asyncio.get_running_loop().create_task(client.call(each, "sleep", within=DEADLINE, seconds=3))
        for each in names
    ]
    await asyncio.sleep(rng.uniform(0.05, 0.8))
    await client.aclose()
    world.toolscore.forget(client)
    for call in await asyncio.gather(*calls):
        if call.outcome == OK or (call.outcome != GONE and not call.text):
            world.book.blame(f"a call of one that vanished: {call.outcome}")


async def episodes(world: World, name: str, rng: random.Random) -> None:
    """Clients lease instances, use them, and give them back, or forget to."""

    async def episode() -> None:
        client = rng.choice(world.clients)
        ttl, asked = rng.choice((1.0, 20.0)), time.monotonic()
        lease = (await client.own("acquire_server", name=name, ttl=ttl, wait=60))["lease"]
        for _ in range(rng.randint(1, 5)):
            call = await client.call(name, "sleep", lease=lease, within=DEADLINE, seconds=0.05)
            late = "no such lease of yours" in call.text and time.monotonic() - asked > ttl
            if call.outcome == "refused" and (late or "what it held is lost" in call.text):
                # Its time was over, or another of these episodes killed its process: nothing else ends it before.
                world.book.notes["leases that were over before their episodes"] += 1
                return
            world.book.take(client, call, 300)
        if rng.random() < 0.2:
            with suppress(ProcessLookupError):
                os.kill(rng.choice((await world.state(name))["pids"] or [0x3FFFFFFF]), signal.SIGKILL)
        if ttl > 5:
            await client.own("release_server", lease=lease)

    await asyncio.gather(*(episode() for _ in range(rng.randint(2, 6))))


async def away(world: World, name: str, rng: random.Random) -> None:
    """An endpoint is killed, and comes back after a while."""
    if world.http is not None:
        world.http.kill()
        world.http.wait()
    await asyncio.sleep(rng.uniform(0, 3))
    world.http = world.endpoint(HTTP, world.http_port)
    await listens(world.http_port)
    await back(world, name)


async def fill_disk(world: World, name: str, rng: random.Random) -> None:
    """The disk of the logs is full for a while."""
    if not world.disk_can_fill:
        return
    filler = world.logs / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))
    flooding = rng.choice(("plain", "plain2", "slow"))
    await world.client.call(flooding, "stderr", within=DEADLINE, kib=256)
    await asyncio.sleep(rng.uniform(0.5, 4))
    filler.unlink()
    logs = await world.client.own("server_logs", name=flooding, lines=5)
    world.book.notes[f"log {'had' if logs['lines'] else 'had no'} lines after a full disk"] += 1


async def revive(world: World, name: str, rng: random.Random) -> None:
    """Somebody starts one that cannot start: a refusal with the reason."""
    try:
        await world.client.own("manage_server", name=name, action="start")
    except Failed as exc:
        if name not in str(exc):
            world.book.blame(f"{name} does not start, and what is said is {exc}")
    else:
        world.book.blame(f"{name} started, which cannot be")


_PLAIN = ("plain", "plain2", "forks", "stubborn", "slow")
_PROCESSES = (*_PLAIN, "sdk", "node", "ws")

FAULTS: dict[Fault, tuple[int, tuple[str, ...]]] = {
    kill: (6, _PROCESSES),
    kill_instance: (2, ("per-client",)),
    pause: (4, ("plain", "plain2", "sdk", "node")),
    exits: (4, (*_PLAIN, "ws")),
    hang_up: (2, ("plain", "plain2", "slow")),
    deaf: (1, ("plain", "plain2")),
    flood: (3, _PLAIN),
    noise: (3, _PLAIN),
    leave_grandchild: (2, ("plain", "plain2", "stubborn")),
    restart: (2, _PROCESSES),
    configure: (3, (*_PROCESSES, *CALM)),
    guest: (3, ("guest1", "guest2")),
    reload: (2, ("reload",)),
    vanish: (3, ("vanish1", "vanish2")),
    episodes: (3, ("leased",)),
    away: (1, ("http",)),
    fill_disk: (1, ("disk",)),
    revive: (1, ("doomed", "mute")),
}
"""How often each is done, relative to the others, and to whom; to one server, one at a time."""
