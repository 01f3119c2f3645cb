"""A runtime that reasons: a model writes Python that calls tools, until it has the answer.

    toolscore start --listen ws://127.0.0.1:8765/mcp
    export TOOLSCORE_TOKEN=$(toolscore token show) MODEL_API_KEY=...
    python examples/reasoning_runtime.py "What time is it in Tokyo?" --endpoint https://HOST/v1 --model NAME

`--api openai` is any endpoint with `chat/completions` and tools, `--api anthropic` any with `messages`. It finds out
what is missing for the task and has it installed (asks, unless `--yes`; the policy holds in any case), lets the model
write code that runs in ToolScore's sandbox with the tools as functions (the setting `sandbox.tools` allows that),
gives errors back to it, keeps to limits of steps, tokens and time, and saves the trajectory as JSON lines.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import secrets
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2

from toolscore.client import CallError, Gaps, JSONRPCError, Tool, ToolScore, WebSocketError

Message = dict[str, Any]
Calls = list[tuple[str, str | None]]

SYSTEM = """You solve the user's task by writing Python, which you run with the function run_python. It runs in a \
sandbox without network; variables stay from one call to the next. Tools are functions of the module toolscore_tools:
{tools}
Characters of names that Python does not allow are _ there. A function gives the tool's structured result or its text,
and raises ToolError. The value of the last expression and what is printed come back to you: print what you need, and
work on results in code instead of repeating them. When you know the answer, say it without calling run_python."""
RUN = {
    "name": "run_python",
    "description": "Run Python in the sandbox. The value of the last expression, the output and errors come back.",
    "schema": {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]},
}
NUDGE = "That was neither an answer nor a call of run_python with code. Say the answer, or run code."
SHOWN = 8000
"""Characters of an execution that the model is shown."""

GARBAGE = 3
"""Answers in a row that are of no use, after which it is given up."""

TRIES, LONGEST_PAUSE = 5, 20.0
COUNTED = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")
SCORED = ("score", "expected", "successes", "failures", "p50", "p90")


class ModelError(Exception):
    """The model cannot be had, says nothing of use, or did not come to an end within a limit: its `status`."""

    def __init__(self, text: str, status: str = "failed") -> None:
        super().__init__(text)
        self.status = status


class Model:
    """A model behind an HTTP endpoint, in one of two dialects."""

    def __init__(self, endpoint: str, model: str, api: str, key: str, timeout: float) -> None:
        self.name, self.api, self.tokens, self._key = model, api, 0, key
        headers = {"authorization": f"Bearer {key}"} if key else {}
        if api == "anthropic":
            headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
        self._url = endpoint.rstrip("/") + ("/messages" if api == "anthropic" else "/chat/completions")
        self._http = httpx2.AsyncClient(headers=headers, timeout=timeout)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def masked(self, text: str) -> str:
        """Give a text without the key, which an endpoint, or the model, may repeat."""
        for form in {self._key, json.dumps(self._key, ensure_ascii=False)[1:-1]} - {""}:
            text = text.replace(form, "[key]")
        return text

    def body(self, system: str, messages: list[Message]) -> Message:
        """Give the request."""
        if self.api == "anthropic":
            tool = {"name": RUN["name"], "description": RUN["description"], "input_schema": RUN["schema"]}
            said = {"system": system, "messages": messages, "tools": [tool], "max_tokens": 4096}
        else:
            function = {"name": RUN["name"], "description": RUN["description"], "parameters": RUN["schema"]}
            first = {"role": "system", "content": system}
            said = {"messages": [first, *messages], "tools": [{"type": "function", "function": function}]}
        return {"model": self.name, **said}

    async def ask(self, system: str, messages: list[Message]) -> tuple[Message, str, Calls]:
        """Give the model's message, its text, and by the ids of its calls the code to run (`None`: unreadable)."""
        reply = await self._post(self.body(system, messages))
        try:
            usage = reply.get("usage") or {}
            self.tokens += sum(int(usage.get(name) or 0) for name in COUNTED)
            if self.api == "anthropic":
                blocks = reply["content"]
                text = "".join(block["text"] for block in blocks if block["type"] == "text")
                found = [(one["id"], _code(one["input"])) for one in blocks if one["type"] == "tool_use"]
                return {"role": "assistant", "content": blocks}, text, found
            message = reply["choices"][0]["message"]
            calls = message.get("tool_calls") or []
            found = [(call["id"], _code(call["function"]["arguments"])) for call in calls]
            text = message.get("content") or ""
            if not isinstance(text, str):  # some give a list of parts
                text = "".join(part.get("text") or "" for part in text)
            return {"role": "assistant", **message}, text, found
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as exc:
            raise ModelError(f"the model's answer cannot be read ({type(exc).__name__}: {exc})") from exc

    def told(self, results: list[tuple[str, str, bool]]) -> list[Message]:
        """Give the messages that tell the model what came of its calls: id, text, and whether it is an error."""
        if self.api == "anthropic":
            blocks = [
                {"type": "tool_result", "tool_use_id": call, "content": text, "is_error": error}
                for call, text, error in results
            ]
            return [{"role": "user", "content": blocks}]
        return [{"role": "tool", "tool_call_id": call, "content": text} for call, text, _error in results]

    async def _post(self, body: Message) -> Message:
        """Send a request, again after 408, 409, 429, 5xx, a broken line or no answer."""
        problem = ""
        for number in range(TRIES):
            pause = min(2.0**number, LONGEST_PAUSE) * random.uniform(0.1, 0.5)  # noqa: S311 - no secret
            try:
                answer = await self._http.post(self._url, json=body)
            except httpx2.HTTPError as exc:
                problem = f"{type(exc).__name__} {exc}".strip()
            else:
                if answer.status_code == 200:
                    try:
                        reply = answer.json()
                        return reply if isinstance(reply, dict) else {}
                    except ValueError:
                        return {}
                problem = f"HTTP {answer.status_code}: {self.masked(answer.text)[:300]}"
                if answer.status_code not in (408, 409, 429) and answer.status_code < 500:
                    raise ModelError(f"the endpoint refused: {problem}")
                after = answer.headers.get("retry-after", "")
                pause = min(float(after), LONGEST_PAUSE) if after.replace(".", "", 1).isdecimal() else pause
            await asyncio.sleep(pause)
        raise ModelError(f"the endpoint gave no answer in {TRIES} tries: {problem}")


