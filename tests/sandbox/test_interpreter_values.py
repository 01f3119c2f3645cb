"""The value of code: as JSON holds it, by its repr where JSON cannot hold it, and cut where it is too large."""

from __future__ import annotations

import sys
from typing import Any

import psutil
import pytest

from machine import within
from payload_driver import Payload, run
from toolscore.sandbox import values

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="boxes are for POSIX systems")


def test_the_last_expression_is_the_value() -> None:
    result = run("x = 20\nx * 2 + 2")
    assert (result["status"], result["value"], result["has_value"], result["repr"]) == ("ok", 42, True, "42")


@pytest.mark.parametrize("code", ["x = 1", "None", "", "# nothing", "print('a')", "def f(): pass"])
def test_code_without_a_last_value_has_none(code: str) -> None:
    result = run(code)
    assert (result["status"], result["value"], result["has_value"], result["repr"]) == (
        "ok",
        None,
        False,
        None,
    )


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("[1, 2.5, 'ä', None, True]", [1, 2.5, "ä", None, True]),
        ("(1, (2, ()))", [1, [2, []]]),
        ("{'a': {'b': [1]}, 2: 'c', None: 0}", {"a": {"b": [1]}, "2": "c", "null": 0}),
        ("{True: 1, 1.5: 2}", {"true": 1, "1.5": 2}),
        ("import collections; collections.OrderedDict(b=1, a=collections.Counter('aa'))", {"b": 1, "a": {"a": 2}}),
        ("import collections; collections.namedtuple('P', 'x y')(1, 2)", [1, 2]),
        ("import enum; enum.IntEnum('E', 'A B').B", 2),
        ("class S(str):\n  def __len__(self): return 10**9\nS('x')", "x"),
        ("a = [1]; [a, a]", [[1], [1]]),
        ("10 ** 4000", 10**4000),
    ],
)  # fmt: skip
def test_values_come_as_json_holds_them(code: str, value: object) -> None:
    result = run(code)
    assert (result["value"], result["has_value"]) == (value, True)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("float('nan')", "nan"),
        ("[1, float('-inf')]", "[1, -inf]"),
        ("{1, 2}", "{1, 2}"),
        ("b'\\xff'", "b'\\xff'"),
        ("{(1, 2): 3}", "{(1, 2): 3}"),
        ("{1: 'a', '1': 'b'}", "{1: 'a', '1': 'b'}"),
        ("a = []; a.append(a); a", "[[...]]"),
        ("a = {}; a['a'] = a; a", "{'a': {...}}"),
        ("10 ** 5000", "<int of 16610 bits>"),
        ("[10 ** 5000]", "[<int of 16610 bits>]"),
        ("'\\ud800'", "'\\ud800'"),
        ("['a', 'b\\udcff']", "['a', 'b\\udcff']"),
        ("class R:\n  def __repr__(self): return '\\ud800'\nR()", "\\ud800"),
        (
            "class R:\n  def __repr__(self): 1 / 0\n[R(), 1]",
            "[<R object: its repr raised ZeroDivisionError>, 1]",
        ),
        (
            "class R:\n  def __repr__(self): return repr(self)\nR()",
            "<R object: its repr raised RecursionError>",
        ),
        ("class R:\n  def __repr__(self): raise SystemExit\nR()", "<R object: its repr raised SystemExit>"),
        ("class R:\n  def __repr__(self): return 5\nR()", "<R object: its repr raised TypeError>"),
        ("frozenset([()])", "frozenset({()})"),
    ],
)
def test_what_json_cannot_hold_is_told_by_its_repr(code: str, text: str) -> None:
    result = run(code)
    assert (result["status"], result["value"], result["has_value"]) == ("ok", None, False)
    assert (result["repr"], result["truncated"]) == (text, [])


@pytest.mark.parametrize(
    "value",
    [
        [],
        (),
        (1,),
        {},
        set(),
        {1},
        frozenset(),
        [(1, {"a": {2}})],
        "it's",
        b"x",
        1.5,
        [[], ()],
        None,
        range(3),
    ],
)
def test_a_repr_is_the_one_python_makes(value: object) -> None:
    assert values.shown(value, 1000) == (repr(value), False)


@pytest.mark.parametrize(
    "code",
    [
        "'x' * 50_000_000",
        "b'x' * 50_000_000",
        "'ü' * 20_000_000",
        "[['x' * 50_000_000]]",
        "[0] * 10_000_000",
        "list(range(1_000_000))",
        "[1.5] * 300_000",
        "{n: None for n in range(1_000_000)}",
        "[[] for _ in range(400_000)]",
        "x = []\nfor _ in range(100_000): x = [x]\nx",
        "class R:\n  def __repr__(self): return 'x' * 50_000_000\nR()",
    ],
)
def test_a_huge_value_is_cut_in_less_than_a_second(code: str) -> None:
    *first, last = code.split("\n")
    with Payload() as session:
        session.run("\n".join([*first, f"value = {last}"]), keep=True)
        process = psutil.Process(session.process.pid)

        def seconds() -> float:
            """Of processor time, as other tests may run beside this one."""
            before = sum(process.cpu_times()[:2])
            results.append(session.run("value", keep=True))
            return float(sum(process.cpu_times()[:2]) - before)

        results: list[dict[str, Any]] = []
        within(1, seconds)
    result = results[-1]
    assert result["status"] == "ok"
    assert "..." in result["repr"]
    assert len(result["repr"]) <= 50_000
    assert "repr" in result["truncated"]
    assert not result["has_value"]


@pytest.mark.parametrize("limit", [0, 4096, 20_000])
@pytest.mark.parametrize(
    "code", ["['ü' * 400] * 40", "'\\U0001f600' * 900", "raise ValueError('ü' * 9000)", "'a' * 3000"]
)
def test_a_result_keeps_to_its_limit(code: str, limit: int) -> None:
    result = run(code, limit=limit)  # the driver looks at the size
    assert result["error"] or result["repr"]


def test_a_value_that_just_fits_is_whole() -> None:
    result = run("list(range(10_000))", limit=100_000)
    assert result["value"] == list(range(10_000))
    assert result["truncated"] == ["repr"]
