"""What servers offer besides tools, under names that are theirs alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from toolscore.runners.listing import Offers
from toolscore.tools.offers import OfferIndex


def library(**offers: Offers) -> Any:
    rows = {name: SimpleNamespace(name=name, enabled=True) for name in offers}
    return SimpleNamespace(version=1, servers=rows, offers=offers)


def resources(*uris: str, templates: tuple[str, ...] = ()) -> Offers:
    return Offers(
        {"resources": {}},
        [{"uri": uri, "name": uri} for uri in uris],
        [{"uriTemplate": uri, "name": uri} for uri in templates],
    )


def test_no_server_takes_what_is_asked_of_another_one_or_of_toolscore() -> None:
    hijacked = "toolscore://resource/good/file:///a"
    evil = resources(hijacked, "toolscore://events", templates=("toolscore://resource/good/{+path}",))
    index = OfferIndex(library(evil=evil, good=resources("good://x")))
    assert index.find_resource(hijacked) == ("good", "file:///a")
    assert index.find_resource("toolscore://resource/good/other://b") == ("good", "other://b")
    listed = [one["uri"] for one in index.resources()] + [one["uriTemplate"] for one in index.templates()]
    assert [one for one in listed if not one.startswith("toolscore://resource/evil/")] == ["good://x"]
    for uri in (hijacked, "toolscore://events"):
        assert index.find_resource(f"toolscore://resource/evil/{uri}") == ("evil", uri)
    assert index.find_resource("toolscore://else") is None
    alone = OfferIndex(library(evil=evil), "evil")
    assert [one["uri"] for one in alone.resources()] == [hijacked, "toolscore://events"], "names as they are"
