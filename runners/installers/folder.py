"""A server in a local folder: copied, recognised, and installed from the copy."""

from __future__ import annotations

from pathlib import Path

import anyio.to_thread

from ..errors import InstallError
from . import node_project, python_project
from .entry import Entry
from .file_list import tree_hash
from .node import bins, read_package
from .node_project import install_node
from .python_project import find_file, install_python, read_project
from .run import Job
from .source import Source
from .tree import copy_tree

LOOKED_FOR = (
    "pyproject.toml, setup.py, requirements.txt, package.json, "
    f"{', '.join(python_project.FILES)}, index.js, dist/index.js, build/index.js"
)


async def install_folder(job: Job, source: Source) -> Entry:
    """Install from a folder, which is only read: all happens in a copy at `<directory>/src`.

    Args:
        job: The installation this is a part of.
        source: A source of kind `folder`.

    Raises:
        InstallError: If the folder is not there, holds no project, or its project cannot be built.
    """
    assert source.path is not None
    folder = source.path
    if folder.is_symlink() and not folder.exists():
        raise InstallError(f"{folder} is a link that leads nowhere; check where it points.")
    if not folder.exists():
        raise InstallError(f"The folder {folder} does not exist; check the path.")
    if not folder.is_dir():
        raise InstallError(
            f"{folder} is a file; name the folder of the server, or that folder with #{folder.name}."
        )
    copy = job.directory / "src"
    await job.say(f"copying {folder}")
    await copy_tree(folder, copy)
    job.came_to(f"sha256:{await anyio.to_thread.run_sync(tree_hash, copy)}", f"The folder {folder}")
    return await install_project(job, copy, source.entry, shown=folder.name)


async def install_project(job: Job, root: Path, wanted: str | None, *, shown: str) -> Entry:
    """Install the project in a folder that belongs to the job.

    Args:
        job: The installation this is a part of.
        root: The folder; written to.
        wanted: Script, file or subfolder that the source named.
        shown: The folder's name as the user knows it.

    Raises:
        InstallError: If it holds no project, or its project cannot be built.
    """
    if wanted is not None and (root / wanted).is_dir():
        inner = (root / wanted).resolve()
        if not inner.is_relative_to(root.resolve()):
            raise InstallError(f"{wanted!r} leads out of {shown}.")
        root, shown, wanted = inner, f"{shown}/{wanted}", None
    if wanted is not None and (root / wanted).exists() and not _is_inside(root / wanted, root):
        raise InstallError(f"{wanted!r} leads out of {shown}.")
    if _is_node(root, wanted):
        return await install_node(job, root, wanted)
    project = read_project(root)
    if project.declared or find_file(root) or (wanted is not None and wanted.endswith(".py")):
        return await install_python(job, project, wanted)
    # Named files that are neither Python nor JavaScript are left to `command:`.
    raise InstallError(f"{shown} holds no server ToolScore knows how to install; looked for {LOOKED_FOR}.")


def _is_inside(path: Path, root: Path) -> bool:
    return path.resolve().is_relative_to(root.resolve())


def _is_node(root: Path, wanted: str | None) -> bool:
    """Tell whether to install with npm. Many projects hold files of both worlds for their tooling."""
    if wanted is not None and wanted.endswith((".py", *node_project.SUFFIXES)):
        return not wanted.endswith(".py")
    if not (root / "package.json").is_file():
        has_python = read_project(root).declared or find_file(root)
        return not has_python and any((root / name).is_file() for name in node_project.FILES)
    if read_project(root).buildable:
        # A Python package with a package.json: only a program of that name makes it a Node server.
        return wanted is not None and wanted in bins(read_package(root))
    return True
