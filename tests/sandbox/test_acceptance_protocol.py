"""Acceptance 55 to 60: what code says of itself is only its value, whatever it does to its end of the line."""

from __future__ import annotations

import json
import time

import pytest

from boxes import CALLS, USERS, Boxes, until
from machine import within

pytestmark = pytest.mark.parametrize("user", USERS, scope="module")


def test_55_only_the_standard_descriptors_and_the_result_are_open(boxes: Boxes) -> None:
    code = f"""{CALLS}
import stat
kinds = {{}}
for one in range(2048):
    if error(os.fstat, one) is None:
        kinds[one] = stat.S_ISFIFO(os.fstat(one).st_mode)
sorted(kinds.items())
"""
    assert boxes.value(code) == [[number, True] for number in range(4)]


def test_56_code_that_closes_everything_has_no_result(boxes: Boxes) -> None:
    done = boxes.run("import os; os.closerange(0, 100)\n1 + 1", wall=60)
    assert (done.status, done.value) == ("no_result", None)
    assert done.message
    assert done.took < 30  # it was noticed, not waited for


def test_56b_code_that_closes_everything_and_stays_is_timed_out(boxes: Boxes) -> None:
    done = boxes.run("import os, time; os.closerange(0, 100)\ntime.sleep(20)", wall=0.5)
    assert (done.status, done.limit) == ("timeout", "wall")


def test_57_a_forged_result_changes_the_value_and_nothing_else(boxes: Boxes) -> None:
    forged = {
        "type": "result",
        "id": 1,
        "status": "ok",
        "value": "forged",
        "has_value": True,
        "repr": "forged",
        "usage": {"wall": 0, "cpu": 0},
        "limit": None,
        "isolation": {"tier": "none"},
        "alive": True,
        "message": "forged",
        "stdout": "forged",
        "files": [{"path": "../../forged", "data": "eA=="}],
        "truncated": ["files", "stdout", 7, None, ["x"]],
        "images": [{"mime": 3}, None, 7, {"mime": "image/png", "data": "!!"}],
        "skipped": ["forged"],
    }
    done = boxes.run(
        f"import os, time\nos.write(3, {json.dumps(forged).encode()!r} + b'\\n')\ntime.sleep(0.2)\n'true one'"
    )
    assert (done.status, done.value) == ("ok", "forged")
    assert (done.limit, done.message, done.alive, done.isolation) == (None, None, False, "full")
    assert (done.stdout, done.files, done.skipped, done.truncated) == (b"", {}, [], [])
    assert done.cpu > 0
    assert done.wall > 0


@pytest.mark.parametrize(
    "said",
    [
        '{"type": "result", "id": 1, "status": ["ok"], "value": 1}',
        '{"type": "result", "id": 1, "status": {"a": 1}, "error": 5, "images": 5, "truncated": {"a": 1}, "exit_code": "x"}',
        '{"type": "result", "id": 1, "images": {"a": 1}, "truncated": [{}], "repr": 7, "exit_code": true}',
        '{"type": "result", "id": 1, "images": 5}',
        '{"type": "result", "id": 1, "exit_code": 1e999, "value": NaN}',
        '{"type": "result", "id": 1, "truncated": 5, "error": [1]}',
        '{"type": "result", "id": 1, "value": ' + "[" * 900 + "]" * 900 + "}",
        '{"type": "result", "id": 1, "value": "\\ud800"}',
        '{"type": "result", "id": 1, "value": ' + "9" * 4000 + "}",
        '{"type": "failed", "reason": "forged"}',
        '{"type": "ready"}',
        '{"type": "call", "call": 1, "method": "call", "params": {"name": "echo__say"}}',
        "null",
        "[" * 100_000,
    ],
    ids=str.__len__,
)
def test_57b_whatever_a_forged_result_holds_the_answer_is_a_valid_one(boxes: Boxes, said: str) -> None:
    done = boxes.run(f"import os\nos.write(3, {said.encode()!r} + b'\\n')\n'true one'")
    assert done.status in ("ok", "error", "exited", "no_result")
    assert done.isolation == "full"
    assert done.files == {}


def test_57c_a_line_without_end_is_not_kept(boxes: Boxes) -> None:
    done = boxes.run("import os\nwhile True: os.write(3, b'x' * 65536)")
    assert (done.status, done.limit) == ("output_limit", "result")


def test_57d_a_million_lines_are_read_and_forgotten(boxes: Boxes) -> None:
    done = boxes.run("import os\nfor _ in range(100): os.write(3, b'{}\\n' * 10_000)\n'true one'", wall=60)
    assert (done.status, done.value) == ("ok", "true one")


def test_57e_a_forged_call_of_a_tool_that_was_not_allowed_is_nothing(boxes: Boxes) -> None:
    call = {"type": "call", "call": 1, "method": "call", "params": {"name": "echo__say", "arguments": {}}}
    done = boxes.run(f"import os\nos.write(3, {json.dumps(call).encode()!r} + b'\\n' * 2)\n1")
    assert (done.status, done.value) == ("ok", 1)


@pytest.mark.parametrize(
    "call",
    [
        '{"type": "call", "call": "x","method":"call","params":{}}',
        '{"type": "call", "call": 1,"method":["x"],"params":7}',
        '{"type": "call", "call": 1e400,"method":null}',
        '{"type":"call"}',
        '{"type": "call", "call": 1,"params":' + "[" * 960 + "]" * 960 + "}",
        '{"type": "call", "call": ' + "9" * 4500 + "}",
        '{"type": "call", "call": 1,"method":"call","params":{"name":"\\ud800","arguments":[]}}',
    ],
    ids=str.__len__,
)
def test_57f_forged_calls_of_tools_harm_nobody(boxes: Boxes, call: str) -> None:
    done = boxes.run(f"import os\nos.write(3, {call.encode()!r} + b'\\n')\n'after'", tools=True)
    assert (done.status, done.value) == ("ok", "after")


