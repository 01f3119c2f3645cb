"""Exceptions of untrusted code as text: its own frames, bounded, whatever the exception is made of."""

from __future__ import annotations

import traceback
from json import dumps

from . import values

FRAMES = 2_000
"""With more frames than these (a recursion limit raised by the code) only the last `SHOWN_FRAMES` are told."""
SHOWN_FRAMES = 100


def explain(error: BaseException, ours: frozenset[str], *, compiling: bool) -> dict[str, str]:
    """Give an exception's type, text and traceback.

    Args:
        error: The exception.
        ours: Source files whose frames are left out.
        compiling: Whether the code did not even start.

    Returns:
        `type`, `message` and `traceback`, as texts that UTF-8 can hold.
    """
    length = _longest(error)
    if isinstance(error, MemoryError):
        _clear_frames(error)
    limit = -SHOWN_FRAMES if length > FRAMES else None
    told = traceback.TracebackException(type(error), error, error.__traceback__, limit=limit, compact=True)
    _strip(told, ours, top=True, seen=set())
    text = "".join(told.format())
    if compiling and not told.stack:
        text = text.removeprefix("Traceback (most recent call last):\n")
    if limit is not None:
        text = f"(the last {SHOWN_FRAMES} of {length} calls)\n{text}"
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        name = f"{kind.__module__}.{name}"
    try:
        message = error.msg if isinstance(error, SyntaxError) and compiling else str(error)
    except BaseException:
        message = "<its text could not be made>"
    return {"type": values.clean(name), "message": values.clean(message), "traceback": values.clean(text)}


def _longest(error: BaseException) -> int:
    """Give the number of frames of the longest traceback among an exception and what led to it."""
    longest = 0
    current: BaseException | None = error
    for _ in range(100):
        if current is None:
            break
        count, step = 0, current.__traceback__
        while step is not None:
            count, step = count + 1, step.tb_next
        longest = max(longest, count)
        current = current.__cause__ or current.__context__
    return longest


def _clear_frames(error: BaseException) -> None:
    """Let go of the variables of the functions that ran out of memory, so that there is some to tell it."""
    step = error.__traceback__
    while step is not None:
        try:
            step.tb_frame.clear()
        except RuntimeError:
            break  # it runs still
        step = step.tb_next


def _strip(told: traceback.TracebackException, ours: frozenset[str], *, top: bool, seen: set[int]) -> None:
    """Leave only frames that mean something to whoever wrote the code, here and in what led to it."""
    if id(told) in seen:
        return
    seen.add(id(told))
    frames = told.stack
    if top:
        # Before the code's own first frame: ours, and those of the event loop.
        first = next((i for i, frame in enumerate(frames) if frame.filename.startswith("<code")), 0)
        del frames[:first]
    frames[:] = [
        frame
        for frame in frames
        if frame.filename not in ours and not frame.filename.startswith("<frozen importlib.")
    ]
    for other in (told.__cause__, told.__context__, *(told.exceptions or ())):
        if other is not None:
            _strip(other, ours, top=False, seen=seen)


def cut_middle(text: str, most: int) -> str:
    """Shorten a text whose end matters as much as its start."""
    if len(dumps(text)) <= most:
        return text
    half = (most - 40) // 2
    end = text[-half:]
    while len(dumps(end)) > half:
        end = end[max(len(end) // 8, 1) :]
    return f"{values.cut(text[:half], half)}\n[...]\n{end}"
