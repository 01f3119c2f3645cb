"""Who has a TCP port of this machine: by server, where it is one of ours, otherwise by process.

Looking at every process's sockets takes milliseconds to tens of them, so all of this is for another thread.
"""

from __future__ import annotations

import ipaddress
import os
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psutil

from .environment import MARKER
from .ports import is_taken

DELEGATES = frozenset({"docker", "podman", "nerdctl", "finch", "ssh", "systemd-run"})
"""Programs that may have another process, which they did not start, listen for them."""

LONGEST_COMMAND = 120
"""Characters of a command line that are shown."""

Pids = Mapping[str, int]
"""The process of each server of this ToolScore."""


def local_port(url: str) -> tuple[str, int] | None:
    """Give host and port of a url on this machine; `None` for one elsewhere, or that cannot be understood."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    try:
        port = parts.port or (443 if parts.scheme in ("https", "wss") else 80)
    except ValueError:
        return None
    if host == "localhost" or host.endswith(".localhost"):
        return host, port
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if address.is_loopback or address.is_unspecified:
        return host, port
    own = {entry.address for entries in psutil.net_if_addrs().values() for entry in entries}
    return (host, port) if host in own else None


def taken(host: str, port: int, servers: Pids) -> str | None:
    """Tell who has a port that a server is about to listen on.

    Args:
        host: The host of its url.
        port: The port.
        servers: The processes of this ToolScore's servers.

    Returns:
        Who has it, such as `server 'x' of this ToolScore`; `None` if nobody does.
    """
    if not any(is_taken(port, address) for address in _addresses(host)):
        return None
    return owner(host, port, servers)


def owner(host: str, port: int, servers: Pids) -> str:
    """Say who has a port that somebody has."""
    sockets = [one for one in _sockets() if one.port == port and _meets(one.ip, host)]
    sockets.sort(key=lambda one: not one.listens)
    if pids := [one.pid for one in sockets if one.pid is not None]:
        return _described(pids[0], servers)
    if any(one.listens for one in sockets):
        return "another user's process"
    # Such as connections that ended a moment ago, which the system keeps for a minute.
    return "a connection that ended just now" if sockets else "a process that cannot be seen"


def stranger(host: str, port: int, pid: int, servers: Pids) -> str | None:
    """Tell who answers on a server's port in its stead.

    Args:
        host: The host of its url.
        port: The port it is to listen on, and somebody does.
        pid: Its process.
        servers: The processes of this ToolScore's servers.

    Returns:
        Who that is; `None` where it is the server itself, or that cannot be known.
    """
    listeners = {one.pid for one in _sockets() if one.listens and one.port == port and _meets(one.ip, host)}
    if not listeners or None in listeners:
        return None
    pids = [one for one in listeners if one is not None]
    server = next(filter(None, (_server_of(one, servers) for one in pids)), None)
    if server is not None:
        return None if servers[server] == pid else _described(pids[0], servers)
    tree = _tree(pid)
    if any(one in tree or _marked_alike(one, pid) for one in pids):
        return None
    if any(Path(_name(one)).stem in DELEGATES for one in tree):
        return None
    # One that was started since may have been started by another program on the server's behalf.
    since = _started(pid)
    if since is None or any((_started(one) or since) >= since for one in pids):
        return None
    return _described(pids[0], servers)


class _Socket(NamedTuple):
    ip: str
    port: int
    listens: bool
    pid: int | None


def _sockets() -> list[_Socket]:
    """Give the TCP sockets of this machine, as far as this user may see them."""
    found: list[tuple[Any, int | None]] = []
    try:
        found += [(one, one.pid) for one in psutil.net_connections("tcp")]
    except psutil.AccessDenied:  # macOS shows all of them to root only, but to everybody their own processes'
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                found += [(one, process.pid) for one in process.net_connections("tcp")]
    return [
        _Socket(one.laddr.ip, one.laddr.port, one.status == psutil.CONN_LISTEN, pid)
        for one, pid in found
        if one.laddr
    ]


def _addresses(host: str) -> tuple[str, ...]:
    """Give the addresses a server with such a url may listen on; clients may come by any of them."""
    try:
        return (str(ipaddress.ip_address(host)),)
    except ValueError:
        return ("127.0.0.1", "::1")


def _meets(ip: str, host: str) -> bool:
    """Tell whether a socket at an address is in the way of, or reached by, a host name."""
    everywhere = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on
    wanted = _addresses(host)
    return ip in everywhere or wanted[0] in everywhere or ip.removeprefix("::ffff:") in wanted


def _described(pid: int, servers: Pids) -> str:
    if (server := _server_of(pid, servers)) is not None:
        return f"server '{server}' of this ToolScore"
    if pid == os.getpid():
        return "this ToolScore itself"
    try:
        process = psutil.Process(pid)
        name = process.name()
        details = [f"process {pid}"]
        with suppress(psutil.Error, ValueError):
            program, *arguments = process.cmdline()
            command = " ".join(shlex.join([Path(program).name, *arguments]).split())
            details.append(f"`{command[:LONGEST_COMMAND]}{'…' if len(command) > LONGEST_COMMAND else ''}`")
        with suppress(psutil.Error, KeyError):
            details.append(f"user {process.username()}")
    except psutil.Error:
        return f"process {pid}"
    return f"{name} ({', '.join(details)})"


def _server_of(pid: int, servers: Pids) -> str | None:
    """Tell which server started a process, by whatever way."""
    for server, leader in servers.items():
        if pid == leader:
            return server
    ancestors: set[int] = set()
    with suppress(psutil.Error):
        ancestors = {one.pid for one in psutil.Process(pid).parents()}
    for server, leader in servers.items():
        if leader in ancestors or _marked_alike(pid, leader):
            return server
    return None


def _marked_alike(one: int, other: int) -> bool:
    """Tell whether two processes carry the marker of the same server."""
    mark = _marker(one)
    return mark is not None and mark == _marker(other)


def _marker(pid: int) -> str | None:
    try:
        return psutil.Process(pid).environ().get(MARKER)
    except (psutil.Error, OSError):
        return None


def _tree(pid: int) -> set[int]:
    try:
        return {pid, *(one.pid for one in psutil.Process(pid).children(recursive=True))}
    except psutil.Error:
        return {pid}


def _name(pid: int) -> str:
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return ""


def _started(pid: int) -> float | None:
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None
