"""Where the services are that run: what `${service:NAME}` stands for at each start of a server that uses one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .container import INTERNAL, SHARED_NETWORKS
from .errors import SpecError, StartError
from .spec import Installation
from .template import services


@dataclass(frozen=True, slots=True)
class Place:
    """Where one service is.

    Attributes:
        network: The network its container is on, as its spec names it.
        port: The port inside it is known by, where there is one.
        published: Where its ports inside are reached from this machine.
    """

    network: str
    port: int | None = None
    published: Mapping[int, tuple[str, int]] = field(default_factory=dict)


class Served:
    """Where services are."""

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}

    def up(self, name: str, place: Place) -> None:
        """Take note of where a service is that works."""
        self._places[name] = place

    def down(self, name: str) -> None:
        """Take note that one is not there any more."""
        self._places.pop(name, None)

    def values(self, installation: Installation) -> dict[str, str]:
        """Give what the `${service:...}` of a server stand for now.

        A container on the same network reaches the service by its name; a process of this machine by the port that
        is published.

        Raises:
            StartError: If one of them does not run.
            SpecError: If it cannot be reached from there.
        """
        found = {}
        for text, (name, part, inside) in services(installation.spec).items():
            place = self._places.get(name)
            if place is None:
                raise StartError(
                    f"it uses ${{{text}}}, and service '{name}' does not run. Write depends_on = [\"{name}\"] for "
                    "it, so that it waits for that one."
                )
            host, port = _reached(installation, name, place, inside)
            if port is None and part != "host":
                raise SpecError(
                    f"It uses ${{{text}}}, and service '{name}' has no port that is known: write which one, as "
                    f"${{service:{name}:port:PORT}}, or give the service a tcp or http probe."
                )
            found[text] = {"host": host, "port": str(port)}.get(part or "", f"{host}:{port}")
        return found


def _reached(
    installation: Installation, name: str, place: Place, inside: int | None
) -> tuple[str, int | None]:
    """Give by which machine and port a server reaches a service.

    Raises:
        SpecError: If it cannot.
    """
    container = installation.spec.container
    wanted = inside or place.port
    if container is not None and container.network != "host":
        mine, its = (one.removesuffix(INTERNAL) for one in (container.network, place.network))
        if mine != its or mine in SHARED_NETWORKS:
            raise SpecError(
                f"It uses service '{name}', and its container is on network {mine}, that of the service on {its}: "
                'put both on one network with names, such as network = "@NAME".'
            )
        return name, wanted
    if place.network == "host":
        return "127.0.0.1", wanted
    if wanted is None and place.published:
        wanted = next(iter(place.published))
    if wanted is None or wanted not in place.published:
        which = "no port" if wanted is None else f"not its port {wanted}"
        raise SpecError(
            f"It uses service '{name}', and that publishes {which} on this machine: write for the service "
            f'ports = ["${{PORT}}:{wanted or "PORT"}"].'
        )
    return place.published[wanted]
