"""`toolscore journal`: what was done, read from the files, whether ToolScore runs or not."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ...tools.journal.reader import Reader, Record
from ...tools.journal.wanted import Wanted
from ..database_home import reader_of
from ..home import Home
from ..settings import Settings
from .output import Output

LINES = 50
"""Records that are shown unless it is said how many."""

SPANS = 500
SPANS_BYTES = 4 << 20
"""Spans of one exported request, and bytes of what they were asked and answered, kept or not."""

_LONGEST = 120
"""Characters of arguments on a line."""


async def run(options: Namespace, settings: Settings, out: Output) -> int:
    """Show, sum up or export records.

    Returns:
        The exit status.
    """
    if options.what == "schema":
        from ...tools.journal.trajectory import SCHEMA

        print(json.dumps(SCHEMA, indent=2))
        return 0
    reader = reader_of(settings, Home.at(settings.home))
    wanted = _wanted(options)
    match options.what:
        case "show":
            status = _show(reader, wanted, out)
        case "sessions" | "stats":
            status = _summary(options.what, reader, wanted, options.limit, out)
        case "export":
            status = _export(options, reader, wanted, out)
        case _:
            status = await _list(options, reader, wanted, out)
    for name, why in reader.unreadable.items():
        out.error(f"{name} cannot be read, and is left out: {why}")
        status = status or 1
    if reader.skipped:
        out.remark(f"{reader.skipped} lines are no records, such as one that a crash tore, and are left out")
    return status


def _wanted(options: Namespace) -> Wanted:
    return Wanted(
        since=options.since,
        until=options.until,
        kinds=tuple(options.kind),
        servers=tuple(options.server),
        tools=tuple(options.tool),
        clients=tuple(options.client),
        sessions=tuple(options.session),
        outcomes=tuple(options.outcome),
        trace=options.trace,
        id=options.id,
    )


async def _list(options: Namespace, reader: Reader, wanted: Wanted, out: Output) -> int:
    ends = reader.ends() if options.follow else {}
    records = reader.last(wanted, options.limit or LINES)
    if out.json_wanted and not options.follow:
        out.document({"records": records})
        return 0
    _print(records, out)
    if not options.follow:
        if not records:
            out.remark("there are no such records")
        return 0
    shown = {record.get("id") for record in records}
    missed = 0
    async for more in reader.follow(wanted, ends):
        if reader.missed > missed:
            files = "1 file" if reader.missed == missed + 1 else f"{reader.missed - missed} files"
            out.error(f"{files} of records went before they could be shown, to keep within size and age")
            missed = reader.missed
        # What was written between the two looks is in both.
        _print((record for record in more if record.get("id") not in shown), out)
    return 0


def _print(records: Iterable[Record], out: Output) -> None:
    for record in records:
        if out.json_wanted:
            print(json.dumps(record, ensure_ascii=False))
        else:
            out.line(line(record))
    sys.stdout.flush()  # a pipe's reader follows too


def line(record: Record) -> str:
    """Give a record on one line, for a person."""
    client = record.get("client") or {}
    who = "/".join(str(part) for part in (client.get("principal"), client.get("name")) if part) or "-"
    what = record.get("tool") or record.get("subject") or record.get("server") or ""
    kind = record["kind"]
    seconds = record.get("seconds")
    took = f"{seconds * 1000:.1f} ms" if isinstance(seconds, int | float) else ""
    told = record.get("error")
    if told is None:
        contents = record.get("arguments", record.get("detail"))
        told = json.dumps(contents, ensure_ascii=False) if contents else ""
    who, what, told = _flat(who), _flat(str(what)), _flat(str(told))
    told = told if len(told) <= _LONGEST else f"{told[: _LONGEST - 1]}…"
    time = f"{record['time'][:23]}Z".replace("T", " ")
    outcome = str(record.get("outcome") or "")
    return f"{time}  {kind:<10} {outcome:<10} {took:>10}  {who:<20} {what}  {told}".rstrip()


def _flat(text: str) -> str:
    """Give a text on one line: what a client makes up, such as its name, must not look like a record of its own."""
    return " ".join(text.split())


def _show(reader: Reader, wanted: Wanted, out: Output) -> int:
    found = reader.last(wanted, 1)
    if not found:
        out.error(
            f"There is no record {wanted.id}. It may have gone by now; `toolscore journal` shows those there are."
        )
        return 4
    if out.json_wanted:
        out.document(found[0])
    else:
        out.line(json.dumps(found[0], ensure_ascii=False, indent=2))
    return 0


def _summary(what: str, reader: Reader, wanted: Wanted, limit: int | None, out: Output) -> int:
    from ...tools.journal import summary

    if what == "sessions":
        sessions = summary.sessions(reader.records(wanted))[-(limit or LINES) :]
        if out.json_wanted:
            out.document({"sessions": sessions})
        elif not sessions:
            out.remark("there are no such records")
        else:
            headers = ("session", "who", "client", "begun", "last", "calls", "failed", "seconds")
            out.table(headers, [_session(one) for one in sessions])
        return 0
    told = summary.stats(reader.records(wanted))
    told["tools"] = told["tools"][: limit or LINES]
    if out.json_wanted:
        out.document(told)
        return 0
    out.line(f"{told['records']} records from {told['first'] or '-'} to {told['last'] or '-'}")
    for name in ("kinds", "outcomes", "clients"):
        if told[name]:
            out.line(f"{name}: " + ", ".join(f"{key} {count}" for key, count in told[name].items()))
    if told["dropped"]:
        out.line(f"dropped: {told['dropped']} records found no room")
    if told["tools"]:
        rows = [
            (
                _flat(one["tool"]),
                str(one["calls"]),
                str(one["failed"]),
                f"{one['seconds']:.3g}",
                str(one["bytes"]),
            )
            for one in told["tools"]
        ]
        out.table(("tool", "calls", "failed", "seconds", "bytes"), rows)
    return 0


def _session(one: dict[str, Any]) -> tuple[str, ...]:
    last = one["last"][:19] + ("" if one["ended"] else " +")
    return (
        _flat(one["session"]),
        f"{one['principal']}/{one['listener']}",
        _flat(one["client"]) or "-",
        one["begun"][:19],
        last,
        str(one["calls"]),
        str(one["failed"]),
        f"{one['seconds']:.3g}",
    )


def _export(options: Namespace, reader: Reader, wanted: Wanted, out: Output) -> int:
    records: Iterable[Record] = reader.records(wanted)
    if options.limit:
        records = reader.last(wanted, options.limit)
    if options.format == "trajectory":
        from ...tools.journal.trajectory import trajectories

        document = trajectories(records)
        if options.session and not document["episodes"]:
            names = ", ".join(options.session)
            out.error(f"There is no session {names}; `toolscore journal sessions` shows those there are.")
            return 4
        texts = iter([json.dumps(document, ensure_ascii=False, indent=1) + "\n"])
    else:
        texts = exported(options.format, records)
    try:
        with _file(options.output) as file:
            for text in texts:
                file.write(text)
    except BrokenPipeError:
        raise  # whoever read it has seen enough
    except OSError as exc:
        out.error(f"{options.output or 'standard output'} cannot be written: {exc.strerror or exc}")
        return 1
    if options.output:
        out.remark(f"wrote {options.output}")
    return 0


def exported(form: str, records: Iterable[Record]) -> Iterator[str]:
    """Write records one a line, or as spans, as many a line as make a request of a size that collectors take."""
    if form == "jsonl":
        for record in records:
            yield json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"
        return
    from ... import __version__
    from ...tools.journal.otlp import request

    some: list[Record] = []
    size = 0
    for record in records:
        held = sum((record.get("bytes") or {}).values())
        if len(some) == SPANS or (some and size + held > SPANS_BYTES):
            yield json.dumps(request(some, __version__), ensure_ascii=False, separators=(",", ":")) + "\n"
            some, size = [], 0
        some.append(record)
        size += held
    if some:
        yield json.dumps(request(some, __version__), ensure_ascii=False, separators=(",", ":")) + "\n"


@contextmanager
def _file(path: str | None) -> Iterator[IO[str]]:
    """Open what is written to: standard output, or a file that is put in its place once it is whole."""
    if path is None:
        yield sys.stdout
        sys.stdout.flush()
        return
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    try:
        with os.fdopen(os.open(part, flags, 0o600), "w", encoding="utf-8", errors="backslashreplace") as file:
            yield file
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
