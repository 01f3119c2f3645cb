"""What a function's source says of the tool it becomes, without any of it being run."""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import datetime
import enum
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from toolscore.tools.compact import compact
from toolscore.tools.fitting import problem
from toolscore.tools.functions import reading
from toolscore.tools.functions.box_code import _bound, _out
from toolscore.tools.functions.deriving import derive
from toolscore.tools.functions.errors import FunctionError
from toolscore.tools.functions.function import LONGEST_NAME, Draft, from_file
from toolscore.tools.functions.reading import signature_of
from toolscore.tools.functions.signature import Signature
from toolscore.tools.outcome import RefusalError

HEAD = """
from __future__ import annotations
import datetime as dt
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import *
from uuid import UUID

class Color(enum.Enum):
    RED = "r"
    BLUE = "b"

class Size(enum.IntEnum):
    SMALL = enum.auto()
    LARGE = enum.auto()

@dataclass
class Point:
    \"\"\"A point.

    Attributes:
        x: Across.
    \"\"\"

    x: float
    y: float = 0
    next: "Point | None" = None

class Base(TypedDict):
    a: int

class Row(Base, total=False):
    b: Required[list[str]]
    c: bool

Rows = list[Row]
"""


class Size(enum.Enum):
    LARGE = 2


SAID = Signature("f", "", {"type": "object"}, None)


def parameter(annotation: str) -> Any:
    return derive(f"{HEAD}\ndef f(a: {annotation}): ...", "f").input_schema["properties"]["a"]


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        ("str", {"type": "string"}),
        ("int", {"type": "integer"}),
        ("float", {"type": "number"}),
        ("bool", {"type": "boolean"}),
        ("None", {"type": "null"}),
        ("Any", {}),
        ("object", {}),
        ("list", {"type": "array"}),
        ("list[int]", {"type": "array", "items": {"type": "integer"}}),
        ("List['int']", {"type": "array", "items": {"type": "integer"}}),
        ("Sequence[str]", {"type": "array", "items": {"type": "string"}}),
        ("set[int]", {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}),
        ("dict", {"type": "object"}),
        ("dict[str, int]", {"type": "object", "additionalProperties": {"type": "integer"}}),
        ("Mapping[str, Any]", {"type": "object", "additionalProperties": {}}),
        ("tuple[int, ...]", {"type": "array", "items": {"type": "integer"}}),
        (
            "tuple[int, str]",
            {
                "type": "array",
                "prefixItems": [{"type": "integer"}, {"type": "string"}],
                "minItems": 2,
                "maxItems": 2,
            },
        ),
        ("int | None", {"type": ["integer", "null"]}),
        ("Optional[str]", {"type": ["string", "null"]}),
        ("Union[int, str, None]", {"type": ["integer", "string", "null"]}),
        ("list[int] | str", {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "string"}]}),
        ("Literal['a', 'b']", {"type": "string", "enum": ["a", "b"]}),
        ("Literal[1, None]", {"enum": [1, None]}),
        ("Annotated[int, 'how many']", {"type": "integer", "description": "how many"}),
        ("Annotated[int, Field(description='how many')]", {"type": "integer", "description": "how many"}),
        ("dt.datetime", {"type": "string", "format": "date-time"}),
        ("dt.date", {"type": "string", "format": "date"}),
        ("UUID", {"type": "string", "format": "uuid"}),
        ("Color", {"$ref": "#/$defs/Color"}),
        ("'Color'", {"$ref": "#/$defs/Color"}),
        ("Rows", {"type": "array", "items": {"$ref": "#/$defs/Row"}}),
    ],
)
def test_an_annotation_becomes_its_json_schema(annotation: str, schema: Any) -> None:
    assert parameter(annotation) == schema


def test_defaults_are_told_in_few_words_also_members_of_enums_and_those_in_dataclasses() -> None:
    text = (
        "from dataclasses import dataclass, field\nfrom enum import Enum\n"
        "class Mode(Enum):\n    FAST = 'fast'\n    SLOW = 'slow'\n"
        "@dataclass\nclass Options:\n    size: int = 3\n    mode: Mode = Mode.SLOW\n"
        "    left: int = field(default=4)\n    tags: list[str] = field(default_factory=list)\n"
        "def f(options: Options, mode: Mode = Mode.FAST, n: int = 2): ..."
    )
    assert compact(derive(text, "f").input_schema) == {
        "options": {
            "size?": "integer = 3",
            "mode?": '"fast" | "slow" = "slow"',
            "left?": "integer = 4",
            "tags?": "string[]",
        },
        "mode?": '"fast" | "slow" = "fast"',
        "n?": "integer = 2",
    }


