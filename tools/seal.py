"""Sealing: the values of the secrets file encrypted with a passphrase, so that a copy of the file says nothing.

The key is made of the passphrase by scrypt (RFC 7914), and what is kept is encrypted with AES-256 in Galois/Counter
Mode (NIST SP 800-38D), which also shows any change of it. A second part of what scrypt gives tells a wrong passphrase
from a file that was changed. The library that encrypts is imported only where a sealed file is.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import secrets
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .errors import SecretsError

MEMBER = "toolscore-sealed"
"""Member of the JSON object that a sealed file is; no server's key is called so."""

_VERSION = 1
_COST, _BLOCK, _LANES = 1 << 15, 8, 1
"""Of scrypt: 32 MiB and about a tenth of a second for each guess."""

_MOST_COST = 1 << 20
"""The highest cost that is believed: a file must not make its reader take all memory."""

_KEY, _CHECK = 32, 16


class SealedError(SecretsError):
    """The secrets are sealed, and there is no passphrase."""


class WrongPassphraseError(SecretsError):
    """The passphrase is not the one they are sealed with."""


class TamperedError(SecretsError):
    """What is sealed was changed by somebody who does not have the passphrase, or is damaged."""


@dataclass(frozen=True, slots=True)
class Seal:
    """What the key of a sealed file is made with.

    Attributes:
        salt: Of scrypt.
        cost: Of scrypt, its `N`.
        check: What the right passphrase gives besides the key.
    """

    salt: bytes
    cost: int
    check: bytes

    @classmethod
    def new(cls, passphrase: str) -> Seal:
        """Make one for a passphrase."""
        salt = secrets.token_bytes(16)
        return cls(salt, _COST, _derived(passphrase, salt, _COST)[_KEY:])

    def key(self, passphrase: str, where: str) -> bytes:
        """Make the key.

        Raises:
            WrongPassphraseError: If it is another passphrase.
        """
        made = _derived(passphrase, self.salt, self.cost)
        if not hmac.compare_digest(made[_KEY:], self.check):
            raise WrongPassphraseError(
                f"The passphrase is not the one that {where} is sealed with. Nothing was changed; try again with "
                "the right one."
            )
        return made[:_KEY]


def seal(content: bytes, passphrase: str, made: Seal, where: str) -> bytes:
    """Encrypt.

    Args:
        content: What is to be sealed.
        passphrase: With what.
        made: What the key is made with.
        where: The file, for errors.

    Returns:
        The sealed file.

    Raises:
        WrongPassphraseError: If the seal was made for another passphrase.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    header = _header(made)
    nonce = os.urandom(12)
    data = AESGCM(made.key(passphrase, where)).encrypt(nonce, content, _bound(header))
    document = {MEMBER: {**header, "nonce": _text(nonce), "data": _text(data)}}
    return json.dumps(document, indent=1).encode() + b"\n"


def sealed_part(document: Any) -> dict[str, Any] | None:
    """Give what is sealed in a document that was read, or `None` if nothing is."""
    if isinstance(document, dict) and isinstance(part := document.get(MEMBER), dict):
        return part
    return None


def unseal(part: dict[str, Any], passphrase: str, where: str) -> tuple[bytes, Seal]:
    """Decrypt.

    Args:
        part: What `sealed_part` gave.
        passphrase: With what.
        where: The file, for errors.

    Returns:
        What was sealed, and what the key is made with, for the next time.

    Raises:
        WrongPassphraseError: If it is another passphrase.
        TamperedError: If what is sealed was changed, or is not understood.
    """
    made, nonce, data = _parsed(part, where)
    key = made.key(passphrase, where)
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(key).decrypt(nonce, data, _bound(_header(made))), made
    except (InvalidTag, ValueError):
        raise _tampered(where) from None


def _parsed(part: dict[str, Any], where: str) -> tuple[Seal, bytes, bytes]:
    if part.get("version") != _VERSION:
        raise TamperedError(
            f"{where} is sealed in a way this ToolScore does not know: it was written by a newer one, or is "
            "damaged. Use that one, or a backup."
        )
    try:
        cost = part["cost"]
        salt, check, nonce, data = (_bytes(part[key]) for key in ("salt", "check", "nonce", "data"))
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise _tampered(where) from None
    if not isinstance(cost, int) or not 2 <= cost <= _MOST_COST or cost & (cost - 1) or len(check) != _CHECK:
        raise _tampered(where)
    return Seal(salt, cost, check), nonce, data


def _tampered(where: str) -> TamperedError:
    return TamperedError(
        f"{where} was changed or damaged since it was sealed, so nothing of it is used. Put back a copy of it from "
        "a backup; the file itself was left as it is."
    )


def _header(made: Seal) -> dict[str, Any]:
    return {"version": _VERSION, "cost": made.cost, "salt": _text(made.salt), "check": _text(made.check)}


def _bound(header: dict[str, Any]) -> bytes:
    """Give what is not secret, but must not be changed either."""
    return json.dumps(header, sort_keys=True).encode()


@lru_cache(maxsize=4)
def _derived(passphrase: str, salt: bytes, cost: int) -> bytes:
    # Kept: several look into one file, and each look would take a tenth of a second.
    return hashlib.scrypt(
        passphrase.encode("utf-8", "surrogatepass"),
        salt=salt,
        n=cost,
        r=_BLOCK,
        p=_LANES,
        maxmem=256 * _BLOCK * cost,
        dklen=_KEY + _CHECK,
    )


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _bytes(text: Any) -> bytes:
    if not isinstance(text, str):
        raise TypeError
    return base64.b64decode(text, validate=True)