def test_58_bytes_that_are_no_text_and_lone_surrogates_make_a_valid_answer(boxes: Boxes) -> None:
    done = boxes.run(
        "import sys\nsys.stdout.buffer.write(bytes(range(256)))\nsys.stdout.flush()\n"
        "sys.stderr.buffer.write(b'\\xff\\xfe')\n['\\ud800', {'\\udfff': float('nan')}, float('inf'), b'\\xff']"
    )
    assert done.status == "ok"
    assert done.stdout == bytes(range(256))
    assert done.stderr == b"\xff\xfe"
    assert (done.value, done.repr) == (None, "['\\ud800', {'\\udfff': nan}, inf, b'\\xff']")
    printed = boxes.run("print('\\ud800')")
    assert (printed.status, printed.stdout) == ("ok", b"\\ud800\n")
    raised = boxes.run("raise ValueError('\\ud800')")
    assert (raised.error, raised.said) == ("ValueError", "\\ud800")


@pytest.mark.alone
def test_59_a_repr_of_fifty_megabytes_is_cut_in_less_than_a_second(boxes: Boxes) -> None:
    def wall() -> float:
        done = boxes.run("'x' * 50_000_000")
        assert done.status == "ok"
        assert {"value", "repr"} & set(done.truncated)
        assert 0 < len(done.repr or "") < 1 << 20
        return done.wall

    within(1, wall)


def test_59b_a_repr_that_never_ends_or_fails_is_the_codes_own_matter(boxes: Boxes) -> None:
    assert (
        boxes.run("class A:\n    def __repr__(self):\n        while True: pass\nA()", wall=0.5).status
        == "timeout"
    )
    done = boxes.run("class A:\n    def __repr__(self): raise SystemExit(3)\nA()")
    assert done.status in ("ok", "error", "exited")


def test_60_what_cannot_be_compiled_exits_or_holds_a_nul_is_told_apart(boxes: Boxes) -> None:
    syntax = boxes.run("1 +")
    assert (syntax.status, syntax.error) == ("error", "SyntaxError")
    left = boxes.run("exit(7)")
    assert (left.status, left.exit_code) == ("exited", 7)
    left = boxes.run("import os; os._exit(7)")
    assert (left.status, left.exit_code) == ("exited", 7)
    for code in ("1\0", "'\ud800'"):
        wrong = boxes.run(code)
        assert (wrong.status, wrong.error) == ("error", "SyntaxError")


def test_61a_input_nobody_reads_holds_nothing_up(boxes: Boxes) -> None:
    done = boxes.run("1 + 1", stdin=bytes(8 << 20))
    assert (done.status, done.value) == ("ok", 2)
    assert boxes.value("import sys; len(sys.stdin.buffer.read())", stdin=bytes(3 << 20)) == 3 << 20


def test_sessions_keep_state_and_leave_no_daemon_running_between_calls(boxes: Boxes) -> None:
    with boxes.session() as session:
        boxes.value("kept = 41; 1", session=session)
        assert boxes.value("kept + 1", session=session) == 42
        boxes.value(
            """
import os, threading, time
class Beat:
    last, longest = time.monotonic(), 0.0
    def tick(self):
        now = time.monotonic()
        self.longest, self.last = max(self.longest, now - self.last), now
        time.sleep(0.005)
def of_a_thread():
    while True:
        beat.tick()
def of_a_child():
    while True:
        beat.tick()
        with open("/tmp/new", "w") as file: file.write(str(beat.longest))
        os.replace("/tmp/new", "/tmp/beat")
beat = Beat()
if os.fork() == 0:
    os.setsid()
    of_a_child()
threading.Thread(target=of_a_thread, daemon=True).start()
while not os.path.exists("/tmp/beat"): time.sleep(0.001)
1
""",
            session=session,
        )
        boxes.value("beat.longest = 0.0\n1", session=session)
        paused = time.monotonic()
        until(lambda: time.monotonic() > paused + 0.6, "a while passes")
        # Of the thread and the code either may be the first that goes on.
        assert boxes.value("max(beat.longest, time.monotonic() - beat.last)", session=session) >= 0.6
        child = "while float(open('/tmp/beat').read()) < 0.6: time.sleep(0.005)\n'it stood still'"
        assert boxes.value(child, session=session) == "it stood still"


def test_a_session_that_forks_its_interpreter_still_answers_once(boxes: Boxes) -> None:
    with boxes.session() as session:
        assert boxes.run("import os\npid = os.fork()\npid and 1", session=session).status in (
            "ok",
            "no_result",
        )
        later = boxes.run("1 + 1", session=session) if boxes.look() else None
        assert later is not None
        assert later.status in ("ok", "no_result", "lost")


def test_a_session_ends_where_its_code_ends_and_says_so(boxes: Boxes) -> None:
    with boxes.session() as session:
        done = boxes.run("import os; os._exit(3)", session=session)
        assert (done.status, done.exit_code, done.alive) == ("exited", 3, False)


def test_a_session_cannot_write_its_next_result_ahead(boxes: Boxes) -> None:
    forged = json.dumps({"type": "result", "id": 2, "status": "ok", "value": "ahead"})
    with boxes.session() as session:
        boxes.run(
            f"""
import os, threading, time
def later():
    time.sleep(0.02)
    while True:
        os.write(3, {forged.encode()!r} + b"\\n")
        time.sleep(0.01)
threading.Thread(target=later, daemon=True).start()
1
""",
            session=session,
        )
        assert boxes.run("'second'", session=session).status == "ok"
