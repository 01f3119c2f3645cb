"""Chinese queries over tools described in Chinese and in both languages: what pairs of characters are worth.

`search_chinese.jsonl` has a tool a line, each with one query that is meant for it. Besides the index there are two
bases on the same text: single characters, and SQLite's own trigram tokenizer.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from toolscore.tools.search.document import document_of
from toolscore.tools.search.index import Index

FILE = Path(__file__).with_name("search_chinese.jsonl")


def compared() -> Iterator[tuple[str, float, float]]:
    """Give hit@1 and hit@5 of each way."""
    rows = [json.loads(line) for line in FILE.read_text("utf-8").splitlines()]
    index = Index()
    for server in {row["server"] for row in rows}:
        own = [row for row in rows if row["server"] == server]
        index.put(server, [document_of(row["name"], server, "", row) for row in own])
    yield "pairs (toolscore)", *judged(rows, lambda query: [hit.key for hit in index.search(query, 5)])
    yield "single characters", *judged(rows, searched(rows, "unicode61", apart))
    yield "trigram tokenizer", *judged(rows, searched(rows, "trigram", threes))


def judged(rows: list[dict[str, str]], ranked: Callable[[str], list[str]]) -> tuple[float, float]:
    """Give the share of queries whose tool is first, and among the first five."""
    found = [(row["name"], ranked(row["query"])) for row in rows]
    return sum(got[:1] == [name] for name, got in found) / len(rows), sum(
        name in got for name, got in found
    ) / len(rows)


def searched(
    rows: list[dict[str, str]], tokenizer: str, terms: Callable[[str], list[str]]
) -> Callable[[str], list[str]]:
    """Make a plain search of SQLite's with a tokenizer."""
    base = sqlite3.connect(":memory:")
    base.execute(f"CREATE VIRTUAL TABLE word USING fts5(name, text, tokenize='{tokenizer}')")
    for row in rows:
        text = f"{row['name']} {row['server']} {row['description']}"
        base.execute(
            "INSERT INTO word VALUES (?, ?)", (row["name"], " ".join(apart(text)) if terms is apart else text)
        )

    def search(query: str) -> list[str]:
        match = " OR ".join(f'"{term}"' for term in terms(query))
        if not match:
            return []
        found = base.execute(
            "SELECT name FROM word WHERE text MATCH ? ORDER BY rank LIMIT 5", (f"text: ({match})",)
        )
        return [name for (name,) in found]

    return search


def apart(text: str) -> list[str]:
    """Give single Chinese characters, and words of other letters."""
    return re.findall(r"[\u4e00-\u9fff]|[A-Za-z0-9]+", text)


def threes(text: str) -> list[str]:
    """Give the overlapping threes of each run."""
    runs = re.findall(r"[\u4e00-\u9fff]+|[A-Za-z0-9]+", text)
    return [run[at : at + 3] for run in runs for at in range(max(0, len(run) - 2))]


if __name__ == "__main__":
    for way, first, five in compared():
        print(f"{way:22} hit@1 {first:.3f}  hit@5 {five:.3f}")
