"""Whether this gateway can run a server: it must be made here, and its secrets must be here too."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..runners.template import references

if TYPE_CHECKING:
    from .servers import Servers

_SECRET = re.compile(r"\$\{secret:([^{}]+)\}")


def unable(servers: Servers, name: str) -> str | None:
    """Say why this gateway cannot run a server, as part of a sentence; `None` if it can as far as is known.

    Args:
        servers: The servers here.
        name: The server.

    Raises:
        SecretsError: If the secrets cannot be read.
    """
    if servers.making is not None and (why := servers.making.why.get(name)) is not None:
        return why
    if (row := servers.library.servers.get(name)) is None:
        return None  # it is being added
    if row.origin == "builtin":
        return None  # each gateway has its own, and all that takes
    spec = row.installation.spec
    texts = (spec.command, spec.cwd, spec.url, *spec.args, *spec.env.values(), *spec.headers.values())
    for form in references(texts):
        found = _SECRET.fullmatch(form)
        if found is None:
            continue
        key = found[1]
        if servers.secrets.get(key) is None and servers.named(key) is None:
            return f"it lacks the secret {key}"
    return None
