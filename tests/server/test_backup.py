"""Backup and restore of a home: consistent while it is in use, whole or not at all, and good at another path."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import tarfile
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from cli_shell import SERVER, Done, Shell, shell_in
from toolscore.server.backup import MANIFEST, BackupError, back_up
from toolscore.server.home import Home, prepare
from toolscore.server.owner import HomeLock
from toolscore.server.relocate import relocate
from toolscore.server.restore import restore
from toolscore_client import call, connected, execute, register_faulty, text


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return shell_in(tmp_path)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of a home with one installed server, which has an environment of its own, and a secret."""
    folder = tmp_path_factory.mktemp("original")
    shell, project = shell_in(folder), folder / "project"
    project.mkdir()
    (project / "server.py").write_text(SERVER)
    done = shell("install", str(project), "--name", "small", "--env", "API_KEY=a-literal-value", "--quiet")
    assert done.returncode == 0, done.stderr
    assert shell("token", "show").returncode == 0
    (shell.home / "config.toml").write_text("[tools]\npage_size = 7\n")
    back_up(Home.at(shell.home), folder / "b.tar.gz")
    shutil.rmtree(shell.home)
    return folder / "b.tar.gz"


@pytest.fixture
def home(shell: Shell, original: Path) -> Home:
    """That home, for one test."""
    home = Home.at(shell.home)
    restore(original, home)
    return home


def names(archive: Path) -> set[str]:
    with tarfile.open(archive) as tar:
        return set(tar.getnames())


