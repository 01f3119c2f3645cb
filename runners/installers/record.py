"""What Python packages say of their own files (`RECORD`, PEP 376), held against what is there."""

from __future__ import annotations

import base64
import binascii
import csv
from pathlib import Path, PurePosixPath

from ..errors import InstallError
from .file_list import read_list


class DamagedError(InstallError):
    """Installed files are not what the package they came in says of them.

    Args:
        paths: Theirs, in the place.
    """

    def __init__(self, paths: list[str]) -> None:
        super().__init__(
            f"What was installed is not what its packages say: {', '.join(paths[:5])} differ, fetched anew too, past "
            "uv's cache. The packages themselves are wrong, or something changes files while they are installed."
        )
        self.paths = paths


def damaged_files(place: Path, listed: str) -> list[str]:
    """Find installed files that are not what the package they came in says of them.

    uv links files of its cache into an environment: what changed there through another environment would be
    installed, and no checksum of a package would tell.

    Args:
        place: Where the version is.
        listed: What `list_files` gave of it.

    Returns:
        Their paths in the place, sorted. Scripts are not among them, as they are made for each environment.
    """
    found = read_list(listed)
    damaged: list[str] = []
    for record in place.glob("venv/lib/python*/site-packages/*.dist-info/RECORD"):
        site = record.parent.parent
        base = PurePosixPath(site.relative_to(place).as_posix())
        for row in csv.reader(record.read_text(encoding="utf-8", errors="replace").splitlines()):
            if len(row) < 2 or not row[1].startswith("sha256="):
                continue
            path = base / row[0]
            known = found.get(str(path))
            if known is None or ".." in path.parts or path.suffix in (".pth", ".egg-link"):
                continue
            if path.name != "direct_url.json" and known != _hexadecimal(row[1].removeprefix("sha256=")):
                damaged.append(str(path))
    return sorted(damaged)


def _hexadecimal(text: str) -> str:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).hex()
    except (binascii.Error, ValueError):
        return ""
