"""Servers over HTTP that want OAuth: a real authorization server, a real resource, and nobody at the screen."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mcp.shared.auth import AuthorizationCodeResult

from helpers import installation, runner_at, supervising
from oauth_endpoint import Guarded, browse, guarded_server
from toolscore.runners.authorization import applies, machine_for, obtain, person_for, provider_for, target
from toolscore.runners.errors import AuthorizationNeededError, StartError
from toolscore.runners.lifecycle import RestartPolicy, State
from toolscore.runners.spec import ServerSpec
from toolscore.runners.supervisor import Unit
from toolscore.server.cli.callback import Callback

NEEDED = "server 'guarded' needs authorization: run `toolscore authorize guarded`."


class Vault:
    """Keeps JSON in memory, as text, so that nothing but JSON survives."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def load(self, server: str) -> dict[str, Any] | None:
        value: dict[str, Any] | None = json.loads(self.texts.get(server, "null"))
        return value

    def save(self, server: str, value: Mapping[str, Any]) -> None:
        self.texts[server] = json.dumps(value)

    def change(self, **values: Any) -> None:
        self.save("guarded", {**(self.load("guarded") or {}), **values})


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    with guarded_server() as server:
        yield server


@pytest.fixture
def vault() -> Vault:
    return Vault()


async def authorize(guarded: Guarded, vault: Vault, url: str = "") -> None:
    """What the command does, with a browser that clicks at once."""
    url = url or guarded.url
    async with Callback.listening() as callback:

        async def redirect(address: str) -> None:
            callback.expect(address)
            assert (await asyncio.to_thread(browse, address)).status_code == 200

        async def came() -> AuthorizationCodeResult:
            return AuthorizationCodeResult.model_validate(await callback.came())

        provider = person_for(
            "guarded",
            url,
            vault,
            headers={},
            redirect_uri=callback.uri,
            redirect=redirect,
            callback=came,
        )
        await obtain("guarded", url, {}, provider)


async def add(unit: Unit) -> str:
    session = await unit.ready()
    result = await session.request("tools/call", {"name": "add", "arguments": {"a": 2, "b": 3}}, timeout=20)
    return str(result["content"][0]["text"])


async def settled(folder: Path, guarded: Guarded, vault: Vault, url: str = "") -> tuple[State, str | None]:
    """Start it once, as after a restart of ToolScore, and say what became of it."""
    async with supervising(folder, runner_at(folder, vault=vault)) as supervisor:
        unit = supervisor.add(installation(ServerSpec(url=url or guarded.url), "guarded"))
        unit.start()
        if await unit.settled() is State.READY:
            assert await add(unit) == "5"
        return unit.life.state, unit.life.reason


@pytest.mark.parametrize("path", ["url", "sse"])
async def test_without_tokens_a_server_fails_at_once_and_names_the_command(
    tmp_path: Path, guarded: Guarded, vault: Vault, path: str
) -> None:
    url = getattr(guarded, path)
    assert await settled(tmp_path, guarded, vault, url) == (State.FAILED, NEEDED)
    # Nothing was begun at the authorization server, and the command knows where to go.
    assert guarded.control()["registered"] == 0
    assert target(vault.load("guarded")) == (url, {})


@pytest.mark.parametrize("path", ["url", "sse"])
async def test_what_a_person_authorized_once_works_from_then_on(
    tmp_path: Path, guarded: Guarded, vault: Vault, path: str
) -> None:
    url = getattr(guarded, path)
    await authorize(guarded, vault, url)
    for _ in range(2):
        assert await settled(tmp_path, guarded, vault, url) == (State.READY, None)
    done = guarded.control()
    assert (done["registered"], done["authorized"], done["refreshed"]) == (1, 1, 0)


