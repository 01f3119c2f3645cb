"""Headers in settings: lines `HEADER: VALUE`, whose values are references to secrets and never those themselves."""

from __future__ import annotations

from ..runners.template import is_template


def split_header(line: str, form: str = "HEADER: VALUE") -> tuple[str, str]:
    """Take such a line apart.

    Args:
        line: The line.
        form: What it is to look like, for the error.

    Raises:
        ValueError: If it is none, or its value is not by reference.
    """
    name, mark, value = line.strip().partition(":")
    name, value = name.strip(), value.strip()
    token = bool(name) and all(one.isascii() and (one.isalnum() or one in "-_") for one in name)
    if not mark or not token or not value.isprintable():
        raise ValueError(f"it is not of the form {form}")
    if not is_template(value):
        raise ValueError("its value holds no ${NAME}: a secret is never written out here")
    return name, value
