"""What mkdocs is told besides mkdocs.yml: pages outside of docs/, links to the source, pages without a place."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = {
    "SECURITY.md": "security.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
}
"""Documents that forges look for elsewhere, and their places in the site."""
_PLACES = {**OUTSIDE, "README.md": "index.md"}
_LINK = re.compile(r"(`[^`\n]+`)|(!?)\[((?:[^\]\[]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_FENCES = re.compile(r"(^ *```.*?^ *```)", re.MULTILINE | re.DOTALL)
_MERMAID = re.compile(r"^```mermaid\n.*?^```$", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Take in the documents that lie outside of docs/."""
    for source, name in OUTSIDE.items():
        text = (ROOT / source).read_text("utf-8")
        files.append(File.generated(config, name, content=relinked(text, PurePosixPath(source), name)))
    config.nav = _there(config.nav, {one.src_uri for one in files.documentation_pages()})
    placed = set(_named(config.nav))
    lost = sorted(
        one.src_uri
        for one in files.documentation_pages()
        if one.src_uri not in placed and one.inclusion is not InclusionLevel.EXCLUDED
    )
    # So that a new page is found by its readers before somebody gave it a place of its own.
    if lost:
        config.nav[-1]["More"].extend(lost)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links to where they go in the site, and show drawings that forges draw themselves."""
    if page.file.src_uri in OUTSIDE.values():
        return markdown
    source = PurePosixPath("docs", page.file.src_uri)
    drawing = os.path.relpath(f"images/{source.stem}.svg", str(source.parent.relative_to("docs")))
    markdown = _MERMAID.sub(f"![{page.title}]({drawing})", markdown)
    return relinked(markdown, source, page.file.src_uri)


def relinked(text: str, source: PurePosixPath, place: str) -> str:
    """Lead the links of a document to the site's pages; what is not in the site is only named.

    Args:
        text: The document.
        source: Where it lies in the project.
        place: Where it lies in the site.
    """

    def one(found: re.Match[str]) -> str:
        code, image, said, target = found.groups()
        if code is not None:
            return code
        path, mark, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target) or not path:
            return found[0]
        aimed = os.path.normpath(source.parent / path)
        inside = _PLACES.get(aimed) or (aimed.removeprefix("docs/") if aimed.startswith("docs/") else None)
        if inside is None:
            return f"{said} (`{aimed}`)" if aimed not in said else said
        return f"{image}[{said}]({os.path.relpath(inside, str(PurePosixPath(place).parent))}{mark}{anchor})"

    parts = _FENCES.split(text)
    return "".join(part if at % 2 else _LINK.sub(one, part) for at, part in enumerate(parts))


def _there(nav: Any, pages: set[str]) -> Any:
    """Leave out of a navigation what is no page, so that one can have its place before it is written."""
    if isinstance(nav, dict):
        return {title: left for title, inside in nav.items() if (left := _there(inside, pages))}
    if isinstance(nav, list):
        return [left for one in nav if (left := _there(one, pages))]
    return nav if nav in pages else None


def _named(nav: Any) -> list[str]:
    """Give the pages that a navigation names."""
    if isinstance(nav, str):
        return [nav]
    inside = nav.values() if isinstance(nav, dict) else nav
    return [page for one in inside for page in _named(one)]
