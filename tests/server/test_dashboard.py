"""The dashboard without a browser: how it is put together, served and guarded, and what of it an MCP App gets."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message as Head
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from listening import INFO, Raw, Serving, raw, register, serving
from toolscore.server.dashboard.app import MIME_TYPE, URI
from toolscore.server.dashboard.page import FIRST, PartError, built, bundle
from toolscore.server.home import Home
from toolscore.server.tokens import Tokens
from toolscore.tools.caller import CALL

PARTS = resources.files("toolscore.server.dashboard")
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
APPS = {"extensions": {"io.modelcontextprotocol/ui": {"mimeTypes": [MIME_TYPE]}}}
POLICY = """
[[rule]]
who = "ann"
tools = ["toolscore__list_tools", "toolscore__list_servers", "toolscore__open_dashboard"]
answer = "deny"
"""
SCHEMAS = Path(__file__).parents[1] / "dashboard_schemas.mjs"
LIMIT = 300_000
"""Bytes the page may weigh."""


def scripts() -> dict[str, str]:
    return {one.name: one.read_text("utf-8") for one in PARTS.iterdir() if one.name.endswith(".js")}


@pytest.fixture(scope="module")
def toolscore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    home = tmp_path_factory.mktemp("dashboard") / "home"
    register(home, "one", "many-tools=1200")
    register(home, "two")
    (home / "policy.toml").write_text(POLICY)
    with serving(home, "ws://127.0.0.1:0/mcp", "http://127.0.0.1:0/a/b", options=()) as one:
        yield one


def fetched(url: str, method: str = "GET", **headers: str) -> tuple[int, Head, bytes]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, method=method, headers=names)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def roots(one: Serving) -> list[str]:
    return [f"http://{url.split('/')[2]}/" for url in one.urls]


def config(page: bytes) -> dict[str, Any]:
    found = re.search(r'<meta name="toolscore" content="([^"]*)">', page.decode())
    assert found is not None
    told: dict[str, Any] = json.loads(found[1].replace("&quot;", '"'))
    return told


# --- served


def test_a_browser_is_given_the_page_and_a_program_the_facts(toolscore: Serving) -> None:
    expected = [{"transport": "ws", "path": "mcp"}, {"transport": "http", "path": "a/b"}]
    for root, where in zip(roots(toolscore), expected, strict=True):
        status, head, body = fetched(root, Accept=BROWSER)
        assert (status, head["Content-Type"]) == (200, "text/html; charset=utf-8")
        told = config(body)
        assert where.items() <= told.items()
        assert told["token"] is True
        assert toolscore.token not in body.decode()
        for accepted in ("*/*", "application/json", "text/htmlx"):
            status, head, body = fetched(root, Accept=accepted)
            assert (status, head["Content-Type"]) == (200, "application/json")
            assert json.loads(body)["name"] == "toolscore"


def test_what_guards_the_page_lets_it_run_and_load_nothing_else(toolscore: Serving) -> None:
    for root in roots(toolscore):
        _status, head, body = fetched(root, Accept=BROWSER)
        page = body.decode()
        (script,) = re.findall(r'<script type="module">(.*?)</script>', page, re.DOTALL)
        (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
        policy = dict(part.split(" ", 1) for part in head["Content-Security-Policy"].split("; "))
        for kind, text in (("script-src", script), ("style-src", style)):
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert policy.pop(kind) == f"'sha256-{digest}'"
        assert policy == {
            "default-src": "'none'",
            "connect-src": "'self'",
            "img-src": "data:",
            "media-src": "data:",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
            "require-trusted-types-for": "'script'",
            "trusted-types": "'none'",
        }
        assert head["X-Frame-Options"] == "DENY"
        assert head["X-Content-Type-Options"] == "nosniff"
        assert head["Referrer-Policy"] == "no-referrer"
        assert len(head.get_all("Content-Type") or []) == 1


def test_the_page_is_packed_for_who_unpacks_it_and_sent_once(toolscore: Serving) -> None:
    for root in roots(toolscore):
        _status, head, plain = fetched(root, Accept=BROWSER)
        assert head["Content-Encoding"] is None
        assert "Accept" in head["Vary"]
        _status, packed, body = fetched(root, Accept=BROWSER, Accept_Encoding="br, gzip;q=0.5")
        assert packed["Content-Encoding"] == "gzip"
        assert int(packed["Content-Length"]) == len(body)
        assert gzip.decompress(body) == plain
        assert fetched(root, Accept=BROWSER, Accept_Encoding="gzip;q=0")[1]["Content-Encoding"] is None
        status, again, body = fetched(root, Accept=BROWSER, If_None_Match=f'"other", {head["ETag"]}')
        assert (status, body, again["ETag"]) == (304, b"", head["ETag"])
        assert "Content-Security-Policy" in again
        status, told, body = fetched(root, "HEAD", Accept=BROWSER)
        assert (status, body, told["Content-Length"]) == (200, b"", str(len(plain)))
        assert fetched(root, "POST", Accept=BROWSER)[0] == 405


async def test_other_pages_and_other_names_of_this_host_are_kept_out_as_before(toolscore: Serving) -> None:
    for root, url in zip(roots(toolscore), toolscore.urls, strict=True):
        assert fetched(root, Accept=BROWSER, Origin="https://elsewhere.example")[0] == 403
        assert fetched(root, Accept=BROWSER, Origin="null")[0] == 403
        assert fetched(root, Accept=BROWSER, Host="elsewhere.example")[0] == 421
        assert fetched(root, Accept=BROWSER, Origin=root.rstrip("/"))[0] == 200
        if url.startswith("ws"):
            line = f"{url}?token={toolscore.token}"
            async with raw(line, origin=root.rstrip("/")) as own:
                assert (await own.request("ping"))["result"] == {}
            with pytest.raises(InvalidStatus) as refused:
                async with raw(line, origin="https://elsewhere.example"):
                    pass
            assert refused.value.response.status_code == 403


def test_without_tokens_the_page_asks_for_none() -> None:
    assert config(built("ws", "/mcp", token=False).text)["token"] is False


# --- put together


def test_the_page_is_small_and_asks_no_other_host() -> None:
    page = built("ws", "/mcp").text
    assert len(page) < LIMIT
    found = set(re.findall(r"(?:https?|wss?):?//[^\s\"'`)]*", page.decode()))
    assert found <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\bon(click|load|error|input|submit)\s*=", page.decode()), "no inline handlers"


def test_what_servers_say_never_becomes_markup() -> None:
    ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc"
    for name, text in scripts().items():
        assert not re.search(ways, text), name


def test_every_module_is_part_of_the_page_and_of_a_size_to_read() -> None:
    script = bundle(FIRST, scripts().__getitem__)
    for name, text in scripts().items():
        assert f"const ${name.removesuffix('.js')} = " in script, name
        assert text.count("\n") < 400, name


def test_the_script_is_one_that_an_engine_understands() -> None:
    if (node := shutil.which("node")) is None:
        pytest.skip("there is no node to look at the script with")
    script = bundle(FIRST, scripts().__getitem__)
    done = subprocess.run(
        [node, "--input-type=module", "--check"], input=script, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_schemas_are_read_as_they_are_meant(tmp_path: Path) -> None:
    if (node := shutil.which("node")) is None:
        pytest.skip("there is no node to run a module with")
    (tmp_path / "schema.mjs").write_text(scripts()["schema.js"])
    shutil.copy(SCHEMAS, tmp_path)
    done = subprocess.run([node, tmp_path / SCHEMAS.name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_modules_are_put_into_the_order_of_their_needs_each_in_its_own_scope() -> None:
    parts = {
        "a.js": 'import { one, two as other } from "./b.js";\nconst hidden = 1;\nresult = [one, other, hidden];',
        "b.js": "const hidden = 2;\nexport const one = hidden;\nexport function two() {}",
    }
    script = bundle("a", parts.__getitem__)
    assert script.index("const $b") < script.index("const $a")
    assert "const { one, two: other } = $b;" in script
    assert "return { one, two };" in script


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('import { b } from "./a.js";', "circle: a > a"),
        ('import * as b from "./b.js";', "not understood"),
        ("export let count = 0;", "not understood"),
        ("export default 1;", "not understood"),
        ('const end = "</script>";', "end the script"),
    ],
)
def test_a_module_that_cannot_be_put_in_is_refused(text: str, why: str) -> None:
    with pytest.raises(PartError, match=re.escape(why)):
        bundle("a", {"a.js": text}.__getitem__)


def test_every_text_is_there_in_both_languages() -> None:
    entry = re.compile(r'^  "([\w.]+)": \["((?:[^"\\]|\\.)+)", "((?:[^"\\]|\\.)+)"\],$', re.MULTILINE)
    used = re.compile(r'\bt\("([\w.]+)"')
    every = "".join(scripts().values())
    known = {key: (english, chinese) for key, english, chinese in entry.findall(every)}
    assert set(used.findall(every)) <= known.keys()
    # Keys that are chosen among several, or kept in a table: whatever is written like one.
    families = {key.partition(".")[0] for key in known if "." in key}
    written = {key for key in re.findall(r'"((?:\w+\.)+\w+)"', every) if key.partition(".")[0] in families}
    assert written <= known.keys()
    for before in set(re.findall(r"\bt\(`([\w.]+\.)\$\{", every)):
        assert any(key.startswith(before) for key in known), before
    lines = re.findall(r'^  "[\w.]+": \[.*$', every, re.MULTILINE)
    assert len(lines) == len(known), "an entry is not on one line, is there twice, or lacks a language"
    for key, (english, chinese) in known.items():
        assert sorted(re.findall(r"\{\w+\}", english)) == sorted(re.findall(r"\{\w+\}", chinese)), key


# --- as an MCP App, and what it reads


async def introduced(line: Raw, capabilities: dict[str, Any]) -> None:
    await line.request("initialize", protocolVersion="2025-11-25", capabilities=capabilities, clientInfo=INFO)
    await line.send({"jsonrpc": "2.0", "method": "notifications/initialized"})


async def listed(line: Raw) -> dict[str, dict[str, Any]]:
    tools = (await line.request("tools/list"))["result"]["tools"]
    return {tool["name"]: tool for tool in tools}


async def test_hosts_of_apps_are_shown_the_tool_and_given_the_page(toolscore: Serving) -> None:
    async with raw(f"{toolscore.url}?token={toolscore.token}", handshake=False) as host:
        await introduced(host, APPS)
        tool = (await listed(host))["open_dashboard"]
        assert tool["_meta"]["ui"]["resourceUri"] == URI
        resources_ = (await host.request("resources/list"))["result"]["resources"]
        assert [one["mimeType"] for one in resources_ if one["uri"] == URI] == [MIME_TYPE]
        (page,) = (await host.request("resources/read", uri=URI))["result"]["contents"]
        assert page["mimeType"] == MIME_TYPE
        assert page["_meta"]["ui"]["csp"] == {"connectDomains": [], "resourceDomains": []}
        assert config(page["text"].encode())["transport"] == "app"
        done = await host.request("tools/call", name="open_dashboard", arguments={})
        told = done["result"]["structuredContent"]
        assert told["servers"] >= 2
        assert told["failed"] == []
        assert told["tools"] > 1200


async def test_who_shows_no_apps_is_not_shown_the_tool_but_may_call_it(toolscore: Serving) -> None:
    for capabilities in ({}, {"extensions": {"io.modelcontextprotocol/ui": {"mimeTypes": ["text/x"]}}}):
        async with raw(f"{toolscore.url}?token={toolscore.token}", handshake=False) as client:
            await introduced(client, capabilities)
            tools = await listed(client)
            assert "open_dashboard" not in tools
            assert len(tools) <= 10
            resources_ = (await client.request("resources/list"))["result"]["resources"]
            assert URI not in [one["uri"] for one in resources_]
            arguments = {"tool": "toolscore__open_dashboard"}
            done = await client.request("tools/call", name="execute_tool", arguments=arguments)
            assert done["result"]["structuredContent"]["servers"] >= 2


async def test_the_tools_are_read_a_thousand_at_a_time(toolscore: Serving) -> None:
    async with raw(f"{toolscore.url}?token={toolscore.token}") as client:
        names: list[str] = []
        uri, pages = "toolscore://tools", 0
        while uri:
            (said,) = (await client.request("resources/read", uri=uri))["result"]["contents"]
            page = json.loads(said["text"])
            names += [tool["name"] for tool in page["tools"]]
            assert all(tool["score"] is None for tool in page["tools"])
            uri = f"toolscore://tools?after={page['next']}" if page["next"] else ""
            pages += 1
        assert pages == 2
        assert names == sorted(set(names))
        assert len(names) == page["total"]
        (said,) = (await client.request("resources/read", uri="toolscore://tools?server=two"))["result"][
            "contents"
        ]
        assert {tool["server"] for tool in json.loads(said["text"])["tools"]} == {"two"}


async def test_the_policy_holds_for_the_tools_and_for_the_app(toolscore: Serving) -> None:
    tokens = Tokens(Home.at(toolscore.home), frozenset({CALL}))
    token = tokens.create("ann", frozenset({CALL}))
    async with raw(f"{toolscore.url}?token={token}", handshake=False) as ann:
        await introduced(ann, APPS)
        for name in ("tools", "usage", "groups", "installs"):
            refused = await ann.request("resources/read", uri=f"toolscore://{name}")
            assert "policy" in refused["error"]["message"], name
        done = await ann.request("tools/call", name="open_dashboard", arguments={})
        assert done["result"]["_meta"]["toolscore/outcome"] == "unknown_tool"
        assert "open_dashboard" not in await listed(ann)
