"""One server of a catalog as its publisher describes it: `server.json` of the MCP registry, in all its forms so far.

The schema is that of https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json; read too are the
earlier forms with names_like_this, and the registry's own remarks (`io.modelcontextprotocol.registry/official`),
wherever they stood over time. What is not known is left alone. Nothing in an entry can be trusted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

OFFICIAL = "io.modelcontextprotocol.registry/official"
"""Where a registry's reply keeps what the registry itself says of an entry."""

LONGEST_TEXT = 8192
"""Characters of any one text that something is made of; a description is cut, all else refused."""

LONGEST_DESCRIPTION = 2000
_MOST = 256
"""Arguments, variables or choices at one place."""
_WAYS = 32
"""Packages of one entry, or remotes."""

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[._-]*[A-Za-z0-9][A-Za-z0-9._-]*){0,3}$"
_UNPRINTED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")

_LINE_ENDS = dict.fromkeys(map(ord, "\t\n\r"))


class EntryError(ValueError):
    """Something that was to be an entry is none. The text is short and says why."""


def said(value: Any, longest: int = LONGEST_DESCRIPTION) -> str:
    """Take a text for people: on one line, without what a terminal would obey, and not too long."""
    if not isinstance(value, str):
        return ""
    return " ".join(_UNPRINTED.sub(" ", value[: longest * 4]).split())[:longest]


