"""The dashboard in a real browser: Debian's Chromium, driven by Playwright, in front of a real ToolScore."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from listening import Serving, raw, serving

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (group `dev`)")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FORECAST = str(Path(__file__).with_name("forecast_server.py"))
LISTING = str(Path(__file__).with_name("listing_server.py"))
PATIENCE = 60_000
"""Milliseconds to wait for what takes few, on a machine that has other things to do."""

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)"
)

T = TypeVar("T")


def elsewhere(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run something asynchronous in a thread: Playwright has the event loop of this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()


class Other:
    """A client that is not the page."""

    def __init__(self, one: Serving, token: str) -> None:
        self._one = one
        self._token = token

    def call(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        """Call a tool; give its whole result."""
        return self._ask("tools/call", name="execute_tool", arguments={"tool": tool, "arguments": arguments})

    def read(self, uri: str) -> str:
        """Read a resource; give its text."""
        text: str = self._ask("resources/read", uri=uri)["contents"][0]["text"]
        return text

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        async def work() -> dict[str, Any]:
            headers = {"Authorization": f"Bearer {self._token}"}
            async with raw(self._one.url, additional_headers=headers) as line:
                await line.send({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
                while (answer := await line.receive()).get("id") != 1:
                    pass
                result: dict[str, Any] = answer["result"]
                return result

        return elsewhere(work)

    def register(self, name: str, *words: str) -> None:
        """Register a server that is a Python program."""
        result = self.call("register_tool", name=name, command=sys.executable, args=["-S", *words])
        assert not result.get("isError"), result


class Seen:
    """What a page did that it should not, and whom it talked to."""

    def __init__(self, page: Any, allowed: tuple[str, ...] = ()) -> None:
        self.wrong: list[str] = []
        self.hosts: set[str] = set()
        self.allowed = allowed
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.wrong.append(f"exception: {error}"))
        page.on("request", lambda request: self.hosts.add(_host(request.url)))
        page.on("websocket", lambda line: self.hosts.add(_host(line.url)))
        page.on("dialog", self._dialog)

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning") and not any(text in message.text for text in self.allowed):
            self.wrong.append(f"{message.type}: {message.text}")

    def _dialog(self, dialog: Any) -> None:
        self.wrong.append(f"an alert: {dialog.message}")
        dialog.dismiss()


def _host(url: str) -> str:
    return url.split("/")[2] if "//" in url else ""


class Browser:
    """A browser, and the ToolScore it looks at."""

    def __init__(self, one: Serving, chromium: Any) -> None:
        self.one = one
        self.chromium = chromium
        self.other = Other(one, one.token)

    def at(self, one: Serving) -> Browser:
        """Give the same browser for another ToolScore."""
        return Browser(one, self.chromium)

    def token(self, name: str, *rights: str) -> str:
        """Make a named token."""
        from toolscore.server.home import Home
        from toolscore.server.tokens import Tokens

        tokens = Tokens(Home.at(self.one.home), frozenset({"call"}))
        return tokens.create(name, frozenset(rights))

    @contextmanager
    def page(
        self,
        place: str = "",
        *,
        token: str | None = None,
        size: tuple[int, int] = (1280, 800),
        dark: bool = False,
        allowed: tuple[str, ...] = (),
        language: str = "en-GB",
        lines: int = 1,
    ) -> Iterator[Any]:
        """Open the page in a tab of its own; at the end nothing may have gone wrong in it.

        Args:
            place: The view, such as `/servers`.
            token: The token in its address; the owner's if not given, none if empty.
            size: Of the window, in CSS pixels.
            dark: Whether the system is.
            allowed: What the console may say all the same, such as of a line that a test cuts.
            language: Of the browser.
            lines: How sharp pictures are, in pixels per CSS pixel.
        """
        context = self.chromium.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            locale=language,
            device_scale_factor=lines,
            reduced_motion="reduce",
        )
        context.set_default_timeout(PATIENCE)
        try:
            page = context.new_page()
            seen = Seen(page, allowed)
            shown = self.one.token if token is None else token
            page.goto(self.one.page("/") + (f"#token={shown}" if shown else f"#{place}"))
            if shown and place:
                page.evaluate("place => { location.hash = place; }", place)
            try:
                yield page
            except Exception as exc:
                exc.add_note(f"in the browser: {seen.wrong or 'nothing went wrong'}")
                raise
            assert not seen.wrong, seen.wrong
            assert seen.hosts <= {_host(self.one.url)}, seen.hosts
        finally:
            context.close()

    def until(self, page: Any, expression: str, argument: Any = None) -> Any:
        """Wait until an expression is true in a page."""
        return page.wait_for_function(expression, arg=argument, timeout=PATIENCE)


@contextmanager
def browsing(folder: Path, *listen: str, options: tuple[str, ...] = (), **settings: Any) -> Iterator[Browser]:
    """Start a ToolScore and a browser."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    settings = {"network__rights": "call,manage", "tools__semantic": "off"} | settings
    with serving(folder / "home", *listen, options=options, **settings) as one, chromium() as found:
        yield Browser(one, found)


