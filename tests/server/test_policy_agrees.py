"""What is explained, what is listed and what becomes of a call are the same, under policies of any kind."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from approved import LISTING, tool
from several import RICH, Line, Message, Serving, serving
from toolscore.server.home import Home
from toolscore.server.tokens import Tokens
from toolscore.tools.caller import CALL, MANAGE

HINTS: dict[str, Message] = {
    "read": {"readOnlyHint": True},
    "write": {"destructiveHint": False, "idempotentHint": True, "openWorldHint": False},
    "delete": {},
}
TOOLS = [f"github__{name}" for name in HINTS] + [
    "rich__echo",
    "toolscore__list_servers",
    "toolscore__list_tools",
]
WHO = ["ann", "bob", "*nn", "?ob", "[ab]*", "[!a]ob"]  # never who explains
SERVERS = ["github", "git*", "[!g]*", "*", "toolscore", "rich"]
GLOBS = ["github__*", "*__read", "*e*", "github__[dr]*", "*", "toolscore__list_servers", "rich__echo"]
OWN_THAT_READ = """\
[[rule]]
who = "ann"
servers = "toolscore"
hints = "read-only"
answer = "allow"

[[rule]]
who = "ann"
servers = "toolscore"
answer = "deny"

[[rule]]
who = "bob"
servers = "toolscore"
hints = "read-only"
answer = "deny"
"""


def policies() -> Iterator[str]:
    yield OWN_THAT_READ
    for seed in range(12):
        dice = random.Random(seed)
        yield "".join(rule(dice) for _ in range(dice.randint(1, 6)))


def rule(dice: random.Random) -> str:
    def some(key: str, values: list[str], chance: float) -> str:
        if dice.random() >= chance:
            return ""
        return f"{key} = {json.dumps(dice.sample(values, dice.randint(1, 2)))}\n"

    return (
        f'[[rule]]\nanswer = "{dice.choice(["allow", "deny", "deny", "ask"])}"\n'
        + some("who", WHO, 1)
        + some("what", ["see", "call"], 0.5)
        + some("listener", ["websocket", "http"], 0.3)
        + some("servers", SERVERS, 0.4)
        + some("tools", GLOBS, 0.4)
        + some("hints", ["destructive", "read-only", "idempotent", "open-world"], 0.3)
    )


@pytest.fixture(scope="module")
def toolscore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("agrees")
    (folder / "tools.json").write_text(
        json.dumps([tool(name, annotations=hints) for name, hints in HINTS.items()])
    )
    words = ["--expose", "own,all", "--set", "tools.semantic=off"]
    github = ["-S", str(LISTING), str(folder / "tools.json")]
    with serving(folder, *words, github=github, rich=["-S", RICH]) as one:
        yield one


@dataclass
class Client:
    """A client, and whether somebody is there to be asked, who says yes."""

    name: str
    line: Line
    asks: bool

    async def call(self, name: str) -> str:
        """Call a tool; give what became of it."""
        identity = await self.line.ask("tools/call", name=name, arguments={})
        while True:
            message = await self.line.receive(
                lambda one: (
                    one.get("method") == "elicitation/create"
                    or (one.get("id") == identity and "method" not in one)
                )
            )
            if "method" not in message:
                result = message["result"]
                return str((result.get("_meta") or {}).get("toolscore/outcome", "ok"))
            agreed = dict.fromkeys(message["params"]["requestedSchema"]["properties"], True)
            await self.line.send(id=message["id"], result={"action": "accept", "content": agreed})

    async def names(self, method: str, key: str) -> set[str]:
        return {one["name"] for one in (await self.line.request(method))["result"][key]}


async def answers(keeper: Line, client: str, **about: str) -> tuple[str, str]:
    """What is explained of seeing and calling."""
    found = []
    for action in ("see", "call"):
        asked: Message = {"client": client, "listener": "websocket", "action": action, **about}
        found.append((await keeper.call("explain_policy", **asked))["structuredContent"]["answer"])
    return found[0], found[1]


async def differences(keeper: Line, client: Client) -> list[str]:
    found: list[str] = []
    listed = await client.names("tools/list", "tools")
    for name in TOOLS:
        see, call = await answers(keeper, client.name, tool=name)
        shown = name.removeprefix("toolscore__") in listed
        if shown != (see != "deny"):
            found.append(f"{name}: see is {see}, but listed {shown}")
        expected = {
            "allow": "ok",
            "ask": "ok" if client.asks else "needs_approval",
            "deny": "unknown_tool" if see == "deny" else "refused",
        }[call]
        if (outcome := await client.call(name)) != expected:
            found.append(f"{name}: see is {see}, call {call}, but it is {outcome}")
    see, call = await answers(keeper, client.name, server="rich")
    if bool(await client.names("prompts/list", "prompts")) != (see != "deny"):
        found.append(f"prompts of rich: see is {see}")
    return found


async def test_what_is_explained_is_what_is_listed_and_what_happens(toolscore: Serving) -> None:
    tokens = Tokens(Home.at(toolscore.home), frozenset({CALL}))
    policy: Path = toolscore.home / "policy.toml"
    wrong: list[str] = []
    async with (
        toolscore.line("legacy", tokens.create("keeper", {CALL, MANAGE})) as keeper,
        toolscore.line("legacy", tokens.create("ann", {CALL}), elicitation={"form": {}}) as ann,
        toolscore.line("legacy", tokens.create("bob", {CALL})) as bob,
    ):
        held = 0
        for text in policies():
            policy.write_text(text)
            done = await keeper.call("reload_configuration")
            if done["structuredContent"]["remarks"]:
                continue  # some combinations are none
            held += 1
            for client in (Client("ann", ann, asks=True), Client("bob", bob, asks=False)):
                wrong += [f"{client.name}: {one}\n{text}" for one in await differences(keeper, client)]
    assert held >= 5
    assert not wrong, "\n".join(wrong)
