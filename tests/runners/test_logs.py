"""A server's standard error on disk: lines with time and level, in files of bounded size, without secrets."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from pathlib import Path

import pytest

from helpers import call, faulty, installation, runner_at, speaking, until
from toolscore.runners import log_budget
from toolscore.runners.log_file import LogFile, files_of
from toolscore.runners.log_follow import Follower
from toolscore.runners.log_level import level_of
from toolscore.runners.log_line import LogLine, stamp
from toolscore.runners.log_mask import Mask, SeenValues
from toolscore.runners.log_read import LogFolder
from toolscore.runners.logs import LONGEST_LOG_LINE, Logs, ServerLog
from toolscore.runners.spec import ServerSpec


def texts(lines: list[LogLine]) -> list[str]:
    return [line.text for line in lines]


def tail(log: ServerLog, count: int = 1000, level: str | None = None) -> list[LogLine]:
    return LogFolder(log.path.parent).tail(log.path.stem, count, level)[0]


def test_lines_are_kept_with_time_and_level_for_the_owner_alone(tmp_path: Path) -> None:
    log = ServerLog(tmp_path / "a.log")
    log.write("one")
    log.write("ERROR: zwei ü \udc80")
    log.close()
    raw = log.path.read_text().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO one", raw[0])
    assert raw[1].endswith("Z ERROR ERROR: zwei ü ?")
    assert log.path.stat().st_mode & 0o777 == 0o600
    first, second = tail(log)
    assert (first.level, first.server, first.text) == ("INFO", "a", "one")
    assert (second.level, str(second)) == ("ERROR", raw[1])
    assert abs(time.time() - time.mktime(time.strptime(first.time[:19], "%Y-%m-%dT%H:%M:%S"))) < 15 * 3600


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("INFO:     Uvicorn running", "INFO"),
        ("DEBUG:asyncio:Using selector", "DEBUG"),
        ("2026-01-01 10:00:00,123 - mcp.server - ERROR - it broke", "ERROR"),
        ("2026-01-01 10:00:00,123 WARNING app: slow", "WARNING"),
        ("[11/21/26 09:12:33] INFO     Processing request of type", "INFO"),
        ("                    WARNING  a rich line goes on", "WARNING"),
        ("[error] no such file", "ERROR"),
        ("[2026-01-01T00:00:00Z] [warn] careful", "WARNING"),
        ('{"level":"warn","msg":"disk"}', "WARNING"),
        ('{"level":50,"time":1,"msg":"pino"}', "ERROR"),
        ('{"time": 1, "severity": "CRITICAL"}', "ERROR"),
        ("time=2026 level=debug msg=x", "DEBUG"),
        ("error: cannot open", "ERROR"),
        ("warning: unused", "WARNING"),
        ("npm warn deprecated x", "WARNING"),
        ("npm ERR! code E404", "ERROR"),
        ("\x1b[31mERROR\x1b[0m red", "ERROR"),
        ("Traceback (most recent call last):", "ERROR"),
        ("ValueError: wrong", "ERROR"),
        ("httpx.ConnectError: nobody there", "ERROR"),
        ("Error: Cannot find module 'x'", "ERROR"),
        ("thread 'main' panicked at src/main.rs", "ERROR"),
        ("app.py:3: DeprecationWarning: old", "WARNING"),
        ("(node:123) ExperimentalWarning: new", "WARNING"),
        ('  File "x.py", line 1, in <module>', None),
        ("    at Object.<anonymous> (x.js:1:1)", None),
        ("", None),
        ("}", None),
        ("no errors were found", "INFO"),
        ("the errors.ERROR_LEVEL is set", "INFO"),
        ("Server listens on 8080", "INFO"),
        ("GET /info HTTP/1.1", "INFO"),
    ],
)
def test_the_level_is_read_where_a_line_shows_one(text: str, level: str | None) -> None:
    assert level_of(text) == level


def test_continued_lines_have_the_level_of_what_they_continue(tmp_path: Path) -> None:
    log = ServerLog(tmp_path / "a.log")
    for text in ("Traceback (most recent call last):", '  File "x"', "KeyError: 1", "going on", "  indented"):
        log.write(text)
    log.close()
    assert [line.level for line in tail(log)] == ["ERROR", "ERROR", "ERROR", "INFO", "INFO"]
    assert texts(tail(log, level="WARNING")) == [
        "Traceback (most recent call last):",
        '  File "x"',
        "KeyError: 1",
    ]


def test_lines_of_earlier_versions_and_lines_without_time_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(
        b"loose at the start\n2026-01-02T03:04:05Z WARNING old\x0b\xff\n  goes on\n"
        b"2026-01-02T03:04:05.500Z DEBUG new\ntorn"
    )
    lines = LogFolder(tmp_path).tail("a", 10)[0]
    assert [(line.time[11:], line.level, line.text) for line in lines[1:]] == [
        ("03:04:05.000Z", "WARNING", "WARNING old\x0b\ufffd"),
        ("03:04:05.000Z", "WARNING", "  goes on"),
        ("03:04:05.500Z", "DEBUG", "new"),
    ]
    assert lines[0].text == "loose at the start"


@pytest.mark.parametrize("files", [1, 2, 4])
def test_a_log_moves_away_at_its_size_and_the_last_lines_come_from_all_its_files(
    tmp_path: Path, files: int
) -> None:
    log = ServerLog(tmp_path / "a.log", LogFile(tmp_path / "a.log", 1000, files))
    for number in range(200):
        log.write(f"line {number}")
    log.close()
    assert len(files_of(log.path)) == files == len(list(tmp_path.iterdir()))
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    found = texts(tail(log, 10 * files))
    assert found == [f"line {number}" for number in range(200 - 10 * files, 200)]


def test_fewer_files_than_before_delete_what_is_too_much(tmp_path: Path) -> None:
    for number, files in enumerate((5, 2)):
        file = LogFile(tmp_path / "a.log", 100, files)
        for _ in range(30):
            file.write(b"x" * 49 + b"\n")
        file.close()
        assert len(files_of(tmp_path / "a.log")) == files, number


def test_a_file_that_was_deleted_or_moved_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolscore.runners.log_file.LOOK_AGAIN", 0)
    log = ServerLog(tmp_path / "a.log")
    log.write("one")
    log.path.rename(tmp_path / "mine")
    log.write("two")
    log.close()
    assert texts(tail(log)) == ["two"]


def test_the_tail_is_bounded_and_starts_anew_with_each_life(tmp_path: Path) -> None:
    log = ServerLog(tmp_path / "a.log")
    for number in range(1000):
        log.write(f"{number} " + "x" * 200)
    assert len(log.tail()) == 4097
    assert "999 xxx" in log.tail()
    log.mark()
    assert log.tail() == ""
    log.write("new")
    assert log.tail() == "new"
    log.close()


def test_a_long_line_is_cut(tmp_path: Path) -> None:
    log = ServerLog(tmp_path / "a.log")
    log.write("ü" * LONGEST_LOG_LINE)
    log.close()
    [line] = tail(log)
    assert len(line.text.encode()) <= LONGEST_LOG_LINE
    assert line.text.endswith("ü…")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_loses_lines_but_not_the_tail() -> None:
    log = ServerLog(Path("/dev/full"))
    log.write("first")
    log.write("second")
    assert log.tail() == "first\nsecond"
    log.close()


def test_a_folder_that_vanished_loses_lines_only(tmp_path: Path) -> None:
    log = ServerLog(tmp_path / "gone" / "a.log")
    log.write("first")
    assert log.tail() == "first"
    (tmp_path / "gone").mkdir()
    log.write("second")
    log.close()
    assert texts(tail(log)) == ["second"]


def test_no_log_has_no_lines(tmp_path: Path) -> None:
    assert LogFolder(tmp_path).tail("none", 5) == ([], None)
    assert LogFolder(tmp_path / "nowhere").lines(["a", "b"], 5) == []


async def test_lines_of_one_turn_are_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[int] = []
    put = LogFile._put

    def counted(self: LogFile, batch: list[bytes]) -> None:
        writes.append(len(batch))
        put(self, batch)

    monkeypatch.setattr(LogFile, "_put", counted)
    log = ServerLog(tmp_path / "a.log")
    for number in range(100):
        log.write(str(number))
    assert tail(log) == []
    await asyncio.sleep(0)
    assert writes == [100]
    log.write("and one")
    log.close()
    assert texts(tail(log)) == [*map(str, range(100)), "and one"]


def test_instances_of_a_server_share_its_file_and_are_told_apart(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    one, two = logs.of("a#1"), logs.of("a#2")
    one.write("from one")
    two.write("from two")
    one.write("again")
    two.close()
    one.write("still there")
    logs.close()
    assert (one.tail(), two.tail()) == ("from one\nagain\nstill there", "from two")
    found = LogFolder(tmp_path).tail("a", 10)[0]
    assert [(line.server, line.text) for line in found] == [
        ("a#1", "from one"),
        ("a#2", "from two"),
        ("a#1", "again"),
        ("a#1", "still there"),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["a.log"]


def test_deleting_a_log_deletes_all_its_files_and_no_others(tmp_path: Path) -> None:
    logs = Logs(tmp_path, 100, 4)
    for name in ("a", "ab"):
        log = logs.of(name)
        for number in range(40):
            log.write(str(number))
    (tmp_path / "a.log.bak").touch()
    logs.remove("a")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.log.bak",
        "ab.log",
        *(f"ab.log.{n}" for n in (1, 2, 3)),
    ]
    logs.close()


# --- secrets


def test_values_of_secrets_are_masked_in_every_form_they_commonly_take(tmp_path: Path) -> None:
    log = ServerLog(tmp_path / "a.log")
    log.masks = Mask(['s3cr&t"x', "s3cr&t", "abc", "true", "8080", "line one of key\nline two of key"])
    log.write('key s3cr&t"x url s3cr%26t%22x json s3cr&t\\"x short s3cr&t abc true 8080')
    log.write("line two of key")
    log.note("WARNING", "s3cr&t")
    log.close()
    assert texts(tail(log)) == ["key *** url *** json *** short *** abc true 8080", "***", "[toolscore] ***"]
    assert log.tail() == "key *** url *** json *** short *** abc true 8080\n***"


def test_what_every_program_is_given_is_no_secret() -> None:
    seen = SeenValues(
        {"HOME": "/home/me", "LC_ALL": "C.UTF-8", "API": "from the shell"}.get, {"a/env/K": "kept"}.get
    )
    assert [seen.variable(name) for name in ("HOME", "LC_ALL", "API", "NONE")] == [
        "/home/me",
        "C.UTF-8",
        "from the shell",
        None,
    ]
    assert seen.secret("a/env/K") == "kept"
    assert seen.values == {"from the shell", "kept"}


async def test_secrets_of_a_server_are_in_neither_its_log_nor_its_errors_nor_its_noise(
    tmp_path: Path,
) -> None:
    go = tmp_path / "go"
    program = (
        "import os, sys, time; k = os.environ['KEY']; w = sys.stderr\n"
        "w.write('my key is ' + k[:6]); w.flush(); time.sleep(0.1)\n"
        "w.write(k[6:] + ' and ' + os.environ['OTHER'] + chr(10)); w.flush()\n"
        "print('noise', k, flush=True)\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
        "w.write('x' * (65536 - 3) + k + chr(10)); w.flush()\n"
    )
    runner = runner_at(
        tmp_path,
        secret={"leaky/env/KEY": "hunter2-secret"}.get,
        environ={"MINE": "from-my-shell", "HOME": "/"},
    )
    env = {"KEY": "${secret:leaky/env/KEY}", "OTHER": "${MINE}"}
    server = installation(ServerSpec(command=sys.executable, args=("-S", "-c", program), env=env), "leaky")
    child = await runner.start_server(server)
    await until(lambda: "my key" in child.stderr_tail())
    assert child.stderr_tail() == "my key is *** and ***"
    go.touch()
    assert await child.ended_within(30)
    assert child.noise() == "noise ***"
    await runner.stop_server("leaky", 0)
    told = "\n".join(await runner.logs("leaky")) + runner.explain(server, "it ended").message
    assert told.count("my key is *** and ***") >= 1
    for part in ("hunter", "secret", "my-shell"):
        assert part not in told


# --- floods


FLOODS = {
    "stderr": "import sys\nwhile True: sys.stderr.write('e' * 200 + chr(10))",
    "short": "import sys\nwhile True: sys.stderr.write(chr(10) * 4096)",
    "noise": "import os\nwhile True: os.write(1, b'this is no message' + bytes([10]))",
}


@pytest.mark.parametrize("kind", FLOODS)
@pytest.mark.alone
async def test_a_server_that_floods_waits_and_nobody_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    runner = runner_at(tmp_path, log_files=50)
    spec = ServerSpec(command=sys.executable, args=("-S", "-c", FLOODS[kind]))
    server = installation(spec, "flood")
    async with speaking(tmp_path) as session:

        async def slowest(count: int) -> float:
            took = []
            for _ in range(count):
                began = time.perf_counter()
                assert await call(session, "add", a=1, b=2) == "3"
                took.append(time.perf_counter() - began)
            return sorted(took)[int(count * 0.99)]

        alone = await slowest(500)
        await runner.start_server(server)
        log = tmp_path / "logs" / "flood.log"
        # The burst is read while others are served, and then it is said why there is no more.
        burst = await slowest(200)
        # A machine that does much else may not read more than is allowed for as long as that burst would take.
        monkeypatch.setattr(log_budget, "BURST", 64 * 1024)

        def said() -> bool:
            told = re.compile(rb" WARNING \[toolscore\] .*it floods its ")
            return any(told.search(path.read_bytes()) for path in files_of(log))

        async with asyncio.timeout(60):
            while not said():
                await asyncio.sleep(0.1)  # a look takes from the time in which the flood is read
        # The machine may do other things; what a flood took from others it would take every time.
        beside = await slowest(500)
        for _ in range(2):
            beside = beside if beside < alone + 0.05 else await slowest(500)
        before = sum(path.stat().st_size for path in files_of(log))
        began = time.monotonic()
        await until(lambda: time.monotonic() - began > 1.0)
        grown = sum(path.stat().st_size for path in files_of(log)) - before
        grown = int(grown / (time.monotonic() - began))  # it may have been more than a second
        print(
            f"p99 of another server: {alone * 1e3:.2f} ms alone, {burst * 1e3:.2f} ms in the burst, "
            f"{beside * 1e3:.2f} ms beside the flood ({kind}); log grew {grown} bytes in 1 s"
        )
        await runner.stop_server("flood", 0)
    assert burst < alone + 0.25
    assert beside < alone + 0.05
    assert grown < 3 * 1024 * 1024


async def test_what_a_flooding_server_said_last_is_not_lost(tmp_path: Path) -> None:
    program = (
        "import sys\nfor n in range(60000): sys.stderr.write(f'{n} ' + 'e' * 100 + chr(10))\n"
        "sys.stderr.write('the end')"
    )
    runner = runner_at(tmp_path, log_files=10)
    server = installation(ServerSpec(command=sys.executable, args=("-S", "-c", program)), "flood")
    child = await runner.start_server(server)
    assert await child.ended_within(120)  # it takes nine seconds at the pace that is allowed
    await runner.stop_server("flood", 0)
    lines = [
        line.text.split()[0]
        for line in LogFolder(tmp_path / "logs").tail("flood", 100000)[0]
        if "floods" not in line.text
    ]
    assert lines == [*map(str, range(60000)), "the"]


# --- following


class Grown:
    """Collects what a follower gives."""

    def __init__(self, follower: Follower) -> None:
        self.lines: list[LogLine] = []
        self._follower = follower

    async def until(self, count: int) -> list[LogLine]:
        async with asyncio.timeout(10):
            async for lines in self._follower.follow():
                self.lines += lines
                if len(self.lines) >= count:
                    return self.lines
        raise AssertionError


async def test_a_log_is_followed_from_its_last_lines_on_over_rotations(tmp_path: Path) -> None:
    log = ServerLog(tmp_path / "a.log", LogFile(tmp_path / "a.log", 1000, 3))
    for number in range(5):
        log.write(str(number))
    log.close()
    follower = Follower(LogFolder(tmp_path), ["a"])
    assert texts(follower.begin(2)) == ["3", "4"]
    assert follower.look() == []
    for number in range(5, 60):  # at 30 bytes a line this is two files more
        log.write(str(number))
    log.close()
    assert texts(follower.look()) == [str(number) for number in range(5, 60)]
    log.write("one more")
    log.close()
    assert texts(await Grown(follower).until(1)) == ["one more"]


def test_a_log_that_was_emptied_or_replaced_is_followed_from_its_new_beginning(tmp_path: Path) -> None:
    follower = Follower(LogFolder(tmp_path), ["a"])
    path = tmp_path / "a.log"
    assert (follower.begin(5), follower.look()) == ([], [])
    path.write_text(f"{stamp()} INFO it appeared\n{stamp()} INFO unfin")
    assert texts(follower.look()) == ["it appeared"]
    with path.open("a") as file:
        file.write("ished\n")
    assert texts(follower.look()) == ["unfinished"]
    path.write_text(f"{stamp()} INFO emptied\n")
    assert texts(follower.look()) == ["emptied"]
    path.unlink()
    assert follower.look() == []
    path.write_text(f"{stamp()} INFO emptied and replaced by a longer one\n")
    assert texts(follower.look()) == ["emptied and replaced by a longer one"]


def test_several_logs_are_followed_in_time_order_also_those_that_come_later(tmp_path: Path) -> None:
    def add(name: str, second: int, text: str) -> None:
        with (tmp_path / f"{name}.log").open("a") as file:
            file.write(f"2026-01-01T00:00:{second:02d}.000Z INFO {text}\n")

    add("a", 1, "a1")
    add("b", 2, "b2")
    add("a", 3, "a3")
    follower = Follower(LogFolder(tmp_path))
    assert texts(follower.begin(2)) == ["b2", "a3"]
    add("c", 4, "c4")
    add("a", 6, "a6")
    add("b", 5, "b5")
    found = follower.look()
    assert [(line.server, line.text) for line in found] == [("c", "c4"), ("b", "b5"), ("a", "a6")]
    assert texts(LogFolder(tmp_path).lines(["a", "b", "c"], 3)) == ["c4", "b5", "a6"]


async def test_a_line_waits_a_moment_for_an_earlier_one_of_another_log(tmp_path: Path) -> None:
    (tmp_path / "a.log").touch()
    (tmp_path / "b.log").touch()
    follower = Follower(LogFolder(tmp_path))
    follower.begin(0)
    early, late = stamp(), stamp(time.time() + 0.9)
    (tmp_path / "a.log").write_text(f"{late} INFO late\n")
    assert follower.look() == []
    (tmp_path / "b.log").write_text(f"{early} INFO early\n")
    assert texts(await Grown(follower).until(2)) == ["early", "late"]


async def test_a_server_that_is_removed_takes_its_logs_along(tmp_path: Path) -> None:
    runner = runner_at(tmp_path, log_bytes=20000, log_files=3)
    await runner.start_server(faulty("flood=100"))
    await until(lambda: len(files_of(tmp_path / "logs" / "faulty.log")) == 3)
    await runner.stop_server("faulty", 0)
    await runner.remove_server(faulty())
    assert list((tmp_path / "logs").iterdir()) == []