def rewritten(archive: Path, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> Path:
    """Write a backup anew, with its members changed on the way."""
    new = archive.with_name(f"changed-{archive.name}")
    with tarfile.open(archive) as source, tarfile.open(new, "w:gz") as target:
        for member in source:
            file = source.extractfile(member)
            assert file is not None
            changed = change(member.name, file.read())
            if changed is not None:
                info = tarfile.TarInfo(changed[0])
                info.size, info.mode = len(changed[1]), member.mode
                target.addfile(info, io.BytesIO(changed[1]))
    return new


def the_server(shell: Shell) -> Done:
    return shell("call", "small__echo", '{"a": 1}')


def test_a_restored_home_works_at_another_path_and_has_all_that_was_in_it(
    shell: Shell, home: Home, tmp_path: Path
) -> None:
    archive = tmp_path / "b.tar.gz"
    done = shell("backup", str(archive))
    assert (done.returncode, done.stdout.splitlines()[1]) == (0, "servers: 1: small")
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    held = names(archive)
    assert {"toolscore.db", "secrets.json", "token", "config.toml", MANIFEST} <= held
    assert not [name for name in held if name.startswith(("logs", "run", "owner", "processes"))]
    token = (home.path / "token").read_text()
    home.path.rename(tmp_path / "old")  # nothing of it may be needed any more
    shell.home = tmp_path / "a new" / "home"
    shell.environ["TOOLSCORE_HOME"] = str(shell.home)
    restored = shell("restore", str(archive))
    assert (restored.returncode, restored.stderr) == (0, f"unpacking and checking {archive} ...\n")
    called = the_server(shell)
    assert (called.returncode, called.stdout) == (0, '{"a": 1}\n'), called.stderr
    assert (shell.home / "token").read_text() == token
    assert shell.document("config", "show")["tools.page_size"] == 7
    assert "a-literal-value" in (shell.home / "secrets.json").read_text()
    for place, _folders, files in os.walk(shell.home):
        for name in files:
            path = Path(place, name)
            if path.parent.name == "bin" and not path.is_symlink():
                assert str(home.path).encode() + b"/" not in path.read_bytes(), path


async def test_a_backup_of_a_running_home_is_consistent(shell: Shell, tmp_path: Path) -> None:
    async with connected(shell.home, "--standalone") as client:
        await register_faulty(client, "first")
        adding = True

        async def add() -> None:
            number = 0
            while adding:
                number += 1
                await register_faulty(client, f"n{number}")

        async with anyio.create_task_group() as group:
            group.start_soon(add)
            for turn in range(3):
                done = await anyio.to_thread.run_sync(shell, "backup", f"{turn}.tar.gz")
                assert done.returncode == 0, done.stderr
            adding = False
        listed = await call(client, "list_servers")
    other = Home.at(tmp_path / "other")
    restored = restore(shell.cwd / "2.tar.gz", other)
    assert "first" in restored.backup.servers
    assert set(restored.backup.servers) <= {server["name"] for server in listed["servers"]}
    async with connected(other.path, "--standalone") as client:
        assert text(await execute(client, "first__echo", message="x")) == '{"message": "x"}'


def test_a_server_that_is_only_half_installed_is_left_out(home: Home, tmp_path: Path) -> None:
    (home.servers_dir / "half").mkdir()
    (home.servers_dir / "half" / "file").write_text("x")
    back_up(home, tmp_path / "b.tar.gz")
    assert not [name for name in names(tmp_path / "b.tar.gz") if name.startswith("servers/half")]


def test_a_server_whose_folder_is_gone_is_left_out_and_told(home: Home, tmp_path: Path) -> None:
    shutil.rmtree(home.servers_dir / "small")
    made = back_up(home, tmp_path / "b.tar.gz")
    assert made.servers == []
    assert "server small" in made.remarks[0]
    restore(tmp_path / "b.tar.gz", Home.at(tmp_path / "other"))
    with closing(sqlite3.connect(tmp_path / "other" / "toolscore.db")) as connection:
        assert connection.execute("SELECT count(*) FROM server").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM tool").fetchone() == (0,)


def test_a_catalog_that_was_filled_is_left_out_and_told(home: Home, tmp_path: Path) -> None:
    home.catalog_file.write_bytes(b"what is damaged is nobody's loss")
    assert back_up(home, tmp_path / "a.tar.gz").remarks == []
    home.catalog_file.unlink()
    with closing(sqlite3.connect(home.catalog_file)) as connection:
        connection.executescript(
            "CREATE TABLE entries (name); INSERT INTO entries VALUES ('io.example/mail')"
        )
    (remark,) = back_up(home, tmp_path / "b.tar.gz").remarks
    assert "catalog.db is not in it: `toolscore catalog sync`" in remark
    assert "catalog.db" not in names(tmp_path / "b.tar.gz")


@pytest.mark.parametrize("secrets", [True, False])
def test_the_policy_of_a_home_is_restored_with_it(home: Home, tmp_path: Path, secrets: bool) -> None:
    policy = '[[rule]]\nwho = "ci"\nanswer = "deny"\n'
    (home.path / "policy.toml").write_text(policy)
    back_up(home, tmp_path / "b.tar.gz", secrets=secrets)
    restore(tmp_path / "b.tar.gz", Home.at(tmp_path / "elsewhere"))
    restored = tmp_path / "elsewhere" / "policy.toml"
    assert restored.read_text() == policy
    assert stat.S_IMODE(restored.stat().st_mode) == 0o600


def test_a_policy_that_is_not_the_one_of_the_home_is_told_not_to_be_in_it(
    shell: Shell, home: Home, tmp_path: Path
) -> None:
    config = home.path / "config.toml"
    for number, named in enumerate((str(tmp_path / "rules.toml"), "rules/mine.toml")):
        config.write_text(f"[policy]\nfile = {json.dumps(named)}\n")
        done = shell("backup", str(tmp_path / f"{number}.tar.gz"))
        assert done.returncode == 0
        assert f"the policy {home.path / named}, which policy.file names, is not in it" in done.stderr
    config.write_text(f"[policy]\nfile = {json.dumps(str(home.path / 'policy.toml'))}\n")
    assert "which policy.file" not in shell("backup", str(tmp_path / "own.tar.gz")).stderr
    config.write_text("[policy\n")
    done = shell("backup", str(tmp_path / "broken.tar.gz"))
    assert done.returncode == 0
    assert "it is not known whether policy.file names" in done.stderr


def test_secrets_can_be_left_out_and_it_is_told_whose(shell: Shell, home: Home, tmp_path: Path) -> None:
    (home.path / "config.toml").write_text('[mcpServers.x]\ncommand = "x"\nenv = { KEY = "in-the-file" }\n')
    archive = tmp_path / "b.tar.gz"
    done = shell("backup", str(archive), "--no-secrets")
    assert done.returncode == 0
    assert "without the secrets of: small" in done.stderr
    assert "config.toml holds values" in done.stderr
    assert not names(archive) & {"secrets.json", "token", "tokens.json", "config.toml"}
    with tarfile.open(archive) as tar:
        held = b"".join(file.read() for member in tar if (file := tar.extractfile(member)) is not None)
    assert b"a-literal-value" not in held
    assert b"in-the-file" not in held
    restored = shell("restore", str(archive), "--home", str(tmp_path / "other"))
    assert "server small has no secrets in this backup" in restored.stderr


@pytest.mark.parametrize(
    ("value", "left_out"),
    [('"given-in-the-file"', True), ('["given-in-the-file"]', True), ('"${KEY}"', False)],
)
def test_a_value_for_an_entry_of_the_catalog_in_the_file_is_left_out_with_the_secrets(
    home: Home, tmp_path: Path, value: str, left_out: bool
) -> None:
    text = f'[mcpServers.x]\nsource = "registry:io.github.somebody/x"\nsettings = {{ KEY = {value} }}\n'
    (home.path / "config.toml").write_text(text)
    back_up(home, tmp_path / "b.tar.gz", secrets=False)
    assert ("config.toml" not in names(tmp_path / "b.tar.gz")) == left_out


def test_an_archive_that_is_there_is_not_overwritten_and_a_failed_one_leaves_nothing(
    home: Home, tmp_path: Path
) -> None:
    archive = tmp_path / "b.tar.gz"
    archive.write_text("mine")
    with pytest.raises(BackupError, match="is there already"):
        back_up(home, archive)
    assert archive.read_text() == "mine"
    with pytest.raises(BackupError, match="cannot be written"):
        back_up(home, tmp_path / "no" / "such" / "folder.tar.gz")
    with pytest.raises(BackupError, match="nothing to back up"):
        back_up(Home.at(tmp_path / "nowhere"), tmp_path / "c.tar.gz")
    assert not list(tmp_path.glob("*partial*")) + list(tmp_path.glob(".*partial*"))


def test_a_home_that_is_there_is_kept_unless_it_is_to_be_moved_aside(
    shell: Shell, home: Home, tmp_path: Path
) -> None:
    back_up(home, tmp_path / "b.tar.gz")
    (home.path / "config.toml").write_text("# newer\n")
    refused = shell("restore", str(tmp_path / "b.tar.gz"))
    assert refused.returncode == 3
    assert "is not empty" in refused.stderr
    assert (home.path / "config.toml").read_text() == "# newer\n"
    done = shell("restore", str(tmp_path / "b.tar.gz"), "--force")
    assert done.returncode == 0, done.stderr
    (aside,) = tmp_path.glob("home.before-*")
    assert (aside / "config.toml").read_text() == "# newer\n"
    assert "page_size" in (home.path / "config.toml").read_text()
    assert the_server(shell).returncode == 0


def test_a_home_in_use_is_never_replaced(home: Home, tmp_path: Path) -> None:
    back_up(home, tmp_path / "b.tar.gz")
    other = Home.at(tmp_path / "other")
    prepare(other)
    with HomeLock.acquire(other, "background", "1"), pytest.raises(BackupError, match="is at work in"):
        restore(tmp_path / "b.tar.gz", other, force=True)
    restore(tmp_path / "b.tar.gz", other)  # folders that were only prepared are no home
    assert (other.path / "toolscore.db").exists()
    assert not list(tmp_path.glob("other.before-*"))


@pytest.mark.parametrize("part", ["toolscore.db", "servers/small/src/server.py", "secrets.json"])
def test_a_damaged_backup_changes_nothing(home: Home, tmp_path: Path, part: str) -> None:
    back_up(home, tmp_path / "b.tar.gz")
    damaged = rewritten(
        tmp_path / "b.tar.gz",
        lambda name, data: (name, data[:-1] + bytes([data[-1] ^ 1]) if name == part else data),
    )
    with pytest.raises(BackupError, match=f"{part} is not what it was"):
        restore(damaged, Home.at(tmp_path / "other"))
    missing = rewritten(tmp_path / "b.tar.gz", lambda name, data: None if name == part else (name, data))
    with pytest.raises(BackupError, match="is not what it was"):
        restore(missing, Home.at(tmp_path / "other"))
    assert not (tmp_path / "other").exists()
    assert not list(tmp_path.glob(".other.restore-*"))


def test_half_an_archive_and_what_is_none_are_told_as_such(home: Home, tmp_path: Path) -> None:
    back_up(home, tmp_path / "b.tar.gz")
    whole = (tmp_path / "b.tar.gz").read_bytes()
    for content in (whole[: len(whole) // 2], b"no archive", b""):
        (tmp_path / "c.tar.gz").write_bytes(content)
        with pytest.raises(BackupError, match="is no backup"):
            restore(tmp_path / "c.tar.gz", Home.at(tmp_path / "other"))
    with pytest.raises(BackupError, match="There is no file"):
        restore(tmp_path / "d.tar.gz", Home.at(tmp_path / "other"))
    newer = rewritten(
        tmp_path / "b.tar.gz",
        lambda name, data: (
            name,
            json.dumps(json.loads(data) | {"format": 2}).encode() if name == MANIFEST else data,
        ),
    )
    with pytest.raises(BackupError, match="in a form that this one"):
        restore(newer, Home.at(tmp_path / "other"))


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "servers/../../evil", "stray", "servers/./x", "servers//x"]
)
def test_no_member_leads_out_of_the_home(home: Home, tmp_path: Path, name: str) -> None:
    back_up(home, tmp_path / "b.tar.gz")
    evil = rewritten(
        tmp_path / "b.tar.gz", lambda old, data: (name if old.endswith("src/server.py") else old, data)
    )
    with pytest.raises(BackupError, match="which no backup does"):
        restore(evil, Home.at(tmp_path / "deep" / "other"))
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("servers/small/out", "/etc"),
        ("servers/small/out", "../../../.."),
        ("servers/small/bin/python3", "/etc"),
        ("servers/small/out", "../other"),
        ("config.toml", "/etc/passwd"),
        ("servers/../x", "y"),
    ],
)
def test_no_link_leads_out_of_its_servers_folder(home: Home, tmp_path: Path, place: str, target: str) -> None:
    back_up(home, tmp_path / "b.tar.gz")

    def linked(name: str, data: bytes) -> tuple[str, bytes]:
        if name == MANIFEST:
            manifest = json.loads(data)
            manifest["links"][place] = target
            data = json.dumps(manifest).encode()
        return name, data

    with pytest.raises(BackupError, match=r"outside of its folder|cannot be understood"):
        restore(rewritten(tmp_path / "b.tar.gz", linked), Home.at(tmp_path / "other"))
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "links",
    [
        {"servers/small/a/b/c/up": "../../..", "servers/small/out": "a/b/c/up/../.."},
        {"servers/small/out": "src/../../.."},
        {"servers/small/venv/bin/python": "OUTSIDE", "servers/small/venv/bin/python/evil": "server.py"},
        {"servers/small/up": ".", "servers/small/up/evil": "src"},
    ],
)
def test_links_do_not_lead_out_together(home: Home, tmp_path: Path, links: dict[str, str]) -> None:
    back_up(home, tmp_path / "b.tar.gz")
    outside = tmp_path / "outside"
    outside.mkdir()
    held = {place: str(outside) if target == "OUTSIDE" else target for place, target in links.items()}
    with pytest.raises(BackupError, match=r"outside of its folder|cannot be understood"):
        restore(_told(tmp_path / "b.tar.gz", {"links": held}), Home.at(tmp_path / "other"))
    assert not (tmp_path / "other").exists()
    assert not list(outside.iterdir())


