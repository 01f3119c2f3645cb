"""The pages: which there are, which are open, and what they say in each phase of a life."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from toolscore import __version__
from toolscore.runners.lifecycle import State
from toolscore.server.pages import PATHS, Component, Page, Pages, Status, server_component

STORE = Component("store", "toolscore.db", "ok")
LISTENER = Component("listener", "ws://127.0.0.1:8765/mcp", "ok", details={"connections": 3})


def pages(status: Status) -> Pages:
    return Pages(lambda: status, figures)


async def figures() -> bytes:
    return b"figure 1\n"


def said(status: Status, path: str) -> tuple[int, Any]:
    page = asyncio.run(pages(status).answer(path))
    assert page is not None
    assert page.content_type == "application/json"
    return page.status, json.loads(page.body)


def with_server(state: State, **options: Any) -> Status:
    server = server_component(
        "time", state, **{"since": 1.5, "restarts": 2, "reason": "it crashed", **options}
    )
    return Status("ok", 7.25, (STORE, LISTENER, server))


def test_only_words_are_open_to_everybody() -> None:
    open_pages = {path for path in PATHS if Pages.is_open(path)}
    assert set(PATHS) - open_pages == {"/health/detailed", "/metrics"}
    assert Pages.is_open("/health?x=1")
    for path in ("/mcp", "/register", "/health/", "/health/detailed?x", "//", ""):
        assert not Pages.is_open(path)


def test_what_is_no_page_is_left_to_others() -> None:
    for path in ("/mcp", "/health/", "/Health", "/health/../metrics", "", "/register", "//"):
        assert asyncio.run(pages(Status("ok")).answer(path)) is None


def test_the_root_says_what_this_is_and_what_else_there_is() -> None:
    assert said(Status("starting"), "/") == (
        200,
        {"name": "toolscore", "version": __version__, "paths": list(PATHS)},
    )


@pytest.mark.parametrize(
    ("status", "code", "word"),
    [
        (Status("starting"), 503, "starting"),
        (Status("ok"), 200, "ok"),
        (with_server(State.READY), 200, "ok"),
        (with_server(State.STARTING), 200, "ok"),
        (with_server(State.STOPPED), 200, "ok"),
        (with_server(State.FAILED), 200, "degraded"),
        (with_server(State.BACKOFF), 200, "degraded"),
        (with_server(State.FAILED, enabled=False), 200, "ok"),
        (Status("stopping", 1.0, with_server(State.FAILED).components), 503, "stopping"),
    ],
)
def test_health_is_one_word(status: Status, code: int, word: str) -> None:
    assert said(status, "/health") == (code, {"status": word})
    assert said(status, "/health/detailed")[1]["status"] == word


def test_it_lives_whatever_its_phase() -> None:
    def broken() -> Status:
        raise AssertionError("a look at the parts could hang with them")

    for path in ("/health/live", "/health/liveness"):
        page = asyncio.run(Pages(broken, figures).answer(path))
        assert page is not None
        assert (page.status, json.loads(page.body)) == (200, {"status": "live"})


@pytest.mark.parametrize("path", ["/health/ready", "/health/readiness"])
def test_it_is_ready_from_the_opened_library_to_the_end(path: str) -> None:
    code, body = said(Status("starting"), path)
    assert (code, body["status"]) == (503, "not ready")
    assert "starting" in body["reason"]
    assert said(Status("ok"), path) == (200, {"status": "ready"})
    assert said(with_server(State.FAILED), path) == (200, {"status": "ready"})
    code, body = said(Status("stopping"), path)
    assert (code, body["status"]) == (503, "not ready")
    assert "stopping" in body["reason"]


def test_the_detailed_page_names_every_part() -> None:
    code, body = said(with_server(State.BACKOFF), "/health/detailed")
    assert code == 200
    assert (body["version"], body["uptime_seconds"]) == (__version__, 7.25)
    assert [part["name"] for part in body["components"]] == [
        "toolscore.db",
        "ws://127.0.0.1:8765/mcp",
        "time",
    ]
    assert body["components"][1] == {
        "kind": "listener",
        "name": "ws://127.0.0.1:8765/mcp",
        "status": "ok",
        "reason": "",
        "details": {"connections": 3},
    }
    assert body["components"][2] == {
        "kind": "server",
        "name": "time",
        "status": "failed",
        "reason": "it crashed",
        "details": {"state": "BACKOFF", "since": 1.5, "restarts": 2},
    }


@pytest.mark.parametrize("state", State)
def test_a_server_in_any_state_can_be_told(state: State) -> None:
    _, body = said(with_server(state, reason="a tail of a log \ud800\x00"), "/health/detailed")
    assert body["components"][2]["details"]["state"] == state.value


def test_a_server_that_is_ready_again_has_no_reason_left() -> None:
    _, body = said(with_server(State.READY), "/health/detailed")
    assert body["components"][2]["reason"] == ""


def _got(path: str, method: str) -> Page:
    page = asyncio.run(pages(Status("ok")).answer(path, method))
    assert page is not None
    return page


def test_the_figures_have_the_type_scrapers_expect() -> None:
    page = _got("/metrics?x=1", "GET")
    assert (page.status, page.body) == (200, b"figure 1\n")
    assert page.content_type == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize("path", PATHS)
def test_head_is_get_without_the_body(path: str) -> None:
    get, head = _got(path, "GET"), _got(path, "HEAD")
    assert head.body == b""
    assert (head.status, head.content_type, head.headers) == (get.status, get.content_type, get.headers)
    assert head.headers["Content-Length"] == str(len(get.body))
    assert head.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get"])
def test_other_methods_are_not_allowed(path: str, method: str) -> None:
    page = _got(path, method)
    assert page.status == 405
    assert page.headers["Allow"] == "GET, HEAD"
