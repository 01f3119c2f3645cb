"""What every box gets from the process it is forked from: little, and nothing of the host."""

from __future__ import annotations

import pytest

from boxes import USERS, Boxes

pytestmark = pytest.mark.parametrize("user", USERS, scope="module")

HEAVY = (
    "asyncio",
    "landlockpy",
    "pathlib",
    "seccompy",
    "socket",
    "subprocess",
    "threading",
)
"""Loaded, they would be in the memory of every box that waits; `threading` has each fork copy a hundred pages."""


def test_a_box_holds_no_module_that_only_its_making_needs(boxes: Boxes) -> None:
    assert boxes.value(f"import sys\n[name for name in {HEAVY!r} if name in sys.modules]") == []


def test_the_modules_that_were_left_out_can_be_imported(boxes: Boxes) -> None:
    names = [name for name in HEAVY if name not in ("landlockpy", "seccompy")]
    code = f"import {', '.join(names)}\nthreading.current_thread() is threading.main_thread()"
    assert boxes.value(code) is True


def test_no_module_of_ours_can_be_imported(boxes: Boxes) -> None:
    for name in ("toolscore", "toolscore.sandbox.init", "landlockpy", "seccompy"):
        assert boxes.run(f"import {name}").error == "ModuleNotFoundError"


def test_the_command_line_of_the_zygote_tells_nothing_of_the_host(boxes: Boxes) -> None:
    told = boxes.value("import sys\n' '.join(sys.orig_argv)")
    assert str(boxes.state) not in told
    assert "boxes-" not in told


def test_the_streams_of_a_box_are_those_of_its_own_process(boxes: Boxes) -> None:
    code = (
        "import sys\nprint('out'); print('err', file=sys.stderr)\n[sys.stdin.read(), sys.stdout.seekable()]"
    )
    done = boxes.run(code, stdin=b"in")
    assert (done.value, done.stdout, done.stderr) == (["in", False], b"out\n", b"err\n")
