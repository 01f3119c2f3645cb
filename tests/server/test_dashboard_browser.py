"""The dashboard in a real browser, before real servers: what somebody sees and does there.

Whatever a test does, its page writes no error to the console, breaks no rule of its own Content-Security-Policy and
talks to nobody but the ToolScore it came from (`Browser.page`).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dashboard_house import FORECAST, Browser, browsing, installing, listed, needs_chromium, tool
from listening import serving
from ports import free_port

pytestmark = needs_chromium

VIEWS = ("servers", "tools", "live", "logs", "journal", "installs", "approvals", "groups")
LINE_IS_DOWN = (
    "WebSocket connection to",
    "ERR_CONNECTION_REFUSED",
    "ERR_CONNECTION_RESET",
    "ERR_EMPTY_RESPONSE",
)
UNAUTHORIZED = ("WebSocket connection to", "401")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("dashboard")
    with browsing(folder) as one:
        for name in ("weather", "store", "orders"):
            one.other.register(name, FORECAST, name)
        one.other.call(
            "configure_server", name="orders", settings={"depends_on": ["store"], "groups": ["shop"]}
        )
        one.other.call("configure_server", name="store", settings={"groups": ["shop"]})
        yield one


def row(page: Any, text: str) -> Any:
    """The row of a list that has a text."""
    return page.get_by_role("option").filter(has_text=text).first


def go(page: Any, place: str) -> None:
    page.evaluate("place => { location.hash = place; }", place)


def test_a_token_connects_and_leaves_the_address_at_once(browser: Browser) -> None:
    with browser.page() as page:
        row(page, "weather").wait_for()
        assert browser.one.token not in page.url
        page.reload()
        row(page, "weather").wait_for()  # this tab remembers it
        go(page, f"token={browser.one.token}")  # as of an address that is given to the open page
        browser.until(page, "() => location.hash === ''")
        row(page, "weather").wait_for()


def test_a_token_in_a_cookie_that_the_address_names_is_taken_out_of_it(browser: Browser) -> None:
    root = browser.one.page("/")
    with browser.page(token="") as page:
        page.get_by_label("Token").wait_for()
        page.context.add_cookies([{"name": "toolscore-0a", "value": browser.one.token, "url": root}])
        page.goto(f"{root}#once=0a")
        row(page, "weather").wait_for()
        assert page.evaluate("[document.cookie, location.hash]") == ["", ""]


def test_a_wrong_token_is_refused_in_words_and_another_may_be_given(browser: Browser) -> None:
    with browser.page(token="not-the-token", allowed=UNAUTHORIZED) as page:
        page.get_by_role("alert").filter(has_text="token").wait_for()
        page.get_by_label("Token").fill(browser.one.token)
        page.get_by_role("button", name="Connect").click()
        row(page, "weather").wait_for()


def test_servers_are_shown_and_one_that_is_killed_is_seen_to_come_back(browser: Browser) -> None:
    with browser.page("/servers/weather") as page:
        page.get_by_role("heading", name="weather").wait_for()
        found = browser.other.call("list_servers")["structuredContent"]["servers"]
        [pid] = [one["pid"] for one in found if one["name"] == "weather"]
        os.kill(pid, signal.SIGKILL)
        row(page, "weather").filter(has_text="restarted 1×").filter(has_text="ready").wait_for()


def test_a_tool_is_run_through_its_form_which_says_what_is_missing(browser: Browser) -> None:
    with browser.page("/tools/weather__forecast") as page:
        page.get_by_role("button", name="Run").click()
        browser.until(page, "() => document.querySelector('[aria-invalid=true]')")
        assert not page.locator("[data-outcome]").count()
        page.get_by_label("city").fill("Bergen")
        page.get_by_label("days").fill("9")
        page.get_by_role("button", name="Run").click()
        assert page.locator("[aria-invalid=true]").input_value() == "9"
        page.get_by_label("days").fill("2")
        page.get_by_role("button", name="Run").click()
        page.get_by_text('"city": "Bergen"').first.wait_for()
        page.get_by_text('"days": 2').first.wait_for()


def test_whole_numbers_stay_as_they_are_and_a_schema_without_end_has_a_form(browser: Browser) -> None:
    given, written = "9007199254740993", "12345678901234567890"  # which are none of JavaScript's numbers
    with browser.page("/tools/weather__record") as page:
        page.get_by_label("number").fill(given)
        page.get_by_text("place", exact=True).locator("xpath=..").get_by_role("button", name="Add").click()
        assert page.locator("form.try textarea.mono").count() > 1, "what is too deep is given as JSON"
        page.get_by_text("place", exact=True).locator("xpath=..").get_by_role("button", name="Remove").click()
        page.get_by_label("constructor").fill("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!")
        page.get_by_role("button", name="Run").click()
        page.locator("[data-outcome]").wait_for()  # however its pattern is judged
        page.get_by_role("button", name="JSON").click()
        text = page.get_by_label("JSON", exact=True).nth(-1)
        assert given in text.input_value()
        assert '"note": null' in text.input_value()
        text.fill(f'{{"number": {written}, "note": null}}')
        page.get_by_role("button", name="Run").click()
        page.locator("[data-outcome=ok] pre").filter(has_text=written).first.wait_for()


def test_a_run_shows_progress_and_is_cancelled(browser: Browser) -> None:
    with browser.page("/tools/weather__walk") as page:
        page.get_by_role("button", name="Run").click()
        browser.until(page, "() => document.querySelector('form.try ~ div progress')?.value > 1")
        page.get_by_role("button", name="Cancel", exact=True).click()
        page.get_by_text("cancelled").first.wait_for()


def test_what_a_server_asks_is_shown_as_a_form_and_answered(browser: Browser) -> None:
    with browser.page("/tools/weather__ask") as page:
        page.get_by_role("button", name="Run").click()
        dialog = page.get_by_role("dialog").filter(has_text="Which station?")
        dialog.get_by_text("weather__ask").wait_for()  # of whom the question may be
        dialog.get_by_label("Station").fill("Flesland")
        dialog.locator("button[type=submit]").click()
        page.get_by_text('"station": "Flesland"').first.wait_for()


def test_a_call_of_another_client_is_seen_as_it_happens(browser: Browser) -> None:
    with browser.page("/live") as page:
        page.locator("#view-live table").wait_for()
        browser.other.call("store__say", text="a live call")
        page.locator("#view-live tr").filter(has_text="store__say").first.wait_for()


def test_a_log_is_followed_and_searched(browser: Browser) -> None:
    with browser.page("/logs/weather") as page:
        page.get_by_text("weather is here").first.wait_for()
        browser.other.call("weather__say", text="the wind turns")
        page.get_by_text("the wind turns").wait_for()
        browser.other.call("weather__say", text="\n".join(f"gust {number}" for number in range(1000)))
        page.get_by_text("came too fast to be shown").first.wait_for()
        page.get_by_text("gust 999").wait_for()
        page.get_by_label("Find").fill("wind turns")
        page.get_by_text("weather is here").first.wait_for(state="detached")
        assert page.locator(".line").count() == 1


def test_the_journal_is_filtered_opened_and_followed(browser: Browser) -> None:
    browser.other.call("weather__forecast", city="Bergen")
    browser.other.call("store__forecast", city="Tromsø")
    with browser.page("/journal") as page:
        page.get_by_label("Tool").fill("weather__*")
        only = "all => all.length && all.every(one => one.innerText.startsWith('weather__'))"
        browser.until(page, f"() => ({only})([...document.querySelectorAll('[role=option]')])")
        row(page, "weather__forecast").click()
        assert '"city": "Bergen"' in page.locator("[data-part=arguments]").inner_text()
        page.keyboard.press("Escape")
        assert not page.get_by_role("option").filter(has_text="store__forecast").count()
        browser.other.call("weather__say", text="it rains")
        browser.other.call("store__say", text="it is open")
        row(page, "weather__say").wait_for()
        page.get_by_label("Tool").fill("weather__say")
        page.get_by_label("All outcomes").select_option("!ok")
        page.get_by_text("Nothing was written down that fits.").wait_for()


def test_a_changed_tool_is_approved_after_its_change_was_shown(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "tools.json"
    words = listed(file, tool("now", "Tells the time."), tool("zones", "Lists the zones."))
    browser.other.register("clock", *words)
    listed(file, tool("now", "Tells the time, in a zone.", zone={"type": "string"}), tool("zones", "Lists."))
    browser.other.call("clock__announce")
    with browser.page("/approvals") as page:
        card = page.locator("article").filter(has_text="clock__now")
        card.get_by_role("button", name="Review").click()
        dialog = page.get_by_role("dialog")
        dialog.locator("ins").wait_for()  # it is ToolScore that asks
        assert dialog.locator("del").all_inner_texts() == ["Tells the time."]
        assert dialog.locator("ins").all_inner_texts() == ["Tells the time, in a zone."]
        assert "inputSchema.properties.zone.type" in dialog.inner_text()
        dialog.get_by_role("button", name="Leave in quarantine").click()
        page.get_by_text("did not approve it").wait_for()
        card.get_by_role("button", name="Review").click()
        page.get_by_role("dialog").get_by_role("button", name="Approve").click()
        page.get_by_text("clock__now is approved.").wait_for()
        card.wait_for(state="detached")
        other = page.locator("article").filter(has_text="clock__zones")
        other.get_by_role("button", name="Reject").click()
        page.get_by_role("dialog").get_by_role("button", name="Reject").click()
        other.get_by_text("rejected", exact=True).wait_for()
    held = browser.other.call("list_quarantined")["structuredContent"]["tools"]
    assert [(one["tool"], one["rejected"]) for one in held] == [("clock__zones", True)]


def test_an_installation_by_another_client_is_seen_and_ones_own_is_cancelled(
    browser: Browser, tmp_path: Path
) -> None:
    go_on = tmp_path / "go"
    source = f"command: {sys.executable} -S {FORECAST}"
    words = {"source": f"{source} late {go_on}", "name": "late"}
    asking = threading.Thread(target=browser.other.call, args=("install_server",), kwargs=words)
    with browser.page("/installs") as page:
        asking.start()
        card = page.locator("article").filter(has=page.get_by_role("heading", name="late"))
        card.locator("[data-install=running]").wait_for()
        browser.until(page, "() => document.querySelector('article progress')?.value > 0")
        card.get_by_text("starting late", exact=True).wait_for()
        go_on.touch()
        card.locator("[data-install=done]").wait_for()
        asking.join()
        mine = installing(page, f"{source} never {tmp_path / 'never'}", "never")
        mine.get_by_role("button", name="Cancel").click()
        mine.locator("[data-install=cancelled]").wait_for()
    names = {one["name"] for one in browser.other.call("list_servers")["structuredContent"]["servers"]}
    assert "late" in names
    assert "never" not in names


def test_a_group_is_drawn_with_what_it_needs_and_started_as_one(browser: Browser) -> None:
    with browser.page("/groups/shop") as page:
        page.get_by_role("link", name="orders, ready, needs store").wait_for()
        assert page.locator("path.edge").count() == 1
        boxes = "[...document.querySelectorAll('.node')].map(one => [one.dataset.name, one.getBoundingClientRect()])"
        left = {name: box["x"] for name, box in page.evaluate(boxes)}
        assert left["store"] < left["orders"], "what is needed is on the left"
        page.get_by_role("button", name="Stop all").click()
        page.get_by_role("dialog").get_by_role("button", name="Stop all").click()
        page.get_by_role("link", name="store, stopped, needs nothing").wait_for()
        page.get_by_role("button", name="Start all", exact=True).click()
        page.get_by_role("dialog").get_by_role("button", name="Start all", exact=True).click()
        page.get_by_role("link", name="orders, ready, needs store").wait_for()


def test_the_keyboard_is_enough(browser: Browser) -> None:
    with browser.page(token="") as page:
        page.get_by_label("Token").wait_for()
        page.keyboard.type(browser.one.token)
        page.keyboard.press("Enter")
        row(page, "weather").wait_for()
        page.keyboard.press("/")
        page.keyboard.type("weather")
        browser.until(page, "() => document.querySelectorAll('[role=option]').length === 1")
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="weather").wait_for()
        page.keyboard.press("?")
        page.get_by_role("dialog").wait_for()
        page.keyboard.press("Escape")
        page.get_by_role("dialog").wait_for(state="detached")
        page.get_by_role("tab", name="Servers").focus()
        page.keyboard.press("ArrowRight")
        page.get_by_role("tab", name="Tools", selected=True).wait_for()
        page.keyboard.press("Home")
        page.get_by_role("tab", name="Servers", selected=True).wait_for()
        page.get_by_role("tab", name="Groups").focus()
        page.keyboard.press("Enter")
        page.locator(".node[data-name=orders]").focus()
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="orders").wait_for()


def test_on_a_phone_nothing_scrolls_sideways(browser: Browser) -> None:
    with browser.page("/servers", size=(360, 740)) as page:
        for view in VIEWS:
            go(page, f"/{view}")
            page.locator(f"#view-{view}").wait_for()
            if view == "servers":
                row(page, "weather").click()
                page.get_by_role("button", name="Back").click()
            wide = page.evaluate(
                "[document.documentElement.scrollWidth, document.querySelector('main').scrollWidth]"
            )
            assert max(wide) <= 360, (view, wide)


def test_it_is_light_or_dark_as_the_system_or_as_chosen(browser: Browser) -> None:
    look = "() => getComputedStyle(document.body).backgroundColor"
    seen = []
    for dark in (False, True):
        with browser.page("/servers", dark=dark) as page:
            row(page, "weather").wait_for()
            seen.append(page.evaluate(look))
            if dark:
                page.get_by_role("button", name="Light or dark").click()
                seen.append(page.evaluate(look))
                page.reload()
                row(page, "weather").wait_for()
                seen.append(page.evaluate(look))
    light, dark_one, chosen, remembered = seen
    assert light != dark_one
    assert light == chosen == remembered


def test_it_speaks_chinese_where_the_browser_does(browser: Browser) -> None:
    with browser.page("/servers", language="zh-CN") as page:
        page.get_by_role("tab", name="服务器").wait_for()
        page.get_by_role("button", name="English").click()
        page.get_by_role("tab", name="Servers").wait_for()
        assert page.evaluate("document.documentElement.lang") == "en"


def test_markup_and_script_in_what_servers_say_stays_text(browser: Browser, tmp_path: Path) -> None:
    bad = "<img src=x onerror=\"window.pwned=1\"><script>window.pwned=1</script><a href='javascript:alert(1)'>x</a>"
    file = tmp_path / "tools.json"
    browser.other.register("nasty", *listed(file, tool("go", bad, **{bad: {"type": "string", "title": bad}})))
    browser.other.call("nasty__go", **{bad: bad})
    listed(file, tool("go", f"{bad} changed", other={"description": bad}))
    browser.other.call("nasty__announce")
    browser.other.call(
        "register_tool", name="worse", command=sys.executable, args=["-c", f"raise SystemExit({bad!r})"]
    )
    with browser.page("/journal") as page:
        page.get_by_label("Tool").fill("nasty__go")
        row(page, "nasty__go").click()
        page.locator("[data-part=arguments]").filter(has_text="<script>").wait_for()
        go(page, "/approvals")
        page.locator("article").filter(has_text="nasty__go").get_by_role("button", name="Review").click()
        page.get_by_role("dialog").get_by_text("<script>").first.wait_for()
        page.keyboard.press("Escape")
        go(page, "/installs")
        page.get_by_text("<script>").first.wait_for()
        go(page, "/tools/nasty__go")
        page.get_by_text("<script>").first.wait_for()
        go(page, "/servers/nasty")
        page.get_by_role("heading", name="nasty").wait_for()
        assert page.evaluate("window.pwned") is None
        assert not page.locator("#app :is(img, script, a[href])").count()


def test_it_connects_again_when_toolscore_is_restarted_and_goes_on(browser: Browser, tmp_path: Path) -> None:
    listen = f"ws://127.0.0.1:{free_port()}/mcp"
    home = tmp_path / "home"
    settings = {"network__rights": "call,manage", "tools__semantic": "off"}
    with ExitStack() as later:
        with serving(home, listen, options=(), **settings) as one:
            before = browser.at(one)
            before.other.register("weather", FORECAST)
            page = later.enter_context(before.page("/servers", allowed=LINE_IS_DOWN))
            row(page, "weather").wait_for()
        page.get_by_text("not connected; again in").wait_for()
        with serving(home, listen, options=(), **settings) as again:
            browser.at(again).other.register("second", FORECAST)
            # Not to wait for its time to come.
            now = "document.querySelector('.status button')?.click()"
            browser.until(page, f"() => ({now}, document.body.dataset.state === 'online')")
            row(page, "second").wait_for()
            later.close()


def test_a_line_that_is_dead_without_a_word_is_noticed_and_replaced(browser: Browser) -> None:
    with browser.page("/servers") as page:
        row(page, "weather").wait_for()
        page.clock.install()
        os.kill(
            browser.one.process.pid, signal.SIGSTOP
        )  # as a computer that sleeps, or a network that is gone
        try:
            page.evaluate("dispatchEvent(new Event('online'))")
            page.clock.run_for(15_000)
            browser.until(page, "() => document.body.dataset.state === 'connecting'")
        finally:
            os.kill(browser.one.process.pid, signal.SIGCONT)
        # It waits a second before it connects anew, which may be over before anybody has looked.
        browser.until(page, "() => ['waiting', 'online'].includes(document.body.dataset.state)")
        page.clock.run_for(1_000)
        browser.until(page, "() => document.body.dataset.state === 'online'")


def test_a_server_that_is_looked_at_does_not_fill_the_journal(browser: Browser) -> None:
    with browser.page("/tools") as page:
        row(page, "orders__forecast").wait_for()
        page.clock.install()
        go(page, "/servers/weather")
        page.get_by_role("heading", name="weather").wait_for()
        page.locator(".facts").get_by_text("2.1").wait_for()
        page.locator(".facts").evaluate("one => getSelection().selectAllChildren(one)")
        for _ in range(8):
            page.clock.run_for(3_000)
            page.evaluate("() => new Promise(resolve => requestAnimationFrame(resolve))")
        assert page.evaluate("getSelection().toString()"), "what somebody marks stays marked"
    asked = browser.other.call("read_journal", tool="*server_state", since="10m", limit=100)
    records = asked["structuredContent"]["records"]
    mine = [one["session"] for one in records if one["client"]["name"] == "toolscore-dashboard"]
    assert mine
    assert mine.count(mine[-1]) <= 4


def test_whoever_comes_after_somebody_else_sees_nothing_of_theirs(browser: Browser) -> None:
    token = browser.token("later", "call")
    with browser.page("/live") as page:
        calls = page.locator("#view-live td.what").get_by_text("call", exact=True)
        page.locator("#view-live table").wait_for()
        browser.other.call("store__say", text="not for everybody")
        calls.first.wait_for()
        page.keyboard.press("?")
        page.get_by_role("button", name="Forget the token").click()
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Connect").click()
        browser.until(page, "() => document.body.dataset.state === 'online'")
        page.locator("#view-live tr").filter(has_text="READY").first.wait_for()  # events, which it may see
        assert not calls.count()


def test_a_token_with_few_rights_sees_what_it_may_and_is_told_what_it_may_not(browser: Browser) -> None:
    token = browser.token("guest", "call")
    with browser.page("/journal", token=token) as page:
        page.get_by_text("Only of your own session").wait_for()
        go(page, "/servers/weather")
        page.get_by_role("button", name="Stop").click()
        page.get_by_role("dialog").get_by_role("button", name="Stop").click()
        page.get_by_text("guest").first.wait_for()
    found = browser.other.call("list_servers")["structuredContent"]["servers"]
    assert next(one for one in found if one["name"] == "weather")["state"] == "READY"
