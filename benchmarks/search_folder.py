"""A folder of evaluation data for `benchmarks.search`: what is in it, looked through before anything is measured.

`corpus_NAME_tools`, `corpus_NAME_servers`, sets of queries of any name, `gap_offered` and `gap_installed`, each as
`.jsonl.gz` or `.jsonl`. Whatever is not there is left out of the table; whatever is broken is told by file and line.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SETS = ("need", "live", "bfcl", "toolbench", "metatool")
"""The sets that have a column in any case, in this order."""

GAPS = ("gap_installed", "gap_offered")
LABELS = ("covered", "gap")
Row = dict[str, Any]

_ENDINGS = (".jsonl.gz", ".jsonl")


class BrokenFileError(Exception):
    """A file is not of the format; the text says which, where and why."""


class Folder:
    """Evaluation data.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise BrokenFileError(f"{path} is {'not a folder' if path.exists() else 'not there'}.")
        self.path = path
        self.files: dict[str, Path] = {}
        for ending in reversed(_ENDINGS):  # of both forms of one file the packed one counts
            for file in sorted(path.glob(f"*{ending}")):
                self.files[file.name.removesuffix(ending)] = file
        self.notes: list[str] = []
        """What was left out, and why."""
        self.others: list[str] = []
        """Sets that are not among `SETS`."""
        self._sets: dict[str, list[Row]] = {}
        self._corpora: dict[str, int] = {}
        self._look_through()

    def has(self, name: str) -> bool:
        """Tell whether there is such a file, with a row in it at least."""
        return bool(self._corpora.get(name) or self._sets.get(name))

    def queries(self, name: str) -> list[Row]:
        """Give the rows of a set that can be judged."""
        return self._sets.get(name, [])

    def corpus(self, name: str) -> list[Row]:
        """Give the rows of `corpus_NAME`, each with all members there may be."""
        if not self.has(f"corpus_{name}"):
            return []
        empty = {"server_title": "", "title": "", "description": "", "input_schema": None}
        return [{**empty, **row} for row in self.rows(f"corpus_{name}")]

    def rows(self, name: str) -> list[Row]:
        """Read a file; one that is not there has no rows."""
        return [row for _, row in self._read(self.files[name])] if name in self.files else []

    def _look_through(self) -> None:
        for name in self.files:
            if name.startswith("corpus_"):
                wanted = ("id", "server", "name") if name.endswith("_tools") else ("id", "name")
                self._corpora[name] = self._counted(name, wanted)
            elif name in GAPS:
                self._sets[name] = self._gaps(name)
            elif (rows := self._judgeable(name)) is not None:
                self._sets[name] = rows
                if name not in SETS:
                    self.others.append(name)
            if name in (*SETS, *GAPS, *self._corpora) and not self.has(name):
                self.notes.append(f"{self.files[name].name} is empty.")

    def _counted(self, name: str, wanted: tuple[str, ...]) -> int:
        count = 0
        for at, row in self._read(self.files[name]):
            for key in wanted:
                if not isinstance(row.get(key), str):
                    raise _broken(self.files[name], at, f"has no text as '{key}'")
            count += 1
        return count

    def _gaps(self, name: str) -> list[Row]:
        rows, given = [], "offered" if name == "gap_offered" else "installed_servers"
        for at, row in self._read(self.files[name]):
            if not isinstance(row.get("query"), str):
                raise _broken(self.files[name], at, "has no text as 'query'")
            if not _texts(row.get(given)):
                raise _broken(self.files[name], at, f"has no list of ids as '{given}'")
            if row.get("label") not in LABELS:
                raise _broken(self.files[name], at, "has another label than 'covered' and 'gap'")
            rows.append(row)
        return rows

    def _judgeable(self, name: str) -> list[Row] | None:
        """Read a set; `None` for another file that is none."""
        file, without = self.files[name], 0
        rows: list[Row] = []
        for at, row in self._read(file):
            if name not in SETS and not rows and not without and not {"query", "relevant"} & row.keys():
                self.notes.append(f"{file.name} is no set of queries, and is left out.")
                return None
            for key in ("query", "corpus"):
                if not isinstance(row.get(key), str):
                    raise _broken(file, at, f"has no text as '{key}'")
            if not _texts(row.get("relevant")):
                raise _broken(file, at, "has no list of ids as 'relevant'")
            if "relevant_servers" in row and not _texts(row["relevant_servers"] or []):
                raise _broken(file, at, "has no list of ids as 'relevant_servers'")
            if row["relevant"]:
                rows.append(row)
            else:
                without += 1
        if without:
            self.notes.append(f"{name}: {without} queries without a right answer are left out.")
        return rows

    def _read(self, file: Path) -> Iterator[tuple[int, Row]]:
        """Give the rows of a file with the numbers of their lines; blank lines are passed over."""
        at = 0
        try:
            with (
                gzip.open(file, "rt", encoding="utf-8-sig")
                if file.suffix == ".gz"
                else file.open(encoding="utf-8-sig")
            ) as lines:
                for at, line in enumerate(lines, 1):
                    if not line.strip():
                        continue
                    try:
                        row = json.loads(line)
                    except (ValueError, RecursionError) as exc:
                        raise _broken(file, at, f"is not JSON ({exc})") from None
                    if not isinstance(row, dict):
                        raise _broken(file, at, "is not a JSON object")
                    yield at, row
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as exc:
            raise BrokenFileError(f"{file} cannot be read after line {at}: {exc}.") from None


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _broken(file: Path, line: int, why: str) -> BrokenFileError:
    return BrokenFileError(f"{file}, line {line} {why}.")
