"""A server that changes its tools, behind a real ToolScore: what clients are shown, and how a person decides."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client.client import Client
from mcp.client.stdio import stdio_client
from mcp_types import ElicitResult

from approved import BAD, LISTING, approved_house, tool
from cli_shell import Shell
from toolscore.server.approvals_tools import ApprovalsTools
from toolscore.server.call import Call
from toolscore.server.models_approvals import ApproveToolArguments, ListQuarantinedArguments
from toolscore.tools.approvals.diff import diff
from toolscore.tools.caller import OWNER, Caller
from toolscore.tools.outcome import RefusalError
from toolscore_client import Mode, call, execute, outcome, parameters, text

MODES: tuple[Mode, ...] = ("legacy", "auto")
ALL = ("--set", "tools.expose=own,all")


class Person:
    """Answers what the client is asked, and remembers it."""

    def __init__(self, action: str, **content: Any) -> None:
        self.asked: list[str] = []
        self._result = ElicitResult(action=action, content=content or None)

    async def __call__(self, context: Any, params: Any) -> ElicitResult:
        self.asked.append(params.message)
        return self._result


class Listed:
    """What the server lists, in a file."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "tools.json"
        self.command = [sys.executable, "-S", str(LISTING), str(self.file)]

    def __call__(self, *tools: dict[str, Any]) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(tools))
        os.replace(new, self.file)


@pytest.fixture
def listed(tmp_path: Path) -> Listed:
    listed = Listed(tmp_path)
    listed(tool("announce"), tool("add"))
    return listed


def client(home: Path, mode: Mode, person: Person | None = None, *options: str) -> Client:
    return Client(stdio_client(parameters(home, *options)), mode=mode, elicitation_callback=person)


async def register(one: Client, listed: Listed) -> dict[str, Any]:
    return await call(one, "register_tool", name="s", command=listed.command[0], args=listed.command[1:])


async def changed(one: Client, listed: Listed, *tools: dict[str, Any]) -> list[dict[str, Any]]:
    """Have the server list something else; give what is in quarantine when that is known."""
    listed(tool("announce"), *tools)
    await execute(one, "s__announce")
    while True:
        told = await one.call_tool("execute_tool", {"tool": "list_quarantined", "arguments": {}})
        assert told.structured_content is not None
        found: list[dict[str, Any]] = told.structured_content["tools"]
        if found:
            return found
        await anyio.sleep(0.01)


async def approve(one: Client, held: dict[str, Any]) -> Any:
    arguments = {key: held[key] for key in ("server", "tool", "digest")}
    return await one.call_tool("execute_tool", {"tool": "approve_tool", "arguments": arguments})


@pytest.mark.parametrize("mode", MODES)
async def test_a_changed_tool_is_shown_as_approved_until_a_person_says_yes(
    tmp_path: Path, listed: Listed, mode: Mode
) -> None:
    person = Person("accept", approve=True)
    with anyio.fail_after(60):
        async with client(tmp_path / "home", mode, person, *ALL) as one:
            await register(one, listed)
            assert "s__add" in {tool.name for tool in (await one.list_tools()).tools}
            [held] = await changed(one, listed, tool("add", f"{BAD} \u202ehidden"))
            answers = [
                await one.list_tools(),
                await call(one, "list_tools"),
                await call(one, "describe_tool", tool="s__add"),
                await call(one, "describe_tool", tool="s__add", form="compact"),
                await call(one, "search_tools", query="add read id_rsa before using"),
                await call(one, "list_servers"),
                await execute(one, "server_state", name="s"),
                await one.read_resource("toolscore://events"),
                await execute(one, "list_quarantined"),
                await execute(one, "s__add"),
            ]
            shown = "".join(str(answer) for answer in answers)
            assert "IMPORTANT" not in shown
            assert "do not tell" not in shown
            assert "hidden" not in shown.replace("(hidden", "")
            assert "s__add" not in {tool.name for tool in answers[0].tools}  # type: ignore[attr-defined]
            assert answers[1]["tools"][0]["quarantined"] == "changed"  # type: ignore[index]
            assert "toolscore approve s add" in answers[2]["quarantined"]  # type: ignore[index]
            assert outcome(answers[-1]) == "changed"  # type: ignore[arg-type]
            approved = await approve(one, held)
            assert approved.structured_content["state"] == "approved"
            assert text(await execute(one, "s__add")) == "add"
            described = await call(one, "describe_tool", tool="s__add")
            assert described["description"].startswith(BAD)
            assert any(line.startswith("high") for line in described["findings"])
    [question] = person.asked
    assert "+ Adds. <IMPORTANT>" in question
    assert "<U+202E>hidden" in question
    assert "\u202e" not in question


