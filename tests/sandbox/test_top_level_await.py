"""`await` outside of functions: all of the code runs in one event loop then, and in none otherwise."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from payload_driver import Payload, run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="boxes are for POSIX systems")


@pytest.fixture
def session() -> Iterator[Payload]:
    with Payload() as payload:
        yield payload


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("import asyncio; t = asyncio.create_task(asyncio.sleep(0, 3))\nawait t", 3),
        ("import asyncio\nt = asyncio.create_task(asyncio.sleep(0, 3))\n[await t, 1]", [3, 1]),
        ("import asyncio\nloop = asyncio.get_running_loop()\nawait loop.run_in_executor(None, len, 'ab')", 2),
        (
            "import asyncio\nawait asyncio.sleep(0)\nt = asyncio.create_task(asyncio.sleep(0, 3))\nt.done()",
            False,
        ),
        (
            "import asyncio\nawait asyncio.sleep(0)\nloop = asyncio.get_running_loop()\n"
            "loop is asyncio.get_running_loop()",
            True,
        ),
        ("async def g():\n    yield 1\n[y async for y in g()]", [1]),
    ],
)
def test_code_that_awaits_anywhere_runs_in_a_loop_throughout(code: str, value: object) -> None:
    result = run(code)
    assert (result["error"], result["value"]) == (None, value)


def test_what_is_printed_of_an_awaited_task_is_there() -> None:
    result = run("import asyncio\nt = asyncio.create_task(asyncio.sleep(0, 3))\nprint(await t)")
    assert (result["error"], result["stdout"], result["stderr"]) == (None, "3\n", "")


def test_all_of_it_is_one_task(session: Payload) -> None:
    code = "import asyncio\na = asyncio.current_task()\nawait asyncio.sleep(0)\n(await asyncio.sleep(0), a)[1] is "
    assert session.run(f"{code}asyncio.current_task()", keep=True)["value"] is True


def test_code_without_an_await_has_no_loop_and_can_run_its_own(session: Payload) -> None:
    assert session.run("import asyncio\nawait asyncio.sleep(0, 1)", keep=True)["value"] == 1
    assert session.run("asyncio.run(asyncio.sleep(0, 2))", keep=True)["value"] == 2
    error = session.run("asyncio.get_running_loop()", keep=True)["error"]
    assert (error["type"], error["message"]) == ("RuntimeError", "no running event loop")


def test_tasks_go_on_with_the_next_code_of_a_session_that_awaits(session: Payload) -> None:
    code = "import asyncio\ngate = asyncio.Event()\nasync def f():\n    await gate.wait()\n    return 4\n"
    session.run(
        f"{code}t = asyncio.create_task(f())\nloop = asyncio.get_running_loop()\nawait asyncio.sleep(0)",
        keep=True,
    )
    assert session.run("t.done()", keep=True)["value"] is False
    assert session.run("gate.set()\n[await t, loop is asyncio.get_running_loop()]", keep=True)["value"] == [
        4,
        True,
    ]


def test_a_loop_that_the_code_closed_is_replaced(session: Payload) -> None:
    session.run("import asyncio\nloop = asyncio.get_running_loop()\nawait asyncio.sleep(0)", keep=True)
    assert session.run("loop.close()", keep=True)["status"] == "ok"
    assert session.run("await asyncio.sleep(0, 5)", keep=True)["value"] == 5


def test_an_error_before_the_last_expression_is_told_with_its_line(session: Payload) -> None:
    failed = session.run("import asyncio\n\ndef f():\n    1 / 0\n\nf()\nawait asyncio.sleep(0)", keep=True)
    lines = failed["error"]["traceback"].splitlines()
    assert [line for line in lines if set(line.strip()) - set("^~")] == [
        "Traceback (most recent call last):",
        '  File "<code>", line 6, in <module>',
        "    f()",
        '  File "<code>", line 4, in f',
        "    1 / 0",
        "ZeroDivisionError: division by zero",
    ]


def test_variables_of_context_hold_with_and_without_a_loop(session: Payload) -> None:
    session.run(
        "import asyncio, contextvars\nv = contextvars.ContextVar('v')\nv.set(1)\nawait asyncio.sleep(0)",
        keep=True,
    )
    assert session.run("v.set(v.get() + 1)\nv.get()", keep=True)["value"] == 2
    assert session.run("await asyncio.sleep(0, v.get())", keep=True)["value"] == 2


def test_the_loop_ends_with_its_tasks_when_the_program_does() -> None:
    code = """
import asyncio
async def f():
    try:
        await asyncio.sleep(100)
    finally:
        print("ended")
t = asyncio.create_task(f())
await asyncio.sleep(0)
"""
    result = run(code)
    assert (result["status"], result["stdout"], result["stderr"]) == ("ok", "ended\n", "")


@pytest.mark.parametrize("code", ["f()", "[f(), f()]", "await f()\nf()"])
def test_a_coroutine_as_value_is_no_warning_about_our_files(session: Payload, code: str) -> None:
    result = session.run(f"async def f():\n    return 1\n{code}", keep=True)
    assert (result["status"], result["has_value"]) == ("ok", False)
    assert "<coroutine object f at " in result["repr"]
    assert session.stderr == b""


def test_a_coroutine_that_a_session_keeps_can_be_awaited_later(session: Payload) -> None:
    session.run("async def f():\n    return 1\nc = f()\nc", keep=True)
    assert session.run("await c", keep=True)["value"] == 1


def test_a_coroutine_that_the_code_itself_forgets_is_warned_of_with_its_line(session: Payload) -> None:
    session.run("async def f():\n    return 1\nf()\n5", keep=True)
    assert session.stderr.startswith(b"<code>:3: RuntimeWarning: coroutine 'f' was never awaited")
