"""The interpreter in a bare `python -I -S`: values, errors, exits, output, sessions. No layer is around it here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from payload_driver import SOURCES, Payload, run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="boxes are for POSIX systems")


@pytest.fixture
def session() -> Iterator[Payload]:
    with Payload() as payload:
        yield payload


def traceback(result: dict[str, Any]) -> list[str]:
    """The traceback's lines without carets, which differ from version to version."""
    lines = result["error"]["traceback"].splitlines()
    return [line for line in lines if set(line.strip()) - set("^~")]


def test_an_exception_is_told_with_the_codes_own_lines() -> None:
    result = run("import json\n\ndef broken(n):\n    return 1 / n\n\nbroken(0)\n")
    assert result["status"] == "error"
    assert (result["error"]["type"], result["error"]["message"]) == ("ZeroDivisionError", "division by zero")
    assert traceback(result) == [
        "Traceback (most recent call last):",
        '  File "<code>", line 6, in <module>',
        "    broken(0)",
        '  File "<code>", line 4, in broken',
        "    return 1 / n",
        "ZeroDivisionError: division by zero",
    ]


def test_a_session_keeps_names_and_the_lines_of_earlier_code(session: Payload) -> None:
    assert session.run("def f(n):\n    return 1 / n\nimport math", keep=True)["status"] == "ok"
    result = session.run("\n\nf(0) + math.pi", keep=True)
    assert traceback(result)[1:5] == [
        '  File "<code 2>", line 3, in <module>',
        "    f(0) + math.pi",
        '  File "<code>", line 2, in f',
        "    return 1 / n",
    ]
    assert (
        session.run("import inspect; inspect.getsource(f)", keep=True)["value"]
        == "def f(n):\n    return 1 / n\n"
    )


def test_a_cause_is_told_too() -> None:
    lines = traceback(run("try:\n    {}['a']\nexcept KeyError as e:\n    raise ValueError('b') from e"))
    assert "KeyError: 'a'" in lines
    assert "The above exception was the direct cause of the following exception:" in lines
    assert lines[-1] == "ValueError: b"


def test_an_exception_group_is_told_with_its_parts() -> None:
    result = run("raise ExceptionGroup('two', [ValueError(1), TypeError(2)])")
    assert (result["error"]["type"], result["error"]["message"]) == (
        "ExceptionGroup",
        "two (2 sub-exceptions)",
    )
    assert "    | TypeError: 2" in traceback(result)


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("raise KeyboardInterrupt", "KeyboardInterrupt", ""),
        ("raise GeneratorExit", "GeneratorExit", ""),
        ("bytearray(1 << 62)", "MemoryError", ""),
        ("def f(): f()\nf()", "RecursionError", "maximum recursion depth exceeded"),
        ("class E(Exception):\n  def __str__(self): 1 / 0\nraise E", "E", "<its text could not be made>"),
        ("class E(Exception):\n  def __str__(self): return '\\ud800'\nraise E", "E", "\\ud800"),
        ("import json\njson.loads('{')", "json.decoder.JSONDecodeError", "Expecting property name"),
        ("import sys\nsys.setrecursionlimit(50)\n1 / 0", "ZeroDivisionError", "division by zero"),
    ],
)
def test_every_kind_of_exception_has_a_clean_result(code: str, kind: str, message: str) -> None:
    error = run(code)["error"]
    assert error["type"] == kind
    assert error["message"].startswith(message)
    assert error["traceback"].startswith("Traceback (most recent call last):\n")
    assert "interpreter.py" not in error["traceback"]


def test_a_recursion_without_a_limit_is_told_shortly() -> None:
    result = run("import sys\nsys.setrecursionlimit(50_000)\ndef f(): f()\nf()")
    assert result["error"]["type"] == "RecursionError"
    assert result["error"]["traceback"].startswith("(the last 100 of ")
    assert len(traceback(result)) < 20


@pytest.mark.parametrize(
    ("code", "message", "line", "shown"),
    [
        ("x = 1\ndef f(:\n    pass", "invalid syntax", 2, "def f(:"),
        ("x = 1\nreturn x", "'return' outside function", 2, "return x"),
        (
            "def f():\n    x = 1\n    global x",
            "name 'x' is assigned to before global declaration",
            3,
            "global x",
        ),
        ("a\n'b\0c'", "source code cannot contain null characters", 2, "'b\N{SYMBOL FOR NULL}c'"),
        ("a\n'\ud800'", "source code cannot contain a lone surrogate", 2, "'?'"),
    ],
)
def test_a_syntax_error_shows_its_place(code: str, message: str, line: int, shown: str) -> None:
    result = run(code)
    assert (result["status"], result["error"]["type"]) == ("error", "SyntaxError")
    assert result["error"]["message"] == message
    lines = result["error"]["traceback"].splitlines()
    assert lines[:2] == [f'  File "<code>", line {line}', f"    {shown}"]
    assert "^" in lines[2]