@pytest.mark.parametrize("path", ["url", "sse"])
async def test_an_access_token_that_expired_while_toolscore_was_down_is_refreshed_before_it_is_used(
    tmp_path: Path, guarded: Guarded, vault: Vault, path: str
) -> None:
    url = getattr(guarded, path)
    guarded.control(expires_in=0)
    await authorize(guarded, vault, url)
    before = vault.load("guarded")
    assert before is not None
    assert before["expires_at"] <= time.time()
    refused = guarded.control(expire=True, expires_in=3600)["refused"]
    assert await settled(tmp_path, guarded, vault, url) == (State.READY, None)
    done = guarded.control()
    assert (done["refreshed"], done["authorized"], done["refused"]) == (1, 1, refused)
    after = vault.load("guarded")
    assert after is not None
    assert after["tokens"]["refresh_token"] != before["tokens"]["refresh_token"]
    assert after["expires_at"] > time.time() + 3000
    # What was rotated is what is used next.
    guarded.control(expire=True)
    assert await settled(tmp_path, guarded, vault, url) == (State.READY, None)
    assert guarded.control()["refreshed"] == 2


async def test_a_token_that_is_refused_before_its_time_is_refreshed_once_for_all_calls_in_flight(
    tmp_path: Path, guarded: Guarded, vault: Vault
) -> None:
    await authorize(guarded, vault)
    async with supervising(tmp_path, runner_at(tmp_path, vault=vault)) as supervisor:
        unit = supervisor.add(installation(ServerSpec(url=guarded.url), "guarded"))
        unit.start()
        assert await add(unit) == "5"
        guarded.control(expire=True)
        assert await asyncio.gather(*(add(unit) for _ in range(8))) == ["5"] * 8
        assert (guarded.control()["refreshed"], unit.life.restarts) == (1, 0)


@pytest.mark.parametrize("path", ["url", "sse"])
async def test_a_refresh_token_that_was_revoked_ends_in_the_same_words(
    tmp_path: Path, guarded: Guarded, vault: Vault, path: str
) -> None:
    url = getattr(guarded, path)
    await authorize(guarded, vault, url)
    policy = RestartPolicy(first_delay=0.01, jitter=0)
    async with supervising(tmp_path, runner_at(tmp_path, vault=vault), policy=policy) as supervisor:
        unit = supervisor.add(installation(ServerSpec(url=url), "guarded"))
        unit.start()
        assert await add(unit) == "5"
        guarded.control(revoke=True)
        with pytest.raises(Exception, match="run `toolscore authorize guarded`"):
            await add(unit)
        while unit.life.state is not State.FAILED:
            await unit._changed.wait()
        said = f"{NEEDED} What was granted before cannot be renewed any more: HTTP status 400, invalid_grant."
        assert unit.life.reason == said
        assert guarded.control()["authorized"] == 1
        # Once a person did it again, a start is enough.
        await authorize(guarded, vault, url)
        unit.start()
        assert await add(unit) == "5"


async def test_an_authorization_server_that_is_down_is_asked_again_later(
    tmp_path: Path, guarded: Guarded, vault: Vault
) -> None:
    await authorize(guarded, vault)
    guarded.control(expire=True, down=True)
    policy = RestartPolicy(first_delay=60, jitter=0)
    async with supervising(tmp_path, runner_at(tmp_path, vault=vault), policy=policy) as supervisor:
        unit = supervisor.add(installation(ServerSpec(url=guarded.url), "guarded"))
        unit.start()
        assert await unit.settled() is State.BACKOFF
        assert "answered with HTTP status 503; it is asked again" in str(unit.life.reason)
        guarded.control(down=False)
        unit.start()
        assert await add(unit) == "5"


async def test_tokens_are_not_carried_to_another_origin(
    tmp_path: Path, guarded: Guarded, vault: Vault
) -> None:
    await authorize(guarded, vault)
    kept = vault.load("guarded")
    assert kept is not None
    vault.change(url=kept["url"].replace("127.0.0.1", "localhost"))
    assert await settled(tmp_path, guarded, vault) == (State.FAILED, NEEDED)


