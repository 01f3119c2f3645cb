"""Services through ToolScore itself: the example of the documents, from the configuration file to the last volume."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from docker_engine import DockerEngine, eventually, needs_engine
from docker_engine import engine as engine
from docker_services import store as store
from docker_services import taken_away as taken_away
from toolscore_client import TOOLSCORE, call, connected, execute, outcome, text

pytestmark = needs_engine

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "services.md"

SERVER = """
import json, os, sys, urllib.request

def use(arguments):
    url = os.environ["STORE_URL"] + "/" + arguments["key"]
    value = arguments.get("value")
    data = None if value is None else value.encode()
    request = urllib.request.Request(url, data=data, method="GET" if data is None else "PUT")
    return urllib.request.urlopen(request, timeout=10).read().decode()

TOOL = {"name": "use", "description": "Use the store.", "inputSchema": {"type": "object"}}
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    if asked["method"] == "initialize":
        info = {"name": "orders", "version": "1"}
        told = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info}
    elif asked["method"] == "tools/list":
        told = {"tools": [TOOL]}
    elif asked["method"] == "tools/call":
        try:
            said, wrong = use(asked["params"]["arguments"]), False
        except OSError as error:
            said, wrong = str(error), True
        told = {"content": [{"type": "text", "text": said}], "isError": wrong}
    else:
        told = {}
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": told}), flush=True)
"""
"""A server that uses the store where it is told that is."""


def example(folder: Path, engine: DockerEngine, store: str) -> Path:
    """Give the document's own configuration file, with images and programs that are here."""
    [found] = re.findall(r"```toml\n(\[mcpServers\.store\].*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    name = "toolscore-test:orders"
    made = engine.ask("POST", "/containers/create", json.dumps({"Image": store}).encode())["Id"]
    config = {"Entrypoint": ["/usr/local/bin/python3", "-c", SERVER], "Cmd": []}
    engine.ask(
        "POST", f"/commit?container={made}&repo=toolscore-test&tag=orders", json.dumps(config).encode()
    )
    engine.ask("DELETE", f"/containers/{made}")
    (folder / "report.py").write_text(SERVER)
    for before, after in (
        ("example/store:1", store),
        ("example/orders:1", name),
        ('"python3"', json.dumps(sys.executable)),
        ("/opt/report.py", str(folder / "report.py")),
    ):
        assert before in found
        found = found.replace(before, after)
    config_file = folder / "config.toml"
    config_file.write_text(f'[docker]\nhost = "{engine.host}"\n{found}')
    return config_file


async def use(client: Any, tool: str, **arguments: Any) -> str:
    """Call a tool once its server is there."""
    async with asyncio.timeout(120):
        while True:
            result = await execute(client, tool, **arguments)
            if outcome(result) not in ("installing", "unknown_tool", "failed_to_start", "unavailable"):
                assert not result.is_error, text(result)
                return text(result)
            await asyncio.sleep(0.1)


async def test_the_example_of_the_documents_is_a_group_that_stands_on_its_service(
    tmp_path: Path, engine: DockerEngine, store: str, taken_away: None
) -> None:
    config = example(tmp_path, engine, store)
    async with connected(tmp_path / "home", "--config", str(config)) as client:
        assert await use(client, "orders__use", key="one", value="by name") == ""
        assert await use(client, "report__use", key="one") == "by name"
        servers = {one["name"]: one for one in (await call(client, "list_servers"))["servers"]}
        assert servers["store"]["kind"] == "service"
        assert servers["orders"]["kind"] == "docker"
        assert servers["store"]["tools"] == 0
        tools = (await call(client, "list_tools"))["tools"]
        assert {one["name"].partition("__")[0] for one in tools} & {"store", "orders", "report"} == {
            "orders",
            "report",
        }
        state = await call(client, "server_state", name="store")
        assert "probe (http :8080/health) succeeded" in state["doing"]
        assert state["memory"] > 1 << 20
        assert state["protocol"] is None
        assert {one["name"] for one in state["dependents"]} == {"orders", "report"}
        refused = await client.call_tool("manage_server", {"name": "store", "action": "stop"})
        assert refused.is_error
        assert "needs 'store'" in text(refused)
        stopped = await call(client, "manage_server", name="@shop", action="stop")
        assert stopped["state"] == "STOPPED"
        assert await asyncio.to_thread(engine.containers) == []
        # What is called brings up what it needs.
        assert await use(client, "report__use", key="one") == "by name"
        assert len(await asyncio.to_thread(engine.containers)) == 1
        started = await call(client, "manage_server", name="@shop", action="start")
        assert started["state"] == "READY"
        # What is not declared any more goes; its data does not.
        config.write_text(f'[docker]\nhost = "{engine.host}"\n')
        await eventually(lambda: not engine.containers(), "all are removed")
    assert [one["Name"] for one in engine.ask("GET", "/networks") if one["Name"].endswith("-shop")] == []
    [volume] = [one for one in engine.ask("GET", "/volumes")["Volumes"] if one["Name"].endswith("-shop-data")]
    assert volume["Labels"]["org.toolscore.server"] == "store"


async def test_a_service_is_installed_upgraded_and_uninstalled_with_its_volume_if_asked(
    tmp_path: Path, engine: DockerEngine, store: str, taken_away: None
) -> None:
    def volumes() -> list[str]:
        found = engine.ask("GET", "/volumes")["Volumes"] or ()
        return [one["Name"] for one in found if one["Name"].endswith("-things")]

    async with connected(tmp_path / "home", env={"DOCKER_HOST": engine.host}) as client:
        asked = {"service": {"tcp": 8080}, "network": "@stack", "volumes": ["@things:/data:rw"]}
        broken = await client.call_tool(
            "install_server",
            {
                "source": f"docker:{store}",
                "name": "db",
                "args": ["-c", "raise SystemExit(3)"],
                "container": asked,
            },
        )
        assert broken.is_error
        assert "nothing of it was kept" in text(broken)
        assert volumes() == []  # nor what it made
        added = await call(client, "install_server", source=f"docker:{store}", name="db", container=asked)
        assert added["total"] == 0
        assert added["notes"] == []
        upgraded = await call(client, "upgrade_server", name="db")
        assert upgraded["done"]
        async with asyncio.timeout(60):
            while (await call(client, "server_state", name="db"))["state"] != "READY":
                await asyncio.sleep(0.05)
        [_one] = engine.containers()
        removed = await call(client, "uninstall_server", name="db")
        assert "volume @things is kept" in removed["notes"][0]
        assert len(volumes()) == 1
        await call(client, "install_server", source=f"docker:{store}", name="db", container=asked)
        await call(client, "install_server", source=f"docker:{store}", name="other", container=asked)
        kept = await call(client, "uninstall_server", name="db", volumes=True)
        assert kept["notes"] == ["volume @things is kept, as another server uses it"]
        gone = await call(client, "uninstall_server", name="other", volumes=True)
        assert gone["notes"] == ["volume @things was deleted"]
        assert volumes() == []


async def test_a_service_is_installed_and_taken_away_from_a_shell(
    tmp_path: Path, engine: DockerEngine, store: str, taken_away: None
) -> None:
    def toolscore(*words: str) -> str:
        done = subprocess.run(
            [TOOLSCORE, *words, "--home", str(tmp_path / "home")],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "DOCKER_HOST": engine.host},
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    said = await asyncio.to_thread(
        toolscore,
        *("install", f"docker:{store}", "--name", "db", "--service", "http:8080/health"),
        *(
            "--network",
            "@stack",
            "--alias",
            "store",
            "--volume",
            "@things:/data:rw",
            "--publish",
            "${PORT}:8080",
        ),
    )
    assert "installed db" in said
    assert "volume @things was deleted" in await asyncio.to_thread(toolscore, "uninstall", "db", "--volumes")
