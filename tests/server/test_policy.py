"""Clients with different rights on one listener: what each sees and may do, and that nothing is mixed up."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp_types import ElicitResult

from helpers import until
from several import MODES, RICH, Callbacks, Line, Message, Serving, serving
from toolscore.server.home import Home
from toolscore.server.tokens import Tokens
from toolscore.tools.caller import CALL, MANAGE
from toolscore_client import Mode, outcome, text

POLICY = """\
[[rule]]
who = "ann"
servers = "zebra"
answer = "deny"

[[rule]]
who = "ann"
tools = "plain__withdraw"
what = "see"
answer = "deny"

[[rule]]
who = "ann"
what = "install"
sources = ["pypi:*", "command: *forbidden*"]
answer = "deny"
why = "Nothing from indexes."

[[rule]]
who = "boss"
what = "install"
answer = "ask"

[[rule]]
who = "asked"
tools = "plain__exit"
answer = "ask"

[[rule]]
who = "asked"
tools = "plain__echo"
answer = "ask"
remember = "session"
why = "Echoes are loud."

[[rule]]
who = "builder"
what = "install"
sources = "command: *granted*"
answer = "allow"
grant = true

[[rule]]
who = "noown"
tools = "toolscore__list_servers"
answer = "deny"

[[rule]]
who = "boss"
what = "manage"
servers = "plain"
answer = "deny"

