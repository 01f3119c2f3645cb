"""A server in a git repository: one commit of it is fetched, then it is a folder like any other."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import InstallError
from .entry import Entry
from .explain import explain
from .folder import install_project
from .run import Finished, Job
from .source import Source
from .tree import delete_tree, drop_escaping_links

MISSING = "git is missing: install it with `apt-get install git` or `brew install git`, and try again."

# Neither the machine's hooks and templates nor what a repository brings may run anything here.
_SAFE = ("-c", "core.hooksPath=/dev/null", "-c", "init.templateDir=", "-c", "advice.detachedHead=false")
_REPOSITORY_VARIABLES = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_NAMESPACE",
)


async def install_git(job: Job, source: Source) -> Entry:
    """Fetch a repository at a branch, tag or commit, and install the project in it.

    Args:
        job: The installation this is a part of.
        source: A source of kind `git`.

    Returns:
        The entry; its version is the commit.

    Raises:
        InstallError: If git is missing, the repository or ref cannot be had, or the project cannot be built.
    """
    program = shutil.which("git")
    if program is None:
        raise InstallError(MISSING)
    root = job.directory / "src"
    repository = _Repository(job, program, source, root)
    commit = await repository.fetch()
    job.came_to(f"git:{commit}", source.text)
    drop_escaping_links(root)
    shown = urlsplit(source.url).path.rstrip("/").rsplit("/", 1)[-1].removesuffix(".git")
    entry = await install_project(job, root, source.entry, shown=shown)
    # Kept until here because builds read the version from it; the server has no use for the history.
    await delete_tree(root / ".git")
    return dataclasses.replace(entry, version=commit)


class _Repository:
    def __init__(self, job: Job, program: str, source: Source, root: Path) -> None:
        self._job, self._program, self._source, self._root = job, program, source, root
        local = ":file" if source.url.startswith("file:") else ""  # never from a submodule of a remote one
        self._env: dict[str, str | None] = {
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": f"https:ssh:git:http{local}",
            **dict.fromkeys(_REPOSITORY_VARIABLES),
        }

    async def _git(self, *args: str, check: bool = True) -> Finished:
        done = await self._job.run([self._program, *_SAFE, *args], env=self._env)
        if done.returncode and check:
            raise explain("git", self._shown, done.output)
        return done

    @property
    def _shown(self) -> str:
        return f"{self._source.url}{'@' + self._source.ref if self._source.ref else ''}"

    async def fetch(self) -> str:
        """Check out the wanted commit and give its full name."""
        url, ref, root = self._source.url, self._source.ref, str(self._root)
        await self._job.say(f"fetching {self._shown}")
        await self._git("init", "--quiet", root)
        # One commit is enough, whether the ref is a branch, a tag, or (where the host allows it) a commit.
        shallow = (
            "-C",
            root,
            "fetch",
            "--quiet",
            "--no-tags",
            "--depth",
            "1",
            "--end-of-options",
            url,
            ref or "HEAD",
        )
        abbreviated = ref is not None and re.fullmatch(r"[0-9a-fA-F]{4,64}", ref)
        done = await self._git(*shallow, check=not abbreviated)
        wanted = "FETCH_HEAD"
        if done.returncode:
            # An abbreviated commit, or a host that gives out branches and tags only: fetch them all and look.
            everything = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
            await self._git("-C", root, "fetch", "--quiet", "--end-of-options", url, *everything)
            wanted = str(ref)
        named = await self._git(
            "-C", root, "rev-parse", "--verify", "--end-of-options", f"{wanted}^{{commit}}"
        )
        commit = named.output.split()[-1]
        await self._git("-C", root, "checkout", "--quiet", "--detach", commit)
        if (self._root / ".gitmodules").is_file():
            # git resolves relative URLs of submodules against this one.
            await self._git("-C", root, "remote", "add", "origin", url)
            await self._git(
                "-C", root, "submodule", "--quiet", "update", "--init", "--recursive", "--depth", "1"
            )
        return commit