def test_code_that_is_nested_too_deep_to_compile_has_a_clean_result(session: Payload) -> None:
    assert session.run("(" * 150 + ")" * 150, keep=True)["value"] == []
    result = session.run("-" * 50_000 + "1", keep=True)
    assert result["error"]["type"] in ("RecursionError", "MemoryError")
    assert session.run("1", keep=True)["value"] == 1


@pytest.mark.parametrize(
    ("code", "exit_code", "told"),
    [
        ("exit(7)", 7, ""),
        ("quit()", 0, ""),
        ("import sys; sys.exit(True)", 1, ""),
        ("raise SystemExit(-1)", 255, ""),
        ("raise SystemExit('no more')", 1, "no more\n"),
        ("raise SystemExit([1])", 1, "[1]\n"),
        ("class C:\n  def __str__(self): 1 / 0\nraise SystemExit(C())", 1, ""),
    ],
)
def test_code_that_exits_is_told_with_its_exit_code(code: str, exit_code: int, told: str) -> None:
    result = run(code)
    assert (result["status"], result["exit_code"], result["error"]) == ("exited", exit_code, None)
    assert result["stderr"] == told


def test_await_may_stand_outside_of_functions(session: Payload) -> None:
    code = "import asyncio\nlock = asyncio.Lock()\nasync with lock:\n    x = await asyncio.sleep(0, 5)\n"
    code += "await asyncio.sleep(0, x + 1)"
    assert session.run(code, keep=True)["value"] == 6
    assert session.run("[y async for y in (i async for i in g())]", keep=True)["error"]["type"] == "NameError"
    assert session.run("await lock.acquire()", keep=True)["value"] is True
    failed = session.run("async def f():\n    raise LookupError('x')\nawait f()", keep=True)
    assert traceback(failed)[1:4] == [
        '  File "<code 4>", line 3, in <module>',
        "    await f()",
        '  File "<code 4>", line 2, in f',
    ]
    assert session.run("await asyncio.sleep(0, exit(3))", keep=True)["exit_code"] == 3
    assert session.run("asyncio.run(asyncio.sleep(0, 1))")["value"] == 1
    assert session.stderr == b""


def test_future_imports_hold_for_the_code_and_none_of_ours_does(session: Payload) -> None:
    assert session.run("def f(a: 1 + 1): pass\nf.__annotations__['a']", keep=True)["value"] == 2
    session.run("from __future__ import annotations", keep=True)
    assert session.run("def f(a: 1 + 1): pass\nf.__annotations__['a']", keep=True)["value"] == "1 + 1"


def test_the_main_module_is_a_real_one(session: Payload) -> None:
    session.run("import dataclasses, pickle\n@dataclasses.dataclass\nclass P:\n    x: int", keep=True)
    assert session.run("pickle.loads(pickle.dumps(P(3))).x", keep=True)["value"] == 3
    assert (
        session.run("import __main__; __main__.P is P and __name__ == '__main__'", keep=True)["value"] is True
    )
    names = session.run("sorted(globals())", keep=True)["value"]
    assert [name for name in names if not name.startswith("__")] == ["P", "dataclasses", "pickle"]


def test_nothing_of_ours_can_be_imported() -> None:
    result = run(
        "import sys\n[n for n in sys.modules if n.startswith(('toolscore', 'sandbox'))], sys.path, sys.argv"
    )
    modules, paths, arguments = result["value"]
    assert modules == []
    assert str(SOURCES) not in paths
    assert arguments == [""]
    assert run("import toolscore")["error"]["type"] == "ModuleNotFoundError"


def test_what_site_adds_is_there() -> None:
    assert run("help(len)")["stdout"].startswith("Help on built-in function len in module builtins:")
    result = run("[repr(x)[:9] for x in (exit, quit, copyright, credits, license, help)]")
    assert result["value"] == ["Use exit(", "Use quit(", "Copyright", "See https", "See https", "Type help"]


def test_input_reads_standard_input() -> None:
    result = run("a = input('name? ')\nimport sys\n[a, sys.stdin.read()]", stdin="Bo\nb\nä".encode())
    assert result["value"] == ["Bo", "b\nä"]
    assert result["stdout"] == "name? "
    assert run("input()")["error"]["type"] == "EOFError"


