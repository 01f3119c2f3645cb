"""What can be told of an entry beyond its fields: words to find it by, licence, tools, and which packages it is.

Publishers and registries put these under `_meta` as they like, so they are looked for by their names, not too deep.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from ...runners.spec import Installation, SourceKind
from .entry import Entry, said

MOST_TOOLS = 512
_MOST_NODES = 2000
_DEEPEST = 6
_WORDS = frozenset({"keywords", "categories", "category", "tags", "topics"})
_LICENCES = frozenset({"license", "licence", "spdx", "license_id", "spdx_id"})
_TOOLS = frozenset({"tools", "tool_definitions"})


def words(entry: Entry) -> list[str]:
    """Give keywords, categories and tags."""
    found: dict[str, None] = {}
    for key, value in _walked(entry.meta):
        if key in _WORDS:
            for word in value if isinstance(value, list) else [value]:
                text = said(word, 60)
                if text:
                    found[text] = None
            if len(found) >= 40:
                break
    return list(found)[:40]


def licence(entry: Entry) -> str | None:
    """Give the licence, where somebody says one."""
    for key, value in _walked(entry.meta):
        if key in _LICENCES:
            named = value.get("spdx_id") or value.get("name") if isinstance(value, Mapping) else value
            if text := said(named, 60):
                return text
    return None


def tools(entry: Entry) -> list[dict[str, Any]]:
    """Give the tools it says it has, as far as it tells of them."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in _walked(entry.meta):
        if key in _TOOLS and isinstance(value, list):
            for tool in value[:MOST_TOOLS]:
                kept = {"name": tool} if isinstance(tool, str) else tool
                if isinstance(kept, Mapping) and (name := said(kept.get("name"), 200)):
                    found.setdefault(name, {**kept, "name": name})
    return list(found.values())[:MOST_TOOLS]


def _walked(meta: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Go through nested objects from the outside in."""
    waiting: list[tuple[Any, int]] = [(meta, 0)]
    seen = 0
    while waiting and seen < _MOST_NODES:
        node, depth = waiting.pop(0)
        for key, value in node.items():
            if (seen := seen + 1) >= _MOST_NODES:
                return
            yield key.lower().replace("-", "_") if isinstance(key, str) else "", value
            if isinstance(value, Mapping) and depth < _DEEPEST:
                waiting.append((value, depth + 1))


def identities(entry: Entry) -> list[str]:
    """Say what an entry is by the packages and addresses it names, so that others who name the same are the same."""
    found = [f"registry:{entry.name.lower()}"]
    found += [identity(package.registry_type, package.identifier) for package in entry.packages]
    found += [one for remote in entry.remotes if (one := address(remote.url))]
    return list(dict.fromkeys(found))


def identities_of(installation: Installation) -> list[str]:
    """Say the same of what is installed here; nothing where it is nobody's but this machine's."""
    found: list[str] = []
    source = installation.source.strip()
    if source.startswith("registry:"):
        found.append(source.partition("@")[0].partition("#")[0].lower())
    if installation.package and installation.kind in (SourceKind.PYPI, SourceKind.NPM):
        found.append(identity(str(installation.kind), installation.package))
    else:
        kind, mark, rest = source.partition(":")
        if mark and kind in ("oci", "mcpb", "nuget"):
            found.append(identity(kind, rest))
    if installation.spec.command is None and (one := address(installation.spec.url)):
        found.append(one)
    return list(dict.fromkeys(found))


def identity(kind: str, identifier: str) -> str:
    """Name a package the same way however it is written."""
    match kind:
        case "pypi":
            identifier = re.sub(r"[-_.]+", "-", identifier)
        case "oci":
            identifier = _image(identifier)
        case "mcpb":
            identifier = address(identifier) or identifier
    return f"{kind}:{identifier.lower()}"


def _image(reference: str) -> str:
    """Give an image without its tag or digest, and with the registry that is meant where none is named."""
    image = reference.partition("@")[0]
    head, slash, last = image.rpartition("/")
    image = head + slash + last.partition(":")[0]
    first = image.partition("/")[0]
    if "/" not in image:
        image = f"docker.io/library/{image}"
    elif "." not in first and ":" not in first and first != "localhost":
        image = f"docker.io/{image}"
    return image


def address(url: str | None) -> str | None:
    """Give an address without what may be secret in it; `None` for what is reached on this machine only."""
    if not url or not url.lower().startswith(("https://", "http://", "wss://", "ws://")):
        return None
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not host or host in ("localhost", "127.0.0.1", "::1") or "$" in host:
        return None
    netloc = f"{host}:{port}" if port else host
    return f"{parts.scheme.lower()}://{netloc}{parts.path.rstrip('/')}"
