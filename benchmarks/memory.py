"""How fast memory saves and searches, and how well it finds: `python -m benchmarks.memory [--semantic N]`.

One user has `--messages N` messages, half English and half Chinese, made up by a fixed seed. In each fiftieth stands
something that is asked for later, in another order and among other words. Beside it, in the same run, is what many
do: LIKE over one column, for the query as it is and for any of its words. With `--semantic N`, N messages are found
by meaning too.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from toolscore.tools.memory.arguments import GetContext, SaveConversation, SearchMemory
from toolscore.tools.memory.limits import Limits
from toolscore.tools.memory.memory import Asker, Memory
from toolscore.tools.memory.shelf import Shelf

LEAST = 400
"""Messages without which there is nothing to take a median of."""

_ENGLISH = (
    "the meeting about budget moved to {} because {} was late and nobody had the {} report ready for review before "
    "lunch so we decided to ask {} again next week and write a short note for the team"
)
ENGLISH = _ENGLISH.split()
CHINESE = (
    "我们今天讨论了项目的进度然后决定下周再开会因为报告还没有写完需要大家一起检查数据并且更新文档里面的说明"
)
SYLLABLES = [a + b for a in "bcdfghklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "or", "el")]
RARE = [chr(0x4E00 + 37 * n) for n in range(500)]
ALICE = Asker("alice")
QUERIES = 400


class Talk:
    """Messages, and questions whose right answers are known."""

    def __init__(self, count: int) -> None:
        chance = random.Random(7)
        self.messages: list[str] = []
        self.asked: dict[str, list[tuple[str, int]]] = {"English": [], "Chinese": []}
        for at in range(count):
            english = at % 2 == 0
            text = self._english(chance) if english else self._chinese(chance)
            if at % 100 < 2:
                words = ["".join(chance.choices(SYLLABLES, k=3)) for _ in range(2)]
                names = ["".join(chance.choices(RARE, k=2)) for _ in range(2)]
                if english:
                    text += f" The {words[0]} of {words[1]} is kept in the drawer."
                    self.asked["English"].append((f"where is {words[1]}'s {words[0]} now?", at))
                else:
                    text += f"{names[0]}放在{names[1]}的抽屉里。"
                    self.asked["Chinese"].append((f"请问{names[1]}那边的{names[0]}在哪里？", at))
            self.messages.append(text)

    def _english(self, chance: random.Random) -> str:
        fill = ["".join(chance.choices(SYLLABLES, k=2)) for _ in range(4)]
        start = chance.randrange(8)
        return " ".join(word.replace("{}", chance.choice(fill)) for word in ENGLISH[start : start + 24])

    def _chinese(self, chance: random.Random) -> str:
        start = chance.randrange(12)
        return CHINESE[start : start + 30] + "".join(chance.choices(RARE, k=3))


def spread(took: list[float]) -> str:
    """Give the median and the 99th percentile in milliseconds."""
    cut = statistics.quantiles(took, n=100)
    return f"{1000 * statistics.median(took):7.2f} {1000 * cut[98]:8.2f}"


def timed(ask: Callable[[str], list[int]], asked: list[tuple[str, int]]) -> tuple[list[float], float]:
    """Ask all questions; give the seconds of each, and the share whose answer is among the first five."""
    took, right = [], 0
    for query, at in asked:
        began = time.perf_counter()
        found = ask(query)
        took.append(time.perf_counter() - began)
        right += at in found[:5]
    return took, right / len(asked)


def run(count: int, semantic: bool) -> None:
    """Measure with so many messages."""
    talk = Talk(count)
    with tempfile.TemporaryDirectory() as folder:
        shelf = Shelf(Path(folder) / "memory.db", Limits(messages=0, size=0))
        meant = None
        if semantic:
            from toolscore.tools.memory.meaning import Meant
            from toolscore.tools.search.encoder import encoder

            meant = Meant(shelf, encoder())
        memory = Memory(shelf, meant)
        plain = sqlite3.connect(Path(folder) / "plain.db", isolation_level=None)
        plain.executescript("PRAGMA journal_mode = WAL; CREATE TABLE m (n INTEGER PRIMARY KEY, t TEXT)")
        for at in range(0, count - QUERIES, 500):
            some = range(at, min(at + 500, count - QUERIES))
            save(memory, talk, list(some))
            plain.execute("BEGIN")
            plain.executemany("INSERT INTO m VALUES (?, ?)", [(n, talk.messages[n]) for n in some])
            plain.execute("COMMIT")
        alone, beside = [], []
        for n in range(max(count - QUERIES, 0), count):
            began = time.perf_counter()
            save(memory, talk, [n])
            alone.append(time.perf_counter() - began)
            began = time.perf_counter()
            plain.execute("INSERT INTO m VALUES (?, ?)", (n, talk.messages[n]))
            beside.append(time.perf_counter() - began)
        if meant is not None:
            began = time.perf_counter()
            meant.settle(36_000)
            print(f"vectors made in {time.perf_counter() - began:.0f} s after the last save")
        size = sum(path.stat().st_size for path in Path(folder).glob("memory.db*")) / (1 << 20)
        print(f"{count:,} messages, {size:.0f} MiB{', words and meaning' if meant else ''}")
        print(f"{'':34} p50 ms   p99 ms   found in the first 5")
        print(f"{'save one message':30} {spread(alone)}")
        print(f"{'  INSERT without an index':30} {spread(beside)}")

        def search(query: str) -> list[int]:
            hits = memory.call("search_memory", SearchMemory(query=query, limit=5), ALICE).document["hits"]
            return [int(hit["id"]) for hit in hits]

        def like(query: str) -> list[int]:
            return [n for (n,) in plain.execute("SELECT n FROM m WHERE t LIKE ? LIMIT 5", (f"%{query}%",))]

        def likes(query: str) -> list[int]:
            words = query.rstrip("?？").split()
            rule = " + ".join("(t LIKE ?)" for _ in words)
            ranked = f"SELECT n FROM m ORDER BY {rule} DESC LIMIT 5"
            return [n for (n,) in plain.execute(ranked, [f"%{word}%" for word in words])]

        for language, asked in talk.asked.items():
            for name, ask in (("search_memory", search), ("  LIKE", like), ("  LIKE any word", likes)):
                took, share = timed(ask, asked[: QUERIES if ask is search else 50])
                print(f"{f'{name}, {language}':30} {spread(took)}   {share:.0%}")
        took = []
        for query, _ in [*talk.asked["English"][:100], *talk.asked["Chinese"][:100]]:
            began = time.perf_counter()
            memory.call("get_context", GetContext(query=query, session="0"), ALICE)
            took.append(time.perf_counter() - began)
        print(f"{'get_context of 2,000 tokens':30} {spread(took)}")
        plain.close()
        if meant is not None:
            meant.close()
        shelf.close()


def save(memory: Memory, talk: Talk, some: list[int]) -> None:
    """Save messages, in one of fifty sessions."""
    messages = [{"role": "user", "content": talk.messages[n], "id": str(n)} for n in some]
    given = SaveConversation.model_validate({"messages": messages, "session": str(some[0] // 500 % 50)})
    memory.call("save_conversation", given, ALICE)


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--semantic", type=int, default=0, metavar="N")
    given = parser.parse_args()
    if given.messages < LEAST:
        parser.error(f"--messages is {LEAST} at the least, so that some are asked for in each language")
    run(given.messages, semantic=False)
    if given.semantic:
        run(given.semantic, semantic=True)


if __name__ == "__main__":
    main()
