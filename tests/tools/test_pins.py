"""What was installed is known to the byte, can be had again elsewhere, and is told from anything else."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from packed import NPM, npm_registry, server_code, wheel
from packed import index as index_of
from pinned_house import pinned_house, refused, whats
from toolscore.runners.errors import InstallError
from toolscore.runners.installers.install import install
from toolscore.runners.installers.node import find_node
from toolscore.runners.keeping import Keeping
from toolscore.runners.pin import NPM_LOCK, PYTHON_LOCK
from toolscore.runners.spec import Candidate, Installation, ServerSpec, SourceKind
from toolscore.tools.caller import OWNER
from toolscore.tools.pins.accepting import accept
from toolscore.tools.pins.exporting import pin_of
from toolscore.tools.pins.lock_file import LockError, LockText

PACKED = "pypi:toolscored-packed"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is uv's only index."""
    for name, value in index_of(tmp_path / "wheels").items():
        monkeypatch.setenv(name, value)
    return tmp_path / "wheels"


def _no_node() -> bool:
    try:
        find_node()
    except InstallError:
        return True
    return False


needs_node = pytest.mark.skipif(_no_node(), reason="there is no Node.js with npm here")
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here")


async def test_a_python_server_is_installed_from_the_hashed_lock_that_is_kept(
    tmp_path: Path, wheels: Path
) -> None:
    file = wheel(wheels, needs=("toolscored-part",))
    part = wheel(wheels, name="toolscored_part")
    async with pinned_house(tmp_path / "home") as house:
        await house.install(PACKED)
        pin = house.installed().pin
        assert pin is not None
        text = house.file(PYTHON_LOCK).read_text()
        assert pin.locks == {PYTHON_LOCK: hashlib.sha256(text.encode()).hexdigest()}
        for one in (file, part):
            assert f"--hash=sha256:{hashlib.sha256(one.read_bytes()).hexdigest()}" in text
        assert pin.tools is not None
        assert list(pin.tools) == ["say"]
        assert pin.python
        assert await house.verify() == []


async def test_another_home_gets_the_same_from_the_lock_and_nothing_newer(
    tmp_path: Path, wheels: Path
) -> None:
    wheel(wheels)
    async with pinned_house(tmp_path / "home") as house:
        await house.install(PACKED, args=("a", "b"), env={"KEY": "topsecret", "TZ": "${TZ:-UTC}"})
        lock = await house.lock()
        assert "topsecret" not in json.dumps(lock["it"].dump())
    wheel(wheels, "2.0")
    async with pinned_house(tmp_path / "other") as other:
        looked = await other.sync(lock["it"], dry_run=True)
        assert (looked.action, looked.missing) == ("installed", ("the secret it/env/KEY",))
        assert other.servers.library.servers == {}
        assert (await other.sync(lock["it"])).action == "installed"
        await refused(other.sync(lock["it"], secrets={"other/env/KEY": "x"}))
        given = await other.sync(lock["it"], secrets={"it/env/KEY": "another"})
        assert (given.action, given.missing) == ("unchanged", ())
        assert await other.say() == "1.0 a b another"
        await other.servers.library.arrived()
        assert await other.verify(lock) == []
        assert (await other.sync(lock["it"])).action == "unchanged"


