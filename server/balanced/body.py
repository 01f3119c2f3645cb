"""The body of an HTTP request, read whole, and given once more to whoever serves it (ASGI)."""

from __future__ import annotations

from starlette.types import Message, Receive


async def whole(receive: Receive) -> bytes:
    """Give the body of a request."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(parts)
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def again(body: bytes, receive: Receive) -> Receive:
    """Give a body that was read already once more, and then what else comes."""
    waiting = True

    async def given() -> Message:
        nonlocal waiting
        if waiting:
            waiting = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return given
