"""What a client is shown without asking for anything in particular: the lists of tools, resources and prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..log_resource import TEMPLATE
from ..long_results import TEMPLATE as RESULTS

if TYPE_CHECKING:
    from ..events import Events
    from ..views import View


def surface(view: View, events: Events) -> dict[str, dict[str, Any]]:
    """Give what a client is answered that asks for what there is, by method.

    Args:
        view: What it is shown of servers.
        events: The events, which are a resource.
    """
    alone = view.exposure.server is not None
    resources = [] if alone else [events.resource]
    templates = [] if alone else [events.template, TEMPLATE, RESULTS]
    return {
        "tools/list": {"tools": view.shown.listed()},
        "resources/list": {"resources": [*resources, *view.index.resources()]},
        "resources/templates/list": {"resourceTemplates": [*templates, *view.index.templates()]},
        "prompts/list": {"prompts": view.index.prompts()},
    }
