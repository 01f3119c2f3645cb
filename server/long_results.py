"""Results too long for a model's context: cut to a limit, and read on in by handle."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from pydantic_core import to_json

from ..runners.errors import FaultError
from ..tools.caller import Caller
from ..tools.errors import StoreError
from ..tools.outcome import Outcome, RefusalError
from ..tools.pieces import beginning
from ..tools.results import OWNER_BYTES, SCHEME, Kept, KeptResults, TooLargeError, identity_of
from ..tools.shorten import shortened
from . import models_search as m
from .call import Call
from .server_tools import Handler

if TYPE_CHECKING:
    from ..tools.gateways.results import SharedResults

logger = logging.getLogger(__name__)

TEMPLATE = {
    "uriTemplate": SCHEME + "{id}{?offset,length}",
    "name": "results",
    "title": "Results that were too long",
    "description": "A tool's result that was cut, whole or in part: offset and length count characters. Kept for an "
    "hour, for the client that made the call.",
    "mimeType": "text/plain",
}

RESOURCE_NOT_FOUND = -32002

UNTOUCHED = frozenset({"read_result", "search_tools", "search_servers", "find_tool_gap", "ensure_tools"})
"""Own tools that keep to a size themselves."""

LONGEST_PART = 1_000_000
"""Characters `read_result` gives at once."""

_LONGEST_URI = 200


class LongResults:
    """The long results of one ToolScore.

    Args:
        kept: Where they are kept.
        limit: Tokens a result may have where a call says nothing; 0 for any.
    """

    def __init__(self, kept: KeptResults, limit: int = 0) -> None:
        self._kept = kept
        self.limit = limit
        self.shared: SharedResults | None = None
        """Where other gateways find them; `None` where there are no others."""
        self.handlers: dict[str, Handler] = {"read_result": self._read_result}

    async def limited(
        self, result: dict[str, Any], call: Call, max_tokens: int | None = None
    ) -> dict[str, Any]:
        """Give a result as its caller is to see it; the very same one where it is within the limit.

        The setting holds for models: neither for code in the sandbox, which takes results apart, nor for the command
        line. What a call asks for itself holds always.

        Args:
            result: The result of a tool.
            call: Who called it.
            max_tokens: The limit this call asks for.
        """
        limit = max_tokens or self.limit
        if not limit:
            return result
        if max_tokens is None and (call.caller.depth or call.origin == "cli" or _command(call.caller)):
            return result
        owner = self._owner(call.caller)
        made: list[tuple[Kept, str]] = []

        def keep(text: str, mime: str) -> Kept:
            try:
                kept = self._kept.keep(text, owner, mime)
                made.append((kept, text))
                return kept
            except TooLargeError:
                why = f"no result of more than {OWNER_BYTES >> 20} MiB is kept"
            except OSError as exc:
                why = f"it could not be written ({exc.strerror or exc})"
            logger.warning("a long result of %s cannot be kept: %s", call.caller.principal, why)
            return Kept("", mime, len(text), len(text.encode("utf-8", "replace")), lost=why)

        try:
            short = await asyncio.to_thread(shortened, result, limit, keep)
        except ValueError as exc:
            logger.warning("a long result is given whole, since it has no JSON form: %s", exc)
            return result
        for kept, text in made:
            await self._share(kept, text, call.caller)
        return short

    # --- those that other gateways have made

    def _owner(self, caller: Caller) -> Hashable:
        # Over the network, the next request may come to another gateway, where its connection is another one.
        return (caller.principal,) if self._travels(caller) else (caller.principal, caller.connection)

    def _travels(self, caller: Caller) -> bool:
        return self.shared is not None and caller.listener in ("http", "ws")

    async def _share(self, kept: Kept, text: str, caller: Caller) -> None:
        """Let other gateways give a result."""
        from ..tools.gateways.results import LARGEST

        identity = identity_of(kept.handle)
        if self.shared is None or identity is None or not self._travels(caller) or kept.bytes > LARGEST:
            return
        try:
            await self.shared.put(identity, caller.principal, kept.mime, text, kept.bytes)
        except StoreError as exc:
            logger.warning("a long result of %s can be read here only: %s", caller.principal, exc)

    async def _fetch(self, handle: str, caller: Caller) -> None:
        """Have a result here that another gateway has made."""
        identity, owner = identity_of(handle), self._owner(caller)
        if self.shared is None or identity is None or not self._travels(caller):
            return
        if await asyncio.to_thread(self._kept.has, handle, owner):
            return
        try:
            found = await self.shared.get(identity, caller.principal)
        except StoreError as exc:
            raise RefusalError(
                Outcome.UNAVAILABLE, f"This result cannot be looked up now: {exc} Try again.", retryAfter=1
            ) from exc
        if found is not None:
            text, mime = found
            with suppress(OSError, TooLargeError):
                await asyncio.to_thread(self._kept.keep, text, owner, mime, identity)

    async def resource(self, uri: str, caller: Caller, *, modern: bool) -> dict[str, Any]:
        """Give the result of reading one as a resource (MCP `ReadResourceResult`): all of it, or the part it names.

        Raises:
            FaultError: If there is no such result for this caller.
        """
        try:
            offset, length = _part(uri)
            await self._fetch(uri, caller)
            kept = await asyncio.to_thread(self._kept.look_up, uri, self._owner(caller))
            part = await asyncio.to_thread(self._kept.read, uri, self._owner(caller), offset, length)
        except RefusalError as exc:
            code = -32602 if modern else RESOURCE_NOT_FOUND
            raise FaultError(code, exc.message, {"uri": uri[:_LONGEST_URI]}) from exc
        whole = part.offset == 0 and part.next is None
        item: dict[str, Any] = {
            "uri": uri,
            "mimeType": kept.mime if whole else "text/plain",
            "text": part.text,
        }
        if not whole:
            item["_meta"] = {"toolscore/next": part.next, "toolscore/total": part.total}
        return {"contents": [item]}

    async def _read_result(self, args: m.ReadResultArguments, call: Call) -> m.ReadResultResult:
        handle = args.handle if "://" in args.handle else SCHEME + args.handle
        owner = self._owner(call.caller)
        await self._fetch(handle, call.caller)
        # A handle may name a part itself, as it would for a resource.
        offset, length = _part(handle)
        offset = args.offset if "offset" in args.model_fields_set else offset
        if args.pattern is not None:
            places, then, total = await asyncio.to_thread(
                self._kept.find, handle, owner, args.pattern, offset
            )
            matches = [m.ResultMatch(offset=place.offset, text=place.text) for place in places]
            page = m.ReadResultResult(matches=matches, offset=offset, next=then, total=total)
        else:
            if length is None or "length" in args.model_fields_set:
                length = args.length
            part = await asyncio.to_thread(self._kept.read, handle, owner, offset, min(length, LONGEST_PART))
            page = m.ReadResultResult(text=part.text, offset=part.offset, next=part.next, total=part.total)
        if args.max_tokens is None:
            return page
        return await asyncio.to_thread(_shorter, page, 4 * args.max_tokens)

    def close(self) -> None:
        """Forget all of them."""
        self._kept.close()


def _shorter(page: m.ReadResultResult, room: int) -> m.ReadResultResult:
    """Cut a page to so many bytes of what a client shows its model, and say where that ends."""
    if page.matches is not None:
        matches = list(page.matches)
        while _weight(page) > room and matches:
            if len(matches) > 1:
                then: int | None = matches.pop().offset
            else:
                matches, then = [matches[0].model_copy(update={"text": matches[0].text[:-20]})], page.next
            page = page.model_copy(update={"matches": matches, "next": then})
        return page
    text = page.text or ""
    if _weight(page) <= room:
        return page
    shorter = page.model_copy(update={"text": "", "next": page.total})
    low, high = 1, max(beginning(text, room - _weight(shorter)), 1)
    while low < high:
        middle = (low + high + 1) // 2
        if _weight(shorter.model_copy(update={"text": text[:middle]})) <= room:
            low = middle
        else:
            high = middle - 1
    return page.model_copy(update={"text": text[:low], "next": page.offset + low})


def _weight(page: m.ReadResultResult) -> int:
    text = page.model_dump_json(exclude_none=True)
    return len(to_json([{"type": "text", "text": text}]))


def _command(caller: Caller) -> bool:
    return caller.listener == "command"


def _part(uri: str) -> tuple[int, int | None]:
    query = parse_qs(urlsplit(uri[:_LONGEST_URI]).query)
    numbers: dict[str, int] = {}
    for name in ("offset", "length"):
        text = query.get(name, [""])[0]
        if text:
            if not text.isascii() or not text.isdecimal():
                raise RefusalError(
                    Outcome.INVALID_ARGUMENTS, f"The {name} of a part is a number of characters."
                )
            # No longer than any result: Python refuses to read the longest of numbers.
            numbers[name] = int(text[:18])
    if numbers.get("length") == 0:
        raise RefusalError(
            Outcome.INVALID_ARGUMENTS,
            "The length of a part is one character at the least: leave it out for all.",
        )
    return numbers.get("offset", 0), numbers.get("length")
