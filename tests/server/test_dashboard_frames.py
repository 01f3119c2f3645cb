"""The dashboard over Streamable HTTP, and in the frame of an MCP App's host."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from certificate import self_signed
from dashboard_house import FORECAST, PATIENCE, Browser, Seen, browsing, elsewhere, front, needs_chromium
from listening import raw, serving
from toolscore.server.dashboard.app import URI

pytestmark = needs_chromium

HOST = """([html, capabilities]) => {
  const frame = document.createElement("iframe");
  frame.sandbox = "allow-scripts";
  frame.style = "width: 900px; height: 600px";
  window.heard = [];
  addEventListener("message", async (event) => {
    if (event.source !== frame.contentWindow) return;
    const { id, method, params, result } = event.data;
    if (result) return void (window.over = result);
    heard.push(method);
    const send = (answer) => frame.contentWindow.postMessage({ jsonrpc: "2.0", id, ...answer }, "*");
    if (method === "ui/initialize") {
      const hostContext = { theme: "dark", locale: "zh-CN" };
      send({ result: { protocolVersion: params.protocolVersion, hostInfo: { name: "host", version: "1" }, hostContext,
        hostCapabilities: capabilities } });
    } else if (id !== undefined) send(await window.pass(method, params));
  });
  const policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:";
  frame.srcdoc = html.replace("<head>", `<head><meta http-equiv="Content-Security-Policy" content="${policy}">`);
  document.body.append(frame);
  window.end = () => frame.contentWindow.postMessage(
    { jsonrpc: "2.0", id: "end", method: "ui/resource-teardown", params: { reason: "it was long enough" } }, "*");
}"""
"""A host of MCP Apps (SEP-1865): a frame that may do nothing but run scripts, and what it asks passed on."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    listen = ("ws://127.0.0.1:0/mcp", "http://127.0.0.1:0/mcp")
    folder = tmp_path_factory.mktemp("frames")
    with browsing(folder, *listen, network__allowed_hosts='["tools.localhost"]') as one:
        one.other.register("weather", FORECAST, "weather")
        yield one


def test_the_page_of_an_http_listener_does_all_of_it_over_http(browser: Browser) -> None:
    first, second = browser.one.urls
    browser.one.urls = [second]  # whose page is opened
    try:
        with browser.page("/tools/weather__ask") as page:
            page.get_by_role("button", name="Run").click()
            page.get_by_role("textbox", name="Station").fill("Bern")
            page.get_by_role("button", name="Answer").click()
            page.get_by_text('"station": "Bern"').first.wait_for()
            page.evaluate("() => { location.hash = '/tools/weather__walk'; }")
            page.get_by_role("heading", name="weather__walk").wait_for()
            page.get_by_role("button", name="Run").click()
            browser.until(page, "() => document.querySelector('progress')?.value > 2")
            page.get_by_role("button", name="Cancel").click()
            page.locator("[data-outcome=cancelled]").wait_for()
            page.evaluate("() => { location.hash = '/logs/weather'; }")
            page.get_by_text("weather is here").wait_for()
            browser.one.urls = [first]  # where the other client comes in
            browser.other.call("weather__say", text="the sun is out")
            page.get_by_text("the sun is out").wait_for()
            browser.one.urls = [second]
    finally:
        browser.one.urls = [first, second]


@pytest.mark.parametrize("at", [0, 1])
def test_behind_a_proxy_that_puts_a_path_before_it_all_of_it_is_found(browser: Browser, at: int) -> None:
    listener = browser.one.urls[at]
    with front(listener, "/a/b") as port, tab(browser) as page:
        page.goto(f"http://tools.localhost:{port}/a/b/#token={browser.one.token}")
        page.get_by_role("option").filter(has_text="weather").wait_for()


