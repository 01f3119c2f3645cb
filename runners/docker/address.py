"""Where the engine is: what is set, `DOCKER_HOST`, or the first of the usual sockets that is there."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import MachineAwayError


@dataclass(frozen=True, slots=True)
class Address:
    """An engine's address.

    Attributes:
        text: It, as in `DOCKER_HOST`, for messages.
        socket: Path of its Unix socket, if it has one.
        host: Its machine, if it is reached by TCP,
        port: and its port there.
        tls: What its connections are encrypted and proved by; `None` for plain TCP.
    """

    text: str
    socket: str | None = None
    host: str | None = None
    port: int = 0
    tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        """It as aiodocker wants it."""
        if self.socket is not None:
            return f"unix://{self.socket}"
        host = f"[{self.host}]" if ":" in (self.host or "") else self.host
        return f"{'http' if self.tls is None else 'https'}://{host}:{self.port}"


def usual_sockets(environ: Mapping[str, str]) -> list[str]:
    """Give where an engine's socket usually is: Docker's, that of a rootless one, then podman's."""
    home = environ.get("HOME", "")
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    found = ["/var/run/docker.sock", "/run/docker.sock"]
    found += [f"{runtime}/docker.sock"] if runtime else []
    found += [f"{home}/.docker/run/docker.sock", f"{home}/.docker/desktop/docker.sock"] if home else []
    found += [f"{runtime}/podman/podman.sock"] if runtime else []
    return [*found, "/run/podman/podman.sock"]


def configure(setting: str, environ: Mapping[str, str]) -> None:
    """Remember where the engine of this ToolScore is, for who only wants to know whether there is one."""
    _CONFIGURED[:] = [(setting, environ)]


def usual() -> Address:
    """Give where the engine is that was configured last.

    Raises:
        MachineAwayError: As `find` does.
    """
    setting, environ = _CONFIGURED[0] if _CONFIGURED else ("", os.environ)
    return find(setting, environ)


_CONFIGURED: list[tuple[str, Mapping[str, str]]] = []


def find(setting: str, environ: Mapping[str, str]) -> Address:
    """Find the engine.

    Args:
        setting: The setting `docker.host`; empty where nothing is set.
        environ: ToolScore's environment.

    Raises:
        MachineAwayError: If there is none, or its address is none that can be used.
    """
    text = setting or environ.get("DOCKER_HOST", "")
    if not text:
        for path in usual_sockets(environ):
            if Path(path).is_socket():
                return Address(f"unix://{path}", socket=path)
        raise MachineAwayError(
            "There is no Docker engine here: no DOCKER_HOST is set, and none of the usual sockets exists "
            f"({', '.join(usual_sockets(environ))}). Install and start one, or set docker.host to its address."
        )
    return parse(text, environ)


def parse(text: str, environ: Mapping[str, str]) -> Address:
    """Read an address.

    Raises:
        MachineAwayError: If it cannot be used.
    """
    where = f"The Docker engine's address {text!r}"
    if text.startswith("unix://"):
        path = text.removeprefix("unix://")
        if not path.startswith("/"):
            raise MachineAwayError(f"{where} names no absolute path: write unix:///PATH.")
        return Address(text, socket=path)
    parts = urlsplit(text)
    if parts.scheme not in ("tcp", "http", "https"):
        raise MachineAwayError(
            f"{where} cannot be used: write unix:///PATH, tcp://HOST:PORT or https://HOST:PORT. An engine behind ssh "
            "is reached by forwarding its socket: ssh -nNT -L /PATH/docker.sock:/var/run/docker.sock HOST."
        )
    encrypted = parts.scheme == "https" or environ.get("DOCKER_TLS_VERIFY", "") not in ("", "0")
    try:
        port = parts.port or (2376 if encrypted else 2375)
    except ValueError as error:
        raise MachineAwayError(f"{where} cannot be used: {error}.") from None
    if not parts.hostname:
        raise MachineAwayError(f"{where} names no host.")
    return Address(text, host=parts.hostname, port=port, tls=_tls(environ) if encrypted else None)


def _tls(environ: Mapping[str, str]) -> ssl.SSLContext:
    """Make what proves both sides, from the files that Docker keeps for it."""
    context = ssl.create_default_context()
    folder = environ.get("DOCKER_CERT_PATH")
    if folder:
        try:
            context.load_verify_locations(cafile=f"{folder}/ca.pem")
            context.load_cert_chain(f"{folder}/cert.pem", f"{folder}/key.pem")
        except (OSError, ssl.SSLError) as error:
            raise MachineAwayError(
                f"DOCKER_CERT_PATH is {folder}, and its ca.pem, cert.pem and key.pem cannot be used: {error}."
            ) from None
    return context
