"""`toolscore_tools` inside the payload, with a test that plays init and knows some servers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from converting import CONVERT
from payload_driver import Payload, run
from toolscore.sandbox import signatures, toolbox
from toolscore.sandbox.channel import ToolError

posix = pytest.mark.skipif(sys.platform == "win32", reason="boxes are for POSIX systems")

TOOLS: dict[str, list[dict[str, Any]]] = {
    "time": [
        CONVERT,
        {"name": "time__now", "inputSchema": {"type": "object"}},
        {"name": "time__class", "description": "A keyword.", "inputSchema": {}},
        {
            "name": "time__any-thing",
            "inputSchema": {"additionalProperties": True, "properties": {"more": {}}},
        },
    ],
    "git-hub": [{"name": "git-hub__search", "inputSchema": {"type": "object"}}],
    "git_hub": [],
    "servers": [],
    "import": [],
}


class Servers:
    """Answers as init would; remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.result: dict[str, Any] | None = None

    def __call__(self, method: str, params: dict[str, Any]) -> Any:
        self.asked.append((method, params))
        if method == "servers":
            return [{"name": name, "description": f"About {name}."} for name in TOOLS]
        if method == "tools":
            if params["server"] not in TOOLS:
                raise LookupError(f"no server {params['server']}")
            return TOOLS[params["server"]]
        return self.result or {"content": [{"type": "text", "text": str(params)}]}

    @property
    def calls(self) -> list[dict[str, Any]]:
        return [params for method, params in self.asked if method == "call"]


@pytest.fixture
def servers() -> Servers:
    return Servers()


@pytest.fixture
def payload(servers: Servers) -> Iterator[Payload]:
    with Payload(servers) as started:
        yield started


def value(payload: Payload, code: str) -> Any:
    result = payload.run(code, keep=True, tools=True)
    assert result["status"] == "ok", result["error"]
    return result["value"] if result["has_value"] else result["repr"]


@posix
@pytest.mark.parametrize(
    "code",
    [
        "from toolscore_tools import time\ntime.convert_time('UTC', time=5)",
        "import toolscore_tools.time\ntoolscore_tools.time.convert_time('UTC', 5)",
        "import toolscore_tools.time as t\nt.convert_time('UTC', 5, note=None) and t.convert_time('UTC', 5)",
        "from toolscore_tools.time import convert_time\nconvert_time('UTC', 5)",
        "from toolscore_tools.time import *\nconvert_time('UTC', 5)",
        "from toolscore_tools import *\ntime.convert_time('UTC', 5)",
        "import toolscore_tools\ntoolscore_tools.time.convert_time('UTC', 5)",
        "import toolscore_tools as t\nt.call_tool('time__convert_time', {'source_timezone': 'UTC', 'time': 5})",
    ],
)
def test_a_tool_can_be_imported_and_called_in_every_usual_way(
    payload: Payload, servers: Servers, code: str
) -> None:
    assert "'UTC'" in value(payload, code)
    assert servers.calls[-1] == {
        "name": "time__convert_time",
        "arguments": {"source_timezone": "UTC", "time": 5},
    }


@posix
def test_a_session_may_use_it_again_and_asks_anew(payload: Payload, servers: Servers) -> None:
    value(payload, "from toolscore_tools import time\nold = time\ntime.now()")
    value(payload, "from toolscore_tools import time\n(old is time, time.now(), old.now())")
    assert [method for method, _ in servers.asked].count("servers") == 2
    assert len(servers.calls) == 3


@posix
def test_names_that_python_cannot_hold_are_changed(payload: Payload, servers: Servers) -> None:
    code = "import toolscore_tools as t\n[(s['name'], s['module']) for s in t.servers()]"
    assert value(payload, code) == [
        ["time", "time"],
        ["git-hub", "git_hub"],
        ["git_hub", "git_hub_2"],
        ["servers", "servers_"],
        ["import", "import_"],
    ]
    value(payload, "from toolscore_tools import git_hub\ngit_hub.search()")
    assert servers.calls[-1]["name"] == "git-hub__search"
    assert value(payload, "from toolscore_tools import time\ndir(time)") == [
        "any_thing",
        "class_",
        "convert_time",
        "now",
    ]
    value(payload, "time.class_()")
    assert servers.calls[-1]["name"] == "time__class"