def test_classes_of_the_source_become_definitions_also_where_they_refer_to_themselves() -> None:
    text = f"{HEAD}\ndef f(p: Point, r: Row, c: Color, s: Size) -> Point: ..."
    said = derive(text, "f")
    assert said.input_schema["$defs"] == {
        "Color": {"type": "string", "enum": ["r", "b"]},
        "Size": {"type": "integer", "enum": [1, 2]},
        "Point": {
            "type": "object",
            "description": "A point.",
            "properties": {
                "x": {"type": "number", "description": "Across."},
                "y": {"type": "number", "default": 0},
                "next": {"anyOf": [{"$ref": "#/$defs/Point"}, {"type": "null"}]},
            },
            "required": ["x"],
        },
        "Base": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
        "Row": {
            "type": "object",
            "properties": {
                "a": {"type": "integer"},
                "b": {"type": "array", "items": {"type": "string"}},
                "c": {"type": "boolean"},
            },
            "required": ["a", "b"],
        },
    }
    assert said.output_schema is not None
    assert said.output_schema["properties"]["x"] == {"type": "number", "description": "Across."}
    assert "Point" in said.output_schema["$defs"]


def test_a_signature_tells_what_is_required_what_holds_otherwise_and_whether_there_may_be_more() -> None:
    text = """
import os

def f(a: str, /, b: int = 3, c: tuple[int, int] = (1, 2), *, d: float, e: str = os.sep, **rest: int):
    '''Does it.

    At length.

    Args:
        a (str): The first,
            which goes on.
        b: The second: a number.
        **rest: More.

    Returns:
        What came
        of it.
    '''
"""
    said = derive(text, "f")
    assert said.description == "Does it.\n\nAt length.\n\nReturns: What came of it."
    schema = said.input_schema
    assert schema["required"] == ["a", "d"]
    assert schema["additionalProperties"] == {"type": "integer"}
    assert schema["properties"]["a"] == {"type": "string", "description": "The first, which goes on."}
    assert schema["properties"]["b"]["default"] == 3
    assert schema["properties"]["b"]["description"] == "The second: a number."
    assert schema["properties"]["c"]["default"] == [1, 2]
    assert "default" not in schema["properties"]["e"]
    assert derive("def f(): ...", "f").input_schema == {
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("returns", "schema"),
    [
        ("", None),
        (" -> str", None),
        (" -> list[int]", None),
        (" -> Unheard", None),
        (" -> dict[str, int]", {"type": "object", "additionalProperties": {"type": "integer"}}),
    ],
)
def test_only_an_object_has_a_schema_of_the_result(returns: str, schema: Any) -> None:
    assert derive(f"def f(){returns}: ...", "f").output_schema == schema


@pytest.mark.parametrize(
    ("source", "entry"),
    [
        ("def other(): ...\ndef tool(): ...", "tool"),
        ("def _help(): ...\nclass A:\n def b(self): ...\nasync def only(): ...", "only"),
        ("def a(): ...\ndef main(): ...", "main"),
        ("if True:\n    def a(): ...\ntry:\n    import x\nexcept ImportError:\n    x = None", "a"),
    ],
)
def test_the_function_of_that_name_is_the_tool_or_the_only_public_one_or_main(
    source: str, entry: str
) -> None:
    assert derive(source, "tool").entry == entry


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("", "no function"),
        ("x = 1", "def f(...)"),
        ("def a(): ...\ndef b(): ...", "several functions (a, b)"),
        ("def f(a): ...", "line 1: parameter 'a' has no type"),
        ("\n\ndef f(*items: int): ...", "line 3: a tool's arguments have names"),
        ("def f(a: Unheard): ...", "line 1: 'Unheard' is no annotation"),
        ("def f(a: bytes): ...", "'bytes' is no annotation"),
        ("def f(a: dict[int, str]): ...", "keys are texts"),
        ("def f(a: 'list['): ...", "line 1"),
        ("class A: ...\ndef f(a: A): ...", "make it a dataclass"),
        ("def f(:\n    pass", "line 1: invalid syntax\n  def f(:\n        ^"),
        ("def f(): ...\n\treturn 1", "line 2: unexpected indent"),
        ("return 1\ndef f(): ...", "line 1: 'return' outside function"),
        ("def f(a: str):\n x = '\0'", "line 2: the source has a null character"),
        ("def f():\n x = '\ud800'", "line 2: the source has half of a surrogate pair"),
        ("A = 'A'\ndef f(a: A): ...", "is no annotation"),
        ("class A(A): ...\ndef f(a: A): ...", "cannot be an argument"),
    ],
)
async def test_what_cannot_be_a_tool_is_refused_with_the_line_and_the_reason(source: str, told: str) -> None:
    with pytest.raises(FunctionError) as refused:
        await signature_of(source, "f")
    assert told in str(refused.value)


