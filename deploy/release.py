"""Makes what is released, and tries it: `make release`. docs/releasing.md says what comes of it.

Needs uv, git and the Python package index. Nothing is published.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import bundling

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ("__init__.py", "__main__.py", "py.typed")
FOLDERS = ("client/", "server/", "tools/", "runners/", "sandbox/")
"""What is in the wheel, and nothing else."""
HATCHLING_DATE = 1580601600
"""What hatchling dates files where nothing else is said."""
_LEFT_OUT = (".dev/", ".dev")


class ReleaseError(Exception):
    """What there is cannot be released; the text says why."""


def say(text: str) -> None:
    """Tell what is being done."""
    print(text, flush=True)


def run(*argv: str | Path, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> str:
    """Run a program and give what it said.

    Raises:
        ReleaseError: If it fails.
    """
    done = subprocess.run(
        [str(word) for word in argv],
        check=False,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode:
        shown = " ".join(map(str, argv))
        raise ReleaseError(f"`{shown}` ended with {done.returncode}:\n{done.stdout.rstrip()}")
    return done.stdout


def uv() -> str:
    """Find uv: that of this environment, or the machine's."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.is_file() else shutil.which("uv")
    if found is None:
        raise ReleaseError("uv is missing: run `make .venv/.ready`, or `pip install uv`.")
    return found


