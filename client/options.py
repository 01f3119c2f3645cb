"""What calls of a client can be told besides, by name, so that a type checker knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from .line import Progress


class CallOptions(TypedDict, total=False):
    """Those of `ToolScore.call`."""

    timeout: float | None
    idle: float | None
    max_tokens: int | None
    patience: float
    repeat: bool | None
    on_progress: Progress | None
    check: bool | None


class CodeOptions(TypedDict, total=False):
    """What code is given (docs/sandbox.md).

    Attributes:
        stdin: What it can read from standard input.
        files: Files put into its working folder first: `path`, and `text` or `base64`.
        limits: `wall` and `cpu` (seconds), `memory` (MiB), `processes`, `output` (bytes).
        packages: Packages it needs.
    """

    stdin: str
    files: Sequence[Mapping[str, str]]
    limits: Mapping[str, float]
    packages: Sequence[str]


class SessionOptions(TypedDict, total=False):
    """What a session of Python is begun with (docs/sandbox.md).

    Attributes:
        packages: Packages it needs.
        ttl: Seconds it lives at the most.
        idle: Seconds without use after which it ends.
    """

    packages: Sequence[str]
    ttl: float
    idle: float


class InstallOptions(TypedDict, total=False):
    """More arguments of `install_server` (docs/reference/tools.md)."""

    args: Sequence[str]
    env: Mapping[str, str]
    settings: Mapping[str, Any]
    confine: bool | Mapping[str, Any]
    container: Mapping[str, Any]
    url: str
    cluster: bool | Mapping[str, Any]
