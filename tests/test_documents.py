"""The documents say what is so: their examples run, their tables have the defaults, their links lead somewhere."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from pydantic import BaseModel

from toolscore.runners.confinement import ALWAYS_HIDDEN
from toolscore.runners.keeping import Keeping
from toolscore.sandbox import artifacts, calls, packages, values
from toolscore.sandbox import settings as sandbox_settings
from toolscore.sandbox.arguments import ExecuteArguments, parsed
from toolscore.sandbox.execution import Status
from toolscore.sandbox.isolation import Tier
from toolscore.sandbox.limits import Limits
from toolscore.sandbox.results import SCHEMA
from toolscore.server import (
    consent,
    ensuring,
    models,
    models_catalog,
    models_gap,
    models_search,
    search_tools,
)
from toolscore.server.metrics import Metrics
from toolscore.server.own_tools import OWN_TOOLS
from toolscore.server.settings import load
from toolscore.server.settings_catalog import CatalogSettings
from toolscore.server.settings_database import DatabaseSettings
from toolscore.server.settings_docker import DockerSettings
from toolscore.server.settings_gateway import GatewaySettings
from toolscore.server.settings_journal import JournalSettings
from toolscore.server.settings_memory import MemorySettings
from toolscore.server.settings_model import ToolsSettings
from toolscore.server.settings_ray import RaySettings
from toolscore.server.settings_sandbox import KIB, MIB, SandboxSettings
from toolscore.tools import errors, finder, outcome, preference, results, shorten
from toolscore.tools.functions import bounds, function, functions, reader, running
from toolscore.tools.functions.deriving import derive
from toolscore.tools.gap import gap, needs
from toolscore.tools.journal.standing import Standing
from toolscore.tools.outcome import Outcome
from toolscore.tools.policy.reading import parse
from toolscore.tools.scores import figures, judge, record, score, scores
from toolscore.tools.search import query, vectors

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])
SANDBOX = ROOT / "docs" / "sandbox.md"
SECURITY = ROOT / "SECURITY.md"
SEARCH = ROOT / "docs" / "search.md"
SCORES = ROOT / "docs" / "scores.md"
CATALOG = ROOT / "docs" / "catalog.md"
FUNCTIONS = ROOT / "docs" / "functions.md"


def read(path: Path) -> str:
    return path.read_text("utf-8")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", read(path), re.MULTILINE | re.DOTALL)


def example(kind: str) -> Any:
    found = re.search(rf"<!-- example: {kind} -->\n```json\n(.*?)```", read(SANDBOX), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def table(path: Path, heading: str) -> dict[str, list[str]]:
    """The rows of the table under a heading, by their first cell."""
    section = f"\n{read(path)}".split(f"\n{heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [
        [cell.strip() for cell in line.strip()[1:-1].split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    return {row[0].strip("`"): row[1:] for row in rows[2:]}


def anchors(text: str) -> set[str]:
    """The anchors of headings, as forges make them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_lead_to_files_and_headings_that_are_there(path: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", read(path), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        place, _, anchor = target.partition("#")
        file = (path.parent / place).resolve() if place else path
        assert file.exists(), f"{name(path)}: {target}"
        if anchor:
            assert anchor in anchors(read(file)), f"{name(path)}: {target}"


@pytest.mark.parametrize("path", [ROOT / "ARCHITECTURE.md", SECURITY, SANDBOX], ids=name)
def test_modules_that_are_named_are_there(path: Path) -> None:
    folders = ("server", "tools", "runners", "sandbox", "client", "tests", "benchmarks", "examples")
    there = {str(file.relative_to(ROOT)) for folder in folders for file in (ROOT / folder).rglob("*.py")}
    named = set(re.findall(r"(?<![\w/.])(?:\w+/)*\w+\.py\b", read(path)))
    assert named, "the pattern fits nothing"
    lost = {file for file in named if not any(f"/{one}".endswith(f"/{file}") for one in there)}
    assert not lost


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_examples_are_well_formed_and_commands_are_there(path: Path) -> None:
    for text in blocks(path, "json"):
        json.loads(text)
    for text in blocks(path, "toml"):
        tomllib.loads(text)
    for text in blocks(path, "python"):
        compile(text, name(path), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    help_text = subprocess.run(
        [sys.executable, "-m", "toolscore", "--help"], check=True, capture_output=True, text=True
    ).stdout
    commands = set(re.findall(r"^    ([a-z]+) ", help_text, re.MULTILINE))
    for text in blocks(path, "sh"):
        for command in re.findall(r"^toolscore ([a-z]+)", text, re.MULTILINE):
            assert command in commands, f"{name(path)}: toolscore {command}"


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))], ids=name)
def test_every_file_of_settings_that_is_shown_is_a_valid_one(path: Path, tmp_path: Path) -> None:
    for text in blocks(path, "toml"):
        if "[mcp_servers." in text:
            continue  # of a client; test_documents_site.py reads those
        if "[[rule]]" in text:
            assert parse(path, text.encode()).rules
            continue
        (tmp_path / "config.toml").write_text(text, "utf-8")
        load({}, home=str(tmp_path), environ={})