def test_a_proxy_that_hides_what_it_is_called_is_told_of_in_words(browser: Browser) -> None:
    host = browser.one.url.split("/")[2]
    with front(browser.one.url, "/a", host) as port, tab(browser) as page:
        page.goto(f"http://other.localhost:{port}/a/#token={browser.one.token}")
        page.get_by_role("alert").filter(has_text="network.allowed_origins").wait_for()


@pytest.mark.parametrize("scheme", ["wss", "https"])
def test_over_tls_it_is_all_encrypted(browser: Browser, tmp_path: Path, scheme: str) -> None:
    certificate, key = self_signed(tmp_path)
    files: dict[str, Any] = {"network__tls_cert": certificate, "network__tls_key": key}
    listener = f"{scheme}://127.0.0.1:0/mcp"
    with serving(tmp_path / "home", listener, options=(), **files) as one, tab(browser) as page:
        seen = Seen(page)
        host = one.url.split("/")[2]
        page.goto(f"https://{host}/#token={one.token}")
        page.get_by_text("No servers yet").wait_for()
        page.evaluate("() => { location.hash = '/tools/toolscore__list_servers'; }")
        page.get_by_role("button", name="Run").click()
        page.locator("[data-outcome=ok]").wait_for()
        assert not seen.wrong
        assert seen.hosts == {host}


@contextmanager
def tab(browser: Browser) -> Iterator[Any]:
    """Open a tab that may go anywhere."""
    # A certificate of a test's own making is one that no browser knows.
    context = browser.chromium.new_context(locale="en-GB", ignore_https_errors=True)
    context.set_default_timeout(PATIENCE)
    try:
        yield context.new_page()
    finally:
        context.close()


@contextmanager
def hosted(browser: Browser, capabilities: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Show the page in a host; give that one's page and the frame."""

    def passed(method: str, params: dict[str, Any]) -> dict[str, Any]:
        async def work() -> dict[str, Any]:
            async with raw(f"{browser.one.url}?token={browser.one.token}") as line:
                answer = await line.request(method, **params)
                return {key: value for key, value in answer.items() if key in ("result", "error")}

        if method == "resources/read" and "serverResources" not in capabilities:
            return {"error": {"code": -32601, "message": "not passed on"}}
        return elsewhere(work)

    async def read() -> str:
        async with raw(f"{browser.one.url}?token={browser.one.token}") as line:
            text: str = (await line.request("resources/read", uri=URI))["result"]["contents"][0]["text"]
            return text

    with tab(browser) as page:
        seen = Seen(page)
        page.expose_function("pass", passed)
        page.evaluate(HOST, [elsewhere(read), capabilities])
        yield page, page.frame_locator("iframe")
        assert not seen.wrong, seen.wrong
        assert not seen.hosts - {""}, seen.hosts


@pytest.mark.parametrize("capabilities", [{"serverTools": {}, "serverResources": {}}, {"serverTools": {}}])
def test_a_host_of_apps_shows_it_in_a_frame_that_may_only_run_scripts(
    browser: Browser, capabilities: dict[str, Any]
) -> None:
    with hosted(browser, capabilities) as (page, frame):
        frame.get_by_role("option").filter(has_text="weather").wait_for()
        frame.get_by_role("tab", name="工具").click()  # in the language and the colours of the host
        assert frame.locator("html").get_attribute("data-theme") == "dark"
        frame.get_by_role("option").filter(has_text="weather__forecast").click()
        frame.get_by_label("city").fill("Bergen")
        frame.get_by_label("city").press("Enter")  # which submits a form, where one may be
        frame.get_by_text('"city": "Bergen"').first.wait_for()
        told = set(page.evaluate("() => heard"))
        assert {"ui/initialize", "ui/notifications/initialized", "tools/call"} <= told
        assert ("resources/read" in told) is ("serverResources" in capabilities)
        assert re.fullmatch(r"[\w/ -]+", " ".join(sorted(told)))
        page.evaluate("() => window.end()")
        browser.until(page, "() => window.over")
        assert page.evaluate("() => window.over") == {}
