"""Cuts a long tool result to what may be shown, and keeps the whole behind a handle.

What is counted is the compact JSON of what a client feeds to its model, 4 bytes a token: `content`, or
`structuredContent` where it feeds that. Images and sound are not counted, since models do not read their letters, and
stay as they are. A result within the limit is not touched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic_core import from_json, to_json

from .pieces import bare, beginning, within, written
from .results import Kept

LEAST = 200
"""Tokens a limit must leave: the note of where the rest is takes some."""

RESULT_KEY = "toolscore/result"
"""Member of `_meta` that tells a program what was cut."""

_LONGEST_READ = 1 << 19
"""Characters of a text that are read as JSON to compare them."""

_MEDIA = ("image", "audio")

_NOTES = 400
"""Bytes that a note and a link take together."""

Keep = Callable[[str, str], Kept]
"""Keeps a text of a media type."""

Item = dict[str, Any]


def shortened(result: dict[str, Any], limit: int, keep: Keep) -> dict[str, Any]:
    """Cut a result.

    Args:
        result: A tool result (MCP `CallToolResult`).
        limit: Tokens it may have.
        keep: Keeps what does not fit.

    Returns:
        The very same object where it is within the limit; otherwise its beginning, a note with a `resource_link` to
        the whole, and everything else the result has. Structured content over the limit is behind a handle too.
        What could not be kept is cut all the same: a server must not get around the limit by being larger.
    """
    content, structured = result.get("content"), result.get("structuredContent")
    if not isinstance(content, list):
        if structured is None:
            return result  # a task that was begun, or something of its own kind
        content = []
    room = 4 * max(limit, LEAST)
    counted = [item for item in content if not _is_media(item)]
    structured_fits = structured is None or within(structured, room)
    fits = within(counted, room)
    if fits and structured_fits:
        return result
    # Where only what is structured is too long, what tells of that comes on top of the text.
    fits = fits and within(counted, room - _NOTES)
    spare = max(room - 2 * _NOTES, 0)
    text, first, kept_items = "", None, counted
    if not fits:
        texts, kept_items = _parted(counted, spare // 2)
        text, first = _joined(texts, spare // 4)
    shown = {key: value for key, value in result.items() if key != "structuredContent" or structured_fits}
    document: Kept | None = None
    aside: Kept | None = None
    if structured_fits:
        document = keep(text, _mime(text))
    elif not counted:
        text = written(structured)
        document = keep(text, "application/json")
    elif not fits:
        document = keep(text, _mime(text))
        if not _same(text, structured, counted):
            aside = keep(written(structured), "application/json")
    else:
        aside = keep(written(structured), "application/json")

    tail: list[Item] = []
    links = [_link(document, "whole result")] if document is not None and not document.lost else []
    if aside is not None and not aside.lost:
        links.append(_link(aside, "structured content"))
    other = _note_aside(aside) if aside is not None else []
    media = [item for item in content if _is_media(item)]
    length = 0
    if document is not None:
        longest = _note(document, document.characters)
        used = _size([{**(first or {}), "type": "text", "text": ""}, longest, *other, *kept_items, *links])
        length = _fitting(text, room - used)
        tail = [_note(document, length)]
        begin: list[Item] = [{**(first or {}), "type": "text", "text": text[:length]}] if length else []
        shown["content"] = [*begin, *tail, *other, *media, *kept_items, *links]
    else:
        shown["content"] = [*content, *other, *links]
    meta = result.get("_meta")
    told = document or aside
    assert told is not None
    shown["_meta"] = {
        **(meta if isinstance(meta, dict) else {}),
        RESULT_KEY: {"shown": length, "total": told.characters, "bytes": told.bytes},
    }
    shown["_meta"][RESULT_KEY].update({"lost": told.lost} if told.lost else {"uri": told.handle})
    if aside is not None and not aside.lost:
        shown["_meta"][RESULT_KEY]["structured"] = aside.handle
    return shown


def weight(result: dict[str, Any]) -> int:
    """Give the tokens a result costs a model: its content or its structured content, whichever is more."""
    content = result.get("content")
    counted = [item for item in content if not _is_media(item)] if isinstance(content, list) else []
    return -(-max(_size(counted), _size(result.get("structuredContent"))) // 4)


def _parted(items: list[Any], room: int) -> tuple[list[Any], list[Any]]:
    """Tell what becomes one text from what stays an item of its own, because it is no text and fits."""
    texts: list[Any] = []
    rest: list[Any] = []
    for item in items:
        if _text_of(item) is None and within(item, room):
            rest.append(item)
            room -= _size(item)
        else:
            texts.append(item)
    return texts, rest


def _joined(items: list[Any], room: int) -> tuple[str, Item | None]:
    """Put texts together; a single one keeps what else is said of it."""
    if len(items) == 1 and (text := _text_of(items[0])) is not None:
        only: Item = items[0]
        also = {key: value for key, value in only.items() if key != "text"}
        return text, also if within(also, room) else None
    lines = []
    for item in items:
        text = _text_of(item)
        if text is None and isinstance(item, dict) and isinstance(item.get("resource"), dict):
            resource = item["resource"]
            if isinstance(resource.get("text"), str):
                text = f"{resource.get('uri')}:\n{resource['text']}"
        lines.append(written(item) if text is None else text)
    return "\n".join(lines), None


def _text_of(item: Any) -> str | None:
    if isinstance(item, dict) and item.get("type") == "text" and isinstance(item.get("text"), str):
        text: str = item["text"]
        return text
    return None


def _is_media(item: Any) -> bool:
    return isinstance(item, dict) and item.get("type") in _MEDIA


def _size(value: Any) -> int:
    return 0 if value is None else len(to_json(value))


def _same(text: str, structured: Any, items: list[Any]) -> bool:
    """Tell whether a text is the twin of what is structured, as MCP asks servers to send it.

    What is no object is structured as `{"result": ...}`, by the Python SDK among others: then the text is the value
    alone, a text as it is, or each part of a list is a text of its own.
    """
    if _says(text, structured):
        return True
    if not isinstance(structured, dict) or structured.keys() != {"result"}:
        return False
    value = structured["result"]
    if _says(text, value):
        return True
    texts = [_text_of(item) for item in items]
    return (
        isinstance(value, list)
        and len(value) == len(texts)
        and all(one is not None and _says(one, part) for one, part in zip(texts, value, strict=True))
    )


def _says(text: str, value: Any) -> bool:
    if isinstance(value, str) and text == value:
        return True
    if len(text) > _LONGEST_READ:
        # By how it is written, since reading it would hold others up.
        alike = isinstance(value, dict | list) and text[:1] == ("{" if isinstance(value, dict) else "[")
        return alike and bare(text) == bare(written(value))
    try:
        return bool(from_json(text) == value)
    except ValueError:
        return False


def _mime(text: str) -> str:
    return "application/json" if text[:1] in ("{", "[") and text.rstrip()[-1:] in ("}", "]") else "text/plain"


def _fitting(text: str, room: int) -> int:
    """Give how many characters of a text fit, to the end of a line or an item."""
    low = beginning(text, room)
    if low == len(text):
        return low
    for mark in ("\n", "},", "],", ", ", ",", ". ", " "):
        place = text.rfind(mark, low // 2, low)
        if place >= 0:
            return place + len(mark)
    return low


def _note(kept: Kept, shown: int) -> Item:
    if kept.lost:
        return {
            "type": "text",
            "text": f"[Cut: {shown} of {kept.characters} characters. The rest is lost: {kept.lost}. Ask for less, or "
            "with a larger max_tokens.]",
        }
    return {
        "type": "text",
        "text": f"[Cut: {shown} of {kept.characters} characters. The rest: "
        "execute_tool(tool='toolscore__read_result', "
        f"arguments={{'handle': '{kept.handle}', 'offset': {shown}}}).]",
    }


def _note_aside(kept: Kept) -> list[Item]:
    if kept.lost:
        text = (
            f"[Left out: structured content, {kept.characters} characters of JSON. It is lost: {kept.lost}.]"
        )
        return [{"type": "text", "text": text}]
    return [
        {
            "type": "text",
            "text": f"[Left out: structured content, {kept.characters} characters of JSON, to be read with "
            f"toolscore__read_result as {kept.handle}.]",
        }
    ]


def _link(kept: Kept, name: str) -> Item:
    return {
        "type": "resource_link",
        "uri": kept.handle,
        "name": name,
        "mimeType": kept.mime,
        "size": kept.bytes,
    }
