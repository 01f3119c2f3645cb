"""`toolscore.client.ToolScore` against a real ToolScore: calls, discovery, parallel calls, leases, Python, events."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from several import Serving, ask_owner, serving
from toolscore.client import CallError, JSONRPCError, Outcome, Result, ToolScore
from toolscore.tools.outcome import Outcome as ServersOutcome
from toolscore_client import BARE, FAULTY

LEASING = """
import asyncio, sys
from toolscore.client import ToolScore
async def main():
    async with ToolScore.connect(sys.argv[1]) as ts:
        async with ts.lease("leased", ttl=4) as instance:
            print((await instance.call("pid")).text, flush=True)
            await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A ToolScore with the faulty server, once as it is, once with a short queue, once leased."""
    folder = tmp_path_factory.mktemp("runtime")
    words = ["-S", FAULTY]
    options = ("--no-token", "--set", "network.rights=call,manage")
    with pytest.MonkeyPatch.context() as patch:
        for name in BARE:
            patch.delenv(name, raising=False)
        with serving(folder, *options, f=words, narrow=words, leased=words) as one:
            narrow, leased = (
                {"max_parallel": 1, "max_queue": 1},
                {"isolation": "per-lease", "max_instances": 3},
            )
            ask_owner(one.process, "configure_server", name="narrow", settings=narrow)
            ask_owner(one.process, "configure_server", name="leased", settings=leased)
            yield one


@asynccontextmanager
async def connected(house: Serving, **options: Any) -> AsyncIterator[ToolScore]:
    async with asyncio.timeout(180), ToolScore.connect(house.url, **options) as ts:
        yield ts


async def under_way(ts: ToolScore) -> int:
    """How many calls the faulty server is busy with."""
    begun: list[Any] = (await ts.call("f__cancelled")).structured["begun"]
    return len(begun) - 1  # without this one


def test_it_knows_every_outcome_there_is() -> None:
    assert {str(one) for one in Outcome} == {str(one) for one in ServersOutcome} | {"ok", "error"}


async def test_a_result_says_what_came_of_the_call_and_what_to_do_next(house: Serving) -> None:
    async with connected(house) as ts:
        done = await ts.call("f__echo", {"text": "你好", "big": 1 << 70})
        assert (done.outcome, done.ok, done.refused) == ("ok", True, False)
        assert done.structured["arguments"] == {"text": "你好", "big": 1 << 70}
        assert done.raw["x-unknown"] == {"kept": [1, 2.5, None]}
        assert 0 < done.seconds < 60
        failed = await ts.call("f__failed")
        assert (failed.outcome, failed.text, failed.refused) == ("error", "it did not work", False)
        unknown = await ts.call("f__ecko")
        assert (unknown.outcome, unknown.refused) == (Outcome.UNKNOWN_TOOL, True)
        assert "f__echo" in unknown.nearest
        with pytest.raises(CallError, match="unknown_tool: There is no tool named 'f__ecko'") as raised:
            await ts.call("f__ecko", check=True)
        assert raised.value.result.nearest == unknown.nearest
        with pytest.raises(CallError):
            await ts.within(check=True).call("f__failed")
        with pytest.raises(ValueError, match="cannot be sent as JSON"):
            await ts.call("f__echo", {"number": float("nan")})
        with pytest.raises(JSONRPCError, match="-32002"):
            await ts.request("resources/read", {"uri": "nothing://here"})


async def test_progress_limits_and_cancellation_are_passed_on(house: Serving) -> None:
    async with connected(house) as ts:
        told: list[tuple[float, float | None, str]] = []
        done = await ts.call("f__progress", {"count": 3}, on_progress=lambda *said: told.append(said))
        assert done.ok
        assert told == [(1, 3, "step 1"), (2, 3, "step 2"), (3, 3, "step 3")]
        late = await ts.call("f__sleep", {"seconds": 600}, timeout=0.3)
        assert (late.outcome, late.refused) == (Outcome.TIMED_OUT, True)
        while await under_way(ts):
            await asyncio.sleep(0.02)
        with anyio.CancelScope() as scope:

            async def cancel() -> None:
                while not await under_way(ts):  # before that it is nothing that could be cancelled
                    await asyncio.sleep(0.02)
                scope.cancel()

            cancelling = asyncio.ensure_future(cancel())
            await ts.call("f__sleep", {"seconds": 600})
        assert scope.cancelled_caught
        await cancelling
        while await under_way(ts):
            await asyncio.sleep(0.02)
        ended = await ts.call("f__sleep", {"seconds": 600}, idle=1)
        assert ended.outcome == Outcome.TIMED_OUT
        cut = await ts.call("f__big", {"bytes": 50_000}, max_tokens=300)
        assert len(cut.text) < 5000
        assert await ts.whole(cut) == "x" * 50_000


async def test_what_there_is_comes_typed_and_page_by_page(house: Serving) -> None:
    async with connected(house) as ts:
        names = [tool.name async for tool in ts.tools("f")]
        assert "f__echo" in names
        assert len(names) == len(set(names)) > 20
        found = await ts.search("echo", server="f", limit=1)
        assert [(tool.name, tool.server) for tool in found] == [("f__echo", "f")]
        tool = await ts.describe("f__sleep_safely")
        assert (tool.input_schema, tool.repeatable) == ({"type": "object"}, True)
        assert {server.name for server in await ts.servers()} >= {"f", "leased", "narrow"}
        assert (await ts.server_state("f"))["state"] == "READY"
        gaps = await ts.find_gaps("send an email to a friend")
        assert gaps.label == gaps.needs[0].label == "gap"
        assert (gaps.tools, gaps.offers) == ([], [])
        with pytest.raises(CallError, match="unknown_server"):
            await ts.server_state("nobody")


async def test_a_thousand_calls_at_the_same_time_each_have_their_own_answer(house: Serving) -> None:
    async with connected(house, lines=2) as ts:
        results = await asyncio.gather(*(ts.call("f__add", {"a": n, "b": 1}) for n in range(3000)))
        # More than a line takes: the rest waits for room, and is refused only by the server's own queue.
        assert all(one.text == str(n + 1) or one.outcome == "queue_full" for n, one in enumerate(results))
        assert sum(one.ok for one in results) >= 1000
        assert {one.line for one in results} == {0, 1}
        results = await ts.execute_many([("f__add", {"a": n, "b": 1}) for n in range(1000)], in_flight=500)
        assert [one.text for one in results] == [str(n + 1) for n in range(1000)]


async def test_things_are_taken_as_there_is_room_and_given_in_order(house: Serving) -> None:
    taken = 0

    async def things() -> AsyncIterator[dict[str, int]]:
        nonlocal taken
        for n in range(60):
            taken += 1
            yield {"a": n, "b": 0}

    async with connected(house) as ts:
        given = 0
        async for item, result in ts.map("f__add", things(), in_flight=4, ordered=True):
            assert (item["a"], result.text) == (given, str(given))
            given += 1
            assert taken - given <= 8
            await asyncio.sleep(0)
        assert given == taken == 60


async def test_a_full_queue_slows_the_calls_down_instead_of_failing_them(house: Serving) -> None:
    async with connected(house) as ts:
        refused = await asyncio.gather(*(ts.call("narrow__sleep", {"seconds": 0.1}) for _ in range(5)))
        assert {one.outcome for one in refused} == {"ok", Outcome.QUEUE_FULL}
        calls: list[tuple[str, dict[str, Any]]] = [("narrow__add", {"a": n, "b": 0}) for n in range(40)]
        results = await ts.execute_many(calls, in_flight=16)
        assert [one.text for one in results] == [str(n) for n in range(40)]
        assert sum(one.repeats for one in results) > 0


async def test_leaving_the_results_cancels_the_rest(house: Serving) -> None:
    async with connected(house) as ts:
        before = (await ts.call("f__cancelled")).structured["ids"]

        async def one(view: ToolScore, seconds: float) -> Result:
            while not seconds and await under_way(view) < 3:  # the rest, which is then there to be cancelled
                await asyncio.sleep(0.02)
            return await view.call("f__sleep", {"seconds": seconds})

        async with aclosing(ts.map(one, [600, 600, 0, 600], in_flight=4)) as results:
            assert (await anext(results))[0] == 0
        while len((await ts.call("f__cancelled")).structured["ids"]) < len(before) + 3:
            await asyncio.sleep(0.02)

        async def broken(view: ToolScore, _thing: int) -> Result:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            [_ async for _ in ts.map(broken, [1, 2, 3])]


async def test_each_of_a_batch_of_episodes_has_an_instance_of_its_own(house: Serving) -> None:
    async with connected(house) as ts:
        async with ts.leases("leased", 3, ttl=6) as instances:
            pids = [(await one.call("pid")).text for one in instances]
            assert len(set(pids)) == 3
            with pytest.raises(CallError, match="limit"):
                async with ts.lease("leased", wait=0):
                    pass
            await asyncio.sleep(7)  # longer than a lease lasts that is not renewed
            assert [(await one.call("leased__pid")).text for one in instances] == pids
            os.kill(int(pids[0]), signal.SIGKILL)
            lost = await instances[0].call("pid")
            while lost.ok or lost.outcome == "outcome_unknown":
                lost = await instances[0].call("pid")
            assert lost.outcome == Outcome.REFUSED
            assert "what it held is lost" in lost.text
            while instances[0].lost is None:
                await asyncio.sleep(0.02)
        with anyio.move_on_after(100) as scope:  # also a block that is cancelled gives back what it took
            async with ts.leases("leased", 3):
                scope.cancel()
                await asyncio.sleep(600)
        with anyio.move_on_after(0.5) as scope:  # and one that had some of them, but not all
            async with ts.leases("leased", 4, ttl=600):
                pass
        assert scope.cancelled_caught
        async with ts.leases("leased", 3, wait=120):  # sooner than their time would have ended them
            pass


async def test_the_lease_of_a_client_that_was_killed_ends_by_itself(house: Serving) -> None:
    words = [sys.executable, "-c", LEASING, house.url]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            pid = (await asyncio.to_thread(process.stdout.readline)).decode().strip()
            assert pid
        finally:
            process.kill()
    async with connected(house) as ts, ts.leases("leased", 3, wait=60) as instances:
        assert pid not in [(await one.call("pid")).text for one in instances]


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
async def test_python_keeps_its_variables_in_a_session(house: Serving) -> None:
    async with connected(house) as ts:
        printed: list[str] = []
        async with ts.python() as python:
            done = await python.run("x = 41; print('here')", on_output=printed.append)
            assert (await python.run("x + 1")).value == 42
            assert (await python.run("open('a.txt', 'w').write('abc')")).files[0]["path"] == "a.txt"
            failed = await python.run("1 / 0")
            assert (failed.ok, failed.status) == (False, "error")
            assert "ZeroDivisionError" in (failed.error or "")
        assert "".join(printed) == done.stdout == "here\n"
        gone = await ts.execute_python("x", session=python.id)
        assert gone.status in (Outcome.UNAVAILABLE, Outcome.INVALID_ARGUMENTS)
        with anyio.move_on_after(100) as scope:  # also a block that is cancelled ends its session
            async with ts.python() as python:
                scope.cancel()
                await asyncio.sleep(600)
        gone = await ts.execute_python("1", session=python.id)
        assert gone.status in (Outcome.UNAVAILABLE, Outcome.INVALID_ARGUMENTS)


async def test_steps_of_an_episode_are_found_in_the_journal(house: Serving) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    async with connected(house, name="runtime") as ts:
        episode = ts.within(session="episode-7", trace=trace)
        await episode.call("f__add", {"a": 1, "b": 2})
        await ts.call("f__add", {"a": 3, "b": 4})
        async with asyncio.timeout(120):
            while not (
                records := (await episode.call("read_journal", {"session": "episode-7"})).structured[
                    "records"
                ]
            ):
                await asyncio.sleep(0.05)
        first = next(one for one in records if one.get("tool") == "f__add")
        assert (first["trace"], first["client"]["name"]) == (trace, "runtime")
        assert [one["tool"] for one in records].count("f__add") == 1


async def test_events_are_given_once_and_in_order_and_can_be_gone_on_with(house: Serving) -> None:
    async with connected(house) as ts, aclosing(ts.events()) as events:
        coming = asyncio.ensure_future(anext(events))
        command = {"name": "other", "command": sys.executable, "args": ["-S", FAULTY]}
        while not coming.done():  # it begins with what comes after it is there
            await ts.call("register_tool", command, check=True)
            await ts.call("unregister_tool", {"name": "other"}, check=True)
        seen = [await coming]
        while not {"tool_installed", "tool_removed"} <= {event.kind for event in seen}:
            seen.append(await anext(events))
        # An instance that a test before this one gave back may still be ending; but nothing else is of before.
        assert {event.server for event in seen if event.kind != "server_state"} == {"other"}
        async with aclosing(ts.events(after=seen[0].cursor)) as again:
            assert [(await anext(again)).cursor for _ in seen[1:]] == [event.cursor for event in seen[1:]]


async def test_what_is_asked_and_logged_reaches_the_client(house: Serving) -> None:
    asked: list[dict[str, Any]] = []

    async def answer(params: dict[str, Any]) -> dict[str, Any]:
        asked.append(params)
        return {"action": "decline"}

    async with connected(house, on_elicitation=answer, roots=["file:///srv"]) as ts:
        told = await ts.call("f__ask", {"method": "roots/list"})
        assert told.structured["result"] == {"roots": [{"uri": "file:///srv"}]}
        told = await ts.call("f__ask", {"method": "elicitation/create"})
        assert told.structured["result"] == {"action": "decline"}
        assert len(asked) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
async def test_the_examples_of_the_page_run_as_they_stand(house: Serving) -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "runtimes.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 7
    names = {"time__get_current_time": "f__echo", "browser": "leased", '"open"': '"echo"'}
    async with connected(house) as ts:
        for written in blocks:
            block = written.replace("ws://127.0.0.1:8765/mcp", house.url)
            for there, here in names.items():
                block = block.replace(there, here)
            code = compile(block, "docs/runtimes.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            said: dict[str, Any] = {"ts": ts}
            coroutine = eval(code, said)
            if coroutine is not None:
                await coroutine
            for result in said.get("results", ()):
                assert result.ok, (result, block)


def test_it_is_found_without_importing_what_is_not_used() -> None:
    program = (
        "import sys; from toolscore.client import ToolScore, Result; "
        "print(sorted({'mcp', 'mcp_types', 'pydantic', 'starlette', 'sqlalchemy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
