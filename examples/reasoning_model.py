"""The model of `reasoning_runtime.py`, behind any endpoint that speaks like OpenAI's or Anthropic's; no streaming."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import httpx2

Message = dict[str, Any]
Calls = list[tuple[str, str | None]]

RUN = {
    "name": "run_python",
    "description": "Run Python in the sandbox. The value of the last expression, the output and errors come back.",
    "schema": {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]},
}
TRIES, LONGEST_PAUSE = 5, 20.0
COUNTED = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")
CUT = ("length", "max_tokens")
REFUSED = ("content_filter", "refusal")


class ModelError(Exception):
    """The model cannot be had, says nothing of use, or did not come to an end within a limit: its `status`."""

    def __init__(self, text: str, status: str = "failed") -> None:
        super().__init__(text)
        self.status = status


class UnreadableError(ModelError):
    """What it said cannot be read; it may be asked again."""


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
        return {"model": self.name, "stream": False, **said}

    async def ask(self, system: str, messages: list[Message]) -> tuple[Message, str, Calls]:
        """Ask for what comes next.

        Returns:
            The model's message, its text, and by the ids of its calls the code to run, which is `None` where it
            cannot be read. Of an answer that was cut off there is neither text nor code.

        Raises:
            UnreadableError: If it cannot be read.
            ModelError: If there is no answer, or the model refuses.
        """
        reply = await self._post(self.body(system, messages))
        try:
            usage = reply.get("usage") or {}
            self.tokens += sum(int(usage.get(name) or 0) for name in COUNTED)
            message, text, found, why = (_anthropic if self.api == "anthropic" else _openai)(reply)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as exc:
            raise UnreadableError(f"the model's answer cannot be read ({type(exc).__name__}: {exc})") from exc
        if why in REFUSED:
            raise ModelError(f"the model refuses: {self.masked(text.strip()) or why}", "refused")
        if why in CUT:
            text, found = "", [(call, None) for call, _code in found]
        return message, text, found

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
            except httpx2.InvalidURL as exc:
                raise ModelError(f"--endpoint is no address: {exc}") from exc
            except httpx2.HTTPError as exc:
                problem = f"{type(exc).__name__} {exc}".strip()
            else:
                if answer.status_code == 200:
                    return _read(answer.content)
                problem = f"HTTP {answer.status_code}: {self.masked(answer.text)[:300]}"
                if answer.status_code not in (408, 409, 429) and answer.status_code < 500:
                    raise ModelError(f"the endpoint refused: {problem}")
                after = answer.headers.get("retry-after", "")
                pause = min(float(after), LONGEST_PAUSE) if after.replace(".", "", 1).isdecimal() else pause
            await asyncio.sleep(pause)
        raise ModelError(f"the endpoint gave no answer in {TRIES} tries: {problem}")


def _read(content: bytes) -> Message:
    """Give the object, or an empty one of what is none, or could be sent on to nobody: NaN, half a character."""
    try:
        reply = json.loads(content)
        json.dumps(reply, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return {}
    return reply if isinstance(reply, dict) else {}


def _anthropic(reply: Message) -> tuple[Message, str, Calls, Any]:
    blocks = [block for block in reply["content"] if block["type"] != "text" or block["text"].strip()]
    text = "".join(block["text"] for block in blocks if block["type"] == "text")
    found = [(one["id"], _code(one["input"])) for one in blocks if one["type"] == "tool_use"]
    return {"role": "assistant", "content": blocks}, text, found, reply.get("stop_reason")


def _openai(reply: Message) -> tuple[Message, str, Calls, Any]:
    choice = reply["choices"][0]
    message = {key: value for key, value in choice["message"].items() if value is not None}
    text, why = message.get("content") or "", choice.get("finish_reason")
    if not isinstance(text, str):  # some give a list of parts
        text = "".join(part.get("text") or "" for part in text)
    if message.get("refusal") and not text:
        text, why = str(message["refusal"]), "refusal"
    calls, found = [], []
    for number, call in enumerate(message.get("tool_calls") or []):
        given = call["function"]["arguments"]
        found.append((str(call.get("id") or f"call_{number}"), _code(given)))
        if found[-1][1] is None:
            given = "{}"  # what is no JSON is refused by some endpoints when it is sent back to them
        calls.append({**call, "id": found[-1][0], "function": {**call["function"], "arguments": given}})
    said = {"role": "assistant", "content": None, **message} | ({"tool_calls": calls} if calls else {})
    return said, text, found, why


def _code(given: Any) -> str | None:
    try:
        said = json.loads(given) if isinstance(given, str) else given
        code = said.get("code") if isinstance(said, dict) else None
        json.dumps(code, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return code if isinstance(code, str) and code.strip() else None
