"""What a container may be given: closed by default, and never the engine it runs on."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from toolscore.runners.container import Container, volume


@pytest.mark.parametrize(
    "source",
    [
        "/var/run/docker.sock",
        "/run/podman/podman.sock/",
        "/",
        "//",
        "/var/run",
        "/run/",
        "/var/../run",
        "/proc",
    ],
)
def test_a_folder_with_the_engine_in_it_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match="would give the container the engine"):
        volume(f"{source}:/inside:rw")


@pytest.mark.parametrize(
    "source", ["/srv/data", "/var/lib/data", "/runner", "named", "@own", "./here", "~/here"]
)
def test_any_other_folder_or_volume_is_taken(source: str) -> None:
    assert volume(f"{source}:/inside") == (source, "/inside", False)


def test_what_nobody_asked_for_is_closed() -> None:
    closed = Container()
    assert (closed.network, closed.read_only, closed.capabilities, closed.volumes) == ("none", True, (), ())
    with pytest.raises(ValidationError):
        Container.model_validate({"privileged": True})
