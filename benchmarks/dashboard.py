"""What the dashboard weighs, and how soon it can be used with many servers and tools.

    .venv/bin/python benchmarks/dashboard.py [--servers 100] [--tools 5000] [--rounds 5]

A ToolScore of its own has so many servers with so many tools together; they are listed once, then it is started again
with all of them stopped, so that nothing but the page is at work. Each round is a new browser profile (Debian's
Chromium, headless, with an empty cache) on loopback: from the beginning of the navigation (`performance.timeOrigin`)
until the rows of the view are there, by the page's own clock, for Servers and for Tools. Then it is asked which long
tasks there were (`longtask`), for a page that shows itself and does not answer is of no use. What is fetched and
computed on the two sides shares this machine's processors.

Goals: less than 300 kB, less than a second.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from dashboard_house import LISTING, Browser, chromium, tool
from listening import serving

HEAVIEST = 300_000
SLOWEST = 1.0

SETTINGS = {"network__rights": "call,manage", "tools__semantic": "off"}

READY = """([view, count]) => new Promise((done) => {
  const look = () => {
    const list = document.querySelector(`#view-${view} [role=option]`);
    if (list && Number(list.getAttribute("aria-setsize")) >= count) {
      requestAnimationFrame(() => setTimeout(() => done(performance.now() / 1000)));
    } else setTimeout(look, 5);
  };
  look();
})"""

FIRST = """(view) => new Promise((done) => {
  const look = () => {
    if (document.querySelector(`#view-${view} [role=option]`)) done(performance.now() / 1000);
    else setTimeout(look, 5);
  };
  look();
})"""


def furnish(browser: Browser, folder: Path, servers: int, tools: int) -> None:
    """Register the servers, each with its share of the tools."""
    for number in range(servers):
        file = folder / f"tools{number}.json"
        share = range(number * tools // servers, (number + 1) * tools // servers)
        file.write_text(
            json.dumps(
                [
                    tool(f"tool_{one}", f"Does thing {one} of the many there are.", what={"type": "string"})
                    for one in share
                ]
            )
        )
        browser.other.register(f"server{number:03}", LISTING, str(file))
    browser.other.call("manage_server", name="*", action="stop")


def weight(one: Any) -> tuple[int, int]:
    """Give the bytes of the page, and those that are sent of it."""
    request = urllib.request.Request(
        one.page("/"), headers={"Accept": "text/html", "Accept-Encoding": "gzip"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        packed = answer.read()
    return len(gzip.decompress(packed)), len(packed)


def visit(browser: Any, one: Any, view: str, count: int) -> tuple[float, float, float]:
    """Open the page in a fresh profile; give the times of the first row, of all, and of the longest task."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    try:
        page = context.new_page()
        page.add_init_script(
            "window.longest = 0; new PerformanceObserver((list) => { for (const one of list.getEntries()) "
            "window.longest = Math.max(window.longest, one.duration); })"
            ".observe({ type: 'longtask', buffered: true });"
            f"sessionStorage.setItem('toolscore.token', {one.token!r});"
        )
        page.goto(f"{one.page('/')}#/{view}", wait_until="commit")
        first = page.evaluate(FIRST, view)
        whole = page.evaluate(READY, [view, count])
        return first, whole, page.evaluate("window.longest / 1000")
    finally:
        context.close()


def main() -> int:
    """Measure, print, and tell whether the goals are reached."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--servers", type=int, default=100)
    parser.add_argument("--tools", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    reached = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home = folder / "home"
        with serving(home, options=(), **SETTINGS) as one:
            furnish(Browser(one, None), folder, given.servers, given.tools)
        with (
            serving(home, options=(), process__start="use", **SETTINGS) as one,
            chromium() as found,
        ):
            raw, packed = weight(one)
            reached &= raw < HEAVIEST
            print(
                f"page: {raw / 1000:.0f} kB, {packed / 1000:.0f} kB as it is sent (goal: < {HEAVIEST // 1000} kB)"
            )
            for view, count in (("servers", given.servers), ("tools", given.tools)):
                rounds = [visit(found, one, view, count) for _ in range(given.rounds)]
                first, whole, longest = (statistics.median(column) for column in zip(*rounds, strict=True))
                reached &= first < SLOWEST
                print(
                    f"{view}: usable after {first:.2f} s (goal: < {SLOWEST:g} s), all {count} known after "
                    f"{whole:.2f} s; "
                    f"longest task {longest:.2f} s; median of {given.rounds}, usable "
                    f"{min(one[0] for one in rounds):.2f} to {max(one[0] for one in rounds):.2f} s"
                )
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
