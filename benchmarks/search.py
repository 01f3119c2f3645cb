"""What searching for tools finds, and how fast: `python -m benchmarks.search FOLDER [--semantic] [--sets need,live]`.

FOLDER holds JSON lines, gzipped or not: corpora of tools (`corpus_NAME_tools.jsonl.gz`: id, server, server_title,
name, description, input_schema) and of servers (`corpus_NAME_servers.jsonl.gz`), sets of queries with the ids that
are right (`SET.jsonl.gz`, of any name: query, corpus, relevant), and the question whether what is there will do
(`gap_offered.jsonl.gz`, `gap_installed.jsonl.gz`). Whatever is missing is `-` in the table, and said below it; a file
that is broken is named, with the status 2. The base beside ToolScore is plain BM25 over one blob of text.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import math
import multiprocessing
import os
import pickle
import re
import statistics
import sys
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import psutil
from benchmarks.search_folder import SETS, BrokenFileError, Folder, Row

from toolscore.tools.search.assess import assess
from toolscore.tools.search.document import Document, document_of
from toolscore.tools.search.index import Hit, Index
from toolscore.tools.search.servers import rank_servers

TOOLS = 20_000
Ranked = Callable[[str], list[str]]


def tool_object(row: Row) -> Row:
    """Give the MCP tool object of a row."""
    return {"name": row["name"], "description": row["description"], "inputSchema": row["input_schema"]}


def documents_of(rows: Sequence[Row]) -> dict[str, list[Document]]:
    """Make documents, by server."""
    found: dict[str, list[Document]] = {}
    for row in rows:
        found.setdefault(row["server"], []).append(
            document_of(row["id"], row["server"], row["server_title"] or "", tool_object(row))
        )
    return found


def index_of(documents: dict[str, list[Document]]) -> Index:
    """Make an index."""
    index = Index()
    for server, some in documents.items():
        index.put(server, some)
    return index


class Blob:
    """Plain BM25 (k1 1.5, b .75) over one blob of name, description and parameter names, as FastMCP searches."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.ids = [row["id"] for row in rows]
        self.posts: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self.lengths: list[int] = []
        for at, row in enumerate(rows):
            schema = row["input_schema"] if isinstance(row["input_schema"], dict) else {}
            properties = schema.get("properties")
            words = self.words(
                f"{row['name']} {row['description'] or ''} "
                + " ".join(
                    f"{name} {one.get('description') or ''}" if isinstance(one, dict) else name
                    for name, one in (properties if isinstance(properties, dict) else {}).items()
                )
            )
            self.lengths.append(len(words))
            for word, count in Counter(words).items():
                self.posts[word].append((at, count))
        self.usual = statistics.fmean(self.lengths) if self.lengths else 1.0

    @staticmethod
    def words(text: str) -> list[str]:
        return re.findall(r"[a-z0-9]+", text.lower())

    def __call__(self, query: str) -> list[str]:
        points: dict[int, float] = defaultdict(float)
        for word in self.words(query):
            post = self.posts.get(word, ())
            weight = math.log(1 + (len(self.ids) - len(post) + 0.5) / (len(post) + 0.5))
            for at, count in post:
                points[at] += (
                    weight * count * 2.5 / (count + 1.5 * (0.25 + 0.75 * self.lengths[at] / self.usual))
                )
        return [self.ids[at] for at in sorted(points, key=lambda at: -points[at])[:10]]


def judged(ranked: Ranked, rows: Sequence[Row], any_of_five: bool) -> tuple[float, float, float]:
    """Give the sums of hit@1, the share of the right ones among five (or whether any is), and nDCG@10."""
    first = five = gain = 0.0
    for row in rows:
        right = set(row["relevant"])
        got = ranked(row["query"])[:10]
        first += bool(got) and got[0] in right
        among = sum(one in right for one in got[:5])
        five += bool(among) if any_of_five else among / len(right)
        best = sum(1 / math.log2(at + 2) for at in range(min(10, len(right))))
        gain += sum(1 / math.log2(at + 2) for at, one in enumerate(got) if one in right) / best
    return first, five, gain