async def test_a_package_replaced_at_the_same_version_is_refused_by_its_hash(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(wheels)
    async with pinned_house(tmp_path / "home") as house:
        await house.install(PACKED)
        lock = await house.lock()
    wheel(wheels, word="evil")
    monkeypatch.setenv(
        "UV_CACHE_DIR", str(tmp_path / "empty-cache")
    )  # another machine has none of the true ones
    async with pinned_house(tmp_path / "other") as other:
        said = await refused(other.sync(lock["it"]))
        assert "has the checksum that it should have" in said
        assert other.servers.library.servers == {}
        assert list((other.folder / "servers").iterdir()) == []
    async with pinned_house(tmp_path / "home") as house:
        shown = await house.upgrade(only_show=True)
        assert "somebody replaced them" in shown.changes.notes[0]
        assert not shown.changes.same


async def test_files_that_change_on_the_disk_are_told(tmp_path: Path, wheels: Path) -> None:
    wheel(wheels)
    async with pinned_house(tmp_path / "home") as house:
        await house.install(PACKED)
        code = house.file("toolscored_packed.py")
        before = code.read_text()
        code.unlink()  # uv may have linked it
        code.write_text(before + "import evil\n")
        (code.parent / "start.pth").write_text("import evil\n")
        (code.parent / "notes.json").write_text("{}")
        house.file("toolscored_packed").unlink()
        findings = await house.verify()
        assert whats(findings) == [
            "1 installed files were changed",
            "1 installed files are gone",
            "1 files of code were added",
        ]
        assert findings[0].found.endswith("toolscored_packed.py")
        assert "--to 1.0" in findings[0].todo
        await house.upgrade(to="1.0")
        assert await house.verify() == []
        assert await house.say() == "1.0"


async def test_a_home_that_was_moved_is_none_that_was_changed(tmp_path: Path, wheels: Path) -> None:
    from toolscore.runners.installers.file_list import compare
    from toolscore.server.relocate import _file

    wheel(wheels)
    async with pinned_house(tmp_path / "home") as house:
        await house.install(PACKED)
        listed = house.file("files.txt").read_text()
    moved = tmp_path / "moved"
    shutil.move(tmp_path / "home", moved)
    for path in (moved / "servers/it/venv/bin").iterdir():
        if path.is_file() and not path.is_symlink():
            _file(path, os.fsencode(tmp_path / "home"), os.fsencode(moved))
    assert not compare(moved / "servers/it", moved / "servers/it", listed)


def record_hash(file: Path, digest: str | None = None) -> None:
    """Put the hash of its module into a wheel's RECORD, as real wheels have it, or another."""
    with zipfile.ZipFile(file) as zipped:
        files = {name: zipped.read(name) for name in zipped.namelist()}
    record = next(name for name in files if name.endswith("RECORD"))
    raw = hashlib.sha256(files["toolscored_packed.py"]).digest()
    told = digest or base64.urlsafe_b64encode(raw).decode().rstrip("=")
    assert b"toolscored_packed.py,," in files[record]
    line = f"toolscored_packed.py,sha256={told},"
    files[record] = files[record].replace(b"toolscored_packed.py,,", line.encode())
    with zipfile.ZipFile(file, "w") as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)


async def test_what_a_package_says_of_its_own_files_is_held_against_them(
    tmp_path: Path, wheels: Path
) -> None:
    record_hash(wheel(wheels), "A" * 43)
    async with pinned_house(tmp_path / "home") as house:
        said = await refused(house.install(PACKED))
        assert "toolscored_packed.py" in said
        assert "past uv's cache" in said
        assert list((house.folder / "servers").iterdir()) == []


