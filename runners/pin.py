"""The pin of a server: what exactly was installed, so that it can be told from anything else and had again."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

PYTHON_LOCK = "requirements.txt"
"""Name of the lock of a Python environment: pip's format, with the hashes of every file that may be installed."""
NPM_LOCK = "package-lock.json"
"""Name of npm's lock, with the integrity of every package."""
FILES = "files.txt"
"""Name of the list of installed files and what each hashes to."""


class Pin(BaseModel):
    """What exactly was installed of one server. Hashes are SHA-256 in lower-case hexadecimal digits.

    Attributes:
        source: What was fetched, in the form of `Candidate.source`; empty where nothing was.
        content: What that came to, where it is one thing: `git:` and the commit, or `sha256:` and the hash of a
            bundle or of all files of a folder.
        python: Version of Python that the environment is of.
        locks: Hash of each lock, by its name; the texts lie in `locks/` of the place.
        unhashed: What the locks name by its commit or its path only, as there is no hash of it.
        files: Hash of the list of installed files; `None` where nothing was installed.
        place: Folder inside of the server's own that this version is in; empty where it is that itself.
        words: How many arguments of the spec belong to the entry point; those of whoever installed it follow.
        own_env: Names of the variables in the spec that what was installed brought with it.
        given: Variables that went to the installer, not to the server: what the manifest of a bundle asks for.
        sha256: What the package from an index was asked to hash to.
        programs: Hash of each program and script on the command line of a server that was not installed, by path.
        tools: Digest of each tool that was listed when this was pinned, by name.
        previous: Hash of what is noted of the version before, which the server itself could write.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = ""
    content: str | None = None
    python: str | None = None
    locks: dict[str, str] = Field(default_factory=dict)
    unhashed: tuple[str, ...] = ()
    files: str | None = None
    place: str = ""
    words: int = 0
    own_env: tuple[str, ...] = ()
    given: dict[str, str] = Field(default_factory=dict)
    sha256: str | None = None
    programs: dict[str, str] = Field(default_factory=dict)
    tools: dict[str, str] | None = None
    previous: str | None = None


class Locked(BaseModel):
    """What must come out of an installation, or nothing is installed.

    Attributes:
        version: The version.
        content: See `Pin`.
        locks: The text of each lock, by its name. What they name is installed, and nothing else.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str | None = None
    content: str | None = None
    locks: dict[str, str] = Field(default_factory=dict)
