"""What is set for a ToolScore that shares its store with others: a gateway."""

from __future__ import annotations

from pydantic import field_validator
from pydantic_core import PydanticCustomError

from .settings_base import Group, setting


class GatewaySettings(Group):
    """How it is known to the other gateways. Without `database.url` there are none, and nothing of this is used."""

    name: str = setting(
        "",
        "a text of at most 64 characters",
        "What this gateway is called where all are shown; empty is the name of the machine and of the home.",
        max_length=64,
    )
    listen: str = setting(
        "ws://127.0.0.1:0",
        "an address such as ws://127.0.0.1:0 or wss://0.0.0.0:8770",
        "Where the other gateways reach this one, and nobody else: ws:// or wss:// (with the certificate of "
        "network.tls_cert). Port 0 is any that is free.",
    )
    url: str = setting(
        "",
        "an address such as wss://gateway-1.example:8770, or empty",
        "What the other gateways are told to connect to; empty is what is listened on.",
    )
    ca: str = setting(
        "",
        "a text: the path of a PEM file, or empty",
        "Certificates that those of other gateways are checked with at wss://; empty is what this system trusts.",
    )
    linger: float = setting(
        1.0,
        "a number of seconds from 0 to 600",
        "Seconds it goes on taking clients in after it was told to end, while /health/ready says that it is not "
        "ready: time for a balancer to notice. What comes meanwhile, another gateway answers.",
        ge=0,
        le=600,
    )
    timeout: float = setting(
        10.0,
        "a number of seconds from 1 to 600",
        "Seconds without a sign of life in the database after which the others take a gateway for dead and run its "
        "servers. One that cannot reach the database ends the servers it shares a little sooner. The same for all.",
        ge=1,
        le=600,
    )

    @field_validator("listen", "url")
    @classmethod
    def _an_address(cls, text: str) -> str:
        from .endpoint import EndpointError, parse_endpoint

        if not text:
            return text
        try:
            endpoint = parse_endpoint(text)
        except EndpointError as error:
            raise PydanticCustomError("endpoint", "{why}", {"why": str(error)}) from None
        if endpoint.scheme not in ("ws", "wss"):
            why = f"the address {text!r} must begin with ws:// or wss://, which gateways speak to each other"
            raise PydanticCustomError("endpoint", "{why}", {"why": why})
        return text

    @field_validator("listen")
    @classmethod
    def _not_empty(cls, text: str) -> str:
        if not text:
            why = "is empty. Name an address such as ws://127.0.0.1:0"
            raise PydanticCustomError("endpoint", "{why}", {"why": why})
        return text