@posix
def test_what_there_is_can_be_listed_and_read(payload: Payload) -> None:
    lines = value(payload, "from toolscore_tools import list_tools, tools\nlist_tools('time')")
    assert lines[0] == (
        "time.convert_time(source_timezone: str, time: str | float, *, note: str | None = 'none', "
        "from_: int = None, tags: list[str] = None) -> str  Convert a time."
    )
    assert lines[1] == "time.now()"
    assert "git_hub.search()" in value(payload, "list_tools()")
    assert value(payload, "tools('time')[0]") == CONVERT
    payload.run(
        "import toolscore_tools\nhelp(toolscore_tools.time)\nhelp(toolscore_tools)", keep=True, tools=True
    )
    text = payload.stdout.decode()
    assert "About time." in text
    assert "convert_time(" in text  # in one line or in several, as the version has it
    assert "source_timezone: IANA name of the source" in text
    assert "call_tool" in text


@posix
@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("from toolscore_tools import tiem", "ImportError", "there is no server 'tiem'; there are: time, git_hub"),
        ("import toolscore_tools.tiem", "ImportError", "there is no server 'tiem'"),
        ("import toolscore_tools as t; t.tiem", "AttributeError", "module 'toolscore_tools' has no attribute"),
        ("from toolscore_tools import time; time.nwo()", "AttributeError", "server 'time' has no tool 'nwo'"),
        ("import toolscore_tools as t; t.tools('x')", "toolscore_tools.ToolError", "no server x"),
        ("import toolscore_tools as t; t.call_tool('a', [1])", "TypeError", "call_tool takes"),
        ("import toolscore_tools as t; t.call_tool('a', {'b': {1, 2}})", "TypeError", "these arguments cannot"),
        ("import toolscore_tools as t; t.call_tool('a', {'b': 1e999})", "TypeError", "these arguments cannot"),
        ("from toolscore_tools import time; time.convert_time('UTC')", "TypeError", "convert_time() missing"),
        ("from toolscore_tools import time; time.now(1)", "TypeError", "now() too many positional arguments"),
        ("from toolscore_tools import time; time.now(zone=1)", "TypeError", "now() got an unexpected keyword"),
    ],
)  # fmt: skip
def test_a_wrong_use_is_an_error_before_anything_is_sent(
    payload: Payload, servers: Servers, code: str, kind: str, message: str
) -> None:
    result = payload.run(code, tools=True)
    assert result["error"]["type"] == kind
    assert result["error"]["message"].startswith(message)
    assert "toolbox.py" not in result["error"]["traceback"]
    assert servers.calls == []


@posix
@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"content": [{"type": "text", "text": "a"}]}, "a"),
        ({"content": [{"type": "text", "text": "a"}], "structuredContent": {"result": [1]}}, [1]),
        ({"content": [], "structuredContent": {"result": 1, "b": 2}}, {"result": 1, "b": 2}),
        ({"content": [{"type": "text", "text": "a"}] * 2}, [{"type": "text", "text": "a"}] * 2),
        ({"content": []}, []),
    ],
)
def test_a_call_gives_what_the_result_holds(
    payload: Payload, servers: Servers, result: dict[str, Any], expected: Any
) -> None:
    servers.result = result
    assert value(payload, "from toolscore_tools import *\ntime.now()") == expected
    assert value(payload, "call_tool('time__now', raw=True)") == result


@posix
def test_a_tool_that_fails_raises_with_its_result(payload: Payload, servers: Servers) -> None:
    servers.result = {"content": [{"type": "text", "text": "no such zone"}], "isError": True}
    code = "from toolscore_tools import ToolError, time\n"
    code += "try:\n    time.now()\nexcept ToolError as e:\n    x = [str(e), e.result]\nx"
    assert value(payload, code) == ["no such zone", servers.result]
    result = payload.run("time.now()", tools=True)
    lines = result["error"]["traceback"].splitlines()
    assert lines[-1] == "toolscore_tools.ToolError: no such zone"
    assert [line for line in lines if line.startswith("  File")] == ['  File "<code 2>", line 1, in <module>']


