"""`dashboard`: opens the page of the running ToolScore in the browser, and hands it a token."""

from __future__ import annotations

import secrets
import socket
import threading
import webbrowser
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, urlsplit

from ...tools.caller import CALL, MANAGE
from ..home import Home
from ..owner import current_owner
from ..settings import Loaded
from ..tokens import TokenError, UnknownTokenError
from .authorize import has_browser
from .home_tokens import home_tokens
from .output import Output

NAME = "dashboard"
"""The token that `--manage` makes."""

PATIENCE = 30.0
"""Seconds a browser has to come for the address."""

_SCHEMES = {"ws": "http", "wss": "https", "http": "http", "https": "https"}
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what is listened on, not what is opened


def run(options: Namespace, loaded: Loaded, out: Output) -> int:
    """Open the dashboard, or print its address.

    Returns:
        The exit status.

    Raises:
        HomeError: If the home or its files of tokens cannot be used.
    """
    home = Home.at(loaded.settings.home)
    owner = current_owner(home)
    if owner is None or owner.mode == "command":
        out.error(
            "No ToolScore runs here. Start one with a network listener: `toolscore start --listen "
            "ws://127.0.0.1:8765/mcp`, and run this again."
        )
        return 1
    page = page_of(owner.listening)
    if page is None:
        out.error(
            "The ToolScore that runs here has no network listener, and the dashboard is a page of one. Give it one: "
            '`toolscore restart --listen ws://127.0.0.1:8765/mcp`, or listen = ["ws://127.0.0.1:8765/mcp"] under '
            "[network] in the configuration file; then run this again."
        )
        return 1
    try:
        token = _token(options, loaded, home)
    except TokenError as error:
        out.error(str(error))
        return 1
    address = f"{page}#token={token}"
    if out.json_wanted:
        out.document({"address": address})
    elif options.print:
        out.line(address)
    elif not has_browser() or not opened(page, token):
        out.remark("No browser could be opened here. Open this address yourself; it has the token in it:")
        out.line(address)
    else:
        out.line(f"opened: {page}")
    return 0


def page_of(listening: Sequence[str]) -> str | None:
    """Give where the page is, for a browser of this machine; `None` if nothing listens on the network.

    Args:
        listening: The addresses that are listened on.
    """
    for address in sorted(listening, key=lambda one: not one.startswith("ws")):
        parts = urlsplit(address)
        if parts.scheme in _SCHEMES and parts.hostname is not None:
            host = _ANY.get(parts.hostname, parts.hostname)
            host = f"[{host}]" if ":" in host else host
            port = f":{parts.port}" if parts.port is not None else ""
            return f"{_SCHEMES[parts.scheme]}://{host}{port}/"
    return None


def _token(options: Namespace, loaded: Loaded, home: Home) -> str:
    tokens = home_tokens(loaded, home)
    if not options.manage:
        return tokens.default()
    with suppress(UnknownTokenError):
        tokens.revoke(NAME)
    return tokens.create(NAME, frozenset((CALL, MANAGE)))


def opened(page: str, token: str) -> bool:
    """Open the page in the browser; tell whether the browser came for it.

    What a browser is started with can be read by every user of the machine, and addresses stay in its history, with
    what is behind the `#`. So it is given a place of this process, good once, that sends it on to the page with the
    token in a cookie, which does not mind the port (RFC 6265, section 8.5). The page takes it out at once. The name
    of the cookie is in the address, so that no other site of this host can slip in a token of its own.

    Args:
        page: Where the dashboard is.
        token: What it is to connect with.
    """
    path, once = f"/{secrets.token_urlsafe(32)}", secrets.token_hex(8)
    came = threading.Event()
    turn = threading.Lock()

    class Once(BaseHTTPRequestHandler):
        timeout = PATIENCE  # browsers open lines ahead of time, and say nothing on them

        def do_GET(self) -> None:
            with turn:
                right = secrets.compare_digest(self.path.encode(), path.encode()) and not came.is_set()
                self.send_response(302 if right else 404)
                if right:
                    self.send_header("Location", f"{page}#once={once}")
                    cookie = f"toolscore-{once}={quote(token, safe='')}"
                    self.send_header("Set-Cookie", f"{cookie}; Path=/; Max-Age=60; SameSite=Strict")
                self.send_header("Cache-Control", "no-store")
                self.send_header("Referrer-Policy", "no-referrer")
                self.send_header("Content-Length", "0")
                self.end_headers()
                if right:
                    came.set()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    class Here(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if page.partition("://")[2].startswith("[") else socket.AF_INET
        block_on_close = False

    host = urlsplit(page).hostname or ""
    try:
        server = Here((host, 0), Once)
    except OSError:
        return False  # the page is at a name that is not of this machine, such as that of a proxy
    with server:
        # Beside this: some browsers are waited for.
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        serving.start()
        name = f"[{host}]" if ":" in host else host
        try:
            started = webbrowser.open(f"http://{name}:{server.server_port}{path}")
            return started and came.wait(PATIENCE)
        finally:
            server.shutdown()
            serving.join()