@pytest.mark.parametrize(
    ("path", "heading", "group"),
    [
        ("docs/configuration.md", "## The server that is part of ToolScore", SandboxSettings),
        ("docs/configuration.md", "## Tools and catalog", ToolsSettings),
        ("docs/catalog.md", "## Where entries come from", CatalogSettings),
    ],
)
def test_the_settings_of_a_group_are_told_with_their_defaults(
    path: str, heading: str, group: type[BaseModel]
) -> None:
    told = table(ROOT / path, heading)
    assert set(told) == set(group.model_fields)
    for key, field in group.model_fields.items():
        default = tomllib.loads(f"value = {told[key][0].strip('`')}")["value"]
        assert default == (list(field.default) if isinstance(field.default, tuple) else field.default), key


@pytest.mark.parametrize(
    ("path", "heading", "groups"),
    [
        ("docs/containers.md", "## The engine", {"docker": DockerSettings}),
        ("docs/cluster.md", "## What is needed", {"ray": RaySettings}),
        (
            "docs/gateways.md",
            "# Several gateways, one state",
            {"database": DatabaseSettings, "gateway": GatewaySettings},
        ),
        ("docs/journal.md", "## Settings", {"journal": JournalSettings}),
        ("docs/memory.md", "## Settings", {"memory": MemorySettings}),
    ],
)
def test_settings_are_told_by_their_whole_names_with_their_defaults(
    path: str, heading: str, groups: dict[str, type[BaseModel]]
) -> None:
    told = table(ROOT / path, heading)
    fields = {
        f"{group}.{key}": field for group in groups for key, field in groups[group].model_fields.items()
    }
    assert set(told) == set(fields)
    for key, field in fields.items():
        shown = told[key][0].strip("`")
        if shown == "none":
            assert not field.default, key
        else:
            assert tomllib.loads(f"value = {shown}")["value"] == field.default, key


def test_the_own_tools_that_clients_are_shown_are_those_of_the_readme() -> None:
    text = read(ROOT / "README.md")
    section = text.split("Your model then has ten tools", 1)[1].split("\n## ", 1)[0]
    rows = set(re.findall(r"^\| `(\w+)\(", section, re.MULTILINE))
    assert rows == {tool.name for tool in OWN_TOOLS if tool.listed}
    assert len(rows) == 10
    for name, arguments in re.findall(r"^\| `(\w+)\(([^)]*)\)", section, re.MULTILINE):
        (tool,) = (tool for tool in OWN_TOOLS if tool.name == name)
        named = {argument.strip(" ?") for argument in arguments.split(",")} - {"", "..."}
        assert named <= set(tool.arguments.model_fields), name


@pytest.mark.parametrize("path", [SEARCH, SCORES, CATALOG, FUNCTIONS], ids=name)
def test_the_arguments_of_own_tools_that_are_told_are_there(path: Path) -> None:
    tools = {tool.name: tool for tool in OWN_TOOLS}
    for called, arguments in re.findall(r"`(\w+)\(([^`]*)\)`", read(path)):
        if called not in tools:
            continue
        for argument in filter(None, re.split(r",\s*", arguments)):
            key = argument.partition("=")[0].strip(" ?")
            assert key in {*tools[called].arguments.model_fields, "..."}, f"{called}({argument})"


