"""Calls from inside a call: in the caller's name, as deep as may be, and no longer than the call they are made in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers import call as direct
from helpers import faulty, runner_at, supervising, until
from toolscore.runners.supervisor import Supervisor
from toolscore.runners.turnstile import Turnstile
from toolscore.server.nested import ToolSocket
from toolscore.tools.caller import OWNER, Caller
from toolscore.tools.library import Library
from toolscore.tools.nested import CALLER_KEY, DEEPEST, Grant, Grants
from toolscore.tools.outcome import OUTCOME_KEY
from toolscore.tools.router import Router
from toolscore.tools.rows import ServerRow
from toolscore.tools.store import Store


class Own:
    """Own tools: one that tells who called it."""

    name = "toolscore"
    description = "own"

    def definitions(self) -> list[dict[str, Any]]:
        return [{"name": "toolscore__who"}]

    async def call(self, name: str, arguments: dict[str, Any], caller: Caller) -> dict[str, Any]:
        return {"structuredContent": {"caller": caller, "name": name}}


class House:
    """A router, an executor of origin `builtin` with one place, and another server beside it."""

    def __init__(
        self, library: Library, supervisor: Supervisor, router: Router, gate: Turnstile, session: Any
    ) -> None:
        self.library = library
        self.supervisor = supervisor
        self.router = router
        self.gate = gate
        self.session = session
        self.grants: list[Grant] = []

    def allow(self, *principals: str) -> Grants:
        """Let code of these principals call tools; remember the grants."""
        grants = Grants(self.library, self.router.call, Own(), principals)
        make = grants.make

        def noted(*arguments: Any) -> Grant | None:
            grant = make(*arguments)
            if grant is not None:
                self.grants.append(grant)
            return grant

        grants.make = noted  # type: ignore[assignment,method-assign]
        self.router.carrier.nested = grants
        return grants

    @asynccontextmanager
    async def executing(self, caller: Caller = OWNER) -> AsyncIterator[Grant]:
        """Have an execution under way, in place of code that takes its time."""
        before = len(self.grants)
        outer = asyncio.create_task(self.router.call("executor__sleep", {"seconds": 30}, caller))
        await until(lambda: len(self.grants) > before)
        try:
            yield self.grants[before]
        finally:
            outer.cancel()
            await asyncio.wait([outer])


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    runner = runner_at(tmp_path)
    store = await Store.open(tmp_path / "store.db")
    try:
        async with supervising(tmp_path, runner, timeout=20.0) as supervisor:
            library = Library(store)
            for name, origin in (("executor", "builtin"), ("other", "cli")):
                unit = supervisor.add(faulty(name=name))
                await unit.ready()
                row = ServerRow(name=name, origin=origin, enabled=True, installation=unit.installation)  # type: ignore[arg-type]
                await library.add(row, unit.tools)
            gate = supervisor.units["executor"].gate
            gate.configure(1, 0)
            session = supervisor.units["executor"].session
            yield House(library, supervisor, Router(library, supervisor), gate, session)
    finally:
        await store.close()


async def test_a_builtin_server_is_told_who_calls_and_a_stamp_of_the_client_is_dropped(house: House) -> None:
    forged = {CALLER_KEY: {"principal": "root"}, "kept": 1}
    result = await house.router.call("executor__echo", {}, replace(OWNER, principal="ann"), meta=forged)
    meta = result["structuredContent"]["meta"]
    assert meta[CALLER_KEY] == {"principal": "ann", "depth": 0, "tools": None}
    assert meta["kept"] == 1


async def test_another_server_is_told_nothing_and_no_forged_stamp_either(house: House) -> None:
    forgeries: list[dict[str, Any]] = [{CALLER_KEY: {"principal": "root"}, "kept": 1}, {CALLER_KEY: {}}]
    for forged in forgeries:
        result = await house.router.call("other__echo", {}, OWNER, meta=forged)
        assert CALLER_KEY not in result["structuredContent"]["meta"]


async def test_requests_that_are_no_calls_grant_nothing(house: House) -> None:
    house.allow("*")
    assert await house.router.request("executor", "ping", {}, OWNER) == {}
    assert not house.grants


async def test_only_code_of_callers_that_are_named_gets_a_grant(house: House) -> None:
    house.allow("own*")
    result = await house.router.call("executor__echo", {}, OWNER)
    stamp = result["structuredContent"]["meta"][CALLER_KEY]
    assert stamp["tools"] == {"path": "", "token": house.grants[0].token}
    result = await house.router.call("executor__echo", {}, replace(OWNER, principal="guest"))
    assert result["structuredContent"]["meta"][CALLER_KEY]["tools"] is None
    result = await house.router.call("other__echo", {}, OWNER)
    assert CALLER_KEY not in result["structuredContent"]["meta"]
    assert len(house.grants) == 1


async def test_code_sees_enabled_servers_and_their_tools_by_their_full_names(house: House) -> None:
    house.allow("*")
    async with house.executing() as grant:
        assert [server["name"] for server in await grant.servers()] == ["toolscore", "executor", "other"]
        assert "other__echo" in [tool["name"] for tool in await grant.tools("other")]
        assert await grant.tools("toolscore") == [{"name": "toolscore__who"}]
        await house.library.set_enabled("other", False)
        assert [server["name"] for server in await grant.servers()] == ["toolscore", "executor"]
        with pytest.raises(LookupError, match="disabled"):
            await grant.tools("other")
        with pytest.raises(LookupError, match="no server named 'nobody'"):
            await grant.tools("nobody")
        refused = await grant.call("other__echo", {})
        assert refused["_meta"][OUTCOME_KEY] == "unavailable"


async def test_a_nested_call_is_made_in_the_callers_name_and_says_from_inside_of_what(house: House) -> None:
    house.allow("*")
    async with house.executing(replace(OWNER, principal="ann", connection=7)) as grant:
        told = (await grant.call("toolscore__who", {}))["structuredContent"]["caller"]
        assert (told.principal, told.connection, told.parent, told.depth) == ("ann", 7, "executor#1", 1)
        result = await grant.call("other__echo", {"a": 1})
        assert result["structuredContent"]["arguments"] == {"a": 1}


class Client:
    """A client's request that can be asked for input."""

    modern = True
    envelope: dict[str, Any] = {}  # noqa: RUF012 - it is the request's

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def ask(self, method: str, params: dict[str, Any], on_progress: Any = None) -> dict[str, Any]:
        self.asked.append(method)
        return {"action": "decline"}


