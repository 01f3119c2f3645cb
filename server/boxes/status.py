"""`sandbox_status` for all executors together."""

from __future__ import annotations

import asyncio
from typing import Any

from ...runners.errors import RunnerError
from ...sandbox.face import CALLER
from ...sandbox.isolation import Tier
from ...sandbox.settings import SandboxSettings
from ...sandbox.telling import plain, told_lines
from .post import Post
from .posts import Posts
from .whereabouts import Whereabouts

PATIENCE = 5.0
"""Seconds an executor has to tell of itself."""


async def status(
    settings: SandboxSettings, posts: Posts, principal: str, whereabouts: Whereabouts, *, tools: bool
) -> dict[str, Any]:
    """Tell which nodes there are, what isolates code there, and what is free (MCP `CallToolResult`)."""
    used = [post for post in posts.all if post.usable]
    answers = await asyncio.gather(*(_asked(post, principal) for post in used))
    by_post = dict(zip(used, answers, strict=True))
    problem = None if used else posts.explained()
    weakest = min(used, key=lambda post: Tier(post.tier).rank, default=None)
    isolation = {"tier": "none", "layers": {}} if weakest is None else weakest.isolation
    sessions = [
        {**session, "node": post.ground.called}
        for post, told in by_post.items()
        for session in told.get("sessions", ())
    ]
    pools = [
        {"node": post.ground.called, **pool}
        for post, told in by_post.items()
        for pool in told.get("pools", ())
    ]
    told: dict[str, Any] = {
        "ready": problem is None,
        "problem": problem,
        "mode": "cluster",
        "isolation": isolation,
        **plain(settings),
        "installed": next((told["installed"] for told in answers if told.get("installed")), []),
        "tools": tools,
        "sessions": sessions,
        "pools": pools,
        "nodes": [_node(post) for post in posts.all],
        "waiting": posts.choosing.waiting,
    }
    lines = told_lines(told, "no code can be run", _at_once(used))
    lines += [_line(node) for node in told["nodes"]]
    return {
        "content": [{"type": "text", "text": "\n".join(lines)}],
        "structuredContent": told,
        "isError": False,
    }


async def _asked(post: Post, principal: str) -> dict[str, Any]:
    meta = {CALLER: {"principal": principal, "depth": 0, "tools": None}}
    params = {"name": "sandbox_status", "arguments": {}, "_meta": meta}
    try:
        result = await post.request("tools/call", params, timeout=PATIENCE)
    except RunnerError:
        return {}  # it has just ended, or has no time: what is known here is told all the same
    told: dict[str, Any] = result.get("structuredContent") or {}
    return told


def _node(post: Post) -> dict[str, Any]:
    return {
        "node": post.ground.called,
        "used": post.usable,
        "problem": "its node has left the cluster" if post.retired else post.problem,
        "tier": post.tier if post.problem is None else None,
        "places": post.most if post.problem is None else 0,
        "free": max(0, post.free) if post.usable else 0,
        "sessions": len(post.sessions),
    }


def _line(node: dict[str, Any]) -> str:
    if not node["used"]:
        return f"{node['node']} is not used: {node['problem']}"
    free = f"{node['free']} of {node['places']} places free"
    return f"{node['node']}: {node['tier']}, {free}, {node['sessions']} sessions"


def _at_once(used: list[Post]) -> str:
    places = sum(post.most for post in used)
    return f"{places} executions, on {len(used)} node{'' if len(used) == 1 else 's'} of a cluster"
