"""One call of an own tool on its way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..runners.patron import ProgressSink
from ..runners.spec import Report, silent
from ..tools.caller import Caller
from ..tools.rows import Origin

if TYPE_CHECKING:
    from ..tools.catalog.plan import Plan
    from .exchange import Exchange


@dataclass(frozen=True)
class Call:
    """One call of an own tool on its way: who, and where progress and results go.

    Attributes:
        caller: In whose name.
        report: Takes the progress of ToolScore's own steps.
        on_progress: Takes a server's progress; `None` where nobody listens.
        meta: The request's `_meta` that is passed on to a server.
        origin: Owner of the rows that are added; the tool set's own when `None`.
        exchange: The client's request, for questions to the client meanwhile; `None` at the command line.
        extra: Further parameters of the request for a server, such as `task`.
        lease: The lease it is made in, where it names one.
        faults: Whether a server's JSON-RPC error is passed on as one.
        agreed: What a person agreed to install of the catalog; that and nothing else is installed then.
    """

    caller: Caller
    report: Report = silent
    on_progress: ProgressSink | None = None
    meta: dict[str, Any] | None = None
    origin: Origin | None = None
    exchange: Exchange | None = None
    extra: dict[str, Any] | None = None
    lease: object = None
    faults: bool = False
    agreed: Plan | None = None
