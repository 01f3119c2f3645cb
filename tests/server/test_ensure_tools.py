"""`ensure_tools` gets what a task needs in one step, but not without a right or a yes, nor what does not serve."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
from mcp_types import ElicitResult

from gap_house import MODES, House, house, servers
from gap_parts import TIDES, entry, remote, shelf, tool_servers
from toolscore_client import Mode, call, connected, execute, outcome, text

EVERY = pytest.mark.parametrize("mode", MODES)
CHESS = "Find the best chess move in a position"
MUSIC = "Transpose a melody into another musical key"
PAINT = "Paint a watercolor picture of a landscape"
STARS = "Identify a constellation of stars in the night sky"


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("ensure")) as one:
        yield one


class Person:
    """Answers what the client is asked, and remembers it."""

    def __init__(self, *actions: Literal["accept", "decline", "cancel"]) -> None:
        self.asked: list[str] = []
        self.actions = list(actions)

    async def __call__(self, context: Any, params: Any) -> ElicitResult:
        self.asked.append(params.message)
        action = self.actions.pop(0) if len(self.actions) > 1 else self.actions[0]
        return ElicitResult(action=action, content={"allow": True} if action == "accept" else None)


@EVERY
async def test_who_may_install_gets_the_tools_in_one_step_and_calls_them(at: House, mode: Mode) -> None:
    heard: list[str] = []

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        heard.append(message or "")

    with anyio.fail_after(60):
        async with at.cleaned(), at.admin(mode) as one:
            task = {"task": f"Get the weather forecast for a city. {CHESS}.", "install": "allowed"}
            result = await one.call_tool("ensure_tools", task, progress_callback=progress)
            told = json.loads(text(result))
            assert told == result.structured_content
            assert told["label"] != "gap"
            [done] = told["done"]
            assert (done["done"], done["server"], done["tools"]) == ("installed", "io.example/board", 1)
            tools = [need["tools"][0]["name"] for need in told["needs"]]
            assert tools[0] == "sky__get_forecast"
            assert tools[1] == f"{done['name']}__best_move"
            assert told["needs"][1]["tools"][0]["arguments"] == {
                "position": "string: FEN of the chess position"
            }
            assert "best_move" in text(await execute(one, tools[1], position="x"))
            assert any("looking for a server" in message for message in heard)
            # What is there is not installed again.
            again = await call(one, "ensure_tools", task=CHESS, install="allowed")
            assert again.get("done", []) == []
            assert len(await servers(one)) == 2


async def test_by_default_nothing_is_installed_where_nobody_can_be_asked(at: House) -> None:
    with anyio.fail_after(30):
        async with at.cleaned(), at.admin() as one:
            told = await call(one, "ensure_tools", task=CHESS)
            assert told["label"] == "gap"
            assert told.get("done", []) == []
            assert told["needs"][0]["servers"][0]["call"]["tool"] == "install_server"
            assert "could not be asked" in told["notes"][0]
            assert '"install": "allowed"' in told["notes"][0]
            assert await servers(one) == {"sky"}


@EVERY
@pytest.mark.parametrize("install", ["ask", "allowed"])
async def test_who_may_not_install_gets_the_tools_when_a_person_agrees(
    at: House, mode: Mode, install: str
) -> None:
    person = Person("accept")
    with anyio.fail_after(60):
        async with at.cleaned(), at.guest(mode, elicitation_callback=person) as one:
            told = await call(one, "ensure_tools", task=CHESS, install=install)
            assert [done["done"] for done in told["done"]] == ["installed"]
            assert told["needs"][0]["tools"][0]["name"].endswith("__best_move")
    assert len(person.asked) == 1
    assert "install the server io.example/board" in person.asked[0]
    assert "http://127.0.0.1:" in person.asked[0]
    assert CHESS in person.asked[0]


@EVERY
@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_without_a_yes_nothing_is_installed(
    at: House, mode: Mode, action: Literal["decline", "cancel"]
) -> None:
    person = Person(action)
    with anyio.fail_after(60):
        async with at.cleaned(), at.guest(mode, elicitation_callback=person) as one:
            told = await call(one, "ensure_tools", task=CHESS, install="allowed")
            assert [done["done"] for done in told["done"]] == ["declined"]
            assert told["label"] == "gap"
            assert await servers(one) == {"sky"}
    assert len(person.asked) == 1


@EVERY
async def test_who_may_not_install_and_cannot_be_asked_gets_proposals(at: House, mode: Mode) -> None:
    with anyio.fail_after(30):
        async with at.guest(mode) as one:
            told = await call(one, "ensure_tools", task=CHESS, install="allowed")
            assert told["needs"][0]["servers"][0]["name"] == "io.example/board"
            assert "toolscore token create NAME --allow call,manage" in told["notes"][0]
            assert await servers(one) == {"sky"}


@EVERY
async def test_who_may_install_is_asked_all_the_same_by_default(at: House, mode: Mode) -> None:
    person = Person("decline", "accept")
    with anyio.fail_after(60):
        async with at.cleaned(), at.admin(mode, elicitation_callback=person) as one:
            told = await call(one, "ensure_tools", needs=[CHESS, MUSIC], task="both")
            assert [done["done"] for done in told["done"][:1]] == ["declined"]
            assert "installed" in [done["done"] for done in told["done"]] or len(person.asked) > 1
            assert "io.example/board" in person.asked[0]
            assert "('token'" not in person.asked[0]


async def test_with_never_and_with_no_installs_left_there_are_only_proposals(at: House) -> None:
    with anyio.fail_after(30):
        async with at.cleaned(), at.admin() as one:
            for more in ({"install": "never"}, {"install": "allowed", "max_installs": 0}):
                told = await call(one, "ensure_tools", task=CHESS, **more)
                assert told.get("done", []) == []
                assert told["needs"][0]["servers"][0]["name"] == "io.example/board"
                assert await servers(one) == {"sky"}


async def test_no_more_servers_are_installed_than_asked_for(at: House) -> None:
    with anyio.fail_after(60):
        async with at.cleaned(), at.admin() as one:
            told = await call(
                one, "ensure_tools", task="both", needs=[CHESS, PAINT], install="allowed", max_installs=1
            )
            assert [done["server"] for done in told["done"] if done["done"] == "installed"] == [
                "io.example/board"
            ]
            assert any("max_installs" in note for note in told["notes"])
            assert len(await servers(one)) == 2


async def test_a_server_that_does_not_serve_after_all_is_undone_and_the_next_one_tried(at: House) -> None:
    with anyio.fail_after(60):
        async with at.cleaned(), at.admin() as one:
            told = await call(one, "ensure_tools", task=MUSIC, install="allowed")
            assert [(done["server"], done["done"]) for done in told["done"]] == [
                ("io.example/a-liar", "undone"),
                ("io.example/harmony", "installed"),
            ]
            reason = told["done"][0]["reason"]
            assert "send_email" in reason
            assert "was removed again" in reason
            assert 'install_server {"source": "registry:io.example/a-liar@1.0.0"}' in reason
            assert len(await servers(one)) == 2
            assert told["needs"][0]["tools"][0]["name"].endswith("__transpose_melody")


async def test_a_server_that_cannot_be_installed_is_reported_and_the_next_one_tried(at: House) -> None:
    with anyio.fail_after(60):
        async with at.cleaned(), at.admin() as one:
            told = await call(one, "ensure_tools", task=PAINT, install="allowed")
            assert [(done["server"], done["done"]) for done in told["done"]] == [
                ("io.example/a-dead", "failed"),
                ("io.example/easel", "installed"),
            ]
            assert told["done"][0]["reason"]
            assert len(await servers(one)) == 2


@EVERY
@pytest.mark.parametrize(
    ("need", "best", "why"),
    [
        ("Fire clay pottery in a kiln", "io.example/kiln", "docker.io/example/kiln"),
        ("Repair a pendulum clock that has stopped", "io.example/clock", "it requires X-Clock"),
    ],
    ids=["a container image", "lacks a secret"],
)
async def test_nothing_that_fits_far_worse_is_tried_in_place_of_the_best(
    at: House, mode: Mode, need: str, best: str, why: str
) -> None:
    person = Person("accept")
    with anyio.fail_after(60):
        async with at.cleaned(), at.admin(mode, elicitation_callback=person) as one:
            for install in ("allowed", "ask"):
                told = await call(one, "ensure_tools", task=need, install=install)
                assert told.get("done", []) == []
                notes = " ".join(told["notes"])
                assert best in notes
                assert why in notes
                assert len(told["needs"][0]["servers"]) > (best == "io.example/clock")
                assert "was not tried" in notes
            assert await servers(one) == {"sky"}
    assert person.asked == []


@EVERY
async def test_many_who_need_the_same_at_once_get_it_from_one_installation(at: House, mode: Mode) -> None:
    with anyio.fail_after(90):
        async with at.cleaned(), at.admin(mode) as one, at.admin(mode) as other:
            asked = {"task": CHESS, "install": "allowed"}
            told = await asyncio.gather(
                *(call(client, "ensure_tools", **asked) for client in (one, other) for _ in range(6))
            )
            done = [what["done"] for each in told for what in each.get("done", [])]
            assert done == ["installed"]
            assert {each["label"] for each in told} == {"covered"}
            assert len({each["needs"][0]["tools"][0]["name"] for each in told}) == 1
            assert len(await servers(one)) == 2


async def test_what_somebody_else_is_installing_is_waited_for(at: House) -> None:
    with anyio.fail_after(60):
        async with at.cleaned(), at.admin() as one, at.admin() as other:
            board = "registry:io.example/board@1.0.0"
            installing = asyncio.create_task(other.call_tool("install_server", {"source": board}))
            told = await asyncio.gather(
                *(call(one, "ensure_tools", task=CHESS, install="allowed") for _ in range(4))
            )
            await installing
            assert {each["label"] for each in told} == {"covered"}
            assert "failed" not in [what["done"] for each in told for what in each.get("done", [])]
            assert len(await servers(one)) == 2


async def test_the_next_step_after_a_person_declined_is_not_to_install_all_the_same(at: House) -> None:
    with anyio.fail_after(30):
        async with at.cleaned(), at.admin(elicitation_callback=Person("decline")) as one:
            told = await call(one, "ensure_tools", task=CHESS)
            assert "declined" in told["next"]
            assert "make one of the calls" not in told["next"]


async def test_what_requires_a_secret_that_was_not_given_is_only_proposed(at: House) -> None:
    with anyio.fail_after(60):
        async with at.cleaned(), at.admin() as one:
            told = await call(one, "ensure_tools", task=STARS, install="allowed")
            assert told.get("done", []) == []
            [stars, *_] = told["needs"][0]["servers"]
            assert stars["name"] == "io.example/stars"
            assert stars["requires"][0].startswith("X-Key")
            assert stars["call"]["arguments"]["settings"] == {"X-Key": "..."}
            assert "'...'" in told["next"]
            assert "io.example/stars was not installed: it requires X-Key" in " ".join(told["notes"])
            # With it, the server is tried; it has not what it says, and is taken away with its secret.
            given = {"io.example/stars": {"X-Key": "hush-hush"}}
            result = await one.call_tool(
                "ensure_tools", {"task": STARS, "install": "allowed", "settings": given}
            )
            assert "hush-hush" not in text(result)
            assert [done["done"] for done in json.loads(text(result))["done"]] == ["undone"], text(result)
            assert await servers(one) == {"sky"}
            secrets = at.served.home / "secrets.json"
            assert not secrets.exists() or "hush-hush" not in secrets.read_text()


async def test_a_secret_that_was_given_for_no_server_by_name_goes_nowhere_unasked(at: House) -> None:
    with anyio.fail_after(60):
        async with at.cleaned(), at.admin() as one:
            for settings in ({"X-Key": "hush-hush"}, {"io.example/other": {"X-Key": "hush-hush"}}):
                told = await call(one, "ensure_tools", task=STARS, install="allowed", settings=settings)
                assert told.get("done", []) == []
                assert '"settings": {"io.example/stars": {...}}' in " ".join(told["notes"])
                assert "hush-hush" not in json.dumps(told)
            # Values that were given are not said again, and a call without them would not do.
            told = await call(
                one, "ensure_tools", task=STARS, install="never", settings={"X-Key": "hush-hush"}
            )
            [stars, *_] = told["needs"][0]["servers"]
            assert stars["call"]["arguments"]["settings"] == {"X-Key": "(as given)"}
            assert "(as given)" in told["next"]


@EVERY
async def test_a_secret_that_was_given_for_no_server_by_name_is_passed_on_where_a_person_agrees(
    at: House, mode: Mode
) -> None:
    person = Person("accept")
    with anyio.fail_after(60):
        async with at.cleaned(), at.admin(mode, elicitation_callback=person) as one:
            told = await call(one, "ensure_tools", task=STARS, settings={"X-Key": "hush-hush"})
            # It was installed with the secret; what it has serves nothing.
            assert [done["done"] for done in told["done"]] == ["undone"]
    [asked] = person.asked
    assert "io.example/stars" in asked
    assert "with values for X-Key" in asked
    assert "hush-hush" not in asked


async def test_a_setting_that_is_no_secret_is_asked_for_before_the_server_is_installed(
    at: House, tmp_path: Path
) -> None:
    asked: list[Any] = []
    answers: list[dict[str, Any] | None] = []

    async def person(context: Any, params: Any) -> ElicitResult:
        asked.append(params)
        content = answers.pop(0)
        return ElicitResult(action="decline" if content is None else "accept", content=content)

    header = {"name": "X-From", "description": "Who sends it", "isRequired": True}
    task = "Give the times of high tide at a harbour"
    with anyio.fail_after(60), tool_servers(tmp_path, harbour=[TIDES]) as (urls, ready):
        await anyio.to_thread.run_sync(ready)
        remotes = [{**remote(urls["harbour"])["remotes"][0], "headers": [header]}]
        harbour = shelf(tmp_path / "harbour", entry("io.example/harbour", "Tides", TIDES, remotes=remotes))
        async with at.cleaned(), at.admin() as silent, at.admin(elicitation_callback=person) as one:
            await call(silent, "sync_catalog", source=harbour)
            told = await call(silent, "ensure_tools", task=task, install="allowed")
            assert "io.example/harbour was not installed: it requires X-From" in " ".join(told["notes"])
            answers[:] = [None]
            told = await call(one, "ensure_tools", task=task, install="allowed")
            assert [done["done"] for done in told["done"]] == ["declined"], told
            assert await servers(one) == {"sky"}
            assert list(asked.pop().model_dump(by_alias=True)["requestedSchema"]["properties"]) == ["X-From"]
            # By default a person agrees to the installation too, and is told that it gets that.
            answers[:] = [{"X-From": "somebody"}, {"allow": True}]
            told = await call(one, "ensure_tools", task=task)
            assert [done["done"] for done in told["done"]] == ["installed"], told
            assert answers == []
            assert "with values for X-From" in asked[1].message
            await call(one, "sync_catalog", source=harbour, forget=True)


async def test_a_person_is_asked_about_a_need_that_is_unsure_and_otherwise_it_is_said_what_to_do(
    at: House,
) -> None:
    unsure = "Forecast a chess move"
    person = Person("decline")
    with anyio.fail_after(60):
        async with at.cleaned(), at.admin() as one:
            told = await call(one, "ensure_tools", task="x", needs=[unsure], install="allowed")
            assert told["label"] == "unsure"
            assert told.get("done", []) == []
            assert "nothing was installed for needs that are unsure" in " ".join(told["notes"])
        async with at.admin(elicitation_callback=person) as one:
            told = await call(one, "ensure_tools", task="x", needs=[unsure])
            assert [done["done"] for done in told["done"]] == ["declined"]
    assert "io.example/board" in person.asked[0]


async def test_a_disabled_server_that_serves_is_enabled_instead_of_installing_another(at: House) -> None:
    with anyio.fail_after(60):
        async with at.cleaned(), at.admin() as one:
            [done] = (await call(one, "ensure_tools", task=CHESS, install="allowed"))["done"]
            await call(one, "manage_server", name=done["name"], action="disable")
            told = await call(one, "ensure_tools", task=CHESS, install="never")
            assert told["needs"][0]["servers"][0]["call"] == {
                "tool": "manage_server",
                "arguments": {"name": done["name"], "action": "enable"},
            }
            told = await call(one, "ensure_tools", task=CHESS, install="allowed")
            assert [(one["done"], one["name"]) for one in told["done"]] == [("enabled", done["name"])]
            assert "best_move" in text(await execute(one, f"{done['name']}__best_move", position="x"))
            assert len(await servers(one)) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        {"task": ""},
        {"task": "chess", "max_installs": -1},
        {"task": "chess", "install": "always"},
        {"task": "chess", "settings": "[1]"},
        {},
    ],
)
async def test_wrong_arguments_are_refused(at: House, arguments: dict[str, Any]) -> None:
    async with at.admin() as one:
        assert outcome(await one.call_tool("ensure_tools", arguments)) == "invalid_arguments"


@pytest.mark.index
async def test_a_package_of_the_index_is_fetched_and_its_tool_called(tmp_path: Path) -> None:
    def package(kind: str, name: str, version: str) -> dict[str, Any]:
        return {"packages": [{"registryType": kind, "identifier": name, "version": version}]}

    entries = shelf(
        tmp_path / "entries",
        {
            "name": "io.example/time",
            "version": "1",
            "description": "Current time in a time zone, and conversion of times between time zones",
            **package("pypi", "mcp-server-time", "2025.9.25"),
        },
        {
            "name": "io.example/rocks",
            "version": "1",
            "description": "A collection of minerals",
            **package("npm", "none-such-of-ours", "1.0.0"),
        },
    )
    with anyio.fail_after(180):
        async with connected(tmp_path / "home") as client:
            before = await call(client, "find_tool_gap", task="Convert a time between two time zones")
            assert before["label"] == "gap"
            assert "sync_catalog" in " ".join([before["next"], *before["notes"]])
            await call(client, "sync_catalog", source=entries)
            told = await call(
                client, "ensure_tools", task="Convert a time between two time zones", install="allowed"
            )
            assert [(done["done"], done["server"]) for done in told["done"]] == [
                ("installed", "io.example/time")
            ]
            [tool, *_] = told["needs"][0]["tools"]
            assert tool["name"].endswith("__convert_time")
            arguments: dict[str, Any] = {
                "source_timezone": "UTC",
                "time": "12:00",
                "target_timezone": "Asia/Tokyo",
            }
            assert "21:00" in text(await execute(client, tool["name"], None, **arguments))
