"""From an entry of a catalog to what installing it would fetch and run, and what it needs to know for that."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ...runners.errors import InstallError
from ...runners.installers.node import find_node
from ...runners.secret_look import how_to_set, looks_secret
from ..outcome import Outcome, RefusalError
from .address import address, is_local, variables
from .arguments import (
    Asked,
    ask_arguments,
    ask_values,
    composing,
    fill_arguments,
    fill_value,
    key_of,
    needless,
    outline,
)
from .contained import Contained, contained
from .entry import Argument, Entry, Input, KeyValue, Package, Transport
from .fetching import Fetched, UnfitError, fetched
from .filled import Filled, Keeper
from .values import Given, Text, Wanted

Kind = Literal["pypi", "npm", "mcpb", "oci", "remote"]

ORDER: tuple[Kind, ...] = ("pypi", "npm", "mcpb", "oci", "remote")
"""What is taken where an entry offers several: what runs here, in an environment of its own, comes first."""

_VARIABLE = re.compile(r"[^=\x00-\x20\x7f]+")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_OURS = frozenset(
    {
        "host",
        "content-length",
        "content-type",
        "transfer-encoding",
        "connection",
        "upgrade",
        "accept",
        "te",
        "trailer",
    }
    | {"mcp-session-id", "mcp-protocol-version", "last-event-id"}
)
"""Headers that are the protocol's own."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LOADER = re.compile(
    r"(LD_|DYLD_|GCONV_PATH$|GLIBC_TUNABLES$|MALLOC_|PATH$|HOME$|IFS$|ENV$|BASH_|SHELLOPTS$|PS4$|PROMPT_COMMAND$|TOOLSCORE"
    r"|PYTHON|NODE_(?!ENV$)|NPM_|UV_|PIP_|VIRTUAL_ENV$|JAVA_TOOL_OPTIONS$|_?JAVA_OPTIONS$|JDK_|CLASSPATH$|RUBY|GEM_|BUNDLE_"
    r"|PERL|LUA_|DOTNET_|COMPLUS_|GO(PROXY|FLAGS|ROOT)|CORECLR_|DENO_|BUN_"
    r"|(HTTPS?|ALL|FTP|NO)_PROXY$|SSL_CERT_|SSLKEYLOGFILE$|REQUESTS_CA_|CURL_CA_|OPENSSL_|GIT_(?!HUB|LAB)|SSH_|EDITOR$"
    r"|VISUAL$|PAGER$|BROWSER$|SHELL$)",
    re.IGNORECASE,
)
"""Variables that change which programs, libraries and hosts are used, whatever server it is: an entry does not set
them, also because it could name somebody else's trusted package and run its own code in it that way."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What installing an entry would do.

    Attributes:
        entry: The entry.
        kind: What is used of it: `pypi`, `npm`, `mcpb`, `oci`, or `remote` for a server that already runs somewhere.
        source: What the installers fetch; `None` for a remote.
        wanted: The values that can be given, by name.
        notes: What somebody should know.
        package: The chosen package, and
        transport: the way to the server.
        words: Words before the package's own arguments.
        sha256: What the file that is fetched must hash to, where its source does not say it.
        chosen: Whether somebody chose this kind, where the entry offers several.
    """

    entry: Entry
    kind: Kind
    source: str | None
    wanted: Mapping[str, Wanted]
    notes: tuple[str, ...]
    transport: Transport
    package: Package | None = None
    words: tuple[str, ...] = field(default=())
    sha256: str | None = None
    chosen: bool = False

    @property
    def label(self) -> str:
        """What `install_server` takes for exactly this."""
        return f"{self.entry.source}#{self.kind}" if self.chosen else self.entry.source

    @property
    def deeds(self) -> tuple[object, ...]:
        """All that decides what is fetched, run, reached and sent along: who agrees to a plan agrees to these."""
        entry = self.entry
        run = (self.kind, self.source, self.sha256, self.words, self.package)
        return (entry.name, entry.version, *run, self.transport, dict(self.wanted))

    @property
    def missing(self) -> list[Wanted]:
        """The values without which it cannot be installed."""
        return [one for one in self.wanted.values() if one.missing]

    @property
    def fetches(self) -> str:
        """What is fetched and run, or reached, in one short text for people."""
        if self.source is None:
            return f"connects to {self.transport.url}"
        return self.source.removeprefix("mcpb:").partition("#sha256=")[0]

    @property
    def runs(self) -> str:
        """The arguments the server gets, with `<name>` for what can be given."""
        given = Given(self.wanted, {}, {})
        words = [*self.words]
        package = self.package
        before = package.runtime_arguments if package is not None and self.kind == "oci" else ()
        for index, argument in enumerate((*before, *package.package_arguments) if package else ()):
            found = fill_arguments([argument], given, self.wanted)
            words += ["".join(piece.text for piece in word) for word in found]
            key = key_of(argument, index)
            if found:
                continue
            if composing(argument):
                words.append(outline(argument, given, self.wanted))
            elif key in self.wanted:
                text = f"{argument.name or ''} <{key}>".strip()
                words.append(text if self.wanted[key].missing else f"[{text}]")
        return " ".join(words)

    def call(self, missing: list[Wanted] | None = None) -> str:
        """Give the call that installs it, with places to fill in for what is missing."""
        missing = self.missing if missing is None else missing
        env = {one.name: "..." for one in missing if one.place == "environment"}
        settings = {one.name: "..." for one in missing if one.place != "environment"}
        call = f"source={json.dumps(self.label)}"
        call += f", env={json.dumps(env)}" if env else ""
        call += f", settings={json.dumps(settings)}" if settings else ""
        return f"install_server({call})"

    def filled(
        self,
        settings: Mapping[str, Any],
        env: Mapping[str, str],
        *,
        server: str,
        cwd: str | None = None,
    ) -> Filled:
        """Fill in the values.

        Args:
            settings: Values by the names in `wanted`.
            env: Environment variables.
            server: Name the server will have; its secrets begin with it.
            cwd: Where relative paths begin.

        Raises:
            RefusalError: If one is missing, unknown or cannot be; with the call to make.
        """
        given = Given(self.wanted, settings, env, cwd=cwd, more=self.kind == "mcpb")
        package = self.package
        if missing := [one for one in self.wanted.values() if one.required and given.lacks(one.name)]:
            pairs = package.environment_variables if package else ()
            others: list[Argument | KeyValue] = [*self.transport.headers]
            others += (*package.runtime_arguments, *package.package_arguments) if package else ()
            settled = needless(given, pairs, others) - {*variables(self.transport.url or "")}
            if missing := [one for one in missing if one.name not in settled]:
                raise self._incomplete(missing, given.misnamed(env))
        keep = Keeper(server, self.entry.name)
        free = self._free_port(given)
        arguments = package.package_arguments if package else ()
        if free is not None:
            given.put(free, Text("${PORT}", given=True))
        args = [
            *self.words,
            *(keep.word(word, "argument") for word in fill_arguments(arguments, given, self.wanted)),
        ]
        filled: dict[str, str] = {}
        for pair in package.environment_variables if package else ():
            word = fill_value(pair, given, self.wanted)
            if word is not None and not (_LOADER.match(pair.name) and not given.has(pair.name)):
                filled[pair.name] = "".join(piece.text for piece in keep.checked(word, pair.name))
        container, notes = None, (*self.notes, *given.misnamed(env))
        if package is not None and self.kind == "oci":
            options = self._contained(package, given, keep)
            container, notes = options.options, (*notes, *options.notes)
            for name, word in options.env.items():
                if not (_LOADER.match(name) and not given.has(name)):
                    filled[name] = "".join(piece.text for piece in keep.checked(word, name))
        headers = self._headers(given, keep)
        url = None
        if self.transport.url is not None and self.transport.type != "stdio":
            url = self._url(given, keep)
        sse = None if url is None else self.transport.type == "sse"
        env = {**filled, **given.others}
        return Filled(tuple(args), env, url, sse, headers, keep.values, notes, container)

    def _contained(self, package: Package, given: Given, keep: Keeper) -> Contained:
        words = fill_arguments(package.runtime_arguments, given, self.wanted)
        try:
            return contained([keep.checked(word, "the container") for word in words])
        except (UnfitError, ValueError) as error:
            raise RefusalError(Outcome.INVALID_ARGUMENTS, f"{self.entry.name} {error}.") from None

    def _headers(self, given: Given, keep: Keeper) -> dict[str, str]:
        found = {}
        for pair in self.transport.headers if self.transport.type != "stdio" else ():
            if (word := fill_value(pair, given, self.wanted)) is not None:
                found[pair.name] = keep.word(word, pair.name)
        return found

    def _free_port(self, given: Given) -> str | None:
        """Name what says the port a server of this machine listens on, if nobody chose one: a free one is found."""
        key = _port(self.transport) if self.package is not None else None
        return key if key is not None and key in self.wanted and not given.has(key) else None

    def _url(self, given: Given, keep: Keeper) -> str:
        assert self.transport.url is not None
        values = {}
        for name in variables(self.transport.url):
            found = given.of(name if name in self.wanted else name.lstrip("-"))
            assert found is not None
            values[name] = found[0]
        url = keep.word(address(self.transport.url, values), "address")
        if self.package is not None and not is_local(url.replace("${PORT}", "1")):
            raise RefusalError(
                Outcome.INVALID_ARGUMENTS,
                f"{self.entry.name} would be started here, but reached at {url:.200}, which is not on this machine.",
            )
        if not is_local(url) and url.startswith("http://") and (keep.values or self.transport.headers):
            raise RefusalError(
                Outcome.REFUSED,
                f"{self.entry.name} is reached at {url:.200} without encryption, and would be sent headers or "
                "secrets there. If that network can be trusted, register_tool takes the url and the headers.",
            )
        return url

    def _incomplete(self, missing: list[Wanted], misnamed: list[str]) -> RefusalError:
        lines = "".join(f"\n- {one.line()}" for one in missing)
        secret = how_to_set(one.name for one in missing if one.secret or looks_secret(one.name))
        slips = "".join(f" {one}" for one in misnamed)
        return RefusalError(
            Outcome.INVALID_ARGUMENTS,
            f"{self.entry.name} needs what was not given:{lines}\nCall again with it beside all else you gave: "
            f"{self.call(missing)}.{secret}{slips}",
            missing=[one.as_dict() for one in missing],
        )


