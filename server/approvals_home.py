"""The approvals of a home, wired to its library and its router."""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING, Any

from ..tools.approvals.decision import Rules
from ..tools.approvals.guard import ApprovalGuard
from .own_tools import OWN_TOOLS

if TYPE_CHECKING:
    from ..runners.supervisor import Supervisor
    from ..tools.approvals.approvals import Approvals
    from ..tools.library import Library
    from ..tools.router import Router
    from ..tools.scan.finding import Finding
    from ..tools.scan.names import Names
    from ..tools.store import Store
    from .settings import Settings


async def approving(library: Library, store: Store, settings: Settings) -> Approvals:
    """Have a library, which is not loaded yet, show only what was approved.

    Raises:
        StoreError: If the store cannot be read.
    """
    module = await asyncio.to_thread(importlib.import_module, "toolscore.tools.approvals.approvals")
    approvals: Approvals = module.Approvals(
        library, store, rules_of(settings), _scan, [tool.name for tool in OWN_TOOLS]
    )
    await approvals.load()
    library.screen = approvals
    return approvals


def guard(router: Router, approvals: Approvals, supervisor: Supervisor) -> None:
    """Have a router call only what was approved."""
    router.guards = (ApprovalGuard(), *router.guards)
    router.carrier.vet = approvals.vet
    approvals.supervisor = supervisor


def configure(approvals: Approvals, settings: Settings) -> None:
    """Take over changed settings."""
    approvals.rules = rules_of(settings)


def rules_of(settings: Settings) -> Rules:
    """Give the rules as the settings have them."""
    trust = settings.trust
    return Rules(trust.changed_tools, trust.new_tools, trust.findings)


def _scan(definition: dict[str, Any], server: str, names: Names) -> tuple[Finding, ...]:
    from ..tools.scan.scan import scan

    return scan(definition, server, names)
