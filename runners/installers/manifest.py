"""The manifest of an MCPB bundle, and the values of its variables.

The format: https://github.com/modelcontextprotocol/mcpb/blob/main/MANIFEST.md (0.1 to 0.4).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import from_json

from ..errors import InstallError, SettingsMissingError
from ..secret_look import how_to_set, looks_secret

Value = str | list[str]

_VARIABLE = re.compile(r"\$\{([^}]*)\}")


class CommandConfig(BaseModel):
    """How the server is started; in `platform_overrides`, what differs on one platform."""

    command: str | None = None
    args: list[str] | None = None
    env: dict[str, str] | None = None
    platform_overrides: dict[str, CommandConfig] = Field(default_factory=dict)

    def here(self) -> CommandConfig:
        """Give the configuration with the overrides of this platform applied."""
        override = self.platform_overrides.get(sys.platform)
        if override is None:
            return self
        return CommandConfig(
            command=override.command or self.command,
            args=self.args if override.args is None else override.args,
            env={**(self.env or {}), **(override.env or {})},
        )


class ServerPart(BaseModel):
    """What sort of server the bundle holds."""

    type: Literal["python", "node", "binary", "uv"]
    entry_point: str = ""
    mcp_config: CommandConfig = Field(default_factory=CommandConfig)


class Option(BaseModel):
    """One setting the user gives."""

    type: str = "string"
    title: str = ""
    description: str = ""
    required: bool = False
    sensitive: bool = False
    default: Any = None
    multiple: bool = False


class Compatibility(BaseModel):
    """What the bundle runs on."""

    platforms: list[str] | None = None
    runtimes: dict[str, str] = Field(default_factory=dict)


class Manifest(BaseModel):
    """The parts of `manifest.json` that matter for starting the server; the rest is ignored."""

    name: str
    version: str
    server: ServerPart
    user_config: dict[str, Option] = Field(default_factory=dict)
    compatibility: Compatibility = Field(default_factory=Compatibility)


def read_manifest(root: Path) -> Manifest:
    """Read the manifest of an unpacked bundle.

    Raises:
        InstallError: If it is missing or malformed, or the bundle is not for this platform.
    """
    path = root / "manifest.json"
    if not path.is_file():
        raise InstallError("The bundle has no manifest.json at its top, so it is no MCPB bundle.")
    try:
        manifest = Manifest.model_validate(from_json(path.read_bytes()))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise InstallError(f"The bundle's manifest.json is wrong at {where}: {first['msg']}.") from None
    except ValueError as error:
        raise InstallError(f"The bundle's manifest.json is no JSON: {error}.") from None
    platforms = manifest.compatibility.platforms
    if platforms and sys.platform not in platforms:
        raise InstallError(f"{manifest.name} runs on {', '.join(platforms)}, and this is {sys.platform}.")
    return manifest


class Variables:
    """The values a bundle's configuration may use.

    Only these: what the bundle itself wrote is never left as a `${NAME}` in the spec, because it would be
    filled from ToolScore's environment and secrets at start. References in the user's own values are. So that
    a bundle cannot build one out of parts either, everything is filled in a second time with stand-ins for the
    user's values, and must be without a `${` then.

    Args:
        manifest: The bundle's manifest.
        root: Where it was unpacked.
        given: The candidate's environment, where the user's settings are.

    Raises:
        InstallError: If a required setting is missing.
    """

    def __init__(self, manifest: Manifest, root: Path, given: Mapping[str, str]) -> None:
        home = Path.home()
        self._values: dict[str, Value] = {
            "__dirname": str(root),
            "pathSeparator": os.sep,
            "/": os.sep,
            "HOME": str(home),
            **{name.upper(): str(home / name) for name in ("Desktop", "Documents", "Downloads")},
        }
        self._stand_ins = dict(self._values)
        self._name = manifest.name
        self.consumed: set[str] = set()
        self._unset: set[str] = set()
        missing: dict[str, Option] = {}
        for key, option in manifest.user_config.items():
            value, stand_in = self._value(key, option, given)
            if value in (None, "", []):
                self._unset.add(f"user_config.{key}")
                if option.required:
                    missing[key] = option
            else:
                self._values[f"user_config.{key}"] = value
                self._stand_ins[f"user_config.{key}"] = stand_in
        if missing:
            raise _lacking(manifest.name, missing)

    def _value(self, key: str, option: Option, given: Mapping[str, str]) -> tuple[Any, Any]:
        """Give the value of one setting and what stands in for it."""
        for name in (key, re.sub(r"\W", "_", key).upper()):
            if name in given:
                self.consumed.add(name)
                if option.multiple:
                    many = _many(given[name])
                    return many, [_stand_in(item) for item in many]
                return given[name], _stand_in(given[name])
        default = option.default
        if default is None:
            return None, None
        if isinstance(default, list):
            pairs = [self._both(_plain(item)) for item in default]
            return [value for value, _ in pairs], [stand_in for _, stand_in in pairs]
        return self._both(_plain(default))

    def text(self, template: str) -> str:
        """Fill in one string. Several values are joined with commas, one without a value is empty.

        Raises:
            InstallError: If it uses what there is not, or makes a `${` that the user did not write.
        """
        text, stand_in = self._both(template)
        self._check(stand_in)
        return text

    def _both(self, template: str) -> tuple[str, str]:
        return self._fill(template, self._values), self._fill(template, self._stand_ins)

    def _check(self, stand_in: str) -> None:
        if "${" in stand_in:
            raise InstallError(
                f"The manifest of {self._name} builds a '${{' out of parts, which no bundle may."
            )

    def _fill(self, template: str, values: Mapping[str, Value]) -> str:
        def fill(match: re.Match[str]) -> str:
            name = match[1]
            if name in self._unset:
                return ""
            if name not in values:
                raise InstallError(
                    f"The manifest of {self._name} uses {match[0]}, which is neither a variable of "
                    "bundles nor one of its user_config."
                )
            value = values[name]
            return value if isinstance(value, str) else ",".join(value)

        return _VARIABLE.sub(fill, template)

    def words(self, template: str) -> list[str]:
        """Fill in one argument. Alone in it, several values are as many arguments, and none is none."""
        alone = _VARIABLE.fullmatch(template)
        if alone and alone[1] in self._unset:
            return []
        value = self._values.get(alone[1]) if alone else None
        if not isinstance(value, list):
            return [self.text(template)]
        for stand_in in self._stand_ins[alone[1]] if alone else ():
            self._check(stand_in)
        return list(value)

    def environment(self, templates: Mapping[str, str]) -> dict[str, str]:
        """Fill in an environment. A variable that is nothing but an unset setting is left out."""
        alone = {name: _VARIABLE.fullmatch(template) for name, template in templates.items()}
        unset = {name for name, match in alone.items() if match and match[1] in self._unset}
        return {name: self.text(template) for name, template in templates.items() if name not in unset}


def _lacking(bundle: str, missing: Mapping[str, Option]) -> SettingsMissingError:
    """Say which settings a bundle needs, and how they are given."""
    abouts = {key: one.title or one.description for key, one in missing.items()}
    named = [f"{key} ({about})" if about else key for key, about in abouts.items()]
    secret = [key for key, one in missing.items() if one.sensitive or looks_secret(key)]
    first = next(iter(missing))
    return SettingsMissingError(
        f"{bundle} needs settings that were not given: {', '.join(named)}. Give each as an environment variable of "
        f"that name, as in {first}=VALUE; the value may be a reference to a secret.{how_to_set(secret)}",
        [
            {
                "name": key,
                "place": "argument",
                "description": abouts[key],
                "required": True,
                "secret": key in secret,
                "format": {"file": "filepath", "directory": "filepath"}.get(one.type, one.type),
            }
            for key, one in missing.items()
        ],
    )


def _stand_in(value: str) -> str:
    """Stand in for a value of the user's: a `$` before it or a brace after its own `$` shows as a `${`."""
    return "{$" if value.endswith("$") else "{"


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _many(value: str) -> list[str]:
    """Take several values from one variable: a JSON list, or a single value."""
    if value.lstrip().startswith("["):
        try:
            parsed = from_json(value)
        except ValueError:
            parsed = None
        if isinstance(parsed, list):
            return [_plain(item) for item in parsed]
    return [value]