def plan_of(entry: Entry, *, kind: str | None = None) -> Plan:
    """Tell what installing an entry would fetch and run.

    Args:
        entry: The entry.
        kind: What is to be taken of all it offers: `pypi`, `npm`, `mcpb`, `oci` or `remote`; the best if `None`.

    Raises:
        RefusalError: If it offers nothing that can be run or reached from here, with the reason for each.
    """
    if entry.status == "deleted":
        said = f": {entry.status_message.rstrip('.')}" if entry.status_message else ""
        raise RefusalError(
            Outcome.REFUSED,
            f"{entry.name} {entry.version} was withdrawn from its registry{said}. Look for another one.",
        )
    why: list[str] = []
    plan: Plan | None = None
    others: list[str] = []
    options = _options(entry)
    for option in options:
        its_kind = _kind(option)
        if kind is not None and its_kind != kind:
            continue
        if plan is not None:
            others.append(its_kind)
            continue
        try:
            plan = _package(entry, option) if isinstance(option, Package) else _remote(entry, option)
        except UnfitError as error:
            shown = option.identifier if isinstance(option, Package) else option.url
            why.append(f"{its_kind} {shown or '':.120} {error}")
    why += entry.unreadable
    if plan is None:
        raise RefusalError(Outcome.REFUSED, _nothing(entry, kind, why, list(map(_kind, options))))
    notes = [*plan.notes]
    if entry.status == "deprecated":
        said = f": {entry.status_message}" if entry.status_message else ""
        notes.insert(0, f"{entry.name} is deprecated{said}")
    notes += [f"passed over: {reason}" for reason in why]
    if other := [one for one in dict.fromkeys(others) if one != plan.kind]:
        # Only those that can be chosen are sources; what cannot be is not tried here.
        sources = [f"{entry.source}#{one}" if one in ORDER else one for one in other]
        notes.append(f"it is also offered as {', '.join(sources)}")
    return replace(plan, notes=tuple(notes), chosen=kind is not None)