@pytest.mark.parametrize(
    ("path", "heading", "arguments"),
    [
        (SEARCH, "# Finding tools", models_search.SearchToolsArguments),
        (CATALOG, "## What is missing for a task", models_gap.EnsureToolsArguments),
    ],
)
def test_the_arguments_of_a_tool_are_told_with_their_defaults(
    path: Path, heading: str, arguments: type[BaseModel]
) -> None:
    told = table(path, heading)
    for key, field in arguments.model_fields.items():
        shown = told[key][0].strip("`")
        if isinstance(field.default, int | str):
            assert shown == str(field.default), key


def test_the_settings_of_a_server_in_the_file_are_told() -> None:
    told = table(ROOT / "docs" / "configuration.md", "## Servers: `mcpServers`")
    assert "settings" in told


def test_what_counts_against_a_tool_is_told() -> None:
    told = table(SCORES, "## What counts against a tool, and what does not")
    counts = {
        outcome: cells[0].startswith("yes")
        for key, cells in told.items()
        for outcome in re.findall(r"\w+", key)
    }
    assert {outcome for outcome, against in counts.items() if against} == judge.FAILURES
    of_no_tool = {"unknown_tool", "unknown_server", "name_taken", "install_failed"}
    assert {str(outcome) for outcome in Outcome} <= counts.keys() | of_no_tool


def test_numbers_in_the_texts_on_the_library_are_those_of_the_code() -> None:
    def said(*paths: Path) -> str:
        return " ".join(" ".join(read(path).split()) for path in paths)

    text = said(SEARCH)
    for told in (
        f"up to {search_limit(models_search.SearchToolsArguments)} |",
        f"from {models_search.LEAST_TOKENS}; a token",
        f"up to {search_tools.MORE} beyond `limit`",
        f"within {round((1 - preference.NEAR) * 100)} % of the best",
        f"{query.LONGEST:,} characters of it count",
        f"at most {vectors.MOST:,} of them",
        f"({shorten.LEAST} at the least)",
        f"length={models_search.ReadResultArguments.model_fields['length'].default})",
        f"up to {results.MATCHES} places",
        f"{results.OWNER_BYTES // MIB} MiB and {results.COUNT} results of one client",
        f"and {results.TOTAL_BYTES // MIB} MiB together",
    ):
        assert told in text, told
    assert results.LIFETIME == 3600, "an hour"
    assert finder.OWN_MOST == 4, "up to four"
    assert finder.OWN_BEHIND == 2, "two at the most"
    assert search_tools.FILLER == 0.25, "a quarter"
    assert preference.FAILING == 0.5, "most calls fail"
    text = said(SCORES)
    for told in (
        f"after {scores.HALF_LIFE / 86400:g} days",
        f"{record.LONGEST_TEXT} characters at the most",
        f"for {scores.AGE / 86400:g} days",
        f"beyond {scores.KEPT:,}",
        f"{figures.NAMED} tools have figures",
    ):
        assert told in text, told
    assert (score.PRIOR, scores.VERSIONS, scores.OUTAGE) == (2, 8, 60)
    text = said(CATALOG)
    for told in (
        f"(5, up to {search_limit(models_catalog.SearchServersArguments)})",
        f"{needs.LONGEST:,} characters and {needs.MOST} needs",
        "up to three that would",
        "at most, up to 10 |",
        f"at most {round(ensuring.LIKELY * 100)} % likely",
        f"first {models.ADDED_TOOLS} tools",
        f"less than {round(gap._WORTH_TRYING * 100)} % of the best one",
    ):
        assert told in text, told
    assert (gap.TOOLS, gap.SERVERS) == (3, 3)
    text = said(FUNCTIONS)
    for told in (
        f"{bounds.LONGEST >> 10} KiB at the most",
        f"tool {reader.LONGEST_ANSWER >> 10} KiB",
        f"last {functions.MOST_VERSIONS} versions",
        f"{functions.MOST:,} functions at the most",
        f"{running.SHOWN:,} characters at the most",
        f"{reader.CPU} s of processor time and {reader.MEMORY >> 30} GiB",
    ):
        assert told in text, told
    told = f"{outcome.LONGEST:,} characters at the most; names that it says back are cut to {errors.ECHOED}"
    assert told in said(ROOT / "docs" / "outcomes.md")
    assert f"at most {consent.LONGEST:,} characters" in said(SECURITY)


