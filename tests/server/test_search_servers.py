"""`search_servers` and its kin as clients and people use them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import registry as r
from cli_shell import Shell, shell_in
from toolscore.runners.spec import Installation, ServerSpec, SourceKind
from toolscore.server.app import open_library
from toolscore.server.call import Call
from toolscore.server.home import Home, prepare
from toolscore.server.own_tools import OWN_TOOLS
from toolscore.server.settings import SettingsError, load
from toolscore.server.toolset import ToolSet
from toolscore.tools.caller import CALL, OWNER, Caller
from toolscore.tools.rows import ServerRow


@asynccontextmanager
async def opened(folder: Path, *sources: str) -> AsyncIterator[ToolSet]:
    settings = load(
        {"catalog.sources": ",".join(sources), "sandbox.enabled": "false"}, home=str(folder), environ={}
    ).settings
    home = Home.at(settings.home)
    prepare(home)
    async with open_library(settings, home, start=False) as toolset:
        yield toolset


async def called(toolset: ToolSet, tool: str, caller: Caller = OWNER, **arguments: Any) -> Any:
    result = await toolset.call(tool, arguments, Call(caller=caller))
    return result if result.get("isError") else result["structuredContent"]


def mail() -> dict[str, Any]:
    package = {
        "registryType": "pypi",
        "identifier": "example-mail",
        "version": "2.1.0",
        "transport": {"type": "stdio"},
        "packageArguments": [{"type": "named", "name": "--inbox", "value": "main"}],
        "environmentVariables": [
            {"name": "MAIL_TOKEN", "description": "Of your account", "isRequired": True, "isSecret": True},
            {"name": "MAIL_FOLDER", "default": "INBOX"},
        ],
    }
    return r.item(
        "io.example/mail",
        "2.1.0",
        title="Example Mail",
        description="Read and send e-mail",
        packages=[package],
        repository={"url": "https://git.example/mail", "source": "github"},
        meta={
            "com.example/more": {
                "license": "Apache-2.0",
                "tools": [{"name": "send_mail", "description": "Send"}],
            }
        },
    )


async def test_an_empty_catalog_says_what_to_do_and_makes_no_file(tmp_path: Path) -> None:
    async with opened(tmp_path) as toolset:
        found = await called(toolset, "search_servers", query="send an e-mail")
        assert found["servers"] == []
        assert "sync_catalog" in found["note"]
        assert not (tmp_path / "catalog.db").exists()


async def test_a_result_says_what_installing_would_do_and_the_call_to_make(
    registry: r.Registry, tmp_path: Path
) -> None:
    registry.items = [mail(), *r.items(30)]
    async with opened(tmp_path, registry.url) as toolset:
        (source,) = (await called(toolset, "sync_catalog"))["sources"]
        assert (source["complete"], source["servers"], source["new"]) == (True, 31, 31)
        found = (await called(toolset, "search_servers", query="send an e-mail", limit=1))["servers"]
        assert found == [
            {
                "name": "io.example/mail",
                "title": "Example Mail",
                "description": "Read and send e-mail",
                "version": "2.1.0",
                "score": found[0]["score"],
                "why": found[0]["why"],
                "tools": ["send_mail"],
                "fetches": "pypi:example-mail@2.1.0",
                "arguments": "--inbox main",
                "needs": [
                    {
                        "name": "MAIL_TOKEN",
                        "description": "Of your account",
                        "secret": True,
                        "required": True,
                    },
                    {"name": "MAIL_FOLDER", "default": "INBOX"},
                ],
                "licence": "Apache-2.0",
                "published": "2025-11-01",
                "updated": "2025-11-01",
                "source_code": "https://git.example/mail",
                "install": 'install_server(source="registry:io.example/mail@2.1.0", env={"MAIL_TOKEN": "..."})',
            }
        ]
        assert 0 < found[0]["score"] <= 1
        assert "mail" in found[0]["why"]
        shown = await called(toolset, "catalog_entry", name="registry:io.example/mail@2.1.0")
        assert (shown["server"]["name"], shown["versions"]) == ("io.example/mail", ["2.1.0"])
        assert shown["source"] == registry.url


async def test_a_server_that_cannot_be_installed_here_is_shown_with_the_reason(
    registry: r.Registry, tmp_path: Path
) -> None:
    nuget = {"registryType": "nuget", "identifier": "Example.Mail", "version": "1.0.0"}
    registry.items = [r.item("io.example/mail", packages=[nuget], status="deprecated")]
    async with opened(tmp_path, registry.url) as toolset:
        await called(toolset, "sync_catalog")
        (found,) = (await called(toolset, "search_servers", query="mail"))["servers"]
        assert "install" not in found
        assert found["status"] == "deprecated"
        assert "nuget" in found["notes"][0]


async def test_what_is_installed_is_marked_and_its_tools_outlast_it(
    registry: r.Registry, tmp_path: Path
) -> None:
    registry.items = [mail()]
    spec = ServerSpec(command="x")
    made = Installation(
        server_id="post",
        kind=SourceKind.PYPI,
        source="pypi:example-mail",
        spec=spec,
        package="Example.Mail",
    )
    tool = {"name": "unsubscribe", "description": "Leave newsletters", "inputSchema": {"type": "object"}}
    async with opened(tmp_path, registry.url) as toolset:
        await called(toolset, "sync_catalog")
        await toolset.library.add(ServerRow("post", "agent", True, made), [tool])
        (found,) = (await called(toolset, "search_servers", query="e-mail"))["servers"]
        assert found["installed"] == "post"
        await toolset.library.remove("post")
    async with opened(tmp_path, registry.url) as toolset:
        (found,) = (await called(toolset, "search_servers", query="unsubscribe from newsletters"))["servers"]
        assert found["tools"][0] == "unsubscribe"
        assert "installed" not in found


async def test_nothing_that_fits_and_no_words_are_answered_with_what_to_do(
    registry: r.Registry, tmp_path: Path
) -> None:
    registry.items = [mail()]
    async with opened(tmp_path, registry.url) as toolset:
        await called(toolset, "sync_catalog")
        found = await called(toolset, "search_servers", query="zzqx")
        assert found["servers"] == []
        assert "No server of the catalog fits" in found["note"]
        refused = await called(toolset, "search_servers", query=' "" ')
        assert refused["_meta"]["toolscore/outcome"] == "invalid_arguments"
        refused = await called(toolset, "catalog_entry", name="io.example/mial")
        assert refused["_meta"]["toolscore/outcome"] == "unknown_server"
        assert "io.example/mail" in refused["content"][0]["text"]


async def test_a_result_stays_within_the_tokens_a_caller_gives_it(
    registry: r.Registry, tmp_path: Path
) -> None:
    registry.items = []
    for number in range(30):
        one = mail()
        one["server"] |= {
            "name": f"io.example/mail-{number:02}",
            "description": "Read and send e-mail. " * 20,
        }
        registry.items.append(one)
    async with opened(tmp_path, registry.url) as toolset:
        await called(toolset, "sync_catalog")
        for most in (100, 300, 1500):
            found = await called(toolset, "search_servers", query="e-mail", limit=25, max_tokens=most)
            assert len(json.dumps(found, separators=(",", ":"), ensure_ascii=False)) / 4 <= most
            assert "max_tokens" in found["note"]
            sizes = [len(one) for one in found["servers"]]
            assert sizes == sorted(sizes, reverse=True)
        assert len(found["servers"]) == 25
        assert found["servers"][0]["needs"][1]["name"] == "MAIL_FOLDER"
        assert "install" not in found["servers"][-1]
        default = await called(toolset, "search_servers", query="e-mail", limit=25)
        assert default == found
        five = await called(toolset, "search_servers", query="e-mail")
        assert "note" not in five
        assert all("install" in one for one in five["servers"])
        all_of_it = await called(toolset, "search_servers", query="e-mail", limit=25, max_tokens=50_000)
        assert all("arguments" in one for one in all_of_it["servers"])


async def test_an_older_version_is_shown_with_what_it_asks_for(registry: r.Registry, tmp_path: Path) -> None:
    registry.items = [r.item("io.example/mail", "1.0.0", latest=False), mail()]
    async with opened(tmp_path, registry.url) as toolset:
        await called(toolset, "sync_catalog")
        shown = await called(toolset, "catalog_entry", name="io.example/mail@1.0.0")
        assert shown["server"]["version"] == "1.0.0"
        assert shown["versions"] == ["2.1.0", "1.0.0"]
        registry.fault = r.gone
        refused = await called(toolset, "catalog_entry", name="io.example/mail", version="0.1")
        assert "or take registry:io.example/mail@2.1.0" in refused["content"][0]["text"]


async def test_an_entry_is_said_to_be_of_the_source_it_is_from(registry: r.Registry, tmp_path: Path) -> None:
    registry.items = [r.item("io.two/tool", "1.0.0", description="Another one")]
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps([r.item("io.two/tool", "1.0.0", description="Mine")]))
    async with opened(tmp_path, registry.url, str(mine)) as toolset:
        await called(toolset, "sync_catalog", source=str(mine))
        await called(toolset, "sync_catalog", source=registry.url)
        found = await called(toolset, "catalog_entry", name="io.two/tool")
        assert found["server"]["description"] == "Another one"
        assert (found["source"], found["versions"]) == (registry.url, ["1.0.0"])


async def test_a_relative_source_is_where_the_caller_is(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mail.json").write_text(json.dumps(mail()))
    async with opened(tmp_path / "home") as toolset:
        for given, cwd in (("./there", tmp_path), ("mail.json", tmp_path / "there")):
            caller = replace(OWNER, cwd=str(cwd))
            (done,) = (await called(toolset, "sync_catalog", caller, source=given))["sources"]
            assert (done["source"], done["servers"]) == (str(cwd / given), 1)
            forgotten = await called(toolset, "sync_catalog", caller, source=given, forget=True)
            assert str(cwd / given) in forgotten["note"]


async def test_only_who_may_manage_fills_the_catalog(registry: r.Registry, tmp_path: Path) -> None:
    guest = Caller("guest", "http", 1, frozenset({CALL}))
    async with opened(tmp_path, registry.url) as toolset:
        refused = await called(toolset, "sync_catalog", guest, source="/etc")
        assert refused["_meta"]["toolscore/outcome"] == "refused"
        assert "source: /etc" in refused["content"][0]["text"]
        assert registry.requests == []


async def test_a_sync_of_which_nothing_came_is_an_error_and_one_of_several_is_told(
    registry: r.Registry, tmp_path: Path
) -> None:
    registry.items = r.items(2)
    registry.fault = r.garbage
    async with opened(tmp_path, registry.url, str(tmp_path / "nowhere")) as toolset:
        refused = await called(toolset, "sync_catalog")
        assert refused["_meta"]["toolscore/outcome"] == "unavailable"
        assert "not valid JSON" in refused["content"][0]["text"]
        assert "no file or folder" in refused["content"][0]["text"]
        registry.fault = None
        done = (await called(toolset, "sync_catalog"))["sources"]
        assert [one["problem"] is None for one in done] == [True, False]
        listed = (await called(toolset, "catalog_sources"))["sources"]
        assert [(one["servers"], one["unfinished"]) for one in listed] == [(2, False), (0, False)]


def test_the_listed_tool_is_small_and_what_changes_something_says_so() -> None:
    tools = {tool.name: tool for tool in OWN_TOOLS}
    assert len(json.dumps(tools["search_servers"].definition, separators=(",", ":"))) / 4 < 250
    assert not tools["sync_catalog"].listed
    assert "readOnlyHint" not in tools["sync_catalog"].hints


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("catalog.sources", "ftp://x.example", "neither"),
        ("catalog.sources", "https://me:pw@x.example", "no user"),
        ("catalog.headers", "https://x.example Authorization: Bearer abc", "written out"),
        ("catalog.headers", "Authorization: Bearer ${X}", "of the form"),
        ("catalog.sync_every", "-1", "hours"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, key: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({key: value}, home=str(tmp_path), environ={})
    assert said in str(caught.value.problems)


# --- the command line ------------------------------------------------------------------------------------------


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = shell_in(tmp_path)
    yield shell
    shell("stop", "--force")


def test_a_person_fills_searches_and_empties_the_catalog(shell: Shell) -> None:
    done = shell("catalog", "search", "mail")
    assert (done.returncode, done.stdout) == (0, "")
    assert "The catalog is empty" in done.stderr
    assert shell("catalog", "sources").stdout.startswith("https://registry.modelcontextprotocol.io")
    assert shell("catalog", "show", "io.example/mail").returncode == 4
    assert not shell.home.exists()

    assert shell("start").returncode == 0
    (shell.cwd / "entries").mkdir()
    (shell.cwd / "entries" / "mail.json").write_text(json.dumps(mail()))
    done = shell("catalog", "sync", "entries")
    assert done.returncode == 0, done.stderr
    assert "entries: 1 servers (1 new) in" in done.stdout
    done = shell("catalog", "search", "send", "e-mail")
    assert done.stdout.startswith("io.example/mail 2.1.0\n  Read and send e-mail\n")
    assert "  needs: MAIL_TOKEN (required, secret): Of your account\n" in done.stdout
    assert "  install: toolscore install registry:io.example/mail --give MAIL_TOKEN=...\n" in done.stdout
    done = shell("catalog", "show", "io.example/mail")
    assert "versions: 2.1.0" in done.stdout
    assert "  install: toolscore install registry:io.example/mail --give MAIL_TOKEN=...\n" in done.stdout
    old = json.dumps(mail()).replace("2.1.0", "1.0.0").replace('"isLatest": true', '"isLatest": false')
    (shell.cwd / "entries" / "old.json").write_text(old)
    assert shell("catalog", "sync", "entries").returncode == 0
    done = shell("catalog", "show", "io.example/mail@1.0.0")
    assert (
        "  install: toolscore install registry:io.example/mail@1.0.0 --give MAIL_TOKEN=...\n" in done.stdout
    )
    found = shell.document("catalog", "search", "e-mail")
    assert found["servers"][0]["fetches"] == "pypi:example-mail@2.1.0"
    done = shell("catalog", "sync", "nowhere")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no file or folder" in done.stderr
    assert shell("catalog", "sync", "entries", "--forget").returncode == 0
    assert "The catalog is empty" in shell("catalog", "search", "mail").stderr


@pytest.mark.parametrize(
    "line",
    [
        ("search",),
        ("show",),
        ("sync", "a", "b"),
        ("sync", "--forget"),
        ("sources", "x"),
        ("show", "x", "--full"),
    ],
)
def test_a_line_that_is_wrong_is_refused(shell: Shell, line: tuple[str, ...]) -> None:
    assert shell("catalog", *line).returncode == 2
