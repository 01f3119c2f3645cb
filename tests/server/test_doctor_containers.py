"""What the doctor says of a Docker engine."""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path

import pytest

from toolscore.runners.docker.probe import look


def test_where_there_is_no_engine_the_usual_places_are_told_as_missing(tmp_path: Path) -> None:
    found = look(f"unix://{tmp_path}/none.sock", {})
    assert found.status == "warn"
    assert "none.sock" in found.found
    assert found.advice


@pytest.mark.parametrize("address", ["ssh://host", "unix://relative", "tcp://", "what"])
def test_an_address_that_cannot_be_used_is_told(address: str) -> None:
    found = look(address, {})
    assert found.status == "warn"
    assert "docker.host" in found.advice


@pytest.mark.skipif(sys.platform == "win32", reason="no Unix sockets")
def test_something_else_that_answers_is_no_engine(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()

        def answer() -> None:
            peer, _ = listening.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

        thread = threading.Thread(target=answer)
        thread.start()
        found = look(f"unix://{path}", {})
        thread.join()
    assert found.status == "warn"
    assert "no Docker engine" in found.found


def test_without_the_extra_installing_an_image_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolscore.runners.docker.runner import DockerRunner
    from toolscore.runners.errors import InstallError
    from toolscore.runners.means import Means
    from toolscore.runners.process import ProcessOptions

    monkeypatch.setitem(sys.modules, "aiodocker", None)
    means = Means(ProcessOptions(servers=tmp_path, logs=tmp_path, run=tmp_path))
    with pytest.raises(InstallError, match=r"pip install 'toolscore\[docker\]'"):
        DockerRunner(means)
