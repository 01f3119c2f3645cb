"""A registry over HTTP: pages of `GET /v0.1/servers` and single entries, as the MCP registry and its likes do.

Nothing it says is believed without a look: how much, how fast, in what form, and from where.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from pydantic_core import from_json

from ...runners.remote import shown
from .entry import said
from .errors import CursorRefusedError, SourceUnavailableError

if TYPE_CHECKING:
    import httpx2

PAGE = 100
"""Entries that are asked for at once: the most that the official registry gives."""

FEWER = 10
"""By how much fewer are asked for where a page is too large."""

MARKS = 250_000
"""Values of one page at the most, by the marks that begin or part them; a page of a hundred entries has some
thousands. Small values, such as 3 million empty lists, take a hundred times their length in memory."""

REDIRECTS = 3
_LONGEST_CURSOR = 4096
_PATHS = ("/v0.1/servers", "/v0/servers")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long and how often a registry is waited for.

    Attributes:
        page: Seconds one page may take, however slowly it comes.
        idle: Seconds without a byte.
        tries: How often a page is asked for when the registry is down or busy.
        pause: Seconds before the second try; twice that before the third, and so on.
        longest_pause: Seconds it may ask to be left alone; beyond that the sync ends.
        largest: Bytes of one page, unpacked.
    """

    page: float = 60.0
    idle: float = 20.0
    tries: int = 3
    pause: float = 1.0
    longest_pause: float = 30.0
    largest: int = 4 << 20


@dataclass(frozen=True, slots=True)
class Page:
    """One page.

    Attributes:
        items: What it lists, unseen.
        cursor: Where the next one begins; `None` after the last.
        at: When it was sent, by the clock of the registry, or by that here where the registry does not tell.
    """

    items: list[Any]
    cursor: str | None
    at: datetime


class _TooLargeError(SourceUnavailableError):
    """A page is larger than a page may be."""