@contextmanager
def chromium() -> Iterator[Any]:
    """Start the browser."""
    # As root there is no sandbox; shared memory is small in containers.
    words = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        one = driver.chromium.launch(executable_path=CHROMIUM, args=words, timeout=PATIENCE)
        try:
            yield one
        finally:
            one.close()


@contextmanager
def front(listener: str, prefix: str, host: str | None = None) -> Iterator[int]:
    """Stand before a listener as a reverse proxy that puts a path before what it has; give the port.

    Args:
        listener: Its address.
        prefix: The path, such as `/tools`.
        host: What to say as Host in place of what the browser says, as some proxies do.
    """
    name, port = listener.split("/")[2].rsplit(":", 1)

    under_way: set[asyncio.Task[None]] = set()

    async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            try:
                while data := await source.read(65536):
                    target.write(data)
                    await target.drain()
            finally:
                target.close()
                await target.wait_closed()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        under_way.add(task)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            if f" {prefix}/" not in first:
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                writer.close()
                await writer.wait_closed()
                return
            if host is not None:
                lines = [f"Host: {host}" if line.lower().startswith("host:") else line for line in lines]
            if not any(line.lower().startswith("upgrade:") for line in lines):
                # One request a line: those behind it would have to be changed too.
                lines = [
                    "Connection: close",
                    *(line for line in lines if not line.lower().startswith("connection:")),
                ]
            behind, to = await asyncio.open_connection(name, int(port))
            to.write("\r\n".join([first.replace(f" {prefix}/", " /", 1), *lines]).encode("latin-1"))
            await asyncio.gather(pump(reader, to), pump(behind, writer))

    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()

    async def serve() -> None:
        over = asyncio.Event()
        server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
        ready.set_result((asyncio.get_running_loop(), over, server.sockets[0].getsockname()[1]))
        await over.wait()
        server.close()
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way)

    with ThreadPoolExecutor(1) as pool:
        serving_ = pool.submit(asyncio.run, serve())
        loop, over, found = ready.result(timeout=60)
        try:
            yield found
        finally:
            loop.call_soon_threadsafe(over.set)
            serving_.result()


def tool(name: str, description: str, **properties: Any) -> dict[str, Any]:
    """Say a tool as a server lists it."""
    schema = {"type": "object", "properties": properties}
    return {"name": name, "description": description, "inputSchema": schema}


def installing(page: Any, source: str, name: str) -> Any:
    """Begin to install a server by the form of the page; give its card once it is under way."""
    page.get_by_text("Install from a source").click()
    page.get_by_label("Source", exact=True).fill(source)
    page.get_by_label("Name (optional)").fill(name)
    page.get_by_role("button", name="Install", exact=True).click()
    card = page.locator("article").filter(has=page.get_by_role("heading", name=name))
    card.locator("[data-install=running]").wait_for()
    return card


def listed(file: Path, *tools: dict[str, Any]) -> list[str]:
    """Write what the listing server lists; give the words that start it."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps([*tools, tool("announce", "Says that the list has changed.")]))
    new.replace(file)
    return [LISTING, str(file)]
