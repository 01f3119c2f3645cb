"""What every kind of runner needs besides its machine: values for templates, masks, and the servers' logs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from .errors import StartError
from .filling import Lend, filled
from .keeping import Kept
from .known_secrets import KnownSecrets
from .log_mask import Mask
from .logs import Logs
from .ports import PortRange
from .served import Served
from .spec import Installation, ServerSpec

if TYPE_CHECKING:
    from .process import ProcessOptions
    from .remote import RemoteChild

    Connect = Callable[[str, ServerSpec], Awaitable[RemoteChild]]


async def _nobody_lends(_server: str, _names: frozenset[str]) -> Mapping[str, str]:
    return {}


async def _nobody_connects(_server_id: str, _spec: ServerSpec) -> RemoteChild:
    raise StartError("nothing here connects to servers")


class Means:
    """What all runners of one home share, so that a server is filled in, masked and logged the same on each.

    Args:
        options: Where values are looked up, and where logs go.
    """

    def __init__(self, options: ProcessOptions) -> None:
        self.options = options
        self.known = KnownSecrets()
        """What servers were given that nobody may see."""
        self.lend: Lend = _nobody_lends
        """Gives environment variables of clients, which servers want and ToolScore has not."""
        self.ports = PortRange(*options.ports)
        """Where `${PORT}` is taken from."""
        self.connect: Connect = _nobody_connects
        """Connects to a server that was started and listens at the url of its spec."""
        self.served = Served()
        """Where the services are that run."""
        self.kept = Kept()
        """How servers are kept that have nothing else set for themselves."""
        self.logs = Logs(options.logs, options.log_bytes, options.log_files)

    async def filled(self, installation: Installation, extra: Mapping[str, str]) -> tuple[ServerSpec, Mask]:
        """Replace the templates of a server's spec for one start.

        Args:
            installation: The server.
            extra: Values of this start, such as `PORT`.

        Returns:
            The spec to start it with, and what takes its secrets out of its log.

        Raises:
            RunnerError: If a value is missing, or what results is no spec.
        """
        places = self.served.values(installation)
        return await filled(installation, self.options, self.known, self.lend, {**extra, **places})

    def masked(self, text: str) -> str:
        """Give a text without the secrets of any server that was started."""
        return self.known.text(text)
