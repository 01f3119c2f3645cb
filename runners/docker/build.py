"""An image built from a folder's Dockerfile by the engine."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from ..errors import InstallError
from ..spec import Report
from .config import HOME_LABEL, SERVER_LABEL
from .context import packed
from .engine import Engine, EngineError
from .images import lines

_ID = re.compile(r"sha256:[0-9a-f]{64}")
_KEPT = 60
"""Lines of a build that an error carries."""

_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


async def build(
    engine: Engine,
    folder: Path,
    name: str,
    home: str,
    report: Report,
    *,
    locked: str | None,
    platform: str | None,
) -> tuple[str, str]:
    """Build an image.

    Args:
        engine: The engine.
        folder: The folder with the Dockerfile.
        name: The server's name.
        home: The id of the home, which owns the image.
        report: Told of each line of the build.
        locked: What the folder must come to; see `Pin.content`.
        platform: See `Container`.

    Returns:
        The image's id, and what the folder came to.

    Raises:
        InstallError: If it cannot be built, or is not what was locked.
        MachineAwayError: If the engine cannot be reached.
    """
    await report(0, None, f"packing {folder}")
    archive, digest = await asyncio.to_thread(packed, folder)
    try:
        content = f"sha256:{digest}"
        if locked is not None and locked != content:
            raise InstallError(
                f"The folder {folder} is not what was locked: it is {content} now, and {locked} is expected. Nothing "
                "was installed; get what was locked, or lock what there is."
            )
        params = {
            "t": f"toolscore/{name}:{digest[:12]}",
            "labels": {HOME_LABEL: home, SERVER_LABEL: name},
            "rm": True,
            "forcerm": True,
            "platform": platform,
        }
        said: list[str] = []
        image = ""
        try:
            async with engine.stream(
                "POST",
                "/build",
                params=params,
                data=archive,
                headers={"Content-Type": "application/x-tar"},
                patience=600.0,
            ) as response:
                async for told in lines(response.content):
                    if (error := told.get("error")) is not None:
                        raise EngineError(0, str(error))
                    image = _image(told) or image
                    for raw in str(told.get("stream") or told.get("status") or "").splitlines():
                        if line := _ESCAPES.sub("", raw).strip():
                            said.append(line)
                            del said[:-_KEPT]
                            await report(float(len(said)), None, line[:300])
        except EngineError as error:
            raise InstallError(
                f"{folder} could not be built: {error.message}", stderr="\n".join(said)
            ) from error
    finally:
        archive.close()
    if not image:
        raise InstallError(f"{folder} was built, and the engine did not say what came of it.")
    return image, content


def _image(told: dict[str, Any]) -> str:
    """Find the id of what was built in a message: by itself, or behind the words of older engines."""
    identity = (told.get("aux") or {}).get("ID")
    if isinstance(identity, str) and _ID.fullmatch(identity):
        return identity
    return ""


async def remove_built(engine: Engine, name: str, home: str) -> None:
    """Delete the images that were built for a server of this home; those that are in use stay."""
    filters = {"label": [f"{HOME_LABEL}={home}", f"{SERVER_LABEL}={name}"]}
    for one in await engine.ask("GET", "/images/json", params={"filters": filters}):
        try:
            await engine.ask("DELETE", f"/images/{one['Id']}", params={"force": True})
        except EngineError as error:
            if error.status not in (404, 409):
                raise
