"""The contract every kind of runner keeps: how a server is installed, started, watched and stopped."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from .errors import AuthorizationNeededError, StartError
from .log_read import LogFolder
from .spec import Candidate, Installation, Report, silent

if TYPE_CHECKING:
    from .sampler import Limits, Usage

Which = Literal["none", "new", "all"]
"""Which volumes of a server are deleted."""

Message = dict[str, Any]
"""One JSON-RPC message as it is on the wire."""

LOST = "toolscore/lost"
"""Member a channel puts into the answer to a request whose true answer can never come: why it was lost."""

UNHEARD = "toolscore/unheard"
"""Member beside `LOST` that is true where the server surely did nothing with the request."""

Unheard = Literal["last", "all"] | None
"""Which of the requests in flight a server surely never heard: what was sent last, all, or none that is known."""


class Channel(Protocol):
    """A duplex line of JSON-RPC messages to a server. One task runs it; anybody on the loop may send.

    Lines are subclasses: what has a body here is so of most of them.
    """

    async def run(self, receive: Callable[[Message], None]) -> None:
        """Hand each arriving message to `receive` until the line is closed, then return."""
        ...

    def send(self, message: Message) -> None:
        """Write one message.

        Raises:
            ChildGoneError: If the line is closed; nothing was written.
        """
        ...

    @property
    def congested(self) -> bool:
        """Whether the peer does not take what was already written; `drain` waits that out."""
        ...

    async def drain(self) -> None:
        """Wait until the line can take more, so that a slow reader slows its writers."""
        ...

    async def aclose(self) -> None:
        """Close the line towards the server. Idempotent."""
        ...

    @property
    def unheard(self) -> Unheard:
        """Which of the requests in flight the server never heard, once the line is closed."""
        return None

    @property
    def gateway(self) -> str | None:
        """The gateway that runs the server, where another one does: what it says of a call is believed."""
        return None

    def use_version(self, version: str) -> None:
        """Be told which version of the protocol was agreed on, where the line itself has to name it."""
        return


class Child(Protocol):
    """One live server: its line, and what is known of the process behind it. As with lines, they are subclasses."""

    @property
    def channel(self) -> Channel:
        """The duplex line of messages."""
        ...

    @property
    def pid(self) -> int | None:
        """Process id, where the server is a process on this machine."""
        ...

    @property
    def returncode(self) -> int | None:
        """Exit status once it ended (negative: the signal), as in `subprocess`."""
        ...

    def stderr_tail(self) -> str:
        """The end of what it wrote on standard error, at most a few kilobytes."""
        ...

    def noise(self) -> str:
        """The end of what it wrote on standard output that was no JSON-RPC message."""
        ...

    def epitaph(self) -> str:
        """Say in one clause how it ended, or why its line is closed."""
        ...

    def kill(self, reason: str) -> None:
        """End it at once, for a reason that later answers will give."""
        ...

    def limit(self, limits: Limits) -> None:
        """Be told what it may use, where it is on a machine on which somebody else measures."""
        return

    @property
    def stopped_there(self) -> bool:
        """Whether it was stopped on purpose by whoever runs it, where that is not this ToolScore."""
        return False

    async def ended_within(self, seconds: float) -> bool:
        """Wait for its end, so that its exit status and last words are known; tell whether it came."""
        ...

    async def stop(self, grace: float) -> None:
        """End it and everything it started: close its input, wait `grace` seconds, then by force."""
        ...


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a server is alive and ready.

    Attributes:
        alive: Its process runs, or its connection is open.
        reason: One sentence on what is known.
        pid: Process id, where it has one.
        memory: Resident bytes of the process and all it started.
        cpu: Seconds of processor time of the same.
    """

    alive: bool
    reason: str
    pid: int | None = None
    memory: int | None = None
    cpu: float | None = None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is known about a failed start.

    Attributes:
        message: What happened and what to do next.
        stderr: The end of the server's standard error.
        constraint: A version constraint that is likely to cure it, such as `mcp<2`.
        unauthorized: The failure itself, where it is that a person must authorize the server first.
    """

    message: str
    stderr: str
    constraint: str | None = None
    unauthorized: AuthorizationNeededError | None = None


class BaseRunner(ABC):
    """Makes servers live on one kind of machine. Everything above this line is the same for all kinds."""

    @abstractmethod
    async def install_server(self, candidate: Candidate, report: Report = silent) -> Installation:
        """Fetch and build a server, without starting it.

        Args:
            candidate: What to install and under which name.
            report: Told of every step.

        Returns:
            The installation, ready for `start_server`.

        Raises:
            SourceError: If the source is not understood.
            InstallError: If it cannot be fetched or built, or has no entry point. Nothing is left behind.
        """

    @abstractmethod
    async def remove_server(self, installation: Installation) -> None:
        """Delete what `install_server` made. A server that is already gone is no error."""

    async def remove_volumes(
        self, installation: Installation, but: Collection[str], which: Which = "none"
    ) -> list[str]:
        """Delete the data of a server that outlives it, which `remove_server` leaves.

        Args:
            installation: The server.
            but: Names of what others use as well.
            which: What is deleted: nothing, so that it is only told; what was made since the server was last
                removed; or all.

        Returns:
            The names of what there is, or of what was deleted.

        Raises:
            RunnerError: If it cannot be deleted.
        """
        return []

    @abstractmethod
    async def start_server(self, installation: Installation) -> Child:
        """Start or reach a server; the MCP handshake is the caller's.

        Raises:
            MissingVariableError: If a template of the spec names a variable without a value.
            StartError: If the program or endpoint is not there, or nothing answers.
        """

    async def aclose(self) -> None:
        """End what was not stopped, and let go of what this kind of runner holds. Nothing is started any more."""
        return

    def dialed_in(self, server_id: str, channel: Channel) -> None:
        """Keep the line of a server that has connected by itself, for its next `start_server`.

        Raises:
            StartError: If this kind of runner takes none.
        """
        raise StartError("this kind of runner takes no servers that dial in")

    @abstractmethod
    async def stop_server(self, server_id: str, grace: float | None = None) -> bool:
        """End a server and everything it started.

        Args:
            server_id: Its name.
            grace: Seconds it has to end by itself; the configured ones when `None`.

        Returns:
            Whether there was one to end.
        """

    @abstractmethod
    def child(self, server_id: str) -> Child | None:
        """Give what was started last under this name, also when it ended by itself; `None` once stopped."""

    @abstractmethod
    def explain(self, installation: Installation, problem: str) -> Diagnosis:
        """Explain a failed start from what the server left, before it is stopped."""

    async def reach(self, installation: Installation) -> None:
        """See that what a server runs on answers, where that is another one's to keep up.

        Raises:
            MachineAwayError: If it does not, which then is why a start failed.
        """
        return

    def waits(self, server_id: str) -> str | None:
        """Say what a server that runs waits for, so that its calls do, as a clause; `None` if for nothing."""
        return None

    def confined(self, server_id: str) -> Mapping[str, str] | None:
        """Give the layers a running server is confined by, in words, by their names; `None` if it is not."""
        return None

    def elsewhere(self, server_id: str) -> str | None:
        """Name the gateway that runs a server, where that is another one; empty where it is not known which."""
        return None

    async def usage(self, server_ids: Collection[str]) -> dict[str, Usage]:
        """Give what servers use of the machine they run on, where that is not this one; others are left out."""
        return {}

    async def fetching(self, server_id: str) -> bool | None:
        """Tell whether what a server is still has to be fetched where it runs; `None` while nothing of it runs."""
        from .launching import still_fetching

        child = self.child(server_id)
        pid = child.pid if child is not None else None
        return None if pid is None else await asyncio.to_thread(still_fetching, pid)

    def moves(self, server_id: str) -> bool:
        """Tell whether a server was not reached because it moves to another gateway, or the line to it broke."""
        return False

    def cleaned(self, server_id: str, value: dict[str, Any]) -> dict[str, Any]:
        """Give an object a server sent without the secrets it was given: the very same one where there are none."""
        return value

    @abstractmethod
    async def health_check(self, server_id: str) -> Health:
        """Tell whether a server is alive. Never disturbs one that is busy."""

    @property
    @abstractmethod
    def log_folder(self) -> LogFolder:
        """What reads the servers' logs, also after they ended."""

    async def logs(self, server_id: str, lines: int = 100) -> list[str]:
        """Give the last lines of a server's standard error, with time and level, also after it ended."""
        name = server_id.partition("#")[0]
        found, _place = await asyncio.to_thread(self.log_folder.tail, name, lines)
        return [str(line) for line in found]

    @abstractmethod
    async def diagnose(self, server_id: str) -> str:
        """Explain why a server failed to start or ended, with what to do next."""