def _kind(option: Package | Transport) -> str:
    return option.registry_type if isinstance(option, Package) else "remote"


def _nothing(entry: Entry, kind: str | None, why: list[str], offered: list[str]) -> str:
    """Say why there is nothing to install."""
    if kind is not None:
        others = [one for one in dict.fromkeys(offered) if one != kind]
        chosen = [f"{entry.source}#{one}" for one in others if one in ORDER]
        also = f" It also offers: {', '.join(chosen)}." if chosen else ""
        if kind not in offered and not why:
            return f"{entry.name} offers no {kind:.40}.{also}"
        return f"{entry.name} cannot be installed here as {kind:.40}: {'; '.join(why)}.{also}"
    if why:
        only = " It offers nothing else." if len(why) == 1 else ""
        return f"{entry.name} cannot be installed here. It offers: {'; '.join(why)}.{only}"
    page = entry.website_url or (entry.repository.url if entry.repository else "")
    more = f" See {page:.300}." if page else ""
    return f"{entry.name} names neither a package nor an address, so that there is nothing to install.{more}"


def _options(entry: Entry) -> list[Package | Transport]:
    """List what an entry offers, the best first."""
    order: list[str] = [*ORDER]
    if not _has_node():
        order.remove("npm")
        order.append("npm")  # what installs it says how to get one
    options: list[Package | Transport] = [*entry.packages, *entry.remotes]

    def rank(option: Package | Transport) -> tuple[int, bool]:
        kind = _kind(option)
        place = order.index(kind) if kind in order else len(order)
        kind_of_line = option.transport.type if isinstance(option, Package) else option.type
        return place, kind_of_line not in ("stdio", "streamable-http")

    return sorted(options, key=rank)


