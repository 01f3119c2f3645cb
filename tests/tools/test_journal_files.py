"""The journal's files: bounded, one writer, whole lines whatever happens, and never in the way of a call."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from helpers import until
from journaled import ANA, kept, lines, passage, read
from toolscore.tools.journal.options import Options
from toolscore.tools.journal.reader import Reader
from toolscore.tools.journal.segments import Segments
from toolscore.tools.journal.wanted import Wanted
from toolscore.tools.outcome import Outcome, RefusalError
from toolscore.tools.passage import Passage

POSIX = pytest.mark.skipif(os.name != "posix", reason="modes and signals of POSIX")


def in_folder(folder: Path, **options: Any) -> Segments:
    return Segments(folder, **{"max_bytes": 1 << 20, "segment_bytes": 1 << 16, "max_age": 0.0, **options})


def line(number: int, size: int = 100) -> bytes:
    begin = b'{"id":"a-%d","time":"2026-01-01T00:00:00.000000Z","kind":"call","x":"' % number
    return begin + b"x" * max(0, size - len(begin) - 3) + b'"}\n'


def numbers(folder: Path) -> list[int]:
    return [int(record["id"][2:]) for record in read(folder)]


@POSIX
async def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    async with kept(tmp_path) as one:
        await one.only(passage())
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in folder.iterdir()] == [0o600]


async def test_the_next_run_goes_on_in_the_same_file_and_with_other_ids(tmp_path: Path) -> None:
    for _ in range(3):
        async with kept(tmp_path) as one:
            await one.only(passage())
    assert len(list(one.folder.iterdir())) == 1
    assert len({record["id"] for record in read(one.folder)}) == 3


def test_a_hundred_thousand_records_stay_within_the_bound_and_the_oldest_go(tmp_path: Path) -> None:
    bound = 1 << 20
    journal = in_folder(tmp_path, max_bytes=bound, segment_bytes=bound // 16)
    most = 0
    for batch in range(1000):
        journal.append(b"".join(line(batch * 100 + number) for number in range(100)))
        most = max(most, sum(path.stat().st_size for path in tmp_path.iterdir()))
    journal.close()
    left = numbers(tmp_path)
    assert most <= bound
    assert left == list(range(left[0], 100_000))  # nothing is missing in between
    assert len(left) > 8000
    assert journal.deleted > 100


def test_what_an_earlier_run_left_counts_too(tmp_path: Path) -> None:
    journal = in_folder(tmp_path)
    for number in range(8000):
        journal.append(line(number))
    journal.close()
    smaller = in_folder(tmp_path, max_bytes=1 << 18, segment_bytes=1 << 14)
    smaller.append(line(8000))
    smaller.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1 << 18
    assert numbers(tmp_path)[-1] == 8000


def test_old_segments_go_by_age_and_the_newest_stays(tmp_path: Path) -> None:
    journal = in_folder(tmp_path, segment_bytes=1000)
    for number in range(40):
        journal.append(line(number, 500))
    journal.close()
    old = time.time() - 10 * 86_400
    for path in sorted(tmp_path.iterdir())[:5]:
        os.utime(path, (old, old))
    again = in_folder(tmp_path, segment_bytes=1000, max_age=9 * 86_400.0)
    again.append(line(40, 500))
    again.close()
    assert again.deleted == 5
    assert numbers(tmp_path)[0] == 10


def test_a_clock_that_leaps_forward_makes_nothing_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = in_folder(tmp_path, segment_bytes=1000, max_age=86_400.0)
    journal.append(line(0, 900))
    real = time.time
    monkeypatch.setattr("toolscore.tools.journal.segments.time.time", lambda: real() + 400 * 86_400)
    monkeypatch.setattr(
        "toolscore.tools.journal.segments.time.monotonic", lambda real=time.monotonic: real() + 120
    )
    for number in range(1, 10):
        journal.append(line(number, 900))
    journal.close()
    assert numbers(tmp_path) == list(range(10))


async def test_a_clock_that_goes_back_changes_neither_order_nor_duration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with kept(tmp_path) as one:
        first = await one.only(passage())
        real = time.time
        monkeypatch.setattr("toolscore.tools.journal.journal.time.time", lambda: real() - 3600)
        second = await one.only(passage())
        monkeypatch.undo()
        assert second["time"] < first["time"]
        assert second["seconds"] == 0.25
        assert [record["id"] for record in await one.records()] == [first["id"], second["id"]]


def test_a_torn_line_is_left_out_and_gone_with_the_next_owner(tmp_path: Path) -> None:
    journal = in_folder(tmp_path)
    journal.append(line(0) + line(1))
    journal.close()
    [path] = tmp_path.iterdir()
    with path.open("ab") as file:
        file.write(line(2)[:60])
    reader = Reader(tmp_path)
    assert [record["id"] for record in reader.records(Wanted())] == ["a-0", "a-1"]
    assert reader.skipped == 1
    again = in_folder(tmp_path)
    again.append(line(3))
    again.close()
    assert path.read_bytes() == line(0) + line(1) + line(3)


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\0" * 5000 + b"\n",
        b"not json\n",
        b"[1]\n",
        b'{"id":1}\n',
        b"\xff\xfe\n",
        b"\n\n",
        b"[" * 100_000 + b"\n",
    ],
    ids=["zeros", "text", "list", "no record", "bytes", "empty", "deep"],
)
def test_lines_that_are_no_records_hide_no_others(tmp_path: Path, rubbish: bytes) -> None:
    (tmp_path / "00000001.jsonl").write_bytes(line(0) + rubbish + line(1))
    assert numbers(tmp_path) == [0, 1]


def test_a_segment_that_cannot_be_read_is_told_and_hides_no_others(tmp_path: Path) -> None:
    (tmp_path / "00000001.jsonl").write_bytes(line(0))
    (tmp_path / "00000002.jsonl").mkdir()
    (tmp_path / "notes.txt").write_text("no segment")
    reader = Reader(tmp_path)
    assert [record["id"] for record in reader.records(Wanted())] == ["a-0"]
    assert list(reader.unreadable) == ["00000002.jsonl"]
    journal = in_folder(tmp_path)
    journal.append(line(1))
    journal.close()
    assert numbers(tmp_path) == [0, 1]
    assert (tmp_path / "00000003.jsonl").read_bytes() == line(1)


@POSIX
def test_a_folder_that_is_deleted_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    journal = in_folder(folder)
    journal.append(line(0))
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    journal.append(line(1))
    journal.close()
    assert numbers(folder) == [1]


def test_no_folder_is_no_records(tmp_path: Path) -> None:
    reader = Reader(tmp_path / "none")
    assert list(reader.records(Wanted())) == []
    assert not reader.unreadable


FILLING = """
import asyncio, json, resource, signal, sys
from pathlib import Path
from toolscore.tools.journal.journal import Journal
from toolscore.tools.journal.options import Options