def search_limit(arguments: type[BaseModel]) -> int:
    return int(arguments.model_json_schema()["properties"]["limit"]["maximum"])


def test_the_example_of_a_function_becomes_the_tool_that_is_told() -> None:
    source, _header = blocks(FUNCTIONS, "python")
    signature = derive(source, "exchange")
    assert signature.notes == []
    assert list(signature.input_schema["properties"]) == ["amount", "rate", "rounding"]
    module: dict[str, Any] = {}
    exec(source, module)
    assert module["exchange"](10, 1.0855) == 10.86
    assert function.from_file(_header + source, "").hints == {"readOnlyHint": True}


def test_the_metrics_are_told() -> None:
    keys = " ".join(table(ROOT / "docs" / "network.md", "## Figures"))
    told = set(re.findall(r"toolscore_\w+", keys))
    page = asyncio.run(Metrics(journal=lambda: Standing(None, 0, 0, 0, 0, 0)).render()).decode()
    assert set(re.findall(r"^# TYPE (\w+)", page, re.MULTILINE)) <= told


def test_the_settings_of_a_server_are_told() -> None:
    told = table(ROOT / "docs" / "servers.md", "# Keeping servers")
    assert set(told) == set(Keeping.model_fields)


def test_what_is_hidden_from_a_confined_server_is_told() -> None:
    text = read(ROOT / "docs" / "servers.md")
    for path in ALWAYS_HIDDEN:
        assert f"`{path.removeprefix('~/')}`" in text, path


def test_the_outcomes_are_told() -> None:
    told = table(ROOT / "docs" / "outcomes.md", "# Outcomes")
    assert set(told) == {str(outcome) for outcome in Outcome}


def test_the_limits_are_told_with_their_defaults_and_who_can_lower_them() -> None:
    rows = table(SANDBOX, "## Limits")
    limits = Limits()
    units = {"s": 1, "MiB": MIB, "KiB": KIB, "": 1}
    told = []
    for default, _, _ in rows.values():
        number, _, unit = default.partition(" ")
        told.append(int(number) * units[unit])
    assert told == [
        limits.wall,
        limits.cpu,
        limits.memory,
        limits.processes,
        limits.open_files,
        limits.disk,
        limits.inodes,
        limits.output,
        limits.result,
        limits.files,
    ]
    settings = {cells[1].strip("`") for cells in rows.values()} - {""}
    assert settings == {"wall", "cpu", "memory", "processes", "open_files", "disk", "output"}
    assert settings <= set(SandboxSettings.model_fields)
    lowered = {match[1] for cells in rows.values() if (match := re.match(r"yes, `(\w+)`", cells[2]))}
    (asked,) = (
        kind
        for kind in get_args(ExecuteArguments.model_fields["limits"].annotation)
        if kind is not type(None)
    )
    assert lowered == set(asked.model_fields)