SIZE = 250 << 10


def filled(left: str, right: str = "", middle: str = "a", head: str = "x=") -> str:
    """Nest something as deep as the longest source can have it."""
    times = (SIZE - len(head)) // (len(left) + len(right))
    return f"{head}{left * times}{middle}{right * times}\n"


HOSTILE = {
    "brackets": filled("(", ")"),
    "open brackets": filled("("),
    "dicts": filled("{1:", "}"),
    "walrus": filled("(a:=", ")"),
    "comprehensions": filled("[a for a in ", "]"),
    "targets": filled("(", ")", head="del "),
    "unary": filled("-"),
    "not": filled("not "),
    "sum": filled("1+"),
    "powers": filled("2**"),
    "comparison": filled("1<"),
    "ternary": filled("1 if 1 else "),
    "attributes": filled("", ".b"),
    "items": filled("", "[0]"),
    "calls": filled("", "()"),
    "lambdas": filled("lambda:"),
    "f-strings": filled("f'{", "}'"),
    "f-strings, which Python takes": filled('f"{', '}"')[:2] + 'f"{' * 90 + "a" + '}"' * 90 + "\n",
    "formats": "x=f'" + "{a:" * 40_000 + "}" * 40_000 + "'\n",
    "one number": filled("9"),
    "power": "x=9**9**9**9\n",
    "long text": f"x=({filled(chr(39) + 'a' + chr(39) + '*4096*', head='')})\n",
    "elif": "if 1: pass\n" + "elif 1: pass\n" * 18_000,
    "blocks": "".join(" " * n + "if 1:\n" for n in range(99)) + " " * 99 + "pass\n",
    "import": filled("a.", head="import "),
    "annotation": filled("list[", "]: ...", head="def f(a: "),
    "union": filled("int|", middle="int): ...", head="def f(a: "),
    "annotation of attributes": f"def f(a: a{'.b' * 120_000}): ...\n",
    "nested strings": "def f(a: " + repr(repr(repr("int"))) + "): ...\n",
    "annotation in a string": f"def f(a: '{'(' * 100_000}'): ...\n",
    "default": filled("-", middle="1): ...", head="def f(a: int = "),
    "parameters": "def f(" + ",".join(f"a{n}: int" for n in range(5_000)) + "): ...\n",
    "megabyte": "# " + "a" * (1 << 20) + "\n",
    "escapes": "def f(a: str = '\\d'): ...\n",
    "enormous description": f"def f(a: Literal['{'a' * 200_000}']): ...\n",
}


PROGRAM = reading._PROGRAM


def reader_that(limits: str) -> str:
    """Give the program of a reader with other limits."""
    return PROGRAM.replace(
        "toolscore.tools.functions.reader import main; main()",
        f"toolscore.tools.functions import reader; {limits}; reader.main()",
    )


class Watch:
    """Watches how long the event loop is held up at the most."""

    async def __aenter__(self) -> Watch:
        self.longest = 0.0
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()

    async def _look(self) -> None:
        while True:
            began = time.thread_time()
            await asyncio.sleep(0.001)
            # The processor time of this thread: what others of the machine do does not count.
            self.longest = max(self.longest, time.thread_time() - began)


@pytest.fixture
def readers() -> Callable[[], set[psutil.Process]]:
    """Gives the processes that this one has started since: a database of other tests may run below it, too."""
    before = set(psutil.Process().children())
    return lambda: set(psutil.Process().children()) - before


