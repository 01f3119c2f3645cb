"""Why the engine refused, in a sentence with the next step."""

from __future__ import annotations

import re
from typing import Any

from ..errors import InstallError, SpecError, StartError
from .engine import Engine, EngineError

_FULL = r"no space left on device|disk quota exceeded"

_START: tuple[tuple[str, bool, str], ...] = (
    # What the engine says, whether trying again is of no use, and what to tell: {0} and {1} are its groups.
    (
        r"No such image:?\s*(\S*)",
        True,
        "its image is not there any more ({0}): `toolscore upgrade {server}` gets it again, or pull it",
    ),
    (
        r"exec format error",
        True,
        "its image is for another kind of processor ({image}) than the engine's ({engine}): install one for that, "
        "or set platform",
    ),
    (
        r"(?:port is already allocated|address already in use)",
        False,
        "the port {ports} it is to be published at is taken: stop what has it, or write ${{PORT}} for a free one",
    ),
    (
        r"No command specified",
        True,
        "its image does not say what is to be started: name the program and its arguments behind `--` (args)",
    ),
    (
        r"exec: \\?\"?([^\"\\]+)\\?\"?.*(?:executable file not found|no such file or directory)",
        True,
        "there is no program {0} in its image: check its command",
    ),
    (
        r"exec.*permission denied",
        True,
        "its image's program cannot be executed by the user it runs as: set user",
    ),
    (
        r"bind source path does not exist: (\S+)",
        True,
        "the folder {0} it is to be given does not exist on the engine's machine: make it, or correct volumes",
    ),
    (r"network (\S+) not found", True, "there is no network {0}: make it, or correct network"),
    (
        r"unable to find user (\S+?):?\s",
        True,
        "there is no user {0} in its image: give a number, or leave user out",
    ),
    (_FULL, False, "the disk of the engine is full: free some space there"),
    (
        r"Range of CPUs|NanoCPUs|memory limit|Minimum memory|not supported by your kernel|cgroup",
        True,
        "the engine cannot limit it as asked: correct memory, cpus or pids",
    ),
    (
        r"could not select device driver|unknown or invalid runtime",
        True,
        "the engine does not have what it is to run with",
    ),
)


async def explain_start(
    engine: Engine, server: str, config: dict[str, Any], error: EngineError
) -> StartError | SpecError:
    """Make the error of a container that could not be started.

    Args:
        engine: The engine.
        server: The server's name.
        config: What the container was to be.
        error: What the engine said.
    """
    name = server.partition("#")[0]
    published = config.get("HostConfig", {}).get("PortBindings", {})
    ports = ", ".join(one["HostPort"] for found in published.values() for one in found)
    for pattern, final, text in _START:
        if found := re.search(pattern, error.message, re.IGNORECASE):
            said = text.format(
                *(group or "" for group in (*found.groups(), "", "")),
                server=name,
                ports=ports,
                image=await _platform(engine, config.get("Image", "")) if "{image}" in text else "",
                engine=f"{engine.told.get('Os')}/{engine.told.get('Arch')}",
            )
            message = f"server '{server}' cannot start: {said}. The engine says: {error.message}"
            return SpecError(message) if final else StartError(message)
    return StartError(f"server '{server}' cannot start; the engine says: {error.message}")


_INIT = re.compile(r"^\[FATAL tini[^]]*\] exec (?P<program>.+?) failed: (?P<why>.*)$", re.M)
"""What the engine's own init writes where there is nothing it could start."""


def explain_init(said: str) -> str | None:
    """Say why the engine's init could not start the program of a container; `None` if it did."""
    found = _INIT.search(said)
    if found is None:
        return None
    if "format" in found["why"]:
        return "its image is for another kind of processor than the engine's: install one for that."
    if "ermission" in found["why"]:
        return f"the user it runs as may not execute {found['program']}: set user."
    return f"there is no program {found['program']} in its image that can be started ({found['why']})."


async def _platform(engine: Engine, image: str) -> str:
    try:
        told = await engine.ask("GET", f"/images/{image}/json")
    except EngineError:
        return "unknown"
    return f"{told.get('Os')}/{told.get('Architecture')}"


_PULL: tuple[tuple[str, str], ...] = (
    (_FULL, "The disk of the Docker engine is full: free some space there, and try again."),
    (
        r"manifest unknown|manifest for .* not found|not found: manifest",
        "There is no {image}: check the name and the tag.",
    ),
    (
        r"no matching manifest for (\S+)",
        "There is no {image} for {0}: install another one, or set platform where the engine can run others.",
    ),
    (
        r"pull access denied|repository does not exist|unauthorized|authentication required|denied:",
        "{image} does not exist, or its registry wants a login: check the name; `docker login` on this machine is "
        "used, where it keeps the login in its configuration file.",
    ),
    (
        r"no such host|server misbehaving|dial tcp|connection refused|i/o timeout|TLS handshake timeout"
        r"|Temporary failure|network is unreachable|request canceled while waiting",
        "The registry of {image} cannot be reached from the Docker engine: check the name, and the engine's network "
        "and proxy.",
    ),
    (r"certificate", "The registry of {image} has a certificate that the Docker engine does not accept."),
    (
        r"toomanyrequests|rate limit",
        "The registry of {image} gives no more for now: log in, or try again later.",
    ),
    (r"invalid reference format", "{image} is no name of an image."),
)


def explain_pull(image: str, error: EngineError) -> InstallError:
    """Make the error of an image that could not be had.

    Args:
        image: Its name.
        error: What the engine said.
    """
    for pattern, text in _PULL:
        if found := re.search(pattern, error.message, re.IGNORECASE):
            said = text.format(*(group.rstrip(",.") for group in found.groups()), image=image)
            return InstallError(f"{said} The engine says: {error.message}")
    return InstallError(f"{image} could not be had; the engine says: {error.message}")
