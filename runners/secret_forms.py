"""The forms in which programs commonly repeat a value: in JSON, in addresses, in HTML, encoded."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable
from urllib.parse import quote, quote_plus

SHORTEST = 6
"""Characters from which on a value is masked in answers: a shorter one is in half the words there are."""

_PERCENT = re.compile(r"%[0-9A-F]{2}")
_URL_SAFE = str.maketrans("+/", "-_")


def forms(value: str) -> set[str]:
    """Give the ways in which a value is commonly written, but for those that are too short to be told from others."""
    raw = value.encode("utf-8", "surrogatepass")
    found = {value, repr(value)[1:-1], repr(raw)[2:-1], html.escape(value), html.escape(value, quote=False)}
    found |= {
        html.escape(value).replace("&#x27;", "&#39;").replace("&quot;", quot) for quot in ("&quot;", "&#34;")
    }
    # As a shell and a table of comma-separated values have quotes within quotes.
    found |= {value.replace("'", "'\\''"), value.replace("'", "'\"'\"'"), value.replace('"', '""')}
    for ascii_only in (True, False):
        # As it is in JSON, as that is in JSON once more, and with slashes escaped, as some libraries do.
        once = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        twice = json.dumps(once, ensure_ascii=ascii_only)[1:-1]
        found |= {once, twice, json.dumps(twice, ensure_ascii=ascii_only)[1:-1]}
        found |= {once.replace("/", "\\/"), twice.replace("/", "\\\\/")}
    ways: tuple[Callable[[bytes], str], ...] = (
        lambda one: quote(one, safe=""),
        lambda one: quote(one, safe="/"),
        lambda one: quote(one, safe="!'()*"),  # JavaScript's encodeURIComponent
        quote_plus,
    )
    for way in ways:
        percent = way(raw)
        twice = quote(percent, safe="")  # in an address that is within another one
        found |= {percent, twice, _PERCENT.sub(_lower, percent), _PERCENT.sub(_lower, twice)}
    found |= {raw.hex(), raw.hex().upper()}
    for shift in range(3):
        # Within other bytes it begins at one of three places; the characters at its ends depend on its neighbours.
        first, last = -(-8 * shift // 6), 8 * (shift + len(raw)) // 6
        coded = base64.b64encode(b"\0" * shift + raw).decode()[first:last]
        found |= {coded, coded.translate(_URL_SAFE)}
    return {form for form in found if len(form) >= SHORTEST}


def _lower(match: re.Match[str]) -> str:
    return match[0].lower()