def _code(given: Any) -> str | None:
    try:
        said = json.loads(given) if isinstance(given, str) else given
    except ValueError:
        return None
    code = said.get("code") if isinstance(said, dict) else None
    return code if isinstance(code, str) and code.strip() else None


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
        query = {"session": self.session, "contents": True, "limit": 200}
        records: list[Message] = []
        deadline = time.monotonic() + 5  # the journal is written a moment after the calls
        while time.monotonic() < deadline:
            read = await ts.call("read_journal", query)
            if not read.ok:  # a policy may hide it
                self.add("note", text=f"what the code called is not known: {read.text}")
                return
            records = [one for one in read.structured["records"] if one.get("method") == "tools/call"]
            ran = [record for record in records if str(record.get("tool")).endswith("__python_execute")]
            if len(ran) >= self.executions:
                break
            await asyncio.sleep(0.1)
        records.sort(key=lambda record: record["time"])
        index = {record.get("span"): number for number, record in enumerate(records)}
        for number, record in enumerate(records):
            self.lines.append({"type": "step", **_step(number, record, index)})
        for name in sorted({record["tool"] for record in records if record.get("server") != "toolscore"}):
            told = await ts.call("tool_score", {"tool": name})
            if told.ok and told.structured["scores"]:
                score = told.structured["scores"][0]
                self.add("score", tool=name, **{key: score[key] for key in SCORED})

    def save(self, file: Path) -> None:
        """Write it, whole or not at all, readable by its owner only: it has all that tools said."""
        part = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            with os.fdopen(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as out:
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
        given, status, answer = self._given, "failed", ""
        token, late = (
            os.environ.get("TOOLSCORE_TOKEN"),
            f"no answer within {given.max_seconds:g} s (--max-seconds)",
        )
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
        except ModelError as exc:
            status = exc.status
            raise
        except asyncio.CancelledError:
            status = "interrupted"
            raise
        finally:
            self.trajectory.add("end", status=status, answer=answer, tokens=self._model.tokens)
            try:
                self.trajectory.save(given.save)
            except OSError as exc:  # the answer was paid for
                print(f"error: the trajectory was not saved: {exc}", file=sys.stderr)
        return answer

    async def _reason(self, ts: ToolScore, tools: list[Tool]) -> str:
        lines = [
            f"- {t.name.replace('__', '.', 1)}({json.dumps(t.input_schema or {})}): {t.description}"
            for t in tools
        ]
        system = SYSTEM.format(
            tools="\n".join(lines) or "- none fits; call help(toolscore_tools) to see what there is"
        )
        messages: list[Message] = [{"role": "user", "content": self._given.task}]
        self.trajectory.add("message", role="system", content=system)
        self.trajectory.add("message", **messages[0])
        garbage = 0
        async with ts.python() as python:
            for _number in range(self._given.max_steps):
                if self._model.tokens >= self._given.max_tokens:
                    raise ModelError(
                        f"no answer within {self._given.max_tokens} tokens (--max-tokens)", "tokens"
                    )
                try:
                    said, text, calls = await self._model.ask(system, messages)
                except ModelError as exc:
                    if (garbage := garbage + 1) >= GARBAGE or "cannot be read" not in str(exc):
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
                results = [(call, *await self._ran(python, code)) for call, code in calls]
                told = self._model.told(results) if calls else [{"role": "user", "content": NUDGE}]
                if not calls and messages[-1] == told[0]:
                    told = []  # it was told that already
                for message in told:
                    self.trajectory.add("message", **message)
                messages += told
        raise ModelError(f"no answer within {self._given.max_steps} steps (--max-steps)", "steps")

    async def _ran(self, python: Any, code: str | None) -> tuple[str, bool]:
        """Run code, and give what the model is told of it, and whether it is an error."""
        if code is None:
            return NUDGE, True
        print(f"--- code\n{code}\n---", file=sys.stderr)
        done = await python.run(code)
        self.trajectory.executions += 0 if done.result.refused else 1
        parts = [f"status: {done.status}", *(f"note: {note}" for note in done.notes)]
        parts += [f"value: {done.repr}"] if done.repr and done.repr != "None" else []
        parts += [
            f"{name}:\n{text}" for name, text in (("stdout", done.stdout), ("stderr", done.stderr)) if text
        ]
        parts += [f"error:\n{done.error}"] if done.error else []
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
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("task")
    parser.add_argument("--endpoint", required=True, help="such as https://HOST/v1")
    parser.add_argument("--model", required=True)
    parser.add_argument("--api", choices=("openai", "anthropic"), default="openai")
    parser.add_argument(
        "--key-variable", default="MODEL_API_KEY", help="the variable that holds the endpoint's key"
    )
    parser.add_argument("--toolscore", nargs="+", default=["ws://127.0.0.1:8765/mcp"], help="addresses")
    parser.add_argument("--yes", action="store_true", help="install what is missing without asking")
    parser.add_argument("--max-steps", type=int, default=12)
    parser.add_argument("--max-seconds", type=float, default=300.0)
    parser.add_argument("--max-tokens", type=int, default=200_000, help="of all requests together")
    parser.add_argument("--request-seconds", type=float, default=60.0, help="for one answer of the endpoint")
    parser.add_argument("--save", type=Path, default=Path("trajectory.jsonl"))
    given = parser.parse_args(words)
    if not given.endpoint.startswith(("http://", "https://")):
        parser.error("--endpoint begins with http:// or https://")
    if not given.save.parent.is_dir():
        parser.error(f"--save: there is no folder {given.save.parent}")
    key = os.environ.get(given.key_variable, "").strip()

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
    sys.exit(main())
