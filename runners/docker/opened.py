"""What a container is open for: the port of a start, and in words what closes it."""

from __future__ import annotations

from ..container import Container


def published(container: Container, port: str | None) -> Container:
    """Give a container's options with the port of this start published, where they publish none."""
    if port is None or container.ports or container.network == "host":
        return container
    return container.model_copy(update={"ports": (f"{port}:{port}",)})


def layers(container: Container) -> dict[str, str]:
    """Tell in words what closes a container."""
    powers = ", ".join(container.capabilities)
    network = {"none": "active: none", "host": "off: the machine's own"}.get(
        container.network, f"partly: {container.network}"
    )
    return {
        "container": "active: its own processes, users and files",
        "root": "active: read-only" if container.read_only else "off: it can write its own copy",
        "capabilities": f"partly: but for {powers}" if powers else "active: all dropped",
        "privileges": "active: no new ones",
        "user": f"active: {container.user or 'not root'}" if not _root(container.user) else "off: root",
        "network": network,
        "volumes": f"partly: {len(container.volumes)} given" if container.volumes else "active: none",
    }


def _root(user: str | None) -> bool:
    return (user or "").partition(":")[0] in ("root", "0")
