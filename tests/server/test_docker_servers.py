"""Servers in containers, from end to end: installed, called, locked and removed through ToolScore itself."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from docker_engine import ENTRY, IMAGE, DockerEngine, eventually, needs_engine
from docker_engine import engine as engine
from toolscore_client import BARE, TOOLSCORE, call, connected, execute, text

pytestmark = needs_engine


async def test_an_image_is_installed_called_told_of_and_removed(tmp_path: Path, engine: DockerEngine) -> None:
    async with connected(tmp_path / "home", env={"DOCKER_HOST": engine.host}) as client:
        added = await call(
            client,
            "install_server",
            source=f"docker:{IMAGE}",
            name="boxed",
            env={"TOKEN": "a-very-secret-token"},
            container={"memory": "128m", "pids": 64},
        )
        assert added["kind"] == "docker"
        assert added["version"] == "py"
        assert "from inside" in text(await execute(client, "boxed__echo", text="from inside"))
        state = await call(client, "server_state", name="boxed")
        assert state["memory"] > 1 << 20
        assert state["processes"] >= 2
        assert state["files"] is None  # which the engine does not tell
        assert state["confined"]["network"] == "active: none"
        listed = await call(client, "list_servers")
        [server] = [one for one in listed["servers"] if one["name"] == "boxed"]
        assert "container" in server["confined"]
        [container] = engine.containers()
        told = engine.ask("GET", f"/containers/{container['Id']}/json")
        assert told["HostConfig"]["Memory"] == 128 << 20
        assert "a-very-secret-token" not in (tmp_path / "home" / "toolscore.db").read_bytes().decode(
            "latin-1"
        )
        await call(client, "manage_server", name="boxed", action="restart")
        assert "again" in text(await execute(client, "boxed__echo", text="again"))
        await call(client, "uninstall_server", name="boxed")
        assert engine.containers() == []
        assert not (tmp_path / "home" / "servers" / "boxed").exists()


async def test_a_server_in_a_container_comes_back_with_toolscore(
    tmp_path: Path, engine: DockerEngine
) -> None:
    home, env = tmp_path / "home", {"DOCKER_HOST": engine.host}
    async with connected(home, env=env) as client:
        await call(client, "install_server", source=f"docker:{IMAGE}", name="boxed")
    # A client does not wait for the end of what it has started for as long as that may take.
    await eventually(lambda: not engine.containers(), "there is none any more")
    async with connected(home, env=env) as client:
        assert "back" in text(await execute(client, "boxed__echo", text="back"))


async def test_the_containers_of_a_toolscore_that_is_killed_end_without_another_start(
    tmp_path: Path, engine: DockerEngine
) -> None:
    arguments = ["serve", "--listen", "ws://127.0.0.1:0", "--home", str(tmp_path / "home"), "--no-token"]
    config = tmp_path / "config.toml"
    config.write_text(f'[mcpServers.boxed]\nsource = "docker:{IMAGE}"\n')
    process = await asyncio.create_subprocess_exec(
        TOOLSCORE,
        *arguments,
        "--config",
        str(config),
        env={**os.environ, **BARE, "DOCKER_HOST": engine.host},
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await eventually(
            lambda: any(one["State"] == "running" for one in engine.containers()), "its server runs"
        )
    finally:
        process.kill()
        await process.wait()
    await eventually(
        lambda: not any(one["State"] == "running" for one in engine.containers()), "nothing runs any more"
    )


async def test_the_file_declares_a_container_with_its_options(tmp_path: Path, engine: DockerEngine) -> None:
    (tmp_path / "shared").mkdir()
    config = tmp_path / "config.toml"
    config.write_text(
        f'[docker]\nhost = "{engine.host}"\n[mcpServers.boxed]\nsource = "docker:{IMAGE}"\n'
        'container = { volumes = ["./shared:/data"], memory = 100, cpus = 0.5 }\n'
    )
    async with connected(tmp_path / "home", "--config", str(config)) as client:
        async with asyncio.timeout(120):
            # Until the file's servers are there, the tool is not known, or said to be on its way.
            while "declared" not in text(await execute(client, "boxed__echo", text="declared")):
                await asyncio.sleep(0.05)
        [container] = engine.containers()
        told = engine.ask("GET", f"/containers/{container['Id']}/json")
        assert told["Mounts"][0]["Source"] == str(tmp_path / "shared")
        assert told["HostConfig"]["Memory"] == 100 << 20


async def test_what_is_wrong_with_a_declared_container_is_told_with_its_place(tmp_path: Path) -> None:
    from toolscore.tools.declared import read

    found = read(
        {
            "a": {"source": "docker:some/image", "container": {"volumes": ["/var/run/docker.sock:/s"]}},
            "b": {"source": "pypi:thing", "container": {}},
            "c": {"source": "docker:some/image", "container": {"privileged": True}},
            "d": {
                "source": "docker:some/image",
                "url": "http://127.0.0.1:${PORT}/",
                "container": {"network": "n"},
            },
        },
        tmp_path / "config.toml",
    )
    assert list(found.servers) == ["d"]
    said = "\n".join(found.problems)
    assert "would give the container the engine" in said
    assert "only goes with an image" in said
    assert "privileged" in said


async def test_a_locked_image_is_verified_and_another_one_is_an_upgrade(
    tmp_path: Path, engine: DockerEngine
) -> None:
    name = "toolscore-moving:1"
    first = engine.add_image(name, (ENTRY,))
    async with connected(tmp_path / "home", env={"DOCKER_HOST": engine.host}) as client:
        await call(client, "install_server", source=f"docker:{name}", name="boxed")
        second = engine.add_image(name, (ENTRY, "ENV NEWER=yes"))
        assert second != first
        # The tag has moved on; what runs is what was installed.
        await call(client, "manage_server", name="boxed", action="restart")
        assert engine.containers()[0]["ImageID"] == first
        upgraded = await call(client, "upgrade_server", name="boxed")
        assert upgraded["done"]
        assert "newer" in text(await execute(client, "boxed__echo", text="newer"))
        assert {one["ImageID"] for one in engine.containers()} == {second}
        back = await call(client, "upgrade_server", name="boxed", rollback=True)
        assert back["done"]
        assert "older" in text(await execute(client, "boxed__echo", text="older"))
        assert {one["ImageID"] for one in engine.containers()} == {first}


@pytest.mark.parametrize("source", ["docker:", "docker:UPPER", "docker://image", "docker:a b", "docker:-x"])
def test_what_is_no_image_is_refused(source: str) -> None:
    from toolscore.runners.errors import SourceError
    from toolscore.runners.installers.source import parse

    with pytest.raises(SourceError):
        parse(source)


def test_images_are_named_as_registries_name_them() -> None:
    from toolscore.runners.installers.name import suggest_name
    from toolscore.runners.installers.source import identity, parse

    digest = "sha256:" + "a" * 64
    for source, name, short in (
        ("docker:fetch", "fetch:latest", "fetch"),
        ("docker:mcp/time:1.2", "mcp/time:1.2", "time"),
        ("docker:localhost:5000/a/mcp-server-git", "localhost:5000/a/mcp-server-git:latest", "git"),
        (f"docker:ghcr.io/who/weather@{digest}", f"ghcr.io/who/weather@{digest}", "weather"),
    ):
        found = parse(source)
        assert found.name == name
        assert suggest_name(found) == short
        assert identity(found.kind, source) == identity(found.kind, source.partition("@")[0])
    assert json.dumps(identity(parse("docker:a/b").kind, "docker:a/b:1")) != json.dumps(
        identity(parse("docker:a/c").kind, "docker:a/c:1")
    )


async def test_an_image_of_the_catalog_is_installed_with_what_its_entry_asks_for(
    tmp_path: Path, engine: DockerEngine
) -> None:
    shared, entries = tmp_path / "shared", tmp_path / "entries"
    for folder in (shared, entries):
        folder.mkdir()
    package = {
        "registryType": "oci",
        "identifier": IMAGE,
        "transport": {"type": "stdio"},
        "runtimeArguments": [
            {
                "type": "named",
                "name": "--mount",
                "value": "type=bind,src={folder},dst=/data",
                "variables": {"folder": {"isRequired": True, "format": "filepath"}},
            },
            {
                "type": "named",
                "name": "-e",
                "value": "TOKEN={token}",
                "variables": {"token": {"isSecret": True}},
            },
        ],
    }
    entry = {"name": "io.x/boxed", "version": "1.0.0", "description": "It.", "packages": [package]}
    (entries / "boxed.json").write_text(json.dumps(entry))
    async with connected(tmp_path / "home", env={"DOCKER_HOST": engine.host}) as client:
        await execute(client, "toolscore__sync_catalog", source=str(entries))
        added = await call(
            client,
            "install_server",
            source="registry:io.x/boxed",
            name="boxed",
            settings={"folder": str(shared), "token": "a-token-nobody-sees"},
            container={"pids": 99},
        )
        assert added["kind"] == "docker"
        [container] = engine.containers()
        told = engine.ask("GET", f"/containers/{container['Id']}/json")
        assert [(one["Source"], one["RW"]) for one in told["Mounts"]] == [(str(shared), True)]
        assert told["HostConfig"]["PidsLimit"] == 99
        assert "TOKEN=a-token-nobody-sees" in told["Config"]["Env"]
        assert "through" in text(await execute(client, "boxed__echo", text="through"))
