"""`python -m benchmarks.search FOLDER`: any folder of the format, with whatever is missing or broken in it."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ("read_file", "send_mail", "play_music", "convert_time")
Rows = Sequence[dict[str, Any]]


def tools(kind: str = "", names: Sequence[str] = TOOLS) -> Rows:
    said = "{} in plain words"
    return [
        {"id": f"{kind}{name}", "server": f"{kind}s", "name": name, "description": said.format(name)}
        for name in names
    ]


def queries(corpus: str, kind: str = "", names: Sequence[str] = TOOLS, **more: Any) -> Rows:
    return [
        {"query": name.replace("_", " "), "corpus": corpus, "relevant": [f"{kind}{name}"], **more}
        for name in names
    ]


def write(path: Path, rows: Rows, *, blank: bool = False) -> Path:
    text = ("\n\n" if blank else "\n").join(json.dumps(row) for row in rows) + "\n"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def measured(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.search", str(folder), *more],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def table(folder: Path, *more: str) -> tuple[dict[str, str], str, list[str]]:
    """Give ToolScore's cells by set with the mean, what follows, and the lines."""
    done = measured(folder, *more)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert "nan" not in done.stdout
    lines = done.stdout.splitlines()
    (head,) = (line.split() for line in lines if line.endswith("mean nDCG"))
    (row,) = (line.split() for line in lines if line.startswith("toolscore"))
    return dict(zip([*head[:-2], "mean"], row[1:], strict=True)), done.stdout, lines


def test_what_is_missing_is_a_dash_under_its_own_name_and_the_mean_is_over_the_rest(tmp_path: Path) -> None:
    write(tmp_path / "corpus_live_tools.jsonl.gz", tools())
    write(tmp_path / "live.jsonl.gz", queries("live_tools"), blank=True)
    write(tmp_path / "metatool.jsonl.gz", queries("metatool_tools"))
    cells, said, _ = table(tmp_path)
    full = "1.000/1.000/1.000"
    assert cells == {
        "need": "-",
        "live": full,
        "bfcl": "-",
        "toolbench": "-",
        "metatool": "-",
        "mean": "1.0000",
    }
    assert "metatool: 4 queries are left out: there is no corpus_metatool_tools." in said
    assert "the mean is that of 1 of 5 sets, 4 queries" in said
    for skipped in ("servers: no ", "gap_installed: no ", "gap_offered: no ", "20000 tools: no "):
        assert skipped in said


def test_each_query_is_judged_against_its_own_corpus_and_a_set_may_have_any_name(tmp_path: Path) -> None:
    write(tmp_path / "corpus_a_tools.jsonl", tools("a"))
    write(tmp_path / "corpus_b_tools.jsonl.gz", tools("b"))
    write(tmp_path / "mine.jsonl", [*queries("b_tools", "b"), *queries("a_tools", "a")])
    write(tmp_path / "words.jsonl", [{"word": "a"}])
    cells, said, _ = table(tmp_path)
    assert list(cells) == ["need", "live", "bfcl", "toolbench", "metatool", "mine", "mean"]
    assert cells["mine"] == "1.000/1.000/1.000"
    assert "words.jsonl is no set of queries, and is left out." in said
    assert table(tmp_path, "--sets", "mine")[0] == {"mine": cells["mine"], "mean": "1.0000"}


def test_what_cannot_be_right_is_told(tmp_path: Path) -> None:
    write(tmp_path / "corpus_a_tools.jsonl.gz", tools())
    rows = list(queries("a_tools"))
    rows[0] = {**rows[0], "relevant": ["nothing_like_it"]}
    rows[1] = {**rows[1], "relevant": []}
    write(tmp_path / "live.jsonl.gz", rows)
    cells, said, _ = table(tmp_path)
    assert "live: 1 of 3 ids in 'relevant' are not in corpus_a_tools." in said
    assert "live: 1 queries without a right answer are left out." in said
    assert cells["live"].startswith("0.667/")


def test_servers_and_gaps_are_measured_from_what_is_there(tmp_path: Path) -> None:
    write(tmp_path / "corpus_bfcl_tools.jsonl.gz", tools())
    write(
        tmp_path / "gap_offered.jsonl.gz",
        [{"query": "read file", "offered": ["read_file", "gone"], "label": "covered"}],
    )
    write(tmp_path / "corpus_x_tools.jsonl.gz", tools())
    write(tmp_path / "corpus_x_servers.jsonl.gz", [{"id": "s", "name": "s"}])
    write(tmp_path / "need.jsonl.gz", queries("x_tools", relevant_servers=["s"]))
    _, said, lines = table(tmp_path)
    assert "servers: hit@1 1.000  hit@5 1.000" in lines
    assert any(line.startswith("gap_offered:   AUROC -  covered said of ") for line in lines)
    assert "gap_offered: 1 of 2 ids are not in the corpus" in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"query": "a", "corpus": "a_tools", "relevant": ["b"]}\n\n{"query"\n', "line 3 is not JSON"),
        (b"[1]\n", "line 1 is not a JSON object"),
        (b'{"query": "a", "corpus": "a_tools"}', "line 1 has no list of ids as 'relevant'"),
        (b'{"relevant": ["a"], "corpus": "a_tools"}', "line 1 has no text as 'query'"),
        (b'{"query": "a", "relevant": ["a"]}', "line 1 has no text as 'corpus'"),
        (b"\xff\xfe\xfa\n", "cannot be read after line 0"),
        (None, "cannot be read after line"),
    ],
    ids=["json", "list", "relevant", "query", "corpus", "utf8", "cut"],
)
def test_a_broken_file_is_named_with_its_line_in_one_sentence(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    write(tmp_path / "corpus_a_tools.jsonl.gz", tools())
    path = tmp_path / "live.jsonl.gz"
    if content is None:
        path.write_bytes(write(path, queries("a_tools", names=TOOLS * 900)).read_bytes()[:-20])
    else:
        path.write_bytes(gzip.compress(content))
    done = measured(tmp_path)
    assert done.returncode == 2
    assert not done.stdout
    assert done.stderr.startswith(str(path))
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_folder_there_is_not_or_with_nothing_in_it_is_refused(tmp_path: Path) -> None:
    for folder, more, said in (
        (tmp_path / "none", (), "is not there"),
        (write(tmp_path / "file.jsonl", []), (), "is not a folder"),
        (write(tmp_path / "empty" / "live.jsonl.gz", []).parent, (), "nothing to measure"),
        (tmp_path / "empty", ("--sets", "mine"), "no set 'mine'"),
    ):
        done = measured(folder, *more)
        assert done.returncode == 2
        assert said in done.stderr
        assert "Traceback" not in done.stderr
