"""Installing what an entry of the catalog describes: looked up, planned, filled in, and taken in as any server is."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ...runners.confinement import Confinement
from ...runners.container import Container
from ...runners.keeping import Keeping
from ...runners.spec import Installation, Report, ServerSpec, SourceKind, silent, unconfinable
from ..outcome import Outcome, RefusalError

if TYPE_CHECKING:
    from ..addition import Added, Addition
    from ..caller import Caller
    from ..rows import Origin
    from ..servers import Servers
    from .filled import Filled
    from .plan import Plan

PREFIX = "registry:"
"""How the source of a server begins that is installed from an entry of the catalog."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody asked for besides the source; see `Servers.install`."""

    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    origin: Origin = "agent"
    constraints: tuple[str, ...] = ()
    confine: Confinement | None = None
    keeping: Keeping = field(default_factory=Keeping)
    keep: bool = False
    agreed: Plan | None = None
    container: Container | None = None


KINDS = ("pypi", "npm", "mcpb", "oci", "remote")
"""What can be chosen of what an entry offers: `registry:NAME#remote`."""


@dataclass(frozen=True, slots=True)
class Named:
    """An entry as a source names it.

    Attributes:
        name: Its name.
        version: The version, or `None` for the newest.
        kind: What is to be taken of all it offers, or `None` for the best.
    """

    name: str
    version: str | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Described:
    """How an installed server was described, so that it can be filled in anew with nothing fetched.

    Attributes:
        entry: The entry, with what was chosen of it only.
        kind: What that is.
        words: How many arguments follow the entry point that was installed.
    """

    entry: dict[str, Any]
    kind: str
    words: int


def named(source: str) -> Named:
    """Take a source apart.

    Raises:
        RefusalError: If it names no entry.
    """
    text = source.strip().removeprefix(PREFIX).strip()
    rest, mark, kind = text.rpartition("#")
    if not mark or kind not in KINDS:  # a version may hold one, too
        rest, kind = text, ""
    name, at, version = rest.partition("@")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}", name) or (
        at and not re.fullmatch(r"\S{1,255}", version)
    ):
        raise RefusalError(
            Outcome.INVALID_ARGUMENTS,
            f"{source!r:.120} names no entry of the catalog; write registry:NAME or registry:NAME@VERSION, with a "
            "name as search_servers gives it, such as registry:io.github.somebody/weather. One of "
            f"{', '.join('#' + one for one in KINDS)} behind it takes that of all it offers.",
        )
    return Named(name, None if version in ("", "latest") else version, kind or None)


def for_manifest(kind: SourceKind, settings: Mapping[str, Any]) -> dict[str, str]:
    """Give settings of a bundle as the variables by which its manifest gets them.

    Raises:
        RefusalError: If the source is no bundle, whose manifest could ask for them.
    """
    from .values import Given

    if kind is not SourceKind.MCPB:
        raise RefusalError(
            Outcome.INVALID_ARGUMENTS,
            "settings are for registry:NAME and bundles, which say what they ask for. Give arguments in args and "
            "environment variables in env.",
        )
    return Given({}, settings, {}, more=True).others


def suggested(entry_name: str) -> str:
    """Suggest a server's name for an entry: its last part."""
    from ...runners.installers.name import suggest_name
    from ...runners.installers.source import Source

    space, _, last = entry_name.rpartition("/")
    found = suggest_name(Source(SourceKind.NPM, entry_name, name=last))
    if found == "server" and space:  # it is called mcp, or the like: then its owner says more
        found = suggest_name(Source(SourceKind.NPM, entry_name, name=space.rpartition(".")[2]))
    return found


async def planned(servers: Servers, source: str) -> Plan:
    """Look up what a source names, and plan it.

    Raises:
        RefusalError: If there is no such entry, or it cannot be installed here.
    """
    from .plan import plan_of

    wanted = named(source)
    name, version = wanted.name, wanted.version
    if servers.catalog is None:
        raise RefusalError(Outcome.UNAVAILABLE, "There is no catalog here to look up registry: in.")
    entry = await servers.catalog.find(name, version)
    if entry is None:
        # One that is empty may have it the next time, which matters to a server that the configuration declares.
        outcome = Outcome.UNAVAILABLE if await servers.catalog.is_empty() else Outcome.INVALID_ARGUMENTS
        raise RefusalError(outcome, await servers.catalog.missing(name, version))
    return await asyncio.to_thread(plan_of, entry, kind=wanted.kind)


async def install_entry(
    servers: Servers, source: str, caller: Caller, name: str | None, wish: Wish, report: Report = silent
) -> Added:
    """Install an entry of the catalog, or leave nothing; see `Servers.install`.

    Raises:
        RefusalError: With the reason and the next step.
    """
    from ..addition import Addition

    plan = await planned(servers, source)
    if wish.agreed is not None and plan.deeds != wish.agreed.deeds:
        raise RefusalError(
            Outcome.REFUSED,
            f"The catalog says something else of {source} by now than what was agreed to. Try again.",
        )
    name = name or suggested(plan.entry.name)
    with servers.reserve(name):
        filled = plan.filled(wish.settings, wish.env, server=name, cwd=caller.cwd)
        _check(plan, filled, wish)
        async with Addition(servers, name, wish.origin, report) as new:
            if plan.source is None:
                added = await _remote(new, name, plan, filled, wish)
            else:
                added = await new.from_source(
                    plan.source,
                    (),
                    _spec(filled, wish),
                    constraints=wish.constraints,
                    confine=wish.confine,
                    container=_container(filled, wish),
                    keeping=wish.keeping,
                    keep=wish.keep,
                    secrets=filled.secrets,
                    label=plan.label,
                    sha256=plan.sha256,
                )
    described = describe(plan, len(filled.args) + len(wish.args))
    return replace(added, notes=[*filled.notes, *added.notes], described=described)


