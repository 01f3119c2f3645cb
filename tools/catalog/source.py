"""What a source of entries is called, and what is sent along to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from ...runners.errors import RunnerError
from ...runners.template import expand
from ..header import split_header
from .errors import CatalogError


def is_address(source: str) -> bool:
    """Tell a registry from files."""
    return source.lower().startswith(("http://", "https://"))


def normal(source: str) -> str:
    """Give a source in the one form it is kept under.

    Raises:
        CatalogError: If it is none.
    """
    text = source.strip()
    if text.lower().startswith("file://"):
        from urllib.request import url2pathname

        text = url2pathname(text[7:].removeprefix("localhost"))
    if not text or not text.isprintable() or len(text) > 2048:
        raise CatalogError("A source is the address of a registry, or the path of a file or a folder.")
    if is_address(text):
        parts = _parts(text)
        if parts is None or not parts.hostname:
            raise CatalogError(
                "The source is no address of a registry; one is such as https://registry.example."
            )
        if parts.username or parts.password or parts.query:
            raise CatalogError(
                "The address of a registry holds no user, password or query: give its token in catalog.headers."
            )
        return text.rstrip("/")
    if "://" in text:
        raise CatalogError("The source is neither an http(s) address nor a path.")
    try:
        return os.path.abspath(Path(text).expanduser())  # noqa: PTH100 - tidies `..`, keeps links
    except (RuntimeError, OSError) as error:
        raise CatalogError(f"The path {text} cannot be used: {error}.") from error


def placed(source: str, folder: str | Path | None) -> str:
    """Give the path of a file or folder as one that means the same everywhere; an address stays as it is.

    Args:
        source: The source, as somebody gave it.
        folder: Where a relative path begins; `None` where that is not known.
    """
    text = source.strip()
    if folder is None or not text or "://" in text or text.startswith("~"):
        return source
    return os.path.normpath(Path(folder) / text)


_FORM = "https://REGISTRY HEADER: VALUE"


def split_line(line: str) -> tuple[str, str, str]:
    """Take a line `SOURCE HEADER: VALUE` apart.

    Raises:
        ValueError: If it is none, or its value is not by reference.
    """
    source, _, rest = line.strip().partition(" ")
    if not is_address(source):
        raise ValueError(f"it is not of the form {_FORM}")
    return source.rstrip("/"), *split_header(rest, _FORM)


def headers_for(
    source: str,
    lines: Iterable[str],
    variable: Callable[[str], str | None],
    secret: Callable[[str], str | None],
) -> dict[str, str]:
    """Give the headers of one registry, with their values.

    Raises:
        CatalogError: If one has no value, or would be sent unencrypted.
    """
    found: dict[str, str] = {}
    for line in lines:
        try:
            where, name, value = split_line(line)
        except ValueError as error:
            raise CatalogError(f"catalog.headers cannot be used: {error}.") from error
        if source != where and not source.startswith(f"{where}/"):
            continue
        if source.lower().startswith("http://") and not _here(source):
            raise CatalogError(
                f"{source} is not encrypted, so what catalog.headers has for it is not sent. Use its https address."
            )
        try:
            filled = expand(value, f"catalog.headers ({name})", variable, secret, {})
        except RunnerError as error:
            told = str(error).replace(", and start the server again", ", and sync again")
            raise CatalogError(told) from error
        if not filled.isprintable() or not filled.isascii():
            raise CatalogError(
                f"The value of the header {name} for {source} cannot be sent: it is no plain line of text."
            )
        found[name] = filled
    return found


def _parts(text: str) -> SplitResult | None:
    try:
        return urlsplit(text)
    except ValueError:  # such as http://[
        return None


def _here(source: str) -> bool:
    return (urlsplit(source).hostname or "") in ("localhost", "127.0.0.1", "::1")