@pytest.mark.parametrize("kind", HOSTILE)
async def test_hostile_source_is_refused_or_read_and_harms_nothing_here(
    kind: str, readers: Callable[[], set[psutil.Process]]
) -> None:
    told = ""
    async with Watch() as watch:
        try:
            await signature_of(HOSTILE[kind] + "def f(): ...\n", "f")
        except FunctionError as refused:
            told = str(refused)
        await asyncio.sleep(0.002)
    assert len(told) < 2_000
    assert watch.longest < 0.2
    # What the parser has been through elsewhere has not been seen here.
    assert ast.parse("a = (1 + 2, [3])").body
    assert not readers()


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("import os; os.abort()", "nested too deep"),
        ("import ctypes; ctypes.string_at(0)", "nested too deep"),
        ("import os; os.kill(os.getpid(), 9)", "MiB"),
        ("import os; os.kill(os.getpid(), 24)", "more than 5 s"),
        ("raise MemoryError", "MiB"),
        ("raise RecursionError", "nested too deep"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
async def test_a_reader_that_dies_of_a_source_is_an_answer(
    program: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_PROGRAM", f"import sys; sys.stdin.read(); {program}")
    with pytest.raises(FunctionError, match=told):
        await signature_of("def f(): ...", "f")


@pytest.mark.parametrize(
    ("program", "outcome"), [("raise ImportError('broken')", "unavailable"), ("input()", "unavailable")]
)
async def test_a_reader_that_fails_by_itself_is_not_the_fault_of_the_source(
    program: str, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_PROGRAM", program)
    with pytest.raises(RefusalError) as refused:
        await signature_of("def f(): ...", "f")
    assert refused.value.outcome == outcome


async def test_a_reader_that_does_not_end_is_ended_in_time_and_when_nobody_waits_any_more(
    monkeypatch: pytest.MonkeyPatch, readers: Callable[[], set[psutil.Process]]
) -> None:
    monkeypatch.setattr(reading, "_PROGRAM", "import time; time.sleep(100)")
    task = asyncio.create_task(signature_of("def f(): ...", "f"))
    async with asyncio.timeout(60):
        while not readers():
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not readers()
    monkeypatch.setattr(reading, "WALL", 0.3)
    with pytest.raises(RefusalError) as refused:
        await signature_of("def f(): ...", "f")
    assert refused.value.outcome == "timed_out"
    assert not readers()


@pytest.mark.skipif(not hasattr(signal, "alarm"), reason="signals")
def test_a_reader_that_lost_its_toolscore_ends_by_itself() -> None:
    program = reader_that("reader.WALL = 1")
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", program], stdin=subprocess.PIPE) as process:
        assert process.wait(timeout=20) == -signal.SIGALRM  # its input never ends


@pytest.mark.skipif(sys.platform != "linux", reason="limits of processes")
async def test_a_reader_has_bounds_of_time_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.version_info < (3, 13):
        monkeypatch.setattr(reading, "_PROGRAM", reader_that("reader.CPU = 1"))
        with pytest.raises(FunctionError, match="to read: make it shorter"):
            await signature_of("def f(): pass\n" * 18_000, "f")  # quadratic in CPython's compiler, once
    monkeypatch.setattr(reading, "_PROGRAM", reader_that("reader.MEMORY = 32 << 20"))
    with pytest.raises(FunctionError, match="make"):
        await signature_of("a=1\n" * 60_000, "f")


def test_a_reader_imports_nothing_but_the_standard_library() -> None:
    program = PROGRAM.replace("main()", "import toolscore.tools.functions.deriving; print(*sys.modules)")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], stdout=subprocess.PIPE, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded - sys.stdlib_module_names - {"__main__"} == {"toolscore"}
    assert "asyncio" not in loaded


async def test_what_the_source_says_in_escapes_can_be_sent_to_everybody() -> None:
    nested = "[" * 100 + "]" * 100
    if sys.version_info < (3, 13):
        said = await signature_of("def f():\n    'a\\ud800\\0'", "f")
        assert said.description == "a?\0"
    else:  # whose compiler takes no such text for a function's description
        with pytest.raises(FunctionError, match="surrogates not allowed"):
            await signature_of("def f():\n    'a\\ud800\\0'", "f")
    said = await signature_of(f"def f(a: list = {nested}, b: str = ''):\n    'a\\0'", "f")
    assert said.description == "a\0"
    assert "default" not in said.input_schema["properties"]["a"]
    infinite = "import enum\nclass A(enum.Enum):\n    B = 1e999\ndef f(a: A): ..."
    with pytest.raises(FunctionError, match="no form in JSON"):
        await signature_of(infinite, "f")


def test_deriving_runs_nothing_of_the_source(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    text = f"""
open({str(mark)!r}, "w")
def f(a: str = open({str(mark)!r}, "w").name) -> (lambda: open({str(mark)!r}, "w"))():
    ...
"""
    derive(text, "f")
    assert not mark.exists()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="`type` is of Python 3.12")
def test_an_alias_of_the_type_statement_is_followed() -> None:
    said = derive("type A = list[int]\ndef f(a: A): ...", "f")
    assert said.input_schema["properties"]["a"] == {"type": "array", "items": {"type": "integer"}}


@pytest.mark.parametrize(
    "name", ["", "1a", "a-b", "_a", "class", "a b", "é", "a" * (LONGEST_NAME + 1), "a\n"]
)
def test_a_name_that_no_tool_can_have_is_refused(name: str) -> None:
    with pytest.raises(FunctionError):
        Draft(name, "def f(): ...").check()


def test_a_definition_carries_hints_version_and_title() -> None:
    hints = {"readOnlyHint": True, "title": "Count"}
    draft = Draft("count", "def count(a: str) -> int:\n    'Counts.'", hints=hints)
    draft.check()
    made = draft.made(3, derive(draft.source, draft.name))
    assert made.tool == "functions__count"
    assert made.definition["title"] == "Count"
    assert made.definition["annotations"] == {"readOnlyHint": True}
    assert made.definition["_meta"]["toolscore/version"].startswith("3-")
    assert Draft("a" * LONGEST_NAME, "").made(1, SAID).tool == "functions__" + "a" * LONGEST_NAME
    for wrong in ({"readOnlyHint": "yes"}, {"other": True}, {"title": 3}):
        with pytest.raises(FunctionError, match="annotations"):
            Draft("count", "def f(): ...", hints=wrong).check()


@pytest.mark.parametrize(
    "source", ["def f(): ...", "# coding: latin-1\r\ndef f():\r\n    'Ä'\r\n", "\n\ndef f(): ...\n"]
)
def test_a_file_of_a_function_gives_the_same_function(source: str) -> None:
    draft = Draft("f", source, ("numpy>=2",), {"readOnlyHint": True})
    assert from_file(draft.made(2, SAID).as_file(), "other") == draft
    assert from_file(source, "f") == Draft("f", source)


def test_a_header_that_is_broken_is_told() -> None:
    for header in ("{}x", '{"packages": 3}', '{"annotations": []}', '{"name": '):
        text = f"# toolscore-function: {header}}}\ndef f(): ..."
        with pytest.raises(FunctionError, match="line 1"):
            from_file(text, "f")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"p": {"x": 1}}, None),
        ({"p": {"x": 1, "next": {"x": 2.5, "next": None}}, "n": 2}, None),
        ({}, "p is missing"),
        ({"p": 3}, "p must be an object, not 3"),
        ({"p": {}}, "p lacks x"),
        ({"p": {"x": 1, "next": {"x": "a"}}}, "p.next.x must be a number, not 'a'"),
        ({"p": {"x": 1}, "n": True}, "n must be a whole number"),
        ({"p": {"x": 1}, "n": 1.5}, "n must be a whole number"),
        ({"p": {"x": 1}, "c": "green"}, "c must be one of 'r', 'b', not 'green'"),
        ({"p": {"x": 1}, "t": [1]}, "t must have 2 items, not 1"),
        ({"p": {"x": 1}, "t": [1, 2]}, "t[1] must be a string"),
        ({"p": {"x": 1}, "d": "yesterday"}, "d must be a date"),
        ({"p": {"x": 1}, "z": 1}, "there is no 'z'"),
    ],
)
def test_arguments_that_do_not_fit_are_told_apart_from_those_that_do(
    arguments: Any, told: str | None
) -> None:
    text = (
        f"{HEAD}\ndef f(p: Point, n: int = 1, c: Color = 1, t: tuple[int, str] = (), d: dt.date = None): ..."
    )
    found = problem(arguments, derive(text, "f").input_schema)
    assert (found is None) if told is None else (told in str(found)), found


