"""Over the network, servers are changed by who may, or with the consent of a person at the client."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
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
    [
        Person("decline"),
        Person("cancel"),
        Person("accept", allow=False),
        Person("accept", allow="false"),
        Person("accept", allow=1),
        Person("accept", other=True),
    ],
    ids=["no", "away", "unticked", "a text", "a number", "another form"],
)
async def test_without_agreement_nothing_is_changed(started: Serving, mode: Mode, person: Person) -> None:
    with anyio.fail_after(30):
        async with client(started, mode, person) as one:
            refused = await one.call_tool("register_tool", faulty("refused"))
            assert outcome(refused) == "refused"
            servers = (await call(one, "list_servers"))["servers"]
            assert "refused" not in {server["name"] for server in servers}


async def test_a_person_is_told_which_secrets_and_variables_a_server_would_get(started: Serving) -> None:
    given = {
        "env": {"HOME_PAGE": "x", "KEY": "${GITHUB_TOKEN}"},
        "url": "http://127.0.0.1:9/mcp",
        "headers": {"Authorization": "Bearer ${env:AWS_SECRET_ACCESS_KEY}"},
    }
    locked = {"env": {"KEY": "${input:GITHUB_TOKEN}", "OWN": "${secret:wanting/env/OWN}"}, "url": "http://x"}
    person = Person("decline")
    with anyio.fail_after(30):
        async with client(started, "legacy", person) as one:
            await one.call_tool("register_tool", {"name": "wanting", **given})
            asked = {"tool": "sync_server", "arguments": {"name": "wanting", "locked": locked}}
            await one.call_tool("execute_tool", asked)
    first, second = person.asked
    assert "KEY, Authorization, among them ${GITHUB_TOKEN}, ${env:AWS_SECRET_ACCESS_KEY}" in first
    assert "among them ${input:GITHUB_TOKEN}. Allow it?" in second, "its own secrets are no others'"


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
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=120)
    person = Person("decline")
    with anyio.fail_after(30):
        async with client(started, "auto", person, done.stdout.split()[-1]) as one:
            await call(one, "register_tool", **faulty("by-admin"))
            await call(one, "unregister_tool", name="by-admin")
    assert person.asked == []


async def test_a_person_is_told_what_an_entry_of_the_catalog_would_fetch_and_run(
    started: Serving, tmp_path: Path
) -> None:
    package = {
        "registryType": "npm",
        "identifier": "@scope/thing",
        "version": "3.1.0",
        "transport": {"type": "stdio"},
        "packageArguments": [{"type": "named", "name": "--mode", "value": "fast"}],
    }
    entry = {"name": "io.x/thing", "version": "1.0", "description": "It.", "packages": [package]}
    remote = {"type": "streamable-http", "url": "https://there.example/mcp"}
    (tmp_path / "server.json").write_text(json.dumps({**entry, "remotes": [remote]}))
    agreeing, person = Person("accept", allow=True), Person("decline")
    with anyio.fail_after(30):
        async with client(started, "auto", agreeing) as one:
            await execute(one, "sync_catalog", source=str(tmp_path))
        async with client(started, "auto", person) as one:
            for source in ("registry:io.x/thing", "registry:io.x/thing#remote"):
                refused = await one.call_tool("install_server", {"source": source, "settings": {}})
                assert outcome(refused) == "refused"
            refused = await one.call_tool("install_server", {"source": "registry:io.x/thin"})
            assert outcome(refused) == "invalid_arguments", "there is nothing to ask about"
            refused = await execute(one, "sync_catalog", source=str(tmp_path), forget=True)
            assert outcome(refused) == "refused"
    fetched, reached, forgotten = person.asked
    assert "fetch npm:@scope/thing@3.1.0 and run it on this machine as a server" in fetched
    assert "registry:io.x/thing@1.0" in fetched
    assert "started with: --mode fast" in fetched
    assert "use the server at https://there.example/mcp" in reached
    assert "run it on this machine" not in reached
    assert "forget a source of the catalog, with the servers it gave" in forgotten
    assert str(tmp_path) in forgotten


async def test_a_question_too_long_to_be_read_is_not_asked(started: Serving) -> None:
    person = Person("accept", allow=True)
    with anyio.fail_after(30):
        async with client(started, "auto", person) as one:
            refused = await one.call_tool("sync_catalog", {"source": "/x" * 50_000})
            assert outcome(refused) == "invalid_arguments"
    assert person.asked == []
