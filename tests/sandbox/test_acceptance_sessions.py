"""Acceptance: what code leaves behind between the executions of a session, and many calls of tools at once."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from boxes import USERS, Boxes
from toolscore.sandbox import watch

pytestmark = pytest.mark.parametrize("user", USERS, scope="module")


def test_a_thread_whose_call_outlived_its_execution_is_told_so_in_the_next_one(boxes: Boxes) -> None:
    code = """
import threading, toolscore_tools
said = []
def ask():
    try:
        toolscore_tools.call_tool("slow__wait", {"opens": "asked"})
    except toolscore_tools.ToolError as error:
        said.append(str(error))
thread = threading.Thread(target=ask, daemon=True)
thread.start()
"""
    with boxes.session() as session:
        first = boxes.run(
            f"{code}toolscore_tools.call_tool('gate__pass', {{'gate': 'asked'}})\n'left'",
            session=session,
            tools=True,
        )
        assert first.value == "left"
        second = boxes.run("thread.join(15)\nsaid", session=session, tools=True)
        assert second.value == ["this call ended with the execution it was made in"]


def test_an_execution_without_tools_answers_a_thread_that_asks_for_one_with_no(boxes: Boxes) -> None:
    code = "import json, os\nos.write(3, json.dumps({'type': 'call', 'call': 7, 'method': 'servers'}).encode() + b'\\n')\n"
    read = "import os, json\nos.set_blocking(4, True)\njson.loads(os.read(4, 1 << 16))['error']['message']"
    with boxes.session() as session:
        done = boxes.run(code + read, session=session)
        assert done.value == "this execution was given no tools"


def test_large_answers_of_many_tools_at_once_arrive_whole(boxes: Boxes) -> None:
    code = """
from concurrent.futures import ThreadPoolExecutor
from toolscore_tools import call_tool
def ask(number):
    letter = "abcdefghijklmnopqrstuvwxyz"[number % 26]
    answer = call_tool("echo__large", {"letter": letter, "size": 1_500_000})
    return str(answer).count(letter) >= 1_500_000
with ThreadPoolExecutor(8) as threads:
    found = list(threads.map(ask, range(48)))
all(found), len(found)
"""
    done = boxes.run(code, tools=True)
    assert done.value == [True, 48], (done.status, done.error, done.said, done.message)


def test_code_that_never_reads_the_answers_of_its_tools_is_ended(boxes: Boxes) -> None:
    code = """
import os
call = b'{"type": "call", "call": %d, "method":"call","params":{"name":"echo__large","arguments":{"letter":"x","size":1000000}}}\\n'
number = 0
while True:
    number += 1
    os.write(3, call % number)
"""
    done = boxes.run(code, tools=True, wall=30)
    assert (done.status, done.limit) == ("output_limit", "unread")
    assert "without waiting for their answers" in str(done.message)
    assert boxes.memory() < 400 << 20


def test_jobs_of_sessions_take_the_places_of_all_others(boxes: Boxes) -> None:
    most = 6
    names = [f"s{number}" for number in range(most + 2)]
    for name in names:
        boxes.ask("open", session=name).future.result(60)
    try:
        jobs = [
            boxes.start("import time\nbegan = time.monotonic()\ntime.sleep(0.3)\nbegan", session=name)
            for name in names
        ]
        began = sorted(job.done().value for job in jobs)
        assert began[most] - began[0] >= 0.3
    finally:
        for name in names:
            boxes.ask("close", session=name).future.result(60)


def test_the_code_is_what_the_kernel_ends_first_when_the_machine_has_no_memory(boxes: Boxes) -> None:
    with boxes.session() as session:
        boxes.value("1", session=session)
        scores = set()
        for pid in boxes.processes():
            with suppress(OSError):  # a box beside it may just have ended
                if len(watch.tree(pid)) == 1:
                    scores.add(Path(f"/proc/{pid}/oom_score_adj").read_text().strip())
        assert "1000" in scores
        assert Path(f"/proc/{boxes.pid}/oom_score_adj").read_text().strip() != "1000"
