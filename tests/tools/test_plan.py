"""What an entry of the catalog is installed as: the package that is chosen, what is fetched, run and asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from toolscore.tools.catalog import contained
from toolscore.tools.catalog.entry import Entry, EntryError, parse
from toolscore.tools.catalog.fetching import OFFICIAL
from toolscore.tools.catalog.filled import Filled
from toolscore.tools.catalog.plan import Plan, plan_of
from toolscore.tools.outcome import Outcome, RefusalError

PYTHONS, NODES = (".".join(OFFICIAL[kind][0]) for kind in ("pypi", "npm"))
SHA = "ab" * 32
BUNDLE = {"registryType": "mcpb", "identifier": "https://host/x/thing.mcpb", "fileSha256": SHA}
PYPI = {"registryType": "pypi", "identifier": "thing", "version": "1.2"}
NPM = {"registryType": "npm", "identifier": "@scope/thing", "version": "3.0.1"}
OCI = {"registryType": "oci", "identifier": "ghcr.io/a/thing:1"}
REMOTE = {"type": "streamable-http", "url": "https://thing.example/mcp"}


@pytest.fixture(autouse=True)
def without_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contained, "has_engine", lambda: False)


def entry(*packages: dict[str, Any], remotes: list[dict[str, Any]] | None = None, **more: Any) -> Entry:
    listed = [{"transport": {"type": "stdio"}, **package} for package in packages]
    return parse(
        {"name": "io.x/thing", "version": "1.0", "packages": listed, "remotes": remotes or [], **more}
    )


def plan(*packages: dict[str, Any], remotes: list[dict[str, Any]] | None = None, **more: Any) -> Plan:
    return plan_of(entry(*packages, remotes=remotes, **more))


def filled(made: Plan, settings: dict[str, Any] | None = None, cwd: str | None = None, **env: str) -> Filled:
    return made.filled(settings or {}, env, server="thing", cwd=cwd)


def refused(outcome: Outcome, made: Plan, settings: dict[str, Any] | None = None, **env: str) -> str:
    with pytest.raises(RefusalError) as error:
        filled(made, settings, **env)
    assert error.value.outcome is outcome
    return error.value.message


def impossible(*packages: dict[str, Any], remotes: list[dict[str, Any]] | None = None, **more: Any) -> str:
    with pytest.raises(RefusalError) as error:
        plan(*packages, remotes=remotes, **more)
    assert error.value.outcome is Outcome.REFUSED
    return error.value.message


def arguments(*given: dict[str, Any]) -> Plan:
    return plan({**PYPI, "packageArguments": list(given)})


# --- what is chosen and fetched --------------------------------------------------------------------------------


def test_what_runs_here_comes_before_what_runs_elsewhere() -> None:
    made = plan(OCI, BUNDLE, NPM, PYPI, remotes=[REMOTE])
    assert made.source == "pypi:thing@1.2"
    offered = ", ".join(f"registry:io.x/thing@1.0#{kind}" for kind in ("npm", "mcpb", "oci", "remote"))
    assert made.notes == (f"it is also offered as {offered}",)
    assert plan(BUNDLE, NPM).source == "npm:@scope/thing@3.0.1"
    assert plan(BUNDLE, remotes=[REMOTE]).source == f"mcpb:https://host/x/thing.mcpb#sha256={SHA}"
    assert plan(OCI, remotes=[REMOTE]).source is None


def test_another_kind_can_be_chosen_and_is_what_is_called_for_then() -> None:
    assert plan_of(entry(PYPI, NPM), kind="npm").source == "npm:@scope/thing@3.0.1"
    made = plan_of(entry(PYPI, remotes=[REMOTE]), kind="remote")
    assert (made.kind, made.label, made.notes) == ("remote", "registry:io.x/thing@1.0#remote", ())
    assert made.call() == 'install_server(source="registry:io.x/thing@1.0#remote")'
    assert plan(PYPI).label == "registry:io.x/thing@1.0"


def test_a_kind_that_is_chosen_and_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(RefusalError) as error:
        plan_of(entry(PYPI, OCI), kind="remote")
    assert error.value.message == (
        "io.x/thing offers no remote. It also offers: registry:io.x/thing@1.0#pypi, "
        "registry:io.x/thing@1.0#oci."
    )
    with pytest.raises(RefusalError, match=r"cannot be installed here as mcpb: .* without a checksum"):
        plan_of(entry(PYPI, {**BUNDLE, "fileSha256": None}), kind="mcpb")


def test_an_image_is_refused_with_what_else_there_is() -> None:
    text = impossible(OCI, {"registryType": "nuget", "identifier": "Thing", "version": "1"})
    assert "oci ghcr.io/a/thing:1 is a container image, and there is no engine for it here" in text
    assert "docker run" not in text, "a command line that leaves out what the entry says would be a trap"
    assert "nuget Thing is of the kind nuget" in text
    made = plan(OCI, {**NPM, "fileSha256": "12"}, remotes=[REMOTE])
    assert made.kind == "remote"
    assert any("passed over: npm" in note for note in made.notes)


def test_an_entry_without_anything_says_where_to_read_more() -> None:
    assert "See https://thing.example." in impossible(websiteUrl="https://thing.example")


def test_what_was_withdrawn_is_refused_and_what_is_deprecated_said() -> None:
    official = {
        "io.modelcontextprotocol.registry/official": {"status": "deleted", "statusMessage": "It was bad."}
    }
    assert "withdrawn from its registry: It was bad" in impossible(PYPI, _meta=official)
    official["io.modelcontextprotocol.registry/official"]["status"] = "deprecated"
    assert plan(PYPI, _meta=official).notes[0] == "io.x/thing is deprecated: It was bad."


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ({**PYPI, "version": "latest"}, "pypi:thing"),
        ({**PYPI, "version": None}, "pypi:thing"),
        ({**PYPI, "identifier": "thing[web]==1.2"}, "pypi:thing[web]@1.2"),
        ({**NPM, "version": "^3.0"}, "npm:@scope/thing@^3.0"),
        ({**PYPI, "registryBaseUrl": f"https://{PYTHONS}/simple/"}, "pypi:thing@1.2"),
        ({**NPM, "registryBaseUrl": f"https://registry.{NODES}"}, "npm:@scope/thing@3.0.1"),
    ],
)
def test_names_and_versions_become_sources(package: dict[str, Any], source: str) -> None:
    assert plan(package).source == source


@pytest.mark.parametrize(
    ("package", "why"),
    [
        ({**PYPI, "version": ">=1.2"}, "no version of a Python distribution"),
        ({**PYPI, "version": "1.*"}, "no version of a Python distribution"),
        ({**NPM, "version": ">=1 <2"}, "no version or tag"),
        ({**NPM, "version": "npm:other@1"}, "no name of an npm package"),
        ({**NPM, "version": "1.0#other-bin"}, "read as something else"),
        ({**PYPI, "version": "1.0#other"}, "read as something else"),
        ({**NPM, "identifier": "../evil"}, "no name of an npm package"),
        ({**NPM, "identifier": "--registry=x"}, "no name of an npm package"),
        ({**PYPI, "identifier": "git+https://host/x"}, "no name of a Python distribution"),
        ({**PYPI, "identifier": "thing==1.3"}, "two versions"),
        ({**PYPI, "registryBaseUrl": "https://packages.corp.example/simple"}, "may be somebody else's"),
        ({**NPM, "registryBaseUrl": f"https://registry.{NODES}.evil.example"}, "may be somebody else's"),
        ({**NPM, "fileSha256": "12"}, "gives none that can be one"),
        ({**PYPI, "fileSha256": SHA, "version": None}, "names no version"),
        ({**BUNDLE, "fileSha256": None}, "without a checksum"),
        ({**BUNDLE, "fileSha256": "12"}, "checksum"),
        ({**BUNDLE, "identifier": "http://host/x.mcpb"}, "https://"),
        ({**BUNDLE, "identifier": "/etc/passwd"}, "https://"),
        ({**BUNDLE, "transport": REMOTE}, "standard streams"),
    ],
)
def test_what_cannot_be_fetched_surely_is_refused(package: dict[str, Any], why: str) -> None:
    assert why in impossible(package)


@pytest.mark.parametrize(
    ("hint", "words", "source", "args"),
    [
        ("uvx", ["thing@1.2"], "pypi:thing@1.2", ()),
        ("uvx", ["--from", "thing==1.2", "thing-mcp"], "pypi:thing@1.2#thing-mcp", ()),
        ("uvx", ["--from=thing[web]", "thing-mcp", "serve"], "pypi:thing[web]@1.2#thing-mcp", ("serve",)),
        ("uvx", ["-q", "--refresh", "Thing", "stdio"], "pypi:thing@1.2", ("stdio",)),
        ("uv", ["tool", "run", "thing"], "pypi:thing@1.2", ()),
        ("pipx", ["run", "--spec", "thing", "other"], "pypi:thing@1.2#other", ()),
        ("python", ["-m", "thing", "--stdio"], "pypi:thing@1.2", ("--stdio",)),
        ("uvx", ["--python", "3.12", "thing"], "pypi:thing@1.2", ()),
    ],
)
def test_words_for_a_python_launcher_are_understood(
    hint: str, words: list[str], source: str, args: tuple[str, ...]
) -> None:
    listed = [{"type": "positional", "value": word} for word in words]
    made = plan({**PYPI, "runtimeHint": hint, "runtimeArguments": listed})
    assert (made.source, filled(made).args) == (source, args)


@pytest.mark.parametrize(
    ("words", "source", "args"),
    [
        (["-y"], "npm:@scope/thing@3.0.1", ()),
        (["-y", "@scope/thing@latest", "stdio"], "npm:@scope/thing@3.0.1", ("stdio",)),
        (["--yes", "--package=@scope/thing", "bin-name", "-x"], "npm:@scope/thing@3.0.1#bin-name", ("-x",)),
    ],
)
def test_words_for_a_node_launcher_are_understood(
    words: list[str], source: str, args: tuple[str, ...]
) -> None:
    listed = [{"type": "positional", "value": word} for word in words]
    made = plan({**NPM, "runtimeHint": "npx", "runtimeArguments": listed})
    assert (made.source, filled(made).args) == (source, args)


def test_named_words_for_a_launcher_are_understood() -> None:
    listed = [
        {"type": "named", "name": "--from", "value": "thing"},
        {"type": "positional", "valueHint": "script", "value": "thing-mcp"},
        {"type": "named", "name": "-q"},
    ]
    made = plan({**PYPI, "runtimeHint": "uvx", "runtimeArguments": listed})
    assert (made.source, made.words) == ("pypi:thing@1.2#thing-mcp", ("-q",))


@pytest.mark.parametrize(
    ("package", "hint", "words"),
    [
        (NPM, "npx", ["other-package"]),
        (NPM, "npx", ["--package=other", "bin"]),
        (NPM, "npx", ["--registry=https://evil.example", "@scope/thing"]),
        (NPM, "npx", ["-c", "rm -rf /"]),
        (PYPI, "uvx", ["--index-url", "https://evil.example", "thing"]),
        (PYPI, "uvx", ["--with", "other", "thing"]),
        (PYPI, "uvx", ["--from", "git+https://evil.example/x", "thing"]),
        (PYPI, "docker", ["run", "thing"]),
        (PYPI, "python", ["run.py"]),
        (PYPI, "uvx", ["${HOME}"]),
    ],
)
def test_words_for_a_launcher_that_cannot_be_honoured_are_refused(
    package: dict[str, Any], hint: str, words: list[str]
) -> None:
    listed = [{"type": "positional", "value": word} for word in words]
    assert "io.x/thing cannot be installed here" in impossible(
        {**package, "runtimeHint": hint, "runtimeArguments": listed}
    )


# --- arguments ---------------------------------------------------------------------------------------------------


def test_fixed_arguments_are_passed_as_they_are() -> None:
    made = arguments(
        {"type": "positional", "value": "serve"},
        {"type": "named", "name": "--mode", "value": "a b; rm -rf /"},
        {"type": "named", "name": "--stdio"},
        {"type": "named", "name": "--transport=stdio"},
        {"type": "positional", "value": "{not a variable}"},
    )
    assert filled(made).args == (
        *("serve", "--mode", "a b; rm -rf /", "--stdio"),
        *("--transport=stdio", "{not a variable}"),
    )


def test_what_is_chosen_by_nobody_is_its_default_or_left_out() -> None:
    made = arguments(
        {"type": "named", "name": "--port", "default": "80", "format": "number"},
        {"type": "named", "name": "--color", "description": "Which."},
        {"type": "positional", "valueHint": "extra"},
    )
    assert filled(made).args == ("--port", "80")
    assert filled(made, {"port": 81, "--color": "red", "extra": "x"}).args == (
        "--port",
        "81",
        "--color",
        "red",
        "x",
    )
    assert made.runs == "--port 80 [--color <color>] [<extra>]"


def test_what_is_missing_is_listed_with_the_call_to_make() -> None:
    made = plan(
        {
            **PYPI,
            "packageArguments": [
                {"type": "positional", "valueHint": "dir", "isRequired": True, "format": "filepath"},
                {"type": "named", "name": "--level", "isRequired": True, "choices": ["low", "high"]},
            ],
            "environmentVariables": [
                {"name": "API_KEY", "description": "Your key.", "isRequired": True, "isSecret": True},
                {"name": "REGION", "isRequired": True, "default": "eu"},
            ],
        }
    )
    with pytest.raises(RefusalError) as error:
        filled(made)
    text = error.value.message
    assert error.value.outcome is Outcome.INVALID_ARGUMENTS
    assert "- API_KEY (secret; Your key.)" in text
    assert "- level (one of low, high)" in text
    assert (
        'install_server(source="registry:io.x/thing@1.0", env={"API_KEY": "..."}, '
        'settings={"dir": "...", "level": "..."})' in text
    )
    assert [one["name"] for one in error.value.details["missing"]] == ["dir", "level", "API_KEY"]
    done = filled(made, {"dir": "/data", "level": "low"}, API_KEY="k")
    assert (done.args, done.env) == (("/data", "--level", "low"), {"API_KEY": "k", "REGION": "eu"})


def test_repeated_arguments_take_lists() -> None:
    made = arguments(
        {"type": "positional", "valueHint": "dir", "isRepeated": True},
        {"type": "named", "name": "--tag", "isRepeated": True},
        {"type": "named", "name": "--one"},
    )
    done = filled(made, {"dir": ["/a", "/b"], "tag": ["x", "y"]})
    assert done.args == ("/a", "/b", "--tag", "x", "--tag", "y", "--one")


def test_variables_of_a_repeated_argument_go_together() -> None:
    mount = {
        "type": "named",
        "name": "--mount",
        "value": "src={from},dst={to}",
        "isRepeated": True,
        "variables": {"from": {"isRequired": True}, "to": {"default": "/data"}},
    }
    assert filled(arguments(mount), {"from": ["/a", "/b"]}).args == (
        *("--mount", "src=/a,dst=/data"),
        *("--mount", "src=/b,dst=/data"),
    )
    text = refused(Outcome.INVALID_ARGUMENTS, arguments(mount), {"from": ["/a", "/b"], "to": ["1", "2", "3"]})
    assert "give as many of each" in text
    assert "from" in refused(Outcome.INVALID_ARGUMENTS, arguments(mount))


def test_a_value_in_a_variable_is_not_looked_at_again() -> None:
    value = {"type": "positional", "value": "{a}-{b}", "variables": {"a": {}, "b": {}}}
    assert filled(arguments(value), {"a": "{b}", "b": "x"}).args == ("{b}-x",)


def test_an_argument_whose_variable_nobody_gave_is_left_out() -> None:
    value = {"type": "named", "name": "--dir", "value": "{dir}/x", "variables": {"dir": {}}}
    assert filled(arguments(value)).args == ()
    assert "- dir" in refused(Outcome.INVALID_ARGUMENTS, arguments({**value, "isRequired": True}))


def test_a_yes_or_no_is_an_option_that_is_there_or_not() -> None:
    made = arguments({"type": "named", "name": "--verbose", "format": "boolean", "default": "false"})
    assert filled(made).args == ()
    assert filled(made, {"verbose": True}).args == ("--verbose",)
    assert filled(made, {"verbose": False}).args == ()
    assert filled(made, {"verbose": "false"}).args == ()
    assert filled(made, {"verbose": "True"}).args == ("--verbose",)


@pytest.mark.parametrize(
    ("argument", "args"),
    [
        ({"default": "true"}, ("--headless",)),
        ({"default": True}, ("--headless",)),
        ({"value": "true"}, ("--headless",)),
        ({"value": "false"}, ()),
        ({"value": "{on}", "variables": {"on": {"default": "true"}}}, ("--headless",)),
        ({"default": "true", "choices": ["true", "false"]}, ("--headless", "true")),
        ({"default": "true", "name": "--headless="}, ("--headless=true",)),
    ],
)
def test_a_yes_by_default_is_the_option_alone_unless_it_takes_a_value(
    argument: dict[str, Any], args: tuple[str, ...]
) -> None:
    named = {"type": "named", "name": "--headless", "format": "boolean", **argument}
    assert filled(arguments(named)).args == args


def test_a_composed_variable_that_is_given_whole_needs_none_of_its_parts() -> None:
    secret = {"isRequired": True, "isSecret": True}
    uri = {
        "name": "DB",
        "isRequired": True,
        "value": "pg://{user}:{word}@x",
        "variables": {"user": {}, "word": secret},
    }
    uri["variables"]["user"] = {"isRequired": True}  # type: ignore[index]
    made = plan({**PYPI, "environmentVariables": [uri]})
    done = filled(made, {}, DB="pg://me:hunter2@y")
    assert done.env == {"DB": "pg://me:hunter2@y"}
    assert made.wanted["DB"].secret, "as one of its parts is"
    assert "- word (secret)" in refused(Outcome.INVALID_ARGUMENTS, made, {"user": "me"})
    shared = {"type": "named", "name": "--user", "value": "{user}", "variables": {"user": {}}}
    made = plan({**PYPI, "environmentVariables": [uri], "packageArguments": [shared]})
    text = refused(Outcome.INVALID_ARGUMENTS, made, {}, DB="pg://me:hunter2@y")
    assert "- user" in text, "it has another use"
    assert "- word" not in text


def test_a_path_by_default_is_one_of_this_machine_or_has_to_be_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "notes").mkdir()

    def asking(default: str, **more: Any) -> Plan:
        return arguments(
            {"type": "positional", "valueHint": "dir", "format": "filepath", "default": default, **more}
        )

    assert filled(asking("~/notes", isRequired=True)).args == (str(tmp_path / "notes"),)
    assert filled(asking("./data"), cwd="/srv/here").args == ("/srv/here/data",)
    assert filled(asking("./data")).args == ("./data",)
    assert filled(asking("/nowhere/at/all")).args == ("/nowhere/at/all",)
    assert asking("//share.example/files", isRequired=True).missing, "another machine is not even asked"
    made = asking("/Users/username/Desktop", isRequired=True, isRepeated=True)
    assert [one.name for one in made.missing] == ["dir"]
    assert "such as /Users/username/Desktop" in refused(Outcome.INVALID_ARGUMENTS, made)
    with pytest.raises(RefusalError, match="- dir"):
        filled(asking("./data", isRequired=True), cwd="/nowhere/at/all")


def test_one_package_that_cannot_be_read_does_not_cost_the_others() -> None:
    odd = {"registryType": "npm", "identifier": "y\n"}
    made = plan(odd, PYPI, remotes=[{"type": "sse", "url": "https://x\ny"}, REMOTE])
    assert made.source == "pypi:thing@1.2"
    assert any(note.startswith("passed over: packages.0.identifier") for note in made.notes)
    assert any(note.startswith("passed over: remotes.0.url") for note in made.notes)
    with pytest.raises(EntryError, match=r"packages\.0\.identifier"):
        plan(odd)


@pytest.mark.parametrize("package", [PYPI, NPM])
def test_a_checksum_of_a_package_is_handed_on_to_be_checked(package: dict[str, Any]) -> None:
    assert plan({**package, "fileSha256": SHA.upper()}).sha256 == SHA
    assert plan(package).sha256 is None
    assert plan(BUNDLE).sha256 is None, "its source says it"


def test_null_is_what_is_not_said() -> None:
    pair = {
        "name": "A",
        "isRequired": None,
        "isSecret": None,
        "format": None,
        "choices": None,
        "default": None,
    }
    made = plan({**PYPI, "runtimeHint": None, "environmentVariables": [pair]})
    assert (made.missing, made.wanted["A"].format) == ([], "string")


def test_a_variable_of_the_environment_may_have_several_lines_and_a_header_may_not() -> None:
    pair = {"name": "PROMPT", "default": "line 1\n\tline 2"}
    assert filled(plan({**PYPI, "environmentVariables": [pair]})).env == {"PROMPT": "line 1\n\tline 2"}
    assert "control characters" in impossible(remotes=[{**REMOTE, "headers": [pair]}])
    with pytest.raises(EntryError):
        plan({**PYPI, "environmentVariables": [{"name": "PROMPT", "default": "a\x1b[2J"}]})


def test_a_repository_that_cannot_be_read_is_not_known() -> None:
    assert entry(PYPI, repository={"url": "https://x\n"}).repository is None


@pytest.mark.parametrize(
    ("argument", "value", "why"),
    [
        ({"format": "number"}, "eighty", "must be a number"),
        ({"format": "boolean"}, "maybe", "must be true or false"),
        ({"choices": ["a", "b"]}, "c", "must be one of a, b"),
        ({"format": "filepath"}, "relative/file", "full path"),
        ({}, ["a", "b"], "takes one value"),
        ({}, {"a": 1}, "must be a text"),
        ({}, "a\nb", "control characters"),
        ({}, "a\0b", "control characters"),
        ({}, "\ud800", "control characters"),
        ({}, "x" * 40_000, "is longer"),
        ({"isRepeated": True}, ["x"] * 101, "at most"),
    ],
)
def test_a_value_that_cannot_be_is_refused_and_not_repeated(
    argument: dict[str, Any], value: Any, why: str
) -> None:
    made = arguments({"type": "named", "name": "--it", "description": "What.", "isSecret": True, **argument})
    text = refused(Outcome.INVALID_ARGUMENTS, made, {"it": value})
    assert why in text
    assert "eighty" not in text
    assert "maybe" not in text


def test_a_file_is_looked_for_where_the_caller_is() -> None:
    made = arguments({"type": "positional", "valueHint": "file", "format": "filepath"})
    assert filled(made, {"file": "data/x"}, cwd="/srv/here").args == ("/srv/here/data/x",)
    assert filled(made, {"file": "${DATA}/x"}).args == ("${DATA}/x",)


def test_a_value_that_looks_like_an_option_is_none() -> None:
    made = arguments({"type": "positional", "valueHint": "file"}, {"type": "named", "name": "--to"})
    assert "takes" not in refused(Outcome.INVALID_ARGUMENTS, made, {"file": "--delete-all"})
    made = arguments({"type": "named", "name": "--to", "description": "Where to."})
    assert filled(made, {"to": "--delete-all"}).args == ("--to=--delete-all",)
    made = arguments({"type": "named", "name": "-t", "description": "Where to."})
    assert "begins with a dash" in refused(Outcome.INVALID_ARGUMENTS, made, {"t": "-x"})
    made = arguments(
        {"type": "named", "name": "--n", "format": "number"}, {"type": "positional", "valueHint": "m"}
    )
    assert filled(made, {"n": -5}).args == ("--n=-5",)


def test_a_later_argument_needs_those_before_it() -> None:
    made = arguments(
        {"type": "positional", "valueHint": "first"}, {"type": "positional", "valueHint": "second"}
    )
    assert "cannot be given without" in refused(Outcome.INVALID_ARGUMENTS, made, {"second": "x"})


@pytest.mark.parametrize(
    "last",
    [
        {"value": "stdio"},
        {"valueHint": "mode", "default": "stdio"},
        {"valueHint": "mode", "isRequired": True},
    ],
)
def test_what_is_passed_in_any_case_does_not_move_into_the_place_of_an_earlier_one(
    last: dict[str, Any],
) -> None:
    made = arguments({"type": "positional", "valueHint": "config"}, {"type": "positional", **last})
    assert "- config" in refused(
        Outcome.INVALID_ARGUMENTS, made, {"mode": "x"} if "valueHint" in last else {}
    )
    assert made.runs.startswith("<config> "), "without brackets: it cannot be left out"
    given = {"config": "a.toml", **({"mode": "stdio"} if "valueHint" in last else {})}
    assert filled(made, given).args == ("a.toml", "stdio")
    composed = {"type": "positional", "value": "{config}", "variables": {"config": {}}}
    assert "- config" in refused(
        Outcome.INVALID_ARGUMENTS, arguments(composed, {"type": "positional", **last})
    )


def test_an_option_written_as_two_arguments_and_what_may_be_many_need_nothing_before_them() -> None:
    optional = {"type": "positional", "valueHint": "folder"}
    option = ({"type": "positional", "value": "--transport"}, {"type": "positional", "value": "stdio"})
    assert filled(arguments(optional, *option)).args == ("--transport", "stdio")
    many = {**optional, "isRepeated": True}
    assert filled(arguments(many, {"type": "positional", "value": "stdio"})).args == ("stdio",)
    assert filled(arguments({"type": "positional", "value": "stdio"}, optional)).args == ("stdio",)


@pytest.mark.parametrize(
    "about", [{"isSecret": True}, {"valueHint": "key"}, {"variables": {"a": {}}}, {"placeholder": "sk-..."}]
)
def test_an_option_that_plainly_takes_a_value_is_never_passed_without_one(about: dict[str, Any]) -> None:
    made = arguments({"type": "named", "name": "--api-key", **about})
    assert filled(made).args == ()
    assert filled(made, {"api-key": "${KEY}"}).args == ("--api-key", "${KEY}")
    assert made.runs == "[--api-key <api-key>]"


def test_an_empty_default_is_a_value_where_there_has_to_be_one() -> None:
    made = plan(
        {
            **PYPI,
            "packageArguments": [
                {"type": "named", "name": "--prefix", "isRequired": True, "default": ""},
                {"type": "named", "name": "--extra", "description": "More.", "default": ""},
            ],
            "environmentVariables": [
                {"name": "SUFFIX", "isRequired": True, "default": ""},
                {"name": "OTHER", "default": ""},
            ],
        }
    )
    assert made.missing == []
    for given in ({}, {"prefix": "", "SUFFIX": ""}):
        done = filled(made, given)
        assert (done.args, done.env) == (("--prefix", ""), {"SUFFIX": ""})
    assert filled(made, {"SUFFIX": "x"}).env == {"SUFFIX": "x"}


def test_what_would_be_run_shows_what_has_to_be_given_first() -> None:
    mount = {
        "type": "named",
        "name": "--mount",
        "value": "src={src},dst={dst}",
        "variables": {"src": {"isRequired": True}, "dst": {"default": "/data"}},
    }
    tag = {"type": "named", "name": "--tag=", "value": "v{tag}", "variables": {"tag": {}}}
    place = {"type": "positional", "value": "{there}", "variables": {"there": {"isRequired": True}}}
    assert arguments(mount, tag, place).runs == "--mount src=<src>,dst=/data [--tag=v<tag>] <there>"


def test_an_unknown_setting_is_answered_with_those_there_are() -> None:
    made = arguments({"type": "named", "name": "--api-key", "description": "Key."})
    text = refused(Outcome.INVALID_ARGUMENTS, made, {"apikey": "x"})
    assert "Did you mean api-key?" in text
    assert filled(made, {"API_KEY": "x"}).args == ("--api-key", "x")


def test_a_setting_that_is_given_in_env_is_said_to_belong_under_settings() -> None:
    asked = {"type": "named", "name": "--token", "description": "Whose it is."}
    under = 'did you mean token under settings, as "settings": {"token": ...}?'
    text = refused(Outcome.INVALID_ARGUMENTS, arguments({**asked, "isRequired": True}), token="x")
    assert under in text
    assert 'settings={"token": "..."}' in text
    # The server may know a variable of that name all the same: it gets it.
    done = filled(arguments(asked), TOKEN="x")
    assert (done.args, done.env) == ((), {"TOKEN": "x"})
    [note] = done.notes
    assert note.startswith("'TOKEN' in env")
    assert under in note
    # Who gave the setting, too, means the variable.
    assert filled(arguments(asked), {"token": "y"}, TOKEN="x").notes == ()


@pytest.mark.parametrize("name", ["token", "github_token", "GithubToken", "GITHUB-TOKEN", "GITHUB_TOKN"])
def test_a_variable_that_is_nearly_one_that_is_asked_for_is_said_to_be(name: str) -> None:
    asked = {"name": "GITHUB_TOKEN", "isSecret": True}
    made = plan({**PYPI, "environmentVariables": [asked, {"name": "REGION"}]})
    [note] = filled(made, {}, **{name: "hunter2"}).notes
    assert "did you mean GITHUB_TOKEN, in env or settings?" in note
    made = plan({**PYPI, "environmentVariables": [{**asked, "isRequired": True}]})
    text = refused(Outcome.INVALID_ARGUMENTS, made, {}, **{name: "hunter2"})
    assert "did you mean GITHUB_TOKEN" in text
    assert "hunter2" not in text + note


def test_a_setting_that_is_nearly_one_that_is_asked_for_is_said_to_be() -> None:
    made = plan({**PYPI, "environmentVariables": [{"name": "GITHUB_TOKEN"}, {"name": "REGION"}]})
    for name in ("token", "githubToken", "REGOIN"):
        meant = "REGION" if name == "REGOIN" else "GITHUB_TOKEN"
        assert f"Did you mean {meant}?" in refused(Outcome.INVALID_ARGUMENTS, made, {name: "x"})


def test_a_variable_like_none_that_is_asked_for_is_nothing_to_speak_of() -> None:
    made = plan({**PYPI, "environmentVariables": [{"name": "GITHUB_TOKEN"}, {"name": "DEBUG_PORT"}]})
    given = {"LOG_LEVEL": "x", "DEBUG": "1", "GITHUB_HOST": "h", "": "", "a" * 100_000: "b"}
    assert filled(made, {}, **given).notes == ()


def test_what_is_given_in_env_for_a_server_somewhere_is_said_to_belong_under_settings() -> None:
    asked = {"name": "X-Api-Key", "isRequired": True, "isSecret": True}
    made = plan(remotes=[{**REMOTE, "headers": [asked]}])
    text = refused(Outcome.INVALID_ARGUMENTS, made, api_key="x")
    assert 'did you mean X-Api-Key under settings, as "settings": {"X-Api-Key": ...}?' in text


# --- environment, headers, addresses ---------------------------------------------------------------------------


def test_secrets_leave_arguments_and_addresses() -> None:
    made = arguments(
        {"type": "positional", "valueHint": "pass", "isSecret": True},
        {"type": "named", "name": "--db", "value": "x:{pw}@host", "variables": {"pw": {"isSecret": True}}},
    )
    done = filled(made, {"pass": "hunter2", "pw": "swordfish"})
    assert done.args == (
        "${secret:thing/given/argument/1}",
        "--db",
        "x:${secret:thing/given/argument/2}@host",
    )
    assert done.secrets == {"thing/given/argument/1": "hunter2", "thing/given/argument/2": "swordfish"}
    assert filled(made, {"pass": "${PASS}", "pw": "p"}).args[0] == "${PASS}"


def test_an_entry_cannot_have_variables_of_this_machine_filled_in() -> None:
    """A `${NAME}` is filled in at each start: whoever wrote the entry would be sent the values."""
    header = {"name": "X-Data", "value": "${secret:other/env/TOKEN}"}
    made = plan(remotes=[{**REMOTE, "headers": [header]}])
    assert "- X-Data" in refused(Outcome.INVALID_ARGUMENTS, made)
    assert filled(made, {"X-Data": "${MINE}"}).headers == {"X-Data": "${MINE}"}
    made = plan({**PYPI, "environmentVariables": [{"name": "A", "default": "${AWS_SECRET_ACCESS_KEY}"}]})
    assert filled(made).env == {}
    parts = {"a": {"default": "$"}, "b": {"default": "{HOME}"}}
    built = {"type": "positional", "value": "x{a}{b}", "variables": parts}
    assert filled(arguments(built)).args == ()
    meeting = {"type": "positional", "value": "{a}$" + "{a}", "variables": {"a": {}}}
    assert "- argument1" in refused(Outcome.INVALID_ARGUMENTS, arguments(meeting))


OTHERS_CODE = (
    *(
        "LD_PRELOAD",
        "PATH",
        "DYLD_INSERT_LIBRARIES",
        "NODE_OPTIONS",
        "NODE_PATH",
        "PYTHONPATH",
        "PYTHONSTARTUP",
    ),
    *(
        "JAVA_TOOL_OPTIONS",
        "RUBYOPT",
        "PERL5OPT",
        "https_proxy",
        "SSL_CERT_FILE",
        "OPENSSL_CONF",
        "GIT_SSH_COMMAND",
    ),
)
"""With each of these an entry would run its own code, or listen in, in a package that is trusted."""


def test_an_entry_does_not_set_what_loads_programs() -> None:
    variables = [{"name": name, "value": "/evil"} for name in OTHERS_CODE]
    made = plan({**PYPI, "environmentVariables": [*variables, {"name": "MODE", "value": "x"}]})
    assert filled(made).env == {"MODE": "x"}
    assert any("LD_PRELOAD is not set" in note for note in made.notes)
    assert filled(made, LD_PRELOAD="/mine").env == {"LD_PRELOAD": "/mine", "MODE": "x"}


def test_whose_machine_it_is_has_the_last_word_on_a_variable() -> None:
    made = plan(
        {**PYPI, "environmentVariables": [{"name": "MODE", "value": "x"}, {"name": "LEVEL", "default": "1"}]}
    )
    assert filled(made, MODE="y", OTHER="z").env == {"MODE": "y", "LEVEL": "1", "OTHER": "z"}
    assert filled(made, {"LEVEL": 2}).env == {"MODE": "x", "LEVEL": "2"}


def test_a_remote_gets_headers_and_an_address_with_its_variables() -> None:
    made = plan(
        remotes=[
            {
                "type": "streamable-http",
                "url": "https://{tenant}.example:8443/{path}/mcp?key={key}",
                "variables": {"tenant": {"default": "eu"}, "path": {}, "key": {"isSecret": True}},
                "headers": [
                    {"name": "Authorization", "value": "Bearer {token}", "isRequired": True,
                     "variables": {"token": {"isSecret": True}}},
                    {"name": "X-Region", "default": "de"},
                ],
            }
        ]
    )  # fmt: skip
    assert {one.name for one in made.missing} == {"path", "key", "token"}
    done = filled(made, {"path": "a b/c", "key": "x&y=1", "token": "t"})
    assert done.url == "https://eu.example:8443/a%20b/c/mcp?key=${secret:thing/given/address/2}"
    assert done.headers == {"Authorization": "Bearer ${secret:thing/given/Authorization/1}", "X-Region": "de"}
    assert set(done.secrets.values()) == {"t", "x%26y%3D1"}


@pytest.mark.parametrize(
    "host", ["evil.example/", "evil.example#", "a@evil.example", "evil.example\\", "", "a b"]
)
def test_no_value_leads_to_another_host(host: str) -> None:
    made = plan(remotes=[{"type": "streamable-http", "url": "https://{tenant}.good.example/mcp"}])
    refused(Outcome.INVALID_ARGUMENTS, made, {"tenant": host})


def test_a_whole_address_can_be_asked_for() -> None:
    made = plan(remotes=[{"type": "streamable-http", "url": "{base}/mcp"}])
    assert filled(made, {"base": "https://mine.example"}).url == "https://mine.example/mcp"
    assert "https://" in refused(Outcome.INVALID_ARGUMENTS, made, {"base": "file:///etc"})


def test_secrets_are_not_sent_unencrypted() -> None:
    remote = {"type": "streamable-http", "url": "http://thing.example/mcp", "headers": [{"name": "X-Key"}]}
    assert "without encryption" in refused(Outcome.REFUSED, plan(remotes=[remote]), {"X-Key": "k"})
    local = {**remote, "url": "http://127.0.0.1:1/mcp"}
    assert filled(plan(remotes=[local]), {"X-Key": "k"}).headers == {"X-Key": "k"}


@pytest.mark.parametrize(
    "remote",
    [
        {"type": "streamable-http", "url": "https://${HOME}/mcp"},
        {"type": "streamable-http", "url": "file:///etc/passwd"},
        {"type": "streamable-http"},
        {"type": "carrier-pigeon", "url": "https://x"},
        {"type": "streamable-http", "url": "https://x", "headers": [{"name": "A\tB"}]},
        {"type": "streamable-http", "url": "https://x", "headers": [{"name": "Host", "value": "y"}]},
        {
            "type": "streamable-http",
            "url": "https://x",
            "headers": [{"name": "Mcp-Session-Id", "value": "y"}],
        },
        {"type": "streamable-http", "url": "https://good.example@evil.example/mcp"},
    ],
)
def test_a_remote_that_cannot_be_reached_is_refused(remote: dict[str, Any]) -> None:
    with pytest.raises((RefusalError, ValueError)):
        plan(remotes=[remote])


@pytest.mark.parametrize(
    ("remote", "sse"),
    [
        ({"type": "sse", "url": "https://x/sse"}, True),
        ({"type": "sse", "url": "https://x/v1/events"}, True),
        ({"type": "sse", "url": "https://x/sse?key={key}"}, True),
        ({"type": "streamable-http", "url": "https://x/sse"}, False),
        ({"type": "streamable-http", "url": "https://x/mcp"}, False),
    ],
)
def test_the_entry_says_how_an_address_is_spoken_to_and_not_how_it_ends(
    remote: dict[str, Any], sse: bool
) -> None:
    made = plan(remotes=[remote])
    assert filled(made, {"key": "k"} if "{" in remote["url"] else {}).sse is sse
    assert filled(plan(PYPI)).sse is None


def test_a_package_that_listens_gets_a_free_port() -> None:
    package = {
        **PYPI,
        "transport": {"type": "streamable-http", "url": "http://localhost:{port}/mcp"},
        "packageArguments": [{"type": "named", "name": "--port", "isRequired": True, "format": "number"}],
    }
    made = plan(package)
    assert made.missing == []
    done = filled(made)
    assert (done.args, done.url) == (("--port", "${PORT}"), "http://localhost:${PORT}/mcp")
    done = filled(made, {"port": 8123})
    assert (done.args, done.url) == (("--port", "8123"), "http://localhost:8123/mcp")
    package["transport"] = {"type": "streamable-http", "url": "http://elsewhere.example:{port}/mcp"}
    assert "not on this machine" in refused(Outcome.INVALID_ARGUMENTS, plan(package))


def test_an_option_with_its_value_in_its_name_is_passed_or_refused_but_not_filled_in() -> None:
    assert filled(arguments({"type": "named", "name": "--a=b", "value": "${HOME}"})).args == ("--a=b",)
    assert "no entry may" in refused(Outcome.REFUSED, arguments({"type": "named", "name": "--a=${HOME}"}))
    listed = [{"type": "positional", "value": "thing"}, {"type": "named", "name": "--a=${HOME}"}]
    assert "cannot be honoured" in impossible({**PYPI, "runtimeHint": "uvx", "runtimeArguments": listed})
