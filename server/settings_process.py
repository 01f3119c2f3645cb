"""How servers run that are processes on this machine."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from .settings_base import Group, setting


class ProcessSettings(Group):
    """How servers run that are processes on this machine. Times in seconds."""

    timeout: float = setting(
        300.0,
        "a number of seconds above 0",
        "Seconds a call to a server may take, unless the call says otherwise.",
        "PROCESS_TIMEOUT",
        gt=0,
    )
    start_timeout: float = setting(
        30.0,
        "a number of seconds above 0",
        "Seconds a server has, from its start, to answer the MCP handshake.",
        gt=0,
    )
    stop_grace: float = setting(
        2.0,
        "a number of seconds, 0 or more",
        "Seconds a server has to end by itself, once its input is closed, before it is ended by force.",
        ge=0,
    )
    max_memory: int = setting(
        0,
        "a whole number of MiB, 0 for no limit",
        "Memory in MiB a server may use together with all it started; 0 is no limit.",
        "PROCESS_MAX_MEMORY",
        ge=0,
    )
    start: Literal["boot", "use"] = setting(
        "boot", "boot or use", "When enabled servers are started: at boot, or at their first use."
    )
    idle_timeout: float = setting(
        0.0,
        "a number of seconds, 0 for never",
        "Seconds without a call after which a server is stopped until its next use; 0 is never.",
        ge=0,
    )
    max_parallel: int = setting(
        128,
        "a whole number, 0 for no limit",
        "Calls one server works on at the same time; further ones queue. 0 is no limit.",
        ge=0,
    )
    max_queue: int = setting(
        1024,
        "a whole number, 0 or more",
        "Calls that may queue for one server; a further one is refused at once.",
        ge=0,
    )
    max_instances: int = setting(
        32,
        "a whole number, 1 or more",
        "Instances of a per-client or per-lease server that run at the same time.",
        ge=1,
    )
    max_cpu: float = setting(
        0.0,
        "a number of processors, 0 for no limit",
        "Processors a server and all it started may keep busy, on average over ten seconds; 0 is no limit.",
        ge=0,
    )
    max_files: int = setting(
        0,
        "a whole number, 0 for no limit",
        "Files and sockets a server may have open together with all it started; 0 is no limit.",
        ge=0,
    )
    max_processes: int = setting(
        0,
        "a whole number, 0 for no limit",
        "Processes a server may consist of; 0 is no limit.",
        ge=0,
    )
    port_range_start: int = setting(
        41000,
        "a port number from 1024 to 65535",
        "First port of the range given to servers that listen on one.",
        "PROCESS_PORT_RANGE_START",
        ge=1024,
        le=65535,
    )
    port_range_end: int = setting(
        41999,
        "a port number from 1024 to 65535",
        "Last port of that range.",
        "PROCESS_PORT_RANGE_END",
        validate_default=True,  # a start above the default end must be noticed
        ge=1024,
        le=65535,
    )
    start_concurrency: int = setting(
        8, "a whole number, 1 or more", "Servers that are started at the same time, at the most.", ge=1
    )
    restart_limit: int = setting(
        5,
        "a whole number, 0 or more",
        "Restarts in a row, after crashes, before a server is given up; 0 never restarts one.",
        ge=0,
    )
    pass_env: tuple[Annotated[str, Field(pattern=r"^[^\s=\x00]+$")], ...] = setting(
        (),
        "a list of names of environment variables",
        "Names of environment variables that every server receives besides the white list.",
    )

    roots: tuple[Annotated[str, Field(pattern=r"^(/|~|file://)")], ...] = setting(
        (),
        "a list of absolute folders or file:// addresses",
        "Folders servers are told of as roots, where they do not ask on behalf of a client that has its own.",
    )

    @field_validator("port_range_end")
    @classmethod
    def _in_order(cls, end: int, info: ValidationInfo) -> int:
        start = info.data.get("port_range_start")
        if start is not None and end < start:
            raise PydanticCustomError(
                "port_order",
                "must not be below process.port_range_start, which is {start}",
                {"start": start, "other": "process.port_range_start"},
            )
        return end
