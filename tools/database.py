"""Which database the store lies in: a file of the home, or a PostgreSQL that several homes share.

With the standard library alone, as it is asked before anything heavy is loaded. What goes wrong with PostgreSQL is
put into words here; for SQLite `preflight` does it.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from .errors import StoreError

Where = Path | str
"""A path: the SQLite file of one home. A text: the URL of a database that several homes share."""

SCHEME = "postgresql+psycopg"

_SCHEMES = (SCHEME, "postgresql", "postgres")
_SECRET = ("password", "sslpassword", "passfile")
_IN_TEXT = re.compile(r"(postgres(?:ql)?(?:\+psycopg)?://[^:@/\s]*):[^@\s]*@")

EXAMPLE = f"{SCHEME}://toolscore:${{secret:DATABASE_PASSWORD}}@db.example:5432/toolscore"
"""What a URL looks like; the password stays in the secrets."""


class DatabaseUrlError(ValueError):
    """A URL does not name a database the store can lie in. Never holds a password."""


def checked(url: str) -> str:
    """Give a URL as the store's libraries take it.

    Raises:
        DatabaseUrlError: If it names no PostgreSQL database.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise DatabaseUrlError(
            f"is no URL. Write it like {EXAMPLE}; what of the password is no letter or digit as %XX"
        ) from error
    if parts.scheme not in _SCHEMES:
        raise DatabaseUrlError(f"must begin with {SCHEME}:// (there is no other kind of shared database)")
    if not parts.path.strip("/"):
        raise DatabaseUrlError(
            f"must name a database, as the last part of {SCHEME}://USER@HOST:PORT/DATABASE"
        )
    if port == 0:
        raise DatabaseUrlError("must not have the port 0")
    query = f"?{parts.query}" if parts.query else ""
    return f"{SCHEME}://{parts.netloc}{parts.path}{query}"


def masked(text: str) -> str:
    """Give a URL, or a text that holds one, without its password."""
    try:
        parts = urlsplit(text)
        if parts.scheme in _SCHEMES:
            netloc = parts.netloc
            if "@" in netloc:
                user, _, host = netloc.rpartition("@")
                name, colon, _password = user.partition(":")
                netloc = f"{name}{':***' if colon else ''}@{host}"
            query = [(key, "***" if key in _SECRET else value) for key, value in parse_qsl(parts.query)]
            return urlunsplit((parts.scheme, netloc, parts.path, urlencode(query, safe="*/"), ""))
    except ValueError:
        pass
    return _IN_TEXT.sub(r"\1:***@", text)


def password_of(url: str) -> str | None:
    """Give the password in a URL as it is sent, to take it out of texts; `None` where there is none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    from urllib.parse import unquote

    return unquote(parts.password) if parts.password else dict(parse_qsl(parts.query)).get("password")


def escaped(value: str) -> str:
    """Give a value as it stands in a part of a URL."""
    return quote(value, safe="")


def named(where: Where) -> str:
    """Name the store in a sentence, without a password."""
    return f"The store {where}" if isinstance(where, Path) else f"The database {masked(where)}"


_CODES = {
    "53100": "cannot be written: its disk is full. Free some space there and try again; nothing was changed.",
    "53200": "has no memory left. Try again later; nothing was changed.",
    "53300": (
        "takes no more connections. Raise max_connections there (each gateway holds up to twelve), or end other "
        "programs that hold some; nothing was changed."
    ),
    "3D000": "does not exist on that server. Make it (`createdb NAME`), or correct the name in database.url.",
    "25006": (
        "cannot be written: the server is read-only, a standby perhaps. Name the primary in database.url "
        "(with several hosts, target_session_attrs=read-write); nothing was changed."
    ),
    "42501": (
        "does not let this user do that. Make the user the owner of the database, or grant it all on the schema; "
        "nothing was changed."
    ),
    "55P03": "is in use: another gateway holds what is to be written. Try again; nothing was changed.",
    "57014": "took too long. Try again, and look at its load; nothing was changed.",
    "40001": "was being changed by another gateway at the same time. Try again; nothing was changed.",
    "40P01": "was being changed by another gateway at the same time. Try again; nothing was changed.",
    "57P03": "is starting up or shutting down. Try again in a moment; nothing was changed.",
}

_LOST = (
    "does not answer any more: {why}. Servers that run go on. It is reached again by itself when it is back; look "
    "whether your change is there before you try again."
)

_UNSAFE = "TLS"
"""Stands for a way that is not as safe as `sslmode` asks, which has no code."""

_SAID = (
    ("password authentication failed", "28P01"),
    ("no password supplied", "28P01"),
    ("no pg_hba.conf entry", "28000"),
    ("authentication failed", "28000"),
    ('FATAL: role "', "28000"),
    ("certificate", _UNSAFE),
    ("SSL", _UNSAFE),
    ("does not exist", "3D000"),
    ("too many clients", "53300"),
    ("remaining connection slots", "53300"),
    ("the database system is", "57P03"),
    ("not accepting", "57P03"),
)
"""What a server says to one that cannot come in, where libpq gives no code."""


def explained(where: str, error: BaseException | None) -> StoreError:
    """Say what an error of PostgreSQL or of the way to it means for the store, and what to do next."""
    code = getattr(error, "sqlstate", None) or ""
    text = masked(" ".join(str(error).split()))[:500].rstrip("?.")
    refused = False
    if not code:
        refused = "connection failed" in text or "connection is bad" in text or "failed to resolve" in text
        code = next((code for said, code in _SAID if refused and said in text), "")
    if code in _CODES:
        return StoreError(f"{named(where)} {_CODES[code]}")
    if code.startswith("28"):
        said = f"refuses this user: {text}. Correct user and password in database.url, or the server's pg_hba.conf."
    elif code == _UNSAFE:
        said = (
            f"cannot be reached as safely as asked: {text}. Correct sslmode and sslrootcert in database.url, or the "
            "server's certificate."
        )
    elif refused or "timeout" in text.lower():
        said = f"cannot be reached: {text}. Check that the server runs, and host and port in database.url."
    elif not code or code[:2] in ("08", "57"):
        said = _LOST.format(why=text or type(error).__name__)
    else:
        said = f"cannot be used: {text} ({code})."
    return StoreError(f"{named(where)} {said}")