class Registry:
    """One registry, for as long as the context lasts.

    Args:
        url: Its base address, or that of its list of servers.
        headers: Sent with every request.
        patience: How long it is waited for.
    """

    def __init__(self, url: str, headers: Mapping[str, str], patience: Patience) -> None:
        self._base = url.partition("#")[0].rstrip("/")
        self._headers = {**headers, "Accept": "application/json", "Accept-Encoding": "gzip"}
        self._patience = patience
        self._client: httpx2.AsyncClient | None = None
        self._list: str | None = None

    async def __aenter__(self) -> Registry:
        import httpx2

        timeout = httpx2.Timeout(self._patience.idle, connect=min(10.0, self._patience.idle))
        # A proxy of the environment leads nowhere from this machine to itself; anywhere else it is the way out.
        self._client = httpx2.AsyncClient(
            timeout=timeout, trust_env=not _on_this_machine(self._base), follow_redirects=False
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._client is not None
        await self._client.aclose()

    async def page(self, cursor: str | None, since: str | None) -> Page:
        """Ask for one page.

        Args:
            cursor: Where it begins, as the page before said; `None` for the first.
            since: Only what changed since (RFC 3339); all when `None`.

        Raises:
            SourceUnavailableError: If there is none; what it says is for whoever runs the sync.
            CursorRefusedError: If the registry does not know the cursor (any more).
        """
        limit = PAGE
        while True:
            try:
                return await self._page(cursor, since, limit)
            except _TooLargeError:
                if limit < FEWER:
                    raise
                limit //= FEWER

    async def _page(self, cursor: str | None, since: str | None, limit: int) -> Page:
        query = {"limit": str(limit)}
        if cursor is not None:
            query["cursor"] = cursor
        if since is None:
            query["version"] = "latest"
        else:  # of all versions: one that is withdrawn is the newest no more
            query["updated_since"] = since
        for url in [self._list] if self._list else _lists(self._base):
            status, body, headers = await self._patiently(url, query)
            if status == 404 and self._list is None and url != _lists(self._base)[-1]:
                continue
            if cursor is not None and status in (400, 404, 410, 422):
                raise CursorRefusedError(
                    f"{self._shown} does not know any more where the last sync broke off."
                )
            if status != 200:
                raise self._refused(status, body)
            self._list = url
            return await asyncio.to_thread(self._read, body, headers)
        raise AssertionError("there is always a list to ask for")

    async def entry(self, name: str, version: str) -> Any:
        """Ask for one version of one server.

        Args:
            name: Its name.
            version: Which; `latest` for the newest.

        Returns:
            The entry, unseen; `None` if there is none.

        Raises:
            SourceUnavailableError: If the registry does not answer, or not with that entry.
        """
        for url in [self._list] if self._list else _lists(self._base):
            one = f"{url}/{quote(name, safe='')}/versions/{quote(version, safe='')}"
            status, body, _headers = await self._patiently(one, {})
            if status in (404, 410):
                continue
            if status != 200:
                raise self._refused(status, body)
            found = await asyncio.to_thread(self._decoded, body)
            inner = found.get("server", found) if isinstance(found, dict) else None
            if not isinstance(inner, dict) or str(inner.get("name")).lower() != name.lower():
                raise SourceUnavailableError(
                    f"{self._shown} was asked for {name} and answered with something else. Check the address."
                )
            return found
        return None

    @property
    def _shown(self) -> str:
        return shown(self._base)

    async def _patiently(self, url: str, query: Mapping[str, str]) -> tuple[int, bytes, Mapping[str, str]]:
        """Ask again where that may help."""
        import httpx2

        patience = self._patience
        why = ""
        for attempt in range(1, patience.tries + 1):
            pause = patience.pause * 2 ** (attempt - 1)
            try:
                async with asyncio.timeout(patience.page):
                    status, body, headers = await self._get(url, query)
            except TimeoutError:
                why = f"it did not send a whole page within {patience.page:g} s"
            except httpx2.InvalidURL as exc:
                raise SourceUnavailableError(f"{self._shown} is not an address: {exc}.") from exc
            except httpx2.TimeoutException:
                why = f"it sent nothing for {patience.idle:g} s"
            except (httpx2.HTTPError, OSError) as exc:
                why = said(str(exc), 200) or type(exc).__name__
            else:
                if status not in (429, 500, 502, 503, 504):
                    return status, body, headers
                why = f"it answered with HTTP status {status}"
                pause = max(pause, _seconds(headers.get("retry-after")))
            if attempt == patience.tries or pause > patience.longest_pause:
                break
            await asyncio.sleep(pause)
        raise SourceUnavailableError(
            f"{self._shown} cannot be read: {why.rstrip('.')}. Check the address and the network; what is in the "
            "catalog stays usable, and the next sync goes on from here."
        )

    async def _get(self, url: str, query: Mapping[str, str]) -> tuple[int, bytes, Mapping[str, str]]:
        from mcp.shared._httpx_utils import next_request_within_origin

        assert self._client is not None
        request = self._client.build_request("GET", url, params=dict(query), headers=self._headers)
        for _hop in range(REDIRECTS + 1):
            response = await self._client.send(request, stream=True)
            try:
                if not response.has_redirect_location:
                    return response.status_code, await self._body(response), response.headers
                following = next_request_within_origin(response)
                if following is None:
                    where = said(_without_secrets(response.headers.get("location", "")), 200)
                    raise SourceUnavailableError(
                        f"{self._shown} sends to another place ({where}), which is not followed. If you trust it, "
                        "name that address as the source."
                    )
                request = following
            finally:
                await response.aclose()
        raise SourceUnavailableError(f"{self._shown} sends around in circles. Check the address.")

    async def _body(self, response: httpx2.Response) -> bytes:
        """Read a body as long as it is not too large, unpacked too."""
        largest = self._patience.largest
        coding = response.headers.get("content-encoding", "identity").strip().lower()
        if coding not in ("gzip", "x-gzip", "identity", ""):
            raise SourceUnavailableError(
                f"{self._shown} packs its answers in a way nobody asked for ({coding!r:.40})."
            )
        unpacked = zlib.decompressobj(wbits=31) if coding.endswith("gzip") else None
        parts: list[bytes] = []
        size = 0
        async for chunk in response.aiter_raw():
            try:
                part = unpacked.decompress(chunk, largest - size + 1) if unpacked else chunk
            except zlib.error as exc:
                raise SourceUnavailableError(
                    f"{self._shown} sent a page that cannot be unpacked: {exc}."
                ) from exc
            parts.append(part)
            size += len(part)
            if size > largest:
                raise self._too_large(f"{largest / (1 << 20):g} MiB")
        return b"".join(parts)

    def _too_large(self, than: str) -> _TooLargeError:
        return _TooLargeError(
            f"{self._shown} sent a page of more than {than}, also when it was asked for single entries, which is no "
            "page of a registry. A list that is kept in one piece can be saved to a file, and that be named as the "
            "source."
        )

    def _decoded(self, body: bytes) -> Any:
        """Read a page that is not more than a page; nothing else gets a turn meanwhile, in whatever thread."""
        if sum(map(body.count, (b",", b"{", b"["))) > MARKS:
            raise self._too_large(f"{MARKS} values")
        return decoded(body)

    def _read(self, body: bytes, headers: Mapping[str, str]) -> Page:
        found = self._decoded(body)
        kind = headers.get("content-type", "")
        if found is None:
            said_kind = said(kind.partition(";")[0], 60) or "something without a type"
            raise SourceUnavailableError(
                f"{self._shown} answered with {said_kind} that is not valid JSON, so it is no registry, or one in "
                "trouble. Check the address; it is that of the registry without /v0.1/servers."
            )
        items = found.get("servers") if isinstance(found, dict) else None
        if not isinstance(items, list):
            raise SourceUnavailableError(
                f"{self._shown} answered with JSON without a list 'servers', so it is no registry. Check the address."
            )
        metadata = found.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        cursor = metadata.get("nextCursor") or metadata.get("next_cursor") or None
        if cursor is not None and (
            not isinstance(cursor, str) or len(cursor) > _LONGEST_CURSOR or not cursor.isprintable()
        ):
            raise SourceUnavailableError(f"{self._shown} gave a cursor for the next page that is none.")
        return Page(items, cursor, _sent(headers.get("date")))

    def _refused(self, status: int, body: bytes) -> SourceUnavailableError:
        if status in (401, 403):
            return SourceUnavailableError(
                f"{self._shown} wants to know who asks (HTTP status {status}). Name its token in the setting "
                f'catalog.headers, such as "{self._shown} Authorization: Bearer ${{REGISTRY_TOKEN}}", and set that '
                "variable; if it is set, the token is not right."
            )
        if status == 404:
            return SourceUnavailableError(
                f"{self._shown} has no {_PATHS[0]} (HTTP status 404), so it is no registry. Check the address."
            )
        told = decoded(body[:10_000])
        told = said(told.get("error") or told.get("detail"), 200) if isinstance(told, dict) else ""
        return SourceUnavailableError(
            f"{self._shown} answered with HTTP status {status}{': ' if told else ''}{told}. Try again later, or "
            "check the address."
        )


def decoded(body: bytes) -> Any:
    """Read JSON as leniently as can be: one odd number or character must not lose a page. `None` if it is none."""
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError:
        pass  # what the standard library reads may be read all the same
    try:
        return json.loads(body, parse_int=_number, parse_constant=lambda _text: None)
    except (ValueError, RecursionError):
        return None


def _number(text: str) -> int | None:
    return int(text) if len(text) < 1000 else None


def _lists(base: str) -> list[str]:
    """Give where the list of servers may be."""
    if base.endswith("/servers"):
        return [base]
    if base.endswith(("/v0.1", "/v0")):
        return [f"{base}/servers"]
    return [base + path for path in _PATHS]


def _seconds(text: str | None) -> float:
    try:
        value = float(text or 0)
    except ValueError:
        return 0.0
    return value if 0 <= value < 1e6 else 0.0


def _sent(text: str | None) -> datetime:
    """Give the moment of a header `Date`; now where there is none."""
    try:
        return parsedate_to_datetime(text or "").astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return datetime.now(UTC)


def _without_secrets(url: str) -> str:
    try:
        return shown(url)
    except ValueError:
        return "what is no address"


def _on_this_machine(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