def _written(value: Any) -> Any:
    """Take a number or a truth value as the text it stands for, as the schema asks."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def _exact(value: Any) -> Any:
    value = _written(value)
    if isinstance(value, str) and _UNPRINTED.search(value):
        raise ValueError("it holds control characters")
    return value


def _exact_lines(value: Any) -> Any:
    value = _written(value)
    if isinstance(value, str):
        _exact(value.translate(_LINE_ENDS))
    return value


def _listed(value: Any) -> Any:
    return () if value is None else value


def _mapped(value: Any) -> Any:
    return {} if value is None else value


Said = Annotated[str, BeforeValidator(said)]
Exact = Annotated[str, BeforeValidator(_exact)]
"""A text that becomes part of a command, an address or a name: as it is, or not at all."""
_Lines = Annotated[str, BeforeValidator(_exact_lines)]
"""The same, but of several lines, as a key in a variable of the environment is."""
_Choices = Annotated[tuple[Exact, ...], BeforeValidator(_listed), Field(max_length=_MOST)]


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        populate_by_name=True,
        str_max_length=LONGEST_TEXT,
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or None not in value.values():
            return value
        return {key: one for key, one in value.items() if one is not None}


class Input(_Part):
    """A value somebody has to give, or that is given already.

    Attributes:
        description: What it is for.
        is_required: Whether there must be one.
        is_secret: Whether nobody else may see it.
        format: `string`, `number`, `boolean` or `filepath`.
        value: The value; with one, nobody is asked. `{name}` in it stands for one of `variables`.
        default: What holds where nothing is given.
        placeholder: An example.
        choices: The only values there are, unless empty.
    """

    description: Said = ""
    is_required: bool = False
    is_secret: bool = False
    format: Exact = "string"
    value: Exact | None = None
    default: Exact | None = None
    placeholder: Said = ""
    choices: _Choices = ()


_Variables = Annotated[dict[Exact, Input], BeforeValidator(_mapped), Field(max_length=64)]


class KeyValue(Input):
    """An environment variable or a header."""

    name: Annotated[Exact, Field(min_length=1, max_length=256)]
    value: _Lines | None = None
    default: _Lines | None = None
    variables: _Variables = Field(default_factory=dict)


class Argument(Input):
    """An argument of a command line.

    Attributes:
        type: `positional`, or `named` as in `--port=80`.
        name: Of a named one, with its dashes.
        value_hint: What a positional one is called.
        is_repeated: Whether it may be given several times.
        variables: What stands in braces in its value.
    """

    type: Literal["positional", "named"] = "positional"
    name: Exact | None = None
    value_hint: Exact | None = None
    is_repeated: bool = False
    variables: _Variables = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_a_name(self) -> Argument:
        if self.type == "named" and not self.name:
            raise ValueError("a named argument needs a name")
        return self


_KeyValues = Annotated[tuple[KeyValue, ...], BeforeValidator(_listed), Field(max_length=_MOST)]
_Arguments = Annotated[tuple[Argument, ...], BeforeValidator(_listed), Field(max_length=_MOST)]


def _transport(value: Any) -> Any:
    if isinstance(value, str):
        value = {"type": value}
    if isinstance(value, Mapping) and "type" not in value and "transport_type" in value:
        value = {**value, "type": value["transport_type"]}
    if isinstance(value, Mapping) and isinstance(value.get("headers"), Mapping):
        value = {
            **value,
            "headers": [{"name": name, "value": given} for name, given in value["headers"].items()],
        }
    return value


class Transport(_Part):
    """How a server is spoken to.

    Attributes:
        type: `stdio`, `streamable-http` or `sse`; anything else is not known here.
        url: Where, for all but `stdio`; may hold `{name}`.
        headers: What is sent along.
        variables: What stands in braces in the url.
    """

    type: Exact = "stdio"
    url: Exact | None = None
    headers: _KeyValues = ()
    variables: _Variables = Field(default_factory=dict)


_Transport = Annotated[Transport, BeforeValidator(_transport)]


class Package(_Part):
    """A package that holds a server.

    Attributes:
        registry_type: `npm`, `pypi`, `oci`, `nuget` or `mcpb`; anything else is not known here.
        registry_base_url: The package index, where it is another than the usual one.
        identifier: Its name there, an image, or the address of a file.
        version: Its version; some kinds carry it in `identifier`.
        file_sha256: What the file must hash to.
        runtime_hint: What is to run it, such as `npx`.
        transport: How the server in it is spoken to.
        runtime_arguments: For what runs it.
        package_arguments: For the server.
        environment_variables: For the server.
    """

    registry_type: Annotated[Exact, Field(min_length=1, max_length=64)]
    registry_base_url: Exact | None = None
    identifier: Annotated[Exact, Field(min_length=1, max_length=2048)]
    version: Exact | None = None
    file_sha256: Exact | None = None
    runtime_hint: Exact | None = None
    transport: _Transport = Transport()
    runtime_arguments: _Arguments = ()
    package_arguments: _Arguments = ()
    environment_variables: _KeyValues = ()

    @model_validator(mode="before")
    @classmethod
    def _as_it_was_called(cls, value: Any) -> Any:
        """Read the names of the first half-year: `registry_name` for the type, `name` for the identifier."""
        if not isinstance(value, Mapping):
            return value
        found = dict(value)
        for old, new in (("registry_name", "registry_type"), ("name", "identifier")):
            if old in found and new not in found and to_camel(new) not in found:
                found[new] = found[old]
        for key in ("registry_type", "registryType"):
            if isinstance(found.get(key), str):
                found[key] = {"docker": "oci", "dxt": "mcpb"}.get(found[key].lower(), found[key].lower())
        if found.get("transport", False) is None:
            del found["transport"]
        return found


class Repository(_Part):
    """Where the source is."""

    url: Exact = ""
    source: Exact | None = None
    id: Exact | None = None
    subfolder: Exact | None = None


class Icon(_Part):
    """A picture."""

    src: Exact


def _icons(value: Any) -> Any:
    """Keep the pictures that can be one; nobody is to lose a server for the sake of the others."""
    found = value if isinstance(value, list | tuple) else ()
    sources = (icon.get("src") for icon in found if isinstance(icon, Mapping))
    return [
        {"src": src} for src in sources if isinstance(src, str) and len(src) <= 2048 and src.isprintable()
    ][:16]


def _repository(value: Any) -> Any:
    """Take a repository; one that cannot be read is not known, as nothing is fetched from it."""
    if not value:
        return None
    try:
        return Repository.model_validate({"url": value} if isinstance(value, str) else value)
    except ValidationError:
        return None


def _status(value: Any) -> Any:
    return value if value in ("deprecated", "deleted") else "active"


def _moment(value: Any) -> datetime | None:
    """Read a time (RFC 3339); one that cannot be read is not known."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
        return (
            None if found is None else (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
        )
    except (ValueError, OverflowError):
        return None


class Entry(_Part):
    """One version of one server.

    Attributes:
        name: Its name in the catalog, such as `io.github.somebody/weather`.
        version: Of the entry; empty where none is said.
        title: Its name for people.
        description: What it does.
        repository: Where its source is.
        website_url: Where more is to be read.
        icons: Pictures of it.
        packages: What it can be installed from; any one of them will do.
        remotes: Where it runs already.
        meta: What publisher and registry say besides, by name space.
        status: Whether it is still recommended, or was withdrawn.
        status_message: Why it is not.
        published_at: When this version came into the registry.
        updated_at: When something about it changed.
        is_latest: Whether its registry calls it the newest version; `None` where it does not say.
        unreadable: Why some of its packages and remotes could not be read; they are left out.
    """

    name: Annotated[Exact, Field(pattern=_NAME, max_length=200)]
    version: Annotated[Exact, Field(pattern=r"^\S*$", max_length=255)] = ""
    title: Said = ""
    description: Said = ""
    repository: Annotated[Repository | None, BeforeValidator(_repository)] = None
    website_url: Said = ""
    icons: Annotated[tuple[Icon, ...], BeforeValidator(_icons)] = ()
    packages: Annotated[tuple[Package, ...], BeforeValidator(_listed), Field(max_length=_WAYS)] = ()
    remotes: Annotated[tuple[_Transport, ...], BeforeValidator(_listed), Field(max_length=_WAYS)] = ()
    meta: Annotated[dict[str, Any], BeforeValidator(_mapped), Field(alias="_meta")] = Field(
        default_factory=dict
    )
    status: Annotated[Literal["active", "deprecated", "deleted"], BeforeValidator(_status)] = "active"
    status_message: Said = ""
    published_at: Annotated[datetime | None, BeforeValidator(_moment)] = None
    updated_at: Annotated[datetime | None, BeforeValidator(_moment)] = None
    is_latest: bool | None = None
    unreadable: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """What `install_server` takes for exactly this version."""
        return f"registry:{self.name}@{self.version}" if self.version else f"registry:{self.name}"


def parse(raw: Any) -> Entry:
    """Read one entry: an item of a registry's reply, or a bare `server.json`.

    Raises:
        EntryError: If it is none.
    """
    if not isinstance(raw, Mapping):
        raise EntryError(f"it is no JSON object but {type(raw).__name__}")
    server = raw["server"] if isinstance(raw.get("server"), Mapping) else raw
    if server is raw and not _is_server(raw):
        raise EntryError("it is no server.json: it has neither packages nor remotes nor a name such as a.b/c")
    meta: dict[str, Any] = {}
    for place in (server, raw):
        if isinstance(place.get("_meta"), Mapping):
            meta.update(place["_meta"])
    fields = {**server, "_meta": meta}
    detail = server.get("version_detail")
    if isinstance(detail, Mapping):
        fields.setdefault("version", detail.get("version"))
        fields.setdefault("is_latest", detail.get("is_latest"))
    fields.update(_official(raw, meta))
    try:
        unreadable: list[str] = []
        for key, model in (("packages", Package), ("remotes", Transport)):
            if isinstance(fields.get(key), list | tuple):
                fields[key] = _readable(key, model, fields[key], unreadable)
        if unreadable and not fields.get("packages") and not fields.get("remotes"):
            raise EntryError(unreadable[0])
        return Entry.model_validate({**fields, "unreadable": unreadable})
    except ValidationError as exc:
        raise EntryError(_wrong(exc)) from None
    except RecursionError:
        raise EntryError("it is nested too deeply") from None


def _readable(
    key: str, model: type[Package | Transport], given: Sequence[Any], unreadable: list[str]
) -> list[Any]:
    """Read each by itself, so that a server is not lost for the sake of one of the ways to it."""
    if len(given) > _WAYS:
        raise EntryError(f"{key}: it has {len(given)}; an entry has {_WAYS} at the most")
    found = []
    for index, one in enumerate(given):
        try:
            found.append(model.model_validate(_transport(one) if model is Transport else one))
        except ValidationError as exc:
            unreadable.append(_wrong(exc, key, str(index)))
    return found


def _wrong(exc: ValidationError, *place: str) -> str:
    """Say in short what is wrong first, and where."""
    error = exc.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join((*place, *map(str, error["loc"])))
    return said(f"{where}: {error['msg'].removeprefix('Value error, ')}", 200)


def _is_server(raw: Mapping[str, Any]) -> bool:
    """Tell a bare server.json from other JSON files that have a name and a version too."""
    name = raw.get("name")
    return "packages" in raw or "remotes" in raw or (isinstance(name, str) and "/" in name)


def _official(raw: Mapping[str, Any], meta: Mapping[str, Any]) -> dict[str, Any]:
    """Give what the registry says of the entry, in the names it has here."""
    found = meta.get(OFFICIAL)
    if not isinstance(found, Mapping):
        found = raw.get(f"x-{OFFICIAL.partition('/')[0]}")  # before September 2025
    if not isinstance(found, Mapping):
        return {}
    told: dict[str, Any] = {}
    for name in ("status", "status_message", "published_at", "updated_at", "is_latest"):
        for key in (to_camel(name), name, {"published_at": "release_date"}.get(name)):
            if key is not None and found.get(key) is not None:
                told[to_camel(name)] = found[key]
                break
    if not isinstance(told.get("isLatest"), bool | None):
        del told["isLatest"]
    return told