def test_a_value_that_is_nested_without_end_is_refused() -> None:
    value: dict[str, Any] = {"x": 1}
    for _ in range(500):
        value = {"x": 1, "next": value}
    found = problem({"p": value}, derive(f"{HEAD}\ndef f(p: Point): ...", "f").input_schema)
    assert found is not None
    assert "nested too deep" in found


def test_types_that_refer_to_themselves_in_several_ways_are_checked_in_no_time() -> None:
    text = """
from dataclasses import dataclass
@dataclass
class A:
    x: "A | B | int"
@dataclass
class B:
    x: "A | B | int"
def f(a: A | B): ...
"""
    schema = derive(text, "f").input_schema
    value: Any = 1
    for _ in range(30):
        value = {"x": value}
    assert problem({"a": value}, schema) is None
    value = "wrong"
    for _ in range(30):  # 2^30 ways to be wrong
        value = {"x": value}
    assert "must be an object" in str(problem({"a": value}, schema))


def test_toolscore_begins_without_what_only_functions_need() -> None:
    program = "import sys, toolscore.server.app; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    loaded = [name.rpartition(".")[2] for name in done.stdout.split() if ".tools.functions." in name]
    assert sorted(loaded) == ["functions", "names"]


def schema_of(parameter: str, head: str = "") -> Any:
    text = f"{HEAD}from pydantic import Field\nimport pydantic\n{head}\ndef f({parameter}): 'Does it.'"
    return derive(text, "f").input_schema["properties"]["a"]


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        ("str", {"type": ["string", "null"]}),
        ("int | str", {"type": ["integer", "string", "null"]}),
        ("int | None", {"type": ["integer", "null"]}),
        ("dt.date", {"type": ["string", "null"], "format": "date"}),
        ("Literal['x']", {"anyOf": [{"type": "string", "enum": ["x"]}, {"type": "null"}]}),
        ("Literal['x', None]", {"enum": ["x", None]}),
        ("Color", {"anyOf": [{"$ref": "#/$defs/Color"}, {"type": "null"}]}),
        ("Any", {}),
        (
            "list[int] | str",
            {
                "anyOf": [
                    {"type": "array", "items": {"type": "integer"}},
                    {"type": "string"},
                    {"type": "null"},
                ]
            },
        ),
        ("Annotated[str, 'Which.']", {"type": ["string", "null"], "description": "Which."}),
    ],
)
def test_what_is_null_by_default_may_be_null(annotation: str, schema: Any) -> None:
    found = schema_of(f"a: {annotation} = None")
    assert found == {**schema, "default": None}
    assert problem({"a": None}, {"properties": {"a": schema}}) is None


