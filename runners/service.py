"""Plain services: what other servers stand on, such as a database. They speak no MCP; a probe tells their health."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_HTTP = re.compile(r"(?:http://[^/:]*)?:?(?P<port>[0-9]{1,5})(?P<path>/[^\s\x00]*)?")


class Service(BaseModel):
    """What makes a container a plain service, and how its health is told.

    Where no probe is given, it is the image's own HEALTHCHECK; where there is none either, whether somebody listens
    on the first port it publishes; and else it counts as well while it runs.

    Attributes:
        tcp: Port inside on which somebody is to listen.
        http: `:PORT/PATH` inside that is to be answered with a status below 400.
        command: Program and arguments that are run inside and are to end with status 0; templates.
        interval: Seconds between two probes.
        timeout: Seconds each may take.
        retries: Failures in a row after which it is restarted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tcp: int | None = Field(default=None, gt=0, lt=65536)
    http: str | None = None
    command: tuple[str, ...] | None = None
    interval: float = Field(default=10.0, ge=0.1, le=86_400)
    timeout: float = Field(default=5.0, ge=0.1, le=3_600)
    retries: int = Field(default=3, ge=1, le=1_000)

    @field_validator("http")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        if value is None:
            return None
        found = _HTTP.fullmatch(value)
        if found is None or not 0 < int(found["port"]) < 65536:
            raise ValueError(f"http {value[:80]!r} is not :PORT/PATH, such as :8080/health")
        return f":{int(found['port'])}{found['path'] or '/'}"

    @field_validator("command", mode="before")
    @classmethod
    def _command(cls, value: Any) -> Any:
        if isinstance(value, str):
            try:
                value = tuple(shlex.split(value))
            except ValueError as error:
                raise ValueError(f"command cannot be taken apart: {error}") from None
        if isinstance(value, list):
            value = tuple(value)
        if value is not None and not value:
            raise ValueError("command is empty")
        return value

    @model_validator(mode="after")
    def _one_probe(self) -> Service:
        if sum(one is not None for one in (self.tcp, self.http, self.command)) > 1:
            raise ValueError("give one of tcp, http and command")
        return self

    @property
    def http_parts(self) -> tuple[int, str]:
        """The port and the path of `http`."""
        assert self.http is not None
        port, slash, path = self.http[1:].partition("/")
        return int(port), f"{slash}{path}"

    @property
    def port(self) -> int | None:
        """The port inside that is probed, where one is."""
        return self.http_parts[0] if self.http is not None else self.tcp

    def each(self, change: Callable[[str, str], str]) -> Service:
        """Give the same with every text changed that is a template."""
        if self.command is None:
            return self
        words = (change(text, f"container.service.command[{at}]") for at, text in enumerate(self.command))
        return self.model_copy(update={"command": tuple(words)})


def as_service(value: Any) -> Any:
    """Take what may stand for a `Service`: `true`, or its probe as text, such as `tcp:5432` or `http:8080/health`."""
    if value is True:
        return Service()
    if value is False:
        return None
    if not isinstance(value, str):
        return value
    kind, _, rest = value.strip().partition(":")
    match kind:
        case "image" | "" if not rest:
            return Service()
        case "tcp" if rest.isdigit():
            return {"tcp": int(rest)}
        case "http" if rest:
            return {"http": value.strip() if rest.startswith("//") else rest}
        case "command" if rest.strip():
            return {"command": rest.strip()}
    raise ValueError(
        f"service {value[:80]!r} is no probe: write tcp:PORT, http:PORT/PATH, command: PROGRAM ARGS, or image"
    )