@posix
def test_without_tools_the_import_says_how_they_are_enabled(payload: Payload) -> None:
    for code in ("import toolscore_tools", "from toolscore_tools import time", "import toolscore_tools.time"):
        error = payload.run(code, keep=True)["error"]
        assert error["type"] == "ImportError"
        assert "the operator sets sandbox.tools" in error["message"]
    value(payload, "from toolscore_tools import time")
    error = payload.run("time.now()", keep=True)["error"]
    assert error["message"] == "tools can be called only while code runs that was given them"


@posix
def test_several_threads_may_call_at_the_same_time() -> None:
    code = """
from concurrent.futures import ThreadPoolExecutor
from toolscore_tools import call_tool
with ThreadPoolExecutor(8) as pool:
    found = list(pool.map(lambda n: call_tool("a__b", {"n": n}), range(8)))
found
"""
    with Payload() as payload:
        payload.tell(
            {"type": "job", "id": 1, "code": code, "tools": True, "keep": False, "result_limit": 10**6}
        )
        calls = [payload.hear() for _ in range(8)]  # all of them, before the first answer
        for call in reversed(calls):
            text = str(call["params"]["arguments"]["n"])
            result = {"content": [{"type": "text", "text": text}]}
            payload.tell({"type": "reply", "call": call["call"], "result": result})
        assert payload.hear()["value"] == [str(n) for n in range(8)]


@posix
def test_a_call_of_a_thread_that_outlives_its_job_does_not_swallow_the_next_one() -> None:
    code = """
import threading
from toolscore_tools import call_tool
found = []
thread = threading.Thread(target=lambda: found.append(call_tool("a__b")), daemon=True)
thread.start()
call_tool("c__d")  # answered when both have come
"""
    job = {"type": "job", "tools": True, "keep": True, "result_limit": 10**6}
    with Payload() as payload:
        payload.tell({**job, "id": 1, "code": code})
        calls = {call["params"]["name"]: call["call"] for call in (payload.hear(), payload.hear())}
        payload.tell({"type": "reply", "call": calls["c__d"], "result": {"content": []}})
        assert payload.hear()["type"] == "result"
        payload.tell({**job, "id": 2, "code": "2"})
        assert payload.hear()["value"] == 2
        payload.tell({"type": "reply", "call": 99, "result": None})
        payload.tell({"type": "reply", "call": calls["a__b"], "result": {"content": []}})
        payload.tell({**job, "id": 3, "code": "thread.join(); found"})
        assert payload.hear()["value"] == [[]]


@posix
def test_a_child_process_cannot_call() -> None:
    code = """
import os
from toolscore_tools import call_tool
if os.fork() == 0:
    call_tool("a__b")
os.waitstatus_to_exitcode(os.wait()[1])
"""
    with Payload(Servers()) as payload:
        assert payload.run(code, tools=True)["value"] == 1
        assert b"by the process that runs the code only" in payload.stderr


@posix
def test_a_call_ends_when_init_is_gone() -> None:
    with Payload() as payload:
        job = {"type": "job", "id": 1, "tools": True, "keep": False, "result_limit": 10**6}
        payload.tell({**job, "code": "import toolscore_tools as t\nt.call_tool('a__b')"})
        assert payload.hear()["type"] == "call"
        saved, payload._jobs = payload._jobs, os.open("/dev/null", os.O_WRONLY)
        os.close(saved)
        assert payload.hear()["error"]["message"] == "the way to the tools is closed"


def test_names_become_identifiers_without_meeting() -> None:
    names = ["a-b", "a_b", "a.b", "a_b_2", "class", "taken", "1", "", "日本", "__init__", "ſ", "s"]
    found = signatures.identifiers(names, taken=["taken"])
    assert sorted(found.values()) == sorted(names)
    assert all(name.isidentifier() for name in found)
    assert {"s", "s_2"} < set(found)  # Python reads the long s as an s
    assert list(found)[:6] == ["a_b", "a_b_2", "a_b_3", "a_b_2_2", "class_", "taken_"]


def test_content_of_a_failure_without_a_text_says_so() -> None:
    with pytest.raises(ToolError, match="without saying why"):
        toolbox.content({"isError": True})


@posix
def test_a_file_of_the_same_name_is_not_taken_for_it() -> None:
    code = "import sys\nopen('toolscore_tools.py', 'w').write('x = 1')\n"
    code += "sys.path.insert(0, '')\nimport toolscore_tools"
    assert "the operator sets sandbox.tools" in run(code)["error"]["message"]
