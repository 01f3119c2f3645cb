"""Secrets in a whole ToolScore: a server gets its own and nothing else, and nobody is told them again."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.stdio import stdio_client
from mcp_types import ElicitRequestParams, ElicitResult, LoggingMessageNotificationParams
from pydantic import AnyUrl
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from cli_shell import Shell, shell_in
from listening import serving
from sharing import until
from toolscore_client import call, connected, execute, outcome, parameters, text

TELLING = str(Path(__file__).parent.parent / "telling_server.py")
KEY = 's3cret/named+"one"'
OTHER = "0therS3cretLiteral"
PHRASE = "the passphrase of this home"
CLIENTS = "t0ken-of-the-client"


def server(*, above: int = 1) -> dict[str, Any]:
    return {"command": sys.executable, "args": ["-S", TELLING], "env": {"ABOVE": str(above)}}


@asynccontextmanager
async def house(folder: Path, told: list[str]) -> AsyncIterator[Client]:
    """A ToolScore whose secrets are sealed, with two servers that were given some."""
    shell = shell_in(folder)
    assert shell("secret", "set", "API_KEY", "--keep", "file", stdin=KEY + "\n").returncode == 0
    shell.environ["TOOLSCORE_PASSPHRASE"] = PHRASE
    assert shell("secret", "seal").returncode == 0

    async def logged(params: LoggingMessageNotificationParams) -> None:
        told.append(json.dumps(params.data))

    environ = {"TOOLSCORE_PASSPHRASE": PHRASE, "SOME_TOKEN": CLIENTS, "TOOLSCORE_LOG_LEVEL": "debug"}
    with (folder / "stderr.log").open("a") as log:
        transport = stdio_client(parameters(shell.home, env=environ), errlog=log)
        async with Client(transport, mode="legacy", logging_callback=logged) as client:
            env = {**server(above=4)["env"], "KEY": "${API_KEY}"}
            await call(client, "register_tool", name="one", **{**server(), "env": env})
            env = {**server()["env"], "KEY": OTHER, "LOG_DIR": "/var/log/somewhere"}
            await call(client, "register_tool", name="two", **{**server(), "env": env})
            yield client


async def holders(client: Client, name: str, word: str) -> Any:
    """Where a server can read a word; it is not sent as it is, or it would hold it for that."""
    return json.loads(text(await execute(client, f"{name}__holders", word=word.encode().hex())))


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_a_server_is_given_what_its_spec_names_and_repeats_it_to_nobody(tmp_path: Path) -> None:
    told: list[str] = []
    async with house(tmp_path, told) as client:
        # What it has, by its own account.
        assert await holders(client, "one", KEY) == ["environ", "self"]
        assert await holders(client, "two", OTHER) == ["environ", "self"]
        for word in (OTHER, PHRASE):  # nor the guardian nor ToolScore, whose environments it can read
            assert await holders(client, "one", word) == []
        for word in (KEY, PHRASE, CLIENTS):
            assert await holders(client, "two", word) == []
        names = json.loads(text(await execute(client, "two__names")))
        assert not [name for name in names if "PASSPHRASE" in name or name == "SOME_TOKEN"]

        # What it says.
        said: list[str] = []
        for name in ("one", "two"):
            forms = await execute(client, f"{name}__forms")
            assert forms.structured_content is not None
            assert forms.structured_content["deep"] == [{"***": {"value": "***"}}]
            said.append(forms.model_dump_json())
            failed = await execute(client, f"{name}__fail")
            assert failed.is_error
            assert "bad key ***" in text(failed)
            said.append(failed.model_dump_json())

            async def progressed(progress: float, total: float | None, message: str | None) -> None:
                told.append(message or "")

            passed = {"tool": f"{name}__progress", "arguments": {}}
            said.append(
                (
                    await client.call_tool("execute_tool", passed, progress_callback=progressed)
                ).model_dump_json()
            )
            described = await call(client, "describe_tool", tool=f"{name}__echo")
            assert described["description"] == "Knows ***."
            said.append(json.dumps(described))
            said += [
                json.dumps(await call(client, tool, name=name)) for tool in ("server_state", "server_logs")
            ]
        resources = (await client.list_resources()).resources
        keys = [one.uri for one in resources if one.description == "***"]
        assert len(keys) == 2
        for uri in keys:
            said.append((await client.read_resource(str(uri))).model_dump_json())
        logs = await client.read_resource(str(AnyUrl("toolscore://logs/one")))
        assert "stderr says ***" in logs.model_dump_json()
        said += [logs.model_dump_json(), json.dumps(await call(client, "list_servers"))]
        said.append((await client.call_tool("one__fail", {})).model_dump_json())
        assert {"using ***", '{"key": "***"}'} <= set(told)

        # A value that is no secret by its name or looks is left alone.
        assert text(await execute(client, "two__echo", text="/var/log/somewhere")) == "/var/log/somewhere"
        everything = "\n".join((*said, *told))
        for word in (KEY, json.dumps(KEY)[1:-1], OTHER):
            assert word not in everything
    for file in tmp_path.rglob("*"):
        if file.is_file() and file.name != "server.py":
            content = file.read_bytes()
            for word in (KEY, json.dumps(KEY)[1:-1], OTHER, PHRASE):
                assert word.encode() not in content, file


async def test_no_spec_can_ask_for_the_passphrase(tmp_path: Path) -> None:
    async with connected(tmp_path / "home", env={"TOOLSCORE_PASSPHRASE": PHRASE}) as client:
        for name in ("TOOLSCORE_PASSPHRASE", "env:TOOLSCORE_PASSPHRASE", "TOOLSCORE_PASSPHRASE_FILE"):
            given = {**server(), "name": "thief", "env": {"KEY": f"${{{name}}}"}}
            refused = await client.call_tool("register_tool", given)
            assert refused.is_error
            assert "is not set" in text(refused)
            assert PHRASE not in refused.model_dump_json()


def test_a_secret_that_no_server_was_given_yet_is_not_in_the_journal(tmp_path: Path) -> None:
    shell = shell_in(tmp_path)
    assert shell("register", "small", "--", sys.executable, str(tmp_path / "server.py")).returncode == 0
    assert shell("secret", "set", "API_KEY", "--keep", "file", stdin=KEY + "\n").returncode == 0
    given = json.dumps({"text": f"it is {KEY}"})
    echoed = shell("call", "small__echo", given)
    assert KEY in json.loads(echoed.stdout)["text"], "it is no secret of this server's"
    [record] = [
        json.loads(line) for line in shell("journal", "export", "--tool", "small__*").stdout.splitlines()
    ]
    assert record["arguments"] == {"text": "it is ***"}
    for file in (shell.home / "journal").iterdir():
        assert json.dumps(KEY)[1:-1] not in file.read_text()


def test_a_missing_secret_keeps_one_server_down_until_it_is_set(tmp_path: Path) -> None:
    shell = shell_in(tmp_path)
    (shell.home).mkdir(mode=0o700)
    declared = "\n".join(
        f'[mcpServers.{name}]\ncommand = "{sys.executable}"\nargs = ["-S", "{TELLING}"]\nenv = {{ KEY = "{key}" }}'
        for name, key in (("wants", "${input:the-key}"), ("has", "${UNSET:-nothing}"))
    )
    (shell.home / "config.toml").write_text(declared)
    started = shell("start")
    assert started.returncode == 0, started.stderr
    try:
        until(lambda: {one["name"] for one in shell.document("list")["servers"]} == {"wants", "has"})
        failed = shell("manage", "wants", "start")
        assert failed.returncode == 1
        assert "toolscore secret set the-key" in failed.stderr
        assert shell("call", "has__names").returncode == 0
        done = shell("secret", "set", "the-key", "--keep", "file", "--json", stdin="found-after-all")
        assert json.loads(done.stdout) == {
            "name": "the-key",
            "kept": "file",
            "servers": ["wants"],
            "started": ["wants"],
        }
        word = b"found-after-all".hex()
        assert json.loads(shell("call", "wants__holders", json.dumps({"word": word})).stdout) == [
            "environ",
            "self",
        ]
        assert shell.document("secret", "list") == {
            "secrets": [{"name": "the-key", "kept": "file", "servers": ["wants"]}]
        }
        # Once it is gone, the server runs on; its next start is refused with the same words.
        assert "wants" in shell("secret", "delete", "the-key").stderr
        assert "toolscore secret set the-key" in shell("manage", "wants", "restart").stderr
        assert shell("call", "has__names").returncode == 0
    finally:
        assert shell("stop").returncode == 0


def test_removing_a_server_takes_its_own_values_and_leaves_named_secrets(tmp_path: Path) -> None:
    shell = shell_in(tmp_path)
    assert shell("secret", "set", "API_KEY", "--keep", "file", stdin=KEY).returncode == 0
    words = ["--env", f"KEY={OTHER}", "--env", "MORE=${API_KEY}", "--", sys.executable, "-S", TELLING]
    assert shell("register", "one", *words).returncode == 0
    kept = json.loads((shell.home / "secrets.json").read_text())
    assert kept == {"@named/API_KEY": KEY, "one/env/KEY": OTHER}
    backup = tmp_path / "it.tar.gz"
    assert shell("backup", str(backup)).returncode == 0
    assert shell("uninstall", "one").returncode == 0
    assert json.loads((shell.home / "secrets.json").read_text()) == {"@named/API_KEY": KEY}
    elsewhere = Shell(tmp_path / "elsewhere", tmp_path)
    assert elsewhere("restore", str(backup)).returncode == 0
    assert json.loads((elsewhere.home / "secrets.json").read_text()) == kept
    assert elsewhere.document("secret", "list")["secrets"][0]["servers"] == ["one"]
    without = tmp_path / "without.tar.gz"
    done = shell("backup", str(without), "--no-secrets")
    assert "API_KEY" in done.stderr
    assert KEY not in done.stderr


def test_a_sealed_home_is_backed_up_sealed_and_opens_with_the_same_passphrase(tmp_path: Path) -> None:
    shell = shell_in(tmp_path)
    assert shell("list").returncode == 0
    assert shell("secret", "set", "API_KEY", "--keep", "file", stdin=KEY).returncode == 0
    sealed = Shell(shell.home, tmp_path)
    sealed.environ["TOOLSCORE_PASSPHRASE"] = PHRASE
    assert sealed("secret", "seal").returncode == 0
    assert shell("backup", str(tmp_path / "it.tar.gz")).returncode == 0  # which takes no passphrase
    elsewhere = Shell(tmp_path / "elsewhere", tmp_path)
    assert elsewhere("restore", str(tmp_path / "it.tar.gz")).returncode == 0
    refused = elsewhere("secret", "list")
    assert refused.returncode == 1
    assert "TOOLSCORE_PASSPHRASE_FILE" in refused.stderr
    elsewhere.environ["TOOLSCORE_PASSPHRASE"] = "another one"
    assert "not the one" in elsewhere("secret", "list").stderr
    elsewhere.environ["TOOLSCORE_PASSPHRASE"] = PHRASE
    assert elsewhere.document("secret", "list")["secrets"] == [
        {"name": "API_KEY", "kept": "sealed file", "servers": []}
    ]
    for words in (("serve", "--standalone"), ("start",)):  # neither comes up half
        done = shell(*words)
        assert (done.returncode, done.stderr.count("sealed, and there is no passphrase")) == (3, 1)


async def test_a_token_in_a_query_string_reaches_no_log(tmp_path: Path) -> None:
    listen = ("ws://127.0.0.1:0/mcp", "http://127.0.0.1:0/mcp")
    # It exists already, as the first start shows it.
    assert Shell(tmp_path / "home", tmp_path)("token", "show").returncode == 0
    with serving(tmp_path / "home", *listen, options=(), log__level="debug") as served:
        wrong = "wr0ng-guess-at-a-token"
        first = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        for token, right in ((served.token, True), (wrong, False)):
            for spelled in ("token", "access_token"):
                address = f"{served.urls[0]}?{spelled}={token}"
                if right:
                    async with connect(address, subprotocols=[Subprotocol("mcp")]) as line:
                        await line.send(json.dumps(first))
                        await line.recv()
                else:
                    with pytest.raises(InvalidStatus) as refused:
                        await connect(address, subprotocols=[Subprotocol("mcp")])
                    assert token not in str(refused.value.response)
                async with httpx2.AsyncClient(timeout=30) as http:
                    answer = await http.post(f"{served.urls[1]}?{spelled}={token}", json=first)
                    assert (answer.status_code == 401) is not right
                    assert token not in answer.text
                    assert token not in (await http.get(served.page(f"/metrics?{spelled}={token}"))).text
        async with httpx2.AsyncClient(timeout=30) as http:
            await http.get(f"{served.urls[1]}/%zz/../x?token={served.token}")
        written = served.log.read_text()
        token = served.token
    logs = list((tmp_path / "home" / "logs").iterdir())
    assert "DEBUG" in written  # or this would show nothing
    for file in (served.log, *logs):
        content = file.read_text()
        assert token not in content, file
        assert wrong not in content, file


BUNDLE = {
    "name": "bundle",
    "version": "1.0.0",
    "server": {
        "type": "binary",
        "entry_point": "run.sh",
        "mcp_config": {"command": "${__dirname}/run.sh", "args": ["${user_config.place}"], "env": {}},
    },
}


def bundle(folder: Path, **options: Any) -> str:
    manifest = {**BUNDLE, "user_config": options}
    if "api_key" in options:
        manifest["server"]["mcp_config"]["env"] = {"KEY": "${user_config.api_key}"}  # type: ignore[index]
    with zipfile.ZipFile(folder / "it.mcpb", "w") as file:
        file.writestr("manifest.json", json.dumps(manifest))
        file.writestr("run.sh", f'#!/bin/sh\nexec {sys.executable} -S {TELLING} "$@"\n')
    return str(folder / "it.mcpb")


PLACE = {"type": "string", "title": "Which place", "description": "A place.", "required": True}
SECRET = {"type": "string", "title": "The key", "required": True, "sensitive": True}


async def test_a_plain_setting_is_asked_for_by_a_form_and_a_secret_never_is(tmp_path: Path) -> None:
    asked: list[ElicitRequestParams] = []
    answers: list[ElicitResult] = []

    async def person(context: Any, params: ElicitRequestParams) -> ElicitResult:
        asked.append(params)
        return answers.pop()

    home = tmp_path / "home"
    with (tmp_path / "stderr.log").open("a") as log:
        transport = stdio_client(parameters(home), errlog=log)
        async with Client(transport, mode="legacy", elicitation_callback=person) as client:

            async def install(source: str, **more: Any) -> Any:
                return await client.call_tool("install_server", {"source": source, "name": "it", **more})

            # Nobody answers: nothing of it is there.
            source = bundle(tmp_path, place=PLACE)
            answers.append(ElicitResult(action="decline"))
            refused = await install(source)
            assert outcome(refused) == "refused"
            assert list((home / "servers").iterdir()) == []
            form = asked.pop().model_dump(by_alias=True)
            assert list(form["requestedSchema"]["properties"]) == ["place"]
            assert "place" in form["message"]

            answers.append(ElicitResult(action="accept", content={"place": "somewhere"}))
            done = await install(source)
            assert not done.is_error, text(done)
            await call(client, "uninstall_server", name="it")
            asked.clear()

            # A secret is not asked for that way, nor what sounds like one; the refusal has the command.
            source = bundle(tmp_path, place=PLACE, api_key=SECRET)
            refused = await install(source)
            assert outcome(refused) == "install_failed"
            assert "`toolscore secret set api_key`" in text(refused)
            assert "place" in text(refused)
            assert not asked
            assert list((home / "servers").iterdir()) == []
            shell = Shell(home, tmp_path)
            assert shell("secret", "set", "api_key", "--keep", "file", stdin=KEY).returncode == 0
            settings = {"api_key": "${api_key}"}
            answers.append(ElicitResult(action="accept", content={"place": "somewhere"}))
            done = await install(source, settings=settings)
            assert not done.is_error, text(done)
            assert await holders(client, "it", KEY) == ["environ", "self"]
            stored = (home / "secrets.json").read_text()
            assert stored.count(json.dumps(KEY)) == 1  # the named one: the server has a reference


async def test_without_anybody_to_ask_each_missing_setting_is_named(tmp_path: Path) -> None:
    async with connected(tmp_path / "home") as client:
        source = bundle(tmp_path, place=PLACE, api_key=SECRET)
        refused = await client.call_tool("install_server", {"source": source})
        missing = (refused.meta or {})["toolscore/missing"]
        assert [(one["name"], one["secret"]) for one in missing] == [("place", False), ("api_key", True)]
        assert (await call(client, "list_servers"))["servers"] == []


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_a_person_at_a_terminal_is_asked_and_what_is_secret_is_not_shown(tmp_path: Path) -> None:
    shell = shell_in(tmp_path)
    shown = typed(shell, ["secret", "set", "API_KEY", "--keep", "file"], ("Value of API_KEY", KEY))
    assert KEY not in shown
    assert json.loads((shell.home / "secrets.json").read_text()) == {"@named/API_KEY": KEY}
    source = bundle(tmp_path, place=PLACE, api_key=SECRET)
    answers = (("place (Which place)", "here"), ("api_key (The key)", OTHER))
    shown = typed(shell, ["install", source, "--name", "it"], *answers)
    assert "installed it" in shown
    assert OTHER not in shown
    assert "here" in shown
    assert OTHER in (shell.home / "secrets.json").read_text()
    phrase = (("New passphrase", PHRASE), ("The same again", PHRASE))
    assert PHRASE not in typed(shell, ["secret", "seal"], *phrase)
    assert "API_KEY" in typed(shell, ["secret", "list"], ("Passphrase of", PHRASE))


def typed(shell: Shell, words: list[str], *answers: tuple[str, str]) -> str:
    """Type a command on a terminal, and each answer once it is asked for; give all that is shown there."""
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "toolscore", *words]
    process = subprocess.Popen(
        command,
        env=shell.environ,
        cwd=shell.cwd,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown, left = "", list(answers)
    try:
        while True:
            readable, _, _ = select.select([ours], [], [], 60)
            assert readable, shown
            try:
                chunk = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            if not chunk:
                break
            shown += chunk.decode("utf-8", "replace")
            if left and left[0][0] in shown:
                os.write(ours, f"{left.pop(0)[1]}\n".encode())
        assert process.wait(60) == 0, shown
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert not left, shown
    return shown
