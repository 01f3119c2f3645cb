"""A server in an MCPB bundle: unpacked, its dependencies installed, its manifest turned into a command."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import anyio.to_thread

from ..errors import InstallError
from .archive import unpack
from .download import download
from .entry import Entry
from .file_list import file_hash
from .manifest import CommandConfig, Manifest, Variables, read_manifest
from .node import find_node
from .python import Venv, find_uv
from .python_project import install_dependencies, read_project
from .run import Job
from .source import Source

_PYTHON = re.compile(r"python[0-9.]*(?:\.exe)?")
_LIBRARIES = ("server/lib", "lib", "server/venv", "venv")
"""Where bundles carry their Python dependencies."""


async def install_mcpb(job: Job, source: Source, env: Mapping[str, str]) -> Entry:
    """Install a bundle into `<directory>/src`.

    Args:
        job: The installation this is a part of.
        source: A source of kind `mcpb`: a file, or one on the web with its checksum.
        env: The candidate's environment; settings of the bundle's `user_config` are taken from it.

    Raises:
        InstallError: If the file or its manifest is wrong, a required setting is missing, or something it
            needs cannot be installed.
    """
    path = source.path
    if source.sha256 is not None:
        path = await download(job, source.url, source.sha256)
    assert path is not None
    if not path.is_file():
        raise InstallError(f"The bundle {path} does not exist; check the path.")
    job.came_to(f"sha256:{await anyio.to_thread.run_sync(file_hash, path)}", f"The bundle {path.name}")
    root = job.directory / "src"
    await job.say(f"unpacking {path.name}")
    await unpack(path, root)
    if source.path is None:
        path.unlink()  # what was fetched is not needed a second time
    manifest = read_manifest(root)
    variables = Variables(manifest, root, env)
    bundle = _Bundle(job, root, manifest, variables)
    command, args = await bundle.command()
    return Entry(
        command=command,
        args=tuple(args),
        runtime=bundle.runtime,
        cwd=str(root),
        env=bundle.env,
        package=manifest.name,
        version=manifest.version,
        consumed=frozenset(variables.consumed),
    )


class _Bundle:
    def __init__(self, job: Job, root: Path, manifest: Manifest, variables: Variables) -> None:
        self._job, self._root, self._manifest = job, root, manifest
        config: CommandConfig = manifest.server.mcp_config.here()
        self._command = variables.text(config.command or "")
        self._args = [word for arg in config.args or [] for word in variables.words(arg)]
        self.env = variables.environment(config.env or {})
        kind = manifest.server.type
        self.runtime: Literal["python", "node", "binary"] = "python" if kind == "uv" else kind

    async def command(self) -> tuple[str, list[str]]:
        """Prepare what the server needs and give its program and arguments."""
        if self._manifest.server.type in ("python", "uv"):
            return await self._python()
        if self._manifest.server.type == "node":
            return self._node()
        return self._binary()

    async def _python(self) -> tuple[str, list[str]]:
        venv = await Venv.make(self._job)
        if requires := self._manifest.compatibility.runtimes.get("python"):
            venv.check_python(requires, self._manifest.name)
        await self._dependencies(venv)
        program = Path(self._command).name
        if not self._command:
            return str(venv.python), [str(self._entry_point()), *self._args]
        if _PYTHON.fullmatch(program):
            # Also for a bundled interpreter: one made on another machine does not run on this one.
            return str(venv.python), self._args
        if program == "uv" and "run" in self._args:
            return self._uv_run(venv)
        script = venv.path / "bin" / program
        if program == self._command and script.is_file():
            return str(script), self._args
        return self._own_or_system(), self._args

    async def _dependencies(self, venv: Venv) -> None:
        kind, project = self._manifest.server.type, read_project(self._root)
        if kind == "uv":
            await install_dependencies(self._job, venv, project)
            return
        bundled = [self.env.get("PYTHONPATH", ""), *_LIBRARIES]
        if any(
            (self._root / place).is_dir() for paths in bundled for place in paths.split(os.pathsep) if place
        ):
            return
        if project.requirements:
            await venv.install(
                self._job,
                "-r",
                str(self._root / "requirements.txt"),
                subject=f"what {self._manifest.name} needs",
            )
        elif project.dependencies:
            # Its dependencies only: the bundle itself runs from its folder.
            await venv.install(
                self._job,
                "-r",
                str(self._root / "pyproject.toml"),
                subject=f"what {self._manifest.name} needs",
            )

    def _uv_run(self, venv: Venv) -> tuple[str, list[str]]:
        """Run what `uv run` would run, without resolving or fetching anything at start."""
        words = self._args[self._args.index("run") + 1 :]
        for i, word in enumerate(words):
            if word.startswith("-"):
                continue
            if _PYTHON.fullmatch(word):
                return str(venv.python), words[i + 1 :]
            if word.endswith(".py") and (file := self._root / word).is_file():
                return str(venv.python), [str(file), *words[i + 1 :]]
            if "/" not in word and (script := venv.path / "bin" / word).is_file():
                return str(script), words[i + 1 :]
        # The value of an option that names neither a file nor a script of the bundle was all there is.
        return str(venv.python), [str(self._entry_point())]

    def _node(self) -> tuple[str, list[str]]:
        node = find_node(self._job.node)
        program = Path(self._command).name
        if not self._command:
            return node.node, [str(self._entry_point()), *self._args]
        if program in ("node", "nodejs", "node.exe"):
            return node.node, self._args
        if self._command == "npx":
            return node.npx[0], [*node.npx[1:], *self._args]
        return self._own_or_system(), self._args

    def _binary(self) -> tuple[str, list[str]]:
        if not self._command:
            self._command = str(self._entry_point())
        return self._own_or_system(), self._args

    def _entry_point(self) -> Path:
        entry_point = self._manifest.server.entry_point
        path = self._root / entry_point
        if (
            not entry_point
            or "${" in entry_point
            or not path.is_file()
            or not path.resolve().is_relative_to(self._root.resolve())
        ):
            raise InstallError(
                f"The manifest of {self._manifest.name} names the entry point {entry_point!r}, which is "
                "not in the bundle."
            )
        return path

    def _own_or_system(self) -> str:
        """Give the program of the configuration: a file of the bundle, else one of the machine's."""
        path = self._root / self._command
        if path.is_file() and path.resolve().is_relative_to(self._root.resolve()):
            path.chmod(0o755)  # zips made on Windows know no permission
            return str(path)
        if self._command == "uv":
            return find_uv()
        if "/" not in self._command and shutil.which(self._command):
            return self._command
        raise InstallError(
            f"{self._manifest.name} is started with {self._command!r}, which is neither in the bundle nor "
            "on the PATH; install that program and try again."
        )
