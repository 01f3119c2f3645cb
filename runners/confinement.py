"""What a server may reach of its machine, where that is less than its user may: its profile and its launcher."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from .errors import StartError
from .programs import find_program

REPORT = "toolscore-confine: "
"""How the first line on standard error of a confined server begins, which the launcher writes."""

ALWAYS_HIDDEN = (
    "~/.ssh",
    "~/.gnupg",
    "~/.aws",
    "~/.azure",
    "~/.config/gcloud",
    "~/.kube",
    "~/.docker",
    "~/.netrc",
    "~/.git-credentials",
    "~/.config/git/credentials",
    "~/.config/gh",
    "~/.npmrc",
    "~/.pypirc",
    "~/.cargo/credentials.toml",
    "~/.vault-token",
    "~/.password-store",
    "~/.local/share/keyrings",
    "~/.config/rclone",
    "~/.mozilla",
    "~/.config/google-chrome",
    "~/.config/chromium",
    "~/.thunderbird",
    "~/.claude",
    "~/.claude.json",
    "~/.codex",
    "~/.bash_history",
    "~/.zsh_history",
)
"""Where people, and programs for them, keep keys; one that is named in `read` or `write` is seen."""

CERTIFICATES = (
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
)
"""Variables that name what a server with the network trusts, which may lie in what is hidden (`/run/secrets`)."""

_ROOT = str(Path(__file__).absolute().parents[2])
_PROGRAM = "import sys; sys.path += {paths!r}; from toolscore.sandbox.confine import main; main(sys.argv[1:])"
"""Without `site`, as of the guardian; the libraries of the kernel's layers lie elsewhere than ToolScore itself."""


class Confinement(BaseModel):
    """A profile. The file system is read-only in any case. Relative paths start at the server's own folder.

    Attributes:
        write: Folders it can write, besides its own and temporary ones.
        read: Places it can read although they are hidden, or lie in what is hidden.
        hide: Places it does not see, besides those hidden from all.
        network: Whether it has the network, which is the machine's own then; if not it has none at all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    write: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    hide: tuple[str, ...] = ()
    network: bool = False

    @field_validator("write", "read", "hide")
    @classmethod
    def _paths(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        if any(not path.strip() or "\0" in path for path in paths):
            raise ValueError("a path must not be empty")
        return paths

    def each(self, change: Callable[[str, str], str]) -> Confinement:
        """Give the same with every path changed; the function is told where the path stands."""
        paths = {
            name: tuple(
                change(path, f"confine.{name}[{index}]") for index, path in enumerate(getattr(self, name))
            )
            for name in ("write", "read", "hide")
        }
        return Confinement(**paths, network=self.network)

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths in it."""
        return self.write + self.read + self.hide


def as_profile(value: Any) -> Any:
    """Read what somebody wrote for a profile: `true` is the usual one, `false` is none."""
    if isinstance(value, bool):
        return Confinement() if value else None
    return value


def launcher(
    confinement: Confinement,
    argv: tuple[str, ...],
    *,
    folder: Path | None,
    cwd: Path,
    environment: Mapping[str, str],
    hide: tuple[Path, ...],
) -> list[str]:
    """Make the command line that starts a program confined.

    Args:
        confinement: Its profile, expanded.
        argv: The program and its arguments.
        folder: The server's own folder, which it can write; `None` where it has none.
        cwd: Its working directory.
        environment: Its environment; the program is looked up on its `PATH`.
        hide: ToolScore's own files.

    Raises:
        StartError: If this system cannot confine, there is no such program, or a folder cannot be.
    """
    if sys.platform != "linux":
        raise StartError(
            "The server is to be confined, which only Linux can: remove `confine` to start it unconfined."
        )
    # Only for servers that are confined: these load the C library and its kin.
    from ..sandbox.overlay import SCRATCH
    from .confined_places import resolved
    from .fetching import fetching

    program = _program(argv[0], cwd, environment)
    base = folder or cwd

    def placed(path: str, where: str) -> str:
        try:
            full = os.path.abspath(base / Path(path).expanduser())  # noqa: PTH100 - tidies `..`, keeps links
        except RuntimeError as error:
            raise StartError(f"{where} cannot be used: {error}") from None
        if where.startswith("confine.write") and os.path.realpath(full) == "/":
            raise StartError(f"{where} is /, which is no confinement: name the folders it has to write.")
        return full

    hidden = [*map(str, hide), *_sockets(), *(os.path.expanduser(path) for path in ALWAYS_HIDDEN)]  # noqa: PTH111
    trusts = [environment[name] for name in CERTIFICATES if environment.get(name)]
    profile = resolved(
        confinement.each(placed),
        own=folder,
        cwd=cwd,
        hidden=hidden,
        besides=[os.path.abspath(cwd / path) for path in trusts] if confinement.network else [],  # noqa: PTH100
    )
    writable = [*profile["write"], *SCRATCH]
    profile["settings"], profile["private"] = fetching(
        Path(argv[0]).stem, environment, writable, network=confinement.network
    )
    program_of_ours = _PROGRAM.format(paths=[_ROOT, *_libraries()])
    return [sys.executable, "-I", "-S", "-c", program_of_ours, json.dumps(profile), "--", program, *argv[1:]]


def _program(command: str, cwd: Path, environment: Mapping[str, str]) -> str:
    """Find the program now: the launcher is found in any case, and its errors are of another kind."""
    found = find_program(
        str(cwd / command) if os.sep in command else command, environment.get("PATH", os.defpath)
    )
    if found is not None:
        return str(cwd / found)
    if not cwd.is_dir():
        raise StartError(
            f"The server cannot start: the folder {cwd} does not exist. Check its command and cwd."
        )
    cure = "Check its command, or give an absolute path."
    if " " in command.strip():
        cure = "A command is the program alone: put its arguments into args."
    raise StartError(
        f"The server cannot start: the program {command!r} does not exist or cannot be run. {cure}"
    )


def _sockets() -> list[str]:
    """Name where ToolScore listens when its home has too long a path for that."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    # Nothing is made and nothing is tried, so that a temporary folder nobody can write is no error here.
    temporary = [os.environ[name] for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)]
    return [*([runtime] if runtime else []), *(f"{folder}/toolscore-{os.getuid()}" for folder in temporary)]


def _libraries() -> list[str]:
    """Give the folders of the libraries by which the kernel's layers are used; without them there are fewer."""
    specs = (importlib.util.find_spec(name) for name in ("landlockpy", "seccompy"))
    return list(
        dict.fromkeys(str(Path(spec.origin).parents[1]) for spec in specs if spec is not None and spec.origin)
    )


def reported(line: str) -> dict[str, str] | None:
    """Read the launcher's line: the layers by name, or `None` where it is no report."""
    try:
        layers = json.loads(line.removeprefix(REPORT))["layers"]
        return {str(name): str(state) for name, state in layers.items()} if line.startswith(REPORT) else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
