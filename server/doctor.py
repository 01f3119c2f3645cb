"""What this machine offers to ToolScore, one finding a line, each with what to do about it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

from ..runners.errors import InstallError
from ..runners.installers.node import find_node
from ..runners.installers.python import find_uv
from ..runners.ports import is_free
from ..sandbox.probe import probe
from .folders import HomeError, file_system, refuse_network
from .home import Home
from .mending import clients_files, extras, home_files, servers, store_file
from .mending.finding import Check, Status
from .owner import current_owner
from .policy_path import BadPolicyError, path_of
from .policy_path import check as check_policy
from .settings import Settings
from .settings_ray import RaySettings

__all__ = ["Check", "examine", "healthy", "left_over"]

_SUPPORTED = ((3, 11), (3, 14))
_ROOMY = 1 << 30
"""Free bytes below which a few servers' environments may not fit any more."""
_FULL = 4 << 20
"""Free bytes below which not even the store and the journal can be written."""
_GET_NODE = (
    "install Node.js 18 or later (https://nodejs.org), or ToolScore's extra: pip install 'toolscore[node]'"
)


def examine(settings: Settings) -> Iterator[Check]:
    """Look at everything; each finding is given as soon as it is there.

    Args:
        settings: Settings in force: home, node, port range.
    """
    home = Home.at(settings.home)
    yield _python()
    yield _uv()
    yield from _node(settings.install.node)
    yield _git()
    yield _containers(settings)
    yield _home(home)
    yield _space(home)
    yield _unix_sockets(home)
    yield _ports(settings.process.port_range_start, settings.process.port_range_end)
    yield _owner(home)
    if settings.database.url:
        yield _gateways(settings, home)
    yield from _ray(settings)
    yield from _meaning(settings)
    yield from _memory(settings, home)
    yield _policy(settings)
    yield _secrets(home)
    yield from home_files.look(home)
    yield from () if settings.database.url else store_file.look(home)
    yield from _servers(settings, home)
    yield from clients_files.look(home)
    for layer in probe():
        status: Status = "ok" if layer.offered else "warn"
        yield Check(f"kernel: {layer.name}", status, layer.found, layer.advice)


def healthy(checks: list[Check]) -> bool:
    """Tell whether everything ToolScore needs is there."""
    return not any(check.needed and check.status == "missing" for check in checks)


def left_over(checks: Iterable[Check]) -> bool:
    """Tell whether something is left to be mended: what ToolScore needs, or what is broken in the home."""
    return any(check.broken or (check.needed and check.status == "missing") for check in checks)


def _servers(settings: Settings, home: Home) -> Iterator[Check]:
    """Look at the servers there are; looking makes no home."""
    from ..tools.errors import StoreError
    from .database_home import has_store, store_of

    try:
        if has_store(settings):
            yield from servers.damaged(store_of(settings, home), settings)
        owner = current_owner(home)
    except (StoreError, HomeError):
        return  # which other findings tell of
    if owner is not None and owner.mode != "command":
        yield from servers.given_up(home, owner, settings)


def _gateways(settings: Settings, home: Home) -> Check:
    """Look at the shared database, and at who shares it."""
    from ..tools.errors import StoreError
    from .database_home import store_of
    from .gateways.looking import seen

    try:
        where = store_of(settings, home)
        found = seen(where) if isinstance(where, str) else []
    except StoreError as error:
        fix = extras.fix("postgres") if importlib.util.find_spec("psycopg") is None else None
        return Check("gateways", "missing", str(error), needed=True, fix=fix)  # which says what to do
    silent = [one.name for one in found if one.age > settings.gateway.timeout]
    told = ", ".join(f"{one.name} ({one.state}, runs {one.servers})" for one in found)
    if silent:
        advice = "start them again, or wait: the others take over what they ran (docs/gateways.md)"
        return Check("gateways", "warn", f"{told}; no sign of life of {', '.join(silent)}", advice)
    return Check("gateways", "ok", told or "the database is there, and no gateway serves now")


def _python() -> Check:
    version = sys.version_info[:2]
    found = f"{'.'.join(map(str, sys.version_info[:3]))} at {sys.executable}"
    low, high = (".".join(map(str, bound)) for bound in _SUPPORTED)
    if version < _SUPPORTED[0]:
        return Check("python", "missing", found, f"use Python {low} to {high}", needed=True)
    if version > _SUPPORTED[1]:
        return Check(
            "python", "warn", found, f"newer than what is tested; use Python {low} to {high}", needed=True
        )
    return Check("python", "ok", found, needed=True)


def _uv() -> Check:
    advice = "pip install uv"
    try:
        return _program("uv", find_uv(), advice=advice, needed=True)
    except InstallError:
        return Check("uv", "missing", "not found", advice, needed=True)


def _git() -> Check:
    advice = "install git to install servers from git+URL (apt install git)"
    path = shutil.which("git")
    return _program("git", path, advice=advice) if path else Check("git", "missing", "not found", advice)