async def test_what_was_changed_in_the_cache_is_fetched_anew(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_hash(wheel(wheels))
    cache = tmp_path / "cache"
    monkeypatch.setenv("UV_CACHE_DIR", str(cache))
    async with pinned_house(tmp_path / "one") as house:
        await house.install(PACKED)
    (changed,) = cache.rglob("toolscored_packed.py")
    changed.write_text("raise SystemExit('somebody was here')\n")
    async with pinned_house(tmp_path / "two") as house:
        await house.install(PACKED)
        assert await house.say() == "1.0"
    assert "somebody was here" in changed.read_text()
    told: list[tuple[float, str]] = []

    async def report(progress: float, _total: float | None, message: str) -> None:
        told.append((progress, message))

    await install(Candidate(source=PACKED, name="it"), servers=tmp_path / "three", report=report)
    # Progress that goes back is none (MCP): the second attempt's steps follow those of the first.
    assert [progress for progress, _ in told] == sorted({progress for progress, _ in told})
    assert any("changed in uv's cache" in message for _, message in told)


async def test_tools_that_change_after_the_installation_are_told_until_they_are_accepted(
    tmp_path: Path, wheels: Path
) -> None:
    wheel(wheels, first="TOOLS.update({os.environ['MORE']: 'x'})", needs=())
    async with pinned_house(tmp_path / "home") as house:
        await house.install(PACKED, env={"MORE": "${PINS_MORE:-one}"})
        os.environ["PINS_MORE"] = "two"
        try:
            unit = house.servers.supervisor.units["it"]
            unit.stop()
            await unit.stopped()
            await unit.ready()
            await house.servers.library.arrived()
        finally:
            del os.environ["PINS_MORE"]
        assert whats(await house.verify()) == ["tool one is gone", "tool two is new"]
        await accept(house.servers, "it", OWNER)
        assert await house.verify() == []


async def test_missing_and_further_servers_are_told(tmp_path: Path, wheels: Path) -> None:
    wheel(wheels)
    async with pinned_house(tmp_path / "home") as house:
        await house.install(PACKED)
        lock = await house.lock()
        both = {"absent": lock["it"]}
        assert whats(await house.verify(both)) == ["it is missing", "it is not in the lock"]


async def test_a_lock_on_the_disk_that_was_tampered_with_is_neither_verified_nor_exported(
    tmp_path: Path, wheels: Path
) -> None:
    wheel(wheels)
    async with pinned_house(tmp_path / "home") as house:
        await house.install(PACKED)
        path = house.file(PYTHON_LOCK)
        path.write_text(path.read_text() + "# more\n")
        assert whats(await house.verify()) == ["its requirements.txt was changed on the disk"]
        with pytest.raises(LockError, match="was changed after it was installed"):
            await house.lock()
        os.unlink(path)
        path.symlink_to("/etc/passwd")
        assert whats(await house.verify()) == ["its requirements.txt was changed on the disk"]


def changed(house_lock: object, text: str) -> dict[str, LockText]:
    """Another lock of Python packages, with its true hash: by somebody who knows what he does."""
    return {
        PYTHON_LOCK: LockText(sha256=hashlib.sha256(text.encode()).hexdigest(), lines=tuple(text.split("\n")))
    }


@pytest.mark.parametrize(
    "line",
    [
        "--index-url http://127.0.0.1:1/simple",
        "-r /etc/passwd",
        "-e .",
        "/etc",
        "evil @ file:///etc",
        "--find-links /tmp",
        "toolscored-packed",
        "toolscored-packed>=1 --hash=sha256:" + "0" * 64,
    ],
)
async def test_a_lock_with_lines_that_are_no_pinned_packages_is_refused(
    tmp_path: Path, wheels: Path, line: str
) -> None:
    wheel(wheels)
    async with pinned_house(tmp_path / "home") as house:
        await house.install(PACKED)
        locked = (await house.lock())["it"]
        await house.servers.remove("it", OWNER)
        lines = locked.locks[PYTHON_LOCK].lines
        assert lines is not None
        text = "\n".join((*lines, line))
        evil = locked.model_copy(update={"locks": changed(house, text)})
        said = await refused(house.sync(evil))
        assert "names no version with its hash" in said
        assert list((house.folder / "servers").iterdir()) == []


async def test_a_lock_that_says_one_thing_and_installs_another_is_refused(
    tmp_path: Path, wheels: Path
) -> None:
    wheel(wheels)
    wheel(wheels, "2.0")
    async with pinned_house(tmp_path / "home") as house:
        await house.install(f"{PACKED}@1.0")
        locked = (await house.lock())["it"]
        await house.servers.remove("it", OWNER)
        for change, told in (
            ({"version": "2.0"}, "and 2.0 was locked"),
            ({"entry": ("<server>/venv/bin/other",)}, "not <server>/venv/bin/other"),
            ({"tools": {"say": "0" * 64}}, "other tools here than those that were locked"),
            ({"locks": {}}, "no lock of Python packages"),
            # What has no part in the installation is no less what the lock says.
            ({"package": "another"}, "package is toolscored_packed, not another"),
            ({"content": "sha256:" + "0" * 64}, "content is none"),
            ({"programs": {"/bin/sh": "0" * 64}}, "the program /bin/sh is not there"),
            ({"settings": {"word": "x"}}, "environment is word=${secret:it/env/word}, not none"),
            ({"env": {"KEY": "literal"}}, "environment is KEY=${secret:it/env/KEY}, not KEY=literal"),
            ({"keeping": Keeping(groups=("../evil",))}, "cannot be a group's name"),
            ({"keeping": Keeping(depends_on=("it",))}, "would wait for each other"),
            ({"keeping": Keeping(depends_on=("nobody",))}, "there is no server named 'nobody'"),
        ):
            assert told in await refused(house.sync(locked.model_copy(update=change)))
            assert list((house.folder / "servers").iterdir()) == []
        assert house.servers.secrets.names() == []


async def test_a_name_that_another_server_has_is_not_taken_over(tmp_path: Path, wheels: Path) -> None:
    wheel(wheels)
    wheel(wheels, name="toolscored_other")
    async with pinned_house(tmp_path / "home") as house:
        await house.install(PACKED)
        lock = await house.lock()
    async with pinned_house(tmp_path / "other") as other:
        await other.install("pypi:toolscored-other")
        said = await refused(other.sync(lock["it"]))
        assert "comes from pypi:toolscored-other, not from pypi:toolscored-packed" in said
        assert (
            other.installed().package == "toolscored-other" or other.installed().package == "toolscored_other"
        )


async def test_sync_replaces_another_version_of_the_same_server(tmp_path: Path, wheels: Path) -> None:
    wheel(wheels)
    async with pinned_house(tmp_path / "home") as house:
        await house.install(PACKED)
        lock = await house.lock()
        wheel(wheels, "2.0", tools={"say": "Says it.", "shout": "Shouts it."})
        await house.upgrade()
        assert await house.say() == "2.0"
        assert whats(await house.verify(lock)) == [
            "version",
            "packages (requirements.txt)",
            "tool shout is new",
        ]
        assert (await house.sync(lock["it"], dry_run=True)).action == "replaced"
        assert (await house.sync(lock["it"])).action == "replaced"
        assert await house.say() == "1.0"
        assert await house.verify(lock) == []


async def test_a_sync_that_is_refused_leaves_the_secrets_there_were(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(wheels)
    async with pinned_house(tmp_path / "home") as house:
        await house.install(PACKED, env={"KEY": "mine"})
        locked = (await house.lock())["it"]
        wheel(wheels, "2.0")
        await house.upgrade()
        wheel(wheels, word="evil")
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "empty"))
        await refused(house.sync(locked, secrets={"it/env/KEY": "theirs"}))
        assert house.servers.secrets.get("it/env/KEY") == "mine"
        assert await house.say() == "2.0 mine"
        other = locked.model_copy(update={"env": {**locked.env, "MORE": "${secret:it/env/MORE}"}})
        await refused(house.sync(other, secrets={"it/env/MORE": "theirs"}))
        assert house.servers.secrets.get("it/env/MORE") is None