def describe(plan: Plan, words: int) -> Described:
    """Keep how a server is described.

    Args:
        plan: What was installed.
        words: How many arguments follow the entry point.
    """
    chosen = {"packages": (plan.package,)} if plan.package else {"remotes": (plan.transport,)}
    bare = {"packages": (), "remotes": (), "meta": {}, "icons": (), "description": "", **chosen}
    entry = plan.entry.model_copy(update=bare)
    return Described(entry.model_dump(mode="json", by_alias=True, exclude_defaults=True), plan.kind, words)


def refilled(
    described: Described, server: str, old: ServerSpec, wish: Wish
) -> tuple[ServerSpec, dict[str, str], int]:
    """Fill an installed server in anew, as its entry described it when it was installed.

    Args:
        described: The entry.
        server: The server's name.
        old: How it is started or reached now.
        wish: What is asked for now.

    Returns:
        How it is to be started or reached; literal values of the secrets in that; and its arguments' number.

    Raises:
        RefusalError: If a value is missing, unknown or cannot be.
        EntryError: If the entry cannot be understood any more.
    """
    from .entry import parse
    from .plan import plan_of

    plan = plan_of(parse(described.entry), kind=described.kind)
    filled = plan.filled(wish.settings, wish.env, server=server)
    _check(plan, filled, wish)
    words = (*filled.args, *wish.args)
    own = old.args[: len(old.args) - described.words]
    fresh: dict[str, Any] = {
        "args": (*own, *words),
        "env": filled.env,
        "url": filled.url,
        "headers": filled.headers,
        "sse": filled.sse,
        "confine": wish.confine,
    }
    if old.container is not None and (container := _container(filled, wish)) is not None:
        fresh["container"] = container.model_copy(update={"image": old.container.image})
    return old.model_copy(update=fresh), filled.secrets, len(words)


def _container(filled: Filled, wish: Wish) -> Container | None:
    """Lay what somebody asked for over what the entry asks for.

    Raises:
        RefusalError: If the two do not go together.
    """
    if filled.container is None:
        return wish.container
    own = {} if wish.container is None else wish.container.model_dump(include=wish.container.model_fields_set)
    given = {
        key: tuple(value) if isinstance(value, list) else value for key, value in filled.container.items()
    }
    try:
        return Container.model_validate({**given, **own})
    except ValidationError as error:
        said = "; ".join(str(one["msg"]).removeprefix("Value error, ") for one in error.errors())
        raise RefusalError(Outcome.INVALID_ARGUMENTS, f"Its container cannot be made: {said}.") from None


def _spec(filled: Filled, wish: Wish) -> ServerSpec:
    return ServerSpec(
        command="-",
        args=(*filled.args, *wish.args),
        env=filled.env,
        url=filled.url,
        headers=filled.headers,
        sse=filled.sse,
    )


async def checked(servers: Servers, source: str, name: str, wish: Wish) -> None:
    """Refuse what could not be installed, before anything is given up for it.

    Raises:
        RefusalError: With the reason and the next step.
    """
    plan = await planned(servers, source)
    _check(plan, plan.filled(wish.settings, wish.env, server=name), wish)


def _check(plan: Plan, filled: Filled, wish: Wish) -> None:
    """Refuse what a server that already runs somewhere would never see."""
    if plan.source is not None:
        return
    what = [key for key, given in (("args", wish.args), ("constraints", wish.constraints)) if given]
    what += [f"env ({', '.join(sorted(filled.env))})"] if filled.env else []
    if what:
        known = ", ".join(plan.wanted) or "none"
        raise RefusalError(
            Outcome.INVALID_ARGUMENTS,
            f"{plan.entry.name} already runs at {plan.transport.url}, so that {' and '.join(what)} would reach "
            f"nobody. Its settings are: {known}; they are given under settings.",
        )
    if wish.confine is not None and (wrong := unconfinable(None, filled.url, wish.confine)):
        raise RefusalError(Outcome.INVALID_ARGUMENTS, f"confine {wrong}.")


async def _remote(new: Addition, name: str, plan: Plan, filled: Filled, wish: Wish) -> Added:
    spec = ServerSpec(url=filled.url, headers=filled.headers, sse=filled.sse)
    installation = Installation(
        server_id=name,
        kind=SourceKind.REGISTERED,
        source=plan.label,
        spec=new.keep_secrets(spec, filled.secrets),
        runtime="remote",
        version=plan.entry.version or None,
        keeping=wish.keeping,
    )
    return await new.from_installation(installation, keep=wish.keep)