def test_an_object_whose_keys_json_has_no_form_for_is_left_as_it_is() -> None:
    @dataclasses.dataclass(frozen=True)
    class Place:
        x: int

    given = {(1, 2): {3}, Place(1): (4,), frozenset({5}): 6}
    assert _out(given) == {(1, 2): [3], Place(1): [4], frozenset({5}): 6}
    assert _out({Size.LARGE: 1, None: 2, datetime.date(2024, 1, 2): 3}) == {2: 1, None: 2, "2024-01-02": 3}


def test_a_member_of_a_dataclass_that_is_null_by_default_may_be_null() -> None:
    text = (
        "from dataclasses import *\n@dataclass\nclass P:\n    x: int = None\n"
        "    y: str = field(default=None)\ndef f(p: P): ..."
    )
    properties = derive(text, "f").input_schema["$defs"]["P"]["properties"]
    assert properties == {"x": {"type": ["integer", "null"]}, "y": {"type": ["string", "null"]}}


@pytest.mark.parametrize(
    ("parameter", "schema"),
    [
        ("a: Annotated[int, Field(ge=1, le=5)]", {"type": "integer", "minimum": 1, "maximum": 5}),
        (
            "a: Annotated[float, Gt(0), Lt(1.5), MultipleOf(multiple_of=0.5)]",
            {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1.5, "multipleOf": 0.5},
        ),
        (
            "a: Annotated[str, Field(min_length=1, max_length=9, pattern='^x')]",
            {"type": "string", "minLength": 1, "maxLength": 9, "pattern": "^x"},
        ),
        ("a: Annotated[list, Len(1, 3)]", {"type": "array", "minItems": 1, "maxItems": 3}),
        ("a: Annotated[int | None, Interval(ge=2)]", {"type": ["integer", "null"], "minimum": 2}),
        ("a: Annotated[int, Doc('Of them.')]", {"type": "integer", "description": "Of them."}),
        (
            "a: int = Field(3, ge=-1, description='How many.')",
            {"type": "integer", "minimum": -1, "description": "How many.", "default": 3},
        ),
        ("a: int = pydantic.Field(default=None)", {"type": ["integer", "null"], "default": None}),
        ("a: list[int] = Field(default_factory=list)", {"type": "array", "items": {"type": "integer"}}),
    ],
)
def test_limits_beside_a_type_are_those_of_its_schema(parameter: str, schema: Any) -> None:
    assert schema_of(parameter) == schema


