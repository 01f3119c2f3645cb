"""Settings: defaults, then the file, then the environment, then the command line; validated together.

Each error names the setting, where its value comes from and what to do; all of them are reported at once.
Everything imports this module, so it needs the standard library and pydantic only.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ..runners.environment import NEVER
from . import settings_home
from .settings_file import SERVERS, FileProblem
from .settings_file import read as read_file
from .settings_model import Option, Settings, options
from .settings_template import template

if TYPE_CHECKING:
    from ..tools.declared import Declarations, Declared

__all__ = ["Loaded", "Option", "Settings", "SettingsError", "load", "options", "template"]

_PREFIX = "TOOLSCORE_"
_RESERVED = (settings_home.VARIABLE, "TOOLSCORE_CONFIG", *NEVER)
_RESERVED_PREFIXES = ("TOOLSCORE_TEST_", "TOOLSCORE_CHILD_")
_COMMAND_LINE = "command line --set"
_WITH_PATHS = ("catalog.sources",)
_SEE = "`toolscore config template` lists them all"


class SettingsError(Exception):
    """The settings cannot be used.

    Args:
        problems: One sentence or two for each, naming the setting, its source and the fix.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where they come from.

    Attributes:
        settings: The values.
        origins: For each dotted key, `home` included: `default`, `file PATH, [group] name`, `environment
            variable NAME` or `command line --set`.
        config_file: The settings file, whether it exists or not.
        config_exists: Whether it was there and read.
        declared: The servers it declares, by name.
        remarks: What somebody should know about it.
        again: Loads the same anew, as the file is by then.
    """

    settings: Settings
    origins: dict[str, str]
    config_file: Path
    config_exists: bool
    declared: Mapping[str, Declared] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    again: Callable[[], Loaded] | None = None


def load(
    argv_overrides: Mapping[str, str] | None = None,
    *,
    home: str | None = None,
    config: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """Load and validate the settings.

    Of the values for one setting only the strongest is looked at, so that a bad one can be overridden.

    Args:
        argv_overrides: `--set KEY=VALUE` of the command line, by dotted key.
        home: `--home` of the command line.
        config: `--config` of the command line.
        environ: The environment; this process's own when `None`.

    Returns:
        The settings and their origins.

    Raises:
        SettingsError: If anything is wrong; its text has one line for each problem.
    """
    environ = os.environ if environ is None else environ
    # Empty counts as unset: that is what `FOO= toolscore` and a client's empty form field mean.
    present = {name: value for name, value in environ.items() if value.strip()}
    draft = _Draft()
    home_path, draft.origins["home"] = settings_home.resolve(home, present, draft.problems)
    config_file, config_exists = draft.apply_file(home_path, config, present)
    draft.apply_environment(present)
    draft.apply_command_line(argv_overrides or {})
    declarations = draft.declarations
    return Loaded(
        draft.finished(home_path),
        draft.origins,
        config_file,
        config_exists,
        declarations.servers if declarations else {},
        tuple(declarations.remarks) if declarations else (),
        # An empty environment variable and a missing one are the same, so what was present is enough.
        partial(load, dict(argv_overrides or {}), home=home, config=config, environ=present),
    )


class _Draft:
    """Values, their origins and what is wrong with them, while the sources are laid over one another."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins = dict.fromkeys(options(), "default")
        self.problems: list[str] = []
        self.declarations: Declarations | None = None
        self.folder: Path | None = None

    def put(self, key: str, value: Any, origin: str) -> None:
        self.values[key], self.origins[key] = value, origin

    def apply_file(self, home: Path, given: str | None, environ: Mapping[str, str]) -> tuple[Path, bool]:
        """Lay the file over what is there; give its path and whether it was read."""
        path, named_by = home / "config.toml", ""
        for text, source in (
            (given, "command line --config"),
            (environ.get("TOOLSCORE_CONFIG"), "environment variable TOOLSCORE_CONFIG"),
        ):
            if text is not None:
                path, named_by = Path(text.strip()), source
                break
        try:
            path = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - tidies `..`, keeps links
            found = read_file(path)
        except (FileNotFoundError, NotADirectoryError):
            if named_by:
                self.problems.append(
                    f"file {path} does not exist ({named_by}). Create it from `toolscore config template`, "
                    "or leave the option out."
                )
            return path, False
        except FileProblem as error:
            self.problems.append(f"file {path} {error}.")
            return path, False
        except (RuntimeError, ValueError) as error:
            shown = _short(str(path))
            self.problems.append(
                f"file {shown} cannot be named ({named_by}): {error}. Write the path in full."
            )
            return path, False
        self.folder = path.parent
        if SERVERS in found:
            from ..tools.declared import read as read_servers  # what most files do without

            self.declarations = read_servers(found.pop(SERVERS), path)
            self.problems += self.declarations.problems
        groups = {option.group for option in options().values()}
        for key, value in found.items():
            origin = _file_origin(path, key)
            if key in options():
                self.put(key, value, origin)
            elif key == "home":
                self.problems.append(
                    f"home cannot be set in a file ({origin}). Use --home or TOOLSCORE_HOME."
                )
            elif key in groups:
                shown = f"{key} = {_short(value)} ({origin})"
                self.problems.append(f"{shown} must be a table. Write [{key}] and its settings below.")
            else:
                self.problems.append(f"{key} is not a setting ({origin}). {_nearest(key)}")
        return path, True

    def apply_environment(self, environ: Mapping[str, str]) -> None:
        """Lay the environment over what is there."""
        known: set[str] = set(_RESERVED)
        for option in options().values():
            known.update(option.environment)
            # Weakest first, so that the strongest is what remains.
            for name in reversed(option.environment):
                if name in environ:
                    self.put(option.key, option.read(environ[name]), f"environment variable {name}")
        for name in sorted(environ):
            if name.startswith(_PREFIX) and name not in known and not name.startswith(_RESERVED_PREFIXES):
                close = difflib.get_close_matches(name, sorted(known), n=1)
                meant = f"Did you mean {close[0]}?" if close else f"{_SEE}."
                self.problems.append(
                    f"{name} (environment variable {name}) is not a setting. {meant} Otherwise unset it."
                )

    def apply_command_line(self, overrides: Mapping[str, str]) -> None:
        """Lay the command line over what is there."""
        for key, text in overrides.items():
            if key in options():
                self.put(key, options()[key].read(text), _COMMAND_LINE)
            elif key == "home":
                self.problems.append(f"home cannot be set this way ({_COMMAND_LINE}). Use --home.")
            else:
                self.problems.append(f"{key} is not a setting ({_COMMAND_LINE}). {_nearest(key)}")

    def finished(self, home: Path) -> Settings:
        """Validate the whole.

        Raises:
            SettingsError: If anything was or is wrong.
        """
        nested: dict[str, Any] = {"home": home}
        for key, value in self.values.items():
            option = options()[key]
            placed = self._placed(value, self.origins[key], home) if key in _WITH_PATHS else value
            # A strict model takes no list for a tuple.
            held = tuple(placed) if isinstance(placed, list) else placed
            nested.setdefault(option.group, {})[option.name] = held
        try:
            settings = Settings.model_validate(nested)
        except ValidationError as error:
            told = dict.fromkeys(self._explained(fault) for fault in error.errors(include_url=False))
            raise SettingsError([*self.problems, *told]) from None
        if self.problems:
            raise SettingsError(self.problems)
        return settings

    def _placed(self, value: Any, origin: str, home: Path) -> Any:
        """Have relative paths begin where the file is, or in the home: the folder of a process is anybody's guess."""
        from ..tools.catalog.source import placed

        folder = self.folder if self.folder is not None and origin.startswith("file ") else home
        if not isinstance(value, list):
            return value
        return [placed(one, folder) if isinstance(one, str) else one for one in value]

    def _explained(self, fault: Any) -> str:
        option = options()[".".join(map(str, fault["loc"][:2]))]
        value, origin = self.values.get(option.key, option.default), self.origins[option.key]
        shown = f"{option.key} = {_short(option.shown(value))} ({origin})"
        if fault["type"] == "database":
            return f"{shown} cannot be used: it {fault['msg']}."
        if fault["type"] == "port_order":
            other = fault["ctx"]["other"]
            return f"{shown} {fault['msg']} ({self.origins[other]}). Change one of the two."
        if fault["type"] == "catalog":  # whose values may hold a token by mistake
            return f"{option.key} ({origin}) cannot be used: {fault['msg']}"
        return f"{shown} must be {option.expects}. {_fix(option, origin)}"