def auroc(scores: Sequence[float], right: Sequence[bool]) -> float:
    """Give how likely a covered one scores above a gap."""
    order = sorted(range(len(scores)), key=lambda at: scores[at])
    ranks = [0.0] * len(scores)
    at = 0
    while at < len(order):
        end = at
        while end + 1 < len(order) and scores[order[end + 1]] == scores[order[at]]:
            end += 1
        for one in range(at, end + 1):
            ranks[order[one]] = (at + end) / 2 + 1
        at = end + 1
    yes = sum(right)
    no = len(right) - yes
    if not yes or not no:
        return math.nan
    return (sum(rank for rank, one in zip(ranks, right, strict=True) if one) - yes * (yes + 1) / 2) / (
        yes * no
    )


def quality(folder: Folder, sets: Sequence[str], ways: Callable[[list[Row]], dict[str, Ranked]]) -> None:
    """Print the table of the sets; a set's queries may be meant for several corpora."""
    sums: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(lambda: [0.0, 0.0, 0.0]))
    counts: Counter[str] = Counter()
    meant = [(name, row) for name in sets for row in folder.queries(name)]
    for kind in dict.fromkeys(row["corpus"] for _, row in meant):
        rows = folder.corpus(kind)
        asked = {name: [row for of, row in meant if of == name and row["corpus"] == kind] for name in sets}
        if not rows:
            for name in filter(asked.get, sets):
                print(f"{name}: {len(asked[name])} queries are left out: there is no corpus_{kind}.")
            continue
        ids = {row["id"] for row in rows}
        found = ways(rows)
        for name in filter(asked.get, sets):
            right = [one for row in asked[name] for one in row["relevant"]]
            if unknown := sum(one not in ids for one in right):
                print(f"{name}: {unknown} of {len(right)} ids in 'relevant' are not in corpus_{kind}.")
            counts[name] += len(asked[name])
            for way, ranked in found.items():
                some = judged(ranked, asked[name], name == "need")
                sums[way][name] = [one + more for one, more in zip(sums[way][name], some, strict=True)]
    if not counts:
        print("There is no set of queries with its corpus: no table.")
        return
    print(f"{'':18}" + "".join(f"{name[:19]:>20}" for name in sets) + f"{'mean nDCG':>12}")
    for way, of in sums.items():
        values = {name: [value / counts[name] for value in of[name]] for name in sets if counts[name]}
        cells = [
            "/".join(f"{value:.3f}" for value in values[name]) if name in values else "-" for name in sets
        ]
        mean = statistics.fmean(found[2] for found in values.values())
        print(f"{way:18}{''.join(f'{cell:>20}' for cell in cells)}{mean:12.4f}")
    print(
        f"hit@1/R@5/nDCG@10, of need hit@5 in the middle; the mean is that of {len(counts)} "
        f"of {len(sets)} sets, {counts.total()} queries"
    )


def servers(folder: Folder, sets: Sequence[str]) -> None:
    """Print how often the right server is found."""
    meant = [row for name in sets for row in folder.queries(name) if row.get("relevant_servers")]
    first = five = count = 0
    for kind in dict.fromkeys(row["corpus"] for row in meant):
        listed, tools = folder.corpus(f"{kind.removesuffix('_tools')}_servers"), folder.corpus(kind)
        if not listed or not tools:
            continue
        entries, index = Index(), index_of(documents_of(tools))
        for row in listed:
            entries.put(row["id"], [entry_document(row)])
        for row in meant:
            if row["corpus"] != kind:
                continue
            found = rank_servers(index.search(row["query"], 50), entries.search(row["query"], 50), 5)
            got = [one.server for one in found]
            right = set(row["relevant_servers"])
            count += 1
            first += bool(got) and got[0] in right
            five += any(one in right for one in got)
    if not count:
        print("servers: no queries with 'relevant_servers' and a corpus of servers")
        return
    print(f"servers: hit@1 {first / count:.3f}  hit@5 {five / count:.3f}")


def entry_document(row: Row) -> Document:
    """Make a document of a registry entry."""
    return Document(
        row["id"], row["name"], row["id"], row.get("title") or "", row.get("description") or "", ""
    )