def test_a_field_without_a_default_is_required_and_what_cannot_be_checked_is_told() -> None:
    text = """
from pydantic import Field
from typing import Annotated
LEAST = 1
def f(a: int = Field(..., gt=0), b: str = Field(min_length=1), c: int = Field(2, le=5),
      d: Annotated[int, Field(ge=LEAST)] = 7, e: Annotated[str, Field(ge=3)] = "", g: Annotated[str, 5] = ""):
    '''Does it.'''
"""
    said = derive(text, "f")
    assert said.input_schema["required"] == ["a", "b"]
    assert said.notes == [
        "what Field(ge=LEAST) says of a parameter is not checked",
        "what Field(ge=3) says of a parameter is not checked",
    ]


@pytest.mark.parametrize(
    ("default", "shown"), [("Color.RED", "r"), ("Color.RED.value", "r"), ("Size.LARGE", 2), ("Level.LOW", -1)]
)
def test_a_default_that_is_a_member_of_an_enum_is_shown(default: str, shown: Any) -> None:
    levels = "\nclass Level(enum.Enum):\n    LOW = -1\n    HIGH = +1.5\n"
    assert schema_of(f"a: {default.partition('.')[0]} = {default}", levels)["default"] == shown
    assert schema_of(f"a: list = [{default}]", levels)["default"] == [shown]
    assert "default" not in schema_of("a: Color = Color.GREEN")


def test_members_of_an_enum_may_be_negative_or_the_same() -> None:
    text = "import enum\nclass A(enum.Enum):\n    LOW = -1\n    NO = LEAST = 0\n    HI = 1\ndef f(a: A): ..."
    with pytest.raises(FunctionError, match="texts or numbers"):
        derive(text, "f")
    said = derive(text.replace("NO = LEAST", "NO").replace("HI = 1", "HI = 1\n    TOP = 1"), "f")
    assert said.input_schema["$defs"]["A"] == {"type": "integer", "enum": [-1, 0, 1]}


def test_a_choice_may_be_made_of_others() -> None:
    modes = "\nM = Literal['a', 'b']\n"
    assert schema_of("a: Literal[M, 'c', Literal[1]]", modes) == {"enum": ["a", "b", "c", 1]}
    with pytest.raises(FunctionError, match="takes texts"):
        schema_of("a: Literal[L]", "\nL = Literal[L]\n")


NUMPY = """Do a thing.

    Parameters
    ----------
    a : int, optional
        The first,
        which goes on.
    b, *rest : str
        The others.

    Returns
    -------
    str
        The text.

    Notes
    -----
    Nothing.
    """
SPHINX = """Do a thing.

    :param int a: The first,
        which goes on.
    :param b: The others.
    :type b: str
    :returns: The text.
    :rtype: str
    :raises ValueError: Never.
    """


@pytest.mark.parametrize("text", [NUMPY, SPHINX])
def test_docstrings_of_other_styles_describe_parameters(text: str) -> None:
    said = derive(f'def f(a: int, b: str):\n    """{text}"""', "f")
    assert said.description == "Do a thing.\n\nReturns: The text."
    told = {name: one["description"] for name, one in said.input_schema["properties"].items()}
    assert told == {"a": "The first, which goes on.", "b": "The others."}


def test_a_default_that_is_a_field_is_the_value_it_names() -> None:
    from pydantic import Field

    def sum_up(a: int = Field(3), /, b: int = Field(default_factory=lambda: 4), *, c: int = Field(5)) -> int:
        return a + b + c

    by_place, by_name = _bound(sum_up, {"c": 1})
    assert sum_up(*by_place, **by_name) == 3 + 4 + 1