async def test_the_clients_request_is_what_the_nested_call_is_done_for(house: House) -> None:
    """Whatever the called server asks, or logs, is for the client of the outer call, and not for anybody else."""
    house.allow("*")
    client = Client()
    outer = asyncio.create_task(house.router.call("executor__sleep", {"seconds": 30}, OWNER, asker=client))
    await until(lambda: house.grants)
    other = house.supervisor.units["other"].session
    assert other is not None
    nested = asyncio.create_task(house.grants[0].call("other__sleep", {"seconds": 30}))
    await until(lambda: other.owners)
    assert other.owners == [client]
    outer.cancel()
    await asyncio.wait([outer, nested])
    await until(lambda: not other.owners)


async def test_a_nested_call_is_told_of_in_the_log(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "toolscore.tools.nested")
    house.allow("*")
    async with house.executing(replace(OWNER, principal="ann")) as grant:
        await grant.call("other__echo", {})
        await grant.call("other__nothing", {})
    assert caplog.messages == [
        "executor#1: called other__echo for ann: ok",
        "executor#1: called other__nothing for ann: unknown_tool",
    ]


async def test_refusals_and_faults_are_results_for_the_code(house: House) -> None:
    house.allow("*")
    async with house.executing() as grant:
        unknown = await grant.call("other__nothing", {})
        assert unknown["isError"]
        assert unknown["_meta"][OUTCOME_KEY] == "unknown_tool"
        fault = await grant.call("other__error", {})
        assert fault["isError"]
        assert "out of order" in fault["content"][0]["text"]


async def test_code_that_runs_code_does_not_wait_for_its_own_place(house: House) -> None:
    house.allow("*")
    async with house.executing() as grant:
        assert house.gate.max_parallel == 1
        inner = await asyncio.wait_for(grant.call("executor__echo", {}), 10)
        assert inner["structuredContent"]["meta"][CALLER_KEY]["depth"] == 1
        # Several at once leave its place once, and it is back when the last of them is done.
        sleeps = [grant.call("other__sleep", {"seconds": 0.2}) for _ in range(3)]
        await asyncio.wait_for(asyncio.gather(*sleeps, grant.call("executor__echo", {})), 10)
        assert house.gate.in_flight == 1
        assert not house.gate.try_enter("another")
    await until(lambda: house.gate.in_flight == 0)


async def test_a_call_that_waits_for_a_nested_one_still_counts_as_under_way(house: House) -> None:
    house.allow("*")
    async with house.executing() as grant:
        nested = asyncio.create_task(grant.call("other__sleep", {"seconds": 30}))
        await until(lambda: house.gate.try_enter("another"))
        assert house.gate.in_flight == 2
        house.gate.leave("another")
        nested.cancel()
        await asyncio.wait([nested])
        assert nested.cancelled()
        await until(lambda: not house.gate.try_enter("another"))


