"""The catalog from files and folders of server.json entries, and the tools of servers that were once here."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import registry as r
from toolscore.runners.spec import Installation, ServerSpec, SourceKind
from toolscore.tools.catalog.catalog import Catalog, CatalogOptions
from toolscore.tools.catalog.entry import EntryError, parse
from toolscore.tools.catalog.extras import identities, identities_of, licence, tools, words
from toolscore.tools.catalog.record import newest
from toolscore.tools.catalog.seen import LARGEST, kept
from toolscore.tools.catalog.sync import Synced
from toolscore.tools.rows import ServerRow
from toolscore.tools.tool import Tool


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[Catalog]:
    catalog = Catalog(tmp_path / "catalog.db", CatalogOptions((str(tmp_path / "entries"),)))
    yield catalog
    await catalog.aclose()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "entries"
    folder.mkdir()
    return folder


async def synced(catalog: Catalog, source: str | None = None) -> Synced:
    (done,) = await catalog.sync(source)
    return done


async def found(catalog: Catalog, query: str) -> list[str]:
    return [offer.entry.name for offer in await catalog.search(query)]


# --- files ---------------------------------------------------------------------------------------------------


async def test_a_folder_may_hold_every_form_and_files_that_are_something_else(
    catalog: Catalog, folder: Path
) -> None:
    bare = r.item("io.example/bare")["server"]
    (folder / "server.json").write_text(json.dumps(bare, indent=2))
    (folder / "list.json").write_text(json.dumps([r.item("io.example/one"), r.item("io.example/two")]))
    below = folder / "a" / "b"
    below.mkdir(parents=True)
    (below / "reply.JSON").write_text(json.dumps({"servers": [r.item("io.example/three")], "metadata": {}}))
    lines = "\n".join(json.dumps(r.item(f"io.example/line-{number}")) for number in range(3))
    (below / "lines.jsonl").write_text(lines + "\n\n")
    (below / "lines.json").write_text(lines.replace("line-", "other-"))
    (folder / "package.json").write_text('{"name": "leftpad", "version": "1.0.0", "description": "pads"}')
    (folder / "notes.txt").write_text("nothing")
    (folder / ".hidden.json").write_text("nothing")
    os.symlink(folder, folder / "a" / "round")
    done = await synced(catalog)
    assert (done.complete, done.servers, done.pages, done.skipped) == (True, 10, 6, 1)
    assert "no server.json" in done.reasons[0]
    assert "(package.json)" in done.reasons[0]


async def test_a_file_that_is_half_written_keeps_what_it_gave_and_holds_nobody_up(
    catalog: Catalog, folder: Path
) -> None:
    (folder / "a.json").write_text(json.dumps([r.item("io.example/one"), r.item("io.example/two")]))
    (folder / "b.json").write_text(json.dumps(r.item("io.example/three")))
    assert (await synced(catalog)).servers == 3
    (folder / "a.json").write_text(json.dumps([r.item("io.example/one"), r.item("io.example/two")])[:-40])
    (folder / "b.json").write_text(json.dumps(r.item("io.example/four")))
    done = await synced(catalog)
    assert (done.complete, done.servers, done.skipped) == (True, 3, 1)
    assert "half written" in done.reasons[0]
    assert await catalog.find("io.example/two") is not None
    assert await catalog.find("io.example/three") is None
    (folder / "a.json").write_text(json.dumps(r.item("io.example/two")))
    done = await synced(catalog)
    assert (done.servers, done.counts.removed) == (2, 1)


async def test_lines_of_which_one_is_half_written_give_the_others(catalog: Catalog, folder: Path) -> None:
    lines = [json.dumps(r.item(f"io.example/line-{number}")) for number in range(3)]
    (folder / "x.jsonl").write_text("\n".join(lines)[:-30])
    done = await synced(catalog)
    assert (done.servers, done.skipped) == (2, 1)


async def test_one_file_is_a_source_too_and_one_that_is_gone_keeps_what_it_gave(
    catalog: Catalog, folder: Path
) -> None:
    file = folder / "mine.json"
    file.write_text(json.dumps(r.item("io.example/mine")))
    assert (await synced(catalog, f"file://{file}")).servers == 1
    file.unlink()
    done = await synced(catalog, str(file))
    assert done.problem is not None
    assert "no file or folder" in done.problem
    assert await catalog.find("io.example/mine") is not None
    assert [(one.configured, one.servers) for one in await catalog.sources()] == [(True, 0), (False, 1)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no .json file"),
        ("", "half written"),
        ("[" * 100_000, "half written"),
        ("5", "no entry that can be read"),
    ],
)
async def test_a_folder_without_an_entry_says_so(
    catalog: Catalog, folder: Path, content: str | None, said: str
) -> None:
    if content is not None:
        (folder / "x.json").write_text(content)
    done = await synced(catalog)
    assert said in "; ".join([done.problem or "", *done.reasons])


# --- entries ---------------------------------------------------------------------------------------------------


def test_what_publishers_say_besides_is_found_by_its_name() -> None:
    meta = {
        "com.example/catalog": {"Categories": ["time", "zones"], "licence": {"spdx_id": "MIT"}},
        "io.modelcontextprotocol.registry/publisher-provided": {
            "io.example": {"image": {"tools": ["now", {"name": "later", "description": "In a while"}, 5]}}
        },
    }
    entry = parse(r.item(meta=meta))
    assert words(entry) == ["time", "zones"]
    assert licence(entry) == "MIT"
    assert [tool["name"] for tool in tools(entry)] == ["now", "later"]


def test_a_package_is_the_same_however_it_is_written() -> None:
    packages: list[dict[str, Any]] = [
        {"registryType": "pypi", "identifier": "Mcp_Server.Time"},
        {"registryType": "npm", "identifier": "@Scope/name"},
        {"registryType": "docker", "identifier": "example/image:1.2@sha256:00"},
        {"registryType": "oci", "identifier": "ghcr.io/example/image:1.2"},
    ]
    remotes = [
        {"type": "sse", "url": "https://Host.example:443/sse/?key=1"},
        {"type": "sse", "url": "http://[::1"},
    ]
    assert identities(parse(r.item("io.X/y", packages=packages, remotes=remotes))) == [
        "registry:io.x/y",
        "pypi:mcp-server-time",
        "npm:@scope/name",
        "oci:docker.io/example/image",
        "oci:ghcr.io/example/image",
        "https://host.example:443/sse",
    ]
    assert identities_of(installed("pypi:mcp-server-time@1.0", SourceKind.PYPI, "mcp_server_time")) == [
        "pypi:mcp-server-time"
    ]
    assert identities_of(installed("registry:io.X/y@2", SourceKind.NPM, "@scope/name")) == [
        "registry:io.x/y",
        "npm:@scope/name",
    ]
    assert identities_of(installed("command: mine", SourceKind.COMMAND)) == []
    assert identities_of(installed("mine", SourceKind.REGISTERED, url="http://localhost:1/mcp?token=2")) == []


def installed(
    source: str, kind: SourceKind, package: str | None = None, url: str | None = None
) -> Installation:
    spec = ServerSpec(url=url) if url else ServerSpec(command="x")
    return Installation(server_id="mine", kind=kind, source=source, spec=spec, package=package)


@pytest.mark.parametrize(
    "field",
    [
        {"packages": [{"registryType": "npm", "identifier": "x", "packageArguments": [{"type": "named"}]}]},
        {"packages": [{"registryType": "npm", "identifier": "x" * 3000}]},
        {"packages": [{"registryType": "npm", "identifier": "x"}] * 33},
        {"packages": "npm"},
        {"remotes": [{"type": "sse", "url": "https://x\ny"}], "packages": None},
        {"version": "1 0"},
        {"version": ["1"]},
    ],
)
def test_what_a_command_is_made_of_is_taken_whole_or_not_at_all(field: dict[str, Any]) -> None:
    with pytest.raises(EntryError):
        parse(r.item(**field))


def test_what_only_people_read_never_loses_a_server() -> None:
    odd: dict[str, Any] = {
        "title": 5,
        "description": "x" * 100_000,
        "icons": [5, {"src": "x" * 9000}],
        "websiteUrl": ["x"],
    }
    entry = parse(r.item(**odd, repository={}, _meta=None, published="soon", updated=7, status="new"))
    assert (entry.title, len(entry.description), entry.icons, entry.website_url) == ("", 2000, (), "")
    assert (entry.published_at, entry.updated_at, entry.status, entry.repository) == (
        None,
        None,
        "active",
        None,
    )


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([("1.9.0", "active", 0, None), ("1.10.0", "active", 0, None)], "1.10.0"),
        ([("1.9.0", "active", 1, None), ("1.10.0", "active", 0, None)], "1.9.0"),
        ([("2.0.0", "deleted", 1, None), ("1.0.0", "deprecated", 0, None)], "1.0.0"),
        ([("2.0.0-rc1", "active", 0, None), ("2.0.0", "active", 0, None)], "2.0.0"),
        ([("latest", "active", 0, None), ("v1", "active", 0, None)], "v1"),
        ([("a", "active", 0, "2025-01-01"), ("b", "active", 0, "2024-01-01")], "a"),
        ([("9" * 4000, "active", 0, None), ("1", "active", 0, None)], "1"),
        ([("1", "deleted", 1, None)], None),
    ],
)
def test_the_newest_version_is_what_the_registry_says_or_the_greatest(
    rows: list[tuple[str, str, int, str | None]], best: str | None
) -> None:
    assert newest(rows) == best


async def test_a_folder_may_be_named_by_its_address(tmp_path: Path, catalog: Catalog) -> None:
    folder = tmp_path / "my entries"
    folder.mkdir()
    (folder / "x.json").write_text(json.dumps(r.item("io.example/one")))
    done = await synced(catalog, folder.as_uri())
    assert (done.source, done.servers) == (str(folder), 1)
    assert await catalog.forget(f"file://localhost{folder.as_uri()[7:]}") == 1


# --- tools once seen ---------------------------------------------------------------------------------------------


def row(package: str, name: str = "mine") -> ServerRow:
    return ServerRow(name, "agent", True, installed(f"pypi:{package}", SourceKind.PYPI, package))


def tool(name: str, description: str, server: str = "mine") -> Tool:
    definition = {"name": name, "description": description, "inputSchema": {"type": "object"}}
    return Tool(f"{server}__{name}", server, name, definition, "")


async def written(catalog: Catalog) -> None:
    await catalog._noting.wait()


async def test_tools_that_were_seen_once_make_their_server_found_also_when_it_is_gone(
    catalog: Catalog, folder: Path
) -> None:
    (folder / "x.json").write_text(
        json.dumps([r.item("io.example/swiss-knife", description="Many things"), r.item("io.example/other")])
    )
    await synced(catalog)
    assert await found(catalog, "compare two spreadsheets") == []
    catalog.listed(row("Swiss_Knife"), [tool("sheet_diff", "Compare spreadsheets cell by cell")])
    await written(catalog)
    (offer,) = await catalog.search("compare two spreadsheets")
    assert (offer.entry.name, offer.tools, offer.known) == (
        "io.example/swiss-knife",
        ("sheet_diff",),
        ("sheet_diff",),
    )
    assert offer.hits
    await catalog.aclose()
    again = Catalog(catalog._path)
    assert (await again.search("compare two spreadsheets"))[0].tools == ("sheet_diff",)
    await again.aclose()


async def test_tools_that_were_seen_before_the_entry_came_count_too(catalog: Catalog, folder: Path) -> None:
    catalog.listed(row("late"), [tool("sheet_diff", "Compare spreadsheets")])
    await written(catalog)
    assert await found(catalog, "spreadsheets") == []
    (folder / "x.json").write_text(json.dumps(r.item("io.example/late")))
    await synced(catalog)
    assert await found(catalog, "spreadsheets") == ["io.example/late"]


def test_what_is_kept_of_tools_is_bounded_and_hostile_ones_do_no_harm() -> None:
    deep: dict[str, Any] = {}
    inner = deep
    for _level in range(50_000):
        inner["properties"] = inner = {}
    many = [
        {"name": f"tool-{number}", "description": "x" * 5000, "inputSchema": {"properties": {"p" * 9000: {}}}}
        for number in range(3000)
    ]
    text = kept([{"name": "deep", "inputSchema": deep}, {"name": 5}, {"name": "a\ud800b"}, *many])
    assert len(text) <= LARGEST
    assert [one["name"] for one in json.loads(text)][:3] == ["deep", "a b", "tool-0"]
