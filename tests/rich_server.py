"""A server with everything MCP has, written by hand so that each message is what the test says. Either era.

    python rich_server.py [FAULT[=VALUE]]...

The faults of `faulty_server.py`, and: many-resources=N (pages of 100), label=TEXT (what its resources say),
late-tool (it gets a tool right after its tools were listed for the first time).
"""

from __future__ import annotations

import itertools
import json
import sys
import threading
from collections.abc import Callable
from typing import Any

from faulty_server import Fault, FaultyServer, Message, Params, main, text

SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
PATIENCE = 20.0


class RichServer(FaultyServer):
    def __init__(
        self, faults: dict[str, str], write: Callable[[str], None], request: Params | None = None
    ) -> None:
        super().__init__(faults, write, request)
        self.modern = "modern-only" in faults
        self.heard: list[Message] = []
        """Notifications, and requests that set something."""
        self.held: dict[str, threading.Event] = {}
        self.pending: dict[str, threading.Event] = {}
        """Own requests, each with what is set once it is answered or withdrawn."""
        self.listening: dict[Any, Params] = {}
        self.subscribed: set[str] = set()
        self.resources: list[str] = []
        self.prompts: list[str] = []
        self.descriptions: dict[str, str] = {}
        self.tasks: dict[str, str] = {}
        self.task_done = threading.Condition()
        self.numbers = itertools.count(1)

    # --- messages

    def take(self, line: str | bytes) -> None:
        message: Message = json.loads(line)
        method = message.get("method")
        if method is None:
            self.replies[str(message["id"])] = message
            self.pending[str(message["id"])].set()
            return
        if "id" not in message:
            self.heard.append(message)
            if method == "notifications/cancelled":
                self.listening.pop(message["params"]["requestId"], None)
        if method == "tasks/result":
            answer = self.answer
            threading.Thread(
                target=answer, args=(message["id"], method, message["params"]), daemon=True
            ).start()
            return
        super().take(line)

    def capabilities(self) -> Message:
        listed = {"listChanged": True}
        rich: Message = {
            "tools": listed,
            "prompts": listed,
            "resources": {"subscribe": True, **listed},
            "completions": {},
            "logging": {},
        }
        return rich if self.modern else {**rich, "tasks": {"requests": {"tools": {"call": {}}}}}

    def notify(self, method: str, params: Params, wanted: Callable[[Params], Any] | None = None) -> None:
        """Send a notification; in the modern era, into every listen stream that wants it."""
        if not self.modern or wanted is None:
            self.send({"method": method, "params": params})
            return
        # A copy: calls are answered by threads of their own, while the main one may take the next listen request.
        for stream, asked in list(self.listening.items()):
            if wanted(asked):
                self.send({"method": method, "params": {**params, "_meta": {SUBSCRIPTION: stream}}})

    def on_subscriptions_listen(self, request_id: Any, params: Params) -> None:
        self.listening[request_id] = params["notifications"]
        acknowledged = {"notifications": params["notifications"], "_meta": {SUBSCRIPTION: request_id}}
        self.send({"method": "notifications/subscriptions/acknowledged", "params": acknowledged})

    # --- resources

    def on_resources_list(self, _id: Any, params: Params) -> Message:
        uris = ["rich://note", "shared://page", *self.resources]
        uris += [f"rich://many/{number}" for number in range(int(self.faults.get("many-resources", 0)))]
        first = int(params.get("cursor") or 0)
        page: Message = {
            "resources": [{"uri": uri, "name": uri, "x-unknown": 1} for uri in uris[first : first + 100]]
        }
        return page | ({"nextCursor": str(first + 100)} if first + 100 < len(uris) else {})

    def on_resources_templates_list(self, _id: Any, _params: Params) -> Message:
        templates = ["rich://item/{id}", "shared://by/{name}"]
        return {"resourceTemplates": [{"uriTemplate": uri, "name": uri} for uri in templates]}

    def on_resources_read(self, _id: Any, params: Params) -> Message:
        uri = params["uri"]
        if "missing" in uri:
            raise Fault(-32602 if self.modern else -32002, "no such page", {"uri": uri})
        said = f"{self.faults.get('label', 'rich')}: {uri}"
        return {
            "contents": [{"uri": uri, "text": said, "x-unknown": 2}],
            "_meta": {"rich/params": params},
            "x-unknown": True,
        }

    def on_resources_subscribe(self, _id: Any, params: Params) -> Message:
        if "missing" in params["uri"]:
            raise Fault(-32002, "no such page", {"uri": params["uri"]})
        self.subscribed.add(params["uri"])
        return {}

    def on_resources_unsubscribe(self, _id: Any, params: Params) -> Message:
        self.subscribed.discard(params["uri"])
        return {}

    def tool_subscribed(self, _arguments: Params, _id: Any, _meta: Params) -> Message:
        uris = set(self.subscribed)
        for asked in list(self.listening.values()):
            uris |= set(asked.get("resourceSubscriptions", ()))
        return {"content": [], "structuredContent": {"uris": sorted(uris)}}

    def tool_touch(self, arguments: Params, _id: Any, _meta: Params) -> Any:
        uri = arguments["uri"]
        about = arguments.get("about", uri)
        self.notify(
            "notifications/resources/updated",
            {"uri": uri},
            lambda asked: about in asked.get("resourceSubscriptions", ()),
        )
        return "touched"

    def tool_link(self, arguments: Params, _id: Any, _meta: Params) -> Message:
        return {"content": [{"type": "resource_link", "uri": arguments["uri"], "name": "hidden"}]}

    # --- prompts, completion, logging

    def on_prompts_list(self, _id: Any, _params: Params) -> Message:
        arguments = [{"name": "who", "required": True}]
        return {
            "prompts": [{"name": name, "arguments": arguments} for name in ["greet", "ask", *self.prompts]]
        }

    def on_prompts_get(self, _id: Any, params: Params) -> Message:
        if params["name"] == "ask" and self.modern and "inputResponses" not in params:
            return self.required({"who": {"method": "elicitation/create", "params": FORM}}, "prompt")
        answers = params.get("inputResponses")
        said = f"{params['name']} {params.get('arguments')} {answers}"
        return {
            "messages": [{"role": "user", "content": {"type": "text", "text": said}, "x-unknown": 3}],
            "_meta": {"rich/params": params},
        }

    def on_completion_complete(self, _id: Any, params: Params) -> Message:
        return {"completion": {"values": [json.dumps([params["ref"], params["argument"]])], "total": 1}}

    def on_logging_setLevel(self, _id: Any, params: Params) -> Message:
        self.heard.append({"method": "logging/setLevel", "params": params})
        return {}

    def tool_log(self, arguments: Params, _id: Any, _meta: Params) -> Any:
        for level in arguments["levels"]:
            told = {"level": level, "logger": "mine", "data": {"said": level}}
            self.send({"method": "notifications/message", "params": told})
        return "logged"

    def tool_heard(self, arguments: Params, _id: Any, _meta: Params) -> Message:
        wanted = [message for message in self.heard if message["method"] == arguments["method"]]
        return {"content": [], "structuredContent": {"heard": wanted}}

    # --- what changes

    def tool_change(self, arguments: Params, _id: Any, _meta: Params) -> Any:
        kind, name = arguments["kind"], arguments["name"]
        {"tools": self.added, "resources": self.resources, "prompts": self.prompts}[kind].append(name)
        self.notify(f"notifications/{kind}/list_changed", {}, lambda asked: asked.get(f"{kind}ListChanged"))
        return "changed"

    # --- questions

    def tool_question(self, arguments: Params, request_id: Any, meta: Params) -> Message | None:
        """Ask the client something in the middle of the call, and tell what it said."""
        identity = arguments.get("id", f"q{next(self.numbers)}")
        answered = self.pending[identity] = threading.Event()
        self.send({"id": identity, "method": arguments["method"], "params": arguments.get("params", {})})
        answered.wait(PATIENCE)
        self.heard.append({"method": "reply", "params": self.replies.get(identity, {})})
        if self.stops[request_id].is_set():
            return None
        return {"content": [], "structuredContent": self.replies.get(identity, {"withdrawn": True})}

    def tool_questions(self, arguments: Params, request_id: Any, meta: Params) -> Message:
        """Ask several things, one after the other."""
        replies = []
        for method, params in arguments["of"]:
            asked = {"method": method, "params": params}
            replies.append(self.tool_question(asked, request_id, meta))
        said = [one and one["structuredContent"] for one in replies]
        return {"content": [], "structuredContent": {"replies": said}}

    def tool_question_and_hold(self, arguments: Params, request_id: Any, meta: Params) -> Message:
        asked = self.tool_question(arguments, request_id, meta)
        self.tool_hold(arguments, request_id, meta)
        return asked or {}

    def tool_withdraw(self, arguments: Params, _id: Any, _meta: Params) -> Any:
        """Cancel an own request."""
        params = {"requestId": arguments["id"], "reason": "no need"}
        self.send({"method": "notifications/cancelled", "params": params})
        self.pending[arguments["id"]].set()
        return "withdrawn"

    def tool_ask_later(self, arguments: Params, request_id: Any, _meta: Params) -> None:
        """Ask the client something right after this call was answered, when none is in flight any more."""
        identity = arguments["id"]
        self.pending[identity] = threading.Event()
        question = {"id": identity, "method": arguments["method"], "params": arguments.get("params", {})}
        # In one piece: the client's next call must not come in between.
        both = [{"id": request_id, "result": text("later")}, question]
        self.write("\n".join(json.dumps({"jsonrpc": "2.0", **one}) for one in both))

    def tool_reply(self, arguments: Params, _id: Any, _meta: Params) -> Message:
        """Tell what an own request was answered, once it was."""
        self.pending[arguments["id"]].wait(PATIENCE)
        return {"content": [], "structuredContent": self.replies[arguments["id"]]}

    def tool_ping(self, arguments: Params, request_id: Any, meta: Params) -> Message | None:
        return self.tool_question({"method": "ping"}, request_id, meta)

    def tool_hold(self, arguments: Params, request_id: Any, meta: Params) -> Any:
        """Stay in flight until `release`; say by progress that it is."""
        event = self.held.setdefault(arguments["key"], threading.Event())
        if (token := meta.get("progressToken")) is not None:
            self.send({"method": "notifications/progress", "params": {"progressToken": token, "progress": 1}})
        event.wait(PATIENCE)
        return "released"

    def tool_release(self, arguments: Params, _id: Any, _meta: Params) -> Any:
        self.held.setdefault(arguments["key"], threading.Event()).set()
        return "done"

    def required(self, requests: Params, state: str) -> Message:
        return {"resultType": "input_required", "inputRequests": requests, "requestState": state}

    def on_tools_call(self, request_id: Any, params: Params) -> Message | None:
        if "task" in params:
            return self.begin(params)
        if params["name"] == "need":
            return self.need(params)
        return super().on_tools_call(request_id, params)

    def tool_need(self, arguments: Params, _id: Any, _meta: Params) -> Any:
        """Listed here, done in `need`."""

    def need(self, params: Params) -> Message:
        """Require input (modern era): the requests given, as many rounds as given; tell what came."""
        arguments = params.get("arguments") or {}
        came = json.loads(params.get("requestState") or "[]")
        if "requestState" in params:
            came.append(params.get("inputResponses"))
        if len(came) < arguments.get("rounds", 1):
            return self.required(arguments["requests"], json.dumps(came))
        capabilities = (params.get("_meta") or {}).get("io.modelcontextprotocol/clientCapabilities")
        return {"content": [], "structuredContent": {"came": came, "capabilities": capabilities}}

    # --- tasks

    def begin(self, params: Params) -> Message:
        identity = f"task-{self.faults.get('label', 'rich')}-{next(self.numbers)}"
        self.tasks[identity] = "working"
        return {"task": self.task(identity), "_meta": {"rich/params": params}}

    def task(self, identity: str) -> Message:
        if identity not in self.tasks:
            raise Fault(-32602, f"no task {identity}")
        at = "2026-01-01T00:00:00Z"
        status = self.tasks[identity]
        return {"taskId": identity, "status": status, "createdAt": at, "lastUpdatedAt": at, "ttl": None}

    def on_tasks_get(self, _id: Any, params: Params) -> Message:
        return self.task(params["taskId"])

    def on_tasks_cancel(self, _id: Any, params: Params) -> Message:
        self.settle(params["taskId"], "cancelled")
        return self.task(params["taskId"])

    def on_tasks_result(self, _id: Any, params: Params) -> Message:
        identity = params["taskId"]
        self.task(identity)
        with self.task_done:
            self.task_done.wait_for(lambda: self.tasks[identity] != "working", PATIENCE)
        return text(f"{identity} is {self.tasks[identity]}") | {
            "_meta": {"io.modelcontextprotocol/related-task": {"taskId": identity}}
        }

    def settle(self, identity: str, status: str) -> None:
        self.task(identity)
        with self.task_done:
            self.tasks[identity] = status
            self.task_done.notify_all()
        self.send({"method": "notifications/tasks/status", "params": self.task(identity)})

    def tool_finish(self, arguments: Params, _id: Any, _meta: Params) -> Any:
        self.settle(arguments["task"], "completed")
        return "finished"

    def on_tools_list(self, request_id: Any, params: Params) -> Message | None:  # type: ignore[override]
        page = super().on_tools_list(request_id, params)
        for tool in page["tools"]:
            if (description := self.descriptions.get(tool["name"])) is not None:
                tool["description"] = description
        if "late-tool" not in self.faults or self.added:
            return page
        self.send({"id": request_id, "result": page})
        self.tool_change({"kind": "tools", "name": "late"}, None, {})
        return None

    def tool_describe(self, arguments: Params, _id: Any, _meta: Params) -> Any:
        self.descriptions[arguments["name"]] = arguments["description"]
        self.send({"method": "notifications/tools/list_changed"})
        return "described"

    def tool_undo(self, arguments: Params, _id: Any, _meta: Params) -> Any:
        self.added.remove(arguments["name"])
        self.send({"method": "notifications/tools/list_changed"})
        return "undone"

    # --- names

    def tool_list_tools(self, _arguments: Params, _id: Any, _meta: Params) -> Any:
        return "my own list"


FORM: Message = {
    "message": "Who?",
    "requestedSchema": {"type": "object", "properties": {"who": {"type": "string"}}},
}


if __name__ == "__main__":
    main(sys.argv[1:], RichServer)
