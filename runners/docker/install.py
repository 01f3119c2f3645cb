"""One installation of an image: had where it is not there, and pinned by its id."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio

from ..container import Container
from ..errors import InstallError, SourceError
from ..installers.install import UNDO, new_directory, undo
from ..installers.source import Source, parse
from ..pin import Pin
from ..spec import Candidate, Installation, Report, ServerSpec, SourceKind
from .build import build
from .engine import Engine
from .images import content_of, digest_name, image_of, known_as, pull, refuse_other, split_name

VERSION_LABEL = "org.opencontainers.image.version"


async def install(
    engine: Engine,
    candidate: Candidate,
    report: Report,
    environ: Mapping[str, str],
    servers: Path,
    home: str,
) -> Installation:
    """Install a server that is an image.

    Args:
        engine: The engine.
        candidate: What to install and under which name.
        report: Told of every step.
        environ: ToolScore's environment.
        home: The id of the home, which owns what is built.
        servers: The folder that holds one folder for each server; an image leaves only notes there.

    Returns:
        The installation; nothing of it was started.

    Raises:
        SourceError: If the source is not understood.
        InstallError: If the image cannot be had, or is not what it must be.
        MachineAwayError: If the engine cannot be reached.
    """
    source = parse(candidate.source)
    if source.kind is not SourceKind.DOCKER:
        raise SourceError(f"{candidate.source!r} is no image; write docker:IMAGE.")
    if candidate.confine is not None:
        raise InstallError(
            "confine does not go with an image: its container is closed by itself. container opens it where needed."
        )
    if candidate.sha256 is not None:
        raise InstallError(f"A checksum goes with a package from an index, not with {candidate.source}.")
    place = new_directory(servers, candidate.name, candidate.place)
    try:
        directory = servers.absolute() / candidate.name
        if source.path is not None:
            return await _build(engine, candidate, source.path, report, directory, home)
        return await _install(engine, candidate, source, report, environ, directory)
    except BaseException:
        with anyio.move_on_after(UNDO, shield=True):
            await undo(place)
        raise


async def _install(
    engine: Engine,
    candidate: Candidate,
    source: Source,
    report: Report,
    environ: Mapping[str, str],
    directory: Path,
) -> Installation:
    options = candidate.container or Container()
    locked = candidate.locked.content if candidate.locked is not None else None

    async def had(name: str) -> dict[str, Any]:
        await pull(engine, name, report, environ, platform=options.platform)
        found = await image_of(engine, name)
        if found is None:
            raise InstallError(f"The engine said it got {name}, and has no image of that name.")
        return found

    image = await image_of(engine, source.name)
    if locked is not None:
        if image is None or locked not in known_as(image):
            exact_name = f"{split_name(source.name)[0]}@{locked}"
            image = (
                await image_of(engine, locked) or await image_of(engine, exact_name) or await had(exact_name)
            )
        refuse_other(image, locked, source.name)
    elif image is None or (candidate.place and image.get("RepoDigests")):
        # A tag that is there is as it was had; an upgrade asks its registry for it anew, if it has one.
        image = await had(source.name)
    exact = digest_name(image, source.name)
    pin = Pin(
        source=f"docker:{source.name}",
        content=content_of(image, source.name),
        place=candidate.place,
        unhashed=() if exact else (source.name,),
    )
    return _installation(candidate, image, directory, pin, split_name(source.name)[0], _tag(source.name))


async def _build(
    engine: Engine, candidate: Candidate, folder: Path, report: Report, directory: Path, home: str
) -> Installation:
    options = candidate.container or Container()
    locked = candidate.locked.content if candidate.locked is not None else None
    identity, content = await build(
        engine, folder, candidate.name, home, report, locked=locked, platform=options.platform
    )
    image = await image_of(engine, identity)
    if image is None:
        raise InstallError(f"The engine built {folder}, and has no image of that id.")
    pin = Pin(source=f"docker:{folder}", content=content, place=candidate.place)
    return _installation(candidate, image, directory, pin, folder.name, None)


def _installation(
    candidate: Candidate,
    image: Mapping[str, Any],
    directory: Path,
    pin: Pin,
    package: str,
    tag: str | None,
) -> Installation:
    labels = (image.get("Config") or {}).get("Labels") or {}
    options = candidate.container or Container()
    version = labels.get(VERSION_LABEL) or tag
    try:
        spec = ServerSpec(
            args=candidate.args,
            env=candidate.env,
            url=candidate.url,
            headers=candidate.headers,
            sse=candidate.sse,
            container=options.model_copy(update={"image": image["Id"]}),
        )
    except ValueError as error:
        raise InstallError(f"{candidate.source} cannot be installed: {error}") from None
    return Installation(
        server_id=candidate.name,
        kind=SourceKind.DOCKER,
        source=candidate.label or candidate.source,
        spec=spec,
        runtime="container",
        package=package,
        version=version,
        directory=str(directory),
        pin=pin,
    )


def _tag(name: str) -> str | None:
    tag = split_name(name)[1]
    return None if tag.startswith("sha256:") else tag
