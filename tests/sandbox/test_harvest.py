"""The harvest: what comes out of a folder whose every name and file untrusted code chose."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from toolscore.sandbox import harvest

if sys.platform == "win32":
    pytest.skip("boxes have a POSIX file system", allow_module_level=True)


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def taken(
    folder: Path, before: dict[str, harvest.Seen] | None = None, **limits: Any
) -> tuple[dict[str, tuple[int, bytes | None]], list[str]]:
    found: dict[str, tuple[int, bytes | None]] = {}

    def give(path: str, size: int, data: bytes | None) -> None:
        found[path] = (size, data)

    open_before = sorted(os.listdir("/dev/fd"))
    with opened(folder) as descriptor:
        skipped = harvest.collect(
            descriptor, before=before or {}, give=give, **({"most_bytes": 1 << 20, "seconds": 60.0} | limits)
        )
    assert sorted(os.listdir("/dev/fd")) == open_before
    return found, skipped


def snapshot(folder: Path) -> dict[str, harvest.Seen]:
    with opened(folder) as descriptor:
        return harvest.snapshot(descriptor, seconds=60.0)


def test_new_files_come_out_with_their_paths(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("two")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "a ü.txt").write_text("one")
    (tmp_path / "empty").touch()
    found, skipped = taken(tmp_path)
    assert found == {"b": (3, b"two"), "deep/er/a ü.txt": (3, b"one"), "empty": (0, b"")}
    assert list(found) == sorted(found)
    assert skipped == []


def test_what_was_there_before_stays_unless_it_changed(tmp_path: Path) -> None:
    for name in ("same", "longer", "rewritten", "replaced"):
        (tmp_path / name).write_text("text")
    before = snapshot(tmp_path)
    # Right after the snapshot, within the same tick of the file system's clock.
    (tmp_path / "rewritten").write_text("TEXT")
    (tmp_path / "longer").write_text("longer text")
    (tmp_path / "other").write_text("text")
    (tmp_path / "other").rename(tmp_path / "replaced")
    found, _ = taken(tmp_path, before)
    assert set(found) == {"rewritten", "longer", "replaced"}


def test_only_regular_files_come_out(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    box = tmp_path / "box"
    box.mkdir()
    (box / "file").write_text("fine")
    os.link(box / "file", box / "hard")
    (box / "link").symlink_to(tmp_path / "outside" / "secret")
    (box / "folder").symlink_to(tmp_path / "outside")
    os.mkfifo(box / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(box / "socket"))
        found, skipped = taken(box)
    assert set(found) == {"file", "hard"}
    assert skipped == [
        "fifo: a fifo",
        "folder: a symbolic link",
        "link: a symbolic link",
        "socket: a socket",
    ]


def test_a_file_that_is_exchanged_for_a_link_or_fifo_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    box = tmp_path / "box"
    box.mkdir()
    for name in ("a", "b", "c", "d"):
        (box / name).write_text("fine!!")
    found: dict[str, bytes | None] = {}

    def give(path: str, size: int, data: bytes | None) -> None:
        found[path] = data
        if path == "a":  # the others are listed by now
            for name in ("b", "c"):
                (box / name).unlink()
            (box / "b").symlink_to(secret)
            os.mkfifo(box / "c")

    with opened(box) as descriptor:
        skipped = harvest.collect(descriptor, before={}, give=give, most_bytes=100, seconds=60.0)
    assert found == {"a": b"fine!!", "d": b"fine!!"}
    assert len(skipped) == 2


def test_odd_names_are_left_out_and_told_in_printable_form(tmp_path: Path) -> None:
    for name in (b"\xff\xfe", b"new\nline", b"escape\x1b[2J", "right\u202eleft".encode(), b"plain"):
        Path(os.fsdecode(bytes(tmp_path) + b"/" + name)).write_text("x")
    found, skipped = taken(tmp_path)
    assert set(found) == {"plain"}
    assert len(skipped) == 4
    assert all(line.isprintable() and "not plain text" in line for line in skipped)


def test_files_with_paths_of_more_than_a_kibibyte_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path
    for _ in range(4):
        folder = folder / ("\U0001f600" * 50)
        folder.mkdir()
    (folder / "fits").touch()
    for number in range(300):
        (folder / (f"{number:03}" + "\U0001f601" * 60)).touch()
    found, skipped = taken(tmp_path)
    assert [path.rpartition("/")[2] for path in found] == ["fits"]
    assert skipped[0].endswith(": its path is longer than 1024 bytes")
    assert sum(len(line.encode()) for line in skipped) < 100_000


def test_a_sparse_file_of_a_terabyte_is_told_by_its_size_and_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        try:
            file.truncate(1 << 40)
        except OSError as problem:
            pytest.skip(f"this file system has no files of a terabyte: {problem}")
    (tmp_path / "small").write_text("x")
    began = time.monotonic()
    found, _ = taken(tmp_path)
    assert time.monotonic() - began < 20  # a terabyte takes minutes
    assert found == {"huge": (1 << 40, None), "small": (1, b"x")}


def test_files_beyond_the_limit_of_bytes_are_told_by_their_size(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(bytes(60))
    (tmp_path / "d").write_bytes(bytes(40))
    found, _ = taken(tmp_path, most_bytes=100)
    assert [(name, data is not None) for name, (_, data) in found.items()] == [
        ("a", True), ("b", False), ("c", False), ("d", True),
    ]  # fmt: skip


def test_there_is_a_limit_on_files_remarks_and_depth(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"file{number:03}").touch()
    for number in range(80):
        os.mkfifo(tmp_path / f"fifo{number:03}")
    place = tmp_path
    for _ in range(20):
        place = place / "in"
        place.mkdir()
        (place / "file").touch()
    found, skipped = taken(tmp_path, most_files=100)
    assert len(found) == 100
    assert len(skipped) == 52
    assert "216 more files: 100 are the most" in skipped[50]
    assert skipped[51] == "31 more were left out"


def test_time_up_ends_it_with_a_remark(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}").touch()
    found, skipped = taken(tmp_path, seconds=0.0)
    assert found == {}
    assert "took too long" in skipped[0]


def test_caches_of_libraries_are_no_results(tmp_path: Path) -> None:
    for name in ("__pycache__", ".matplotlib", "kept"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    assert list(taken(tmp_path)[0]) == ["kept/file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch(mode=0)
    assert taken(tmp_path)[1] == ["file: Permission denied"]


def test_clearing_leaves_an_empty_folder_and_touches_nothing_else(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    box = tmp_path / "box"
    box.mkdir()
    (box / "link").symlink_to(kept)
    os.mkfifo(box / "fifo")
    (box / "closed" / "inner").mkdir(parents=True)
    (box / "closed" / "inner" / "file").touch()
    (box / "closed" / "inner").chmod(0)
    (box / "closed").chmod(0)
    Path(os.fsdecode(bytes(box) + b"/\xff")).touch()
    # Deeper than any path can be.
    place = os.open(box, os.O_RDONLY)
    for _ in range(600):
        os.mkdir("folder" * 20, dir_fd=place)
        inner = os.open("folder" * 20, os.O_RDONLY, dir_fd=place)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=inner))
        os.close(place)
        place = inner
    os.close(place)
    with opened(box) as descriptor:
        harvest.clear(descriptor)
    assert os.listdir(box) == []
    assert os.listdir(kept) == ["file"]


def test_it_needs_the_standard_library_alone_and_little_of_it() -> None:
    program = (
        f"import sys; before = set(sys.modules); sys.path.insert(0, {str(Path(harvest.__file__).parent)!r});"
        "import harvest; print(sorted(set(sys.modules) - before - {'harvest'}))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True
    )
    assert not {"pathlib", "shutil", "re", "typing"} & set(eval(done.stdout))