@pytest.mark.parametrize(
    "told",
    [
        {"links": {"servers/small/l": "a\0b"}},
        {"without_secrets": 7},
        {"servers": [1]},
        {"made": None},
        {"home": "/x\0y"},
    ],
)
def test_a_manifest_of_other_kinds_of_values_changes_nothing(
    home: Home, tmp_path: Path, told: dict[str, Any]
) -> None:
    back_up(home, tmp_path / "b.tar.gz")
    with pytest.raises(BackupError, match="cannot be understood"):
        restore(_told(tmp_path / "b.tar.gz", told), Home.at(tmp_path / "other"))
    assert not (tmp_path / "other").exists()


def test_a_manifest_nested_without_end_is_told_as_damaged(home: Home, tmp_path: Path) -> None:
    back_up(home, tmp_path / "b.tar.gz")
    deep = rewritten(
        tmp_path / "b.tar.gz", lambda name, data: (name, b"[" * 200_000 if name == MANIFEST else data)
    )
    with pytest.raises(BackupError, match="is no backup, or damaged"):
        restore(deep, Home.at(tmp_path / "other"))


def _told(archive: Path, told: dict[str, Any]) -> Path:
    """Have a backup's manifest say something else."""
    return rewritten(
        archive,
        lambda name, data: (
            name,
            json.dumps(json.loads(data) | told).encode() if name == MANIFEST else data,
        ),
    )


