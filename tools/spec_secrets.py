"""Takes literal secrets out of what somebody asked to run, so that only references to them are stored.

The rule leans to the safe side. A harmless value that is taken out costs nothing, as it is put back at each
start; a secret that stays would be in the store, in lists and in error texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ..runners.secret_look import looks_secret
from ..runners.spec import ServerSpec
from ..runners.template import expand, is_template, split

_HARMLESS = re.compile(r"\W*(?:\w{1,3}|Bearer|Basic|Token|https?://|wss?://)?\W*", re.IGNORECASE)
"""Fixed pieces beside a template that are no secrets: separators, an authentication scheme, a few letters."""

_ASSIGNMENT = re.compile(r"(-{0,2}[A-Za-z_][\w.-]*)=(.*)", re.DOTALL)
_HEADER = re.compile(r"([A-Za-z][\w-]*):(\s*)(.+)", re.DOTALL)
_MEMBER = re.compile(r'"([^"\\]+)"\s*:\s*"[^"]')
_FLAG = re.compile(r"--[A-Za-z][\w.-]*(=.*)?|-[A-Za-z]", re.DOTALL)
_USER_INFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}://)([^/?#\s]*)@")
_PARAMETER = re.compile(r"([?&;])([^=&;#?\s]+)=([^&;#\s]+)")
_UNSAFE = re.compile(r"[{}%@\s]")


def extract(name: str, spec: ServerSpec) -> tuple[ServerSpec, dict[str, str]]:
    """Replace the literal secrets of a spec by references.

    Taken out are: every value of `env` and `headers`; in `args` what follows or is assigned to a name that
    looks secret, values of such headers, JSON with such members; in `args` and `url` a URL's user
    information and parameters that look secret. Templates and empty values stay; of a value of `env` and
    `headers` that mixes both, the fixed pieces are taken out. Where a reference would not
    be replaced at start because of what stands before it, the whole text (of a URL, all behind its scheme) is
    taken out.

    Args:
        name: The server's name, with which every key begins.
        spec: The spec as given.

    Returns:
        The spec with references `${secret:KEY}`, and the values of those keys. Keys are `NAME/env/VARIABLE`,
        `NAME/header/HEADER`, `NAME/arg/INDEX`, and below `NAME/url` and `NAME/arg/INDEX` for parts of a URL
        `userinfo` or the parameter's name.
    """
    found = _Found(name)
    env = {key: found.checked(f"env/{key}", value, found.mixed) for key, value in spec.env.items()}
    headers = {key: found.checked(f"header/{key}", value, found.mixed) for key, value in spec.headers.items()}
    args: list[str] = []
    expected = False
    for index, text in enumerate(spec.args):
        if expected and not _FLAG.fullmatch(text):
            args.append(found.whole(f"arg/{index}", text))
            expected = False
        else:
            args.append(found.checked(f"arg/{index}", text, found.argument))
            expected = text.startswith("-") and "=" not in text and looks_secret(text)
    url = None if spec.url is None else found.checked("url", spec.url, found.url)
    kept = spec.model_copy(update={"env": env, "headers": headers, "args": tuple(args), "url": url})
    return kept, found.values


class _Found:
    """What was taken out so far."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.values: dict[str, str] = {}

    def checked(self, part: str, text: str, take: Callable[[str, str], str]) -> str:
        """Take out with `take` where that can be put back: not behind a `${` that is never closed."""
        before = dict(self.values)
        kept = take(part, text)
        if self._expanded(kept) == self._expanded(text):
            return kept
        self.values = before
        if part != "url":
            return self.whole(part, text)
        scheme, separator, rest = text.partition("://")  # without its scheme it is no URL to a spec
        return f"{scheme}{separator}{self.whole(part, rest)}"

    def _expanded(self, text: str) -> str:
        """Put back what was taken out; the user's own templates become the same mark in any text."""
        mark = "<{}>".format
        return expand(text, "", mark, lambda key: self.values.get(key, mark(key)), {}, mark)

    def whole(self, part: str, text: str) -> str:
        if not text or is_template(text):
            return text
        key = f"{self.name}/{_UNSAFE.sub(_escaped, part)}"
        for turn in range(2, len(self.values) + 3):
            if key not in self.values:
                break
            key = f"{self.name}/{_UNSAFE.sub(_escaped, part)}/{turn}"
        self.values[key] = text
        return f"${{secret:{key}}}"

    def mixed(self, part: str, text: str) -> str:
        """Take out a whole value, or of one with templates the fixed pieces that could be secrets."""
        if not is_template(text):
            return self.whole(part, text)
        return "".join(
            piece if template or _HARMLESS.fullmatch(piece) else self.whole(part, piece)
            for piece, template in split(text)
        )

    def argument(self, part: str, text: str) -> str:
        if assignment := _ASSIGNMENT.fullmatch(text):
            left, right = assignment.groups()
            return f"{left}={(self.whole if looks_secret(left) else self.argument)(part, right)}"
        if (header := _HEADER.fullmatch(text)) and looks_secret(header[1]):
            return f"{header[1]}:{header[2]}{self.whole(part, header[3])}"
        if any(looks_secret(member) for member in _MEMBER.findall(text)):
            return self.whole(part, text)
        return self.url(part, text)

    def url(self, part: str, text: str) -> str:
        text = _USER_INFO.sub(lambda m: f"{m[1]}{self.whole(f'{part}/userinfo', m[2])}@", text)
        if "://" not in text:
            return text
        return _PARAMETER.sub(
            lambda m: f"{m[1]}{m[2]}={self.whole(f'{part}/{m[2]}', m[3])}" if looks_secret(m[2]) else m[0],
            text,
        )


def _escaped(character: re.Match[str]) -> str:
    """Write as in a URL what would end a `${secret:...}` too early or look like a user's information."""
    return f"%{ord(character[0]):02X}"
