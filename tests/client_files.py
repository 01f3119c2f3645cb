"""A person whose folder holds what MCP clients keep there, and a shell of theirs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cli_shell import Shell, shell_in


def person_in(folder: Path) -> Shell:
    """A shell of a person whose folder holds nothing yet."""
    typed = shell_in(folder)
    (folder / "person").mkdir()
    typed.environ["HOME"] = str(folder / "person")
    for name in ("XDG_CONFIG_HOME", "CODEX_HOME", "CLAUDE_CONFIG_DIR"):
        typed.environ.pop(name, None)
    return typed


def put(shell: Shell, path: str, content: Any) -> Path:
    """Write a file into the person's folder."""
    file = Path(shell.environ["HOME"]) / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file
