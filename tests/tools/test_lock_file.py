"""The file toolscore.lock: stable, readable, and read with suspicion."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from toolscore.runners.errors import InstallError
from toolscore.runners.installers import npm_lock, python_lock
from toolscore.runners.keeping import Keeping
from toolscore.runners.pin import NPM_LOCK, PYTHON_LOCK
from toolscore.runners.spec import SourceKind
from toolscore.tools.pins.lock_file import (
    MAX_BYTES,
    LockedServer,
    LockError,
    LockText,
    parse,
    render,
    write,
)
from toolscore.tools.pins.question import addresses
from toolscore.tools.pins.syncing import keys_of

HASH = "a" * 64


def text(content: str) -> LockText:
    import hashlib

    return LockText(sha256=hashlib.sha256(content.encode()).hexdigest(), lines=tuple(content.split("\n")))


def server(**more: Any) -> LockedServer:
    fields: dict[str, Any] = {
        "kind": SourceKind.PYPI,
        "source": "pypi:x",
        "fetched": "pypi:x",
        "version": "1.0",
        "locks": {PYTHON_LOCK: text(f"x==1.0 \\\n    --hash=sha256:{HASH}\n")},
        "env": {"B": "${B}", "A": "${secret:x/env/A}"},
        "keeping": Keeping(groups=("g",)),
        "tools": {"say": HASH},
    }
    return LockedServer(**{**fields, **more})


def content(**servers: LockedServer) -> bytes:
    return render(write(servers)).encode()


def test_what_is_written_is_read_again_and_is_always_the_same_text() -> None:
    one, other = server(), server(enabled=False)
    assert content(b=one, a=other) == content(a=other, b=one)
    assert parse(content(b=one, a=other), "x") == {"a": other, "b": one}
    assert b'"A"' in content(a=one)
    assert content(a=one).index(b'"A"') < content(a=one).index(b'"B"')
    assert parse(content(), "x") == {}


def edited(**changes: Any) -> bytes:
    """A lock that was changed by hand, with the digest as it was."""
    document = json.loads(content(it=server()))
    document["servers"]["it"].update(changes)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "2.0"},
        {"fetched": "pypi:evil"},
        {"command": "/bin/sh"},
        {"args": ["--evil"]},
        {"tools": {}},
        {"locks": {}},
        {"env": {"LD_PRELOAD": "/tmp/evil.so"}},
    ],
)
def test_a_lock_that_was_edited_by_hand_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(LockError, match="was changed after it was written"):
        parse(edited(**changes), "the lock")


@pytest.mark.parametrize(
    ("one", "told"),
    [
        (server(command="/bin/sh"), "cannot be of one of kind pypi"),
        (server(cwd="/"), "cannot be of one of kind pypi"),
        (server(fetched=""), "cannot be of one of kind pypi"),
        (server(kind=SourceKind.BUILTIN), "cannot be of one of kind builtin"),
        (server(locks={"../../evil": text("x")}), "which no installer reads"),
        (server(locks={NPM_LOCK: LockText(sha256=HASH, lines=("x",))}), "is not what its hash says"),
        (server(kind=SourceKind.COMMAND, fetched="", locks={}), "in a way that cannot be"),
        (server(url="file:///etc/passwd"), "in a way that cannot be"),
        (server(kind=SourceKind.NPM), "which would be fetched for it, is of kind pypi"),
        (server(fetched="command: /bin/sh -c id"), "which would be fetched for it, is of kind command"),
        (server(fetched="pypi:evil"), "would be fetched for it, which is something else"),
        (server(fetched="nothing:at-all"), "names a source of server 'it' that is none"),
        (server(source="registry:x\x1b[2J"), "the source .* which none can have"),
        (server(source=""), "the source '', which none can have"),
        (server(version="1.0\n"), "the version .* which none can have"),
    ],
)
def test_a_lock_that_cannot_be_true_is_refused_although_its_digest_is(one: LockedServer, told: str) -> None:
    with pytest.raises(LockError, match=told):
        parse(content(it=one), "the lock")


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".", "x" * 33, "toolscore", "a__b", "a\x00b"])
def test_a_name_that_no_server_can_have_is_refused(name: str) -> None:
    with pytest.raises(LockError, match="names a server"):
        parse(content(**{name: server()}), "the lock")


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "is no lock"),
        (b"[]", "is no lock of ToolScore"),
        (b"\xff\xfe", "is no lock"),
        (b'{"toolscore-lock": 2, "servers": {}}', "a newer one wrote it"),
        (b'{"toolscore-lock": true, "servers": {}}', "which format"),
        (b'{"toolscore-lock": 1, "toolscore-lock": 1}', "a name twice"),
        (b'{"toolscore-lock": 1, "digest": NaN, "servers": {}}', "is no JSON"),
        (b'{"toolscore-lock": 1, "servers": {}}', "was changed after it was written"),
        (b'{"toolscore-lock": 1, "servers": [], "digest": ""}', "cannot be understood|can be understood"),
        (b"[" * 200_000, "is no lock"),
        (b" " * (MAX_BYTES + 1), "is larger than"),
    ],
)
def test_what_is_no_lock_is_told(raw: bytes, told: str) -> None:
    with pytest.raises(LockError, match=told):
        parse(raw, "the lock")


def test_an_unknown_field_is_not_passed_over() -> None:
    document = json.loads(content(it=server()))
    document["servers"]["it"]["post_install"] = "curl"
    again = write({})
    again["servers"] = document["servers"]
    from toolscore.tools.pins import lock_file

    again["digest"] = lock_file._digest(document["servers"])
    with pytest.raises(LockError, match="post_install"):
        parse(json.dumps(again).encode(), "the lock")


# --- the locks inside ----------------------------------------------------------------------------------


def test_a_python_lock_names_versions_hashes_and_what_has_none() -> None:
    lock = (
        f"a==1.0 \\\n    --hash=sha256:{HASH} \\\n    --hash=sha256:{'b' * 64}\n"
        f"b[x]==2.0 ; python_version >= '3.11' \\\n    --hash=sha256:{HASH}\n"
        f"c @ git+https://host.example/c@{'0' * 40}\n"
        f"d @ https://host.example/d-1.0-py3-none-any.whl \\\n    --hash=sha256:{HASH}\n"
    )
    python_lock.check(lock)
    assert python_lock.versions(lock)["a"] == "1.0"
    assert python_lock.versions(lock)["b"] == "2.0"
    assert python_lock.unhashed(lock) == [f"c @ git+https://host.example/c@{'0' * 40}"]
    narrowed = python_lock.narrowed(lock, "A", "c" * 64)
    assert f"a==1.0 \\\n    --hash=sha256:{'c' * 64}\nb[x]" in narrowed
    assert narrowed.count("--hash") == 3


@pytest.mark.parametrize(
    "line",
    [
        "a==1.0",
        "a",
        f"a @ git+https://host.example/a@main --hash=sha256:{HASH}",
        "a @ git+https://host.example/a@main",
        f"a @ git+file:///x@{'0' * 40}",
        "a @ https://host.example/a.whl",
        f"a==1.0 --hash=md5:{'0' * 32}",
        f"a==1.0 --hash=sha256:{HASH} --index-url=http://evil",
        f"-i http://evil\na==1.0 --hash=sha256:{HASH}",
        "--no-binary :all:",
        # What ends a comment with a backslash does not hide the next line from uv.
        f"# harmless \\\n--index-url http://evil\na==1.0 --hash=sha256:{HASH}",
        f"a==1.0 --hash=sha256:{HASH} \\\n# harmless \\\n--index-url http://evil",
        f"# harmless\x0b--index-url http://evil\na==1.0 --hash=sha256:{HASH}",
    ],
)
def test_a_python_lock_from_elsewhere_holds_nothing_else(line: str) -> None:
    with pytest.raises(InstallError):
        python_lock.check(line + "\n")


GOOD = {"version": "1.0.0", "integrity": "sha512-" + "A" * 86 + "=="}


def test_a_lock_that_is_made_to_be_slow_to_read_is_not() -> None:
    long = 100_000
    began = time.process_time()  # of this process alone, so that others on the machine do not count
    for line in ("a==1;" + " " * long + "!", "a" + " " * long + "b", "a @" + " " * long + "x", "a" * long):
        with pytest.raises(InstallError):
            python_lock.check(line)
        assert python_lock.narrowed(line, "b", HASH) == line
        assert addresses({"locks": {PYTHON_LOCK: {"lines": [line, "x @ git+https://evil/x"]}}}) == [
            "git+https://evil/x"
        ]
    assert keys_of(server(args=("${secret:" * long,), env={})) == []
    assert time.process_time() - began < 20, "it took minutes, of a whole ToolScore"


def test_an_npm_lock_is_freed_of_its_registry() -> None:
    lock = json.dumps(
        {
            "name": "n",
            "packages": {"": {}, "node_modules/x": {**GOOD, "resolved": "https://u:p@host.example/x.tgz"}},
        }
    )
    assert "host.example" not in npm_lock.freed(lock)
    assert npm_lock.versions(lock) == {"x": "1.0.0"}


@pytest.mark.parametrize(
    ("place", "entry"),
    [
        ("node_modules/x", {"version": "1.0.0"}),
        ("node_modules/x", {**GOOD, "resolved": "https://evil.example/x.tgz"}),
        ("node_modules/x", {**GOOD, "resolved": "file:/etc"}),
        ("node_modules/x", {"link": True, "resolved": "/etc"}),
        ("node_modules/../../x", GOOD),
        ("../node_modules/x", GOOD),
        ("/node_modules/x", GOOD),
        ("node_modules/x", {"version": "1.0.0", "integrity": "none"}),
        ("node_modules/x", {"resolved": "git+https://evil.example/x#main"}),
    ],
)
def test_an_npm_lock_from_elsewhere_names_packages_by_their_integrity(
    place: str, entry: dict[str, Any]
) -> None:
    lock = json.dumps({"packages": {"": {"dependencies": {"x": "^1.0.0"}}, place: entry}})
    with pytest.raises(InstallError, match="nothing was installed"):
        npm_lock.check(lock, package="x")


@pytest.mark.parametrize(
    "root",
    [
        {"dependencies": {"y": "1"}},
        {"dependencies": {"x": "1", "y": "1"}},
        {"dependencies": {"x": "https://evil.example/x.tgz"}},
        {"dependencies": {"x": "file:../x"}},
        {"dependencies": {"x": "1"}, "devDependencies": {"y": "1"}},
    ],
)
def test_an_npm_lock_of_a_package_asks_for_that_package_alone(root: dict[str, Any]) -> None:
    with pytest.raises(InstallError, match="nothing was installed"):
        npm_lock.check(json.dumps({"packages": {"": root, "node_modules/x": GOOD}}), package="x")