async def main(folder):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    journal = Journal(Path(folder), Options(flush=0.05))
    told = []
    journal.on_trouble = told.append
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    journal.start()
    noted = 0
    while journal.standing.trouble is None:
        for _ in range(10):
            journal.note("approval", number=noted, text="x" * 100)
            noted += 1
        await asyncio.sleep(0.01)
    size = sum(path.stat().st_size for path in Path(folder).iterdir())
    for _ in range(10):
        journal.note("approval", number=noted)
        noted += 1
    trouble = journal.standing.trouble
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    while journal.standing.trouble is not None:
        await asyncio.sleep(0.01)
    await journal.aclose()
    print(json.dumps({"noted": noted, "trouble": trouble, "told": told, "size": size}))

asyncio.run(main(sys.argv[1]))
"""


@POSIX
def test_a_device_that_is_full_is_told_of_and_nothing_is_lost_once_there_is_room(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    done = subprocess.run(
        [sys.executable, "-c", FILLING, str(folder)], capture_output=True, text=True, timeout=120, check=True
    )
    told = json.loads(done.stdout)
    assert "File too large" in told["trouble"]
    assert told["told"] == [told["trouble"], None]
    assert 0 < told["size"] <= 20_000
    assert [record["detail"]["number"] for record in lines(folder)] == list(range(told["noted"]))
    assert done.stderr.count("cannot be written") == 1
    assert "Calls go on" in done.stderr
    assert done.stderr.count("is written again") == 1


async def test_calls_go_on_while_it_cannot_be_written_or_are_refused_where_that_is_wanted(
    tmp_path: Path,
) -> None:
    (tmp_path / "journal").write_text("a file in its place")
    async with kept(tmp_path, flush=0.02) as one:
        one.over(passage())
        await until(lambda: one.journal.standing.trouble is not None)
        one.over(passage())
        one.journal.configure(Options(flush=0.02, on_full="refuse"))
        with pytest.raises(RefusalError) as refusal:
            one.journal.admit(passage())
        assert refusal.value.outcome is Outcome.UNAVAILABLE
        assert "Make room" in refusal.value.message
        looking = Passage(
            "tools/call",
            "toolscore",
            "toolscore__list_servers",
            {},
            ANA,
            None,
            None,
            0.0,
            own_hints={"readOnlyHint": True},
        )
        one.journal.admit(looking)
        (tmp_path / "journal").unlink()
        await until(lambda: one.journal.standing.trouble is None)
        one.journal.admit(passage())
        assert len(await one.records()) == 2


async def test_what_finds_no_room_in_the_queue_is_counted_and_told_of(tmp_path: Path) -> None:
    async with kept(tmp_path, start=False, queue_records=10) as one:
        for number in range(25):
            one.over(passage(arguments={"number": number}))
        await asyncio.sleep(0)
        assert one.journal.standing.dropped == 15
        assert one.journal.standing.waiting == 10
    records = read(one.folder)
    assert [record["arguments"]["number"] for record in records if record["kind"] == "call"] == list(
        range(10)
    )
    [dropped] = [record for record in records if record["kind"] == "dropped"]
    assert dropped["detail"] == {"records": 15}


async def test_the_bytes_that_wait_are_bounded_too(tmp_path: Path) -> None:
    async with kept(tmp_path, start=False, queue_bytes=100_000) as one:
        for _ in range(20):
            one.over(passage(arguments={"text": "x" * 20_000}))
        await asyncio.sleep(0)
        assert one.journal.standing.waiting == 4
    assert [record["kind"] for record in read(one.folder)] == ["call"] * 4 + ["dropped"]


async def test_where_calls_are_to_be_refused_none_is_dropped(tmp_path: Path) -> None:
    async with kept(tmp_path, start=False, queue_records=3, on_full="refuse") as one:
        under_way = [passage(arguments={"number": number}) for number in range(5)]
        for call in under_way:
            one.journal.admit(call)
        for call in under_way:
            one.journal.watch(call)
        await asyncio.sleep(0)
        with pytest.raises(RefusalError):
            one.journal.admit(passage())
        assert one.journal.standing.dropped == 0
        # Whoever tries again and again is not kept in memory each time.
        for _ in range(100):
            refused = passage()
            with pytest.raises(RefusalError) as refusal:
                one.journal.admit(refused)
            refused.outcome, refused.said = "unavailable", refusal.value.message
            one.journal.watch(refused)
        await asyncio.sleep(0)
        assert (one.journal.standing.dropped, one.journal.standing.waiting) == (100, 5)
    calls = [record for record in read(one.folder) if record["kind"] == "call"]
    assert [record["arguments"]["number"] for record in calls] == [0, 1, 2, 3, 4]


WRITING = """
import asyncio, sys
from pathlib import Path
from toolscore.tools.journal.journal import Journal
from toolscore.tools.journal.options import Options

