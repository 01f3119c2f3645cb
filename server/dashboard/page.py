"""Puts the parts of the dashboard together: one page of HTML with its style and script in it, and what guards it.

The parts are files beside this one: `index.html`, `style.css` and ES modules, of which `main.js` is the first. The
page holds no data and asks for nothing but itself; what it shows comes over MCP, with a token like any client's.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

from ... import __version__

Transport = Literal["ws", "http", "app"]
"""How the page reaches MCP: over WebSocket, over Streamable HTTP, or through the host of an MCP App."""

FIRST = "main"
"""The module that is run; the others are there because one that is there imports them."""

TYPE = "text/html; charset=utf-8"

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([a-z0-9_]+)\.js";$', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?function|class|const) (\w+)", re.MULTILINE)
_OTHER = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


class PartError(ValueError):
    """A part of the dashboard is not as the others need it. The text says which, and what is wrong."""


@dataclass(frozen=True, slots=True)
class Built:
    """The whole page.

    Attributes:
        text: Its HTML.
        packed: The same, compressed with gzip.
        tag: Tells this one from every other (`ETag`, RFC 9110, section 8.8.3).
        policy: What it may load and reach (`Content-Security-Policy`, CSP level 3).
    """

    text: bytes
    packed: bytes
    tag: str
    policy: str


@cache
def built(transport: Transport, path: str = "", *, token: bool = True) -> Built:
    """Give the page, made once.

    Args:
        transport: How it reaches MCP.
        path: Where on its listener MCP is spoken.
        token: Whether a token is needed there.

    Raises:
        PartError: If a part is missing or not as it should be.
    """
    # Relative: a reverse proxy may have put a prefix before it.
    config = {"transport": transport, "path": path.lstrip("/"), "token": token, "version": __version__}
    style, script = _part("style.css"), bundle(FIRST, _part)
    text = _part("index.html")
    for mark, value in (
        ("{{config}}", html.escape(json.dumps(config))),
        ("{{style}}", style),
        ("{{script}}", script),
    ):
        if text.count(mark) != 1:
            raise PartError(f"index.html must have {mark} once")
        text = text.replace(mark, value)
    data = text.encode()
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_digest(script)}'",
            f"style-src '{_digest(style)}'",
            "connect-src 'self'",
            # What tools give back: pictures and sounds, as data within their answers.
            "img-src data:",
            "media-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            # No text becomes markup or code, whatever a server calls itself.
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )
    tag = hashlib.sha256(data).hexdigest()[:24]
    return Built(data, gzip.compress(data, 9, mtime=0), f'"{tag}"', policy)


def headers(page: Built, *, packed: bool) -> dict[str, str]:
    """Give the headers of the page.

    Args:
        page: It.
        packed: Whether it is sent compressed.
    """
    return {
        # Of both forms one tag would be wrong, were it a strong one.
        "ETag": f"W/{page.tag}",
        "Cache-Control": "no-cache",
        "Vary": "Accept, Accept-Encoding",
        "Content-Security-Policy": page.policy,
        "X-Frame-Options": "DENY",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
        **({"Content-Encoding": "gzip"} if packed else {}),
    }


def bundle(first: str, part: Callable[[str], str]) -> str:
    """Make one script of ES modules, each in a scope of its own, in the order in which they need each other.

    A module imports by `import { name, other as alias } from "./module.js";` and exports functions, classes and
    constants where it declares them. Nothing else of imports and exports is understood.

    Args:
        first: Name of the module that needs all others.
        part: Gives the text of `NAME.js`.

    Raises:
        PartError: If a module writes an import or export in another way, or modules need each other in a circle.
    """
    done: dict[str, str] = {}
    under_way: list[str] = []

    def take(name: str) -> None:
        if name in done:
            return
        if name in under_way:
            raise PartError(f"modules need each other in a circle: {' > '.join([*under_way, name])}")
        under_way.append(name)
        text = part(f"{name}.js")
        for match in _IMPORT.finditer(text):
            take(match[2])
        under_way.pop()
        done[name] = _scoped(name, text)

    take(first)
    return "".join(done.values())


def _scoped(name: str, text: str) -> str:
    exported = [match[2] for match in _EXPORT.finditer(text)]
    body = _IMPORT.sub(lambda match: f"const {{{match[1].replace(' as ', ': ')}}} = ${match[2]};", text)
    body = _EXPORT.sub(r"\1 \2", body)
    if (left := _OTHER.search(body)) is not None:
        raise PartError(f"{name}.js has an import or export that is not understood: {left[0][:80]}")
    if "</script" in body.lower() or "<!--" in body:
        raise PartError(f"{name}.js holds what would end the script it is put into")
    return f"const ${name} = (() => {{\n{body}\nreturn {{ {', '.join(exported)} }};\n}})();\n"


def _part(name: str) -> str:
    try:
        return resources.files(__package__ or "").joinpath(name).read_text("utf-8")
    except OSError as exc:
        raise PartError(f"{name} of the dashboard cannot be read: {exc}") from exc


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