def version() -> str:
    """Give the version of the package."""
    found = re.search(r'^__version__ = "(.+)"$', (ROOT / "__init__.py").read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise ReleaseError("__init__.py names no __version__.")
    return found[1]


def in_step(number: str) -> None:
    """Check that all that names the version, or the server's name in registries, says the same.

    Raises:
        ReleaseError: If something does not.
    """
    server = json.loads((ROOT / "server.json").read_text("utf-8"))
    named = {server["version"], *(package["version"] for package in server["packages"])}
    if named != {number}:
        raise ReleaseError(f"server.json is of {', '.join(sorted(named))}, and the package of {number}.")
    heading = rf"^## \[{re.escape(number)}\] - \d{{4}}-\d\d-\d\d$"
    if not re.search(heading, (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE):
        raise ReleaseError(f"CHANGELOG.md has no heading `## [{number}] - DATE`.")
    marker = f"<!-- mcp-name: {server['name']} -->"
    if marker not in (ROOT / "README.md").read_text("utf-8"):
        raise ReleaseError(
            f"README.md has no line `{marker}`, by which registries tell whose the package is."
        )


def tracked() -> set[str]:
    """List the files that belong to the release."""
    names = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    return {name for name in names if name and not name.startswith(_LEFT_OUT) and (ROOT / name).exists()}


def dated() -> int:
    """Give the time all files are dated: `SOURCE_DATE_EPOCH`, or that of the last commit."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given:
        return int(given)
    try:
        return int(run("git", "log", "-1", "--format=%ct"))
    except (ReleaseError, ValueError):
        return HATCHLING_DATE


def build(out: Path, number: str, when: int) -> tuple[Path, Path, Path]:
    """Make the source distribution, of that the wheel, and of that the bundle.

    Returns:
        The wheel, the source distribution, the bundle.

    Raises:
        ReleaseError: If one cannot be made, or holds other files than it must.
    """
    env = {**os.environ, "SOURCE_DATE_EPOCH": str(when)}
    run(uv(), "build", "--quiet", "--python", sys.executable, "--out-dir", out, ROOT, env=env)
    wheel, sdist = out / f"toolscore-{number}-py3-none-any.whl", out / f"toolscore-{number}.tar.gz"
    files = tracked()
    same(_in_sdist(sdist), files | {"PKG-INFO"}, sdist)
    info = f"toolscore-{number}.dist-info"
    made = {
        f"{info}/{name}" for name in ("METADATA", "WHEEL", "entry_points.txt", "RECORD", "licenses/LICENSE")
    }
    package = {f"toolscore/{name}" for name in files if name in PACKAGE or name.startswith(FOLDERS)}
    same(_in_wheel(wheel), made | package, wheel)
    try:
        return wheel, sdist, bundling.make(wheel, number, ROOT / "LICENSE", when)
    except bundling.BundleError as error:
        raise ReleaseError(str(error)) from None


def _in_wheel(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as zipped:
        return set(zipped.namelist())


def _in_sdist(sdist: Path) -> set[str]:
    with tarfile.open(sdist) as tar:
        return {member.name.partition("/")[2] for member in tar if not member.isdir()}


def same(there: set[str], wanted: set[str], file: Path) -> None:
    """Check what a file holds.

    Raises:
        ReleaseError: If it is more, or less.
    """
    lost, more = sorted(wanted - there), sorted(there - wanted)
    if lost or more:
        raise ReleaseError(f"{file.name} lacks {lost[:10]} and has besides {more[:10]}.")


def bare(folder: Path) -> dict[str, str]:
    """Give the environment of somebody who has no checkout, and whose home is empty."""
    dropped = ("TOOLSCORE_", "PROCESS_", "PYTHON", "VIRTUAL_ENV", "XDG_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    # The package managers' caches stay: what is tried is what comes out of the files, not the line to the index.
    cache = run(uv(), "cache", "dir").strip()
    return {**env, "HOME": str(folder), "UV_CACHE_DIR": cache, "NO_COLOR": "1"}


def tried(file: Path, number: str) -> None:
    """Install a wheel or a source distribution into an environment of its own, and start what it brings.

    Raises:
        ReleaseError: If that fails.
    """
    with tempfile.TemporaryDirectory(prefix="toolscore-release-") as name:
        folder = Path(name)
        env, place = bare(folder), folder / "venv"
        run(uv(), "venv", "--quiet", "--python", sys.executable, place, env=env, cwd=folder)
        python = place / "bin" / "python"
        run(uv(), "pip", "install", "--quiet", "--python", python, file, env=env, cwd=folder)
        started([str(place / "bin" / "toolscore")], number, env, folder)


def tried_by_uvx(wheel: Path, number: str) -> None:
    """Start the wheel without installing it.

    Raises:
        ReleaseError: If that fails.
    """
    with tempfile.TemporaryDirectory(prefix="toolscore-release-") as name:
        command = [uv(), "tool", "run", "--quiet", "--from", str(wheel), "toolscore"]
        started(command, number, bare(Path(name)), Path(name))
        run(*command, "doctor", env=bare(Path(name)), cwd=Path(name))


def started(command: Sequence[str], number: str, env: Mapping[str, str], folder: Path) -> None:
    """Hold what an installed ToolScore says against what it must.

    Raises:
        ReleaseError: If it says something else.
    """
    said = run(*command, "--version", env=env, cwd=folder).strip()
    if said != f"toolscore {number}":
        raise ReleaseError(f"`toolscore --version` says {said!r} instead of {number}.")


def checksums(out: Path, files: Sequence[Path]) -> None:
    """Write `SHA256SUMS`, as `sha256sum --check` reads it."""
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (out / "SHA256SUMS").write_text("".join(lines), "utf-8")


def release(out: Path, *, uncommitted: bool) -> None:
    """Make it all.

    Raises:
        ReleaseError: If anything is not as it must be.
    """
    number = version()
    in_step(number)
    if not uncommitted and (changed := run("git", "status", "--porcelain").rstrip()):
        raise ReleaseError(f"A release is made of what is committed, and this is not:\n{changed}")
    out.mkdir(parents=True, exist_ok=True)
    for old in out.iterdir():
        # What an earlier run left must not be taken for this release's.
        if old.name.startswith("toolscore-") or old.name in ("SHA256SUMS", "server.json"):
            old.unlink()
    say(f"ToolScore {number}: building ...")
    wheel, sdist, bundle = build(out, number, dated())
    say("checking what index and forges show of it ...")
    run(uv(), "tool", "run", "--quiet", "twine", "check", "--strict", wheel, sdist)
    for file in (wheel, sdist):
        say(f"installing {file.name} into an empty environment ...")
        tried(file, number)
    say("starting the wheel with uvx ...")
    tried_by_uvx(wheel, number)
    shutil.copyfile(ROOT / "server.json", out / "server.json")
    checksums(out, [wheel, sdist, bundle, out / "server.json"])
    for file in sorted(out.glob("[!.]*")):
        say(f"{file.stat().st_size:>10,}  {os.path.relpath(file)}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Make what is released, and try it. Nothing is published.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", metavar="DIR", help="where it goes (dist)")
    parser.add_argument(
        "--uncommitted", action="store_true", help="also of a checkout with changes, to try it"
    )
    options = parser.parse_args()
    try:
        release(options.out.resolve(), uncommitted=options.uncommitted)
    except ReleaseError as error:
        sys.exit(f"release: {error}")


if __name__ == "__main__":
    main()