async def test_a_full_disk_leaves_nothing_of_a_sync(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(wheels)
    async with pinned_house(tmp_path / "home") as house:
        await house.install(PACKED)
        lock = await house.lock()

    def full(self: object, name: str, text: str) -> Path:
        raise OSError(28, "No space left on device")

    async with pinned_house(tmp_path / "other") as other:
        with monkeypatch.context() as patched:
            patched.setattr("toolscore.runners.installers.run.Job.keep", full)
            said = await refused(other.sync(lock["it"]))
        assert "space" in said
        assert list((other.folder / "servers").iterdir()) == []
        assert (await other.sync(lock["it"])).action == "installed"


@needs_node
async def test_an_npm_server_is_had_again_by_the_integrity_of_its_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "cache"))
    with npm_registry() as registry:
        monkeypatch.setenv("npm_config_registry", registry.url)
        registry.put("1.0.0")
        async with pinned_house(tmp_path / "home") as house:
            await house.install(f"npm:{NPM}")
            assert await house.verify() == []
            lock = await house.lock()
            lines = lock["it"].locks[NPM_LOCK].lines
            assert lines is not None
            assert '"integrity": "sha' in "".join(lines)
            assert registry.url not in "".join(lines)
            registry.put("2.0.0")
            shown = (await house.upgrade(only_show=True)).changes
            assert (shown.before, shown.after) == ("1.0.0", "2.0.0")
            house.file("index.js").write_text("evil")
            assert whats(await house.verify()) == ["1 installed files were changed"]
        async with pinned_house(tmp_path / "other") as other:
            await other.sync(lock["it"])
            assert await other.say() == "1.0.0"
            assert await other.verify(lock) == []
        monkeypatch.setenv("npm_config_cache", str(tmp_path / "cache2"))
        registry.put("1.0.0", "evil")
        async with pinned_house(tmp_path / "third") as third:
            await refused(third.sync(lock["it"]))
            assert list((third.folder / "servers").iterdir()) == []
            evil = "".join(lines).replace(
                '"version": "1.0.0"', '"version":"1.0.0","resolved":"http://127.0.0.1:1/x.tgz"'
            )
            text = LockText(sha256=hashlib.sha256(evil.encode()).hexdigest(), lines=(evil,))
            said = await refused(third.sync(lock["it"].model_copy(update={"locks": {NPM_LOCK: text}})))
            assert "takes node_modules/toolscored-packed from 'http://127.0.0.1:1/x.tgz'" in said


