"""What functions are known by to the rest of ToolScore, which need not load anything of them for it."""

from __future__ import annotations

SERVER = "functions"
"""The server under which functions are found: `functions__NAME`."""

EXECUTOR = "python-executor"
"""The server that runs them."""

VERSION_KEY = "toolscore/version"
"""Member of a tool's `_meta` that tells its version from others of the same name."""

TOOLBOX = "toolscore_tools"
"""The module by which code in the sandbox calls other tools (`sandbox.toolbox.NAME`, which is loaded in the box)."""
