"""Credentials in URLs, hidden before a text is shown, reported or kept."""

from __future__ import annotations

import re

# In a web address even a lone user may be a token; in others, such as `ssh://git@host`, it is a name.
_WEB = re.compile(r"(https?://)[^/\s]+@", re.IGNORECASE)
_QUERY = re.compile(r"(https?://[^\s?]*\?)[^\s'\"`]+", re.IGNORECASE)
_PASSWORD = re.compile(r"(://[^/\s:@]*):[^/\s@]+@")


def mask(text: str) -> str:
    """Replace the user information and query of web addresses, and the passwords of all others, by `***`."""
    return _PASSWORD.sub(r"\1:***@", _QUERY.sub(r"\1***", _WEB.sub(r"\1***@", text)))
