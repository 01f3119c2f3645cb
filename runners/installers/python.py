"""Python servers: an environment of their own, made by uv, and the entry point of what is in it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from ..errors import InstallError
from .entry import NONE_FOUND, Entry, choose, normal
from .explain import explain
from .run import Job
from .source import Source


async def install_package(job: Job, source: Source) -> Entry:
    """Install a distribution from the index.

    Args:
        job: The installation this is a part of.
        source: A source of kind `pypi`.

    Raises:
        InstallError: If it cannot be fetched or built, or has no entry point.
    """
    venv = await Venv.make(job)
    extras = f"[{','.join(source.extras)}]" if source.extras else ""
    version = f"=={source.version}" if source.version else ""
    requirement = f"{source.name}{extras}{version}"
    if source.sha256 is not None:
        await _checked(job, venv, requirement, source.sha256)
    # After `--`, and a checked name: neither an option nor a folder can hide in it.
    await venv.install(job, "--", requirement, subject=requirement)
    distribution = venv.distribution(source.name)
    if distribution is None:
        raise InstallError(f"uv reported success, but {source.name} is not in the environment it made.")
    return venv.entry(distribution, source.entry)


async def _checked(job: Job, venv: Venv, requirement: str, sha256: str) -> None:
    """Install a distribution by itself, from the one file that has the checksum; what it needs comes after it."""
    path = job.directory / "checked.txt"
    path.write_text(f"{requirement} --hash=sha256:{sha256}\n", encoding="utf-8")
    await venv.install(job, "--no-deps", "--require-hashes", "-r", str(path), subject=requirement, free=True)


def find_uv() -> str:
    """Find uv: the one ToolScore depends on, or the machine's own.

    Raises:
        InstallError: If there is none.
    """
    try:
        from uv import find_uv_bin

        return find_uv_bin()
    except (ImportError, FileNotFoundError):
        if found := shutil.which("uv"):
            return found
    raise InstallError("uv is missing, and Python servers are installed with it: run `pip install uv`.")


class Venv:
    """A virtual environment that belongs to one server."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.python = path / "bin" / "python"

    @classmethod
    async def make(cls, job: Job) -> Venv:
        """Make the environment of a job in `<directory>/venv`.

        Raises:
            InstallError: If uv or the interpreter is missing, or a constraint is malformed.
        """
        venv = cls(job.directory / "venv")
        _write_constraints(job)
        await job.say("making a Python environment")
        done = await job.run([find_uv(), "venv", "--quiet", "--python", job.python, str(venv.path)])
        if done.returncode:
            raise explain("uv", "a Python environment", done.output)
        return venv

    async def install(
        self,
        job: Job,
        *what: str,
        subject: str,
        env: Mapping[str, str | None] | None = None,
        free: bool = False,
    ) -> None:
        """Install requirements into the environment, under the job's constraints.

        Args:
            job: The installation this is a part of.
            what: Last arguments of `uv pip install`: `--` and requirements, or `-r` and a file.
            subject: What this is, for reports and errors.
            env: Variables for uv and the build back-ends.
            free: Whether the job's constraints do not count, as what is pinned by a checksum leaves no choice.

        Raises:
            InstallError: If anything cannot be fetched or built.
        """
        await job.say(f"installing {subject}")
        constraints = None if free else _write_constraints(job)
        argv = [find_uv(), "pip", "install", "--python", str(self.python)]
        # Half a second now; without it the first start takes twice as long, and every start where the
        # environment is read-only to the server.
        argv += ["--compile-bytecode", *(["--constraint", str(constraints)] if constraints else [])]
        done = await job.run([*argv, *what], env=env)
        if done.returncode:
            raise explain("uv", subject, done.output)

    def distributions(self) -> list[Distribution]:
        """List what is installed."""
        places = [str(place) for place in self.path.glob("lib*/python*/site-packages")]
        return list(distributions(path=places))

    def distribution(self, name: str) -> Distribution | None:
        """Find an installed distribution by its name, in any spelling."""
        return next((d for d in self.distributions() if normal(d.name) == normal(name)), None)

    def check_python(self, requires: str, subject: str) -> None:
        """Refuse an interpreter a project rules out; uv checks that only for what it builds.

        Raises:
            InstallError: If the environment's Python is not one the project asks for.
        """
        version = self.version()
        try:
            fits = SpecifierSet(requires).contains(version, prereleases=True)
        except InvalidSpecifier:
            raise InstallError(
                f"{subject} asks for Python {requires!r}, which is no version specifier."
            ) from None
        if not fits:
            raise InstallError(
                f"{subject} needs Python {requires}, and its environment has Python {version}; configure an "
                "interpreter that fits, with the setting install.python (a path, or a version such as 3.13)."
            )

    def version(self) -> str:
        """Give the version of the environment's Python."""
        for line in (self.path / "pyvenv.cfg").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition("=")
            if key.strip() in ("version_info", "version"):
                return value.strip()
        raise InstallError(f"The environment {self.path} does not say which Python it has.")

    def scripts(self, distribution: Distribution) -> dict[str, Path]:
        """Give the console scripts of a distribution that are really there."""
        points = distribution.entry_points.select(group="console_scripts")
        return {p.name: path for p in points if (path := self.path / "bin" / p.name).is_file()}

    def entry(self, distribution: Distribution, wanted: str | None = None) -> Entry:
        """Choose the entry point of a distribution: a console script, or a module with a `__main__`.

        Args:
            distribution: What was installed.
            wanted: The script the source named.

        Raises:
            InstallError: If there is none, or several between which nothing decides.
        """
        name, scripts = distribution.name, self.scripts(distribution)
        if not scripts and wanted is None:
            modules = main_modules(distribution)
            if not modules:
                raise InstallError(f"There is no entry point in {name} {distribution.version}: {NONE_FOUND}.")
            module = choose(modules, name)
            return self.run_module(module, package=name, version=distribution.version)
        chosen = choose(scripts, name, wanted)
        return Entry(
            command=str(scripts[chosen]),
            runtime="python",
            package=name,
            version=distribution.version,
            others=tuple(sorted(set(scripts) - {chosen})),
        )

    def run_module(self, module: str, *, package: str | None = None, version: str | None = None) -> Entry:
        """Give the entry that runs a module with the environment's Python."""
        return Entry(str(self.python), ("-m", module), "python", package=package, version=version)


def main_modules(distribution: Distribution) -> Sequence[str]:
    """List the top-level packages of a distribution that `python -m` can run."""
    files = distribution.files or []
    return sorted({f.parts[0] for f in files if len(f.parts) == 2 and f.name == "__main__.py"})


def _write_constraints(job: Job) -> Path | None:
    """Write the job's constraints where uv reads them; checked, because the file may hold options, too."""
    if not job.constraints:
        return None
    for constraint in job.constraints:
        try:
            requirement = Requirement(constraint)
        except InvalidRequirement:
            requirement = None
        if requirement is None or requirement.url or requirement.extras or "\n" in constraint:
            raise InstallError(f"{constraint!r} is no version constraint; write one like `mcp<2`.")
    path = job.directory / "constraints.txt"
    path.write_text("".join(f"{constraint}\n" for constraint in job.constraints), encoding="utf-8")
    return path