async def test_calls_are_nested_three_deep_and_no_deeper(house: House) -> None:
    house.allow("*")
    caller = OWNER
    for depth in range(1, DEEPEST + 1):
        result = await _nested(house, caller, "executor__echo")
        assert result["structuredContent"]["meta"][CALLER_KEY]["depth"] == depth
        caller = replace(caller, depth=depth)
    result = await _nested(house, caller, "executor__echo")
    assert result["_meta"][OUTCOME_KEY] == "limit"
    assert "3 calls deep" in result["content"][0]["text"]


async def _nested(house: House, caller: Caller, name: str) -> dict[str, Any]:
    async with house.executing(caller) as grant:
        return await grant.call(name, {})


async def test_with_the_outer_call_its_grant_ends_and_what_is_under_way_is_cancelled(house: House) -> None:
    grants = house.allow("*")
    async with house.executing() as grant:
        nested = asyncio.create_task(grant.call("executor__sleep", {"seconds": 30}))
        await until(lambda: len(house.grants) == 2)
        assert grants.find(grant.token) is grant
    over = await asyncio.wait_for(nested, 10)
    assert over["isError"]
    assert "is over" in over["content"][0]["text"]
    assert grants.find(grant.token) is None
    assert (await grant.call("other__echo", {}))["isError"]
    await until(lambda: house.gate.in_flight == 0)
    told = await direct(house.session, "cancelled")
    assert len(told["ids"]) == 2


@asynccontextmanager
async def _line(path: Path) -> AsyncIterator[Any]:
    reader, writer = await asyncio.open_unix_connection(str(path))

    async def ask(**request: Any) -> dict[str, Any]:
        writer.write(json.dumps(request).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await asyncio.wait_for(reader.readline(), 10))
        return answer

    try:
        yield ask
    finally:
        writer.close()


async def test_tools_are_called_over_the_socket_with_a_token_that_is_good(
    house: House, tmp_path: Path
) -> None:
    grants = house.allow("*")
    listening = ToolSocket(grants)
    path = tmp_path / "tools.sock"
    await listening.open(path)
    try:
        assert path.stat().st_mode & 0o777 == 0o600
        async with _line(path) as ask:
            async with house.executing() as grant:
                good = {"token": grant.token}
                servers = await ask(**good, id=1, method="servers")
                assert [one["name"] for one in servers["result"]] == ["toolscore", "executor", "other"]
                tools = await ask(**good, id=2, method="tools", params={"server": "other"})
                assert "other__add" in [tool["name"] for tool in tools["result"]]
                done = await ask(
                    **good, id=3, method="call", params={"name": "other__echo", "arguments": {"a": "é"}}
                )
                assert (done["id"], done["result"]["structuredContent"]["arguments"]) == (3, {"a": "é"})
                unknown = await ask(**good, id=4, method="tools", params={"server": "x"})
                assert unknown["error"]["type"] == "LookupError"
                for wrong in ({"method": "install"}, {"method": "call", "params": {"name": 1}}):
                    assert (await ask(**good, id=5, **wrong))["error"]["type"] == "ValueError"
                refused = await ask(token="no", id=6, method="servers")
                assert refused["error"]["type"] == "PermissionError"
            await until(lambda: grants.find(grant.token) is None)
            late = await ask(**good, id=7, method="servers")
            assert (late["id"], late["error"]["type"]) == (7, "PermissionError")
    finally:
        await listening.close()
    assert not path.exists()


async def test_what_is_asked_over_a_line_ends_with_the_line(house: House, tmp_path: Path) -> None:
    listening = ToolSocket(house.allow("*"))
    await listening.open(tmp_path / "tools.sock")
    try:
        async with house.executing() as grant:
            _reader, writer = await asyncio.open_unix_connection(str(tmp_path / "tools.sock"))
            params = {"name": "executor__sleep", "arguments": {"seconds": 30}}
            request = {"token": grant.token, "id": 1, "method": "call", "params": params}
            writer.write(json.dumps(request).encode() + b"\n")
            await until(lambda: len(house.grants) == 2)
            writer.close()
            await until(lambda: house.router.carrier.nested is not None and not _good(house, house.grants[1]))
    finally:
        await listening.close()


def _good(house: House, grant: Grant) -> bool:
    return (
        house.router.carrier.nested is not None and house.router.carrier.nested.find(grant.token) is not None
    )