async def test_a_machine_gets_tokens_by_itself_as_often_as_it_needs_them(
    tmp_path: Path, guarded: Guarded, vault: Vault
) -> None:
    provider = machine_for(
        "guarded", guarded.url, vault, headers={}, client_id="robot", client_secret="machine-secret"
    )
    await obtain("guarded", guarded.url, {}, provider)
    kept = vault.load("guarded")
    assert kept is not None
    assert kept["credentials"]["issuer"].rstrip("/") == guarded.issuer
    async with supervising(tmp_path, runner_at(tmp_path, vault=vault)) as supervisor:
        unit = supervisor.add(installation(ServerSpec(url=guarded.url), "guarded"))
        unit.start()
        assert await add(unit) == "5"
        guarded.control(expire=True)
        assert await asyncio.gather(*(add(unit) for _ in range(4))) == ["5"] * 4
        assert unit.life.restarts == 0
    done = guarded.control()
    assert (done["machine"], done["authorized"], done["registered"]) == (2, 0, 0)


async def test_credentials_that_are_not_accepted_are_not_kept(guarded: Guarded, vault: Vault) -> None:
    provider = machine_for("guarded", guarded.url, vault, headers={}, client_id="robot", client_secret="no")
    with pytest.raises(AuthorizationNeededError, match="client id and secret are not accepted"):
        await obtain("guarded", guarded.url, {}, provider)
    assert vault.texts == {}


async def test_a_secret_is_sent_to_no_other_issuer_than_its_own(guarded: Guarded, vault: Vault) -> None:
    provider = machine_for(
        "guarded",
        guarded.url,
        vault,
        headers={},
        client_id="robot",
        client_secret="machine-secret",
        issuer="https://elsewhere.example",
    )
    with pytest.raises(StartError, match="https://elsewhere"):
        await obtain("guarded", guarded.url, {}, provider)
    assert guarded.control()["machine"] == 0


async def test_a_server_that_asks_for_nothing_is_left_alone(guarded: Guarded, vault: Vault) -> None:
    url = f"{guarded.issuer}/control"  # answers anybody
    provider = machine_for("guarded", url, vault, headers={}, client_id="robot", client_secret="x")
    with pytest.raises(StartError, match="does not ask for authorization"):
        await obtain("guarded", url, {}, provider)
    assert vault.texts == {}


@pytest.mark.parametrize("taken", ["GET", "POST"])
async def test_an_endpoint_is_asked_in_the_way_it_takes_whatever_its_address_says(
    vault: Vault, taken: str
) -> None:
    asked: list[str] = []

    class Endpoint(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            asked.append(self.command)
            self.send_response(200 if self.command == taken else 405)
            self.send_header("content-length", "0")
            self.end_headers()

        do_GET = do_POST = _answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/{'sse' if taken == 'POST' else 'events'}"
        provider = machine_for("it", url, vault, headers={}, client_id="robot", client_secret="x")
        with pytest.raises(StartError, match="answered with HTTP status 200"):
            await obtain("it", url, {}, provider)
    finally:
        server.shutdown()
        server.server_close()
    assert asked[-1] == taken


def test_a_server_with_credentials_of_its_own_is_not_authorized_with_others() -> None:
    assert applies("https://example.com/mcp", {"X-Other": "1"})
    assert not applies("https://example.com/mcp", {"authorization": "Bearer x"})
    assert not applies("https://user:word@example.com/mcp", {})
    assert not applies("wss://example.com/mcp", {})


async def test_a_redirect_with_another_state_is_refused_and_the_right_one_still_waited_for() -> None:
    async with Callback.listening() as callback:
        callback.expect("https://as.example/authorize?state=right&x=1")
        for query in ("code=c&state=wrong", "code=c", "error=access_denied&state=wrong"):
            answer = await asyncio.to_thread(browse, f"{callback.uri}?{query}")
            assert (answer.status_code, "Not accepted" in answer.text) == (400, True)
        assert (await asyncio.to_thread(browse, callback.uri.replace("callback", "other"))).status_code == 404
        answer = await asyncio.to_thread(browse, f"{callback.uri}?code=c&state=right&iss=i")
        assert "You can close this page" in answer.text
        assert await callback.came() == {"code": "c", "state": "right", "iss": "i"}


def test_nothing_heavy_is_imported_before_a_server_is_reached() -> None:
    assert callable(provider_for)
    import subprocess
    import sys

    code = (
        "import sys, toolscore.runners.process, toolscore.server.cli.authorize\n"
        "sys.exit(any(name.partition('.')[0] in ('httpx2', 'jwt') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
