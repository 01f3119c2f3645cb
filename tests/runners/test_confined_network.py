"""Confined servers with the network find names, certificates and what listens; without they find none of it."""

from __future__ import annotations

import json
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from certificate import self_signed
from confined import NEEDS, server
from helpers import runner_at
from toolscore.runners.confinement import Confinement

pytestmark = NEEDS

FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/services")

CODE = """
import json, socket, ssl, sys, urllib.request
said = {}
def tell(name, attempt):
    try: said[name] = attempt()
    except (OSError, ValueError) as error: said[name] = type(error).__name__
for path in %(files)r: tell(path, lambda: len(open(path).read()))
tell("localhost", lambda: sorted({entry[4][0] for entry in socket.getaddrinfo("localhost", 80)}))
tell("trusted", lambda: ssl.create_default_context(cafile=None).cert_store_stats()["x509_ca"] > 0)
tell("answer", lambda: urllib.request.urlopen("https://localhost:%(port)d/", timeout=15).read().decode())
print(json.dumps(said), file=sys.stderr)
"""


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"over TLS")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def https(folder: Path) -> Iterator[tuple[int, Path]]:
    """A web server with a certificate of its own; its port, and the certificate."""
    certificate, key = self_signed(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with HTTPServer(("127.0.0.1", 0), Answer) as listener:
        listener.socket = context.wrap_socket(listener.socket, server_side=True)
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield listener.server_port, certificate
        finally:
            listener.shutdown()
            thread.join()


async def said(folder: Path, port: int, profile: Confinement, **env: str) -> dict[str, Any]:
    code = CODE % {"files": FILES, "port": port}
    runner = runner_at(folder)
    given = {"command": sys.executable, "args": ("-I", "-S", "-c", code), "env": env}
    child = await runner.start_server(server(folder, "python", profile, **given))
    try:
        assert await child.ended_within(60)
        told: dict[str, Any] = json.loads(child.stderr_tail().strip().splitlines()[-1])
        return told
    finally:
        await runner.stop_server("probing", 0)
        await runner.aclose()


async def test_with_the_network_names_and_certificates_are_found(tmp_path: Path) -> None:
    with https(tmp_path) as (port, certificate):
        # It lies among the temporary files, which are hidden: what is named as trusted can be read nevertheless.
        told = await said(tmp_path, port, Confinement(network=True), SSL_CERT_FILE=str(certificate))
        for path in FILES:
            if Path(path).is_file():
                assert told[path] == len(Path(path).read_text())
        assert "127.0.0.1" in told["localhost"]
        assert told["trusted"] is True
        assert told["answer"] == "over TLS"
        assert (await said(tmp_path, port, Confinement(network=True)))["answer"] == "URLError"


async def test_without_it_nothing_is_reached(tmp_path: Path) -> None:
    with https(tmp_path) as (port, certificate):
        told = await said(tmp_path, port, Confinement(), SSL_CERT_FILE=str(certificate))
        assert told["answer"] == "URLError"


@pytest.mark.index
async def test_with_the_network_the_package_index_answers_node_and_python(tmp_path: Path) -> None:
    """Names of the world and the system's certificates: npm is asked for a package's version, confined."""
    import shutil

    if (npm := shutil.which("npm")) is None:
        pytest.skip("no npm here")
    for network, status in ((True, 0), (False, 1)):
        runner = runner_at(tmp_path)
        given = {"command": npm, "args": ("view", "is-number@7.0.0", "version")}
        child = await runner.start_server(server(tmp_path, "python", Confinement(network=network), **given))
        assert await child.ended_within(180)
        assert child.returncode == status, child.stderr_tail()
        await runner.stop_server("probing", 0)
        await runner.aclose()
