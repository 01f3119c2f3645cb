"""The commands that documents show: where they stand, what is said of them out of sight, and a world to run them in.

Out of sight, in a comment right above a fenced block:

    <!-- not run: REASON -->            no command of the block is run; tests that are named there exist
    <!-- not run (PREFIX; ...): REASON -->  those that begin so are not
    <!-- status N (PREFIX): REASON -->  the command that begins so ends with another status than 0
    <!-- client: NAME -->               the block is the entry of that client's file, `any` of no special one

What is not run is held against the grammar of the command line all the same.
"""

from __future__ import annotations

import os
import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_BLOCK = re.compile(
    r"(?P<notes>(?:^ *<!-- .*? -->\n)*)^(?P<indent> *)```(?P<language>[a-z]+)\n(?P<text>.*?)^(?P=indent)```",
    re.MULTILINE | re.DOTALL,
)
_NOTE = re.compile(r"<!-- (?P<kind>not run|status \d+|client)(?: \((?P<which>.*?)\))?: (?P<why>.*?) -->")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        path: The document it stands in.
        language: What it is written in.
        text: What stands in it.
        notes: What is said of it: the kind, for which commands (none is all), and why.
    """

    path: Path
    language: str
    text: str
    notes: tuple[tuple[str, tuple[str, ...], str], ...] = ()

    def said(self, kind: str, command: str = "") -> str | None:
        """Give what a note of this kind says that is about a command."""
        for one, which, why in self.notes:
            if one.startswith(kind) and (not which or command.startswith(which)):
                return one.removeprefix(kind).strip() or why
        return None


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a block of shell.

    Attributes:
        text: As it stands there, without what is remarked behind it.
        remark: What is, without the `#`.
        not_run: Why it is not run, if so.
        status: The exit status it ends with.
        calls: The arguments of each `toolscore` in it.
    """

    text: str
    remark: str = ""
    not_run: str | None = None
    status: int = 0
    calls: tuple[list[str], ...] = ()


def documents() -> list[Path]:
    """Every document for users: those are what is promised to be tried."""
    found = [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
    return sorted(path for path in found if "reference" not in path.parts)


def blocks(path: Path) -> Iterator[Block]:
    """Give the fenced blocks of a document."""
    for found in _BLOCK.finditer(path.read_text("utf-8")):
        notes = []
        for note in _NOTE.finditer(found["notes"]):
            which = tuple(part.strip() for part in (note["which"] or "").split(";") if part.strip())
            notes.append((note["kind"], which, note["why"]))
        yield Block(path, found["language"], textwrap.dedent(found["text"]), tuple(notes))


def commands(path: Path) -> list[Command]:
    """Give the commands of a document's blocks of shell, in their order."""
    found = []
    for block in blocks(path):
        if block.language != "sh":
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            text, remark = _split(line)
            status = block.said("status", text)
            found.append(
                Command(text, remark, block.said("not run", text), int(status or 0), tuple(_calls(text)))
            )
    return found


def inline(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Give the commands that stand in a document's sentences, each with its arguments.

    Of `a|b` the first is taken, what is in brackets is left out, and names in capitals get a value of their kind.
    """
    text = re.sub(r"^ *```.*?^ *```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for found in re.findall(r"`([^`]+)`", text):
        one = re.sub(r"\[.*\]|(?<=\w)\|\S+", "", found).replace("...", "")
        for word, value in (("CLIENT", "cursor"), ("ADDRESS", "ws://127.0.0.1")):
            one = re.sub(rf"\b{word}\b", value, one)
        if re.search(r"(^|[ (])toolscore ", one):
            for argv in _calls(one):
                yield found, argv


def _split(line: str) -> tuple[str, str]:
    """Give a command, and the remark behind it."""
    lexer = shlex.shlex(line, posix=False, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    words = list(lexer)
    at = next((at for at, word in enumerate(words) if word.startswith("#")), len(words))
    return " ".join(words[:at]), " ".join(words[at:]).lstrip("# ")


def _calls(text: str) -> Iterator[list[str]]:
    """Give the arguments of each `toolscore` in a command, as its shell would pass them."""
    words: list[str] = []
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split, lexer.commenters = True, ""
    for word in [*lexer, "|"]:
        if re.fullmatch(r"[|&;()]+", word):
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if words and Path(words[0]).name == "toolscore":
                yield _unredirected(words[1:])
            words = []
        else:
            words.append(word)


def _unredirected(words: list[str]) -> list[str]:
    while (at := next((at for at, word in enumerate(words) if word in ("<", ">", ">>")), -1)) >= 0:
        del words[at : at + 2]
    return words


def environment(person: Path, bin_folder: Path) -> dict[str, str]:
    """Give what a person's shell has who has just installed ToolScore."""
    left = ("TOOLSCORE_", "PROCESS_", "XDG_", "CODEX_", "CLAUDE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left)}
    path = os.pathsep.join([str(bin_folder), kept.get("PATH", os.defpath)])
    return {
        **kept,
        "HOME": str(person),
        "PATH": path,
        "COLUMNS": "120",
        "TOOLSCORE_TOOLS_SEMANTIC": "off",
        "BROWSER": "true",
    }