def precision(claims: Sequence[tuple[str, str]]) -> str:
    """Say how often each claim is made, and how often it is right."""
    said = []
    for label in ("covered", "gap"):
        made = [truth for claim, truth in claims if claim == label]
        right = f"{sum(truth == label for truth in made) / len(made):.3f}" if made else "-"
        said.append(f"{label} said of {len(made) / len(claims):.3f}, right {right}")
    return "; ".join(said)


def told(name: str, rows: Sequence[Row], judgements: Sequence[tuple[str, float]]) -> None:
    """Print how well it was told what is covered."""
    right = [row["label"] == "covered" for row in rows]
    value = auroc([score for _, score in judgements], right)
    claims = [(label, row["label"]) for (label, _), row in zip(judgements, rows, strict=True)]
    print(f"{name + ':':14} AUROC {'-' if math.isnan(value) else f'{value:.4f}'}  {precision(claims)}")


def gap_installed(folder: Folder) -> None:
    """Print whether simulated installs are judged rightly, beside a catalog that has everything."""
    rows = folder.queries("gap_installed")
    documents = documents_of(folder.corpus("mcp_tools"))
    if not rows or not documents:
        print("gap_installed: no gap_installed with corpus_mcp_tools")
        return
    catalog = index_of(documents)
    judgements = []
    for row in rows:
        home = index_of({name: documents.get(name, []) for name in row["installed_servers"]})
        judgements.append(judge(row["query"], home, catalog))
    told("gap_installed", rows, judgements)
    unknown("gap_installed", [one for row in rows for one in row["installed_servers"]], documents)


def judge(query: str, home: Index, catalog: Index) -> tuple[str, float]:
    """Give the label, and how likely it is covered."""
    found = assess(
        home.search(query, 10, weighed_by=catalog),
        catalog.search(query, 10, weighed_by=home),
    )
    return found.label, found.likely


def gap_offered(folder: Folder) -> None:
    """Print whether a handful of offered tools is judged rightly."""
    rows = folder.queries("gap_offered")
    by_id = {row["id"]: row for row in folder.corpus("bfcl_tools")}
    if not rows or not by_id:
        print("gap_offered: no gap_offered with corpus_bfcl_tools")
        return
    whole = index_of(documents_of(list(by_id.values())))
    judgements = []
    for row in rows:
        home = index_of(documents_of([by_id[one] for one in row["offered"] if one in by_id]))
        judgements.append(judge(row["query"], home, whole))
    told("gap_offered", rows, judgements)
    unknown("gap_offered", [one for row in rows for one in row["offered"]], by_id)


def unknown(name: str, ids: Sequence[str], known: Collection[str]) -> None:
    """Say of how many ids there is nothing."""
    if count := sum(one not in known for one in ids):
        print(f"{name}: {count} of {len(ids)} ids are not in the corpus")


def repeated(rows: list[Row], count: int) -> list[Row]:
    """Repeat a corpus with altered ids until there are so many."""
    found: list[Row] = []
    turn = 0
    while len(found) < count and rows:
        tail = f"-{turn}" if turn else ""
        for row in rows[: count - len(found)]:
            found.append({**row, "id": row["id"] + tail, "server": row["server"] + tail})
        turn += 1
    return found


def speed(folder: Folder, sets: Sequence[str]) -> None:
    """Print what 20,000 tools cost."""
    rows = repeated(folder.corpus("mcp_tools"), TOOLS)
    if not rows:
        print(f"{TOOLS} tools: no corpus_mcp_tools to make them of")
        return
    queries = [row["query"] for name in sets for row in folder.queries(name)[:71]]
    began, spent = time.perf_counter(), time.thread_time()
    index = index_of(documents_of(rows))
    built, spent = time.perf_counter() - began, time.thread_time() - spent
    print(
        f"{len(rows)} tools: built in {built:.2f} s ({spent:.2f} s of processor), "
        f"{index.size / 1e6:.1f} MB in SQLite, fresh process grown by {grown(folder.path) / 1e6:.1f} MB"
    )
    needs = [row["query"] for row in folder.queries("need")]
    for what, some in (("needs", needs * 5), ("all sets alike", queries * 2)):
        if not some:
            continue
        index.search("warm up")
        wall, processor = [], []
        for query in some:
            began, spent = time.perf_counter(), time.thread_time()
            index.search(query)
            wall.append((time.perf_counter() - began) * 1000)
            processor.append((time.thread_time() - spent) * 1000)
        for kind, took in (("wall", sorted(wall)), ("processor", sorted(processor))):
            p99 = took[math.ceil(0.99 * len(took)) - 1]
            print(f"search, {what}, {kind} time: p50 {statistics.median(took):.2f} ms  p99 {p99:.2f} ms")


