"""Code in the sandbox under a policy: it sees, calls and uses what its caller may, and no more."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from several import RICH, Serving, ask_owner, serving, structured
from toolscore.server.home import Home
from toolscore.server.tokens import Tokens
from toolscore.tools.caller import CALL
from toolscore_client import BARE, outcome, text

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")

PYTHON = "python-executor__python_execute"
POLICY = """\
[[rule]]
who = "ann"
servers = "zebra"
answer = "deny"

[[rule]]
who = "ann"
tools = "plain__withdraw"
what = "call"
answer = "deny"

[[rule]]
who = "functional"
servers = "python-executor"
answer = "deny"

[[limit]]
who = "counted"
servers = "plain"
calls_per_session = 3

[[limit]]
who = "counted"
parallel = 1
"""
CALLING = "from toolscore_tools import call_tool, list_tools, servers\n"


@pytest.fixture(scope="module")
def toolscore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("policy-code")
    (folder / "home").mkdir(mode=0o700)
    (folder / "home" / "policy.toml").write_text(POLICY)
    words = ["--set", "sandbox.tools=*", "--set", "tools.semantic=off"]
    with pytest.MonkeyPatch.context() as patch:
        for name in BARE:
            patch.delenv(name)
        with serving(folder, *words, plain=["-S", RICH], zebra=["-S", RICH]) as one:
            source = "def twice(n: int) -> int:\n    return 2 * n\n"
            ask_owner(one.process, "register_tool", name="twice", source=source)
            yield one


def token(toolscore: Serving, name: str) -> str:
    return Tokens(Home.at(toolscore.home), frozenset({CALL})).create(name, frozenset({CALL}))


async def value(client: Any, code: str) -> Any:
    return structured(await client.call_tool(PYTHON, {"code": CALLING + code}))["value"]


async def test_code_sees_and_calls_what_its_caller_may(toolscore: Serving) -> None:
    async with toolscore.client("legacy", token(toolscore, "ann")) as client:
        names = await value(client, "[one['name'] for one in servers()]")
        assert "plain" in names
        assert "zebra" not in names
        assert not [name for name in await value(client, "list_tools()") if name.startswith("zebra")]
        refused = await client.call_tool(PYTHON, {"code": f"{CALLING}call_tool('zebra__echo', {{}})"})
        assert "There is no tool named 'zebra__echo'" in text(refused)
        refused = await client.call_tool(PYTHON, {"code": f"{CALLING}call_tool('plain__withdraw', {{}})"})
        assert "rule 2 of the policy" in text(refused)
    async with toolscore.client("legacy", token(toolscore, "bob")) as client:
        assert "zebra" in await value(client, "[one['name'] for one in servers()]")


async def test_calls_of_code_count_for_its_caller_and_do_not_wait_for_its_own_place(
    toolscore: Serving,
) -> None:
    async with toolscore.client("legacy", token(toolscore, "counted")) as client:
        assert await value(client, "[call_tool('plain__add', {'a': n, 'b': 1}) for n in range(3)]")
        refused = await client.call_tool(
            "execute_tool", {"tool": "plain__add", "arguments": {"a": 1, "b": 1}}
        )
        assert outcome(refused) == "limit"
        assert "3 calls a session" in text(refused)


async def test_a_function_runs_for_who_may_call_it_though_not_any_code(toolscore: Serving) -> None:
    async with toolscore.client("legacy", token(toolscore, "functional")) as client:
        refused = await client.call_tool("execute_tool", {"tool": PYTHON, "arguments": {"code": "1"}})
        assert outcome(refused) == "unknown_tool"
        done = await client.call_tool("execute_tool", {"tool": "functions__twice", "arguments": {"n": 4}})
        assert not done.is_error, text(done)
        assert "8" in text(done)
