"""One installation of an image: had where it is not there, and pinned by its id."""

from __future__ import annotations

from collections.abc import Mapping

from ..container import Container
from ..errors import InstallError, SourceError
from ..installers.source import parse
from ..pin import Pin
from ..spec import Candidate, Installation, Report, ServerSpec, SourceKind
from .engine import Engine
from .images import digest_name, image_of, pull, refuse_other, split_name

VERSION_LABEL = "org.opencontainers.image.version"


async def install(
    engine: Engine, candidate: Candidate, report: Report, environ: Mapping[str, str]
) -> Installation:
    """Install a server that is an image.

    Args:
        engine: The engine.
        candidate: What to install and under which name.
        report: Told of every step.
        environ: ToolScore's environment.

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
    options = candidate.container or Container()
    locked = candidate.locked.content if candidate.locked is not None else None
    image = await image_of(engine, source.name if locked is None else locked)
    if image is None:
        await pull(engine, source.name, report, environ, platform=options.platform)
        image = await image_of(engine, source.name)
    if image is None:
        raise InstallError(f"The engine said it got {source.name}, and has no image of that name.")
    refuse_other(image, locked, source.name)
    labels = (image.get("Config") or {}).get("Labels") or {}
    exact = digest_name(image, source.name)
    version = labels.get(VERSION_LABEL) or _tag(source.name)
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
        package=split_name(source.name)[0],
        version=version,
        pin=Pin(source=f"docker:{exact or source.name}", content=image["Id"]),
    )


def _tag(name: str) -> str | None:
    tag = split_name(name)[1]
    return None if tag.startswith("sha256:") else tag
