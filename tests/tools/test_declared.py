"""Servers of a configuration file: what is taken, what is wrong, and what a change means."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from toolscore.runners.confinement import Confinement
from toolscore.runners.keeping import Keeping
from toolscore.runners.spec import Installation, ServerSpec, SourceKind
from toolscore.tools.declared import Declarations, Declared, read
from toolscore.tools.mark import Mark
from toolscore.tools.reconcile_plan import plan
from toolscore.tools.rows import Origin, ServerRow
from toolscore.tools.secrets import Secrets

FILE = Path("/etc/toolscore/config.json")


def one(entry: Any, name: str = "x") -> Declarations:
    return read({name: entry}, FILE)


def good(entry: dict[str, Any], name: str = "x") -> Declared:
    found = one(entry, name)
    assert found.problems == []
    return found.servers[name]


def test_an_entry_is_taken_as_other_clients_write_it() -> None:
    server = good(
        {"type": "stdio", "command": "npx", "args": ["-y", "thing"], "env": {"KEY": "v"}, "cwd": "/srv"}
    )
    assert server.spec == ServerSpec(command="npx", args=("-y", "thing"), env={"KEY": "v"}, cwd="/srv")
    assert (server.enabled, server.source, server.keeping) == (True, None, Keeping())
    remote = good({"type": "http", "url": "https://x.example/mcp", "headers": {"Authorization": "Bearer t"}})
    assert remote.spec.headers == {"Authorization": "Bearer t"}
    assert not good({"command": "x", "disabled": True}).enabled


def test_an_entry_that_says_sse_is_spoken_to_so_also_where_its_address_does_not_say_it() -> None:
    assert good({"type": "sse", "url": "https://x.example/v1/events"}).spec.sse is True
    for plain in ({"type": "http", "url": "https://x.example/mcp"}, {"url": "https://x.example/sse"}):
        assert good(plain).spec.sse is None, "by its address, as before"
    kept = good({"type": "sse", "url": "https://x.example/sse"})
    assert kept.parts() == good({"url": "https://x.example/sse"}).parts()


def test_a_header_that_cannot_be_one_is_a_problem_of_the_file() -> None:
    found = one({"url": "https://x.example/mcp", "headers": {"A b": "s3cret"}})
    assert (len(found.problems), found.servers) == (1, {})
    assert "'A b' cannot be the name of a header" in found.problems[0]
    assert "s3cret" not in found.problems[0]


def test_our_own_keys_stand_beside_theirs() -> None:
    server = good(
        {"source": "pypi:thing", "constraints": ["mcp<2"], "timeout": 5, "groups": ["a"], "start": "use"}
    )
    assert (server.source, server.constraints) == ("pypi:thing", ("mcp<2",))
    assert server.keeping == Keeping(timeout=5, groups=("a",), start="use")


def test_relative_paths_start_at_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    server = good({"command": "./bin/x", "cwd": "../work"})
    assert (server.spec.command, server.spec.cwd) == ("/etc/toolscore/bin/x", "/etc/work")
    assert good({"command": "x"}).spec.command == "x"
    assert good({"command": "~/x"}).spec.command == "/home/me/x"
    assert good({"command": "${HOME}/x"}).spec.command == "${HOME}/x"
    assert good({"source": "./server#main.py"}).source == "/etc/toolscore/server#main.py"


@pytest.mark.parametrize(
    "key", ["autoApprove", "alwaysAllow", "disabledTools", "icon", "description", "gallery"]
)
def test_what_only_other_clients_use_is_left_out_with_a_remark(key: str) -> None:
    found = one({"command": "x", key: ["y"]})
    assert (found.problems, found.remarks) == (
        [],
        [f"mcpServers.x: {key} means nothing to ToolScore and is left out"],
    )


def test_a_timeout_that_looks_like_milliseconds_is_remarked() -> None:
    assert "timeout is in seconds here" in one({"command": "x", "timeout": 60000}).remarks[0]
    assert one({"command": "x", "timeout": 60}).remarks == []


@pytest.mark.parametrize(
    ("entry", "key", "said"),
    [
        ({"comand": "x", "url": "http://x"}, "comand", "Did you mean command?"),
        ({"command": "x", "serverUrl": "http://x"}, "serverUrl", "Did you mean url?"),
        ({"command": "x", "max_parralel": 1}, "max_parralel", "Did you mean max_parallel?"),
        ({"command": "x", "zzz": 1}, "zzz", "Remove it; known are command,"),
        ({"command": ["x"]}, "command", "must be a text"),
        ({"command": "x", "args": "a"}, "args", "must be a list of texts"),
        ({"command": "x", "args": [1]}, "args", "must be a list of texts"),
        ({"command": "x", "env": {"A": 1}}, "env", "must be a table of texts"),
        ({"command": "x", "disabled": "yes"}, "disabled", "must be true or false"),
        ({"command": "x", "type": "carrier-pigeon"}, "type", "must be stdio, http"),
        ({"command": "x", "timeout": True}, "timeout", "must be a valid number"),
        ({"command": "x", "timeout": 0}, "timeout", "must be greater than 0"),
        ({"command": "x", "start": "now"}, "start", "must be 'boot' or 'use'"),
        ({"url": "ftp://x"}, "url", "must be a text: a ws://"),
        ({"url": "register:me"}, "url", "must be a text: a ws://"),
        ({"url": "http://x", "args": ["a"]}, "args", "only goes with command"),
        ({"command": "x", "headers": {"a": "b"}}, "headers", "only goes with url"),
        ({"command": "x", "constraints": ["a<1"]}, "constraints", "only goes with source"),
        ({"command": "x", "source": "pypi:y"}, "command", "does not go with source"),
        ({"source": "thing"}, "source", "did you mean pypi:thing"),
        ({"url": "http://x", "type": "ws"}, "type", "does not begin with ws://"),
        ({"url": "http://x", "type": "stdio"}, "type", "needs a command"),
        ({"command": "x", "type": "http"}, "type", "needs a url"),
    ],
)
def test_what_is_wrong_is_told_with_its_place_and_the_fix(entry: dict[str, Any], key: str, said: str) -> None:
    found = one(entry)
    assert found.servers == {}
    (problem,) = found.problems
    assert problem.startswith(f"mcpServers.x.{key} (file {FILE}, [mcpServers.x] {key}) ")
    assert said in problem


def test_a_name_that_is_taken_by_toolscore_itself_is_not_offered_again() -> None:
    (problem,) = read({"toolscore": {"command": "x"}}, FILE).problems
    assert problem.endswith("Give it another name.")


def test_all_problems_are_told_at_once_and_no_value_is_among_them() -> None:
    secret = "sk-very-secret"
    found = read(
        {
            "a": {"comand": secret},
            "b": {"command": "x", "env": {"KEY": [secret]}},
            "c": {"url": f"ftp://{secret}"},
            "d": secret,
            "not a name": {"command": "x"},
            "fine": {"command": "x"},
        },
        FILE,
    )
    assert len(found.problems) == 6  # `a` says nothing else, either
    assert secret not in "\n".join(found.problems)
    assert 'Call it "not-a-name"' in found.problems[-1]
    assert list(found.servers) == ["fine"]
    assert "must be a table of servers" in read([], FILE).problems[0]


# --- what has to be done --------------------------------------------------------------------------------


def row(entry: Declared, origin: Origin = "file") -> ServerRow:
    installation = Installation(
        server_id=entry.name,
        kind=SourceKind.REGISTERED,
        source="x",
        spec=ServerSpec(command="x"),
        keeping=entry.keeping,
    )
    return ServerRow(entry.name, origin, entry.enabled, installation)


def changes(before: dict[str, Any], after: dict[str, Any]) -> tuple[str, ...]:
    was, now = good(before), good(after)
    todo = plan({"x": now}, {"x": row(was)}, lambda _name: Mark.of(was))
    assert (todo.added, todo.removed, todo.refused) == ((), (), ())
    return todo.changed[0][1] if todo.changed else ()


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        ({"command": "x"}, {"command": "x", "icon": "i", "args": [], "env": {}}, ()),
        ({"command": "x", "env": {"A": "1"}}, {"command": "x", "env": {"A": "2"}}, ("env",)),
        ({"command": "x", "args": ["a", "b"]}, {"command": "y", "args": ["b", "a"]}, ("args", "command")),
        ({"command": "x", "timeout": 1}, {"command": "x"}, ("timeout",)),
        ({"command": "x"}, {"command": "x", "disabled": True}, ("disabled",)),
        ({"source": "npm:x"}, {"source": "npm:x@2"}, ("source",)),
        ({"source": "npm:x"}, {"url": "http://x"}, ("source", "url")),
    ],
)
def test_a_change_is_told_by_what_it_is_of(
    before: dict[str, Any], after: dict[str, Any], what: tuple[str, ...]
) -> None:
    assert changes(before, after) == what


def test_only_rows_of_the_file_are_changed_or_removed() -> None:
    names = {name: good({"command": "x"}, name) for name in ("a", "b", "c", "d")}
    rows = {
        "a": row(names["a"], "agent"),
        "b": row(names["b"], "cli"),
        "c": row(names["c"]),
        "e": replace(row(names["d"]), name="e"),
    }
    declared = {name: names[name] for name in ("a", "c", "d")}
    todo = plan(declared, rows, lambda name: Mark.of(names[name]), {"z"})
    assert [entry.name for entry in todo.added] == ["d"]
    assert todo.removed == ("e",)
    assert [name for name, _reason in todo.refused] == ["a"]
    assert "from an agent" in todo.refused[0][1]
    assert todo.changed == ()
    unreadable = plan({"z": good({"command": "x"}, "z")}, {}, lambda _name: None, {"z"})
    assert [name for name, _reason in unreadable.refused] == ["z"]


def test_servers_are_added_in_the_order_they_need_each_other_and_a_circle_is_refused() -> None:
    def needing(name: str, *others: str) -> Declared:
        return good({"command": "x", "depends_on": list(others)}, name)

    todo = plan({"a": needing("a", "b"), "b": needing("b", "c"), "c": needing("c")}, {}, lambda _name: None)
    assert [entry.name for entry in todo.added] == ["c", "b", "a"]
    todo = plan(
        {"a": needing("a", "b"), "b": needing("b", "a"), "c": needing("c", "no")}, {}, lambda _name: None
    )
    assert (todo.added, [name for name, _reason in todo.refused]) == ((), ["a", "b", "c"])


def test_what_is_not_to_run_is_not_fetched_either() -> None:
    entry = good({"source": "pypi:x", "disabled": True})
    assert plan({"x": entry}, {}, lambda _name: None).added == ()
    assert plan({"x": replace(entry, enabled=True)}, {}, lambda _name: None).added


def test_a_mark_lies_with_the_secrets_and_reveals_no_value(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path / "secrets.json")
    entry = good({"command": "x", "env": {"KEY": "a-literal-value"}})
    assert Mark.read(secrets, "x") is None
    Mark.of(entry).write(secrets, "x")
    assert Mark.read(secrets, "x") == Mark.of(entry)
    assert "a-literal-value" not in (tmp_path / "secrets.json").read_text()
    secrets.set("x/declared", "no mark")
    assert Mark.read(secrets, "x") is None
    assert plan({"x": entry}, {"x": row(entry)}, lambda _name: None).changed  # without one, it is done again


def test_a_profile_is_read_and_a_change_of_it_is_a_change_of_the_server() -> None:
    plain, confined = good({"command": "x"}), good({"command": "x", "confine": True})
    opened = good({"command": "x", "confine": {"write": ["data"], "network": True}})
    assert plain.spec.confine is None
    assert good({"command": "x", "confine": False}) == plain
    assert confined.spec.confine == Confinement()
    assert opened.spec.confine == Confinement(write=("data",), network=True)
    assert "confine" not in plain.parts()  # so that marks made before there were any still hold
    for old, new in ((plain, confined), (confined, opened), (opened, plain)):
        todo = plan({new.name: new}, {old.name: row(old)}, lambda _name, old=old: Mark.of(old))  # type: ignore[misc]
        assert [what for _entry, what in todo.changed] == [("confine",)]
    assert good({"source": "pypi:x", "confine": True}).spec.confine == Confinement()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (
            {"command": "x", "confine": {"writes": []}},
            "confine .* must be true, or a table of write, read and hide",
        ),
        ({"command": "x", "confine": "yes"}, "confine .* must be true, or a table"),
        ({"url": "ws://h/", "confine": True}, "confine .* only goes with a command"),
        ({"command": "x", "url": "ws://h:1/", "confine": True}, "confine .* needs network = true here"),
    ],
)
def test_a_profile_that_cannot_be_is_a_problem(entry: dict[str, object], words: str) -> None:
    found = read({"x": entry}, Path("/etc/toolscore.toml"))
    assert any(re.search(words, problem) for problem in found.problems), found.problems