def _containers(settings: Settings) -> Check:
    from ..runners.docker.probe import EXTRA, look

    found = look(settings.docker.host, os.environ)
    fix = extras.fix("docker") if found.advice == EXTRA else None
    return Check("containers", found.status, found.found, found.advice, fix=fix)


def _meaning(settings: Settings) -> Iterator[Check]:
    """Look whether tools are found by their meaning, too; it is said nowhere else, as words alone do without."""
    from ..tools.search.encoder import available

    if settings.tools.semantic == "off":
        return
    advice = "to find tools by what is meant, too, pip install 'toolscore[semantic]'"
    by_words = Check("search", "missing", "by words only", advice)
    yield by_words if available() else Check("search", "ok", "by words and by meaning")


def _memory(settings: Settings, home: Home) -> Iterator[Check]:
    """Look at what the bundled server memory keeps, if it ever did."""
    if settings.database.url:
        yield from _shared_memory(settings, home)
        return
    file = home.memory_file
    if not file.is_file():
        return
    query = "SELECT count(*), coalesce(sum(messages), 0) FROM memory_owner"
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            users, messages = connection.execute(query).fetchone()
    except sqlite3.Error as error:
        advice = f"put a backup in its place, or move it away to begin anew (mv {file} {file}.damaged)"
        yield Check("memory", "warn", f"{file} cannot be read: {error}", advice)
        return
    size = file.stat().st_size / (1 << 20)
    yield Check("memory", "ok", f"{messages:,} messages (users: {users}), {size:.1f} MiB in {file}")


def _shared_memory(settings: Settings, home: Home) -> Iterator[Check]:
    from ..tools.errors import StoreError
    from ..tools.search.encoder import available
    from .database_home import store_of

    try:
        where = store_of(settings, home)
        from ..tools.memory.looking import seen

        found = seen(where) if isinstance(where, str) else None
    except (StoreError, ImportError):
        return  # which the finding on gateways tells of
    if found is None:
        return
    told = f"{found.messages:,} messages (users: {found.users}) in the shared database"
    by_words = settings.memory.semantic == "off" or available() is not None
    yield Check(
        "memory", "ok", f"{told}; {'searched by words' if by_words else f'vectors are {found.vectors}'}"
    )


def _node(configured: str) -> Iterator[Check]:
    """Look for node and npm as the installers do: one without the other is no use to them."""
    advice = (
        f"install.node is {configured}, which cannot be used; correct it or leave it out"
        if configured
        else _GET_NODE
    )
    try:
        node = find_node(configured or None)
    except InstallError as error:
        found = str(error) if configured else "no Node.js with npm found"
        fix = None if configured else extras.fix("node")
        yield Check("node", "missing", found, advice, fix=fix)
        yield Check("npm", "missing", found, advice)
        return
    # npm's own script looks for a node on the path.
    path = os.pathsep.join([str(Path(node.node).parent), os.environ.get("PATH", os.defpath)])
    yield _program("node", node.node, advice=advice)
    yield _program("npm", *node.npm, advice=advice, env={**os.environ, "PATH": path})


