"""The site of the documentation: it builds, loads nothing from elsewhere, and is in step with the code."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from documented import ROOT, Block, blocks, documents
from toolscore.server.clients.client import CLIENTS, Machine, client_named
from toolscore.server.clients.connecting import started
from toolscore.server.clients.found import search

ENTRIES = [block for path in documents() for block in blocks(path) if block.said("client")]
LOADED = re.compile(
    r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=\"?(?:https?:)?//[^\s>]*", re.I
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does, where any warning is an error."""
    pytest.importorskip("material", reason="the dependency group `docs` is not installed")
    folder = tmp_path_factory.mktemp("site")
    environ = {**os.environ, "TMPDIR": str(tmp_path_factory.mktemp("cache")), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        check=False,
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_in_the_site_and_in_its_navigation(site: Path) -> None:
    front = (site / "index.html").read_text()
    for path in (ROOT / "docs").glob("**/*.md"):
        page = path.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        assert (site / page).is_file(), page
        assert f'href="{page}"' in front or page == "index.html", f"{page} is in no navigation"


def test_a_page_loads_nothing_from_other_hosts(site: Path) -> None:
    for page in site.glob("**/*.html"):
        assert not LOADED.findall(page.read_text()), page
    for sheet in site.glob("**/*.css"):
        assert not re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", sheet.read_text()), sheet
    assert not list(site.glob("making/**/*.py")), "what makes pages is no page"


def test_the_search_knows_chinese_words(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text())
    text = " ".join(one["text"] for one in index["docs"] if one["location"].startswith("zh/"))
    words = {word for run in re.split(r"\s+", text) for word in run.split("\u200b")}
    assert {"服务器", "客户端", "安装"} <= words
    assert "zh" in index["config"]["lang"]


def test_what_is_made_from_the_code_is_in_step_with_it_and_what_is_not_is_named(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    shutil.copytree(ROOT / "docs", docs)
    with (docs / "reference" / "settings.md").open("a") as page:
        page.write("| `log.colour` | a setting there is not |\n")
    (docs / "images" / "call.svg").unlink()
    (docs / "reference" / "left.md").write_text("of what is no more")
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "making" / "reference.py"), "--check", str(docs)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines() == [
        f"docs/{name} is not what the code says. Run `make reference`."
        for name in ("images/call.svg", "reference/left.md", "reference/settings.md")
    ]


def test_the_errors_that_are_told_are_those_of_every_outcome() -> None:
    text = (ROOT / "docs" / "reference" / "errors.md").read_text()
    for outcome in ("unknown_tool", "invalid_arguments", "unavailable", "refused", "changed"):
        section = text.split(f"\n### {outcome}\n", 1)[1].split("\n### ", 1)[0]
        assert re.search(r"^- .{20,}", section, re.MULTILINE), f"no text of {outcome} was found in the source"
    findings = text.split("\n## Findings of the doctor", 1)[1].split("\n## ", 1)[0]
    assert len(re.findall(r"^\| ", findings, re.MULTILINE)) > 8, "the doctor's findings are read no more"


def test_each_client_has_a_page_to_begin_with() -> None:
    for client in CLIENTS:
        text = (ROOT / "docs" / "start" / f"{client.name}.md").read_text()
        assert f"toolscore connect {client.name}" in text
        assert client.title in text.splitlines()[0]


@pytest.mark.parametrize("block", ENTRIES, ids=lambda block: f"{block.path.stem}-{block.said('client')}")
def test_an_entry_that_is_shown_is_read_as_the_client_s_own(block: Block, tmp_path: Path) -> None:
    name = block.said("client")
    assert name is not None
    client = client_named("claude-desktop" if name == "any" else name)
    machine = Machine(tmp_path, "linux", {})
    [place, *_] = client.user(machine)
    place.path.parent.mkdir(parents=True, exist_ok=True)
    place.path.write_text(block.text)
    found = search(machine, None, [client])
    assert not found.problems
    [server] = found.servers
    assert server.name == "toolscore"
    if name != "any":
        shown = dict(server.entry)
        assert shown == {**started(client), "command": shown["command"]}
