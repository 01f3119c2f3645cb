"""Where spans are sent, and with which headers."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit, urlunsplit

from ...runners.template import expand
from ..header import split_header

Lookup = Callable[[str], str | None]

TRACES = "/v1/traces"
"""Path of a collector for traces (OTLP/HTTP), behind what the address has already."""


def traces_address(text: str) -> str:
    """Give the address spans are posted to.

    Raises:
        ValueError: If it is none, or has a user or a query in it, where secrets would be.
    """
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError as error:
        raise ValueError(f"it is no address: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError("it is not of the form http://HOST:PORT or https://HOST")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError(
            "it has more in it than host, port and path; secrets belong into journal.otlp_headers"
        )
    path = parts.path.rstrip("/")
    return urlunsplit(parts._replace(path=path if path.endswith(TRACES) else path + TRACES))


def headers_for(address: str, lines: Iterable[str], variable: Lookup, secret: Lookup) -> dict[str, str]:
    """Give the headers with their values.

    Raises:
        ValueError: If one has no value that can be sent, or would be sent unencrypted to another machine.
    """
    from ...runners.errors import RunnerError

    found = {}
    for line in lines:
        name, value = split_header(line)
        if address.startswith("http://") and not _here(address):
            raise ValueError(
                "journal.otlp_endpoint is not encrypted, so journal.otlp_headers are not sent to it"
            )
        try:
            filled = expand(value, f"journal.otlp_headers ({name})", variable, secret, {})
        except RunnerError as error:
            raise ValueError(str(error)) from error
        if not filled.isprintable() or not filled.isascii():
            raise ValueError(f"the value of the header {name} cannot be sent: it is no plain line of text")
        found[name] = filled
    return found


def _here(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
