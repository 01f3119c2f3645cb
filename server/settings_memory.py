"""The bundled server `memory`."""

from __future__ import annotations

from typing import Literal

from .settings_base import Group, setting


class MemorySettings(Group):
    """The bundled server memory (`toolscore install builtin:memory`): what each user may keep, how it is found."""

    max_size: int = setting(
        256, "a whole number of MiB, 0 for no limit", "MiB that one user may keep; 0 is no limit.", ge=0
    )
    max_messages: int = setting(
        200_000, "a whole number, 0 for no limit", "Messages that one user may keep; 0 is no limit.", ge=0
    )
    max_age: float = setting(
        0.0, "a number of days, 0 for no limit", "Days after which a message is deleted; 0 is never.", ge=0
    )
    max_message: int = setting(
        1024, "a whole number of KiB from 1 to 32768", "KiB that one message may have.", ge=1, le=32_768
    )
    when_full: Literal["refuse", "oldest"] = setting(
        "refuse",
        "refuse or oldest",
        "What is done with what does not fit: refuse it, or delete the oldest messages that are not pinned.",
    )
    semantic: Literal["auto", "off"] = setting(
        "auto",
        "auto or off",
        "Whether messages are found by meaning too: auto is where toolscore[semantic] is installed.",
    )