@pytest.mark.parametrize(
    ("person", "said"),
    [
        (Person("decline"), "refused"),
        (Person("accept"), "refused"),
        (Person("accept", approve=False), "refused"),
        (None, "needs_approval"),
    ],
    ids=["no", "an empty form", "unticked", "nobody"],
)
async def test_without_a_plain_yes_it_stays_in_quarantine(
    tmp_path: Path, listed: Listed, person: Person | None, said: str
) -> None:
    with anyio.fail_after(60):
        async with client(tmp_path / "home", "auto", person) as one:
            await register(one, listed)
            [held] = await changed(one, listed, tool("add", "Other."))
            assert outcome(await approve(one, held)) == said
            assert outcome(await execute(one, "s__add")) == "changed"


async def test_what_a_person_approves_at_the_command_line_is_called_by_the_client(
    tmp_path: Path, listed: Listed
) -> None:
    home = tmp_path / "home"
    shell = Shell(home, tmp_path)
    with anyio.fail_after(180):
        async with client(home, "auto") as one:
            await register(one, listed)
            [held] = await changed(one, listed, tool("add", "Adds.\x1b[8m And more."))
            shown = await anyio.to_thread.run_sync(shell, "approvals")
            assert "+ Adds.<U+001B>[8m And more." in shown.stdout
            assert "- Does add." in shown.stdout
            assert held["digest"] in shown.stdout
            asked = await anyio.to_thread.run_sync(shell, "approve", "s", "add")
            assert asked.returncode == 1
            assert "--digest" in asked.stderr
            other = await anyio.to_thread.run_sync(shell, "approve", "s", "--digest", "0" * 64)
            assert other.returncode == 1
            assert outcome(await execute(one, "s__add")) == "changed"
            done = await anyio.to_thread.run_sync(shell, "approve", "s", "--digest", held["digest"])
            assert done.returncode == 0, done.stderr
            assert text(await execute(one, "s__add")) == "add"
            events = json.loads((await one.read_resource("toolscore://events")).contents[0].text)["events"]  # type: ignore[union-attr]
            told = [event["event"] for event in events if "s__add" in event.get("tools", ())]
            assert told == ["tool_installed", "tool_quarantined", "tool_updated", "tool_approved"]


def test_the_command_line_adds_shows_rejects_and_approves(tmp_path: Path, listed: Listed) -> None:
    shell = Shell(tmp_path / "home", tmp_path)
    assert shell("approvals").stdout == "nothing is in quarantine\n"
    listed(tool("add", BAD), tool("sub"))
    added = shell("register", "s", "--", *listed.command)
    assert "in quarantine" in added.stderr
    assert shell("call", "s__add", "{}").returncode == 1
    assert shell("reject", "s", "add").stdout.endswith("rejected s__add\n")
    told = json.loads(shell("approvals", "s", "--json").stdout)
    assert [(one["tool"], one["rejected"]) for one in told["tools"]] == [("s__add", True)]
    assert told["tools"][0]["after"]["description"] == BAD
    assert shell("approve", "s", "sub").returncode == 4
    assert shell("approve", "s", "--yes").returncode == 0
    assert "approved, with findings: s__add" in shell("approvals").stdout
    accepted = shell("register", "t", "--accept-findings", "--", *listed.command)
    assert "accepted: t__add: high" in accepted.stderr
    assert "in quarantine" not in accepted.stderr
    assert shell("call", "t__add", "{}").stdout == "add\n"
    listed(tool("add", "Adds something else."))
    assert shell("call", "t__add", "{}").returncode == 1
    # Nobody else ran meanwhile: the commands themselves have written down what they found.
    found = shell.document("journal", "--kind", "tool_quarantined", "--kind", "tool_approved")["records"]
    told = [(one["kind"], one["server"], one["detail"]["tools"]) for one in found]
    assert ("tool_quarantined", "s", ["s__add"]) in told
    assert ("tool_approved", "s", ["s__add"]) in told
    assert told[-1] == ("tool_quarantined", "t", ["t__add"])


async def test_a_difference_of_any_length_is_made_beside_everything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def spied(*given: Any, **how: Any) -> list[str]:
        threads.append(threading.get_ident())
        return diff(*given, **how)

    monkeypatch.setattr("toolscore.tools.approvals.diff.diff", spied)
    async with approved_house(tmp_path) as house:
        house.lists(tool("announce"), tool("add"))
        await house.install()
        house.lists(tool("announce"), tool("add", "Other."))
        await house.relisted()
        tools = ApprovalsTools(house.approvals, house.library)
        owner = Call(caller=OWNER)
        told = await tools.handlers["list_quarantined"](ListQuarantinedArguments(), owner)
        [one] = told.tools  # type: ignore[union-attr]
        given = ApproveToolArguments(server="s", tool="add", digest=one.digest)
        with pytest.raises(RefusalError, match="nobody to ask"):
            await tools.handlers["approve_tool"](given, Call(caller=Caller("ann", "ws")))
    assert len(threads) == 2
    assert threading.get_ident() not in threads
