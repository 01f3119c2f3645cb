"""Whether there is an engine, for the doctor: asked once, without the extra and without an event loop."""

from __future__ import annotations

import http.client
import importlib.util
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..errors import MachineAwayError
from .address import Address, find

PATIENCE = 3.0
"""Seconds an engine has to answer."""

EXTRA = "pip install 'toolscore[docker]'"


@dataclass(frozen=True, slots=True)
class Probed:
    """What was found.

    Attributes:
        status: `ok`; `warn`: there is something, which cannot be used as it is; `missing`: there is none.
        found: It, in words.
        advice: What to do; empty where there is nothing to do.
    """

    status: Literal["ok", "warn", "missing"]
    found: str
    advice: str = ""


def look(setting: str, environ: Mapping[str, str]) -> Probed:
    """Look for an engine.

    Args:
        setting: The setting `docker.host`.
        environ: ToolScore's environment.
    """
    lacking = [name for name in ("aiodocker", "aiohttp") if importlib.util.find_spec(name) is None]
    try:
        address = find(setting, environ)
    except MachineAwayError as error:
        asked = bool(setting or environ.get("DOCKER_HOST"))
        advice = (
            "correct docker.host or DOCKER_HOST"
            if asked
            else "install and start one to run servers in containers" + f", and {EXTRA}" * bool(lacking)
        )
        return Probed("warn" if asked else "missing", error.message.partition(":")[0], advice)
    try:
        told = _version(address)
    except (OSError, http.client.HTTPException, ValueError) as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        advice = "start it, and see that this user may use its socket (such as by the group docker)"
        return Probed("warn", f"{address.text} cannot be used: {said}", advice)
    found = f"{told.get('Version')} (API {told.get('ApiVersion')}) at {address.text}"
    if lacking:
        return Probed("warn", f"{found}, and the extra is not installed", EXTRA)
    return Probed("ok", found)


class _Connection(http.client.HTTPConnection):
    """HTTP over whatever the address says."""

    def __init__(self, address: Address) -> None:
        super().__init__(address.host or "docker", address.port or 80, timeout=PATIENCE)
        self._address = address

    def connect(self) -> None:
        if self._address.socket is None:
            super().connect()
            if self._address.tls is not None:
                self.sock = self._address.tls.wrap_socket(self.sock, server_hostname=self._address.host)
            return
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self._address.socket)


def _version(address: Address) -> dict[str, str]:
    connection = _Connection(address)
    try:
        connection.request("GET", "/version")
        answer = connection.getresponse()
        told = json.loads(answer.read(1 << 20))
    finally:
        connection.close()
    if not isinstance(told, dict) or "ApiVersion" not in told:
        raise ValueError("what answers there is no Docker engine")
    return told
