"""Bundles on the web: fetched within limits, unpacked only with the right checksum, or not there at all."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from toolscore.runners.errors import InstallError, SourceError
from toolscore.runners.installers import archive, download
from toolscore.runners.installers.install import install
from toolscore.runners.installers.name import suggest_name
from toolscore.runners.installers.source import parse
from toolscore.runners.spec import Candidate, Installation, SourceKind

MANIFEST = json.dumps(
    {
        "manifest_version": "0.4",
        "name": "demo",
        "version": "1.2.3",
        "server": {
            "type": "binary",
            "entry_point": "run.sh",
            "mcp_config": {"command": "run.sh", "args": []},
        },
    }
)


def zipped(**files: str | bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name.replace("_", "."), content)
    return file.getvalue()


BUNDLE = zipped(manifest_json=MANIFEST, run_sh="#!/bin/sh\n")

Answer = Callable[[BaseHTTPRequestHandler], None]


class Web:
    """A web server on this machine that answers each path as it is told to."""

    def __init__(self) -> None:
        web = self
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.going_on = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked.append(self.path)
                web.answers[self.path](self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self.going_on.set()
        self._server.shutdown()
        self._server.server_close()

    def file(self, path: str, content: bytes, **headers: str) -> str:
        """Have a file to give; give its source with the right checksum."""

        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(200)
            for name, value in {"Content_Length": str(len(content)), **headers}.items():
                request.send_header(name.replace("_", "-"), value)
            request.end_headers()
            request.wfile.write(content)

        self.answers[path] = answer
        return f"{self.url}{path}#sha256={hashlib.sha256(content).hexdigest()}"

    def redirect(self, path: str, to: str) -> None:
        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(302)
            request.send_header("Location", to)
            request.send_header("Content-Length", "0")
            request.end_headers()

        self.answers[path] = answer


@pytest.fixture
def web() -> Iterator[Web]:
    one = Web()
    yield one
    one.close()


class Steps:
    def __init__(self) -> None:
        self.said: list[str] = []

    async def __call__(self, _done: float, _total: float | None, message: str) -> None:
        self.said.append(message)


async def put(folder: Path, source: str, steps: Steps | None = None) -> Installation:
    candidate = Candidate(source=source, name="it")
    return await install(candidate, servers=folder / "s", report=steps or Steps(), timeout=30)


async def refused(folder: Path, source: str) -> str:
    with pytest.raises(InstallError) as error:
        await put(folder, source)
    assert not (folder / "s" / "it").exists(), "something was left behind"
    return str(error.value)


async def test_a_bundle_with_the_right_checksum_is_installed_and_the_file_itself_not_kept(
    tmp_path: Path, web: Web
) -> None:
    steps = Steps()
    done = await put(tmp_path, web.file("/demo.mcpb", BUNDLE), steps)
    assert (done.kind, done.package, done.version) == (SourceKind.MCPB, "demo", "1.2.3")
    assert Path(done.spec.command or "").is_file()
    assert sorted(path.name for path in (tmp_path / "s" / "it").iterdir()) == ["locks", "src"]
    assert f"downloaded demo.mcpb of 127.0.0.1: {len(BUNDLE)} bytes" in steps.said


async def test_a_bundle_with_another_checksum_is_never_unpacked(
    tmp_path: Path, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unpacked(*_args: object) -> None:
        raise AssertionError("unpacked")

    monkeypatch.setattr(archive, "_unpack", unpacked)
    web.file("/demo.mcpb", BUNDLE)
    text = await refused(tmp_path, f"{web.url}/demo.mcpb#sha256={'0' * 64}")
    assert "is not the file it should be" in text
    assert hashlib.sha256(BUNDLE).hexdigest() in text


async def test_a_download_that_is_cut_in_the_middle_leaves_nothing(tmp_path: Path, web: Web) -> None:
    source = web.file("/demo.mcpb", BUNDLE, Content_Length=str(len(BUNDLE) + 1))
    text = await refused(tmp_path, source)
    assert "could not be downloaded" in text
    assert "try again" in text


async def test_a_file_that_is_announced_too_large_is_not_begun(tmp_path: Path, web: Web) -> None:
    source = web.file("/demo.mcpb", b"", Content_Length=str(10 << 30))
    assert "larger than 512 MiB" in await refused(tmp_path, source)


async def test_a_file_that_grows_too_large_without_announcement_is_given_up(
    tmp_path: Path, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 1 << 20)

    def endless(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        try:
            while not web.going_on.is_set():
                request.wfile.write(bytes(1 << 16))
        except OSError:
            pass

    web.answers["/demo.mcpb"] = endless
    assert "larger than 1 MiB" in await refused(tmp_path, f"{web.url}/demo.mcpb#sha256={'0' * 64}")


async def test_what_a_server_calls_compressed_is_not_unpacked_on_the_way(tmp_path: Path, web: Web) -> None:
    """The checksum is that of the file itself, and a few kilobytes of gzip do not become gigabytes."""
    source = web.file("/demo.mcpb", BUNDLE, Content_Encoding="gzip")
    assert (await put(tmp_path, source)).package == "demo"


async def test_a_zip_that_unpacks_to_too_much_is_given_up(
    tmp_path: Path, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_BYTES", 1 << 20)
    bomb = zipped(manifest_json=MANIFEST, run_sh=bytes(8 << 20))
    assert len(bomb) < 1 << 16
    assert "unpacks to more than 1 MiB" in await refused(tmp_path, web.file("/demo.mcpb", bomb))


async def test_redirects_are_followed_and_counted(tmp_path: Path, web: Web) -> None:
    source = web.file("/real", BUNDLE)
    checksum = source.partition("#")[2]
    web.redirect("/demo.mcpb", "/real")
    assert (await put(tmp_path, f"{web.url}/demo.mcpb#{checksum}")).package == "demo"
    web.redirect("/round.mcpb", "/round.mcpb")
    text = await refused(tmp_path / "again", f"{web.url}/round.mcpb#{checksum}")
    assert "redirects more than 5 times" in text
    assert web.asked.count("/round.mcpb") == 6


@pytest.mark.parametrize(
    "to",
    [
        "http://192.0.2.1/demo.mcpb",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "https://user:pw@127.0.0.1/",
        "",
    ],
)
async def test_a_redirect_to_elsewhere_than_https_is_not_followed(tmp_path: Path, web: Web, to: str) -> None:
    web.redirect("/demo.mcpb", to)
    text = await refused(tmp_path, f"{web.url}/demo.mcpb#sha256={'0' * 64}")
    assert "not https" in text
    assert "pw" not in text


@pytest.mark.parametrize("status", [404, 500])
async def test_a_refusing_server_is_told_of(tmp_path: Path, web: Web, status: int) -> None:
    web.answers["/demo.mcpb"] = lambda request: request.send_error(status)
    assert f"answers {status}" in await refused(tmp_path, f"{web.url}/demo.mcpb#sha256={'0' * 64}")


async def test_a_server_that_is_not_there_is_told_of(tmp_path: Path) -> None:
    assert "check the network" in await refused(tmp_path, f"http://127.0.0.1:9/demo.mcpb#sha256={'0' * 64}")


async def test_a_cancelled_download_leaves_nothing(tmp_path: Path, web: Web) -> None:
    def slow(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        request.wfile.write(BUNDLE[:10])
        request.wfile.flush()
        web.going_on.wait(30)

    web.answers["/demo.mcpb"] = slow
    task = asyncio.create_task(put(tmp_path, f"{web.url}/demo.mcpb#sha256={'0' * 64}"))
    async with asyncio.timeout(10):
        while not web.asked:
            await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not (tmp_path / "s" / "it").exists()


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("https://host/demo.mcpb", "checksum"),
        ("https://host/demo.mcpb#sha256=12", "checksum"),
        ("mcpb:https://host/release/1#sha256=" + "g" * 64, "checksum"),
        ("http://host/demo.mcpb#sha256=" + "0" * 64, "https://"),
        ("https://me:secret@host/demo.mcpb#sha256=" + "0" * 64, "no user, password"),
        ("https://host/demo.mcpb?token=1#sha256=" + "0" * 64, "no user, password"),
        ("mcpb:file:///etc/passwd#sha256=" + "0" * 64, "https://"),
        ("mcpb:https://[::1/x#sha256=" + "0" * 64, "URL"),
        ("mcpb:https://host:99999/x#sha256=" + "0" * 64, "URL"),
    ],
)
def test_a_bundle_on_the_web_needs_a_plain_address_and_a_checksum(source: str, why: str) -> None:
    with pytest.raises(SourceError) as error:
        parse(source)
    assert why in str(error.value).partition("Known forms")[0]
    assert "secret@" not in str(error.value)


def test_a_bundle_on_the_web_is_named_after_its_file() -> None:
    checksum = "#sha256=" + "0" * 64
    assert (
        suggest_name(parse(f"https://host/own/widget-mcp/releases/download/v1/thing.mcpb{checksum}"))
        == "thing"
    )
    assert (
        suggest_name(parse(f"https://host/own/widget-mcp/releases/download/v1/server.mcpb{checksum}"))
        == "widget"
    )