[[rule]]
who = "warden"
servers = "zebra"
answer = "deny"
"""

NAMES = {"ann": CALL, "bob": CALL, "asked": CALL, "builder": CALL, "noown": CALL, "boss": f"{CALL},{MANAGE}"}
NAMES["warden"] = NAMES["boss"]


@pytest.fixture(scope="module")
def toolscore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("policy")
    (folder / "home").mkdir(mode=0o700)
    (folder / "home" / "policy.toml").write_text(POLICY)
    words = ["--expose", "all", "--set", "tools.semantic=off"]
    zebra = ["-S", RICH, "label=zebra"]
    with serving(folder, *words, plain=["-S", RICH], zebra=zebra) as one:
        yield one


def token(toolscore: Serving, name: str) -> str:
    tokens = Tokens(Home.at(toolscore.home), frozenset({CALL}))
    if name in tokens.names():
        tokens.revoke(name)
    return tokens.create(name, frozenset(NAMES[name].split(",")))


SURFACES: dict[str, tuple[str, Message]] = {
    "tools/list": ("tools/list", {}),
    "resources/list": ("resources/list", {}),
    "resources/templates/list": ("resources/templates/list", {}),
    "prompts/list": ("prompts/list", {}),
    "events": ("resources/read", {"uri": "toolscore://events"}),
    "usage": ("resources/read", {"uri": "toolscore://usage"}),
    "groups": ("resources/read", {"uri": "toolscore://groups"}),
    "installs": ("resources/read", {"uri": "toolscore://installs"}),
    "tools": ("resources/read", {"uri": "toolscore://tools"}),
    "logs of all": ("resources/read", {"uri": "toolscore://logs/*"}),
    "completion": (
        "completion/complete",
        {
            "ref": {"type": "ref/resource", "uri": "toolscore://logs/{name}"},
            "argument": {"name": "name", "value": ""},
        },
    ),
}
OWN: dict[str, Message] = {
    "list_tools": {},
    "search_tools": {"query": "zebra", "limit": 25},
    "find_tool_gap": {"task": "withdraw zebra hold"},
    "tool_score": {},
    "list_servers": {},
    "server_logs": {"name": "*"},
    "server_state": {"name": "plain"},
    "open_dashboard": {},
}


async def said(line: Line, method: str, params: Message) -> str:
    """Everything a request gives, however many pages that has."""
    told = await line.request(method, **params)
    found = [told]
    while cursor := (told.get("result", {}).get("structuredContent") or {}).get("nextCursor"):
        params = {**params, "arguments": {**params["arguments"], "cursor": cursor}}
        told = await line.request(method, **params)
        found.append(told)
    return json.dumps(found)


@pytest.mark.parametrize("mode", MODES)
async def test_nothing_tells_of_what_may_not_be_seen(toolscore: Serving, mode: Mode) -> None:
    async with (
        toolscore.line(mode, token(toolscore, "ann")) as ann,
        toolscore.line(mode, token(toolscore, "bob")) as bob,
    ):
        for tool in ("zebra__echo", "plain__echo"):
            await bob.call(tool)  # so that it has a score
        await bob.call("zebra__stderr", kib=1)
        await bob.until(lambda told: told["lines"], "server_logs", name="zebra")
        asked = {**SURFACES}
        asked |= {name: ("tools/call", {"name": name, "arguments": given}) for name, given in OWN.items()}
        leaks, blind = [], []
        for name, (method, params) in asked.items():
            hers, his = await said(ann, method, params), await said(bob, method, params)
            if '"error"' in hers or '"isError": true' in hers:
                leaks.append(f"{name}: {hers[:300]}")
            if name not in ("find_tool_gap", "search_tools"):  # which say back what they are asked for
                leaks += [f"{name}: {word}" for word in ("zebra", "plain__withdraw") if word in hers]
            leaks += [f"{name}: {word}" for word in ("zebra__", "plain__withdraw") if word in hers]
            if "zebra" not in his and name not in ("server_state", "open_dashboard"):  # which name no other
                blind.append(name)
        assert not leaks
        assert not blind, "who may see it is told of it there"


def like_nothing(named: Message, unknown: Message, name: str, other: str) -> bool:
    def same(answer: Message) -> str:
        return json.dumps({key: value for key, value in answer.items() if key != "id"})

    return same(named).replace(name, other) == same(unknown)


PROBES: dict[str, Callable[[str], tuple[str, Message]]] = {
    "call": lambda name: ("tools/call", {"name": f"{name}__echo", "arguments": {}}),
    "resource": lambda name: ("resources/read", {"uri": f"toolscore://resource/{name}/rich://a"}),
    "subscribe": lambda name: ("resources/subscribe", {"uri": f"toolscore://resource/{name}/rich://a"}),
    "prompt": lambda name: ("prompts/get", {"name": f"{name}__greet"}),
    "log": lambda name: ("resources/read", {"uri": f"toolscore://logs/{name}"}),
}
OWN_PROBES: dict[str, Callable[[str], Message]] = {
    "execute_tool": lambda name: {"tool": f"{name}__echo"},
    "describe_tool": lambda name: {"tool": f"{name}__echo"},
    "explain_policy": lambda name: {"tool": f"{name}__echo"},
    "tool_score": lambda name: {"tool": f"{name}__echo"},
    "list_tools": lambda name: {"server": name},
    "search_tools": lambda name: {"query": "echo", "server": name},
    "server_state": lambda name: {"name": name},
    "server_logs": lambda name: {"name": name},
    "acquire_server": lambda name: {"name": name},
    "manage_server": lambda name: {"name": name, "action": "stop"},
    "uninstall_server": lambda name: {"name": name},
}


async def test_what_may_not_be_seen_is_answered_like_what_is_not_there(toolscore: Serving) -> None:
    async with toolscore.line("legacy", token(toolscore, "ann")) as ann:
        probes = dict(PROBES)
        for tool, arguments in OWN_PROBES.items():
            probes[tool] = lambda name, tool=tool, arguments=arguments: (  # type: ignore[misc]
                "tools/call",
                {"name": tool, "arguments": arguments(name)},
            )
        for probe, asking in probes.items():
            answers = []
            for name in ("zebra", "zebrb"):
                method, params = asking(name)
                answers.append(await ann.request(method, **params))
            assert like_nothing(answers[0], answers[1], "zebra", "zebrb"), (probe, answers)
            assert "error" in answers[0] or answers[0]["result"].get("isError"), (probe, answers[0])
        hidden = await ann.call("plain__withdraw")
        assert hidden["_meta"]["toolscore/outcome"] == "unknown_tool"
        near = (await ann.call("plain__withdrawn"))["_meta"]["toolscore/nearest"]
        assert near
        assert "plain__withdraw" not in near


async def test_a_client_is_not_told_that_lists_changed_of_which_it_sees_nothing(toolscore: Serving) -> None:
    async with (
        toolscore.line("legacy", token(toolscore, "ann")) as ann,
        toolscore.line("legacy", token(toolscore, "bob")) as bob,
    ):
        await ann.settled()
        await bob.settled()
        ann.inbox.clear()
        await bob.call("zebra__change_tools", name="extra")
        await bob.told("notifications/tools/list_changed")
        assert "list_changed" not in json.dumps(await ann.settled())
        await bob.call("plain__change_tools", name="extra")
        await ann.told("notifications/tools/list_changed")


async def test_two_clients_with_different_rights_at_once_are_never_mixed_up(toolscore: Serving) -> None:
    async with (
        toolscore.line("legacy", token(toolscore, "ann")) as ann,
        toolscore.line("legacy", token(toolscore, "bob")) as bob,
    ):

        async def many(line: Line) -> list[str]:
            wanted = [await line.ask("tools/call", name="zebra__echo", arguments={"n": n}) for n in range(60)]
            answers = [await line.answer(identity) for identity in wanted]
            return [
                (one["result"].get("_meta") or {}).get("toolscore/outcome")
                or str(one["result"]["structuredContent"]["arguments"]["n"])
                for one in answers
            ]

        hers, his = await asyncio.gather(many(ann), many(bob))
        assert hers == ["unknown_tool"] * 60
        assert his == [str(n) for n in range(60)]


async def test_a_source_that_is_denied_is_not_even_asked_about(toolscore: Serving) -> None:
    async with toolscore.line("legacy", token(toolscore, "ann"), elicitation={}) as ann:
        for source in ("pypi:Some_Thing", "command: sh forbidden"):
            refused = await ann.call("install_server", source=source)
            assert refused["_meta"]["toolscore/outcome"] == "refused"
            assert "Nothing from indexes." in refused["content"][0]["text"]
        refused = await ann.call("register_tool", name="x", command="forbidden", args=["a"])
        assert "rule 3 of the policy" in refused["content"][0]["text"]


async def test_who_may_manage_is_asked_or_refused_where_the_policy_says_so(toolscore: Serving) -> None:
    given: Message = {"name": "new", "command": "/nonexistent/program"}
    async with toolscore.line("legacy", token(toolscore, "boss"), elicitation={}) as boss:
        call = await boss.ask("tools/call", name="register_tool", arguments=given)
        question = await boss.told("elicitation/create")
        assert "/nonexistent/program" in question["message"]
        await boss.send(id=question["id"], result={"action": "decline"})
        result = (await boss.answer(call))["result"]
        assert result["_meta"]["toolscore/outcome"] == "refused"
        refused = await boss.call("manage_server", name="plain", action="stop")
        assert "does not let 'boss' manage server 'plain'" in refused["content"][0]["text"]
        refused = await boss.call("manage_server", name="*", action="stop")
        assert refused["_meta"]["toolscore/outcome"] == "refused"
    async with toolscore.line("legacy", token(toolscore, "boss")) as boss:
        refused = await boss.call("register_tool", **given)
        assert refused["_meta"]["toolscore/outcome"] == "needs_approval"


async def test_a_grant_covers_its_source_as_it_is_and_nothing_else(toolscore: Serving) -> None:
    async with toolscore.line("legacy", token(toolscore, "builder")) as builder:
        result = await builder.call("register_tool", name="new", command="/nonexistent/granted")
        assert result["_meta"]["toolscore/outcome"] == "failed_to_start", "it was tried"
        for more in ({"args": ["-c"]}, {"env": {"NODE_OPTIONS": "x"}}, {"command": "/nonexistent/other"}):
            given: Message = {"name": "new", "command": "/nonexistent/granted", **more}
            result = await builder.call("register_tool", **given)
            assert result["_meta"]["toolscore/outcome"] == "needs_approval", more
        result = await builder.call("uninstall_server", name="plain")
        assert result["_meta"]["toolscore/outcome"] == "needs_approval"


async def test_own_tools_are_denied_and_hidden_by_rules_that_name_them_only(toolscore: Serving) -> None:
    async with toolscore.line("legacy", token(toolscore, "noown")) as line:
        names = {tool["name"] for tool in (await line.request("tools/list"))["result"]["tools"]}
        assert "list_servers" not in names
        assert "list_tools" in names
        for name in ("list_servers", "toolscore__list_servers"):
            refused = await line.call(name)
            assert refused["_meta"]["toolscore/outcome"] == "unknown_tool"
        described = await line.call("describe_tool", tool="toolscore__list_servers")
        assert described["_meta"]["toolscore/outcome"] == "unknown_tool"


# --- asking


def person(action: str) -> Callbacks:
    async def answer(_params: Any) -> ElicitResult:
        return ElicitResult(action=action, content=None)

    return Callbacks({"elicitation": answer})


@pytest.mark.parametrize("mode", MODES)
async def test_a_person_who_agrees_has_seen_the_tool_and_its_arguments(
    toolscore: Serving, mode: Mode
) -> None:
    one = person("accept")
    given = {"word": "a\u202eb\u200b", "long": "x" * 5000 + "END"}
    async with toolscore.client(mode, token(toolscore, "asked"), **one.options) as client:
        for _ in range(2):
            result = await client.call_tool("plain__echo", given)
            assert result.structured_content is not None
            assert result.structured_content["arguments"] == given
    expected = 1 if mode == "legacy" or len(one.asked) == 1 else 2
    assert len(one.asked) == expected, "the answer holds for the session"
    message = one.asked[0][1].message
    assert "plain__echo" in message
    assert "'asked'" in message
    assert '"a\\u{202e}b\\u{200b}"' in message
    assert "\u202e" not in message
    assert "characters that are not shown" in message
    assert message.count("x") < 1500
    assert 'END"}' in message
    assert "Echoes are loud." in message


@pytest.mark.parametrize("mode", MODES)
async def test_without_a_clear_yes_nothing_is_called(toolscore: Serving, mode: Mode) -> None:
    async with toolscore.client("legacy", token(toolscore, "bob")) as bob:
        before = text(await bob.call_tool("plain__pid", {}))
        for action in ("decline", "cancel"):
            one = person(action)
            async with toolscore.client(mode, token(toolscore, "asked"), **one.options) as client:
                refused = await client.call_tool("plain__exit", {})
                assert outcome(refused) == "refused"
                refused = await client.call_tool("execute_tool", {"tool": "plain__exit"})
                assert outcome(refused) == "refused"
            assert len(one.asked) == 2
        async with toolscore.client(mode, token(toolscore, "asked")) as client:
            refused = await client.call_tool("plain__exit", {})
            assert outcome(refused) == "needs_approval", "who cannot be asked is refused"
        assert text(await bob.call_tool("plain__pid", {})) == before


async def test_a_client_that_leaves_instead_of_answering_has_called_nothing(toolscore: Serving) -> None:
    async with toolscore.client("legacy", token(toolscore, "bob")) as bob:
        before = text(await bob.call_tool("plain__pid", {}))
        async with toolscore.line("legacy", token(toolscore, "asked"), elicitation={}) as line:
            await line.ask("tools/call", name="plain__exit", arguments={})
            await line.told("elicitation/create")
        async with toolscore.line("legacy", token(toolscore, "asked"), elicitation={}) as line:
            call = await line.ask("tools/call", name="plain__exit", arguments={})
            question = await line.told("elicitation/create")
            await line.send(method="notifications/cancelled", params={"requestId": call})
            withdrawn = await line.told("notifications/cancelled")
            assert withdrawn["requestId"] == question["id"]
            await line.send(id=question["id"], result={"action": "accept"})
            await line.settled()
        assert text(await bob.call_tool("plain__pid", {})) == before


async def test_the_journal_tells_who_manages_nothing_of_what_it_may_not_see(toolscore: Serving) -> None:
    token(toolscore, "ann")
    async with (
        toolscore.line("legacy", token(toolscore, "bob")) as bob,
        toolscore.line("legacy", token(toolscore, "boss")) as boss,
        toolscore.line("legacy", token(toolscore, "warden")) as warden,
    ):
        await bob.call("zebra__echo", text="what zebra was asked")
        await bob.call("zebra__echo", text="what plain was asked", tool="none")
        await bob.call("plain__echo", text="what plain was asked")
        await bob.call("list_servers")
        await warden.call("list_servers")
        hers = await warden.call("read_journal", contents=True, limit=200)
        whole = await boss.call("read_journal", contents=True, limit=200)
        assert "what zebra was asked" in json.dumps(whole)
        assert "what plain was asked" in json.dumps(hers)
        assert "zebra" not in json.dumps(hers), "neither as a server nor in what others were told"
        [own] = [
            one
            for one in hers["structuredContent"]["records"]
            if one.get("tool") == "toolscore__list_servers" and one["client"]["principal"] == "warden"
        ]
        assert "plain" in json.dumps(own["result"]), "what it was told itself it may read again"


async def test_what_is_granted_by_its_source_is_asked_about_where_it_would_get_a_secret(
    toolscore: Serving,
) -> None:
    async with toolscore.line("legacy", token(toolscore, "builder")) as builder:
        for words in ("", " ${GITHUB_TOKEN}"):
            told = await builder.call("install_server", source=f"command: /nonexistent/granted{words}")
            assert ("could not be asked" in told["content"][0]["text"]) is bool(words), told


# --- explaining


async def test_a_client_may_ask_about_itself_and_who_may_manage_about_everybody(toolscore: Serving) -> None:
    token(toolscore, "ann")
    async with toolscore.line("legacy", token(toolscore, "asked")) as line:
        told = (await line.call("explain_policy", tool="plain__exit"))["structuredContent"]
        assert (told["answer"], told["rule"], told["client"]) == ("ask", 5, "asked")
        assert told["rules"] is None
        assert told["file"] is None
        assert not any(name in json.dumps(told) for name in ("zebra", "ann", "boss")), (
            "what rules name besides"
        )
        refused = await line.call("explain_policy", tool="plain__exit", client="ann")
        assert refused["_meta"]["toolscore/outcome"] == "refused"
    async with toolscore.line("legacy", token(toolscore, "boss")) as boss:
        told = (await boss.call("explain_policy", tool="zebra__echo", client="ann"))["structuredContent"]
        assert (told["answer"], told["rule"], told["line"]) == ("deny", 1, 1)
        assert 'who = "ann"' in told["explained"]
        told = (await boss.call("explain_policy", source="pypi:X_y", client="ann"))["structuredContent"]
        assert (told["answer"], told["why"]) == ("deny", "Nothing from indexes.")
        told = (await boss.call("explain_policy", tool="plain__echo", client="nobody"))["structuredContent"]
        assert "no token named 'nobody'" in told["narrowed"][0]
        told = (await boss.call("explain_policy", source="npm:x", client="bob"))["structuredContent"]
        assert told["rule"] is None
        assert "a person at its client is asked" in told["narrowed"][0]
        told = (await boss.call("explain_policy"))["structuredContent"]
        assert len(told["rules"]) == 10


# --- reading it again


async def test_a_changed_file_holds_at_once_and_a_wrong_one_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    policy = tmp_path / "home" / "policy.toml"
    deny = '[[rule]]\nwho = "ann"\nwhat = "call"\nservers = "plain"\nanswer = "deny"\n'
    with serving(tmp_path, "--set", "tools.semantic=off", plain=["-S", RICH]) as one:
        async with (
            one.line("legacy", token(one, "ann")) as ann,
            one.line("legacy", token(one, "boss")) as boss,
        ):
            uri = "toolscore://events"
            await boss.request("resources/subscribe", uri=uri)
            assert "structuredContent" in await ann.call("plain__echo")
            policy.write_text(deny)
            done = await boss.call("reload_configuration")
            assert done["structuredContent"]["remarks"] == []
            assert "rule 1 of the policy" in json.dumps(await ann.call("plain__echo"))
            await boss.told("notifications/resources/updated")
            policy.write_text('[[rule]]\nwho = "ann"\n')
            checked = await boss.call("reload_configuration", check=True)
            assert "line 1: rule 1 has no answer" in checked["structuredContent"]["remarks"][0]
            done = await boss.call("reload_configuration")
            assert "line 1: rule 1 has no answer" in done["structuredContent"]["remarks"][0]
            assert "rule 1 of the policy" in json.dumps(await ann.call("plain__echo")), "the old one holds"
            told = (await boss.call("explain_policy"))["structuredContent"]
            assert "line 1: rule 1 has no answer" in told["problems"][0]
            events = json.loads(
                (await boss.request("resources/read", uri=uri))["result"]["contents"][0]["text"]
            )["events"]
            changes = [event["valid"] for event in events if event["event"] == "policy_changed"]
            assert changes == [True, False]
            await until(lambda: "policy: " in one.log.read_text())
            if hasattr(signal, "SIGHUP"):
                policy.write_text(deny.replace("plain", "zebra"))
                one.process.send_signal(signal.SIGHUP)
                await boss.until(
                    lambda told: (
                        [rule["servers"] for rule in told["rules"]] == [["zebra"]]
                        and "as asked for by SIGHUP" in one.log.read_text()
                    ),
                    "explain_policy",
                )
                assert "structuredContent" in await ann.call("plain__echo")
                policy.write_text("[[rule")
                one.process.send_signal(signal.SIGHUP)
                told = await boss.until(lambda told: told["problems"], "explain_policy")
                assert [rule["servers"] for rule in told["rules"]] == [["zebra"]], "the old one holds"
                policy.write_text(deny)
                one.process.send_signal(signal.SIGHUP)
                await boss.until(lambda told: not told["problems"], "explain_policy")
            policy.unlink()  # nobody has to be told to look
            await boss.until(lambda told: "no such file" in "".join(told["problems"]), "explain_policy")
            assert "rule 1 of the policy" in json.dumps(await ann.call("plain__echo"))
            policy.write_text("")
            await boss.until(lambda told: not told["problems"], "explain_policy")
            await ann.until(lambda told: told["arguments"] == {}, "plain__echo")
            (tmp_path / "home" / "config.toml").write_text('[policy]\nfile = "other.toml"\n')
            await boss.call("reload_configuration")
            assert "structuredContent" in await ann.call("plain__echo"), "there is no such file yet"
            told = (await boss.call("explain_policy"))["structuredContent"]
            assert "other.toml: there is no such file" in told["problems"][0]
            (tmp_path / "home" / "other.toml").write_text(deny)
            await boss.until(lambda told: not told["problems"], "explain_policy")
            assert "rule 1 of the policy" in json.dumps(await ann.call("plain__echo"))