def test_a_tar_with_links_and_devices_is_no_backup(tmp_path: Path) -> None:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
        archive = tmp_path / "b.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            info = tarfile.TarInfo("servers/x/y")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        with pytest.raises(BackupError, match="which no backup does"):
            restore(archive, Home.at(tmp_path / "other"))


def test_links_out_of_a_servers_folder_are_left_out_of_a_backup(home: Home, tmp_path: Path) -> None:
    folder = home.servers_dir / "small"
    (folder / "in").symlink_to("src/server.py")
    (folder / "out").symlink_to("/etc/passwd")
    made = back_up(home, tmp_path / "b.tar.gz")
    assert made.links["servers/small/in"] == "src/server.py"
    assert "servers/small/out" not in made.links
    assert any("servers/small/out" in remark for remark in made.remarks)
    restore(tmp_path / "b.tar.gz", Home.at(tmp_path / "other"))
    assert (tmp_path / "other/servers/small/in").read_text() == SERVER


def test_scripts_of_environments_start_from_a_path_too_long_for_a_first_line(tmp_path: Path) -> None:
    folder, new = tmp_path / "folder", tmp_path / ("n" * 150)
    bin = folder / "servers" / "x" / "venv" / "bin"
    bin.mkdir(parents=True)
    with closing(sqlite3.connect(folder / "toolscore.db")) as connection:
        connection.execute("CREATE TABLE server (name, installation)")
        connection.commit()
    (bin / "python").symlink_to(shutil.which("python3") or "python3")
    script = bin / "tool"
    script.write_text("#!/old/home/servers/x/venv/bin/python\nprint('it runs')\n")
    script.chmod(0o755)
    longer = bin / "other"
    longer.write_text(
        "#!/bin/sh\n'''exec' '/old/home/servers/x/venv/bin/python' \"$0\" \"$@\"\n' '''\nprint('too')\n"
    )
    longer.chmod(0o755)
    (bin.parent / "pyvenv.cfg").write_text("home = /usr/bin\nprompt = /old/homely/x /old/home/servers/x\n")
    relocate(folder, "/old/home", str(new), [])
    folder.rename(new)
    for name, said in (("tool", "it runs\n"), ("other", "too\n")):
        run = subprocess.run([new / "servers/x/venv/bin" / name], capture_output=True, text=True, check=True)
        assert run.stdout == said
    config = (new / "servers/x/venv/pyvenv.cfg").read_text()
    assert f"prompt = /old/homely/x {new}/servers/x\n" in config


