"""A gateway that hangs takes nothing: what waits for it is bounded, and every call has an outcome."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from postgres import Postgres
from several_gateways import Visitor, eventually, running, visiting
from toolscore.server.gateways.outbox import MOST, Outbox

LARGE = MOST // 8
CALLS = 12
SERVER = """
import json, os, pathlib, sys, threading, time
folder, lock = pathlib.Path(sys.argv[1]), threading.Lock()

def send(identity, result):
    with lock:
        print(json.dumps({"jsonrpc": "2.0", "id": identity, "result": result}), flush=True)

def late(identity):
    (folder / f"begun-{identity}").touch()
    while not (folder / "go").exists():
        time.sleep(0.02)
    send(identity, {"content": [{"type": "text", "text": "x" * int(sys.argv[2])}]})
    (folder / f"done-{identity}").touch()

for line in sys.stdin:
    m = json.loads(line)
    if m.get("method") == "initialize":
        send(m["id"], {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                       "serverInfo": {"name": "late", "version": "1"}})
    elif m.get("method") == "tools/list":
        send(m["id"], {"tools": [{"name": "say", "description": "Late.", "inputSchema": {"type": "object"}}]})
    elif m.get("method") == "tools/call":
        threading.Thread(target=late, args=(m["id"],), daemon=True).start()
    elif "id" in m:
        send(m["id"], {})
"""


async def test_a_gateway_that_hangs_has_no_more_waiting_for_it_than_there_is_room_and_no_call_is_left_open(
    postgres: Postgres, tmp_path: Path
) -> None:
    script, marks = tmp_path / "late.py", tmp_path / "marks"
    script.write_text(SERVER)
    marks.mkdir()

    async def number(kind: str, least: int) -> bool:
        return len(list(marks.glob(f"{kind}-*"))) >= least

    with running(tmp_path, postgres.database(), "one", "two") as gates:
        async with visiting(gates["one"].url) as first, visiting(gates["two"].url) as second:
            arguments = [str(script), str(marks), str(LARGE)]
            await first.own("register_tool", name="late", command=sys.executable, args=arguments)
            await eventually(lambda: knows(second))
            answers = [await second.begin("late__say") for _ in range(CALLS)]
            await eventually(lambda: number("begun", CALLS))
            os.kill(gates["two"].process.pid, signal.SIGSTOP)
            try:
                (marks / "go").touch()
                await eventually(lambda: number("done", CALLS))
                await eventually(lambda: is_idle(first))
            finally:
                os.kill(gates["two"].process.pid, signal.SIGCONT)
            async with asyncio.timeout(120):
                results = [(await answer)["result"] for answer in answers]
            whole = [one for one in results if not one.get("isError")]
            assert all(len(one["content"][0]["text"]) == LARGE for one in whole)
            lost = [one for one in results if one.get("isError")]
            # What fits is kept, and what the sockets hold besides.
            assert MOST // LARGE - 1 <= len(whole) < CALLS, len(whole)
            for one in lost:
                assert one["_meta"]["toolscore/outcome"] == "outcome_unknown"
                assert "its answer was not kept" in one["content"][0]["text"]

        async def said() -> bool:
            return "takes nothing from server late" in gates["one"].log()

        await eventually(said)


async def knows(visitor: Visitor) -> bool:
    listed = await visitor.own("list_servers")
    return any(one["name"] == "late" for one in listed["servers"])


async def is_idle(visitor: Visitor) -> bool:
    state = await visitor.own("server_state", name="late")
    return not state["in_flight"]


async def test_what_waits_is_bounded_but_for_a_single_message_and_what_is_always_kept() -> None:
    box = Outbox(10)
    assert box.put(b"x" * 30), "nothing else waits"
    assert not box.put(b"y")
    assert box.put(b"z", always=True)
    assert box.waiting == 31
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await box.empty()
    for expected in (b"x" * 30, b"z"):
        frame = await box.take()
        assert frame == expected
        box.sent(frame)
    await box.empty()
    assert box.put(b"y")