@pytest.mark.skipif(sys.platform != "linux", reason="parts of the sandbox need modules that only Unix has")
def test_numbers_in_the_text_on_the_sandbox_are_those_of_the_code() -> None:
    from toolscore.sandbox import errand, running

    text = " ".join(read(SANDBOX).split())
    settings, limits = sandbox_settings.SandboxSettings(), Limits()
    opened = limits.memory // (limits.processes * running.BUFFER)
    for told in (
        f"{calls.AT_ONCE} calls are made at the same time",
        f"up to {calls.WAITING} or {calls.BYTES // MIB} MiB",
        f"Arguments have {calls.LONGEST // MIB} MiB at the most",
        f"answers that the code has not read {errand.UNREAD // MIB} MiB",
        f"more than {values.ELEMENTS:,} elements",
        f"pandas up to {values.CELLS:,} cells",
        f"measured every {errand.MEASURE:g} s",
        f"looked at every {running.LOOK * 1000:g} ms",
        f"at {running.BUFFER // KIB} KiB fit into `memory`",
        f"({opened} with the defaults, never below {running.OPEN_FILES})",
        f"nobody asked for in {packages.LASTS / 86400:g} days are removed",
        f"those beyond the last {packages.MOST}; the operator's own",
        f"`sandbox.sessions` for each, {settings.sessions_in_all} in all",
        f"those up to {settings.embed_limit // KIB} KiB are also in the result itself",
        f"up to {settings.embed_total // KIB} KiB together",
        f"at most {settings.keep_bytes // MIB} MiB and those of {artifacts.MOST_EXECUTIONS} executions",
        f"`sandbox.most` ({settings.most}) executions",
    ):
        assert told in text, told


def test_every_part_of_a_result_and_every_ending_is_told() -> None:
    text = read(SANDBOX)
    parts = {part for row in table(SANDBOX, "## A call") for part in re.findall(r"\w+", row)}
    assert set(SCHEMA["properties"]) <= parts
    for status in Status:
        assert f"`{status}`" in text, status
    assert set(table(SANDBOX, "## What protects: the tiers")) >= {str(tier) for tier in Tier}


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
async def test_the_example_of_a_call_gives_the_result_that_is_shown() -> None:
    arguments, shown = example("arguments"), example("result")
    parsed(ExecuteArguments, "python_execute", arguments)
    executor = StdioServerParameters(command=sys.executable, args=["-m", "toolscore.sandbox"])
    async with Client(stdio_client(executor)) as client:
        given = (await client.call_tool("python_execute", arguments)).structured_content
    assert given is not None
    if given["isolation"]["tier"] != "full":
        pytest.skip("the example is of the full tier")
    for answer in (given, shown):
        answer["usage"] = sorted(answer["usage"])  # what is used differs, and what holds the memory
        del answer["isolation"]["layers"]["memory"]
        for file in answer["files"]:
            file["uri"] = re.sub(r"executions/[\w-]{22}/", "executions/ID/", file["uri"])
    assert given == shown


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
def test_the_example_of_a_program_runs() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "sandbox.py")],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "value: 7" in done.stdout
    assert "timeout, limit wall" in done.stdout


async def test_the_executor_starts_as_it_is_shown_on_its_own() -> None:
    servers = [json.loads(text).get("mcpServers", {}) for text in blocks(SANDBOX, "json")]
    (arguments,) = [entry["args"] for group in servers for entry in group.values()]
    executor = StdioServerParameters(command=sys.executable, args=arguments)
    async with Client(stdio_client(executor)) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    told = set(re.findall(r"^\| `(\w+)\(", read(SANDBOX), re.MULTILINE))
    assert set(tools) == told
    assert "10 s" in str(tools["python_execute"].input_schema)


def test_every_case_that_is_promised_to_be_tried_is_tried_where_it_is_said() -> None:
    files = re.findall(r"\]\((tests/sandbox/test_acceptance_\w+\.py)\)", read(SECURITY))
    assert sorted(files) == sorted(name(path) for path in ROOT.glob("tests/sandbox/test_acceptance_*.py"))
    covered: list[int] = []
    numbered = r"^\| (\d+)–(\d+) \|.*\]\((tests/sandbox/test_acceptance_\w+\.py)\) \|$"
    for first, last, file in re.findall(numbered, read(SECURITY), re.MULTILINE):
        text = read(ROOT / file)
        tried: set[int] = set()
        cases = r"^(?:async )?def test_(\d\d)[a-z]?_(?:(?:and|to)_(\d\d)_)?"
        for begin, end in re.findall(cases, text, re.MULTILINE):
            tried.update(range(int(begin), int(end or begin) + 1))
        numbers = range(int(first), int(last) + 1)
        assert set(numbers) <= tried, f"{file}: {sorted(set(numbers) - tried)}"
        covered += numbers
    assert covered == list(range(1, 66))
