"""npm's lock, freed of where its packages were fetched from, and read back with suspicion."""

from __future__ import annotations

import re
from typing import Any

from pydantic_core import from_json, to_json

from ..errors import InstallError

_COMMIT = re.compile(r"git\+(?:https|ssh)://[^\s#]+#[0-9a-f]{40}")
_INTEGRITY = re.compile(r"(?:(?:sha1|sha256|sha384|sha512)-[A-Za-z0-9+/]+={0,2}\s*)+")
_PLACE = re.compile(r"(?:(?:^|/)node_modules/(?:@[^/@\s]+/)?[^/@\s]+)+")


def freed(text: str, *, package: str | None = None, version: str | None = None) -> str:
    """Give a lock without the addresses of the registry.

    Which registry is asked is a machine's own setting; what a package must be its integrity says.

    Args:
        text: The lock as npm wrote it.
        package: A package that was installed from a file, and is to be had from the registry.
        version: Its version.

    Raises:
        InstallError: If it cannot be read.
    """
    lock = _read(text)
    for entry in lock["packages"].values():
        resolved = entry.get("resolved")
        if (
            isinstance(resolved, str)
            and resolved.startswith(("http://", "https://"))
            and entry.get("integrity")
        ):
            del entry["resolved"]
    if package is not None and version is not None:
        lock["packages"][""]["dependencies"] = {package: version}
        lock["packages"][f"node_modules/{package}"].pop("resolved", None)
    lock.pop("name", None)
    return to_json(lock, indent=2).decode() + "\n"


def check(text: str, *, package: str | None = None) -> dict[str, Any]:
    """Refuse a lock from elsewhere that names anything but packages with their integrity.

    Args:
        text: The lock.
        package: The only package that may be asked for, where it is of a package and not of a project.

    Returns:
        What it asks for directly, by name.

    Raises:
        InstallError: If it does.
    """
    lock = _read(text)
    packages = lock["packages"]
    wanted = packages.get("", {}).get("dependencies") or {}
    if package is not None:
        root = packages.get("", {})
        others = [
            key for key in ("devDependencies", "optionalDependencies", "peerDependencies") if root.get(key)
        ]
        if list(wanted) != [package] or others or not isinstance(wanted[package], str):
            raise _wrong(
                f"asks for {', '.join(map(str, [*wanted, *others])) or 'nothing'}, not for {package} alone"
            )
        if re.match(r"(?:file|git|https?|ssh|npm|link|github)\b.*:|[./~]", wanted[package]):
            raise _wrong(f"takes {package} from {wanted[package][:120]!r}")
    for place, entry in packages.items():
        if place == "":
            continue
        resolved = entry.get("resolved")
        inner = package is None and not place.startswith(("/", "..")) and ".." not in place.split("/")
        if (
            entry.get("link") is True
            and inner
            and isinstance(resolved, str)
            and ".." not in resolved.split("/")
        ):
            continue  # a folder of the project
        if "node_modules" not in place.split("/") and inner and resolved is None:
            continue  # what such a link leads to
        if not _PLACE.fullmatch(place[place.find("node_modules/") :]) or (
            package is not None and not inner_of(place)
        ):
            raise _wrong(f"holds {place[:120]!r}, which is no place of a package")
        if isinstance(resolved, str) and _COMMIT.fullmatch(resolved):
            continue
        if resolved is not None or entry.get("link"):
            raise _wrong(f"takes {place[:120]} from {str(resolved)[:120]!r}")
        if entry.get("inBundle") is True:
            continue  # it comes in the file of another
        if not isinstance(entry.get("integrity"), str) or not _INTEGRITY.fullmatch(entry["integrity"]):
            raise _wrong(f"has no integrity for {place[:120]}")
    return dict(wanted)


def inner_of(place: str) -> bool:
    """Tell whether a place is one in `node_modules`."""
    return place.startswith("node_modules/") and ".." not in place.split("/")


def unhashed(text: str) -> list[str]:
    """Give the places without integrity: commits, and folders of a project."""
    return sorted(
        place
        for place, entry in _read(text)["packages"].items()
        if place and not entry.get("integrity") and not entry.get("inBundle") and not entry.get("link")
    )


def versions(text: str) -> dict[str, str]:
    """Give the version of each package, by its place without `node_modules/` at its beginning."""
    return {
        place.removeprefix("node_modules/"): str(entry.get("version") or entry.get("resolved") or "")
        for place, entry in _read(text)["packages"].items()
        if place
    }


def _read(text: str) -> dict[str, Any]:
    try:
        lock = from_json(text)
    except ValueError as error:
        raise _wrong(f"cannot be read ({error})") from None
    packages = lock.get("packages") if isinstance(lock, dict) else None
    if not isinstance(packages, dict) or not all(isinstance(entry, dict) for entry in packages.values()):
        raise _wrong("names no packages; it is of an npm older than 7, or no lock")
    return dict(lock)


def _wrong(what: str) -> InstallError:
    return InstallError(f"The lock of its npm packages {what}; nothing was installed.")
