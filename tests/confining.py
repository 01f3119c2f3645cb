"""Programs run confined, as root and as an ordinary user, and what they said."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import toolscore.sandbox
from cache import CACHE

ORDINARY = 61234
"""A user id that is nobody's: no name, no home, no group."""

LAUNCH = "import sys; sys.path += {paths!r}; from toolscore.sandbox.confine import main; main(sys.argv[1:])"

BEFORE = """
import errno, os, sys
sys.path += {paths!r}
without = {without!r}
from toolscore.sandbox import linux
if "user-namespaces" in without:
    uid, gid = os.getuid(), os.getgid()
    linux.unshare(linux.CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{{uid}} {{uid}} 1"), ("gid_map", f"{{gid}} {{gid}} 1")):
        open("/proc/self/" + name, "w").write(text)
    open("/proc/sys/user/max_user_namespaces", "w").write("0")
for name, number in (("sys-admin", 21), ("setpcap", 8)):
    if name in without:
        linux.prctl(linux.PR_CAPBSET_DROP, number)
refused = {{"unshare": ("unshare", errno.EPERM), "landlock": ("landlock_create_ruleset", errno.ENOSYS)}}
if refused.keys() & without:
    from seccompy import Action, Filter, _syscall
    rules = Filter(Action.ALLOW)
    for name in refused.keys() & without:
        rules.errno(*refused[name])
    _syscall.set_no_new_privs()
    _syscall.set_mode_filter(rules.program, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Takes from a program that it starts what a kernel, a container or a policy may not give."""


@dataclass
class Said:
    """How a confined program ended, the JSON it printed, and the launcher's report."""

    status: int
    value: Any
    stderr: str
    layers: dict[str, str] = field(default_factory=dict)


@dataclass
class Place:
    """A folder that a user can reach, with a folder of a server, a secret, and the launcher in it."""

    path: Path
    user: int
    python: str

    @property
    def own(self) -> Path:
        return self.path / "own"

    def run(
        self,
        code: str,
        *,
        write: tuple[str, ...] | None = None,
        read: tuple[str, ...] = (),
        hide: tuple[str, ...] = (),
        network: bool = False,
        command: list[str] | None = None,
        namespaces: bool = True,
        without: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
    ) -> Said:
        """Run Python code, which leaves its answer in `said`, confined; its own folder is writable.

        `without` names what is not to be had there: see `BEFORE`.
        """
        profile = {
            "write": [str(self.own)] if write is None else list(write),
            "read": [*read, *([] if write is None else [str(self.own)])],
            "hide": [str(self.path / "home"), *hide],
            "network": network,
        }
        paths = [str(self.path / "lib")]
        command = command or [self.python, "-I", "-S", "-c", PRELUDE + code + "\nprint(json.dumps(said))"]
        launch = [
            self.python,
            "-I",
            "-S",
            "-c",
            LAUNCH.format(paths=paths),
            json.dumps(profile),
            "--",
            *command,
        ]
        missing = {*without, *(() if namespaces else ("user-namespaces",))}
        if missing:
            before = BEFORE.format(paths=paths, without=missing)
            launch = [self.python, "-I", "-S", "-c", before, *launch]
        as_user: dict[str, Any] = {}
        if self.user != os.getuid():
            as_user = {"user": self.user, "group": self.user, "extra_groups": []}
        done = subprocess.run(
            launch,
            check=False,
            cwd=self.own,
            env={"PATH": os.defpath, "LANG": "C"} if env is None else env,
            capture_output=True,
            text=True,
            timeout=60,
            **as_user,
        )
        first = done.stderr.partition("\n")[0]
        layers = json.loads(first.split(": ", 1)[1])["layers"] if '{"layers"' in first else {}
        value = json.loads(done.stdout) if done.stdout.strip() else None
        return Said(done.returncode, value, done.stderr, layers)


PRELUDE = """
import json, os, socket, sys
said = {}
def error(attempt, *arguments, **named):
    "The name of the error that a function raises, or None."
    import errno
    try:
        attempt(*arguments, **named)
    except OSError as problem:
        return errno.errorcode.get(problem.errno, "unknown")
def write(path):
    with open(path, "w") as file:
        file.write("written")
def read(path):
    with open(path) as file:
        return file.read()
def connect(port):
    socket.create_connection(("127.0.0.1", port), 2).close()
def connect_unix(path):
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(path)
"""


def python_for(user: int) -> str | None:
    """Find an interpreter that a user can run: the tests' own may lie in root's home."""
    if user == os.getuid():
        return sys.executable
    for candidate in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        try:
            done = subprocess.run(
                [candidate, "-I", "-S", "-c", "import sys; sys.exit(sys.version_info < (3, 11))"],
                check=False,
                user=user,
                group=user,
                extra_groups=[],
                cwd="/",
                capture_output=True,
                timeout=30,
            )
        except OSError:
            continue
        if done.returncode == 0:
            return candidate
    return None


@contextmanager
def place_of(user: int, python: str) -> Iterator[Place]:
    """Make a place that others can enter, unlike pytest's, and that is not among the temporary folders."""
    parent = Path("/srv") if os.getuid() == 0 else CACHE
    parent.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="toolscore-confined-", dir=parent))
    try:
        path.chmod(0o755)
        package = path / "lib" / "toolscore"
        source = Path(toolscore.sandbox.__path__[0])
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, package / "sandbox", ignore=ignored)
        shutil.copy(source.parent / "__init__.py", package)
        for name in ("landlockpy", "seccompy"):
            spec = importlib.util.find_spec(name)
            assert spec is not None
            assert spec.origin is not None
            shutil.copytree(Path(spec.origin).parent, path / "lib" / name, ignore=ignored)
        for folder in ("own", "other", "home"):
            (path / folder).mkdir()
        (path / "home" / "secrets.json").write_text("s3cret")
        (path / "other" / "there").write_text("there")
        for found in (path, *path.rglob("*")):
            os.chown(found, user, user)
        yield Place(path, user, python)
    finally:
        shutil.rmtree(path)
