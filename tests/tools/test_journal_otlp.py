"""Records are spans that OpenTelemetry's own definitions take, and reach a collector as far as it takes them."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from helpers import until
from journaled import ANA, Kept, kept, passage
from toolscore.tools.header import split_header
from toolscore.tools.journal import sender as sending
from toolscore.tools.journal.address import headers_for, traces_address
from toolscore.tools.journal.otlp import request
from toolscore.tools.journal.sender import Sender


def read(text: str | bytes) -> list[Any]:
    """Read a request by OpenTelemetry's own definitions; give its spans."""
    parsed = json_format.Parse(text, ExportTraceServiceRequest(), ignore_unknown_fields=False)
    [resource] = parsed.resource_spans
    assert resource.resource.attributes[0].value.string_value == "toolscore"
    [scope] = resource.scope_spans
    return list(scope.spans)


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def ids_as_base64(document: dict[str, Any]) -> str:
    """Write ids as the generic JSON of protobuf has them: OTLP alone writes them in hexadecimal."""
    import base64

    text = json.loads(json.dumps(document))
    for span in text["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        for name, length in (("traceId", 16), ("spanId", 8), ("parentSpanId", 8)):
            if name in span:
                raw = bytes.fromhex(span[name])
                assert len(raw) == length
                span[name] = base64.b64encode(raw).decode()
    return json.dumps(text)


async def test_a_call_is_a_span_with_the_attributes_of_the_conventions(tmp_path: Path) -> None:
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    meta = {"traceparent": f"00-{trace}-{parent}-01"}
    async with kept(tmp_path) as one:
        record = await one.only(
            passage(
                arguments={"zone": "UTC"},
                result={"content": []},
                meta=meta,
                caller=replace(ANA, session="e1"),
            )
        )
    [span] = read(ids_as_base64(request([record], "9.9")))
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (trace, parent)
    assert span.name == "tools/call time__now"
    assert span.kind == Span.SPAN_KIND_SERVER
    assert span.end_time_unix_nano - span.start_time_unix_nano == 250_000_000
    assert span.status.code == Status.STATUS_CODE_OK
    told = attributes(span)
    assert told["gen_ai.operation.name"] == "execute_tool"
    assert told["gen_ai.tool.name"] == "time__now"
    assert told["gen_ai.tool.call.id"] == record["id"]
    assert json.loads(told["gen_ai.tool.call.arguments"]) == {"zone": "UTC"}
    assert told["mcp.method.name"] == "tools/call"
    assert told["mcp.session.id"] == "e1"
    assert told["network.transport"] == "tcp"
    assert told["toolscore.client.connection"] == 7
    assert "error.type" not in told


async def test_failures_nested_calls_other_requests_and_notes_are_spans_too(tmp_path: Path) -> None:
    async with kept(tmp_path) as one:
        one.over(passage(outcome="error", said="no such zone"))
        outer = passage("python__run", outcome="timed_out", said="late")
        one.journal.admit(outer)
        one.over(passage(caller=replace(ANA, span=outer.span, depth=1)))
        one.journal.watch(outer)
        one.over(passage("files", {"uri": "file:///a"}, method="resources/read"))
        one.over(passage("files", {"name": "greet"}, method="prompts/get"))
        await one.records()
        one.journal.note("server_failed", server="time", outcome="failed", said="it exited", restarts=3)
        records = await one.records()
    spans = read(ids_as_base64(request(records, "9.9")))
    failed, inner, ran, resource, prompt, note = spans
    assert attributes(failed)["error.type"] == "tool_error"
    assert (failed.status.code, failed.status.message) == (Status.STATUS_CODE_ERROR, "no such zone")
    assert (inner.kind, inner.parent_span_id, inner.trace_id) == (
        Span.SPAN_KIND_INTERNAL,
        ran.span_id,
        ran.trace_id,
    )
    assert attributes(ran)["error.type"] == "timed_out"
    assert (resource.name, attributes(resource)["mcp.resource.uri"]) == ("resources/read", "files")
    assert (prompt.name, attributes(prompt)["gen_ai.prompt.name"]) == ("prompts/get files", "files")
    assert (note.name, note.kind) == ("toolscore server_failed", Span.SPAN_KIND_INTERNAL)
    assert json.loads(attributes(note)["toolscore.detail"]) == {"restarts": 3}


class Collector(ThreadingHTTPServer):
    """A collector that answers what it is told to, and keeps what it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, bytes]] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, answer = self.server.answers.pop(0) if self.server.answers else (200, b"{}")
        self.server.headers.append({key.lower(): value for key, value in self.headers.items()})
        self.server.paths.append(self.path)
        self.server.bodies.append(body)
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def collecting() -> Iterator[Collector]:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield collector
        finally:
            collector.shutdown()
            thread.join()


@contextmanager
def sender_to(one: Kept, address: str, *headers: str) -> Iterator[Sender]:
    made = Sender(address, headers, {"COLLECTOR_TOKEN": "abc"}.get, lambda _key: None)
    made.start()
    one.journal.writer.sink = made.offer
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "EVERY", 0.05)
    monkeypatch.setattr(sending, "FIRST_RETRY", 0.02)


async def test_records_are_sent_live_to_a_collector(tmp_path: Path) -> None:
    with collecting() as collector:
        async with kept(tmp_path) as one:
            with sender_to(one, collector.address, "Authorization: Bearer ${COLLECTOR_TOKEN}") as sender:
                for number in range(30):
                    one.over(passage(arguments={"number": number}))
                await one.records()
                await until(lambda: sender.sent == 30, 60)
    names = [
        attributes(span)["gen_ai.tool.call.arguments"] for body in collector.bodies for span in _spans(body)
    ]
    assert [json.loads(text)["number"] for text in names] == list(range(30))
    assert set(collector.paths) == {"/v1/traces"}
    assert collector.headers[0]["content-type"] == "application/json"
    assert collector.headers[0]["authorization"] == "Bearer abc"
    assert sender.unsent == 0


def _spans(body: bytes) -> list[Any]:
    return read(ids_as_base64(json.loads(body)))


async def test_the_last_records_reach_the_collector_too(tmp_path: Path) -> None:
    with collecting() as collector:
        async with kept(tmp_path) as one:
            sender = Sender(collector.address, (), lambda _name: None, lambda _key: None)
            sender.start()
            one.journal.writer.sink, one.journal.after = sender.offer, sender.close
            one.over(passage())
        await until(lambda: sender.sent == 1, 60)
    assert len(collector.bodies) == 1


async def test_a_busy_collector_is_asked_again_and_one_that_refuses_is_not(tmp_path: Path) -> None:
    with collecting() as collector:
        collector.answers = [(503, b""), (429, b""), (200, b"{}"), (400, b"")]
        async with kept(tmp_path) as one:
            with sender_to(one, collector.address) as sender:
                await one.only(passage())
                await until(lambda: sender.sent == 1, 60)
                await one.only(passage())
                await until(lambda: sender.unsent == 1, 60)
                collector.answers = [(200, b'{"partialSuccess":{"rejectedSpans":"1","errorMessage":"no"}}')]
                await one.only(passage())
                await until(lambda: sender.unsent == 2, 60)
                assert sender.sent == 1
    assert len(collector.bodies) == 5
    assert collector.bodies[0] == collector.bodies[1] == collector.bodies[2]


async def test_a_collector_that_is_not_there_costs_spans_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as nobody:  # whose port nobody else gets meanwhile
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        async with kept(tmp_path) as one:
            with sender_to(one, address) as sender:
                for _ in range(3):
                    await one.only(passage())
                await until(lambda: sender.unsent == 3, 60)
                assert len(await one.records()) == 3
    assert sum("does not take spans" in record.message for record in caplog.records) == 1


async def test_what_waits_for_a_collector_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "WAITING", 10)
    sender = Sender("http://127.0.0.1:9", (), lambda _name: None, lambda _name: None)
    sender.offer([b"{}"] * 25)
    assert sender.unsent == 15


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("https://c.example/", "https://c.example/v1/traces"),
        ("https://c.example/otlp", "https://c.example/otlp/v1/traces"),
        ("https://c.example/v1/traces", "https://c.example/v1/traces"),
    ],
)
def test_spans_go_to_the_collectors_path_for_them(text: str, address: str) -> None:
    assert traces_address(text) == address


@pytest.mark.parametrize(
    "text", ["c.example:4318", "ftp://c.example", "http://", "http://u:p@h", "http://h?token=x", "http://h:x"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="it "):
        traces_address(text)


def test_headers_are_given_by_reference_and_sent_only_where_they_are_safe() -> None:
    assert split_header("X-Key: ${KEY}") == ("X-Key", "${KEY}")
    for line in ("X-Key", "X-Key: plain", "X Key: ${KEY}", ": ${KEY}"):
        with pytest.raises(ValueError, match="it"):
            split_header(line)
    known = {"KEY": "abc", "LINES": "a\nb"}.get
    lines = ("X-Key: Bearer ${KEY}",)
    assert headers_for("https://c.example", lines, known, known) == {"X-Key": "Bearer abc"}
    assert headers_for("http://[::1]:1", lines, known, known) == {"X-Key": "Bearer abc"}
    with pytest.raises(ValueError, match="not encrypted"):
        headers_for("http://c.example", lines, known, known)
    with pytest.raises(ValueError, match="cannot be sent"):
        headers_for("https://c.example", ("X-Key: ${LINES}",), known, known)
    with pytest.raises(ValueError, match="NONE"):
        headers_for("https://c.example", ("X-Key: ${NONE}",), known, lambda _key: None)
