"""Callers who wait for the same packages: made once, for all of them, whoever goes away."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from helpers import until
from plain_boxes import PlainBoxes
from toolscore.sandbox import pools
from toolscore.sandbox.errors import SandboxRefusedError
from toolscore.sandbox.executor import Executor
from toolscore.sandbox.face import Face
from toolscore.sandbox.packages import PackagesError
from toolscore.sandbox.settings import SandboxSettings
from toolscore.sandbox.supplies import Tell


class SlowPackages:
    """Environments that are there when they are let."""

    def __init__(self) -> None:
        self.made = 0
        self.let = asyncio.Event()
        self.problem: Exception | None = None
        self.closed = self.swept = False
        self.given: list[Any] = []  # and not taken back

    async def environment(self, packages: Sequence[str], tell: Tell | None = None) -> Any:
        if not packages:
            return None
        self.made += 1
        assert tell is not None
        tell("Downloading it (12.0MiB)")
        await self.let.wait()
        if self.problem is not None:
            raise self.problem
        self.given.append(tuple(packages))
        return tuple(packages)

    def release(self, environment: Any) -> None:
        self.given.remove(environment)

    def sweep(self) -> int:
        self.swept = True
        return 0

    def close(self) -> None:
        self.closed = True


@asynccontextmanager
async def executor(**settings: Any) -> AsyncIterator[tuple[Executor, SlowPackages]]:
    packages = SlowPackages()
    async with Executor(SandboxSettings(**settings), PlainBoxes, packages) as made:
        yield made, packages
    assert packages.given == []
    assert packages.closed
    assert packages.swept


def execute(executor: Executor, *packages: str, **more: Any) -> asyncio.Task[dict[str, Any]]:
    arguments = {"code": "6 * 7", "packages": list(packages)}
    return asyncio.create_task(executor.call("python_execute", arguments, **more))


async def test_callers_who_go_away_do_not_end_what_others_wait_for() -> None:
    async with executor(allow_packages=("*",)) as (one, packages):
        first, second, third = (execute(one, "a") for _ in range(3))
        await until(lambda: packages.made)
        first.cancel()
        await asyncio.wait([first])
        packages.let.set()
        for other in (second, third):
            assert (await other)["structuredContent"]["value"] == 42
        assert packages.made == 1


async def test_what_is_being_installed_is_finished_when_its_only_caller_goes_away() -> None:
    async with executor(allow_packages=("*",)) as (one, packages):
        gone = execute(one, "a")
        await until(lambda: packages.made)
        gone.cancel()
        await asyncio.wait([gone])
        packages.let.set()
        assert (await execute(one, "a"))["structuredContent"]["value"] == 42
        assert packages.made == 1


async def test_a_failure_is_told_to_all_who_wait_and_the_next_call_tries_again() -> None:
    async with executor(allow_packages=("*",)) as (one, packages):
        waiting = [execute(one, "a") for _ in range(2)]
        await until(lambda: packages.made)
        packages.problem = PackagesError("a cannot be installed. There is no a.")
        packages.let.set()
        for each in waiting:
            result = await each
            assert result["_meta"]["toolscore/outcome"] == "install_failed"
            assert "There is no a." in result["content"][0]["text"]
            assert "do without them" in result["content"][0]["text"]
        packages.problem = None
        assert not (await execute(one, "a"))["isError"]
        assert packages.made == 2


async def test_the_operators_packages_that_fail_are_told_with_the_setting() -> None:
    async with executor(packages=("a",)) as (one, packages):
        packages.problem = PackagesError("a cannot be installed. There is no a.")
        packages.let.set()
        text = (await execute(one))["content"][0]["text"]
        assert "sandbox.packages" in text
        status = await one.call("sandbox_status", {})
        assert not status["structuredContent"]["ready"]
        assert "There is no a." in status["content"][0]["text"]


async def test_the_status_does_not_wait_for_packages_but_says_that_they_are_being_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("toolscore.sandbox.executor.PATIENCE", 0.05)
    async with executor(packages=("a",), preload=("a",)) as (one, packages):
        told = (await one.call("sandbox_status", {}))["structuredContent"]
        assert told["ready"] is False
        assert "Getting a ready" in told["problem"]
        assert "Downloading it" in told["problem"]
        text = (await one.call("sandbox_status", {}))["content"][0]["text"]
        assert text.startswith("packages are being made ready: Getting a ready")
        assert "no code can be run" not in text
        assert (told["packages"], told["preload"], told["mode"]) == (["a"], ["a"], "separate")
        packages.let.set()
        assert not (await execute(one))["isError"]
        assert packages.made == 1


async def test_packages_that_are_being_installed_count_among_the_sets_in_use() -> None:
    async with executor(allow_packages=("*",)) as (one, packages):
        waiting = [
            execute(one, name, principal=who) for name, who in (("a", "ann"), ("b", "ann"), ("c", "bob"))
        ]
        await until(lambda: packages.made == 3)
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)
        refused = await execute(one, "d", principal="cy")
        assert refused["_meta"]["toolscore/outcome"] == "limit"
        assert "You use 2 other sets" in (await execute(one, "d", principal="ann"))["content"][0]["text"]
        packages.let.set()
        assert not (await execute(one, "a"))["isError"]


async def test_closing_ends_what_is_being_installed() -> None:
    async with executor(allow_packages=("*",)) as (one, packages):
        waiting = execute(one, "a")
        await until(lambda: packages.made)
        await one.pools.close()
        assert (await waiting)["_meta"]["toolscore/outcome"] == "unavailable"


async def test_a_client_hears_how_the_installation_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "BEAT", 0.02)
    received: list[dict[str, Any]] = []
    async with executor(allow_packages=("*",)) as (one, packages):
        face = Face(one, received.append)
        call = {"name": "python_execute", "arguments": {"code": "print('out')", "packages": ["a"]}}
        params = {**call, "_meta": {"progressToken": "t"}}
        await face.handle({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})

        def told() -> str:
            return "".join(m["params"]["message"] for m in received if "method" in m)

        said = re.compile(r"Downloading it \(12\.0MiB\)\nGetting a ready, for \d+ s so far\.")
        await until(lambda: said.search(told()))
        packages.let.set()
        await until(lambda: received[-1].get("id") == 1)
        assert told().endswith("out\n")
        numbers = [m["params"]["progress"] for m in received if "method" in m]
        assert numbers == sorted(set(numbers))
        assert numbers[-1] == len(told().encode())
        assert received[-1]["result"]["structuredContent"]["stdout"] == "out\n"
        await face.close()


@pytest.mark.alone
async def test_the_time_of_the_installation_is_not_the_codes() -> None:
    async with executor(allow_packages=("*",)) as (one, packages):
        began = time.monotonic()
        asyncio.get_running_loop().call_later(0.7, packages.let.set)
        arguments = {"code": "6 * 7", "packages": ["a"], "limits": {"wall": 20}}
        told = (await one.call("python_execute", arguments))["structuredContent"]
        assert (told["status"], told["value"]) == ("ok", 42)
        assert told["usage"]["wall"] < time.monotonic() - began - 0.6


async def test_a_name_with_a_space_in_it_is_none() -> None:
    async with executor(allow_packages=("*",)) as (one, packages):
        packages.let.set()
        assert (await execute(one, "num py"))["_meta"]["toolscore/outcome"] == "invalid_arguments"
        assert not (await execute(one, "pandas [excel] >= 2, < 4"))["isError"]
        assert one.pools.stats()[0]["packages"] == ["pandas[excel]>=2,<4"]


async def hold(one: Executor, principal: str, *names: str) -> dict[str, Any]:
    """Start a session with these packages."""
    return await one.call("session_start", {"packages": list(names)}, principal=principal)


async def test_one_caller_cannot_shut_the_others_out_of_plain_code_or_of_packages() -> None:
    async with executor(allow_packages=("*",)) as (one, packages):
        packages.let.set()
        assert not (await execute(one, principal="bob"))["isError"]
        for name in "ab":
            assert not (await hold(one, "ann", name))["isError"]
        refused = await hold(one, "ann", "c")
        assert refused["_meta"]["toolscore/outcome"] == "limit"
        for words in ("(a; b)", "session_end", "leave packages out"):
            assert words in refused["content"][0]["text"]
        assert not (await execute(one, "a", principal="ann"))["isError"]  # a set it uses already
        for name in "cde":  # each takes the place of the one before
            assert not (await execute(one, name, principal="bob"))["isError"]
        assert not (await execute(one, principal="bob"))["isError"]
        assert sorted(pool["packages"] for pool in one.pools.stats()) == [[], ["a"], ["b"], ["e"]]


async def test_all_places_taken_leave_plain_code_and_the_default_packages_alone() -> None:
    async with executor(packages=("six",), allow_packages=("*",)) as (one, packages):
        packages.let.set()
        for who, name in (("ann", "a"), ("ann", "b"), ("bob", "c")):
            assert not (await hold(one, who, name))["isError"]
        refused = await execute(one, "d", principal="cy")
        assert "3 other sets of packages are in use" in refused["content"][0]["text"]
        for who in ("ann", "bob", "cy"):
            assert not (await execute(one, principal=who))["isError"]
            assert not (await execute(one, "six", principal=who))["isError"]


async def test_an_environment_is_given_back_with_its_pool() -> None:
    async with executor(allow_packages=("*",)) as (one, packages):
        packages.let.set()
        for name in "abcd":
            assert not (await execute(one, name))["isError"]
        assert packages.given == [("b",), ("c",), ("d",)]


async def test_a_pool_that_does_not_start_gives_its_environment_back() -> None:
    def unmade(environment: Any) -> PlainBoxes:
        raise SandboxRefusedError("Nothing isolates here.")

    packages = SlowPackages()
    packages.let.set()
    async with Executor(SandboxSettings(allow_packages=("*",)), unmade, packages) as one:
        assert (await execute(one, "a"))["_meta"]["toolscore/outcome"] == "refused"
        assert packages.given == []
