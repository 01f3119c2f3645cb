"""Created files are their owner's, for a while."""

from __future__ import annotations

import base64
from pathlib import Path

from toolscore.sandbox.artifacts import MOST_EXECUTIONS, MOST_LISTED, Artifacts, unlinked
from toolscore.sandbox.execution import OutputFile

MIB = 1 << 20


def out(path: str, data: bytes) -> OutputFile:
    return OutputFile(path, len(data), data)


async def test_a_file_can_be_read_by_whoever_had_it_made_and_by_nobody_else(tmp_path: Path) -> None:
    artifacts = Artifacts(MIB, 60, tmp_path)
    text, large = await artifacts.keep("ann", [out("a/ü b.txt", b"hi"), out("big.bin", b"\0\xff" * 20_000)])
    assert text.uri is not None
    assert large.uri is not None
    assert text.uri.endswith("/a/%C3%BC%20b.txt")
    assert artifacts.read("ann", text.uri) == {
        "contents": [{"uri": text.uri, "mimeType": "text/plain", "text": "hi"}]
    }
    read = artifacts.read("ann", large.uri)
    assert read is not None
    assert base64.b64decode(read["contents"][0]["blob"]) == b"\0\xff" * 20_000
    assert artifacts.read("bob", text.uri) is None
    assert artifacts.listed("bob") == []
    assert [item["name"] for item in artifacts.listed("ann")] == ["ü b.txt", "big.bin"]
    assert list(tmp_path.iterdir()) == []  # the temporary file has no name
    artifacts.close()


async def test_odd_names_have_links_that_work() -> None:
    artifacts = Artifacts(MIB, 60)
    made = await artifacts.keep("ann", [out(name, b"x") for name in ("%2e", "a?b#c", "raw\udcff", "q\"'<")])
    for artifact in made:
        assert artifact.uri is not None
        assert artifact.uri.isascii()
        assert artifacts.read("ann", artifact.uri) is not None
        artifact.path.encode()
    artifacts.close()


async def test_the_oldest_goes_first_and_one_principal_cannot_push_out_the_others(tmp_path: Path) -> None:
    artifacts = Artifacts(MIB, 60, tmp_path)
    [other] = await artifacts.keep("bob", [out("b", b"b" * 1000)])
    made = [(await artifacts.keep("ann", [out("a", b"a" * 200_000)]))[0] for _ in range(6)]
    assert artifacts.size <= MIB
    assert artifacts.read("bob", other.uri or "") is not None
    assert [artifacts.read("ann", item.uri or "") is not None for item in made] == [False] * 4 + [True] * 2
    artifacts.close()


async def test_many_executions_of_one_principal_push_out_its_own_files_first() -> None:
    artifacts = Artifacts(MIB, 60)
    [other] = await artifacts.keep("bob", [out("b", b"b")])
    for _ in range(MOST_EXECUTIONS + 10):
        await artifacts.keep("ann", [out("a", b"a")])
    assert artifacts.read("bob", other.uri or "") is not None
    artifacts.close()


async def test_a_file_too_large_to_keep_or_that_was_not_taken_has_no_link() -> None:
    artifacts = Artifacts(MIB, 60)
    made = await artifacts.keep(
        "ann", [out("large", b"x" * MIB), OutputFile("lost", 5, None), out("small", b"")]
    )
    assert [artifact.uri is None for artifact in made] == [True, True, False]
    artifacts.close()


async def test_files_are_forgotten_with_age() -> None:
    time = 0.0
    artifacts = Artifacts(MIB, 60, now=lambda: time)
    [made] = await artifacts.keep("ann", [out("a", b"a")])
    time = 61.0
    assert artifacts.listed("ann") == []
    assert artifacts.read("ann", made.uri or "") is None
    assert artifacts.size == 0


async def test_a_list_is_bounded_and_has_the_newest_first() -> None:
    artifacts = Artifacts(MIB, 60)
    await artifacts.keep("ann", [out("old", b"")])
    await artifacts.keep("ann", [out(f"n{number}", b"") for number in range(MOST_LISTED)])
    names = [item["name"] for item in artifacts.listed("ann")]
    assert len(names) == MOST_LISTED
    assert "old" not in names


async def test_names_count_as_what_is_kept() -> None:
    artifacts = Artifacts(MIB, 60)
    for number in range(60):
        await artifacts.keep(
            "ann", [out(f"{n:03}" + "\U0001f600" * 250, b"") for n in range(number, number + 20)]
        )
        assert artifacts.size <= MIB
    kept = sum(len(item["name"].encode()) + len(item["uri"]) for item in artifacts.listed("ann"))
    assert kept <= artifacts.size
    assert len(artifacts.listed("ann")) < 200


async def test_why_a_file_has_no_link_is_told_with_what_to_do() -> None:
    artifacts = Artifacts(2 * MIB, 60)
    files = [OutputFile(f"lost{n}", 40 * MIB, None) for n in range(5)]
    made = await artifacts.keep("ann", [*files, out("large", b"x" * 2 * MIB), out("small", b"")])
    lost, large = unlinked(made, 32 * MIB, artifacts.share)
    assert lost.startswith("lost0, lost1, lost2 and 2 more: not taken out of /workspace: ")
    assert "up to 32 MiB together" in lost
    assert large.startswith("large: not kept: ")
    assert "up to 1 MiB together" in large
    for note in (lost, large):
        assert "print what is needed" in note
        assert "use a session" in note
    assert unlinked(made[-1:], 32 * MIB, artifacts.share) == []