def test_output_is_complete_and_never_an_encoding_error() -> None:
    result = run(
        "import sys\nprint('a', end='', flush=True)\nsys.stdout.buffer.write(b'\\xc3\\xa4')\n"
        "print('\\ud800', file=sys.stderr)\nNone"
    )
    assert (result["status"], result["stdout"], result["stderr"]) == ("ok", "aä", "\\ud800\n")


@pytest.mark.parametrize(
    "code",
    [
        "import sys; sys.stdout.close(); sys.stderr = None",
        "import sys; sys.stdout = sys.stderr = 5",
        "import sys, io; sys.stdout = io.StringIO()",
        "import sys, io; sys.stdout = io.TextIOWrapper(sys.stdout.detach(), 'latin-1')",
        "import sys; del sys.stdout, sys.__stderr__, sys.__stdout__",
    ],
)
def test_code_that_spoils_its_streams_gets_new_ones_in_the_next_run(session: Payload, code: str) -> None:
    assert session.run(code, keep=True)["status"] == "ok"
    assert session.run("print('ä'); import sys; print('e', file=sys.stderr)", keep=True)["status"] == "ok"
    assert session.stdout == "ä\n".encode()
    assert session.stderr == b"e\n"


def test_lines_are_written_as_they_end(session: Payload) -> None:
    session.tell({"type": "job", "id": 1, "keep": True, "tools": False, "result_limit": 5000,
                  "code": "print('now')\nimport time\nwhile True: time.sleep(1)"})  # fmt: skip
    deadline = time.monotonic() + 20
    while session.stdout != b"now\n":
        assert time.monotonic() < deadline
        time.sleep(0.01)


ENDING = """
import atexit, threading
go = threading.Event()
atexit.register(print, 'handler')
threading.Thread(target=lambda: (go.wait(), print('thread'))).start()
print('code')
threading.Timer(0.05, go.set).start()
"""


def test_code_that_leaves_threads_and_handlers_is_finished_as_a_program() -> None:
    result = run(ENDING)
    assert (result["status"], result["stdout"]) == ("ok", "code\nthread\nhandler\n")
    assert run("import atexit\natexit.register(lambda: 1 / 0)")["status"] == "ok"


def test_a_session_does_not_wait_for_threads(session: Payload) -> None:
    assert (
        session.run(ENDING.replace("threading.Timer(0.05, go.set).start()", ""), keep=True)["status"] == "ok"
    )
    assert session.stdout == b"code\n"
    assert session.run("go.set()")["status"] == "ok"
    assert session.stdout == b"code\nthread\nhandler\n"


def test_a_child_that_comes_to_the_end_of_the_code_does_not_answer() -> None:
    result = run("import os\nif os.fork() == 0:\n    exit(9)\nos.waitstatus_to_exitcode(os.wait()[1])")
    assert result["value"] == 9
    result = run(
        "import os\npid = os.fork()\nif pid == 0:\n    1 / 0\nos.waitstatus_to_exitcode(os.wait()[1])"
    )
    assert result["value"] == 1
    assert result["stderr"].endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("import json; json.dumps = json.loads = None", "ok"),
        ("import linecache, traceback; linecache.getline = linecache.checkcache = None; 1 / 0", "error"),
        ("import sys; sys.settrace(lambda *_: 1 / 0)", "ok"),
        ("import sys; sys.modules.clear()", "ok"),
        ("import threading, atexit; threading._shutdown = None; atexit.register(exit, 3)", "ok"),
    ],
)
def test_code_that_breaks_what_we_use_still_gets_an_answer(code: str, status: str) -> None:
    assert run(code)["status"] == status


def test_importing_it_takes_little_memory() -> None:
    if not os.path.exists("/proc/self/smaps_rollup"):
        pytest.skip("only Linux tells which pages are a process's own")
    program = f"""
import json, os, sys, traceback
sys.path.insert(0, {str(SOURCES)!r})
def size():
    with open("/proc/self/smaps_rollup") as file:
        # Not the proportional size: that of libpython grows when another Python ends meanwhile.
        return next(int(line.split()[1]) for line in file if line.startswith("Private_Dirty:"))
before = size()
from toolscore.sandbox import interpreter
interpreter.Interpreter(print, print).prepare()
heavy = [m for m in ("inspect", "typing", "asyncio", "ast", "threading") if m in sys.modules]
print(json.dumps([size() - before, heavy]))
"""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, check=True)
    grown, heavy = json.loads(done.stdout)
    assert grown < 1500
    assert heavy == []
