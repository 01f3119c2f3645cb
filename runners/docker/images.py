"""Images: had from a registry where they are not there yet, and pinned by what they are."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import InstallError, SpecError
from ..spec import Installation, Report
from .engine import Engine, EngineError
from .explain import explain_pull

HUB = "docker.io"


async def image_of(engine: Engine, name: str) -> dict[str, Any] | None:
    """Give what the engine says of an image, or `None` if it has none of that name or id."""
    try:
        found: dict[str, Any] = await engine.ask("GET", f"/images/{name}/json")
    except EngineError as error:
        if error.status == 404:
            return None
        raise
    return found


class Images:
    """Remembers what the engine says of images by their ids, which does not change."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, Any]] = {}

    async def of(self, engine: Engine, installation: Installation, identity: str) -> dict[str, Any]:
        """Give what the engine says of the image a server is to be started from; that it is gone it may say later.

        Raises:
            SpecError: If it is not there any more.
        """
        if (found := self._known.get(identity)) is None:
            found = await image_of(engine, identity)
            if found is None:
                raise SpecError(
                    f"server '{installation.server_id}' cannot start: its image {installation.source} "
                    f"({identity[:19]}) is not there any more. `toolscore upgrade {installation.name}` gets it again."
                )
            if identity == found["Id"]:
                self._known[identity] = found
        return found


async def pull(
    engine: Engine, name: str, report: Report, environ: Mapping[str, str], *, platform: str | None = None
) -> None:
    """Have the engine fetch an image.

    Args:
        engine: The engine.
        name: `NAME:TAG` or `NAME@sha256:...`.
        report: Told of its progress.
        environ: ToolScore's environment, which says where logins are kept.
        platform: See `Container`.

    Raises:
        InstallError: If it cannot be had, with what to do next.
        MachineAwayError: If the engine cannot be reached.
    """
    repository, tag = split_name(name)
    params = {"fromImage": repository, "tag": tag, "platform": platform}
    headers = _login(repository, environ)
    step, last = 0.0, ""
    layers: dict[str, tuple[int, int]] = {}
    try:
        async with engine.stream(
            "POST", "/images/create", params=params, headers=headers, patience=120.0
        ) as response:
            async for told in lines(response.content):
                if (error := told.get("error")) is not None:
                    raise EngineError(0, str(error))
                detail = told.get("progressDetail") or {}
                if told.get("id") and detail.get("total"):
                    layers[told["id"]] = int(detail.get("current", 0)), int(detail["total"])
                done, total = (
                    (sum(part) >> 20 for part in zip(*layers.values(), strict=True)) if layers else (0, 0)
                )
                said = (
                    f"{told.get('status', '')}: {done} of {total} MiB"
                    if total
                    else str(told.get("status", ""))
                )
                if said != last:
                    last, step = said, step + 1
                    await report(step, None, f"pulling {name}: {said}")
    except EngineError as error:
        raise explain_pull(name, error) from error


async def lines(content: Any) -> AsyncIterator[dict[str, Any]]:
    """Read the objects of a progress stream, one a line."""
    rest = b""
    async for data in content.iter_any():
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            if line.strip():
                yield json.loads(line)
    if rest.strip():
        yield json.loads(rest)


def split_name(name: str) -> tuple[str, str]:
    """Cut an image's name into its repository and its tag or digest; `latest` where it has neither."""
    repository, at, digest = name.partition("@")
    if at:
        head, _, last = repository.rpartition("/")
        plain = last.partition(":")[0]  # a tag beside a digest says nothing more
        return (f"{head}/{plain}" if head else plain), digest
    head, colon, tag = name.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (name, "latest")


def digest_name(image: Mapping[str, Any], name: str) -> str | None:
    """Give the name by which a registry gives exactly this image again, `NAME@sha256:...`, where there is one."""
    wanted = split_name(name)[0]
    found = [str(one) for one in image.get("RepoDigests") or ()]
    exact = [one for one in found if _familiar(one.partition("@")[0]) == _familiar(wanted)]
    return next(iter(exact), None)


def _familiar(repository: str) -> str:
    for prefix in ("docker.io/library/", "docker.io/", "library/"):
        if repository.startswith(prefix):
            return repository.removeprefix(prefix)
    return repository


def _login(repository: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Give the login for an image's registry, where Docker keeps one in its configuration file."""
    first, slash, _ = repository.partition("/")
    registry = first if slash and ("." in first or ":" in first or first == "localhost") else HUB
    folder = environ.get("DOCKER_CONFIG") or f"{environ.get('HOME', '')}/.docker"
    try:
        kept = json.loads((Path(folder) / "config.json").read_text("utf-8")).get("auths") or {}
        names = [registry, f"https://{registry}"]
        names += ["https://index.docker.io/v1/"] if registry == HUB else []
        entry = next(kept[name] for name in names if name in kept)
        user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return {}
    said = {"username": user, "password": password, "serveraddress": registry}
    if token := entry.get("identitytoken"):
        said = {"identitytoken": token, "serveraddress": registry}
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(said).encode()).decode()}


def content_of(image: Mapping[str, Any], name: str) -> str:
    """Give what an image is, the same in every home: its digest in the registry it is from, or else its id."""
    exact = digest_name(image, name)
    return str(image["Id"]) if exact is None else exact.partition("@")[2]


def known_as(image: Mapping[str, Any]) -> set[str]:
    """Give all that an image may be pinned as: its id, and its digests in registries."""
    return {image["Id"], *(str(one).partition("@")[2] for one in image.get("RepoDigests") or ())}


def refuse_other(image: Mapping[str, Any], content: str | None, name: str) -> None:
    """Refuse an image that is not the one that must come out.

    Raises:
        InstallError: If it is another one.
    """
    if content is not None and content not in known_as(image):
        raise InstallError(
            f"{name} is not what was locked: it is {content_of(image, name)} now, and {content} is expected. Nothing "
            "was installed; get what was locked, or lock what there is."
        )
