"""What a listener answers at `/`: to a browser the dashboard."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..endpoint import Endpoint
from .page import TYPE, built, headers

Header = Callable[[str], str | Sequence[str] | None]


def wants_html(header: Header) -> bool:
    """Tell whether a browser asks, which names HTML among what it accepts; programs say nothing, or `*/*`."""
    return any(kind.partition(";")[0].strip().lower() == "text/html" for kind in _values(header, "accept"))


def answered(endpoint: Endpoint, header: Header, *, token: bool) -> tuple[int, str, bytes, dict[str, str]]:
    """Answer a browser.

    Args:
        endpoint: What it asked at.
        header: Gives the headers of its request.
        token: Whether a token is needed there.

    Returns:
        Status, content type, body and headers.
    """
    page = built("ws" if endpoint.scheme in ("ws", "wss") else "http", endpoint.path, token=token)
    if page.tag in {tag.strip().removeprefix("W/") for tag in _values(header, "if-none-match")}:
        return 304, TYPE, b"", headers(page, packed=False)
    packed = any(_takes_gzip(coding) for coding in _values(header, "accept-encoding"))
    return 200, TYPE, page.packed if packed else page.text, headers(page, packed=packed)


def _takes_gzip(coding: str) -> bool:
    name, _, weight = coding.partition(";")
    return name.strip().lower() == "gzip" and weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00")


def _values(header: Header, name: str) -> list[str]:
    found = header(name)
    lines = [found] if isinstance(found, str) else found or []
    return [value for line in lines for value in line.split(",")]
