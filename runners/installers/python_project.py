"""A Python server in a folder: what it declares, its environment, and the script or file that starts it."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic_core import from_json

from ..errors import InstallError
from .entry import Entry, normal
from .python import Venv, main_modules
from .run import Job

FILES = ("server.py", "main.py", "app.py", "__main__.py")
"""Files that are taken for the server where nothing is declared, in this order, also in `src/`."""

_INLINE = re.compile(r"(?m)^# /// script\s*$")
_IMPORTS = re.compile(r"(?m)^\s*(?:from|import)\s+(mcp|fastmcp)\b")
# Without a repository (it was left behind) setuptools-scm, hatch-vcs and pbr find no version and refuse to
# build.
_NO_REPOSITORY: dict[str, str | None] = {"SETUPTOOLS_SCM_PRETEND_VERSION": "0.0.0", "PBR_VERSION": "0.0.0"}


@dataclass(frozen=True, slots=True)
class PythonProject:
    """What a folder says about itself in Python's terms.

    Attributes:
        root: The folder.
        name: Declared name.
        buildable: Whether it is a package to install, not only a list of dependencies.
        dependencies: Whether `pyproject.toml` lists dependencies.
        requirements: Whether there is a `requirements.txt`.
        requires_python: The declared `requires-python`.
    """

    root: Path
    name: str | None
    buildable: bool
    dependencies: bool
    requirements: bool
    requires_python: str | None

    @property
    def declared(self) -> bool:
        """Whether anything was declared at all."""
        return self.buildable or self.dependencies or self.requirements


def read_project(root: Path) -> PythonProject:
    """Read what a folder declares. A `pyproject.toml` that only holds settings of tools declares nothing.

    Raises:
        InstallError: If `pyproject.toml` cannot be read.
    """
    path, table = root / "pyproject.toml", dict[str, Any]()
    if path.is_file():
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InstallError(f"The pyproject.toml of {root.name} cannot be read: {error}") from None
    found = table.get("project")
    project: dict[str, Any] = found if isinstance(found, dict) else {}
    name, python = project.get("name"), project.get("requires-python")
    # As uv does: a [project] without a build system and without scripts is an application, run from its
    # folder.
    setup = (root / "setup.py").is_file() or (root / "setup.cfg").is_file()
    return PythonProject(
        root=root,
        name=name if isinstance(name, str) else None,
        buildable="build-system" in table or bool(project.get("scripts")) or setup,
        dependencies=bool(project),
        requirements=(root / "requirements.txt").is_file(),
        requires_python=python if isinstance(python, str) else None,
    )


async def install_dependencies(job: Job, venv: Venv, project: PythonProject) -> Distribution | None:
    """Install what a project declares, and the project itself where it is a package.

    Returns:
        The installed distribution; `None` where the project is no package.

    Raises:
        InstallError: If anything cannot be fetched or built.
    """
    subject = project.name or project.root.name
    if project.requires_python:
        venv.check_python(project.requires_python, subject)
    if project.buildable:
        env = None if (project.root / ".git").exists() else _NO_REPOSITORY
        await venv.build(job, project.root, subject=subject, env=env)
        return _find_folder(venv, project.root)
    if project.requirements:
        # Relative lines of the file (`-e .`, `-r other.txt`) mean its own folder.
        await venv.install(job, "-r", str(project.root / "requirements.txt"), subject="requirements.txt")
    elif project.dependencies:
        await venv.install(
            job, "-r", str(project.root / "pyproject.toml"), subject=f"what {subject} depends on"
        )
    return None


async def install_python(job: Job, project: PythonProject, wanted: str | None) -> Entry:
    """Make the environment of a Python project and find its entry point.

    Args:
        job: The installation this is a part of.
        project: What the folder declares.
        wanted: Script or file the source named.

    Raises:
        InstallError: If it cannot be built, or has no entry point.
    """
    root = project.root
    venv = await Venv.make(job)
    distribution = await install_dependencies(job, venv, project)
    version = None if distribution is None else distribution.version
    package = project.name if distribution is None else distribution.name
    if wanted is not None and (root / wanted).is_file():
        file: Path | None = root / wanted
    elif distribution is not None and (venv.scripts(distribution) or main_modules(distribution)):
        entry = venv.entry(distribution, wanted)
        return Entry(entry.command, entry.args, "python", str(root), {}, package, version, entry.others)
    elif wanted is not None:
        raise InstallError(
            f"{root.name} has neither a script nor a file {wanted!r}; name one that exists after #."
        )
    else:
        file = find_file(root)
    if file is None:
        raise InstallError(
            f"There is no entry point in {package or root.name}: it declares no script and has none of "
            f"{', '.join(FILES)}; append the right file to the source, as in #path/to/file.py."
        )
    if not project.declared:
        await _install_imports(job, venv, file)
    return Entry(str(venv.python), (str(file),), "python", str(root), {}, package, version)


def find_file(root: Path) -> Path | None:
    """Find the file that looks like the server."""
    return next(
        (f for place in (root, root / "src") for name in FILES if (f := place / name).is_file()), None
    )


async def _install_imports(job: Job, venv: Venv, file: Path) -> None:
    """Install what a lone file asks for: its inline metadata (PEP 723), else the MCP library it imports."""
    text = file.read_text(encoding="utf-8", errors="replace")
    if _INLINE.search(text):
        await venv.install(job, "-r", str(file), subject=f"what {file.name} asks for")
    elif libraries := sorted(set(_IMPORTS.findall(text))):
        await venv.install(
            job, "--", *libraries, subject=f"{' and '.join(libraries)}, which {file.name} imports"
        )


def _find_folder(venv: Venv, root: Path) -> Distribution:
    """Find the distribution that was built from a folder, by the note the installer left (PEP 610)."""
    for distribution in venv.distributions():
        try:
            origin = from_json(distribution.read_text("direct_url.json") or "{}")
            url = urlsplit(str(origin.get("url", "")) if isinstance(origin, dict) else "")
        except ValueError:
            continue
        if url.scheme == "file" and Path(unquote(url.path)).resolve() == root.resolve():
            return distribution
    raise InstallError(f"uv reported success, but {normal(root.name)} is not in the environment it made.")
