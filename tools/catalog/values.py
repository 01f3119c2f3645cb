"""Values for what an entry asks: looked up by name, checked, and never taken for something else than a value."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...runners.template import is_template
from ..outcome import Outcome, RefusalError
from .entry import Input

Place = Literal["argument", "environment", "header", "address"]
"""Where a value goes in the end."""

LONGEST = 32_768
"""Characters of one value."""
_SURE = 0.8
"""How alike a variable's name has to be to one that is asked for to be taken for a slip."""
MOST = 100
"""Values of one repeated argument."""

_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_BREAKING = re.compile(r"[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A value that can be given for a server before it is installed.

    Attributes:
        name: What it is called in `settings` (or in `env`, where `place` is `environment`).
        place: Where it goes.
        description: What it is for.
        required: Whether nothing can be done without it.
        secret: Whether it is kept in the secrets file.
        format: `string`, `number`, `boolean` or `filepath`.
        default: What holds where it is not given.
        choices: The only values there are, unless empty.
        placeholder: An example.
        repeated: Whether it may be a list.
    """

    name: str
    place: Place
    description: str = ""
    required: bool = False
    secret: bool = False
    format: str = "string"
    default: str | None = None
    choices: tuple[str, ...] = ()
    placeholder: str = ""
    repeated: bool = False

    @property
    def missing(self) -> bool:
        """Whether it has to be given: it is required, and nothing holds without it."""
        return self.required and self.default is None

    def line(self) -> str:
        """Say it in one line: its name, and what to know about its value."""
        about = ["secret"] if self.secret else []
        about += [self.format] if self.format not in ("string", "") else []
        about += [f"one of {', '.join(self.choices[:20])}"] if self.choices else []
        about += [self.description] if self.description else []
        about += [f"such as {self.placeholder}"] if self.placeholder else []
        return f"{self.name} ({'; '.join(about)})" if about else self.name

    def as_dict(self) -> dict[str, Any]:
        """Give it for programs, without what says nothing."""
        told = {
            "name": self.name,
            "place": self.place,
            "description": self.description,
            "required": self.required,
            "secret": self.secret,
            "format": self.format if self.format != "string" else "",
            "default": self.default,
            "choices": list(self.choices),
            "placeholder": self.placeholder,
            "repeated": self.repeated,
        }
        return {key: value for key, value in told.items() if value or key in ("name", "place")}


def wanted(
    name: str, place: Place, asked: Input, *, required: bool = False, repeated: bool = False
) -> Wanted:
    """Make what is asked for out of an input of the entry."""
    required = asked.is_required or required
    default: str | None = usable(asked.default)
    if default is None and required and asked.default == "":
        default = ""  # where something has to be said, nothing can be what is said
    placeholder: str = asked.placeholder
    if required and asked.format == "filepath" and default is not None and is_absent(default):
        # It is on the machine of whoever wrote the entry, as /Users/username/Desktop is: an example of a path.
        placeholder = placeholder or default
        default = None
    return Wanted(
        name=name,
        place=place,
        description=asked.description,
        required=required,
        secret=asked.is_secret,
        format=asked.format,
        default=default,
        choices=asked.choices,
        placeholder=placeholder,
        repeated=repeated,
    )


def is_absent(path: str) -> bool:
    """Tell a full path, or one from the home folder, that is not on this machine."""
    if path.replace("\\", "/").startswith("//"):
        return True  # a share: to look at it would be to log in where an entry says
    try:
        found = Path(path).expanduser()
        return found.is_absolute() and not found.exists()
    except (RuntimeError, OSError, ValueError):
        return True


def usable(text: str | None) -> str | None:
    """Give a text of an entry where it can be used; `None` where it is empty or holds `${`.

    That would be filled in at each start from this machine's variables and secrets, for whoever wrote the entry.
    """
    return None if not text or "${" in text or text.endswith("$") else text


@dataclass(frozen=True, slots=True)
class Text:
    """A value, and whether it is to be kept as a secret: it is one, and no reference to one.

    Attributes:
        text: The value.
        secret: Whether nobody may see it.
        given: Whether somebody gave it, or the entry says it.
    """

    text: str
    secret: bool = False
    given: bool = False


class Given:
    """The values somebody gave, by the names an entry has for them.

    Args:
        asked: All that can be given.
        settings: Values by name, as they came.
        env: Environment variables; they hold before `settings`.
        cwd: Where relative paths begin; `None` where that is not known.
        more: Whether names the entry does not know are for somebody else, such as the manifest of a bundle.

    Raises:
        RefusalError: If a name is not known, or a value cannot be.
    """

    def __init__(
        self,
        asked: Mapping[str, Wanted],
        settings: Mapping[str, Any],
        env: Mapping[str, str],
        *,
        cwd: str | None = None,
        more: bool = False,
    ) -> None:
        self._asked = asked
        self._cwd = cwd
        self.others: dict[str, str] = {}
        """What was given under names the entry does not know."""
        self._values: dict[str, tuple[Text, ...]] = {}
        self.bare: set[str] = set()
        """Names whose value is a plain yes: an option without a value."""
        self.off: set[str] = set()
        """Names whose value is a plain no: an option that is left out."""
        for name, value in settings.items():
            key = self._key(name)
            if key is None and not more:
                raise _unknown(name, asked)
            if value is None:
                continue
            if key is None:
                self.others[name] = _more(name, value)
            else:
                self._take(asked[key], value)
        for name, value in env.items():
            if name in asked and asked[name].place == "environment":
                self._take(asked[name], value)
            else:
                self.others[name] = value

    def _key(self, name: str) -> str | None:
        if name in self._asked:
            return name
        alike = [key for key in self._asked if _plain(key) == _plain(name)]
        return alike[0] if len(alike) == 1 else None

    def _take(self, asked: Wanted, value: Any) -> None:
        if isinstance(value, list):
            if not asked.repeated:
                raise _wrong(asked, "takes one value, not a list")
            if len(value) > MOST:
                raise _wrong(asked, f"takes at most {MOST} values")
            values = value
        else:
            values = [value]
        found = tuple(self._checked(asked, one) for one in values)
        if value is True or value is False:
            (self.bare if value else self.off).add(asked.name)
        self._values[asked.name] = found

    def _checked(self, asked: Wanted, value: Any) -> Text:
        text = as_text(value)
        if text is None:
            raise _wrong(
                asked, "must be a text, a number, true or false" + (", or a list" if asked.repeated else "")
            )
        if len(text) > LONGEST:
            raise _wrong(asked, f"is longer than {LONGEST} characters")
        # A key in an environment variable may have several lines.
        if (_BREAKING if asked.place == "environment" else _CONTROL).search(text):
            raise _wrong(asked, "holds control characters")
        if is_template(text):
            return Text(text, given=True)
        if asked.choices and text not in asked.choices:
            raise _wrong(asked, f"must be one of {', '.join(asked.choices)}")
        if asked.format == "number" and not _NUMBER.fullmatch(text):
            raise _wrong(asked, "must be a number")
        if asked.format == "boolean":
            if text.lower() not in ("true", "false"):
                raise _wrong(asked, "must be true or false")
            text = text.lower()
        if asked.format == "filepath":
            text = self._placed(asked, text)
        return Text(text, secret=asked.secret and text != "", given=True)

    def _placed(self, asked: Wanted, text: str) -> str:
        """Make a path absolute: the server starts in a folder of its own, where it would mean something else."""
        if not text:
            return text
        try:
            path = Path(text).expanduser()
        except RuntimeError:
            raise _wrong(asked, "begins with the home folder of a user who does not exist") from None
        if path.is_absolute():
            return str(path)
        if self._cwd is None:
            raise _wrong(asked, "must be a full path, as nobody knows where a relative one begins")
        return os.path.normpath(Path(self._cwd) / path)

    def of(self, name: str) -> tuple[Text, ...] | None:
        """Give the values of a name: given, or by default; `None` where there are none."""
        found, asked = self._values.get(name), self._asked[name]
        texts = tuple(text for text in found or () if text.text)
        if texts or (found is not None and asked.default != ""):
            return texts or None
        if asked.default is None:
            return None
        default = asked.default
        if asked.format == "filepath" and (self._cwd is not None or default.startswith("~")):
            # Without a place where it could begin, a relative one is left to the server's own folder.
            default = self._placed(asked, default)
        return (Text(default, secret=False),)

    def lacks(self, name: str) -> bool:
        """Tell whether there is no value for a name, or only a path by default that is not on this machine."""
        found = self.of(name)
        if found is None:
            return True
        by_default = not self.has(name) and self._asked[name].format == "filepath"
        return by_default and any(is_absent(text.text) for text in found)

    def put(self, name: str, value: Text) -> None:
        """Set a value that nobody gave."""
        self._values[name] = (value,)

    def has(self, name: str) -> bool:
        """Tell whether somebody gave this one."""
        return name in self._values

    def misnamed(self, env: Mapping[str, str]) -> list[str]:
        """Say of what was given as a variable of the environment that a value of another name may be meant."""
        found = []
        for name in env:
            known = self._asked.get(name)
            if known is not None and known.place == "environment":
                continue
            meant = [key for key in alike(name, self._asked, _SURE) if not self.has(key)]
            if meant:
                ways = " or ".join(_way(self._asked[key]) for key in meant)
                found.append(
                    f"{name!r:.80} in env reaches the server as a variable that its entry does not ask for: did you "
                    f"mean {ways}?"
                )
        return found


def as_text(value: Any) -> str | None:
    """Give a scalar of JSON as the text it stands for; `None` for anything else."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    return value if isinstance(value, str) else None


def _more(name: str, value: Any) -> str:
    import json

    text = as_text(value)
    if text is None and isinstance(value, list) and all(as_text(one) is not None for one in value):
        text = json.dumps([as_text(one) for one in value])
    if text is None or _BREAKING.search(text):
        raise RefusalError(
            Outcome.INVALID_ARGUMENTS,
            f"The setting {name!r:.80} must be a text, a number, true, false or a list.",
        )
    return text


def alike(name: str, asked: Mapping[str, Wanted], cutoff: float = 0.6) -> list[str]:
    """Give the names that somebody may mean who says another one: `GITHUB_TOKEN` for `token`."""
    said = _plain(name[:256])
    known = {key: _plain(key) for key in asked}
    if same := [key for key in known if known[key] == said]:
        return same
    ends = [key for key, one in known.items() if one.endswith(f"_{said}") or said.endswith(f"_{one}")]
    close = difflib.get_close_matches(said, known.values(), n=3, cutoff=cutoff) if said else []
    return list(dict.fromkeys([*ends, *(key for one in close for key in known if known[key] == one)]))[:3]


def _way(asked: Wanted) -> str:
    """Say where a value is given."""
    if asked.place == "environment":
        return f"{asked.name}, in env or settings"
    return f'{asked.name} under settings, as "settings": {{"{asked.name}": ...}}'


def _plain(name: str) -> str:
    return name.lstrip("-").replace("-", "_").lower()


def _wrong(asked: Wanted, why: str) -> RefusalError:
    """Make the refusal of a value, which is not repeated: it may be a secret."""
    return RefusalError(Outcome.INVALID_ARGUMENTS, f"{asked.name} {why}. It is: {asked.line()}.")


def _unknown(name: str, asked: Mapping[str, Wanted]) -> RefusalError:
    close = alike(name, asked)
    known = f"There are: {', '.join(list(asked)[:40])}." if asked else "There are none."
    meant = f"Did you mean {' or '.join(close)}? " if close else ""
    return RefusalError(
        Outcome.INVALID_ARGUMENTS,
        f"This server has no setting {name!r:.80}. {meant}{known} Any other environment variable goes into env, any "
        "other argument into args.",
    )
