"""The own tools about pins and locks, as clients see them."""

from __future__ import annotations

from . import models_pins as m
from .own_tool import READS, OwnTool

TOOLS: tuple[OwnTool, ...] = (
    OwnTool(
        "export_lock",
        "Export a lock",
        "Give the content of toolscore.lock: each server with its exact version, hashes, how it is started (with "
        "references to secrets only), and a digest of each tool.",
        m.ExportLockArguments,
        m.ExportLockResult,
        READS,
        listed=False,
    ),
    OwnTool(
        "verify_servers",
        "Verify servers",
        "Compare what is installed, file by file, and the tools with what was pinned at the installation, or with a "
        "lock. Every difference with what to do.",
        m.VerifyServersArguments,
        m.VerifyServersResult,
        READS,
        listed=False,
    ),
    OwnTool(
        "accept_server",
        "Accept a server as it is",
        "Take the tools of a server, and the program of a registered one, as they are now for its pin.",
        m.AcceptServerArguments,
        m.AcceptServerResult,
        {"destructiveHint": True, "idempotentHint": True, "openWorldHint": False},
        listed=False,
    ),
    OwnTool(
        "upgrade_server",
        "Upgrade a server",
        "Build another version of a server beside the old one, start it, and put it in its place; what it was before "
        "stays where that fails. With only_show: only tell which packages and tools would change. Or roll back.",
        m.UpgradeServerArguments,
        m.UpgradeServerResult,
        {"destructiveHint": True, "openWorldHint": True},
        listed=False,
    ),
    OwnTool(
        "sync_server",
        "Install as locked",
        "Bring one server to exactly what a toolscore.lock says of it, by its hashes, or change nothing.",
        m.SyncServerArguments,
        m.SyncServerResult,
        {"destructiveHint": True, "idempotentHint": True, "openWorldHint": True},
        listed=False,
    ),
)
