"""`policy`: check the file, show what holds, explain a decision, print a file to begin with."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from ...runners.spec import silent
from ..settings import Settings
from .backend import open_backend
from .output import Output
from .results import structured


async def run(options: Namespace, settings: Settings, out: Output) -> int:
    """Do what the command asks for.

    Returns:
        The exit status.
    """
    match options.what:
        case "template":
            from ...tools.policy.template import TEMPLATE

            if out.json_wanted:
                out.document({"template": TEMPLATE})
            else:
                out.line(TEMPLATE.rstrip("\n"))
            return 0
        case "check":
            return _check(options.words, settings, out)
        case "show":
            return await _show(settings, out)
        case "shared" | "share":
            from .policy_shared import run as run_shared

            return await run_shared(options, settings, out)
        case _:
            return await _explain(options, settings, out)


def _check(words: list[str], settings: Settings, out: Output) -> int:
    from ...tools.policy.errors import PolicyError
    from ...tools.policy.reading import read
    from ..policy_path import path_of

    path = Path(words[0]) if words else path_of(settings)[0]
    problems: list[dict[str, Any]] = []
    found: dict[str, Any] = {"file": str(path), "valid": True}
    try:
        policy = read(path)
        found.update(rules=len(policy.rules), limits=len(policy.limits))
    except FileNotFoundError:
        # A link to nowhere is no absence of a policy: ToolScore does not start with one.
        if not words and not settings.policy.file and not os.path.lexists(path):
            found.update(rules=0, limits=0)
            if out.json_wanted:
                out.document({**found, "problems": []})
            else:
                out.line(f"there is no {path}, so there is no policy")
            return 0
        text = "there is no such file. `toolscore policy template` prints one to begin with."
        problems = [{"line": 0, "text": text}]
    except PolicyError as error:
        problems = [{"line": one.line, "text": one.text} for one in error.problems]
    if out.json_wanted:
        out.document({**found, "valid": not problems, "problems": problems})
    elif problems:
        for one in problems:
            where = f"{path}, line {one['line']}" if one["line"] else str(path)
            out.error(f"{where}: {one['text']}")
    else:
        out.line(f"{path} is in order: {found['rules']} rules, {found['limits']} limits")
    return 1 if problems else 0


async def _show(settings: Settings, out: Output) -> int:
    told = await _asked(settings, out, {})
    if out.json_wanted:
        names = ("file", "since", "problems", "rules", "all_limits")
        out.document({name: told.get(name) for name in names})
        return 0
    for problem in told["problems"]:
        out.error(problem)
    if told["since"] is None:
        out.line(f"no policy: there is no {told['file']}")
        return 0
    out.line(f"{told['file']}, as it was read at {told['since']}")
    rows = [(str(one["number"]), str(one["line"]), one["answer"], _selection(one)) for one in told["rules"]]
    out.table(("rule", "line", "answer", "for"), rows)
    if told["all_limits"]:
        limits = [(str(one["number"]), str(one["line"]), _selection(one)) for one in told["all_limits"]]
        out.table(("limit", "line", "for"), limits)
    return 0


def _selection(one: dict[str, Any]) -> str:
    parts = [
        f"{name}={','.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in one.items()
        if name not in ("number", "line", "answer")
    ]
    return " ".join(parts) or "everything"


async def _explain(options: Namespace, settings: Settings, out: Output) -> int:
    client, subject = options.words
    asked: dict[str, Any] = {"client": client}
    if options.listener:
        asked["listener"] = options.listener
    action = options.action or ("install" if ":" in subject else "call" if "__" in subject else None)
    if action is not None:
        asked["action"] = action
    asked["source" if action == "install" else "tool" if "__" in subject else "server"] = subject
    told = await _asked(settings, out, asked)
    if out.json_wanted:
        out.document({key: value for key, value in told.items() if key not in ("rules", "all_limits")})
        return 0
    out.line(f"{told['answer']}: {told['explained']}")
    for problem in told["problems"]:
        out.error(problem)
    if told["why"]:
        out.line(f"  the rule says: {told['why']}")
    for title, lines in (
        ("limits", told["limits"]),
        ("besides", told["narrowed"]),
        ("passed over", told["passed"]),
    ):
        for line in lines:
            out.line(f"  {title}: {line}")
    return 0


async def _asked(settings: Settings, out: Output, asked: dict[str, Any]) -> dict[str, Any]:
    async with open_backend(settings, out.remark) as backend:
        return structured(await backend.call("explain_policy", asked, silent))
