"""The page of what can go wrong, from the places in the code that say so.

The texts are read out of the source: every error says what happened and what to do next in the place where it is
raised, so that a list kept beside it could only fall behind. What is filled in when it happens is shown as `…`.
"""

from __future__ import annotations

import ast
import inspect
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from markdown_cells import cell
from reference_commands import exit_statuses

from toolscore.tools import outcome

ROOT = Path(__file__).resolve().parents[2]
_FLOORS = ("server", "tools", "runners", "sandbox")
_HEAD = """\
# Every error and its cure

What ToolScore says is what happened and what to do next, so the whole text is the cure. Look here for a part of the
text you have (`…` stands for what is filled in), or for the code of the outcome, the exit status or the finding.
"""
_OUTCOMES = """
A refused call is a tool result with `isError`, the text, and its code in `_meta["toolscore/outcome"]`.
[outcomes.md](../outcomes.md) says what each code means and what else is in `_meta`.
"""
_FINDINGS = """
`toolscore doctor` looks at these, and says what to do where something is amiss.
"""
_OTHERS = """
By the kind of error. At the command line they follow `toolscore:`; a caller of a tool meets them as the text of an
outcome.
"""
_PROBES = {
    "sandbox/probe.py": ("kernel: …", {"_Refused": 1}),
    "runners/docker/probe.py": ("containers", {"Probed": 2}),
}
"""What the doctor asks: the finding it becomes, and which argument of what is made there is the advice."""
_LEAST = 12
"""Characters of fixed text, at the least, by which somebody could find a message."""


def page() -> str:
    """Write the page."""
    sources = _sources()
    kinds = _kinds(sources)
    by_outcome: dict[str, set[str]] = defaultdict(set)
    by_kind: dict[str, set[str]] = defaultdict(set)
    findings: dict[str, set[str]] = defaultdict(set)
    for file, tree in sources.items():
        for call, names in _calls(tree):
            name = _called(call)
            finding, advising = _PROBES.get(str(file.relative_to(ROOT)), ("", {}))
            if (at := advising.get(name, 99)) < len(call.args):
                findings[finding].update(_texts(call.args[at], names))
            if name == "Check" and file.parent.name in ("server", "doctor"):
                _finding(call, names, findings)
            elif name == "RefusalError" and len(call.args) > 1:
                for code in _codes(call.args[0]):
                    by_outcome[code].update(_texts(call.args[1], names))
            elif name in kinds and name != "RefusalError":
                for argument in call.args[:2]:
                    by_kind[name].update(_texts(argument, names))
    parts = [_HEAD, "## Exit statuses\n", "| status | meaning |", "|---|---|"]
    parts += [f"| `{number}` | {cell(said)} |" for number, said in exit_statuses().items()]
    parts += ["\n## Outcomes", _OUTCOMES]
    for one in outcome.Outcome:
        parts += [f"\n### {one}\n", *_listed(by_outcome[one.name])]
    parts += ["\n## Findings of the doctor", _FINDINGS, "| finding | what to do |", "|---|---|"]
    for name in sorted(findings):
        parts.append(
            f"| {cell(name)} | {'<br>'.join(cell(text) for text in sorted(findings[name])) or '-'} |"
        )
    parts += ["\n## Other errors", _OTHERS]
    for name in sorted(by_kind):
        if listed := _listed(by_kind[name]):
            parts += [f"\n### {name}\n", f"{cell(kinds[name])}\n", *listed]
    return "\n".join(parts)


def _sources() -> dict[Path, ast.Module]:
    files = [file for floor in _FLOORS for file in sorted((ROOT / floor).rglob("*.py"))]
    return {file: ast.parse(file.read_text("utf-8")) for file in files}


def _kinds(sources: dict[Path, ast.Module]) -> dict[str, str]:
    """Give the package's own errors that have a public name, with the first line of what is said of them."""
    found: dict[str, str] = {}
    for tree in sources.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name.endswith(("Error", "Problem")):
                said = ast.get_docstring(node)
                if said and node.bases and not node.name.startswith("_"):
                    found[node.name] = inspect.cleandoc(said).partition("\n")[0]
    return found


def _calls(tree: ast.Module) -> Iterator[tuple[ast.Call, dict[str, list[ast.expr]]]]:
    """Give each call, with what the names of its function may stand for."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    seen: set[int] = set()
    for scope in [*reversed(functions), tree]:  # the innermost first
        names: dict[str, list[ast.expr]] = defaultdict(list)
        for node in ast.walk(scope) if scope is not tree else tree.body:
            if (
                isinstance(node, ast.Assign)
                and len(node.targets) == 1
                and isinstance(node.targets[0], ast.Name)
            ):
                names[node.targets[0].id].append(node.value)
            if isinstance(node, ast.For) and isinstance(node.target, ast.Name):
                names[node.target.id] += node.iter.elts if isinstance(node.iter, ast.Tuple) else []
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                names.setdefault(node.targets[0].id, [node.value])
        for node in ast.walk(scope):
            if isinstance(node, ast.Call) and id(node) not in seen:
                seen.add(id(node))
                yield node, names


def _called(call: ast.Call) -> str:
    function = call.func
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def _codes(node: ast.expr) -> list[str]:
    if isinstance(node, ast.IfExp):
        return [*_codes(node.body), *_codes(node.orelse)]
    return [node.attr] if isinstance(node, ast.Attribute) else []


def _finding(call: ast.Call, names: dict[str, list[ast.expr]], findings: dict[str, set[str]]) -> None:
    """Note a finding of the doctor: its name, and what it advises."""
    given: dict[str, ast.expr] = {f"{at}": one for at, one in enumerate(call.args)}
    given |= {word.arg: word.value for word in call.keywords if word.arg}
    name, advice = given.get("name", given.get("0")), given.get("advice", given.get("3"))
    for text in _texts(name, names, least=1) if name is not None else ():
        findings[text].update(_texts(advice, names, least=1) if advice is not None else ())


def _texts(node: ast.expr, names: dict[str, list[ast.expr]], least: int = _LEAST) -> set[str]:
    """Give the texts an expression may come to, as far as the source tells."""
    found = {text for text in _forms(node, names, 0) if len(text.replace("…", "").strip()) >= least}
    return {text.strip() for text in found if " " in text.strip() or least == 1}


def _forms(node: ast.expr, names: dict[str, list[ast.expr]], depth: int) -> list[str]:
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(one.value) if isinstance(one, ast.Constant) else "…" for one in node.values)]
    if isinstance(node, ast.IfExp):
        return [*_forms(node.body, names, depth), *_forms(node.orelse, names, depth)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = (_forms(one, names, depth) or ["…"] for one in (node.left, node.right))
        return [one + other for one in left for other in right]
    if isinstance(node, ast.Dict):
        return [text for one in node.values for text in _forms(one, names, depth)]
    if isinstance(node, ast.Call) and _called(node) == "get":  # of a table of texts
        return _forms(node.func.value, names, depth) if isinstance(node.func, ast.Attribute) else []
    if isinstance(node, ast.BoolOp):
        return [text for one in node.values for text in _forms(one, names, depth)]
    if isinstance(node, ast.Name) and depth < 2:
        return [text for one in names.get(node.id, ()) for text in _forms(one, names, depth + 1)]
    return []


def _listed(texts: set[str]) -> list[str]:
    return [f"- {cell(text)}" for text in sorted(texts)]
