"""Every command that the README and docs/ show is run for real, page by page, at one ToolScore with servers in it."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from textwrap import indent

import pytest

from cli_shell import SERVER
from documented import ROOT, blocks, commands, documents, environment, inline
from packed import index, wheel
from ports import free_port
from registry import Registry, item, serving
from toolscore.server.cli.parser import parse

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the documents show a Unix shell's commands")

PAGES = [path for path in documents() if commands(path)]
TRIED = {"sh", "json", "toml", "python"}
"""What blocks are written in that tests run or read."""
SHOWN = {"text", "mermaid", "ini", "nginx", "haproxy", "yaml", "js"}
"""What is only shown: drawings, answers, and files of other programs."""
TIMEOUT = 120
WEATHER = "io.github.somebody/weather"
PORTS = re.compile(r"(?<=127\.0\.0\.1:)(8765|8000)\b")
REPEATED = ("toolscore connect", "toolscore import", "toolscore config", "toolscore policy", "toolscore lock")
"""What each page does anew, as it is about files of the person; all else is about the home, and done once."""


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


class World:
    """A machine with packages, a registry, and one ToolScore; each page is a new person there."""

    def __init__(self, folder: Path, registry: Registry) -> None:
        self.folder, self.home = folder, folder / "home"
        self.done: set[str] = set()
        self.url = ""
        wheels = folder / "wheels"
        wheel(
            wheels,
            name="mcp_server_time",
            tools={
                "get_current_time": "Tells the current time in a zone.",
                "convert_time": "Converts a time between zones.",
            },
        )
        for version in ("1.0", "1.1"):
            wheel(wheels, version, name="weather", tools={"forecast": f"Tells the weather. {version}"})
        wheel(wheels, name="some_server")
        registry.items += [
            item(
                WEATHER,
                description="Weather forecast",
                packages=[
                    {
                        "registryType": "pypi",
                        "identifier": "weather",
                        "version": "1.0",
                        "transport": {"type": "stdio"},
                        "environmentVariables": [{"name": "API_KEY", "isRequired": True, "isSecret": True}],
                    }
                ],
            )
        ]
        self.home.mkdir(mode=0o700)
        (self.home / "config.toml").write_text(f'[catalog]\nsources = ["{registry.url}"]\n')
        (folder / "server.py").write_text(
            SERVER.replace('"echo"', '"fetch"').replace("the server", "WARNING: it")
        )
        self.environ = {
            **environment(folder, Path(sys.executable).parent),
            **index(wheels),
            "TOOLSCORE_HOME": str(self.home),
        }
        self.sources = {"WEATHER_KEY": "a-key", "GITHUB_TOKEN": "a-token"}

    def person(self, page: Path) -> tuple[dict[str, str], Path]:
        """A folder, a working folder in it with the files pages speak of, and the environment."""
        folder = self.folder / "people" / page.stem
        folder.mkdir(parents=True, exist_ok=True)
        source = next(one.text for one in blocks(ROOT / "docs" / "functions.md") if one.language == "python")
        entry = {"command": sys.executable, "args": [str(self.folder / "server.py")]}
        servers = json.dumps({"mcpServers": {"github": entry}})
        files = {
            "exchange.py": source,
            "token.txt": "a-token",
            "other.toml": "",
            "servers.json": servers,
            ".cursor/mcp.json": servers,
        }
        for file, text in files.items():
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_text(text)
        return {**self.environ, **self.sources, "HOME": str(folder)}, folder

    def typed(self, text: str, person: tuple[dict[str, str], Path]) -> subprocess.CompletedProcess[str]:
        """Run one command in a shell, until it ends, or, where it follows, until it has said something."""
        environ, folder = person
        process = subprocess.Popen(
            ["sh", "-euc", text],
            env=environ,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            if re.search(r" (-f|--follow)\b", text):
                ready, _, _ = select.select([process.stdout], [], [], TIMEOUT)
                first = process.stdout.readline() if ready else ""
                os.killpg(process.pid, signal.SIGINT)
                out, err = process.communicate(timeout=TIMEOUT)
                status = 0 if first and process.returncode in (130, -signal.SIGINT) else process.returncode
                return subprocess.CompletedProcess(text, status, first + out, err)
            out, err = process.communicate("a value\n", timeout=TIMEOUT)
            return subprocess.CompletedProcess(text, process.returncode, out, err)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with serving() as registry:
        yield from prepared(World(tmp_path_factory.mktemp("documented"), registry))


def prepared(world: World) -> Iterator[World]:
    """With a ToolScore that runs, and two servers."""
    person = world.person(Path("before"))
    serve = f"{sys.executable} {world.folder}/server.py"
    for text in (
        "toolscore start --listen ws://127.0.0.1:0/mcp",
        f"toolscore register db -- {serve}",
        f"toolscore register web -- {serve}",
        "toolscore call web__fetch",
    ):
        done = world.typed(text, person)
        assert done.returncode == 0, done.stderr
        if listening := re.search(r"^listening: (ws://\S+)$", done.stdout, re.MULTILINE):
            world.url = listening[1]
    yield world
    world.typed("toolscore stop", person)


def ports(text: str) -> str:
    """Put free ports in the place of those that a page names, which somebody else may have."""
    return PORTS.sub(lambda _found: str(free_port()), text)


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_the_commands_of_a_page_do_what_they_say(path: Path, world: World) -> None:
    shown, person, failed = commands(path), world.person(path), []
    known = world.done
    if own := any(command.text.startswith("toolscore start") for command in shown):
        person[0]["TOOLSCORE_HOME"], known = str(person[1] / "own"), set()
    for command in shown:
        if command.not_run is not None or not command.calls or command.text in known:
            continue
        done = world.typed(ports(command.text), person)
        if unprotected(done):
            continue
        if (told := re.fullmatch(r"(?:value: )?(\d[\d.]*)", command.remark)) and told[1] not in done.stdout:
            failed.append(f"{command.text}\n  does not say {told[1]}: {done.stdout}")
        if done.returncode != command.status or "Traceback" in done.stderr:
            failed.append(
                f"{command.text}\n  status {done.returncode}: {done.stdout[-600:]}{done.stderr[-1200:]}"
            )
        if command.status == 0 and not command.text.startswith(REPEATED):
            known.add(command.text)
    if own:
        world.typed("toolscore stop", person)
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("path", [*PAGES, ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md"], ids=name)
def test_every_command_is_of_the_grammar_and_what_is_not_run_has_a_reason(path: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in commands(path):
        for argv in command.calls:
            parse(argv)  # exits where one is wrong
        if command.calls:
            continue
        first, second, third = [*command.text.split(), "", ""][:3]
        if first == "make":
            assert second in targets, command.text
        elif first == ".venv/bin/python":
            assert find_spec(third) if second == "-m" else (ROOT / second).is_file(), command.text
        if path.name != "CONTRIBUTING.md":
            assert command.not_run, f"{name(path)}: say why it is not run: {command.text}"


def test_tests_that_are_named_in_place_of_a_run_are_there() -> None:
    for path in PAGES:
        for command in commands(path):
            for test in re.findall(r"\btest\w*(?:/\w+)*\.py\b", command.not_run or ""):
                assert (ROOT / test).is_file(), f"{name(path)}: {test}"


def test_no_command_hides_in_a_block_that_nobody_tries() -> None:
    for path in documents():
        kinds = re.findall(r"^ *```(.*)$", path.read_text("utf-8"), re.MULTILINE)
        assert not any(kinds[1::2]), f"{name(path)}: a block does not end"
        assert set(kinds[::2]) <= TRIED | SHOWN, name(path)
        assert len(kinds[::2]) == len(list(blocks(path))), f"{name(path)}: a block is not read"
        for block in blocks(path):
            shown = block.language in SHOWN
            assert not (shown and re.search(r"^ *(\$|toolscore) ", block.text, re.MULTILINE)), block


def test_a_command_in_a_sentence_is_of_the_grammar(capsys: pytest.CaptureFixture[str]) -> None:
    told = {tuple(argv): f"{name(path)}: {text}" for path in documents() for text, argv in inline(path)}
    for argv, where in told.items():
        try:
            parse(list(argv))
        except SystemExit as ended:
            # Only the beginning of a command may stand in a sentence: something is missing, and nothing is wrong.
            wrong = "" if ended.code == 0 else capsys.readouterr().err.partition("usage:")[0]
            missing = r"required|needs|takes one|expected one argument|^$"
            assert re.search(missing, wrong), f"{where}: {wrong}"
    assert len(told) > 50, "sentences are read no more"


def test_the_programs_of_the_first_pages_run(world: World) -> None:
    person = world.person(Path("programs"))
    token = world.typed("toolscore token show", person).stdout.strip()
    for page, shows in (("other", "'tools'"), ("team", "web")):
        (block,) = (one for one in blocks(ROOT / "docs" / "start" / f"{page}.md") if one.language == "python")
        program = (
            block.text.replace('command="toolscore"', 'command="toolscore", env=dict(os.environ)')
            .replace("ws://127.0.0.1:8765/mcp", world.url)
            .replace("token=TOKEN", f"token={token!r}")
        )
        whole = f"import asyncio, os\nasync def main():\n{indent(program, '    ')}asyncio.run(main())\n"
        (person[1] / f"{page}.py").write_text(whole)
        done = world.typed(f"python {page}.py", person)
        assert (done.returncode, shows in done.stdout) == (0, True), done
    example = ROOT / "examples" / "websocket_client.py"
    done = world.typed(f"TOOLSCORE_TOKEN={token} python {example} {world.url}", person)
    assert (done.returncode, "web__fetch" in done.stdout) == (0, True), done


def unprotected(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether code was refused since too little protects on this machine."""
    return (
        done.returncode == 1 and "python-executor" in done.args and '"refused"' in done.stderr + done.stdout
    )
