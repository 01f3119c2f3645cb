"""A runtime that reasons: a model writes Python that calls tools, until it has the answer.

    toolscore start --listen ws://127.0.0.1:8765/mcp --set sandbox.tools='*' --set network.rights=call,manage
    export TOOLSCORE_TOKEN=$(toolscore token show) MODEL_API_KEY=...
    python examples/reasoning_runtime.py "What time is it in Tokyo?" --endpoint https://HOST/v1 --model NAME

`--api openai` is any endpoint with `chat/completions` and tools, `--api anthropic` any with `messages`. It finds out
what is missing for the task and has it installed (asks, unless `--yes`; the policy holds in any case), lets the model
write code that runs in ToolScore's sandbox with the tools as functions (the setting `sandbox.tools` allows that),
gives errors back to it, keeps to limits of steps, tokens and time, and saves the trajectory as JSON lines. The answer
is on standard output; the exit status is 1 without one, 130 after Ctrl-C. More is in docs/runtimes.md.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import secrets
import sys
import threading
import time
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from reasoning_model import Message, Model, ModelError, UnreadableError

from toolscore.client import CallError, Gaps, JSONRPCError, PythonSession, Tool, ToolScore, WebSocketError

SYSTEM = """You solve the user's task by writing Python, which you run with the function run_python. It runs in a \
sandbox without network; variables stay from one call to the next. Tools are functions of the module toolscore_tools:
{tools}
Characters of names that Python does not allow are _ there, and call_tool("server__tool", {{...}}) takes full names. \
A function gives the tool's structured result or its text,
and raises ToolError. The value of the last expression and what is printed come back to you: print what you need, and
work on results in code instead of repeating them. When you know the answer, say it without calling run_python."""
NUDGE = (
    "That was cut off, or neither an answer nor a call of run_python with code. Say the answer, or run code."
)
AFRESH = "this is a new session: variables and files of the one before are gone"
SHOWN = 8000
"""Characters of an execution that the model is shown."""

GARBAGE = 3
"""Answers in a row that are of no use, after which it is given up."""

PAGE, MOST = 200, 5000
"""Steps that are asked for at once, and that are kept: the last ones."""

SCORED = ("score", "expected", "successes", "failures", "p50", "p90")


class Trajectory:
    """What was done, as JSON lines; those of type `step` are steps of docs/journal.md."""

    def __init__(self, task: str, model: Model) -> None:
        self.session = f"reasoning-{secrets.token_hex(8)}"
        self.trace = secrets.token_hex(16)
        self.lines: list[Message] = []
        self.executions = 0
        self._begun = time.perf_counter()
        self._masked = model.masked
        about = {"session": self.session, "trace": self.trace, "task": task}
        self.add(
            "episode", schema="toolscore.trajectory", version=1, **about, model=model.name, api=model.api
        )

    def add(self, kind: str, **members: Any) -> None:
        """Add a line."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        after = round(time.perf_counter() - self._begun, 3)
        self.lines.append({"type": kind, "time": now, "after": after, **members})

    async def collect(self, ts: ToolScore) -> None:
        """Add what the journal has of this session, the calls that code made among it, and the tools' scores."""
        try:
            await self._collect(ts)
        except (JSONRPCError, ConnectionError) as exc:  # the answer was paid for
            self.add("note", text=f"what the code called is not known: {exc}")

    async def _collect(self, ts: ToolScore) -> None:
        records, problem = await self._steps(ts)
        if problem:
            self.add("note", text=problem)
        index = {record.get("span"): number for number, record in enumerate(records)}
        for number, record in enumerate(records):
            self.lines.append({"type": "step", **_step(number, record, index)})
        for name in sorted({record["tool"] for record in records if record.get("server") != "toolscore"}):
            told = await ts.call("tool_score", {"tool": name})
            if told.ok and told.structured["scores"]:
                score = told.structured["scores"][0]
                self.add("score", tool=name, **{key: score[key] for key in SCORED})

    async def _steps(self, ts: ToolScore) -> tuple[list[Message], str]:
        """Give what the journal has, in the order it began, and what is to be said about that."""
        found: dict[str, Message] = {}
        query: Message = {"session": self.session, "contents": True, "limit": PAGE}
        deadline = time.monotonic() + 20  # the journal is written a moment after the calls
        problem = ""
        while True:
            read = await ts.call("read_journal", query)
            if not read.ok:  # a policy may hide it
                problem = f"what the code called is not known: {read.text}"
                break
            page = read.structured["records"]
            before = len(found)
            found |= {one["id"]: one for one in page if one.get("method") == "tools/call"}
            if "until" not in query and time.monotonic() < deadline:
                ran = [one for one in found.values() if str(one.get("tool")).endswith("__python_execute")]
                if len(ran) < self.executions and len(page) < PAGE:
                    await asyncio.sleep(0.1)
                    continue
            if len(page) < PAGE or len(found) == before:
                break
            if len(found) >= MOST:
                problem = f"of what the code called only the last {len(found)} steps are here"
                break
            # They come in the order they ended in: those that are left began before the first of these ended.
            took = timedelta(seconds=(page[0].get("seconds") or 0.0) + 0.001)
            query["until"] = (datetime.fromisoformat(page[0]["time"]) + took).isoformat()
        return sorted(found.values(), key=lambda record: record["time"]), problem

    def save(self, file: Path) -> None:
        """Write it, whole or not at all, readable by its owner only: it has all that tools said."""
        part = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            descriptor = os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as out:
                out.writelines(
                    self._masked(json.dumps(line, ensure_ascii=False)) + "\n" for line in self.lines
                )
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)


