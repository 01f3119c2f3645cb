"""Python servers: an environment of their own, made by uv, and the entry point of what is in it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from ..errors import InstallError
from ..pin import PYTHON_LOCK
from . import python_lock
from .entry import NONE_FOUND, Entry, choose, normal
from .explain import explain
from .run import Job
from .source import Source

_DECLARED = ("pyproject.toml", "setup.py", "setup.cfg")
"""Where a project says what it depends on, as uv reads it."""


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
    await venv.install(job, "--", requirement, subject=requirement, only=source)
    distribution = venv.distribution(source.name)
    if distribution is None:
        raise InstallError(f"uv reported success, but {source.name} is not in the environment it made.")
    return venv.entry(distribution, source.entry)


async def _checked(job: Job, venv: Venv, requirement: str, sha256: str) -> None:
    """Install a distribution by itself, from the one file that has the checksum; what it needs comes after it."""
    path = job.directory / "checked.txt"
    path.write_text(f"{requirement} --hash=sha256:{sha256}\n", encoding="utf-8")
    await venv.put(job, "--no-deps", "--require-hashes", "-r", str(path), subject=requirement)


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
        only: Source | None = None,
    ) -> None:
        """Lock requirements under the job's constraints, and install what the lock names by its hashes.

        Args:
            job: The installation this is a part of.
            what: `--` and requirements, or `-r` and a file.
            subject: What this is, for reports and errors.
            env: Variables for uv and the build back-ends.
            only: The package, where one of an index is wanted.

        Raises:
            InstallError: If anything cannot be fetched or built, or is not what the job must come to.
        """
        text = await self._lock(job, what, subject, env) if job.locked is None else _locked(job)
        if only is not None and only.sha256 is not None:
            text = python_lock.narrowed(text, str(only.name), only.sha256)
        lock = job.keep(PYTHON_LOCK, text)
        loose = python_lock.unhashed(text)
        job.unhashed += loose
        if python_lock.versions(text):
            await self.put(
                job, *([] if loose else ["--require-hashes"]), "-r", str(lock), subject=subject, env=env
            )

    async def build(
        self, job: Job, root: Path, *, subject: str, env: Mapping[str, str | None] | None = None
    ) -> None:
        """Build the project in a folder and install it, after what it depends on.

        Raises:
            InstallError: If anything cannot be fetched or built.
        """
        declared = next((path for name in _DECLARED if (path := root / name).is_file()), root / _DECLARED[0])
        await self.install(job, "-r", str(declared), subject=subject, env=env)
        await self.put(job, "--no-deps", "--", str(root), subject=subject, env=env)

    async def put(
        self, job: Job, *what: str, subject: str, env: Mapping[str, str | None] | None = None
    ) -> None:
        """Install, without a lock and constraints.

        Args:
            job: The installation this is a part of.
            what: Last arguments of `uv pip install`.
            subject: What this is, for reports and errors.
            env: Variables for uv and the build back-ends.

        Raises:
            InstallError: If anything cannot be fetched or built.
        """
        await job.say(f"installing {subject}")
        # Half a second now; without it the first start takes twice as long, and every start where the
        # environment is read-only to the server.
        argv = [find_uv(), "pip", "install", "--python", str(self.python), "--compile-bytecode"]
        done = await job.run([*argv, *what], env=env)
        if done.returncode:
            raise explain("uv", subject, done.output)

    async def _lock(
        self, job: Job, what: tuple[str, ...], subject: str, env: Mapping[str, str | None] | None
    ) -> str:
        """Choose versions, with the hashes of their files."""
        await job.say(f"choosing versions for {subject}")
        if what[0] == "--":
            wanted = job.directory / "wanted.in"
            wanted.write_text("".join(f"{one}\n" for one in what[1:]), encoding="utf-8")
        else:
            wanted = Path(what[-1])
        constraints = _write_constraints(job)
        made = job.directory / "made.txt"
        argv = [find_uv(), "pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--no-annotate"]
        argv += ["--python", str(self.python), "--output-file", str(made)]
        argv += ["--constraint", str(constraints)] if constraints else []
        done = await job.run([*argv, str(wanted)], env=env)
        if done.returncode:
            raise explain("uv", subject, done.output)
        text = made.read_text(encoding="utf-8")
        made.unlink()
        return text

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


def _locked(job: Job) -> str:
    """Give the lock that must be installed."""
    text = job.locked.locks.get(PYTHON_LOCK) if job.locked is not None else None
    if text is None:
        raise InstallError(
            "What was locked has no lock of Python packages, and this needs one; lock it anew."
        )
    python_lock.check(text)
    return text


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
