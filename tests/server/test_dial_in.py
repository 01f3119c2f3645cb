"""Servers that dial in at `/register?name=N`: listed, called, unavailable while away, and back when they return."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from faulty_server import FaultyServer
from listening import Message, Raw, Serving, raw, serving
from toolscore.server.home import Home
from toolscore.server.tokens import Tokens

RIGHTS = "call,register,manage"


@asynccontextmanager
async def dialed(
    serving_: Serving, name: str, faults: dict[str, str] | None = None, query: str = ""
) -> AsyncIterator[ClientConnection]:
    """The faulty server, connected by itself."""
    url = serving_.url.rpartition("/")[0] + f"/register?name={name}{query}"
    loop = asyncio.get_running_loop()
    async with connect(url, proxy=None, subprotocols=[Subprotocol("mcp")], close_timeout=1) as line:
        said: asyncio.Queue[str] = asyncio.Queue()

        def write(text: str) -> None:
            with contextlib.suppress(RuntimeError):  # it answers from threads, which may outlive the loop
                loop.call_soon_threadsafe(said.put_nowait, text)

        server = FaultyServer(faults or {}, write)

        async def hear() -> None:
            async for frame in line:
                server.take(frame)

        async def say() -> None:
            while True:
                await line.send(await said.get())

        tasks = [asyncio.create_task(hear()), asyncio.create_task(say())]
        try:
            yield line
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for task in tasks:
                if not task.cancelled() and task.exception() is not None:
                    assert isinstance(task.exception(), ConnectionClosed)


async def state(client: Raw, name: str) -> str | None:
    answer = await client.request("tools/call", name="list_servers", arguments={})
    servers = answer["result"]["structuredContent"]["servers"]
    return next((one["state"] for one in servers if one["name"] == name), None)


async def until_state(client: Raw, name: str, wanted: str) -> None:
    async with asyncio.timeout(60):
        while await state(client, name) != wanted:
            await asyncio.sleep(0.01)


async def called(client: Raw, tool: str, **arguments: Any) -> Message:
    answer = await client.request("tools/call", name=tool, arguments=arguments)
    result: Message = answer["result"]
    return result


async def begun(client: Raw, name: str) -> list[Any]:
    """The calls that the server is at work on."""
    under_way: list[Any] = (await called(client, f"{name}__cancelled"))["structuredContent"]["begun"]
    return under_way


async def test_a_server_that_dials_in_is_called_and_comes_back_after_it_was_away(tmp_path: Path) -> None:
    with serving(tmp_path / "home", network__rights=RIGHTS) as started:
        async with raw(started.url) as client:
            async with dialed(started, "remote"):
                await until_state(client, "remote", "READY")
                result = await called(client, "remote__add", a=20, b=22)
                assert result["content"][0]["text"] == "42"
            await until_state(client, "remote", "FAILED")
            away = await called(client, "remote__add", a=1, b=1)
            assert away["_meta"]["toolscore/outcome"] == "unavailable"
            assert "/register?name=remote" in away["content"][0]["text"]
            async with dialed(started, "remote"):
                await until_state(client, "remote", "READY")
                assert (await called(client, "remote__add", a=1, b=1))["content"][0]["text"] == "2"


async def test_it_is_known_after_a_restart_and_unregistered_like_any_other(tmp_path: Path) -> None:
    with serving(tmp_path / "home", network__rights=RIGHTS) as started:
        async with raw(started.url) as client, dialed(started, "remote"):
            await until_state(client, "remote", "READY")
    with serving(tmp_path / "home", network__rights=RIGHTS) as started:
        async with raw(started.url) as client:
            away = await called(client, "remote__add", a=1, b=1)
            assert away["_meta"]["toolscore/outcome"] == "unavailable"
            async with dialed(started, "remote") as line:
                await until_state(client, "remote", "READY")
                await called(client, "unregister_tool", name="remote")
                assert await state(client, "remote") is None
                async with asyncio.timeout(60):
                    await line.wait_closed()


async def test_a_call_in_flight_when_it_leaves_has_an_outcome(tmp_path: Path) -> None:
    with serving(tmp_path / "home", network__rights=RIGHTS) as started:
        async with raw(started.url) as client:
            async with dialed(started, "remote"):
                await until_state(client, "remote", "READY")
                await client.call("long", "remote__sleep", seconds=60)
                async with asyncio.timeout(60):
                    while len(await begun(client, "remote")) < 2:  # that one, and the question itself
                        await asyncio.sleep(0.01)
            answer = await client.receive()
            assert answer["id"] == "long"
            assert answer["result"]["_meta"]["toolscore/outcome"] == "outcome_unknown"


async def test_a_name_in_use_or_not_fit_is_refused_before_it_is_connected(tmp_path: Path) -> None:
    with serving(tmp_path / "home", network__rights=RIGHTS) as started:
        async with raw(started.url) as client, dialed(started, "remote"):
            await until_state(client, "remote", "READY")
            for name, status in (("remote", 409), ("", 400), ("no%20name", 400), ("toolscore", 400)):
                with pytest.raises(InvalidStatus) as raised:
                    async with dialed(started, name):
                        pass
                assert raised.value.response.status_code == status


async def test_what_is_no_mcp_server_is_told_so_and_not_kept(tmp_path: Path) -> None:
    with serving(tmp_path / "home", network__rights=RIGHTS, process__start_timeout=1) as started:
        async with raw(started.url) as client:
            async with dialed(started, "mute", {"hang-handshake": ""}) as line, asyncio.timeout(60):
                await line.wait_closed()
            assert line.close_code == 1008
            assert "did not" in (line.close_reason or "")
            assert await state(client, "mute") is None


async def test_the_right_to_register_is_needed_and_a_name_stays_with_who_took_it(tmp_path: Path) -> None:
    import subprocess

    from toolscore_client import TOOLSCORE

    def token(name: str, rights: str) -> str:
        words = [TOOLSCORE, "--home", str(tmp_path / "home"), "token", "create", name, "--allow", rights]
        done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=120)
        return done.stdout.split()[-1]

    with serving(tmp_path / "home", options=()) as started:
        one, two = token("one", "call,register"), token("two", "call,register")
        with pytest.raises(InvalidStatus) as raised:
            async with dialed(started, "remote", query=f"&token={started.token}"):
                pass
        assert raised.value.response.status_code == 403
        assert b"--allow call,register" in (raised.value.response.body or b"")
        async with raw(f"{started.url}?token={one}") as client:
            async with dialed(started, "remote", query=f"&token={one}"):
                await until_state(client, "remote", "READY")
            await until_state(client, "remote", "FAILED")
            with pytest.raises(InvalidStatus) as raised:
                async with dialed(started, "remote", query=f"&token={two}"):
                    pass
            assert raised.value.response.status_code == 409


async def test_a_server_whose_token_is_revoked_is_cut_off_and_not_let_in_again(tmp_path: Path) -> None:
    with serving(tmp_path / "home", options=()) as started:
        tokens = Tokens(Home.at(started.home), frozenset({"call"}))
        mine, other = tokens.create("mine", {"call"}), tokens.create("other", {"register"})
        async with raw(f"{started.url}?token={mine}") as client:
            async with dialed(started, "remote", query=f"&token={other}") as line:
                await until_state(client, "remote", "READY")
                await client.call("waits", "remote__sleep", seconds=60)
                tokens.revoke("other")
                answer = await client.receive()
                assert answer["id"] == "waits"
                assert answer["result"]["_meta"]["toolscore/outcome"] in ("outcome_unknown", "unavailable")
                await line.wait_closed()
                assert line.close_code == 1008, line.close_reason
                assert "not valid any more" in str(line.close_reason)
            away = await called(client, "remote__add", a=1, b=1)
            assert away["_meta"]["toolscore/outcome"] == "unavailable"
            with pytest.raises(InvalidStatus) as raised:
                async with dialed(started, "remote", query=f"&token={other}"):
                    pass
            assert raised.value.response.status_code == 401
            again = tokens.create("other", {"register"})
            async with dialed(started, "remote", query=f"&token={again}"):
                await until_state(client, "remote", "READY")
    assert other not in started.log.read_text()


async def test_the_url_of_one_that_dials_in_cannot_be_registered_by_hand(tmp_path: Path) -> None:
    with serving(tmp_path / "home", network__rights=RIGHTS) as started:
        async with raw(started.url) as client:
            result = await called(client, "register_tool", name="x", url="register:owner")
            assert result["_meta"]["toolscore/outcome"] == "invalid_arguments"
