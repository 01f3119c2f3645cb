"""Over the network, servers are changed by who may, or with the consent of a person at the client."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Literal

import anyio
import pytest
from mcp.client.client import Client
from mcp_types import ElicitResult

from listening import Serving, serving
from toolscore.client import websocket
from toolscore_client import FAULTY, TOOLSCORE, call, execute, outcome, text

Mode = Literal["legacy", "auto"]
MODES: tuple[Mode, ...] = ("legacy", "auto")


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("consent") / "home", options=()) as one:
        yield one


class Person:
    """Answers what the client is asked, and remembers it."""

    def __init__(self, action: Literal["accept", "decline", "cancel"], **content: Any) -> None:
        self.asked: list[str] = []
        self._result = ElicitResult(action=action, content=content or None)

    async def __call__(self, context: Any, params: Any) -> ElicitResult:
        self.asked.append(params.message)
        return self._result


def client(started: Serving, mode: Mode, person: Person | None, token: str | None = None) -> Client:
    transport = websocket(started.url, token=token or started.token)
    return Client(transport, mode=mode, elicitation_callback=person)


def faulty(name: str) -> dict[str, Any]:
    return {"name": name, "command": sys.executable, "args": [FAULTY]}


@pytest.mark.parametrize("mode", MODES)
async def test_a_person_who_agrees_is_told_what_will_run(started: Serving, mode: Mode) -> None:
    person = Person("accept", allow=True)
    with anyio.fail_after(30):
        async with client(started, mode, person) as one:
            await call(one, "register_tool", **faulty(f"agreed-{mode}"))
            assert text(await execute(one, f"agreed-{mode}__add", a=1, b=2)) == "3"
            assert not (await execute(one, "unregister_tool", name=f"agreed-{mode}")).is_error
    assert len(person.asked) == 2
    assert f"agreed-{mode}" in person.asked[0]
    assert FAULTY in person.asked[0]
    assert "'token'" in person.asked[0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "person",
    [Person("decline"), Person("cancel"), Person("accept", allow=False)],
    ids=["no", "away", "unticked"],
)
async def test_without_agreement_nothing_is_changed(started: Serving, mode: Mode, person: Person) -> None:
    with anyio.fail_after(30):
        async with client(started, mode, person) as one:
            refused = await one.call_tool("register_tool", faulty("refused"))
            assert outcome(refused) == "refused"
            servers = (await call(one, "list_servers"))["servers"]
            assert "refused" not in {server["name"] for server in servers}


@pytest.mark.parametrize("mode", MODES)
async def test_where_nobody_can_be_asked_the_way_to_a_grant_is_told(started: Serving, mode: Mode) -> None:
    with anyio.fail_after(30):
        async with client(started, mode, None) as one:
            refused = await one.call_tool("install_server", {"source": "pypi:mcp-server-time"})
            assert outcome(refused) == "needs_approval"
            assert "toolscore token create NAME --allow call,manage" in text(refused)


async def test_what_only_reads_needs_no_consent(started: Serving) -> None:
    person = Person("decline")
    with anyio.fail_after(30):
        async with client(started, "auto", person) as one:
            await call(one, "list_tools")
            await call(one, "list_servers")
    assert person.asked == []


async def test_a_token_that_may_manage_is_not_asked(started: Serving) -> None:
    words = [TOOLSCORE, "--home", str(started.home), "token", "create", "admin", "--allow", "call,manage"]
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=30)
    person = Person("decline")
    with anyio.fail_after(30):
        async with client(started, "auto", person, done.stdout.split()[-1]) as one:
            await call(one, "register_tool", **faulty("by-admin"))
            await call(one, "unregister_tool", name="by-admin")
    assert person.asked == []
