"""The dashboard's forms in a real browser: of tools whatever their schemas are, and of servers to be installed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dashboard_house import FORECAST, Browser, browsing, installing, listed, needs_chromium, tool
from ports import free_port
from toolscore.server.home import Home
from toolscore.tools.named import NamedSecrets
from toolscore.tools.search.encoder import available
from toolscore.tools.secrets import Secrets

pytestmark = needs_chromium

ODD = {"toString": 1}
LONG = "x" * 300
CIRCLE = {
    "properties": {"kind": {"const": "circle"}, "radius": {"type": "integer"}},
    "required": ["kind", "radius"],
}
SQUARE = {
    "properties": {"kind": {"const": "square"}, "side": {"type": "integer"}},
    "required": ["kind", "side"],
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "draw": {
        "type": "object",
        "properties": {"name": {"type": "string"}},
        "required": ["name"],
        "oneOf": [CIRCLE, SQUARE],
    },
    "keep": {
        "type": "object",
        "properties": {
            "where": {"type": "string"},
            "count": {"type": "integer", "maximum": 9},
            "shape": {"oneOf": [{"type": "object", **CIRCLE}, {"type": "object", **SQUARE}]},
            "last": {"type": "string"},
        },
        "required": ["where", "last"],
    },
    "any": {"type": "object"},
    "odd": {
        "type": "object",
        "properties": {
            "__proto__": {"type": "string", "default": "mine"},
            "one": {"enum": [ODD, None]},
            "two": {
                "type": "string",
                "title": ODD,
                "description": 5,
                "default": ODD,
                "examples": [ODD],
                "pattern": 7,
            },
            "three": {"type": "integer", "default": ODD, "minimum": "x", "multipleOf": "abc"},
            "four": {"type": "array", "items": {"enum": ["a"]}, "default": "abc"},
            "five": {"type": "object", "properties": ["a"], "required": 5},
            "six": {"type": ODD, "oneOf": ODD, "allOf": [True, 3]},
            "never": False,
            LONG: {"type": "string", "description": LONG},
            "plain": {"type": "string"},
        },
        "required": ["plain"],
    },
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("forms")
    with browsing(folder, tools__semantic="auto") as one:
        tools = [{**tool(name, f"Does {name}."), "inputSchema": schema} for name, schema in SCHEMAS.items()]
        one.other.register("forms", *listed(folder / "tools.json", *tools))
        yield one


def turned(page: Any) -> Any:
    """Show the arguments as JSON; give where they are."""
    page.get_by_role("button", name="JSON", exact=True).click()
    return page.get_by_role("textbox", name="JSON", exact=True)


def back(page: Any) -> None:
    page.get_by_role("button", name="Form", exact=True).click()


def test_arguments_of_several_kinds_are_chosen_among_and_sent(browser: Browser) -> None:
    with browser.page("/tools/forms__draw") as page:
        page.get_by_label("Kind").select_option("kind: square")
        page.get_by_label("name").fill("mine")
        page.get_by_label("side").fill("3")
        page.get_by_role("button", name="Run").click()
        page.locator("[data-outcome=ok]").wait_for()
        text = turned(page)
        assert json.loads(text.input_value()) == {"name": "mine", "kind": "square", "side": 3}
        text.fill('{"name": "mine", "kind": "circle", "radius": 2}')
        back(page)
        assert page.get_by_label("radius").input_value() == "2"


def test_nothing_is_lost_between_the_form_and_its_json(browser: Browser) -> None:
    with browser.page("/tools/forms__keep") as page:
        page.get_by_label("where").fill("here")
        page.get_by_label("count").fill("99")
        text = turned(page)  # although it is not all that is needed, nor right
        assert json.loads(text.input_value()) == {"where": "here", "count": 99}
        back(page)
        assert page.get_by_label("where").input_value() == "here"
        square = {"kind": "square", "side": 4}
        for given in ({"shape": {**square, "more": 1}}, {"more": 1}, {"where": 5}):
            turned(page).fill(json.dumps(given))
            back(page)
            page.locator(".schema-form > .error").filter(has_text="JSON").wait_for()
        turned(page).fill(json.dumps({"shape": square}))
        back(page)
        assert page.get_by_label("side").input_value() == "4"


def test_a_tool_that_says_nothing_of_its_arguments_is_given_some_as_json(browser: Browser) -> None:
    with browser.page("/tools/forms__any") as page:
        turned(page).fill('{"anything": [1]}')
        page.get_by_role("button", name="Run").click()
        page.locator("[data-outcome=ok]").wait_for()


def test_a_schema_that_makes_no_sense_has_a_form_all_the_same(browser: Browser) -> None:
    with browser.page("/tools/forms__odd", size=(360, 740)) as page:
        page.get_by_label("plain").fill("words")
        assert json.loads(turned(page).input_value()) | {"__proto__": "mine", "plain": "words"} == json.loads(
            page.get_by_role("textbox", name="JSON", exact=True).input_value()
        )
        assert not page.get_by_label("never").count()
        page.get_by_role("button", name="Form", exact=True).click()
        page.get_by_label(LONG).wait_for()
        assert page.evaluate("document.querySelector('.detail').scrollWidth") <= 360


def test_a_row_that_is_pressed_while_the_list_changes_is_opened(browser: Browser) -> None:
    with browser.page("/servers") as page:
        pressed = page.locator(".row").filter(has_text="forms")
        pressed.hover()
        page.mouse.down()
        browser.other.register("later", FORECAST)
        page.locator(".count").filter(has_text="2 servers").wait_for()
        page.mouse.up()
        page.get_by_role("heading", name="forms").wait_for()
        page.locator(".row").filter(has_text="later").wait_for()


def test_a_button_of_an_installation_stays_the_same_one_while_others_go_on(
    browser: Browser, tmp_path: Path
) -> None:
    source = f"command: {sys.executable} -S {FORECAST}"
    with browser.page("/installs") as page:
        mine = installing(page, f"{source} never {tmp_path / 'never'}", "never")
        mine.get_by_role("button", name="Cancel").focus()
        browser.other.call("install_server", source=source, name="other")
        page.locator("article").filter(has_text="other").locator("[data-install=done]").wait_for()
        assert page.evaluate("document.activeElement.textContent") == "Cancel"
        page.keyboard.press("Enter")
        mine.locator("[data-install=cancelled]").wait_for()


def test_a_key_that_is_held_too_long_is_no_answer_to_a_question(browser: Browser) -> None:
    with browser.page("/installs", token=browser.token("guest", "call")) as page:
        page.get_by_text("Install from a source").click()
        page.get_by_label("Source", exact=True).fill(f"command: {sys.executable} -S {FORECAST}")
        page.keyboard.down("Enter")
        allow = page.get_by_role("dialog").get_by_label("Allow it")
        allow.wait_for()
        assert allow.is_checked()
        page.keyboard.down("Enter")  # as the keyboard repeats it
        page.keyboard.up("Enter")
        page.evaluate(
            "() => new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve)))"
        )
        assert allow.is_visible()
        page.keyboard.press("Escape")
        page.locator(".note.bad").filter(has_text="said no").wait_for()


def test_a_secret_of_a_catalog_entry_is_set_elsewhere_and_referred_to(
    browser: Browser, tmp_path: Path
) -> None:
    port = free_port()
    header = {"name": "X-Key", "isRequired": True, "isSecret": True, "description": "Key of the harbour."}
    remote = {"type": "streamable-http", "url": f"http://127.0.0.1:{port}/mcp", "headers": [header]}
    entry = {
        "name": "io.github.a/harbour",
        "description": "Ships and tides.",
        "version": "1.0.0",
        "remotes": [remote],
    }
    (tmp_path / "entry.json").write_text(json.dumps(entry))
    browser.other.call("sync_catalog", source=str(tmp_path))
    with browser.page("/installs") as page:
        page.get_by_placeholder("What should a server be able to do?").fill("ships")
        page.keyboard.press("Enter")
        card = page.locator("article").filter(has_text="harbour")
        assert card.get_by_label("X-Key").input_value() == "${X_Key}"
        card.get_by_text("toolscore secret set X_Key").wait_for()
        card.get_by_role("button", name="Install").click()
        page.locator(".note.bad").filter(has_text="${X_Key} is not set").wait_for()
        home = Home.at(browser.one.home)
        NamedSecrets(Secrets(home.secrets_file), home.path).set("X_Key", "hunter2", "file")
        card.get_by_role("button", name="Install").click()
        # With all that it needs, it is looked for, where nobody is.
        page.locator(".note.bad").filter(has_text=f"the connection to {remote['url']}").wait_for()


@pytest.mark.skipif(available() is not None, reason="the extra toolscore[semantic] is not installed")
def test_how_far_the_index_by_meaning_is_can_be_seen_while_it_is_built(
    browser: Browser, tmp_path: Path
) -> None:
    tools = [tool(f"boil_{one}", f"Boils {one} eggs in a pan of {one * 7} litres.") for one in range(200)]
    browser.other.register("kitchen", *listed(tmp_path / "tools.json", *tools))
    with browser.page("/installs") as page, ThreadPoolExecutor(1) as pool:
        page.get_by_text("Under way, and lately").wait_for()
        card = page.locator("[data-index]")
        assert not card.count()
        work = pool.submit(browser.other.call, "toolscore__index_tools")
        card.get_by_role("progressbar", name="Search by meaning").wait_for()
        card.wait_for(state="detached")
        assert work.result()["structuredContent"]["by_meaning"]
