"""Tokens: what a client shows to come in over the network. One is generated for the home, others have names.

The generated one is kept as it is, in `token`, so that it can be shown again. Of named ones only hashes are
kept, in `tokens.json`; 256 random bits need no salt. Both files are their owner's alone, and are read again
when they have changed: what a command line creates or revokes counts at the next connection.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..tools.caller import CALL, MANAGE, REGISTER
from .home import Home
from .private_file import PrivateFile, PrivateFileError, alone

RIGHTS = (CALL, MANAGE, REGISTER)
"""Every right there is, in the order they are shown."""

GENERATED = "token"
"""The principal of whoever shows the generated token."""

ANYONE = "anyone"
"""The principal of whoever comes in where no token is needed."""

_RESERVED = frozenset({GENERATED, ANYONE, "owner"})
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class TokenError(ValueError):
    """A token cannot be made: its name or its rights are not possible, or the name is taken."""


class UnknownTokenError(TokenError):
    """There is no token of that name."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who has come in.

    Attributes:
        principal: Who it is, as far as that was proven: a token's name, `token` for the generated one, or
            `anyone`.
        rights: What it may do.
        digest: That of the token it came in by; empty where none is needed.
    """

    principal: str
    rights: frozenset[str]
    digest: bytes = field(default=b"", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class NamedToken:
    """A named token, as far as it is known after it was shown once.

    Attributes:
        name: Its name.
        rights: What it allows.
        created: When it was made, in ISO 8601.
        digest: SHA-256 of it.
    """

    name: str
    rights: frozenset[str]
    created: str
    digest: bytes


class Tokens:
    """The tokens of one home.

    Args:
        home: The home, whose folder is there before a token is made.
        rights: What the generated token allows.
        given: Gives the token that was given in place of the generated one, if one was.
        where: The database that several gateways share, where the named ones lie in it: only hashes as well.
    """

    def __init__(
        self,
        home: Home,
        rights: frozenset[str],
        given: Callable[[], str] | None = None,
        where: str = "",
    ) -> None:
        self._where = where
        self._common: dict[str, NamedToken] | None = None
        self._folder = home.path
        self._given = given
        self._generated = PrivateFile(home.path / "token", read_token)
        self._named = PrivateFile(home.path / "tokens.json", _read_named)
        self._lock = home.path / "tokens.lock"
        self._identity = Identity(GENERATED, rights)

    def __repr__(self) -> str:
        return f"Tokens({str(self._folder)!r})"

    @property
    def file(self) -> Path:
        """Where the generated token lies."""
        return self._generated.path

    def default(self) -> str:
        """Give the token that was given, or else the generated one; that is made if there is none.

        Raises:
            PrivateFileError: If its file cannot be read or written, or others can read it or own it.
        """
        token = self._shown()
        if token is None:
            with alone(self._lock):
                token = self._generated.read()
                if token is None:
                    token = secrets.token_urlsafe(32)
                    self._generated.write(token.encode() + b"\n")
        return token

    def check(self, presented: str) -> Identity | None:
        """Tell whose token this is, in a time that does not depend on how much of it is right.

        Args:
            presented: What a client showed.

        Returns:
            Who it is, or `None` if it is no token of this home.

        Raises:
            PrivateFileError: As in `default`; nobody is let in on a guess.
        """
        return self.of_digest(_digest(presented))

    def of_digest(self, digest: bytes) -> Identity | None:
        """Tell whose token has this digest, as in `check`.

        Raises:
            PrivateFileError: As in `default`.
        """
        generated = self._shown()
        known = [(entry.digest, Identity(entry.name, entry.rights, entry.digest)) for entry in self.named()]
        if generated is not None:
            expected = _digest(generated)
            known.append((expected, replace(self._identity, digest=expected)))
        found = None
        for expected, identity in known:  # all of them, whichever fits
            if hmac.compare_digest(digest, expected):
                found = identity
        return found

    def good(self) -> set[tuple[bytes, frozenset[str]]]:
        """Give the digests of all tokens that count now, each with what it allows.

        Raises:
            PrivateFileError: As in `default`.
        """
        found = {(entry.digest, entry.rights) for entry in self.named()}
        generated = self._shown()
        return found if generated is None else {*found, (_digest(generated), self._identity.rights)}

    def _shown(self) -> str | None:
        return self._generated.read() if self._given is None else self._given()

    def named(self) -> list[NamedToken]:
        """Give the named tokens, by name.

        Raises:
            PrivateFileError: As in `default`.
        """
        return list(self._all().values())

    def _all(self) -> dict[str, NamedToken]:
        if not self._where:
            return self._named.read() or {}
        if self._common is None:
            raise PrivateFileError(
                "The tokens that all gateways share are not read yet. Try again in a moment."
            )
        return self._common

    # --- those that several gateways share

    @property
    def shared(self) -> bool:
        """Whether the named tokens are those of all gateways that share a database."""
        return bool(self._where)

    def first(self) -> str:
        """Give what those of all gateways begin with, where there are none yet: the ones of this home.

        Raises:
            PrivateFileError: As in `default`.
        """
        return _written(self._named.read() or {}).decode()

    def take(self, body: str) -> None:
        """Take those that all gateways share, as they are now.

        Raises:
            PrivateFileError: If this is not what another gateway writes.
        """
        self._common = _read_named(Path("tokens of all gateways"), body.encode())

    def _changed(self, become: Callable[[dict[str, NamedToken]], None]) -> None:
        """Change the named tokens, while nobody else does."""
        if not self._where:
            with alone(self._lock):
                known = dict(self._named.read() or {})
                become(known)
                self._named.write(_written(known))
            return
        from ..tools.gateways.tokens import change

        def changed(body: str) -> str:
            self.take(body)
            known = dict(self._all())
            become(known)
            return _written(known).decode()

        self.take(change(self._where, self.first(), changed))

    def fetch(self) -> None:
        """Read those that all gateways share, where that is so; for a command.

        Raises:
            StoreError: If they cannot be read.
        """
        if self._where:
            from ..tools.gateways.tokens import change

            self.take(change(self._where, self.first(), lambda body: body))

    def names(self) -> list[str]:
        """Give the names of the named tokens, sorted.

        Raises:
            PrivateFileError: As in `default`.
        """
        return [entry.name for entry in self.named()]

    def create(self, name: str, rights: Iterable[str]) -> str:
        """Make a named token.

        Args:
            name: Its name: letters, digits, `_`, `.` and `-`, 64 at the most.
            rights: What it allows, some of `RIGHTS`.

        Returns:
            The token, which cannot be had again.

        Raises:
            TokenError: If the name or a right is not possible, or the name is taken.
            PrivateFileError: As in `default`; nothing was changed.
        """
        allowed = frozenset(rights)
        check_name(name)
        if not allowed or not allowed <= set(RIGHTS):
            raise TokenError(f"A token allows one or more of {', '.join(RIGHTS)}. Name some of these.")
        token = secrets.token_urlsafe(32)
        created = datetime.now(UTC).isoformat(timespec="seconds")

        def become(known: dict[str, NamedToken]) -> None:
            if name in known:
                raise TokenError(
                    f"There is already a token named {name}. Choose another name, or revoke it first with "
                    f"`toolscore token revoke {name}`."
                )
            known[name] = NamedToken(name, allowed, created, _digest(token))

        self._changed(become)
        return token

    def revoke(self, name: str) -> None:
        """Forget a named token: nobody comes in with it any more.

        Raises:
            UnknownTokenError: If there is none of that name.
            PrivateFileError: As in `create`.
        """
        if name == GENERATED and self._given is not None:
            raise UnknownTokenError(
                "This token was given, in TOOLSCORE_TOKEN or TOOLSCORE_TOKEN_FILE. Give another one there."
            )
        if name == GENERATED:
            raise UnknownTokenError(
                f"The generated token has no name. Delete {self.file}; `toolscore token show` makes a new one."
            )
        unknown = UnknownTokenError(
            f"There is no token named {name}. `toolscore token list` shows the names there are."
        )
        self.fetch()
        if name not in self.names():  # before the lock, which needs a folder
            raise unknown

        def become(known: dict[str, NamedToken]) -> None:
            if known.pop(name, None) is None:
                raise unknown

        self._changed(become)


def check_name(name: str) -> None:
    """Make sure that a token may have this name.

    Raises:
        TokenError: If it may not.
    """
    if not _NAME.fullmatch(name):
        raise TokenError(
            f"{name!r:.80} cannot be a token's name. Use 1 to 64 letters, digits, and the characters _ . -"
        )
    if name.lower() in _RESERVED:
        raise TokenError(f"The name {name} is ToolScore's own. Choose another one.")


def read_token(path: Path, content: bytes) -> str:
    """Read a file that holds a token and nothing else.

    Raises:
        PrivateFileError: If it holds none.
    """
    text = content.decode("ascii", errors="replace").strip()
    # Somebody may write one by hand, but none that can be guessed or that a header cannot carry.
    if re.fullmatch(r"[!-~]{20,}", text) is None:
        raise PrivateFileError(
            f"The file {path} does not hold a token, which has 20 or more printable ASCII characters without "
            "blanks. Write one, or delete it; `toolscore token show` makes a new one."
        )
    return text


def _read_named(path: Path, content: bytes) -> dict[str, NamedToken]:
    try:
        return {name: _entry(name, found) for name, found in sorted(json.loads(content).items())}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        # Without a cause: it would quote the text.
        raise PrivateFileError(
            f"The file {path} is not what `toolscore token create` writes. Correct it, or delete it and make "
            "the tokens anew."
        ) from None


def _entry(name: str, found: Any) -> NamedToken:
    check_name(name)
    digest = bytes.fromhex(found["sha256"])
    if len(digest) != hashlib.sha256().digest_size or not isinstance(found["rights"], list):
        raise ValueError
    return NamedToken(name, frozenset(RIGHTS) & frozenset(found["rights"]), str(found["created"]), digest)


def _written(known: dict[str, NamedToken]) -> bytes:
    plain = {
        name: {
            "sha256": entry.digest.hex(),
            "rights": [right for right in RIGHTS if right in entry.rights],
            "created": entry.created,
        }
        for name, entry in sorted(known.items())
    }
    return json.dumps(plain, indent=2).encode() + b"\n"


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