def _program(
    name: str, *words: str, advice: str, needed: bool = False, env: Mapping[str, str] | None = None
) -> Check:
    """Ask a program for its version; the last of the words that start it is where it lies."""
    path = words[-1]
    try:
        done = subprocess.run(
            [*words, "--version"],
            check=False,
            capture_output=True,
            text=True,
            timeout=15,
            stdin=subprocess.DEVNULL,
            env=env,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = "does not answer" if isinstance(error, subprocess.TimeoutExpired) else error.strerror
        return Check(name, "missing", f"{path} cannot be run: {reason}", advice, needed)
    first = (done.stdout or done.stderr).strip().partition("\n")[0]
    if done.returncode:
        return Check(name, "missing", f"{path} fails with status {done.returncode}: {first}", advice, needed)
    version = first.removeprefix(f"{name} ").removeprefix("version ").removeprefix("v")
    return Check(name, "ok", f"{version} at {path}", needed=needed)


def _nearest(path: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _home(home: Home) -> Check:
    elsewhere = "choose another folder with --home or TOOLSCORE_HOME"
    try:
        refuse_network(home.path)
    except HomeError as error:
        return Check("home", "missing", str(error), elsewhere, needed=True)
    nearest = _nearest(home.path)
    kind = _file_system(nearest)
    if nearest == home.path:
        try:
            # Really written, because permissions do not tell of full disks and read-only mounts.
            with tempfile.TemporaryFile(dir=nearest) as probe_file:
                probe_file.write(bytes(4096))
        except OSError as error:
            found = f"{home.path} is not writable: {error.strerror}"
            return Check("home", "missing", found, f"make it writable, or {elsewhere}", needed=True)
        return Check("home", "ok", f"{home.path}, writable, {kind}", needed=True)
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        found = f"{home.path} cannot be made in {nearest}"
        return Check("home", "missing", found, f"make that writable, or {elsewhere}", needed=True)
    return Check("home", "ok", f"{home.path}, not there yet, can be made, {kind}", needed=True)


def _file_system(path: Path) -> str:
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return "file system unknown"
    return f"local file system {file_system(os.path.realpath(path), mounts) or 'unknown'}"


def _space(home: Home) -> Check:
    try:
        free = shutil.disk_usage(_nearest(home.path)).free
    except OSError as error:
        return Check("disk", "warn", f"free space unknown: {error.strerror}")
    found = f"{free / (1 << 30):.1f} GiB free" if free >= _ROOMY else f"{free >> 20} MiB free"
    if free < _FULL:
        advice = "free some space, or choose another folder with --home or TOOLSCORE_HOME"
        return Check("disk", "missing", found, advice, needed=True)
    if free < _ROOMY:
        return Check("disk", "warn", found, "free some space: each server's environment takes 20 to 200 MiB")
    return Check("disk", "ok", found)


def _unix_sockets(home: Home) -> Check:
    """Make one, in a folder of its own: the home's own socket may be in use."""
    family: int | None = getattr(socket, "AF_UNIX", None)
    limit = "one client a home only; further ones and the command line cannot join a running ToolScore"
    if family is None:
        return Check("unix sockets", "warn", "not on this platform", limit)
    try:
        path = home.socket_path
        with tempfile.TemporaryDirectory() as folder, socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.bind(str(Path(folder) / "s"))
            listener.listen()
    except (OSError, HomeError) as error:
        return Check("unix sockets", "warn", f"cannot be made: {error}", limit)
    return Check("unix sockets", "ok", f"of this home: {path}")


def _ports(first: int, last: int) -> Check:
    size = last - first + 1
    free = sum(is_free(port) for port in range(first, last + 1))
    found = f"{free} of {size} free, {first} to {last}"
    if free < min(size, 10):
        advice = "widen the range with process.port_range_start and process.port_range_end"
        return Check("ports", "warn", found, advice)
    return Check("ports", "ok", found)


def _owner(home: Home) -> Check:
    try:
        owner = current_owner(home)
    except HomeError as error:
        return Check("running", "warn", str(error))
    if owner is None:
        return Check("running", "ok", "no ToolScore runs for this home")
    return Check("running", "ok", f"ToolScore {owner.version}, process {owner.pid}, mode {owner.mode}")


def _ray(settings: Settings) -> Iterator[Check]:
    """Look for what servers on a cluster need; nothing is said where nobody wants any."""
    ray = settings.ray
    if importlib.util.find_spec("ray") is None:
        if ray != RaySettings() or settings.sandbox.mode == "cluster":
            advice = "run `pip install 'toolscore[ray]'`"
            yield Check("ray", "missing", "no Ray in this Python", advice, fix=extras.fix("ray"))
        return
    version = importlib.metadata.version("ray")
    if ray.address == "auto":
        yield Check("ray", "ok", f"Ray {version}; the cluster is the one this machine is a node of, if it is")
        return
    host, _, port = ray.address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), 2.0).close()
    except OSError as exc:
        advice = "start its head, or set ray.address to where it is"
        yield Check("ray", "warn", f"Ray {version}; nothing answers at {ray.address} ({exc})", advice)
    else:
        yield Check("ray", "ok", f"Ray {version}; something answers at {ray.address}")


def _policy(settings: Settings) -> Check:
    path, required = path_of(settings)
    try:
        check_policy(settings)
    except BadPolicyError as error:
        advice = "correct it; `toolscore policy check` looks at it again"
        return Check("policy", "missing", str(error).replace("\n", " "), advice, needed=True)
    if not required and not path.exists():
        return Check("policy", "ok", f"none; {path} would be it")
    return Check("policy", "ok", f"{path}, in order")


def _secrets(home: Home) -> Check:
    """Look whether the secrets can be read with what there is here; nobody is asked for a passphrase."""
    from ..tools import passphrase
    from ..tools.errors import SecretsError
    from ..tools.secrets import Secrets

    secrets = Secrets(home.secrets_file)
    try:
        sealed = secrets.sealed
        if sealed and passphrase.given(ask=False) is None:
            found = f"{home.secrets_file} is sealed, and there is no passphrase in this environment"
            advice = (
                f"set {passphrase.FILE_VARIABLE} to a file that holds it wherever ToolScore is started without a "
                "terminal"
            )
            return Check("secrets", "warn", found, advice)
        secrets.names()
    except SecretsError as error:
        return Check("secrets", "missing", str(error), needed=True)  # which says what to do
    if not home.secrets_file.exists():
        return Check("secrets", "ok", "none in a file yet")
    return Check("secrets", "ok", f"{home.secrets_file}, {'sealed, ' * sealed}readable")
