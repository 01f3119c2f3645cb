"""Figures that code left open in matplotlib, as images."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def figures(most: int) -> tuple[list[dict[str, str]], bool]:
    """Save and close every open figure of `matplotlib.pyplot`, if the code imported it.

    A figure that cannot be drawn is told on standard error; and what matplotlib warns of, such as letters that a font
    lacks: each once, and without a line of this file, where it has no line of the code.

    Args:
        most: Bytes that all of them may have in JSON.

    Returns:
        The images, each with `mime` and base64 `data`, and whether any had to be left out.
    """
    pyplot: Any = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return [], False
    import warnings

    images: list[dict[str, str]] = []
    with warnings.catch_warnings(record=True) as warned:
        dropped = _take(pyplot, images, most)
    for text in dict.fromkeys(map(_text, warned)):
        _print(text)
    return images, dropped


def _take(pyplot: Any, images: list[dict[str, str]], most: int) -> bool:
    dropped = False
    try:
        for number in pyplot.get_fignums():
            data = _png(pyplot, number)
            if data is None:
                continue
            size = len(data) + 60  # with its braces, keys and type
            if size > most:
                dropped = True
                continue
            most -= size
            images.append({"mime": "image/png", "data": data})
        pyplot.close("all")
    except Exception as error:
        _tell("figures could not be taken", error)
    return dropped


def _png(pyplot: Any, number: int) -> str | None:
    import base64
    import io

    buffer = io.BytesIO()
    try:
        pyplot.figure(number).savefig(buffer, format="png", bbox_inches="tight")
    except Exception as error:
        _tell(f"figure {number} could not be saved", error)
        return None
    return base64.b64encode(buffer.getbuffer()).decode()


def _tell(what: str, error: Exception) -> None:
    try:
        text = f"{what}: {type(error).__name__}: {error}"
    except Exception:
        return  # the error has no text
    _print(text)


def _text(warned: Any) -> str:
    try:
        return f"{warned.category.__name__}: {warned.message}"
    except Exception:
        return "a warning that has no text"


def _print(text: str) -> None:
    try:
        print(text, file=sys.stderr)
    except Exception:
        return  # standard error is closed