@pytest.mark.index
async def test_a_real_python_server_is_called_after_a_restore_to_another_path(tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "elsewhere" / "home"
    async with connected(home, "--standalone") as client:
        await call(client, "install_server", source="pypi:mcp-server-time", name="time")
        await anyio.to_thread.run_sync(lambda: back_up(Home.at(home), tmp_path / "b.tar.gz"))
    shutil.rmtree(home)
    restore(tmp_path / "b.tar.gz", Home.at(other))
    async with connected(other, "--standalone") as client:
        told = await execute(client, "time__get_current_time", timezone="Europe/London")
        assert not told.is_error, text(told)
        assert "Europe/London" in text(told)


def test_a_home_known_by_another_name_is_backed_up_all_the_same(home: Home, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(home.path)
    made = back_up(Home.at(tmp_path / "link"), tmp_path / "b.tar.gz")
    assert (made.home, made.servers) == (str(home.path), ["small"])
    home.path.rename(tmp_path / "old")
    shell = Shell(tmp_path / "other", tmp_path)
    restore(tmp_path / "b.tar.gz", Home.at(shell.home))
    assert the_server(shell).returncode == 0


def test_files_that_come_and_go_while_they_are_read_do_no_harm(home: Home, tmp_path: Path) -> None:
    folder = home.servers_dir / "small" / "data"
    (folder / "empty").mkdir(parents=True)
    os.mkfifo(folder / "pipe")
    busy = threading.Event()

    def churn() -> None:
        number = 0
        while not busy.is_set():
            number += 1
            place = folder / f"d{number % 7}"
            place.mkdir(exist_ok=True)
            (place / "file").write_bytes(b"x" * (number % 5000))
            shutil.rmtree(place)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for turn in range(5):
            made = back_up(home, tmp_path / f"{turn}.tar.gz")
            assert made.servers == ["small"]
            restore(tmp_path / f"{turn}.tar.gz", Home.at(tmp_path / f"home{turn}"))
            assert (tmp_path / f"home{turn}/servers/small/data/empty").is_dir()
    finally:
        busy.set()
        thread.join()


def test_a_home_whose_store_is_shared_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from toolscore.server.cli import run

    monkeypatch.setenv("TOOLSCORE_DATABASE_URL", "postgresql://127.0.0.1:1/nowhere")
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    assert run(["--home", str(home), "backup", str(tmp_path / "b.tar.gz")]) != 0
    assert "pg_dump" in capsys.readouterr().err
    assert not (tmp_path / "b.tar.gz").exists()