async def main(folder):
    journal = Journal(Path(folder), Options())
    journal.start()
    number = 0
    while True:
        journal.note("approval", number=number)
        number += 1
        print(number, flush=True)
        await asyncio.sleep(0.001)

asyncio.run(main(sys.argv[1]))
"""


@POSIX
def test_what_was_written_when_the_writer_is_killed_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    words = [sys.executable, "-c", WRITING, str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            noted = [int(process.stdout.readline()) for _ in range(100)][-1]
            # Nobody asks it to: it is in the files a second after it was noted at the latest.
            deadline = time.monotonic() + 60
            while len(read(folder)) < noted:
                assert time.monotonic() < deadline
                process.stdout.readline()
        finally:
            process.send_signal(signal.SIGKILL)
    there = [record["detail"]["number"] for record in read(folder)]
    assert there == list(range(len(there)))
    assert len(there) >= noted


async def test_records_are_followed_as_they_come_from_one_file_to_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    journal = in_folder(folder, segment_bytes=1000)
    journal.append(line(0, 500))
    seen: list[str] = []

    async def follow() -> None:
        async for records in Reader(folder).follow(Wanted()):
            seen.extend(record["id"] for record in records)

    following = asyncio.create_task(follow())
    await asyncio.sleep(0)
    for number in range(1, 30):
        journal.append(line(number, 500))
    half = line(30, 500)
    last = max(folder.iterdir())
    with last.open("ab") as file:
        file.write(half[:100])
    await until(lambda: len(seen) == 29)
    with last.open("ab") as file:
        file.write(half[100:])
    await until(lambda: len(seen) == 30)
    assert seen == [f"a-{number}" for number in range(1, 31)]
    following.cancel()
    await asyncio.wait([following])
    journal.close()


async def test_what_is_deleted_while_it_is_followed_is_shown_or_missed_aloud(tmp_path: Path) -> None:
    journal = in_folder(tmp_path, max_bytes=2000, segment_bytes=1000)
    journal.append(line(0, 500))
    reader, seen = Reader(tmp_path), list[str]()
    follow = reader.follow(Wanted())

    async def more() -> None:
        found = await anext(follow)
        seen.extend(record["id"] for record in found)

    first = asyncio.create_task(more())
    await asyncio.sleep(0)  # it has begun behind the first record
    journal.append(line(1, 490))
    await first
    assert seen == ["a-1"]
    for number in range(2, 5):
        journal.append(line(number, 900))
    # That file is gone with a record nobody has seen, and the next one as well.
    assert [int(path.stem) for path in sorted(tmp_path.iterdir())] == [3, 4]
    while reader.missed == 0:
        await more()
    assert (seen, reader.missed) == (["a-1", "a-3", "a-4"], 1)
    (tmp_path / "00000004.jsonl").unlink()
    journal.append(line(5, 50))
    await more()
    assert (seen[-1], reader.missed) == ("a-5", 1)
    await follow.aclose()
    journal.close()


async def test_the_newest_are_found_across_files(tmp_path: Path) -> None:
    journal = in_folder(tmp_path, segment_bytes=1000)
    for number in range(30):
        journal.append(line(number, 500))
    journal.close()
    found = Reader(tmp_path).last(Wanted(), 7)
    assert [record["id"] for record in found] == [f"a-{number}" for number in range(23, 30)]