def _file_origin(path: Path, key: str) -> str:
    group, _, name = key.rpartition(".")
    return f"file {path}, [{group}] {name}" if group else f"file {path}, {name}"


_EXAMPLES = {
    "network.listen": "ws://127.0.0.1:8765/mcp",
    "network.allowed_origins": "https://app.example",
    "process.roots": "/srv/project",
    "catalog.headers": "https://registry.example Authorization: Bearer ${REGISTRY_TOKEN}",
}
"""What a value looks like where it is no plain name."""


def _fix(option: Option, origin: str) -> str:
    fallback = _EXAMPLES.get(option.key) or ("NAME,OTHER" if option.kind == "list" else "VALUE")
    example = option.written(option.default) or fallback
    if origin.startswith("environment variable "):
        name = origin.removeprefix("environment variable ")
        return f"Set {name}={example} or the like, or unset it."
    if origin == _COMMAND_LINE:
        return f"Pass --set {option.key}={example} or the like, or leave it out."
    shown = '["NAME"]' if option.kind == "list" else f'"{example}"' if option.kind == "text" else example
    return f"Write {option.name} = {shown} or the like there, or remove the line."


def _nearest(key: str) -> str:
    if key.partition(".")[0].lower().replace("_", "") in ("mcpservers", "servers", "mcp"):
        return f"Did you mean {SERVERS}?"
    keys = list(options())
    # A name without its group is the likeliest slip: `timeout`, or `[server] timeout`.
    close = [known for known in keys if known.rpartition(".")[2] == key.rpartition(".")[2]]
    close += [near for near in difflib.get_close_matches(key, keys, n=3) if near not in close]
    if not close:
        leaves = {known.rpartition(".")[2]: known for known in keys}
        close = [leaves[leaf] for leaf in difflib.get_close_matches(key.rpartition(".")[2], leaves, n=1)]
    return f"Did you mean {' or '.join(close[:2])}?" if close else f"Remove it; {_SEE}."


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