def _step(number: int, record: Message, index: dict[Any, int]) -> Message:
    result = record.get("result") if isinstance(record.get("result"), dict) else {}
    assert isinstance(result, dict)
    outcome, cut = record.get("outcome") or "", record.get("cut") or {}
    action = {"method": record["method"], "tool": record["tool"], "arguments": record.get("arguments")}
    observation = {"outcome": outcome, "is_error": outcome != "ok", "content": result.get("content")}
    observation |= {"structured": result.get("structuredContent"), "error": record.get("error")}
    return {
        "index": number,
        "id": record["id"],
        "time": record["time"],
        "parent": index.get(record.get("parent")),
        "action": {**action, "truncated": cut.get("arguments")},
        "observation": {**observation, "truncated": cut.get("result")},
        "seconds": record.get("seconds") or 0.0,
        "server": {"name": record.get("server") or "", "version": record.get("version")},
        "trace": record.get("trace") or "",
    }


class Runtime:
    """From a task to an answer."""

    def __init__(self, given: argparse.Namespace, model: Model) -> None:
        self._given, self._model = given, model
        self.trajectory = Trajectory(given.task, model)
        self._installing = False
        self._python: PythonSession | None = None

    async def asked(self, params: Message) -> Message:
        """Answer what ToolScore, or a tool, asks the user: only yes or no, and by default no."""
        wanted = (params.get("requestedSchema") or {}).get("properties") or {}
        yes = self._installing and self._given.yes
        if not yes and set(wanted) <= {"allow"} and sys.stdin.isatty():
            question = "".join(one if one.isprintable() else " " for one in str(params.get("message")))
            yes = (await typed(f"{question}\nAllow it? [y/N] ")).strip().lower() in ("y", "yes")
        self.trajectory.add("question", message=params.get("message"), allowed=yes)
        return {"action": "accept", "content": dict.fromkeys(wanted, True)} if yes else {"action": "decline"}

    async def equip(self, ts: ToolScore) -> list[Tool]:
        """Find what there is for the task, and have installed what is missing."""
        gaps: Gaps = await ts.find_gaps(self._given.task)
        if gaps.offers:
            self._installing = True
            try:
                way = "allowed" if self._given.yes else "ask"
                gaps = await ts.ensure_tools(self._given.task, install=way, timeout=self._given.max_seconds)
            finally:
                self._installing = False
        if gaps.label != "covered" and gaps.next:
            print(gaps.next, file=sys.stderr)
        self.trajectory.add("tools", label=gaps.label, needs=gaps.raw.get("needs"), done=list(gaps.done))
        found = {tool.name: tool for tool in gaps.tools}
        with suppress(CallError):  # a task without a word that could be searched for
            for tool in await ts.search(self._given.task, limit=10):
                found.setdefault(tool.name, tool)
        own = ("toolscore", "python-executor")
        return [tool for tool in found.values() if tool.server not in own and tool.quarantined is None]

    async def run(self) -> str:
        """Give the answer.

        Raises:
            ModelError: If the model cannot be had, or a limit was reached before it had an answer.
            CallError: If ToolScore refused what is needed.
        """
        given, status, answer, problem = self._given, "failed", "", ""
        token = os.environ.get("TOOLSCORE_TOKEN", "").strip() or None
        late = f"no answer within {given.max_seconds:g} s (--max-seconds)"
        try:
            async with ToolScore.connect(given.toolscore, token=token, on_elicitation=self.asked) as ts:
                view = ts.within(session=self.trajectory.session, trace=self.trajectory.trace)
                try:
                    async with asyncio.timeout(given.max_seconds):
                        tools = await self.equip(view)
                        answer = await self._reason(view, tools)
                    status = "answered"
                except TimeoutError:
                    raise ModelError(late, "seconds") from None
                finally:
                    await self.trajectory.collect(ts)
        except asyncio.CancelledError:
            status = "interrupted"
            raise
        except Exception as exc:
            status, problem = exc.status if isinstance(exc, ModelError) else status, str(exc)
            raise
        finally:
            tokens = self._model.tokens
            self.trajectory.add("end", status=status, answer=answer, error=problem or None, tokens=tokens)
            try:
                self.trajectory.save(given.save)
            except OSError as exc:  # the answer was paid for
                print(f"error: the trajectory was not saved: {exc}", file=sys.stderr)
        return answer

    async def _reason(self, ts: ToolScore, tools: list[Tool]) -> str:
        lines = []
        for tool in tools:
            schema = json.dumps(tool.input_schema or {}, ensure_ascii=False)
            lines.append(f"- {tool.name.replace('__', '.', 1)}({schema}): {tool.description}")
        system = SYSTEM.format(
            tools="\n".join(lines) or "- none fits; call help(toolscore_tools) to see what there is"
        )
        messages: list[Message] = [{"role": "user", "content": self._given.task}]
        self.trajectory.add("message", role="system", content=system)
        self.trajectory.add("message", **messages[0])
        garbage = 0
        async with AsyncExitStack() as self._sessions:
            for _number in range(self._given.max_steps):
                if self._model.tokens >= self._given.max_tokens:
                    raise ModelError(
                        f"no answer within {self._given.max_tokens} tokens (--max-tokens)", "tokens"
                    )
                try:
                    said, text, calls = await self._model.ask(system, messages)
                except UnreadableError as exc:
                    if (garbage := garbage + 1) >= GARBAGE:
                        raise
                    self.trajectory.add("garbage", error=str(exc))
                    continue
                self.trajectory.add("message", tokens=self._model.tokens, **said)
                if not calls and text.strip():
                    return text.strip()
                if not calls or any(code is None for _call, code in calls):
                    if (garbage := garbage + 1) >= GARBAGE:
                        raise ModelError(f"the model said nothing of use {GARBAGE} times in a row")
                else:
                    garbage = 0
                messages += [said] if calls else []
                results = [(call, *await self._ran(ts, code)) for call, code in calls]
                told = self._model.told(results) if calls else [{"role": "user", "content": NUDGE}]
                if not calls and messages[-1] == told[0]:
                    told = []  # it was told that already
                for message in told:
                    self.trajectory.add("message", **message)
                messages += told
        raise ModelError(f"no answer within {self._given.max_steps} steps (--max-steps)", "steps")

    async def _ran(self, ts: ToolScore, code: str | None) -> tuple[str, bool]:
        """Run code, and give what the model is told of it, and whether it is an error."""
        if code is None:
            return NUDGE, True
        print(f"--- code\n{code}\n---", file=sys.stderr)
        new = self._python is None
        if self._python is None:
            self._python = await self._sessions.enter_async_context(ts.python())
        done = await self._python.run(code)
        if done.result.refused and self._python.id in done.result.text and not new:
            self._python = None  # it is over, as after a limit, and nothing was run
            text, error = await self._ran(ts, code)
            return f"note: {AFRESH}\n{text}", error
        self.trajectory.executions += 0 if done.result.refused else 1
        parts = [f"status: {done.status}", *(f"note: {note}" for note in done.notes)]
        parts += [f"value: {done.repr}"] if done.repr and done.repr != "None" else []
        parts += [
            f"{name}:\n{text}" for name, text in (("stdout", done.stdout), ("stderr", done.stderr)) if text
        ]
        if done.error:
            parts.append(f"error:\n{done.error}")
            print(done.error, file=sys.stderr)  # such as a setting that is missing
        text = "\n".join(parts)
        if len(text) > SHOWN:
            text = f"{text[: SHOWN // 2]}\n[{len(text) - SHOWN} characters left out]\n{text[-SHOWN // 2 :]}"
        return text, not done.ok


