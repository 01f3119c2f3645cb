"""`toolscore.client.ToolScore` when its line is cut, its ToolScore is killed or ended, or another takes over."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest

from listening import Serving, serving
from ports import free_port
from several import RICH
from toolscore.client import CallError, ClosedError, Outcome, Result, ToolScore, WebSocketError
from toolscore_client import FAULTY

OPTIONS = ("--no-token", "--set", "network.rights=call,manage")


class Cutter:
    """A TCP proxy whose connections can be reset."""

    def __init__(self, url: str) -> None:
        self._port = urlsplit(url).port
        self._writers: set[asyncio.StreamWriter] = set()
        self.connections = 0
        self.url = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Cutter]:
        server = await asyncio.start_server(self._took, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
        try:
            yield self
        finally:
            server.close()
            self.cut()

    async def _took(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, back}
        with suppress(OSError):
            await asyncio.gather(self._pass(reader, back), self._pass(there, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    def cut(self) -> None:
        """Reset every connection there is (RFC 9293, 3.5.2)."""
        for writer in self._writers:
            if not writer.is_closing():
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self._writers.clear()


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("lines") / "home", options=OPTIONS) as found:
        asyncio.run(registered(found.url))
        yield found


async def registered(url: str, token: str | None = None) -> None:
    async with ToolScore.connect(url, token=token, check=True) as ts:
        await ts.call("register_tool", {"name": "f", "command": sys.executable, "args": ["-S", FAULTY]})


async def test_calls_on_a_line_that_is_cut_are_repeated_only_where_that_is_safe(
    one: Serving, tmp_path: Path
) -> None:
    lines: list[tuple[bool, str]] = []
    go = tmp_path / "go"
    sleep = {"seconds": 600, "file": str(go)}
    async with (
        asyncio.timeout(180),
        Cutter(one.url).listening() as cutter,
        ToolScore.connect(cutter.url, on_line=lambda *said: lines.append(said)) as ts,
        ToolScore.connect(one.url) as looking,
        aclosing(ts.events(remembered=True)) as events,
    ):
        await anext(events)
        safe = [asyncio.ensure_future(ts.call("f__sleep_safely", sleep)) for _ in range(5)]
        unsafe = [asyncio.ensure_future(ts.call("f__sleep", sleep)) for _ in range(5)]
        told = asyncio.ensure_future(ts.call("f__sleep", sleep, repeat=True))
        while len((await looking.call("f__cancelled")).structured["begun"]) < 12:  # this one among them
            await asyncio.sleep(0.01)
        cutter.cut()
        go.touch()  # for those that are repeated
        for result in await asyncio.gather(*safe, told):
            assert (result.outcome, result.text, result.repeats) == ("ok", "slept", 1)
        for result in await asyncio.gather(*unsafe):
            assert (result.outcome, result.repeats) == (Outcome.OUTCOME_UNKNOWN, 0)
            assert "Look before you repeat it" in result.text
        assert ts.lines_lost == 1
        assert cutter.connections == 2
        # The subscription was made anew, and nothing that happened meanwhile is missed.
        await looking.call("manage_server", {"name": "f", "action": "restart", "force": True}, check=True)
        while (event := await anext(events)).raw.get("state") != "STOPPING":
            assert event.kind != "missed"
    assert [up for up, _text in lines] == [True, False, True]


async def test_a_task_outlives_the_line_it_was_begun_on(one: Serving) -> None:
    async with (
        asyncio.timeout(180),
        Cutter(one.url).listening() as cutter,
        ToolScore.connect(cutter.url) as ts,
        ToolScore.connect(one.url, check=True) as looking,
    ):
        rich = {"name": "rich", "command": sys.executable, "args": ["-S", RICH]}
        await looking.call("register_tool", rich)
        task = await ts.begin_task("rich__echo", {})
        assert (await task.status())["status"] == "working"
        waiting = asyncio.ensure_future(task.result())
        assert (await ts.call("f__add", {"a": 1, "b": 1})).ok  # so that it was heard
        cutter.cut()
        assert (await ts.call("f__sleep_safely", {"seconds": 0})).ok
        await looking.call("rich__finish", {"task": task.id})
        assert (await waiting).text == f"{task.id} is completed"
        await (other := await ts.begin_task("rich__echo")).cancel()
        assert (await other.status())["status"] == "cancelled"
        with pytest.raises(CallError):
            await ts.begin_task("rich__nothing")
        at_once = await ts.begin_task("f__add", {"a": 1, "b": 2})  # its server has no tasks
        assert await at_once.status() == {"status": "completed"}
        assert (await at_once.result()).text == "3"


async def test_a_line_that_is_cut_again_and_again_gives_each_call_one_definite_answer(one: Serving) -> None:
    async with (
        asyncio.timeout(180),
        Cutter(one.url).listening() as cutter,
        ToolScore.connect(cutter.url) as ts,
    ):
        seen: list[int] = []

        async def add(view: ToolScore, number: int) -> Result:
            return await view.call("f__add", {"a": number, "b": 0})

        outcomes: Counter[str] = Counter()
        async for number, result in ts.map(add, range(600), in_flight=50):
            seen.append(number)
            outcomes[result.outcome] += 1
            if result.ok:
                assert result.text == str(number)
            if len(seen) % 100 == 0:
                cutter.cut()
        assert sorted(seen) == list(range(600))
        assert set(outcomes) <= {"ok", Outcome.OUTCOME_UNKNOWN}
        assert outcomes["ok"] > 250
        assert ts.lines_lost > 3


async def test_a_toolscore_that_is_killed_is_gone_on_with_when_it_is_back_and_then_at_another_one(
    one: Serving, tmp_path: Path
) -> None:
    url = f"ws://127.0.0.1:{free_port()}/mcp"
    with pytest.raises(WebSocketError, match="Check that `toolscore serve --listen` runs there"):
        async with ToolScore.connect(url):
            pass
    with pytest.raises(WebSocketError, match="such as /mcp"):
        async with ToolScore.connect(one.url.removesuffix("/mcp")):
            pass
    with ExitStack() as ends, anyio.fail_after(300):
        first = ends.enter_context(serving(tmp_path / "home", url, options=OPTIONS[1:]))
        await registered(url, first.token)
        with pytest.raises(WebSocketError, match="toolscore token show"):
            async with ToolScore.connect(url, token="wrong"):
                pass
        async with ToolScore.connect(url, token=first.token, patience=150) as ts:
            async with aclosing(ts.events(remembered=True)) as events:
                assert (await ts.call("f__pid")).ok
                assert (await anext(events)).kind == "server_state"
                sleep = {"seconds": 600, "file": str(tmp_path / "first")}
                safe = [asyncio.ensure_future(ts.call("f__sleep_safely", sleep)) for _ in range(20)]
                unsafe = asyncio.ensure_future(ts.call("f__sleep", {"seconds": 600}))
                while len((await ts.call("f__cancelled")).structured["begun"]) < 22:
                    await asyncio.sleep(0.01)
                first.process.kill()
                await asyncio.to_thread(first.process.wait)
                (tmp_path / "first").touch()
                waiting = asyncio.ensure_future(ts.call("f__add", {"a": 1, "b": 1}))
                again = serving(tmp_path / "home", url, options=())
                second = await asyncio.to_thread(ends.enter_context, again)
                assert {result.text for result in await asyncio.gather(*safe)} == {"slept"}
                assert (await unsafe).outcome == Outcome.OUTCOME_UNKNOWN
                assert (await waiting).text == "2"  # nothing was sent before there was a line
                while (await anext(events)).kind != "missed":
                    continue
                seen: list[Any] = []
                while not seen or seen[-1] != "READY":  # of the new one, from its beginning
                    seen.append((await anext(events)).raw.get("state"))
                assert seen[0] == "STARTING"

            # For good: another one is used by who knows one, and who does not is told.
            async with ToolScore.connect([url, one.url], token=first.token, lines=2) as more:
                sleep = {"seconds": 600, "file": str(tmp_path / "second")}
                calls = [asyncio.ensure_future(more.call("f__sleep_safely", sleep)) for _ in range(20)]
                while len((await ts.call("f__cancelled")).structured["begun"]) < 10:
                    await asyncio.sleep(0.01)
                second.process.kill()
                await asyncio.to_thread(second.process.wait)
                (tmp_path / "second").touch()
                assert {result.text for result in await asyncio.gather(*calls)} == {"slept"}
                results = await more.execute_many([("f__add", {"a": n, "b": 0}) for n in range(100)])
                assert [result.text for result in results] == [str(n) for n in range(100)]
            late = await ts.call("list_servers", timeout=0.1)
            assert late.outcome == Outcome.TIMED_OUT
        async with ToolScore.connect(one.url, patience=0.2) as ts:
            pass
        with pytest.raises(ClosedError):
            await ts.call("list_servers")
