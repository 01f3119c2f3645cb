"""The resources that are ToolScore's own: which there are, what is read in them, and where they are subscribed to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..tools.names import OWN_PREFIX, OWN_SERVER
from ..tools.results import SCHEME, is_result
from .dashboard import app
from .events import EVENTS_URI, is_events
from .journal_follow import TEMPLATE as JOURNAL
from .journal_follow import is_journal
from .log_resource import TEMPLATE as LOGS
from .log_resource import LogReader, is_log, log_name
from .long_results import TEMPLATE as RESULTS
from .overview import RESOURCES as OVERVIEW
from .overview import TEMPLATE as USAGE
from .overview import is_overview
from .tools_resource import TEMPLATE as TOOLS
from .tools_resource import is_tools, read_tools

if TYPE_CHECKING:
    from ..tools.caller import Caller
    from .exchange import Exchange
    from .front import Front
    from .opened import Opened

BEGINNINGS = ("toolscore://", SCHEME, app.URI)
"""How their uris begin. Some others do so too: `toolscore://resource/SERVER/...` is a server's."""


class OwnResources:
    """Lists and reads them.

    Args:
        front: Answers the clients.
    """

    def __init__(self, front: Front) -> None:
        self._front = front

    def listed(self, opened: Opened, exchange: Exchange) -> list[dict[str, Any]]:
        """Give those a client is shown (MCP `Resource`)."""
        shown = [self._front.events.resource, *OVERVIEW]
        return [*shown, app.RESOURCE] if shows_app(opened, exchange) else shown

    def templates(self) -> list[dict[str, Any]]:
        """Give the templates of those that have any (MCP `ResourceTemplate`)."""
        return [self._front.events.template, LOGS, RESULTS, USAGE, JOURNAL, TOOLS]

    def completed(self, uri: str, begun: Any, logs: LogReader, caller: Caller) -> list[str] | None:
        """Give the values by which the parameter of a template goes on.

        Args:
            uri: The template.
            begun: What there is of the value.
            logs: The logs.
            caller: Who asks.

        Returns:
            None of them where there is nothing to complete; `None` if it is no template of these.
        """
        if is_log(uri):
            return logs.completed(str(begun or ""), caller)
        nothing = is_events(uri) or is_overview(uri) or is_journal(uri) or is_tools(uri)
        return [] if nothing or uri == RESULTS["uriTemplate"] else None

    async def read(self, opened: Opened, exchange: Exchange, uri: str) -> dict[str, Any] | None:
        """Give the result of reading one (MCP `ReadResourceResult`); `None` if it is none of these.

        Raises:
            RefusalError: If it is not for this caller.
            FaultError: If it cannot be read.
        """
        front, toolset, caller = self._front, opened.toolset, exchange.peer.caller
        if is_events(uri):
            sight = opened.sight(exchange.peer)
            if front.balance is not None:
                return await (await front.balanced()).events.read(uri, sight)
            return front.events.read(uri, sight)
        if is_result(uri) and toolset.long_results is not None:
            return await toolset.long_results.resource(uri, caller, modern=exchange.modern)
        if is_overview(uri):
            if toolset.policy is not None:
                # Who may not list the servers is not told of them by another name.
                await toolset.policy.subscribing(OWN_SERVER, f"{OWN_PREFIX}list_servers", caller)
            return await toolset.overview.read(uri, opened.sight(exchange.peer), toolset.masked)
        if is_journal(uri) and (following := toolset.journal_follow) is not None:
            return await following.read(uri, caller, opened.sight(exchange.peer), toolset.policy)
        if uri == app.URI:
            return app.read_app()
        if is_tools(uri):
            return await read_tools(uri, toolset, caller)
        if is_log(uri):
            return await toolset.logs.resource(uri, caller)
        return None


def shows_app(opened: Opened, exchange: Exchange) -> bool:
    """Tell whether a client is told of the dashboard as an MCP App."""
    sight = opened.sight(exchange.peer)
    allowed = sight is None or sight.named(app.full_name(), OWN_SERVER)
    return allowed and app.shows_apps(exchange.capabilities)


def own_place(uri: str, logs: LogReader, caller: Caller) -> tuple[str, str] | None:
    """Give under what server and uri a resource of ToolScore's own is subscribed to; `None` if it is none.

    Raises:
        RefusalError: If it is not for this caller, or of nobody.
    """
    if is_events(uri):
        return "", EVENTS_URI
    if is_overview(uri) or is_journal(uri):
        return "", uri.partition("?")[0]
    if is_log(uri):
        logs.names(log_name(uri), caller)
        return "", uri
    return None
