"""What is written down of all that is done."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator
from pydantic_core import PydanticCustomError

from .settings_base import Group, setting


class JournalSettings(Group):
    """The journal. Its contents are masked, and bounded for each record; its disk use is bounded too."""

    enabled: bool = setting(
        True, "true or false", "Whether every call, install, start, failure and approval is written down."
    )
    contents: Literal["on", "arguments", "off"] = setting(
        "on",
        "on, arguments or off",
        "What of a call's contents is written down: on is arguments and result, off is neither of them.",
    )
    content_bytes: int = setting(
        16_384,
        "a whole number of bytes from 256 to 1048576",
        "Bytes of JSON that are kept of a call's arguments, and as many of its result; of more, the beginning, the "
        "size and the SHA-256 of the whole.",
        ge=256,
        le=1 << 20,
    )
    max_size: int = setting(
        256,
        "a whole number of MiB from 1 to 1048576",
        "MiB the journal may take; the oldest records go first.",
        ge=1,
        le=1 << 20,
    )
    max_age: float = setting(
        90.0,
        "a number of days, 0 for no limit",
        "Days after which records go, a file of them at a time.",
        ge=0,
        le=36_500,
    )
    on_full: Literal["go_on", "refuse"] = setting(
        "go_on",
        "go_on or refuse",
        "What becomes of calls while the journal cannot be written, such as when the disk is full: they go on "
        "without being written down, or are refused.",
    )
    shared: bool = setting(
        True,
        "true or false",
        "Where gateways share a database: whether this one's records are sent there, so that all can be read at each "
        "gateway. They are in its files in any case.",
    )
    otlp_endpoint: str = setting(
        "",
        "a text: an address such as http://127.0.0.1:4318",
        "Address of an OpenTelemetry collector (OTLP over HTTP, as JSON) that every record is sent to as a span; "
        "empty is none.",
    )
    otlp_headers: tuple[str, ...] = setting(
        (),
        'a list of texts such as "Authorization: Bearer ${COLLECTOR_TOKEN}"',
        "Headers that are sent to it, in which ${NAME} stands for an environment variable or a secret; a value "
        "without one is refused.",
    )

    @field_validator("otlp_endpoint")
    @classmethod
    def _address(cls, address: str) -> str:
        from ..tools.journal.address import traces_address

        try:
            if address:
                traces_address(address)
        except ValueError as error:
            raise PydanticCustomError("otlp", "{why}", {"why": f"{error}."}) from error
        return address

    @field_validator("otlp_headers")
    @classmethod
    def _headers(cls, headers: tuple[str, ...]) -> tuple[str, ...]:
        from ..tools.header import split_header

        for line in headers:
            try:
                split_header(line)
            except ValueError as error:
                raise PydanticCustomError("otlp", "{why}", {"why": f"{error}."}) from error
        return headers
