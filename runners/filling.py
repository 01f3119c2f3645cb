"""A spec at one start: its templates replaced, and what was put in remembered as what nobody may see."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from .environment import NEVER
from .known_secrets import KnownSecrets
from .log_mask import Mask, SeenValues
from .spec import Installation, ServerSpec, SourceKind
from .template import expand_spec, secret_names, variables

if TYPE_CHECKING:
    from .process import ProcessOptions

Lend = Callable[[str, frozenset[str]], Awaitable[Mapping[str, str]]]
"""Gives the values of environment variables that a server wants and ToolScore lacks, as far as somebody has them."""


async def filled(
    installation: Installation,
    options: ProcessOptions,
    known: KnownSecrets,
    lend: Lend,
    extra: Mapping[str, str],
) -> tuple[ServerSpec, Mask]:
    """Replace the templates of a server's spec.

    Args:
        installation: The server.
        options: Where values are looked up.
        known: Where those are remembered that nobody may see.
        lend: Gives environment variables that are not ToolScore's own.
        extra: Values of this start.

    Returns:
        The spec to start it with, and what takes its secrets out of its log.

    Raises:
        RunnerError: If a value is missing, or what results is no spec.
    """
    name, template = installation.name, installation.spec

    def own_secret(key: str) -> str | None:
        # A server sees what was given for it, never another server's.
        if not key.startswith(f"{name}/"):
            return None
        own = options.builtin_secret(key) if installation.kind is SourceKind.BUILTIN else None
        return options.secret(key) if own is None else own

    named: Mapping[str, str] = {}
    if names := secret_names(template) - NEVER - extra.keys():
        # In a thread: a keyring may ask its owner first.
        named = await asyncio.to_thread(_looked_up, names, options.named)
    ours = {key: value for key, value in options.environ.items() if key not in NEVER}
    lent: Mapping[str, str] = {}
    if wanting := variables(template) - NEVER - ours.keys() - extra.keys() - named.keys():
        lent = await lend(name, wanting)
    seen = SeenValues(lambda key: ours.get(key, lent.get(key)), own_secret, named.get)
    try:
        spec = expand_spec(template, seen.variable, seen.secret, extra, seen.named)
        seen.expanded(spec.env)
        seen.expanded(spec.headers)
    finally:
        mask = known.learn(name, seen.values, seen.certain)
    return spec, mask


def _looked_up(names: Iterable[str], named: Callable[[str], str | None]) -> dict[str, str]:
    """Look up secrets by name; what is not there is left out."""
    found = {name: named(name) for name in names}
    return {name: value for name, value in found.items() if value is not None}