def grown(folder: Path) -> int:
    """Give the bytes by which a fresh process grows by an index; one that ran for long has room from before."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(growth, folder).result()


def growth(folder: Path) -> int:
    """Build the index a server at a time, so that nothing of its making is left, and search once."""
    process = psutil.Process()
    index = Index()
    rows = repeated(Folder(folder).corpus("mcp_tools"), TOOLS)
    packed = [zlib.compress(pickle.dumps((server, some))) for server, some in documents_of(rows).items()]
    del rows
    gc.collect()
    trim()
    before = process.memory_info().rss
    for one in packed:
        server, some = pickle.loads(zlib.decompress(one))
        index.put(server, some)
    index.search("warm up")
    gc.collect()
    trim()
    return process.memory_info().rss - before


def trim() -> None:
    """Give back to the system what is free, where the C library can."""
    if sys.platform == "linux":
        give = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if give is not None:
            give(0)


def chinese() -> None:
    """Print what pairs of characters are worth, beside single ones and SQLite's own trigrams."""
    from benchmarks.search_chinese import compared

    for way, first, five in compared():
        print(f"chinese, {way:22} hit@1 {first:.3f}  hit@5 {five:.3f}")


def keys(found: Sequence[Hit]) -> list[str]:
    """Give the ids of what was found."""
    return [one.key for one in found]


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--semantic", action="store_true", help="also with toolscore[semantic], where installed"
    )
    parser.add_argument("--sets", help="only these sets of queries, with commas between; no other figures")
    asked = parser.parse_args()
    try:
        folder = Folder(asked.folder)
        measure(folder, asked.sets and [name for name in asked.sets.split(",") if name], asked.semantic)
    except BrokenFileError as exc:
        parser.exit(2, f"{exc}\n")


def measure(folder: Folder, only: Sequence[str] | None, by_meaning: bool) -> None:
    """Print all figures that the folder has data for."""

    def ways(rows: list[Row]) -> dict[str, Ranked]:
        index = index_of(documents_of(rows))
        found: dict[str, Ranked] = {
            "plain BM25": Blob(rows),
            "toolscore": lambda query: keys(index.search(query)),
        }
        if by_meaning:
            found["with the model"] = semantic(rows)
        return found

    sets = only or (*SETS, *folder.others)
    for name in only or ():
        if not folder.queries(name):
            raise BrokenFileError(f"There is no set '{name}' in {folder.path}.")
    if not any(map(folder.has, folder.files)):
        raise BrokenFileError(
            f"There is nothing to measure in {folder.path}: no corpus and no set of queries."
        )
    for note in folder.notes:
        print(note)
    quality(folder, sets, ways)
    if only:
        return
    servers(folder, sets)
    gap_installed(folder)
    gap_offered(folder)
    speed(folder, sets)
    chinese()


def semantic(rows: list[Row]) -> Ranked:
    """Give the search with the embedding, when everything is encoded."""
    from toolscore.tools.search.semantic import semantic_index

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "toolscore-bench"
    cache.mkdir(parents=True, exist_ok=True)
    index = semantic_index(cache)
    if index is None:
        raise SystemExit("The model is missing. Install the extra: toolscore[semantic]")
    for server, some in documents_of(rows).items():
        index.put(server, some)
    index.settle()
    return lambda query: keys(index.search(query))


if __name__ == "__main__":
    main()