def _has_node() -> bool:
    try:
        find_node()
    except InstallError:
        return False
    return True


def _package(entry: Entry, package: Package) -> Plan:
    how: Fetched = fetched(package)
    asked = Asked()
    if package.registry_type == "oci":
        ask_arguments(asked, package.runtime_arguments)
    ask_arguments(asked, package.package_arguments)
    ask_values(asked, "environment", package.environment_variables)
    notes = [*how.notes]
    for pair in package.environment_variables:
        if not _VARIABLE.fullmatch(pair.name):
            raise UnfitError(f"has an environment variable with the impossible name {pair.name!r:.60}")
        if _LOADER.match(pair.name) and (pair.value or pair.default):
            notes.append(f"{pair.name} is not set as the entry says; give it in env if you want it")
    transport = package.transport
    if transport.type != "stdio":
        _check_way(transport)
        asked_names = set(asked.wanted)
        assert transport.url is not None
        for name in variables(transport.url):
            if name not in asked_names and name.lstrip("-") not in asked_names:
                given = transport.variables.get(name, Input(description="Part of the address it listens at."))
                asked.add(name, "address", given, required=True)
        ask_values(asked, "header", transport.headers)
        if _port(transport) is not None:
            notes.append("it gets a free port of this machine, unless one is given")
    _check_headers(transport)
    kinds: dict[str, Kind] = {"pypi": "pypi", "npm": "npm", "oci": "oci"}
    kind = kinds.get(package.registry_type, "mcpb")
    if kind == "mcpb" and transport.type != "stdio":
        raise UnfitError("is a bundle that does not speak over its standard streams, which bundles do")
    if kind == "mcpb":
        notes.append("its manifest may ask for further settings; they are given by name in settings, too")
    wanted = _port_is_found(asked.wanted, transport)
    return Plan(entry, kind, how.source, wanted, tuple(notes), transport, package, how.words, how.sha256)


def _port_is_found(wanted: dict[str, Wanted], transport: Transport) -> dict[str, Wanted]:
    """Ask nobody for a port: one that nobody chose is found at each start."""
    port = _port(transport)
    return {key: replace(one, required=False) if key == port else one for key, one in wanted.items()}


def _port(transport: Transport) -> str | None:
    """Give the name of what says the port in an address, as in `http://localhost:{port}/mcp`."""
    match = re.search(r"://[^/{]*:\{([^{}]+)\}", transport.url or "")
    return match[1].lstrip("-") if match is not None and transport.type != "stdio" else None


def _remote(entry: Entry, remote: Transport) -> Plan:
    _check_way(remote)
    _check_headers(remote)
    assert remote.url is not None
    asked = Asked()
    for name in variables(remote.url):
        given = remote.variables.get(name, Input(description="Part of the server's address."))
        if given.value:
            given = given.model_copy(update={"default": given.value})
        asked.add(name, "address", given, required=True)
    ask_values(asked, "header", remote.headers)
    return Plan(entry, "remote", None, asked.wanted, (), remote)


def _check_way(transport: Transport) -> None:
    url = transport.url
    if transport.type not in ("streamable-http", "sse", "http"):
        raise UnfitError(f"speaks {transport.type:.40}, which ToolScore does not")
    if not url or "${" in url:
        raise UnfitError("has no usable address")
    if not re.match(r"https?://|\{[^{}]+\}", url) or re.search(r"[\s\\]", url):
        raise UnfitError(f"has the address {url!r:.80}, which is none")
    if "@" in re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]:
        raise UnfitError(f"has the address {url!r:.80}, whose host is not the one it begins with")


def _check_headers(transport: Transport) -> None:
    for pair in transport.headers:
        if not _HEADER.fullmatch(pair.name):
            raise UnfitError(f"has a header with the impossible name {pair.name!r:.60}")
        if pair.name.lower() in _OURS:
            raise UnfitError(f"sets the header {pair.name}, which is not an entry's to set")
        if any(_CONTROL.search(text) for text in (pair.value, pair.default) if text):
            raise UnfitError(f"has the header {pair.name:.60} with control characters in it")
