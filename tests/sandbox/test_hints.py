"""What a caller is told of an error that the sandbox is the reason of, in boxes with all layers; and of no other."""

from __future__ import annotations

from typing import Any

import pytest

from boxes import USERS, Boxes
from plain_boxes import ISOLATION
from toolscore.sandbox import hints
from toolscore.sandbox.execution import CodeError, Execution, Status
from toolscore.sandbox.results import result

MISSING = "import requests"


def told(execution: Execution, **options: Any) -> list[str]:
    made = result(execution, (), embed_limit=0, embed_total=0, **options)
    notes: list[str] = made["structuredContent"]["notes"]
    assert all(f"note: {note}" in made["content"][0]["text"] for note in notes)
    return notes


def failed(kind: str, message: str, traceback: str = "") -> Execution:
    return Execution(Status.ERROR, ISOLATION, error=CodeError(kind, message, traceback))


def of_boxes(boxes: Boxes, code: str) -> Execution:
    """What came of code in a real box."""
    done = boxes.start(code).future.result(60)
    execution = Execution(Status(done["status"]), ISOLATION, repr=done["repr"])
    if done["error"]:
        execution.error = CodeError(*done["error"])
    return execution


@pytest.mark.parametrize("user", USERS, scope="module")
@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("import socket; socket.socket()", hints.NETWORK),
        ("import socket; socket.create_connection(('192.0.2.1', 80))", hints.NETWORK),
        ("import socket; socket.getaddrinfo('example.com', 80)", hints.NETWORK),
        ("import urllib.request; urllib.request.urlopen('http://example.com')", hints.NETWORK),
        ("import urllib.request; urllib.request.urlopen('http://192.0.2.1')", hints.NETWORK),
        ("import http.client; http.client.HTTPConnection('192.0.2.1').request('GET', '/')", hints.NETWORK),
        ("import asyncio\nawait asyncio.open_connection('example.com', 80)", hints.NETWORK),
        ("bytearray(1 << 40)", hints.MEMORY),
        ("f = open('a', 'wb')\nwhile True: f.write(b'x' * (1 << 20))", hints.DISK),
        ("for i in range(100_000): open(f'/tmp/{i}', 'w').close()", hints.DISK),
        ("open('/etc/x', 'w')", hints.READ_ONLY),
        ("f = [open('/dev/null') for _ in range(1000)]", hints.OPEN_FILES),
        (
            "import threading, time\n"
            "while True: threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
            hints.PROCESSES,
        ),
        ("import subprocess\np = [subprocess.Popen(['sleep', '9']) for _ in range(99)]", hints.PROCESSES),
        ("import os, time\nwhile True:\n  if os.fork() == 0: time.sleep(9); os._exit(0)", hints.PROCESSES),
        ("import multiprocessing as m; m.Manager()", hints.FORK),
        (
            "import multiprocessing as m; m.get_context('forkserver').Process(target=print).start()",
            hints.FORK,
        ),
        ("import asyncio\nasyncio.create_task(asyncio.sleep(0))", hints.NO_LOOP),
        ("import asyncio\nc = asyncio.sleep(0)\nawait c\nasyncio.run(c)", hints.LOOP),
        ("async def f(): return 1\nf()", hints.COROUTINE),
        ("async def f(): return 1\n[f(), f()]", hints.COROUTINE),
        (
            "import subprocess, sys; subprocess.run([sys.executable, '-m', 'pip', 'install', 'x'], check=True)",
            "code cannot install packages: there are the operator's only, which sandbox_status lists",
        ),
        (MISSING, "there is no package requests: there are the operator's only, which sandbox_status lists"),
    ],
)
def test_an_error_that_the_sandbox_is_the_reason_of_is_explained(boxes: Boxes, code: str, hint: str) -> None:
    assert told(of_boxes(boxes, code), allow_packages=()) == [hint]


@pytest.mark.parametrize("user", USERS[:1], scope="module")
@pytest.mark.parametrize(
    "code",
    [
        "1 / 0",
        "5",
        "exit(3)",
        "import json.nope",
        "from json import nope",
        "import os; os.kill(1, 9)",
        "open('/workspace/nothing')",
        "raise EOFError",
        "raise RuntimeError('mine')",
        "raise OSError('socket')",
        "import os; r, w = os.pipe(); os.set_blocking(r, False); os.read(r, 1)",
        "import subprocess; subprocess.run(['false'], check=True)",
        "'<coroutine object f>'",
        "print('No module named \"x\"')",
    ],
)
def test_other_errors_and_results_have_no_hint(boxes: Boxes, code: str) -> None:
    assert told(of_boxes(boxes, code), allow_packages=("*",)) == []


@pytest.mark.parametrize(
    ("allowed", "text"),
    [
        (None, "sandbox_status lists those there are, and those that `packages` can ask for"),
        ((), "there are the operator's only, which sandbox_status lists"),
        (("*",), "the argument `packages` (in a session, that of session_start) asks for more"),
        (
            ("numpy", "requests"),
            "the argument `packages` (in a session, that of session_start) can ask for numpy, requests",
        ),
    ],
)
def test_a_missing_package_is_told_with_the_way_to_get_it(allowed: tuple[str, ...] | None, text: str) -> None:
    missing = failed("ModuleNotFoundError", "No module named 'requests'")
    assert told(missing, allow_packages=allowed) == [f"there is no package requests: {text}"]


def test_many_packages_are_not_all_named() -> None:
    missing = failed("ModuleNotFoundError", "No module named 'x'")
    (note,) = told(missing, allow_packages=[f"package-{n}" for n in range(500)])
    assert note.endswith("package-11, …")


@pytest.mark.parametrize(
    ("kind", "message", "hint"),
    [
        (
            "numpy._core._exceptions._ArrayMemoryError",
            "Unable to allocate 8.00 TiB for an array",
            hints.MEMORY,
        ),
        ("httpx.ConnectError", "[Errno -3] Temporary failure in name resolution", hints.NETWORK),
        (
            "requests.exceptions.ConnectionError",
            "HTTPSConnectionPool(host='x', port=443): Max retries exceeded (Caused by NameResolutionError("
            "\"HTTPSConnection(host='x', port=443): Failed to resolve 'x' ([Errno -2] Name or service not known)\"))",
            hints.NETWORK,
        ),
    ],
)
def test_errors_of_libraries_are_known_by_what_they_wrap(kind: str, message: str, hint: str) -> None:
    assert told(failed(kind, message)) == [hint]


def test_the_hint_comes_after_the_other_remarks() -> None:
    execution = failed("MemoryError", "")
    execution.message = "first"
    assert told(execution, notes=["second"]) == ["first", "second", hints.MEMORY]
