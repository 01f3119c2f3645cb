"""The line between ToolScore and an agent, without Ray: the agent's host runs in the test's own process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import call, gone, until
from ray_host import SECRET, hosting, speaking
from toolscore.runners.base import LOST, UNHEARD
from toolscore.runners.errors import StartError
from toolscore.runners.ray.frames import WINDOW, Frames, Kind, LineError, control, head
from toolscore.runners.ray.proof import holds, proof
from toolscore.runners.ray.tls import agents_side, gateways_side
from toolscore.runners.sampler import Limits

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="agents run where Ray's nodes do")


async def test_a_server_is_spoken_to_and_ends_when_it_is_stopped(tmp_path: Path) -> None:
    async with hosting(tmp_path) as house:
        child = await house.child(await house.link())
        async with speaking(child) as session:
            assert len(await session.list_tools()) > 3
            await child.stop(30.0)
        assert child.returncode == 0
        assert house.lost == []


async def test_what_it_started_ends_with_it(tmp_path: Path) -> None:
    async with hosting(tmp_path) as house:
        child = await house.child(await house.link(), "ignore-eof", "ignore-sigterm", "fork")
        async with speaking(child) as session:
            pids = [int(await call(session, "pid")), int(await call(session, "spawn"))]
            child.kill("the test wants it")
            await until(lambda: all(gone(pid) for pid in pids), 30)
            assert await child.ended_within(30)
        assert child.epitaph() == "server 'faulty' was ended: the test wants it"


async def test_one_that_uses_more_than_it_may_is_ended_by_its_node(tmp_path: Path) -> None:
    async with hosting(tmp_path) as house:
        child = await house.child(await house.link())
        async with speaking(child) as session:
            child.limit(Limits(processes=1))
            await call(session, "spawn")
            assert await child.ended_within(60)
        assert "it had 2 processes, over its limit of 1 (max_processes)" in child.epitaph()


async def test_a_program_that_is_not_on_the_node_is_said_so(tmp_path: Path) -> None:
    async with hosting(tmp_path) as house:
        link = await house.link()
        with pytest.raises(
            StartError, match=r"the program '/no/such' does not exist there. Install it on the node"
        ):
            await house.child(link, command="/no/such")
        child = await house.child(link)  # the line is as good as before
        await child.stop(30.0)
        assert child.returncode == 0


async def test_a_server_that_does_not_read_holds_up_no_other(tmp_path: Path) -> None:
    async with hosting(tmp_path) as house:
        link = await house.link()
        deaf, other = await house.child(link, name="deaf"), await house.child(link, name="other")
        async with speaking(deaf) as one, speaking(other) as two:
            await call(one, "deaf")
            one.notify("notifications/much", {"text": "x" * (12 * WINDOW)})
            assert deaf.channel.congested
            for _ in range(20):
                assert await call(two, "add", a=1, b=2) == "3"
            deaf.kill("it hears nothing")
            await deaf.channel.drain()  # whoever waits for room is let go


async def test_a_large_message_passes_in_pieces_and_others_beside_it(tmp_path: Path) -> None:
    async with hosting(tmp_path) as house:
        link = await house.link()
        child, other = await house.child(link, name="large"), await house.child(link, name="small")
        async with speaking(child) as one, speaking(other) as two:
            large = asyncio.create_task(call(one, "big", timeout=120, bytes=64 << 20))
            while not large.done():
                assert await call(two, "add", timeout=120, a=1, b=2) == "3"
            assert len(await large) == 64 << 20
            text = "y" * (3 * WINDOW)
            echoed = await call(one, "echo", timeout=120, text=text)
            assert echoed["arguments"]["text"] == text


async def test_what_never_left_was_surely_not_heard(tmp_path: Path) -> None:
    async with hosting(tmp_path) as house:
        link = await house.link()
        child = await house.child(link)
        heard: list[dict[str, object]] = []
        async with speaking(child) as session:
            await call(session, "deaf")
            session.notify("notifications/much", {"text": "x" * (8 * WINDOW)})
            child._line._inbox.put = heard.append
            child.channel.send({"jsonrpc": "2.0", "id": "late", "method": "tools/call", "params": {}})
            link.lose("the test cuts it")
            assert heard == [{"id": "late", LOST: "its node here was lost: the test cuts it", UNHEARD: True}]
        assert "the test cuts it" in child.epitaph()


async def test_nobody_without_the_secret_is_let_in(tmp_path: Path) -> None:
    async with hosting(tmp_path) as house:
        with pytest.raises(StartError):
            await house.link(secret="guessed")
        assert house.host.visit is None
        context = gateways_side(house.told["certificate"])
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", house.told["port"], ssl=context, server_hostname=""
        )
        writer.write(control({"op": "start", "id": 1, "child": 1, "server": "x", "command": "/bin/true"}))
        await reader.read()  # it says who it is, and closes
        writer.close()
        assert house.host.visit is None


async def test_an_agent_with_another_certificate_is_not_spoken_to(tmp_path: Path) -> None:
    async with hosting(tmp_path) as house:
        _, other = agents_side(tmp_path)
        with pytest.raises(ssl.SSLCertVerificationError):
            await house.link(certificate=other)
        assert not list(tmp_path.glob("node/0/tmp*"))  # no key is left there


async def test_an_agent_that_does_not_know_the_secret_is_not_spoken_to(tmp_path: Path) -> None:
    async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(control({"op": "who", "challenge": "0", "version": "1"}))
        await reader.read(100)
        writer.write(control({"op": "welcome", "proof": proof("guessed", "agent", "0", "0", 1, 1)}))
        await reader.read()
        writer.close()

    context, certificate = agents_side(tmp_path)
    server = await asyncio.start_server(impostor, "127.0.0.1", 0, ssl=context)
    async with hosting(tmp_path) as house, server:
        with pytest.raises(StartError, match="could not prove that it is the agent"):
            await house.link(port=server.sockets[0].getsockname()[1], certificate=certificate)


def test_a_proof_is_of_one_role_and_one_visit_only() -> None:
    good = proof(SECRET, "gateway", "a", "b", 1, 2)
    assert holds(good, proof(SECRET, "gateway", "a", "b", 1, 2))
    for other in (("agent", "a", "b", 1, 2), ("gateway", "b", "a", 1, 2), ("gateway", "a", "b", 1, 3)):
        assert not holds(good, proof(SECRET, *other))
    assert not holds(None, good)


async def test_a_later_line_is_let_in_once_all_of_the_earlier_one_has_ended(tmp_path: Path) -> None:
    async with hosting(tmp_path) as house:
        first = await house.link()
        child = await house.child(first, "ignore-eof", "ignore-sigterm")
        async with speaking(child) as session:
            pid = int(await call(session, "pid"))
            await house.link(life=2)
            assert gone(pid)
        with pytest.raises(StartError, match="a later ToolScore of this home has it"):
            await house.link(life=1)
        assert house.host.rank[0] == 2


async def test_when_the_line_ends_so_does_what_runs_behind_it(tmp_path: Path) -> None:
    async with hosting(tmp_path) as house:
        link = await house.link()
        child = await house.child(link, "ignore-eof", "ignore-sigterm")
        async with speaking(child) as session:
            pid = int(await call(session, "pid"))
            link.lose("the test cuts it")
            await until(lambda: gone(pid), 30)


async def test_servers_end_when_nothing_is_heard_for_their_lease(tmp_path: Path) -> None:
    async with hosting(tmp_path, lease=3.0) as house:
        link = await house.link()
        child = await house.child(link, "ignore-eof", "ignore-sigterm")
        async with speaking(child) as session:
            pid = int(await call(session, "pid"))
            said = link.say
            link.say = lambda message: None if message["op"] == "beat" else said(message)  # type: ignore[method-assign]
            began = time.monotonic()
            await until(lambda: gone(pid), 30)
            # The last beat that was answered may have been a while ago, but not nearly the whole lease.
            assert time.monotonic() - began > 0.4
        assert house.lost


async def test_an_agent_that_hangs_is_killed_by_its_fuse_and_its_servers_end(tmp_path: Path) -> None:
    program = (
        "import asyncio, json, sys\n"
        "from pathlib import Path\n"
        "from toolscore.runners.ray.host import Charter, Host\n"
        "async def main():\n"
        f"    host = Host(Charter(1, {SECRET!r}, sys.argv[1], 0, 3.0, 600.0), '127.0.0.1', lambda: None)\n"
        "    print(json.dumps(await host.open()), flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    agent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "other")], stdout=subprocess.PIPE)
    assert agent.stdout is not None
    try:
        told = json.loads(agent.stdout.readline())
        async with hosting(tmp_path) as house:
            link = await house.link(port=told["port"], beat=1.0, certificate=told["certificate"])
            child = await house.child(link, "ignore-eof", "ignore-sigterm")
            async with speaking(child) as session:
                pid = int(await call(session, "pid"))
                os.kill(agent.pid, signal.SIGSTOP)
                await until(lambda: gone(pid), 30)
                assert agent.wait(30) == -signal.SIGKILL
            await until(lambda: house.lost, 30)
    finally:
        agent.kill()
        agent.wait()
        agent.stdout.close()


async def test_an_agent_without_a_toolscore_leaves(tmp_path: Path) -> None:
    async with hosting(tmp_path, lease=0.6, orphaned=0.2) as house:
        await asyncio.wait_for(house.gone.wait(), 30)


async def test_two_agents_of_a_machine_have_folders_of_their_own(tmp_path: Path) -> None:
    async with hosting(tmp_path) as one:
        async with hosting(tmp_path) as two:
            assert one.told["folder"] != two.told["folder"]
        async with hosting(tmp_path) as three:
            assert three.told["folder"] == two.told["folder"]


def test_frames_come_whole_however_they_are_cut() -> None:
    sent = control({"op": "who"}) + head(Kind.STDOUT, 7, 3) + b"abc" + head(Kind.STDOUT, 7, 0)
    frames = Frames()
    found = [frame for at in range(len(sent)) for frame in frames.feed(sent[at : at + 1])]
    assert found == [(Kind.CONTROL, 0, b'{"op":"who"}'), (Kind.STDOUT, 7, b"abc"), (Kind.STDOUT, 7, b"")]
    with pytest.raises(LineError, match="a frame of 5000 bytes"):
        list(Frames().feed(head(Kind.STDOUT, 1, 5000)))
