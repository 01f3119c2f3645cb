"""Long results: cut to a limit that is kept, and all of it behind a handle for who called."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_core import to_json

from toolscore.server.call import Call
from toolscore.server.long_results import LongResults
from toolscore.tools import results
from toolscore.tools.caller import Caller
from toolscore.tools.outcome import RefusalError
from toolscore.tools.results import KeptResults, is_result
from toolscore.tools.shorten import LEAST, RESULT_KEY, shortened, weight

ME = ("owner", 1)


@pytest.fixture
def kept(tmp_path: Path) -> KeptResults:
    return KeptResults(tmp_path / "run" / "results")


def cut(result: dict[str, Any], limit: int, kept: KeptResults) -> dict[str, Any]:
    return shortened(result, limit, lambda text, mime: kept.keep(text, ME, mime))


def text_result(text: str, **more: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], **more}


def links(result: dict[str, Any]) -> list[dict[str, Any]]:
    items = (item for item in result["content"] if isinstance(item, dict))
    return [item for item in items if item.get("type") == "resource_link"]


def test_a_result_within_the_limit_is_the_very_same(kept: KeptResults) -> None:
    result = text_result("é" * 300, structuredContent={"a": [1.5, None]}, _meta={"x": 1}, **{"x-unknown": 2})
    before = copy.deepcopy(result)
    assert cut(result, 400, kept) is result
    assert result == before


def test_a_long_text_is_cut_at_the_end_of_a_line_and_the_rest_is_behind_the_handle(kept: KeptResults) -> None:
    text = "".join(f"{n}: a line of some words\n" for n in range(5_000))
    result = cut(text_result(text, isError=True, _meta={"x": 1}, **{"x-unknown": 2}), 500, kept)
    shown = result["content"][0]["text"]
    assert text.startswith(shown)
    assert shown.endswith("words\n")
    assert len(shown) > 1000
    assert weight(result) <= 500
    (link,) = links(result)
    assert is_result(link["uri"])
    assert link["size"] == len(text)
    note = result["content"][1]["text"]
    assert f"{len(shown)} of {len(text)} characters" in note
    assert f"'offset': {len(shown)}" in note
    assert "toolscore__read_result" in note
    assert result["isError"] is True
    assert result["x-unknown"] == 2
    assert result["_meta"]["x"] == 1
    assert result["_meta"][RESULT_KEY] == {
        "uri": link["uri"],
        "shown": len(shown),
        "total": len(text),
        "bytes": len(text),
    }
    assert shown + kept.read(link["uri"], ME, len(shown)).text == text


def test_json_is_cut_between_items_and_its_structure_is_behind_the_same_handle(kept: KeptResults) -> None:
    structured = {"rows": [{"id": n, "name": f"name {n}"} for n in range(2_000)]}
    text = json.dumps(structured)
    result = cut(text_result(text, structuredContent=structured), 400, kept)
    assert result["content"][0]["text"].endswith("},")
    assert "structuredContent" not in result
    (link,) = links(result)
    assert link["mimeType"] == "application/json"
    assert json.loads(kept.read(link["uri"], ME).text) == structured


def test_long_structure_beside_a_short_text_is_put_aside_and_the_text_stays(kept: KeptResults) -> None:
    structured = {"rows": list(range(5_000))}
    result = cut(text_result("5,000 rows", structuredContent=structured), 300, kept)
    assert result["content"][0] == {"type": "text", "text": "5,000 rows"}
    assert "structuredContent" not in result
    (link,) = links(result)
    assert json.loads(kept.read(link["uri"], ME).text) == structured
    assert weight(result) <= 300


def test_long_structure_alone_is_shown_from_its_beginning(kept: KeptResults) -> None:
    result = cut({"content": [], "structuredContent": {"rows": list(range(5_000))}}, 300, kept)
    assert result["content"][0]["text"].startswith('{"rows":[0,1,2,')
    assert weight(result) <= 300


def test_long_text_and_another_long_structure_have_a_handle_each(kept: KeptResults) -> None:
    result = cut(text_result("word " * 5_000, structuredContent={"rows": list(range(5_000))}), LEAST, kept)
    first, second = links(result)
    assert kept.read(first["uri"], ME).text == "word " * 5_000
    assert json.loads(kept.read(second["uri"], ME).text) == {"rows": list(range(5_000))}
    assert weight(result) <= LEAST


def test_a_short_structure_stays_where_the_text_is_cut(kept: KeptResults) -> None:
    result = cut(text_result("word " * 5_000, structuredContent={"words": 5_000}), 300, kept)
    assert result["structuredContent"] == {"words": 5_000}


def test_images_stay_and_cost_nothing(kept: KeptResults) -> None:
    image = {"type": "image", "data": "A" * 100_000, "mimeType": "image/png"}
    assert cut({"content": [image]}, 300, kept) == {"content": [image]}
    result = cut({"content": [{"type": "text", "text": "word " * 5_000}, image]}, 300, kept)
    assert image in result["content"]


def test_embedded_resources_are_behind_the_handle_and_small_links_stay(kept: KeptResults) -> None:
    small = {"type": "resource_link", "uri": "file:///a", "name": "a"}
    embedded = {"type": "resource", "resource": {"uri": "file:///b", "text": "line\n" * 5_000}}
    result = cut({"content": [small, embedded]}, 400, kept)
    assert small in result["content"]
    (link,) = (one for one in links(result) if is_result(one["uri"]))
    assert kept.read(link["uri"], ME).text == "file:///b:\n" + "line\n" * 5_000
    assert weight(result) <= 400


def test_what_is_no_result_of_a_tool_is_not_touched(kept: KeptResults) -> None:
    for odd in ({"task": {"taskId": "x" * 9_000}}, {"content": "x" * 9_000}, {}):
        assert cut(odd, LEAST, kept) is odd


ITEMS = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, st.text(max_size=3_000)),
    st.builds(lambda n: {"type": "text", "text": '{"a": "é 中文\\n"}, ' * n}, st.integers(0, 300)),
    st.builds(lambda n: {"type": "image", "data": "A" * n}, st.integers(0, 3_000)),
    st.builds(
        lambda n: {"type": "resource_link", "uri": "file:///" + "x" * n, "name": "x"}, st.integers(0, 3_000)
    ),
    st.builds(
        lambda text: {"type": "resource", "resource": {"uri": "a:b", "text": text}}, st.text(max_size=3_000)
    ),
    st.builds(lambda n: {"type": "unheard-of", "x": ["中"] * n}, st.integers(0, 500)),
    st.sampled_from([None, 5, "text", {"type": "text"}, {"type": "text", "text": 5, "x": "y" * 900}]),
)


@settings(
    max_examples=150,
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(ITEMS, max_size=6),
    st.none() | st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=900), max_size=9),
    st.integers(LEAST, 2_000),
)
def test_no_result_is_above_its_limit_and_nothing_is_lost(
    kept: KeptResults, content: list[Any], structured: Any, limit: int
) -> None:
    result: dict[str, Any] = {"content": content}
    if structured is not None:
        result["structuredContent"] = structured
    given = copy.deepcopy(result)
    short = cut(result, limit, kept)
    assert weight(short) <= limit
    assert result == given
    if weight(given) <= limit:
        assert short is result
        return
    everything = json.dumps(short["content"], ensure_ascii=False) + "".join(
        kept.read(link["uri"], ME).text for link in links(short) if is_result(link["uri"])
    )
    for item in content:
        if isinstance(item, dict) and item.get("type") == "text" and isinstance(item.get("text"), str):
            assert (
                item["text"] in everything or json.dumps(item["text"], ensure_ascii=False)[1:-1] in everything
            )
        elif isinstance(item, dict) and item.get("type") == "image":
            assert item in short["content"]


def test_a_result_is_read_in_parts_that_make_up_the_whole(kept: KeptResults) -> None:
    text = "é中😀\n" * 999
    handle = kept.keep(text, ME).handle
    read, offset = "", 0
    while True:
        part = kept.read(handle, ME, offset, 700)
        read += part.text
        if part.next is None:
            break
        offset = part.next
    assert read == text
    assert kept.read(handle, ME, len(text), 5).text == ""
    with pytest.raises(RefusalError, match="behind"):
        kept.read(handle, ME, len(text) + 1)


def test_a_text_is_found_in_a_result_with_its_line(kept: KeptResults) -> None:
    text = "".join(f"line {n} of the Log\n" for n in range(1_000)) + "x" * 600_000 + "NEEDLE" + "y" * 600_000
    handle = kept.keep(text, ME).handle
    (place,), more, total = kept.find(handle, ME, "line 437 of THE log")
    assert total == len(text)
    assert place.text == "line 437 of the Log"
    assert text[place.offset :].startswith("line 437")
    assert more is None
    (place,), *_ = kept.find(handle, ME, "needle")
    assert "NEEDLE" in place.text
    assert len(place.text) < 500
    places, more, _ = kept.find(handle, ME, "of the log")
    assert len(places) == 20
    assert more is not None
    again, *_ = kept.find(handle, ME, "of the log", more)
    assert again[0].text == "line 20 of the Log"
    assert kept.find(handle, ME, "(a+)+$") == ([], None, len(text))
    with pytest.raises(RefusalError, match="behind"):
        kept.find(handle, ME, "needle", len(text) + 1)


def test_a_page_takes_no_more_the_longer_the_result_is(
    kept: KeptResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "é中😀\n" * 1_000_000
    handle = kept.keep(text, ME).handle
    read = 0
    whole = Path.open

    class Counted:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> Counted:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def seek(self, place: int) -> None:
            self.file.seek(place)

        def read(self, count: int = -1) -> bytes:
            nonlocal read
            data = bytes(self.file.read(count))
            read += len(data)
            return data

    monkeypatch.setattr(Path, "open", lambda path, mode: Counted(whole(path, mode)))
    for offset in (0, 65_530, 65_536, 2_000_001, len(text) - 7):
        read = 0
        part = kept.read(handle, ME, offset, 9)
        assert part.text == text[offset : offset + 9]
        assert part.total == len(text)
        assert 0 < read < 500_000


@pytest.mark.parametrize("border", [(1 << 16) - 3, 1 << 16, (1 << 18) - 3, 1 << 18])
def test_a_text_on_the_border_of_two_looks_is_found_once(kept: KeptResults, border: int) -> None:
    handle = kept.keep("中" * border + "needle" + "." * 100, ME).handle
    (place,), more, _ = kept.find(handle, ME, "needle")
    assert (place.offset, more) == (border, None)
    assert place.text == "中" * 97 + "needle" + "." * 97
    assert kept.read(handle, ME, border, 6).text == "needle"


def test_nobody_else_reads_a_result(kept: KeptResults) -> None:
    handle = kept.keep("secret", ME).handle
    for other in (("owner", 2), ("guest", 1)):
        with pytest.raises(RefusalError, match="no result under this handle"):
            kept.read(handle, other)
    assert kept.keep("secret", ME).handle != handle


@pytest.mark.parametrize(
    "handle",
    [
        "",
        "result://",
        "result://ts-../../../etc/passwd",
        "ts-" + "a" * 22,
        "result://ts-" + "a" * 22,
        "x" * 9999,
    ],
)
def test_what_is_no_handle_is_refused(kept: KeptResults, handle: str) -> None:
    with pytest.raises(RefusalError, match="call its tool again"):
        kept.read(handle, ME)


def test_a_result_is_kept_for_a_time(
    kept: KeptResults, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(results, "LIFETIME", 0.0)
    handle = kept.keep("old", ME).handle
    with pytest.raises(RefusalError):
        kept.read(handle, ME)
    assert list((tmp_path / "run" / "results").iterdir()) == []


def test_the_oldest_of_a_caller_gives_way(kept: KeptResults, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "OWNER_BYTES", 100)
    monkeypatch.setattr(results, "TOTAL_BYTES", 150)
    other = kept.keep("x" * 60, ("other", 1)).handle
    first = kept.keep("a" * 40, ME).handle
    second = kept.keep("b" * 40, ME).handle
    assert kept.read(first, ME).text  # so that the second is now the older
    third = kept.keep("c" * 40, ME).handle
    with pytest.raises(RefusalError):
        kept.read(second, ME)
    assert kept.read(first, ME).text == "a" * 40
    assert kept.read(third, ME).text == "c" * 40
    assert kept.read(other, ("other", 1)).text == "x" * 60
    with pytest.raises(results.TooLargeError):
        kept.keep("x" * 101, ME)
    kept.keep("z" * 60, ("third", 1))  # over the total: the least used gives way, whose it may be
    with pytest.raises(RefusalError):
        kept.read(first, ME)


def test_files_are_their_owners_and_go_at_the_end(kept: KeptResults, tmp_path: Path) -> None:
    kept.keep("text", ME)
    folder = tmp_path / "run" / "results"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [file.stat().st_mode & 0o777 for file in folder.iterdir()] == [0o600]
    kept.close()
    assert not folder.exists()
    with pytest.raises(OSError, match="ending"):
        kept.keep("text", ME)
    assert not folder.exists()


def test_a_file_that_was_deleted_is_told(kept: KeptResults, tmp_path: Path) -> None:
    handle = kept.keep("text", ME).handle
    for file in (tmp_path / "run" / "results").iterdir():
        file.unlink()
    with pytest.raises(RefusalError, match="call its tool again"):
        kept.read(handle, ME)


@pytest.mark.parametrize(
    ("value", "blocks"),
    [
        ("word " * 2_000, ["word " * 2_000]),
        ([{"n": n} for n in range(2_000)], [json.dumps([{"n": n} for n in range(2_000)])]),
        ([{"n": n} for n in range(2_000)], [json.dumps({"n": n}, indent=1) for n in range(2_000)]),
        (["one\ntwo"] * 1_000, ["one\ntwo"] * 1_000),
        (list(range(4_000)), [json.dumps(list(range(4_000)), indent=2)]),
    ],
    ids=range(5),
)
def test_a_value_that_is_structured_as_a_result_is_kept_once(
    kept: KeptResults, value: Any, blocks: list[str]
) -> None:
    content = [{"type": "text", "text": block} for block in blocks]
    result = cut({"content": content, "structuredContent": {"result": value}}, 300, kept)
    assert [link["name"] for link in links(result)] == ["whole result"]
    assert "structured" not in result["_meta"][RESULT_KEY]


def test_what_is_structured_otherwise_is_kept_beside_the_text_under_a_name_of_its_own(
    kept: KeptResults,
) -> None:
    result = cut(text_result("word " * 2_000, structuredContent={"result": "other " * 2_000}), 300, kept)
    assert [link["name"] for link in links(result)] == ["whole result", "structured content"]
    assert len({link["uri"] for link in links(result)}) == 2


# --- what cannot be kept -----------------------------------------------------------------------------------


def caller() -> Caller:
    return Caller("someone", "stdio", 1)


def limited(folder: Path) -> LongResults:
    return LongResults(KeptResults(folder), 0)


async def test_a_result_that_is_larger_than_what_is_kept_is_cut_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "OWNER_BYTES", 10_000)
    structured = {"a": "x" * 20_000}
    result = text_result("word " * 5_000, structuredContent=structured)
    short = await limited(tmp_path / "results").limited(result, Call(caller()), 300)
    assert weight(short) <= 300
    assert links(short) == []
    notes = [item["text"] for item in short["content"] if item["text"].startswith("[")]
    assert len(notes) == 2
    assert all("lost: no result of more than 64 MiB is kept" in note for note in notes)
    assert short["_meta"][RESULT_KEY]["total"] == 25_000
    assert "uri" not in short["_meta"][RESULT_KEY]


async def test_a_result_that_cannot_be_written_is_kept_in_memory_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "MEMORY_BYTES", 300_000)
    (tmp_path / "results").write_text("no folder")
    kept = KeptResults(tmp_path / "results")
    text = "".join(f"{n}: é\n" for n in range(20_000))
    first, second = kept.keep(text, ME).handle, kept.keep("b" * 50_000, ME).handle
    assert kept.read(first, ME, 70_000, 500).text == text[70_000:70_500]
    assert kept.find(first, ME, "19999")[0][0].offset > 100_000
    kept.read(second, ME)  # the other one is the oldest now
    third = kept.keep("c" * 200_000, ME).handle
    with pytest.raises(RefusalError, match="no result under this handle"):
        kept.read(first, ME)
    assert [len(kept.read(handle, ME).text) for handle in (second, third)] == [50_000, 200_000]
    short = await LongResults(kept, 0).limited(text_result("d" * 300_001), Call(caller()), 300)
    assert weight(short) <= 300
    assert "lost: it could not be written" in short["content"][1]["text"]
    kept.close()


def test_what_is_structured_and_has_no_content_is_cut_too(kept: KeptResults) -> None:
    result: dict[str, Any] = {"structuredContent": {"rows": list(range(5_000))}}
    short = cut(result, 300, kept)
    assert "structuredContent" not in short
    assert weight(short) <= 300
    assert (
        kept.read(short["_meta"][RESULT_KEY]["uri"], ME).text == to_json(result["structuredContent"]).decode()
    )
    small: dict[str, Any] = {"structuredContent": {"a": 1}}
    assert cut(small, 300, kept) is small
    task = {"task": {"taskId": "x" * 5_000}}
    assert cut(task, 300, kept) is task


def test_a_large_text_that_is_what_is_structured_is_kept_once(kept: KeptResults) -> None:
    rows: dict[str, Any] = {"rows": [{"id": number, "name": f"row {number}"} for number in range(30_000)]}
    text = {"type": "text", "text": json.dumps(rows, indent=1)}
    short = cut({"content": [text], "structuredContent": rows}, 300, kept)
    assert "structured" not in short["_meta"][RESULT_KEY]
    other = {"rows": [*rows["rows"], {}]}
    short = cut({"content": [text], "structuredContent": other}, 300, kept)
    uri = short["_meta"][RESULT_KEY]["structured"]
    assert kept.read(uri, ME).text == to_json(other).decode()
