"""What a person agreed to is what happens: a catalog that says something else by then installs nothing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client.client import Client
from mcp_types import ElicitResult

from gap_parts import CHESS, tool_servers
from listening import Serving, serving
from toolscore.client import websocket
from toolscore.server.call import Call
from toolscore.server.consent import LONGEST, agreed
from toolscore.tools.caller import CALL, Caller
from toolscore.tools.outcome import Outcome, RefusalError
from toolscore_client import TOOLSCORE, call, outcome, text

NEED = "Find the best chess move in a position"


class Home:
    """A ToolScore, and what its catalog says of one server."""

    def __init__(self, served: Serving, folder: Path, urls: dict[str, str]) -> None:
        self.served = served
        self.folder = folder
        self.urls = urls
        words = [TOOLSCORE, "--home", str(served.home), "token", "create", "admin", "--allow", "call,manage"]
        done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=120)
        self._token = done.stdout.split()[-1]

    def admin(self, **options: Any) -> Client:
        return Client(websocket(self.served.url, token=self._token), **options)

    def guest(self, **options: Any) -> Client:
        return Client(websocket(self.served.url, token=self.served.token), **options)

    async def says(self, **entry: Any) -> None:
        """Let the catalog say this."""
        about = {"name": "io.x/board", "version": "1.0.0", "description": NEED}
        (self.folder / "board.json").write_text(json.dumps({**about, **entry}))
        async with self.admin() as one:
            await call(one, "sync_catalog", source=str(self.folder))

    def remote(self, name: str = "good", **more: Any) -> dict[str, Any]:
        return {"remotes": [{"type": "streamable-http", "url": self.urls[name], **more}]}

    async def servers(self) -> list[str]:
        async with self.admin() as one:
            return [server["name"] for server in (await call(one, "list_servers"))["servers"]]

    async def clean(self) -> None:
        async with self.admin() as one:
            for name in await self.servers():
                await call(one, "unregister_tool", name=name)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("agreed")
    (folder / "entries").mkdir()
    with (
        tool_servers(folder, good=[CHESS], evil=[CHESS]) as (urls, ready),
        serving(folder / "home", options=()) as served,
    ):
        ready()
        yield Home(served, folder / "entries", urls)


def bundle(digit: str) -> dict[str, Any]:
    file = {"registryType": "mcpb", "identifier": "http://127.0.0.1:9/z.mcpb", "fileSha256": digit * 64}
    return {"packages": [{**file, "transport": {"type": "stdio"}}]}


def packaged(value: str) -> dict[str, Any]:
    package = {"registryType": "pypi", "identifier": "none-such-of-ours", "version": "1.0"}
    pairs = [{"name": "MODE", "value": value}]
    return {"packages": [{**package, "transport": {"type": "stdio"}, "environmentVariables": pairs}]}


@pytest.mark.parametrize("tool", ["install_server", "ensure_tools"])
@pytest.mark.parametrize("change", ["address", "header", "checksum", "variable"])
async def test_nothing_is_installed_but_what_the_person_saw(home: Home, tool: str, change: str) -> None:
    before, after = {
        "address": (home.remote(), home.remote("evil")),
        "header": (home.remote(), home.remote(headers=[{"name": "X-Evil", "value": "1"}])),
        "checksum": (bundle("a"), bundle("b")),
        "variable": (packaged("good"), packaged("evil")),
    }[change]
    asked: list[str] = []

    async def swapped(context: Any, params: Any) -> ElicitResult:
        asked.append(params.message)
        await home.says(**after)
        return ElicitResult(action="accept", content={"allow": True})

    with anyio.fail_after(60):
        await home.says(**before)
        async with home.guest(elicitation_callback=swapped) as one:
            if tool == "install_server":
                refused = await one.call_tool(tool, {"source": "registry:io.x/board"})
                assert outcome(refused) == "refused"
                said = text(refused)
            else:
                [done] = (await call(one, tool, task=NEED))["done"]
                assert done["done"] == "failed"
                said = done["reason"]
        assert "something else" in said
        assert len(asked) == 1
        assert await home.servers() == []


async def test_a_person_is_asked_about_all_of_a_command_and_not_at_all_if_it_is_too_long(home: Home) -> None:
    asked: list[str] = []

    async def no(context: Any, params: Any) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action="decline")

    def long(length: int) -> dict[str, Any]:
        words = ({"type": "positional", "value": "a" * length}, {"type": "named", "name": "--exec=evil"})
        return {"packages": [{**packaged("x")["packages"][0], "packageArguments": list(words)}]}

    with anyio.fail_after(60):
        async with home.guest(elicitation_callback=no) as one:
            await home.says(**long(400))
            told = await call(one, "ensure_tools", task=NEED)
            assert [done["done"] for done in told["done"]] == ["declined"]
            assert len(told["needs"][0]["servers"][0]["fetches"]) < 400
            assert "--exec=evil" in asked[0]
            await home.says(**long(4000))
            [done] = (await call(one, "ensure_tools", task=NEED))["done"]
            assert done["done"] == "failed"
            assert "make it shorter" in done["reason"]
    assert len(asked) == 1


@pytest.mark.parametrize("tool", ["install_server", "ensure_tools"])
async def test_a_person_is_told_the_address_that_a_clients_value_makes(home: Home, tool: str) -> None:
    asked: list[str] = []

    async def no(context: Any, params: Any) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action="decline")

    way = {
        "type": "streamable-http",
        "url": "{url}",
        "variables": {"url": {"default": "https://good.example/mcp"}},
    }
    arguments = {"source": "registry:io.x/board"} if tool == "install_server" else {"task": NEED}
    with anyio.fail_after(60):
        await home.says(remotes=[way])
        async with home.guest(elicitation_callback=no) as one:
            await one.call_tool(tool, {**arguments, "settings": {"url": "https://evil.example/mcp"}})
    [question] = asked
    assert "https://evil.example/mcp" in question
    assert "with values for url" in question


async def test_without_a_person_no_value_goes_to_a_server_that_it_was_not_given_for(home: Home) -> None:
    names = ("DATABASE_URL", "SMTP_PASS", "CONNECTION_STRING", "SLACK_WEBHOOK_URL", "DSN", "MY_PIN", "LANG")
    with anyio.fail_after(60):
        try:
            for required in (True, False):
                headers = [
                    {
                        "name": f"X-{place}",
                        "value": f"{{{name}}}",
                        "variables": {name: {"isRequired": required}},
                    }
                    for place, name in enumerate(names)
                ]
                await home.says(**home.remote(headers=headers))
                async with home.admin() as one:
                    flat = {name: f"mine-{name}" for name in names}
                    told = await call(one, "ensure_tools", task=NEED, install="allowed", settings=flat)
                    notes = " ".join(told["notes"])
                    assert '"settings": {"io.x/board": {...}}' in notes
                    assert all(name in notes for name in names)
                    if required:
                        assert told.get("done", []) == []
                        assert '{"io.x/board": {...}}' in told["next"]
                    else:  # it is of use without them
                        assert [done["done"] for done in told["done"]] == ["installed"]
                        assert "was not given DATABASE_URL" in notes
                kept = []
                for path in home.served.home.rglob("*"):
                    with suppress(FileNotFoundError):  # files come and go while it serves
                        kept += [path.read_bytes()] if path.is_file() else []
                assert kept
                assert not any(b"mine-DATABASE_URL" in content for content in kept)
        finally:
            await home.clean()


class Exchange:
    """A client that answers every question with the same."""

    def __init__(self, **answer: Any) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(params["message"])
        return self.answer


def guest(exchange: Exchange) -> Call:
    caller = Caller(principal="guest", listener="ws", rights=frozenset({CALL}))
    return Call(caller, exchange=exchange)  # type: ignore[arg-type]  # all of it that is used


@pytest.mark.parametrize(
    "content", [0, [], "", False, 1, True, "yes", [True], {"allow": 1}, {"allow": None}, {"x": 1}], ids=repr
)
async def test_only_a_form_left_empty_or_ticked_is_a_yes(content: Any) -> None:
    with pytest.raises(RefusalError) as refused:
        await agreed("do it", guest(Exchange(action="accept", content=content)))
    assert refused.value.outcome is Outcome.REFUSED
    every: list[dict[str, Any]] = [{}, {"content": None}, {"content": {}}, {"content": {"allow": True}}]
    for yes in every:
        await agreed("do it", guest(Exchange(action="accept", **yes)))


async def test_nothing_is_left_out_of_a_question_behind_much_space() -> None:
    exchange = Exchange(action="accept")
    with pytest.raises(RefusalError, match="make it shorter"):
        await agreed("run this" + " " * 4 * LONGEST + "and that", guest(exchange))
    assert exchange.asked == []
    await agreed("run this" + "\n" * LONGEST + "and that", guest(exchange))
    assert "run this and that" in exchange.asked[0]
