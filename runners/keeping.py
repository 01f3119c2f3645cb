"""How one server is kept: what its operator set for it, over what is set for all."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Isolation = Literal["shared", "per-client", "per-lease"]
"""Who shares a server's process: all clients, nobody, or whoever holds a lease on it."""


class Keeping(BaseModel):
    """What is set for one server. `None` is what is set for all servers (`process.*`). Times in seconds.

    Attributes:
        start: `boot`, or `use`: at its first call.
        start_timeout: From its start to its tool list; a download before that does not count.
        timeout: Without an answer or progress, after which a call is given up.
        idle_timeout: Without a call, after which it is stopped until its next use; 0 is never.
        restart_limit: Restarts in a row, after crashes, before it is given up.
        max_parallel: Calls it works on at the same time, each instance for itself; 0 is no limit.
        max_queue: Calls that may queue for it.
        isolation: Who shares a process of it; `None` is shared, until it asks for what only one client can answer.
        max_instances: Instances that run at the same time, where it is not shared.
        spares: Instances kept started ahead of their use, where it is not shared.
        reset: What gives a leased instance its first state back between two leases: `restart`, or one of its tools,
            called without arguments.
        lease_ttl: How long a lease lasts that asks for no other time.
        max_memory: MiB of its whole tree of processes; 0 is no limit.
        max_cpu: Processors its tree may keep busy, on average over ten seconds; 0 is no limit.
        max_files: Files and sockets its tree may have open; 0 is no limit.
        max_processes: Processes of its tree; 0 is no limit.
        depends_on: Servers that must be READY before it is started.
        groups: Groups it belongs to.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: Literal["boot", "use"] | None = None
    start_timeout: float | None = Field(default=None, gt=0)
    timeout: float | None = Field(default=None, gt=0)
    idle_timeout: float | None = Field(default=None, ge=0)
    restart_limit: int | None = Field(default=None, ge=0)
    max_parallel: int | None = Field(default=None, ge=0)
    max_queue: int | None = Field(default=None, ge=0)
    isolation: Isolation | None = None
    max_instances: int | None = Field(default=None, ge=1)
    spares: int | None = Field(default=None, ge=0)
    reset: str | None = Field(default=None, min_length=1)
    lease_ttl: float | None = Field(default=None, gt=0)
    max_memory: int | None = Field(default=None, ge=0)
    max_cpu: float | None = Field(default=None, ge=0)
    max_files: int | None = Field(default=None, ge=0)
    max_processes: int | None = Field(default=None, ge=0)
    depends_on: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


class Kept(BaseModel):
    """`Keeping` with a value for everything."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: Literal["boot", "use"] = "boot"
    start_timeout: float = 30.0
    timeout: float = 300.0
    idle_timeout: float = 0.0
    restart_limit: int = 5
    max_parallel: int = 128
    max_queue: int = 1024
    isolation: Isolation = "shared"
    max_instances: int = 32
    spares: int = 0
    reset: str = "restart"
    lease_ttl: float = 600.0
    max_memory: int = 0
    max_cpu: float = 0.0
    max_files: int = 0
    max_processes: int = 0
    depends_on: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    def under(self, keeping: Keeping) -> Kept:
        """Lay what is set for one server over these defaults."""
        return self.model_copy(update=keeping.model_dump(exclude_none=True))
