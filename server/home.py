"""The home: the one folder ToolScore keeps everything in, and where what lies in it.

Standard library only and cheap to import: the command line and the thin relay ask here who runs before
anything heavy is loaded.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from .folders import (
    ELSEWHERE,
    SHORTER,
    SOCKET_PATH_LIMIT,
    HomeError,
    explained,
    refuse_network,
    runtime_folder,
)

__all__ = ["Home", "HomeError", "prepare"]


@dataclass(frozen=True, slots=True)
class Home:
    """Where everything of one ToolScore lies.

    Attributes:
        path: The folder itself, absolute.
    """

    path: Path

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> Home:
        """Name a home, without touching the disk. `~` is expanded, a relative path made absolute.

        Raises:
            HomeError: If `~user` names nobody.
        """
        try:
            return cls(Path(os.path.abspath(Path(path).expanduser())))  # noqa: PTH100 - tidies `..`, keeps links
        except RuntimeError as error:
            raise HomeError(f"The home {os.fspath(path)} cannot be resolved: {error}. {ELSEWHERE}") from error

    @property
    def config_file(self) -> Path:
        """The settings a person writes."""
        return self.path / "config.toml"

    @property
    def store_file(self) -> Path:
        """The SQLite store: what is installed, and each server's tools."""
        return self.path / "toolscore.db"

    @property
    def catalog_file(self) -> Path:
        """The catalog of servers that can be installed, and the tools of servers seen once."""
        return self.path / "catalog.db"

    @property
    def memory_file(self) -> Path:
        """What the bundled server memory keeps, where there is no shared database."""
        return self.path / "memory.db"

    @property
    def secrets_file(self) -> Path:
        """Literal secret values, readable by their owner only."""
        return self.path / "secrets.json"

    @property
    def servers_dir(self) -> Path:
        """One folder for each installed server."""
        return self.path / "servers"

    @property
    def made_dir(self) -> Path:
        """Notes of what was made here of the servers of a shared store."""
        return self.path / "made"

    @property
    def gateway_file(self) -> Path:
        """The name by which other gateways of a shared store know this home."""
        return self.path / "gateway"

    @property
    def common_secrets_file(self) -> Path:
        """What this home and the gateways it shares a store with had of secrets last, sealed."""
        return self.path / "secrets.common"

    @property
    def logs_dir(self) -> Path:
        """Standard error of the servers, and ToolScore's own log."""
        return self.path / "logs"

    @property
    def sandbox_dir(self) -> Path:
        """What code in the sandbox has for the time it runs; what a killed ToolScore left is deleted at the start."""
        return self.path / "run" / "sandbox"

    @property
    def results_dir(self) -> Path:
        """Long results that clients read on in; what a killed ToolScore left is deleted at the start."""
        return self.path / "run" / "results"

    @property
    def vectors_dir(self) -> Path:
        """Meanings of tools, as vectors, where they are searched by meaning; made anew where they are missing."""
        return self.path / "vectors"

    @property
    def journal_dir(self) -> Path:
        """What was done, in segment files of records."""
        return self.path / "journal"

    @property
    def packages_dir(self) -> Path:
        """Environments of packages for code in the sandbox."""
        return self.path / "packages"

    @property
    def lock_file(self) -> Path:
        """Locked by the running ToolScore, which writes into it who it is."""
        return self.path / "owner.lock"

    @property
    def socket_path(self) -> Path:
        """The Unix socket of the running ToolScore.

        It lies in the home. Where that path is too long for a socket it is a hashed name in a runtime folder
        of this user, which is made if it is absent: a name in a shared folder is only worth trusting
        together with the owner and mode of what holds it.

        Raises:
            HomeError: If that runtime folder is somebody else's, open to others, or too long as well.
        """
        return self._socket("toolscore.sock", "")

    @property
    def tools_socket_path(self) -> Path:
        """The Unix socket where code in the sandbox calls tools; see `socket_path`.

        Raises:
            HomeError: Likewise.
        """
        return self._socket("tools.sock", "-tools")

    def _socket(self, name: str, mark: str) -> Path:
        inside = self.path / "run" / name
        if len(os.fsencode(inside)) <= SOCKET_PATH_LIMIT:
            return inside
        import hashlib  # 4 MB that only a long path needs

        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        elsewhere = runtime_folder() / f"{digest}{mark}.sock"
        if len(os.fsencode(elsewhere)) > SOCKET_PATH_LIMIT:
            raise HomeError(f"{elsewhere} is too long a path for a Unix socket. {SHORTER}")
        return elsewhere


def prepare(home: Home) -> None:
    """Make the home's folders, open to their owner only, and prove that it can be written to.

    Raises:
        HomeError: If it is a file, on a network file system, not permitted, read-only, or its disk is full.
    """
    refuse_network(home.path)
    try:
        home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (home.servers_dir, home.logs_dir, home.path / "run"):
            folder.mkdir(mode=0o700, exist_ok=True)
            if os.name == "posix" and stat.S_IMODE(folder.stat().st_mode) & 0o077:
                folder.chmod(0o700)
        # A disk that is full still makes folders and empty files, so a block is really written.
        probe = home.path / f".probe-{os.getpid()}"
        try:
            probe.write_bytes(bytes(4096))
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise explained(home.path, error) from error
