"""The MCP session with one server, on the real faulty one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from helpers import call, gone, speaking, started, until
from toolscore.runners.codec import FrameError
from toolscore.runners.errors import ChildFaultError, ChildGoneError, ChildTimeoutError, StartError
from toolscore.runners.relisting import Relisting
from toolscore.runners.session import MODERN_VERSION

Steps = list[tuple[float, float | None, str]]


async def test_the_handshake_agrees_on_the_newest_version_and_learns_who_it_is(tmp_path: Path) -> None:
    async with speaking(tmp_path) as session:
        assert session.version == "2025-11-25"
        assert session.server_info["name"] == "faulty"
        assert session.instructions == "Handle with care."
        assert not session.modern


async def test_an_old_server_is_spoken_to_in_its_own_version(tmp_path: Path) -> None:
    async with speaking(tmp_path, "old") as session:
        assert session.version == "2024-11-05"
        assert await call(session, "add", a=2, b=3) == "5"


async def test_a_server_that_refuses_the_handshake_is_spoken_to_in_the_modern_era(tmp_path: Path) -> None:
    async with speaking(tmp_path, "modern-only") as session:
        assert session.version == MODERN_VERSION
        assert session.server_info["name"] == "faulty"
        assert len(await session.list_tools()) > 10
        meta = (await call(session, "echo"))["meta"]
        assert meta["io.modelcontextprotocol/protocolVersion"] == MODERN_VERSION


@pytest.mark.parametrize(("fault", "version"), [("modern-only", MODERN_VERSION), ("banner", "2025-11-25")])
async def test_a_server_remembered_as_modern_is_still_understood_when_it_is_not(
    tmp_path: Path, fault: str, version: str
) -> None:
    async with started(tmp_path, fault) as (session, _):
        await session.handshake(modern_first=True)
        assert session.version == version
        assert await call(session, "add", a=2, b=3) == "5"


async def test_an_unknown_version_is_no_start(tmp_path: Path) -> None:
    async with started(tmp_path, "unknown-version") as (session, _):
        with pytest.raises(StartError, match="1999-01-01"):
            await session.handshake()


async def test_a_banner_before_the_handshake_does_no_harm(tmp_path: Path) -> None:
    async with started(tmp_path, "banner") as (session, child):
        await session.handshake()
        assert "Welcome" in child.noise()


async def test_a_list_is_fetched_to_its_last_page_and_unchanged(tmp_path: Path) -> None:
    async with speaking(tmp_path, "many-tools=250") as session:
        tools = await session.list_tools()
        names = [tool["name"] for tool in tools]
        assert [name for name in names if name.startswith("extra")] == [f"extra{n}" for n in range(250)]
        assert all(tool["x-unknown"] == {"kept": True} for tool in tools)


async def test_cursors_in_a_circle_are_found_out(tmp_path: Path) -> None:
    async with speaking(tmp_path, "bad-cursor") as session:
        with pytest.raises(StartError, match="in a circle"):
            await session.list_tools()


async def test_a_list_longer_than_can_be_kept_is_not_followed_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with speaking(tmp_path, "many-tools=250") as session:
        whole = await session.list_tools()
        size = len(json.dumps(whole, separators=(",", ":")))
        for name, value in (("MOST", len(whole) - 1), ("LARGEST", size // 4)):
            with monkeypatch.context() as patch:
                patch.setattr(f"toolscore.runners.listing.{name}", value)
                with pytest.raises(StartError, match="tools/list is too long"):
                    await session.list_tools()
        monkeypatch.setattr("toolscore.runners.listing.MOST", len(whole))
        monkeypatch.setattr("toolscore.runners.listing.LARGEST", size)
        assert await session.list_tools() == whole


async def test_a_server_without_tools_is_not_asked_for_them(tmp_path: Path) -> None:
    async with speaking(tmp_path, "no-tools") as session:
        assert await session.list_tools() == []


async def test_a_result_arrives_whole_with_fields_nobody_knows(tmp_path: Path) -> None:
    async with speaking(tmp_path) as session:
        arguments = {"n": 2**70, "text": "ü\u2028", "nothing": None}
        result = await session.request(
            "tools/call", {"name": "echo", "arguments": arguments, "_meta": {"mine": 1}}
        )
        assert result["structuredContent"] == {"arguments": arguments, "meta": {"mine": 1}}
        assert result["_meta"] == {"faulty/kept": True}
        assert result["x-unknown"] == {"kept": [1, 2.5, None]}
        assert result["content"][0]["x-unknown"] == 1


async def test_a_large_result_arrives_whole(tmp_path: Path) -> None:
    async with speaking(tmp_path) as session:
        assert len(await call(session, "big", bytes=8_000_000)) == 8_000_000


async def test_an_error_keeps_its_code_text_and_data(tmp_path: Path) -> None:
    async with speaking(tmp_path) as session:
        with pytest.raises(ChildFaultError) as fault:
            await call(session, "error")
        assert (fault.value.code, fault.value.message) == (-32050, "out of order")
        assert fault.value.data == {"since": "Tuesday"}


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('{"jsonrpc":"2.0","id":$ID,"error":"no object"}', "neither a result object nor an error"),
        ('{"jsonrpc":"2.0","id":$ID,"error":{"code":"x","message":7}}', "7"),
        ('{"jsonrpc":"2.0","id":$ID}', "neither a result object nor an error"),
        ('{"jsonrpc":"2.0","id":$ID,"result":[1]}', "neither a result object nor an error"),
        ('{"jsonrpc":"2.0","id":$ID,"result":{"x":NaN}}', "the server's answer is not valid JSON"),
        ('{"jsonrpc":"2.0","id":$ID,"result":{"x":"\\ud800"}}', "the server's answer is not valid JSON"),
    ],
)
async def test_an_answer_that_is_none_is_an_error_at_once_and_the_session_lives_on(
    tmp_path: Path, line: str, text: str
) -> None:
    async with speaking(tmp_path) as session:
        with pytest.raises(ChildFaultError, match=text):
            await call(session, "raw", line=line)
        assert await call(session, "add", a=1, b=1) == "2"


@pytest.mark.parametrize(
    "line",
    [
        "no JSON at all",
        '{"jsonrpc":"2.0","id":99,"result":{}}',
        '{"jsonrpc":"2.0","id":null,"error":{"code":-32700}}',
        '{"jsonrpc":"2.0","id":{"a":1},"result":{}}',
        '{"jsonrpc":"2.0","method":7}',
        '{"jsonrpc":"2.0","method":"notifications/progress","params":[1]}',
        '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":{},"progress":"x"}}',
        '{"jsonrpc":"2.0","method":"notifications/unheard-of"}',
    ],
)
async def test_noise_in_the_middle_of_a_call_does_not_disturb_it(tmp_path: Path, line: str) -> None:
    async with speaking(tmp_path) as session:
        assert await call(session, "noise", line=line) == "after the noise"


async def test_progress_reaches_the_call_it_belongs_to(tmp_path: Path) -> None:
    async with speaking(tmp_path) as session:
        seen: dict[int, Steps] = {3: [], 5: []}

        async def one(count: int) -> Any:
            return await session.request(
                "tools/call",
                {"name": "progress", "arguments": {"count": count, "every": 0.01}},
                on_progress=lambda *step: seen[count].append(step),
            )

        await asyncio.gather(one(3), one(5), call(session, "sleep", seconds=0.05))
        for count, steps in seen.items():
            assert steps == [(n, count, f"step {n}") for n in range(1, count + 1)]


async def test_who_does_not_ask_for_progress_sends_no_token(tmp_path: Path) -> None:
    async with speaking(tmp_path) as session:
        assert "progressToken" not in (await call(session, "echo"))["meta"]


async def test_a_cancelled_call_is_cancelled_at_the_server_and_the_others_go_on(tmp_path: Path) -> None:
    async with speaking(tmp_path) as session:
        other = asyncio.ensure_future(call(session, "sleep", seconds=0.2))
        task = asyncio.ensure_future(call(session, "sleep", seconds=60))
        await until(lambda: session.in_flight)  # both were sent; the other may be over by now
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len((await call(session, "cancelled"))["ids"]) == 1
        assert await other == "slept"
        assert session.in_flight == 0


async def test_a_call_over_its_time_is_cancelled_at_the_server(tmp_path: Path) -> None:
    async with speaking(tmp_path) as session:
        with pytest.raises(ChildTimeoutError, match=r"tools/call got no answer within 0\.1 s"):
            await call(session, "sleep", timeout=0.1, seconds=60)
        assert len((await call(session, "cancelled"))["ids"]) == 1


async def test_progress_gives_a_call_more_time(tmp_path: Path) -> None:
    async with speaking(tmp_path) as session:
        steps: Steps = []
        await session.request(
            "tools/call",
            {"name": "progress", "arguments": {"count": 6, "every": 0.5}},
            timeout=2.5,
            on_progress=lambda *step: steps.append(step),
        )
        assert len(steps) == 6


async def test_the_time_runs_out_also_while_the_server_does_not_read(tmp_path: Path) -> None:
    async with speaking(tmp_path) as session:
        await call(session, "deaf")
        load = "x" * 3_000_000
        calls = (call(session, "echo", timeout=0.3, load=load) for _ in range(4))
        answers = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 20)
        assert all(isinstance(answer, ChildTimeoutError) for answer in answers)
        task = asyncio.ensure_future(call(session, "echo"))
        await until(lambda: session.in_flight == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_calls_in_flight_fail_as_written_when_the_server_dies_and_later_ones_as_not(
    tmp_path: Path,
) -> None:
    async with started(tmp_path) as (session, child):
        await session.handshake()
        assert await call(session, "add", a=1, b=1) == "2"
        calls = [call(session, "sleep", seconds=60), call(session, "exit", status=4)]
        answers = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 20)
        assert [
            (type(answer), answer.written) for answer in answers if isinstance(answer, ChildGoneError)
        ] == [(ChildGoneError, True)] * 2
        with pytest.raises(ChildGoneError) as late:
            await call(session, "echo")
        assert not late.value.written
        assert await child.ended_within(20)
        assert child.returncode == 4
        assert "my last words" in child.stderr_tail()


async def test_a_server_that_stops_listening_is_as_good_as_gone(tmp_path: Path) -> None:
    async with speaking(tmp_path) as session:
        await call(session, "close_input")
        await asyncio.wait_for(session.closed.wait(), 20)


async def test_a_server_that_closes_its_output_is_gone(tmp_path: Path) -> None:
    async with speaking(tmp_path) as session:
        with pytest.raises(ChildGoneError, match="closed its output"):
            await call(session, "close_output")


async def test_arguments_without_a_json_form_are_refused_before_anything_is_sent(tmp_path: Path) -> None:
    async with speaking(tmp_path) as session:
        with pytest.raises(FrameError):
            await call(session, "echo", text="\ud800")
        assert session.in_flight == 0
        assert await call(session, "add", a=1, b=1) == "2"


async def test_a_ping_is_answered_and_what_was_not_offered_is_refused(tmp_path: Path) -> None:
    async with speaking(tmp_path) as session:
        assert (await call(session, "ask", method="ping"))["result"] == {}
        refusal = await call(session, "ask", method="sampling/createMessage")
        assert refusal["error"]["code"] == -32601


async def test_a_changed_tool_list_is_told(tmp_path: Path) -> None:
    async with speaking(tmp_path) as session:
        changed = asyncio.Event()
        session.on_list_changed = lambda _kind: changed.set()
        await call(session, "change_tools", name="newcomer")
        await asyncio.wait_for(changed.wait(), 20)
        assert "newcomer" in {tool["name"] for tool in await session.list_tools()}


async def test_a_change_while_the_lists_are_fetched_in_vain_has_them_fetched_again(tmp_path: Path) -> None:
    listed: list[set[str]] = []

    def timeout() -> float:
        if not changes:
            return 20.0
        relisting.wanted(changes.pop())  # as it is being fetched
        return 0.0

    async with speaking(tmp_path) as session:
        changes = [session]
        relisting = Relisting(timeout, lambda tools, _offers: listed.append({tool["name"] for tool in tools}))
        relisting.wanted(session)
        await until(lambda: listed)
        assert "echo" in listed[0]


async def test_200_calls_at_once_are_each_answered_with_their_own(tmp_path: Path) -> None:
    async with speaking(tmp_path) as session:
        answers = await asyncio.gather(*(call(session, "add", a=n, b=n) for n in range(200)))
        assert answers == [str(2 * n) for n in range(200)]


async def test_100_kib_of_standard_error_in_a_call_do_not_stop_it(tmp_path: Path) -> None:
    async with started(tmp_path, "flood=100") as (session, child):
        await session.handshake()
        assert await call(session, "stderr", kib=300) == "written"
        assert not gone(child.pid or 0)
        await until(lambda: "000299" in child.stderr_tail())
