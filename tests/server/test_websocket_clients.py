"""Clients made by others, unchanged, and ToolScore's own transport, on a ToolScore that listens for WebSockets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import anyio
import pytest
from mcp.client.client import Client

import foreign_clients
from listening import register, serving
from toolscore.client import WebSocketError, websocket
from toolscore_client import Mode, execute, outcome, text

pytestmark = pytest.mark.index

SUM = {"error": False, "text": "42", "outcome": None}
MODES: list[Mode] = ["legacy", "auto"]


class Listening(NamedTuple):
    """A ToolScore that serves the faulty server as `f`."""

    url: str
    token: str

    @property
    def url_with_token(self) -> str:
        return f"{self.url}?token={self.token}"


@pytest.fixture(scope="module")
def toolscore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    home = tmp_path_factory.mktemp("listening") / "home"
    register(home, "f")
    with serving(home, options=()) as one:
        yield Listening(one.url, one.token)


def three_steps(total: int) -> list[list[Any]]:
    return [[number, total, f"step {number}"] for number in (1, 2, 3)]


def check(document: dict[str, Any], token: str, steps: int) -> None:
    """What both foreign clients see."""
    assert document["server"] == "toolscore"
    assert {"execute_tool", "list_tools"} <= set(document["tools"])
    for call in ("sum", "large"):
        assert {key: document[call][key] for key in SUM} == SUM
    assert document["progress"] == [False, three_steps(steps)]
    assert document["failed"]["error"] is True
    assert document["failed"]["text"] == "it did not work"
    assert document["unknown"]["error"] is True
    assert document["unknown"]["outcome"] == "unknown_tool"
    assert document["at_once"] == [str(number) for number in range(50)]
    assert token not in str(document)


def test_the_python_sdk_version_1_lists_calls_and_reports_progress(toolscore: Listening) -> None:
    document = foreign_clients.document(foreign_clients.python_client(toolscore.url_with_token, "f"))
    assert document["protocol"] == "2025-11-25"
    check(document, toolscore.token, steps=3)


def test_the_typescript_sdk_version_1_lists_calls_reports_progress_and_cancels(toolscore: Listening) -> None:
    document = foreign_clients.document(foreign_clients.typescript_client(toolscore.url_with_token, "f"))
    check(document, toolscore.token, steps=4)
    assert document["echoed"] == 4 << 20
    assert "enough" in document["cancelled"]["said"]
    assert document["cancelled"]["seen"] == 1
    assert document["errors"] == []


@pytest.mark.parametrize("client", [foreign_clients.python_client, foreign_clients.typescript_client])
def test_a_foreign_client_without_the_right_token_does_not_come_in(client: Any, toolscore: Listening) -> None:
    for url in (toolscore.url, f"{toolscore.url}?token=wrong"):
        done = client(url, "f")
        assert done.returncode != 0
        assert done.stdout == ""


@pytest.mark.parametrize("mode", MODES)
async def test_the_sdks_client_over_toolscores_transport_lists_calls_and_reports_progress(
    mode: Mode, toolscore: Listening
) -> None:
    steps: list[list[Any]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        steps.append([progress, total, message])

    with anyio.fail_after(60):
        async with Client(websocket(toolscore.url, token=toolscore.token), mode=mode) as client:
            assert client.protocol_version == {"legacy": "2025-11-25", "auto": "2026-07-28"}[mode]
            assert "execute_tool" in [tool.name for tool in (await client.list_tools()).tools]
            assert text(await execute(client, "f__add", a=40, b=2)) == "42"
            assert text(await execute(client, "f__add", a=40, b=2, padding="é" * (2 << 20))) == "42"
            assert len(text(await execute(client, "f__big", bytes=4 << 20))) == 4 << 20
            asked = {"tool": "f__progress", "arguments": {"count": 3}}
            assert not (await client.call_tool("execute_tool", asked, progress_callback=note)).is_error
            assert steps == three_steps(3)
            assert text(await execute(client, "f__failed")) == "it did not work"
            assert outcome(await execute(client, "f__no_such_tool")) == "unknown_tool"


async def test_toolscores_transport_says_what_to_check_when_it_is_refused(toolscore: Listening) -> None:
    wrong = [
        (toolscore.url, "not-the-token", 401, "toolscore token show"),
        (toolscore.url, None, 401, "toolscore token show"),
        (toolscore.url.replace("/mcp", "/elsewhere"), toolscore.token, 404, "/mcp"),
    ]
    for url, token, status, words in wrong:
        with anyio.fail_after(20), pytest.raises(WebSocketError, match=words) as raised:
            async with Client(websocket(url, token=token)):
                pass
        assert raised.value.status == status
        assert token is None or token not in str(raised.value)