@needs_git
async def test_a_git_server_is_had_again_at_its_commit(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()

    def commit(word: str) -> None:
        (repository / "server.py").write_text(server_code(word))
        for command in (["init", "-q"], ["add", "."], ["commit", "-qm", word]):
            names = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
            subprocess.run(["git", *names, *command], cwd=repository, check=True)

    commit("first")
    async with pinned_house(tmp_path / "home") as house:
        await house.install(f"git+file://{repository}#server.py")
        lock = await house.lock()
        assert lock["it"].content == f"git:{house.installed().version}"
        commit("second")
        shown = (await house.upgrade()).changes
        assert not shown.same
        assert await house.say() == "second"
        assert await house.verify() == []
        assert whats(await house.verify(lock)) == ["version", "content"]
        await house.sync(lock["it"])
        assert await house.say() == "first"
        assert await house.verify(lock) == []


async def test_a_folder_and_a_bundle_are_had_again_only_where_they_are_the_same(
    tmp_path: Path, wheels: Path
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "server.py").write_text(server_code("first"))
    bundle = tmp_path / "server.mcpb"
    manifest = {
        "manifest_version": "0.3",
        "name": "packed",
        "version": "1.0.0",
        "description": "x",
        "author": {"name": "x"},
        "server": {
            "type": "python",
            "entry_point": "server.py",
            "mcp_config": {"command": "python", "args": ["${__dirname}/server.py", "${user_config.word}"]},
        },
        "user_config": {"word": {"type": "string", "title": "Word", "description": "x", "required": True}},
    }
    with zipfile.ZipFile(bundle, "w") as zipped:
        zipped.writestr("manifest.json", json.dumps(manifest))
        zipped.writestr("server.py", server_code("bundled"))
    async with pinned_house(tmp_path / "home") as house:
        await house.install(str(folder), name="folder")
        await house.install(str(bundle), name="bundle", settings={"word": "hello"})
        lock = await house.lock()
        assert await house.verify() == []
    moved = folder.rename(tmp_path / "moved")
    async with pinned_house(tmp_path / "other") as other:
        other.servers.secrets.set_many({"bundle/env/word": "hello"})
        await refused(other.sync(lock["folder"], "folder"))
        await other.sync(lock["folder"], "folder", source=str(moved))
        await other.sync(lock["bundle"], "bundle")
        assert await other.verify(lock) == []
        assert await other.say("folder") == "first"
        assert (await other.sync(lock["folder"], "folder")).action == "unchanged"
        (moved / "server.py").write_text(server_code("evil"))
        await other.servers.remove("folder", OWNER)
        said = await refused(other.sync(lock["folder"], "folder", source=str(moved)))
        assert "is not what was locked" in said


async def test_a_registered_program_that_is_replaced_is_told(tmp_path: Path) -> None:
    import sys

    script = tmp_path / "server.py"
    script.write_text(server_code("mine"))
    async with pinned_house(tmp_path / "home") as house:
        await house.servers.register("it", ServerSpec(command=sys.executable, args=(str(script),)), OWNER)
        lock = await house.lock()
        assert await house.verify(lock) == []
        script.write_text(server_code("mine") + "# evil\n")
        assert whats(await house.verify()) == [f"the program {script} is another one"]
        await house.servers.remove("it", OWNER)
        assert f"the program {script} is" in await refused(house.sync(lock["it"]))
        script.write_text(server_code("mine"))
        assert (await house.sync(lock["it"])).action == "installed"
        assert await house.verify(lock) == []


@pytest.mark.parametrize(
    ("kind", "source", "upgraded"),
    [
        (SourceKind.PYPI, "pypi:it", True),
        (SourceKind.NPM, "npm:it", True),
        (SourceKind.GIT, "git+file:///srv/it", False),
        (SourceKind.FOLDER, "/srv/it", False),
        (SourceKind.MCPB, "/srv/it.mcpb", False),
    ],
)
def test_only_an_upgrade_that_can_be_done_is_advised_where_there_is_no_pin(
    kind: SourceKind, source: str, upgraded: bool
) -> None:
    old = Installation(server_id="it", kind=kind, source=source, spec=ServerSpec(command="python"))
    with pytest.raises(LockError) as said:
        pin_of(old)
    assert ("toolscore upgrade it" in str(said.value)) is upgraded
    assert "ninstalling and installing it" in str(said.value).replace("Uninstalling", "uninstalling")
