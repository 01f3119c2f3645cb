"""Figures of a real matplotlib, installed once for this file."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import pytest
from uv import find_uv_bin

from payload_driver import Payload, run
from toolscore.sandbox import display

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="boxes are for POSIX systems")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [
        find_uv_bin(),
        "pip",
        "install",
        "--quiet",
        "--python",
        sys.executable,
        "--target",
        str(folder),
    ]
    subprocess.run([*command, "matplotlib", "pandas"], check=True)
    return folder


TWO = """
import matplotlib.pyplot as plt
for n in (1, 2):
    plt.figure(figsize=(1, 1))
    plt.plot([1, 2])
plt.show()
"""


def test_without_matplotlib_there_is_nothing_to_show() -> None:
    assert run("1")["images"] == []
    assert "matplotlib.pyplot" in sys.modules or display.figures(10**6) == ([], False)


@pytest.mark.index
def test_open_figures_become_images_and_are_closed(site: Path) -> None:
    with Payload(site=site) as payload:
        result = payload.run(TWO, keep=True)
        assert (result["status"], result["truncated"]) == ("ok", [])
        assert [image["mime"] for image in result["images"]] == ["image/png"] * 2
        assert base64.b64decode(result["images"][0]["data"]).startswith(b"\x89PNG")
        assert payload.run("plt.get_fignums()", keep=True)["value"] == []
        result = payload.run("plt.figure(figsize=(1, 1))\n1 / 0", keep=True)
        assert (result["status"], len(result["images"])) == ("error", 1)
        assert payload.run("1", keep=True)["images"] == []
        assert payload.stderr == b""


@pytest.mark.index
def test_images_beyond_the_limit_are_left_out(site: Path) -> None:
    with Payload(site=site) as payload:
        size = payload.run(TWO, keep=True)["size"]
        result = payload.run(TWO, keep=True, limit=size - 1)
        assert len(result["images"]) == 1
        assert result["truncated"] == ["images"]


@pytest.mark.index
def test_a_figure_that_cannot_be_saved_is_told_and_the_others_are_there(site: Path) -> None:
    with Payload(site=site) as payload:
        result = payload.run(f"{TWO}\nplt.title('$\\\\nonsense$')\n5")
        assert (result["status"], result["value"], len(result["images"])) == ("ok", 5, 1)
        assert payload.stderr.startswith(b"figure 2 could not be saved: ValueError: ")


@pytest.mark.index
def test_letters_that_the_font_lacks_are_told_once_and_without_a_file_of_ours(site: Path) -> None:
    with Payload(site=site) as payload:
        result = payload.run(f"{TWO}\nplt.title('\\u65e5\\u65e5')\nplt.xlabel('\\u65e5')")
        assert (result["status"], len(result["images"])) == ("ok", 2)
        (line,) = payload.stderr.decode().splitlines()
        assert line.startswith("UserWarning: Glyph 26085 ")


@pytest.mark.index
def test_what_the_code_itself_has_matplotlib_warn_of_is_told_with_its_line(site: Path) -> None:
    with Payload(site=site) as payload:
        payload.run(f"{TWO}\nplt.title('\\u65e5')\nplt.savefig('a.png')")
        first = payload.stderr.decode().splitlines()[0]
        assert first.startswith("<code>:9: UserWarning: Glyph 26085 ")


@pytest.mark.index
@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("np.int64(5)", 5),
        ("np.float64(0.5)", 0.5),
        ("np.arange(4).reshape(2, 2)", [[0, 1], [2, 3]]),
        ("{'mean': np.mean([1, 2]), 'all': [np.bool_(True)]}", {"mean": 1.5, "all": [True]}),
        ("np.array(['a', 'b'])", ["a", "b"]),
        ("pd.DataFrame({'a': [1, 2], 'b': ['x', 'y']})", [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]),
        ("pd.Series([1.5, 2.5], index=['x', 'y'])", [1.5, 2.5]),
        ("np.array([1.0, np.nan])", None),
        ("np.datetime64('2026-01-01')", None),
        ("np.zeros(200_000)", None),
    ],
)
def test_arrays_and_tables_come_as_lists(site: Path, code: str, value: object) -> None:
    with Payload(site=site) as payload:
        result = payload.run(f"import numpy as np, pandas as pd\n{code}")
        assert (result["status"], result["value"], result["has_value"]) == ("ok", value, value is not None)
        assert result["repr"]


@pytest.mark.index
def test_each_box_has_random_numbers_of_its_own(site: Path) -> None:
    program = """
import os, sys
sys.path[:0] = sys.argv[1:]
import numpy.random, random
from toolscore.sandbox import interpreter
worker = interpreter.Interpreter(lambda data: None, lambda: None)
worker.prepare()
for _ in range(2):
    if os.fork() == 0:
        worker.start()
        job = {"id": 1, "code": "import numpy, random; [numpy.random.random(), random.random()]"}
        os.write(1, repr(worker.run({**job, "keep": True, "tools": False, "result_limit": 9999})["value"]).encode())
        os.write(1, b"\\n")
        os._exit(0)
    os.wait()
"""
    paths = [str(Path(display.__file__).parents[2]), str(site)]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, *paths], capture_output=True, check=True
    )
    first, second = map(eval, done.stdout.splitlines())
    assert first[0] != second[0]
    assert first[1] != second[1]