async def typed(prompt: str) -> str:
    """Give a line from the terminal. Neither Ctrl-C nor the end of the time waits for its thread."""
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str] = loop.create_future()

    def came(said: str) -> None:
        if not line.done():
            line.set_result(said)

    def read() -> None:
        said = os.read(sys.stdin.fileno(), 1000).decode(errors="replace")
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(came, said)

    print(prompt, end="", file=sys.stderr, flush=True)
    threading.Thread(target=read, daemon=True).start()
    return await line


def main(words: list[str] | None = None) -> int:
    """Run a task; the answer is on standard output."""
    about, _, more = (__doc__ or "").partition("\n\n")
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=about, epilog=more, formatter_class=plain)
    parser.add_argument("task", help="in words of any language")
    parser.add_argument("--endpoint", required=True, help="such as https://HOST/v1")
    parser.add_argument("--model", required=True, help="its name there")
    parser.add_argument("--api", choices=("openai", "anthropic"), default="openai", help="(%(default)s)")
    parser.add_argument(
        "--key-variable", default="MODEL_API_KEY", help="what holds the endpoint's key (%(default)s)"
    )
    parser.add_argument(
        "--toolscore", nargs="+", default=["ws://127.0.0.1:8765/mcp"], help="ws://127.0.0.1:8765/mcp"
    )
    parser.add_argument("--yes", action="store_true", help="install what is missing without asking")
    parser.add_argument("--max-steps", type=int, default=12, help="answers of the model (%(default)s)")
    parser.add_argument("--max-seconds", type=float, default=300.0, help="(%(default)s)")
    parser.add_argument("--max-tokens", type=int, default=200_000, help="of all requests (%(default)s)")
    parser.add_argument("--request-seconds", type=float, default=60.0, help="for one answer (%(default)s)")
    parser.add_argument("--save", type=Path, default=Path("trajectory.jsonl"), help="(%(default)s)")
    given = parser.parse_args(words)
    if not given.endpoint.startswith(("http://", "https://")):
        parser.error("--endpoint begins with http:// or https://")
    if not all(one.startswith(("ws://", "wss://")) for one in given.toolscore):
        parser.error("--toolscore: an address begins with ws:// or wss://")
    if not given.save.parent.is_dir():
        parser.error(f"--save: there is no folder {given.save.parent}")
    key = os.environ.get(given.key_variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        parser.error(f"the variable {given.key_variable} holds characters that no key has")

    async def run() -> str:
        model = Model(given.endpoint, given.model, given.api, key, given.request_seconds)
        try:
            return await Runtime(given, model).run()
        finally:
            await model.close()

    try:
        print(asyncio.run(run()))
    except (ModelError, CallError, JSONRPCError, WebSocketError) as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted; what was done is in {given.save}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(
            errors="backslashreplace"
        )  # an answer in a language the terminal does not know
    sys.exit(main())
