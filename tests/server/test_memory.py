"""The bundled server `memory` behind a real ToolScore, and by itself: each user has its own, wherever it comes in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from fleet import gateways, until
from listening import Raw, raw, serving
from postgres import Postgres
from toolscore.server.backup import back_up
from toolscore.server.home import Home, prepare
from toolscore.server.restore import restore
from toolscore.server.tokens import Tokens
from toolscore.tools.memory.limits import Limits
from toolscore.tools.memory.shelf import Shelf
from toolscore_client import TOOLSCORE, call, connected, execute, outcome, text

SECRET = "the-walnut-of-alice"
CALL = frozenset({"call"})
FAULTY = Path(__file__).parents[1] / "faulty_server.py"
WORDS = ("--set", "memory.semantic=off")
"""Nothing here is about meaning, whose models take seconds to load."""


def told(answer: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = answer["result"]
    assert not result.get("isError"), result
    structured: dict[str, Any] = result["structuredContent"]
    return structured


async def tool(
    client: Raw, name: str, meta: dict[str, Any] | None = None, **arguments: Any
) -> dict[str, Any]:
    asked = {"tool": f"memory__{name}", "arguments": arguments}
    more = {"_meta": meta} if meta else {}
    return await client.request("tools/call", name="execute_tool", arguments=asked, **more)


async def test_two_users_of_one_toolscore_keep_apart_and_nothing_they_said_is_in_its_files(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    prepare(Home.at(home))
    made = Tokens(Home.at(home), CALL)
    tokens = {name: made.create(name, CALL) for name in ("alice", "bob")}
    subprocess.run(
        [TOOLSCORE, "--home", str(home), "install", "builtin:memory"], check=True, capture_output=True
    )
    with serving(home, options=(), memory__semantic="off") as one:
        links = {name: f"{one.url}?token={token}" for name, token in tokens.items()}
        async with raw(links["alice"]) as alice, raw(links["bob"]) as bob:
            messages = [{"role": "user", "content": f"It is {SECRET} 秘密", "id": "1"}]
            saved = told(await tool(alice, "save_conversation", messages=messages, session="s"))
            assert saved["saved"] == ["1"]
            # A client cannot say who it is; neither can it by naming the session.
            forged = {"toolscore/caller": {"principal": "alice", "depth": 0, "tools": None}}
            found = told(await tool(bob, "search_memory", forged, query=SECRET))
            assert found["hits"] == []
            assert told(await tool(bob, "get_context", forged, session="s"))["messages"] == []
            assert told(await tool(bob, "delete_memory", forged, everything=True))["deleted"] == 0
            assert told(await tool(bob, "memory_usage", forged))["user"] == "bob"
            hits = told(await tool(alice, "search_memory", query="秘密"))["hits"]
            assert [hit["id"] for hit in hits] == ["1"]
            # The episode that a client names is the session of those calls that name none.
            episode = {"toolscore/session": "episode-7"}
            assert told(await tool(alice, "get_context", episode))["session"] == "episode-7"
            wrong = await tool(alice, "save_conversation", messages=[{"role": "user"}])
            assert "messages.0.content" in wrong["result"]["content"][0]["text"]
    for path in [*home.rglob("*"), *tmp_path.glob("*.log")]:
        if path.is_file() and not path.name.startswith("memory.db"):
            assert SECRET.encode() not in path.read_bytes(), path


async def test_its_data_is_in_a_backup_of_the_running_home_and_outlives_its_removal(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    async with connected(home, *WORDS) as client:
        assert (await call(client, "list_servers"))["servers"] == []
        added = await call(client, "install_server", source="builtin:memory")
        assert "memory__save_conversation" in added["tools"]
        again = await client.call_tool("install_server", {"source": "builtin:memory"})
        assert outcome(again) == "name_taken"
        assert "there already" in text(again)
        saved = await execute(
            client, "memory__save_conversation", messages=[{"role": "u", "content": "Rust"}]
        )
        assert not saved.is_error, text(saved)
        described = await call(client, "describe_tool", tool="memory__delete_memory")
        assert described["annotations"]["destructiveHint"] is True
        made = back_up(Home.at(home), tmp_path / "b.tar.gz", secrets=False)
        assert "memory.db" in made.files
        await call(client, "uninstall_server", name="memory")
        assert (await call(client, "list_servers"))["servers"] == []
        await call(client, "install_server", source="builtin:memory")
        assert "Rust" in text(await execute(client, "memory__search_memory", query="rust"))
    restore(tmp_path / "b.tar.gz", Home.at(tmp_path / "other"))
    file = Home.at(tmp_path / "other").memory_file
    assert file.stat().st_mode & 0o777 == 0o600
    shelf = Shelf(file, Limits())
    messages, _ = shelf.part("owner", None, 0, 10, 1000)
    shelf.close()
    assert [message.content for message in messages] == ["Rust"]


def parameters(*words: str, home: Path) -> StdioServerParameters:
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    return StdioServerParameters(command=words[0], args=list(words[1:]), env=environment)


async def test_by_itself_it_serves_any_client_with_the_memory_of_one_user(tmp_path: Path) -> None:
    home = tmp_path / "home"
    words = (TOOLSCORE, "memory", "--home", str(home), *WORDS)
    async with Client(stdio_client(parameters(*words, home=tmp_path)), mode="auto") as client:
        tools = (await client.list_tools()).tools
        assert len(tools) == 8
        messages = [{"role": "user", "content": "plain client"}]
        await client.call_tool("save_conversation", {"messages": messages})
        stamp: Any = {"toolscore/caller": {"principal": "somebody-else"}}
        usage = await client.call_tool("memory_usage", {}, meta=stamp)
        assert usage.structured_content is not None
        assert (usage.structured_content["user"], usage.structured_content["messages"]) == ("owner", 1)
        wrong = await client.call_tool("search_memory", {"query": "x", "user": "bob"})
        assert wrong.is_error
        assert "user: Extra inputs" in text(wrong)
    alone = (
        sys.executable,
        "-m",
        "toolscore.tools.memory",
        "--words-only",
        "--file",
        str(home / "memory.db"),
    )
    async with Client(stdio_client(parameters(*alone, home=tmp_path)), mode="legacy") as client:
        assert "plain client" in text(await client.call_tool("get_context", {}))


async def test_behind_toolscore_a_request_without_a_stamp_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "memory.db"
    words = (sys.executable, "-m", "toolscore.tools.memory", "--words-only", "--stamped", "--file", str(file))
    async with Client(stdio_client(parameters(*words, home=tmp_path))) as client:
        refused = await client.call_tool("memory_usage", {})
        assert refused.is_error
        assert "in whose name" in text(refused)


async def test_several_gateways_of_one_database_have_one_memory(tmp_path: Path, postgres: Postgres) -> None:
    url = postgres.database()
    async with gateways(tmp_path, url, "a", "b", arguments=WORDS) as (a, b):
        await call(a, "install_server", source="builtin:memory")
        await execute(a, "memory__save_conversation", messages=[{"role": "u", "content": "所有网关 shared"}])

        async def there() -> str:
            return text(await execute(b, "memory__search_memory", query="网关"))

        await until(there, lambda seen: "shared" in seen)
        usage = (await execute(b, "memory__memory_usage")).structured_content
        assert usage is not None
        assert (usage["database"], usage["messages"]) == ("postgresql", 1)
        rows = json.dumps([str(row) for row in postgres.execute("SELECT installation FROM server", url)])
        assert f":{postgres.port}" not in rows  # the URL is no part of what is kept


async def test_a_server_of_its_name_that_is_not_it_does_not_get_the_url_of_the_database(
    tmp_path: Path, postgres: Postgres
) -> None:
    environment = {**os.environ, "TOOLSCORE_DATABASE_URL": postgres.database(empty=True)}
    reference = "X=${secret:memory/database}"
    words = ["register", "memory", "--env", reference, "--", sys.executable, str(FAULTY)]
    done = subprocess.run(
        [TOOLSCORE, "--home", str(tmp_path), *words],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "The secret memory/database is not in the secrets file" in done.stderr
