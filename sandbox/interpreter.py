"""Runs a model's Python inside the box, and says what came of it.

Nothing here protects: the layers around the process do. What this module owes is a true and bounded answer to
honest code, whatever it does to its process. Only the standard library, and little of it: what is imported here is in
the memory of every idle box. Tracebacks show the code's own frames, with their lines.
"""

from __future__ import annotations

import _ast
import _sitebuiltins
import atexit
import builtins
import io
import linecache
import os
import sys
import traceback
from json import dumps

from . import awaiting, channel, display, signatures, toolbox, tracebacks, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import CodeType
    from typing import Any, NoReturn

REPR = 50_000
"""Characters of a repr that are kept, at the most."""

MESSAGE = 10_000
TRACEBACK = 50_000
"""Likewise of an exception's text and of its traceback."""

RECURSION_LIMIT = 1_000
"""What holds while results are made, whatever limit the code set."""

OVERHEAD = 600
"""Bytes of a result's own keys."""

LEAST = 4_096
"""A result's limit below this counts as this."""

_FUTURE = 0x1FE0000
"""The flags of `from __future__` imports in compiled code (`Include/cpython/code.h`)."""

_OURS = frozenset(
    module.__file__
    for module in (sys.modules[__name__], awaiting, channel, display, signatures, toolbox, tracebacks, values)
    if module.__file__ is not None
)

_LIBRARIES = ("landlockpy", "seccompy")


def forget_ours(libraries: Iterable[str] = _LIBRARIES) -> None:
    """Take our modules out of reach of plain imports: code sees the standard library and its packages only.

    Nothing of ours may be imported by name afterwards; what was imported goes on working.

    Args:
        libraries: Top-level packages that are forgotten too.
    """
    ours = __name__.partition(".")[0]
    roots = {ours, *libraries}
    for name in [name for name in sys.modules if name.partition(".")[0] in roots]:
        del sys.modules[name]
    home = __file__.rsplit(os.sep, 1 + __name__.count("."))[0]
    sys.path[:] = [path for path in sys.path if path != home]
    sys.path_importer_cache.pop(home, None)


class Interpreter:
    """A `__main__` module and what runs code in it.

    Args:
        send: Writes a line to init, whole.
        receive: Waits for init's next message; `None` when there will be none.
    """

    def __init__(self, send: Callable[[bytes], None], receive: Callable[[], dict[str, Any] | None]) -> None:
        self._channel = channel.Channel(send, receive)
        self._toolbox = toolbox.install(self._channel)
        self._runs = 0
        self._future = 0
        self._main = type(sys)("__main__")
        self._main.__dict__["__builtins__"] = builtins
        self._code = awaiting.Evaluator(self._main.__dict__)
        sys.modules["__main__"] = self._main
        sys.argv[:] = [""]
        _add_site_builtins()

    def prepare(self) -> None:
        """Do before the fork what every box would have to do again: first uses of the compiler and the like."""
        values.plain({"a": [1, 2.0, "b"]}, 1_000)
        values.shown([1, "b"], 1_000)
        tree: Any = compile("pass\n1+1", "<code>", "exec", _ast.PyCF_ONLY_AST, dont_inherit=True)
        compile(tree, "<code>", "exec", dont_inherit=True)
        try:
            raise ValueError
        except ValueError as error:
            tracebacks.explain(error, _OURS, compiling=False)
        names = [f"{around}{name}{around}" for name in ("stdin", "stdout", "stderr") for around in ("", "__")]
        before = {name: getattr(sys, name) for name in names}
        for _ in range(20):  # until Python has seen what it can make faster, which changes the code in memory
            self.warm()
        _streams.clear()
        for name, stream in before.items():
            setattr(sys, name, stream)

    def start(self) -> None:
        """Be the interpreter of the calling process, after the fork."""
        self._channel.adopt()
        if (random := sys.modules.get("numpy.random")) is not None:
            random.seed()  # else every box would go on with the numbers of the process it was forked from

    def warm(self) -> None:
        """Run something that leaves nothing, so that the pages a run writes are this process's own already.

        Copying them when they are first written to takes longer than a short run (fork(2), copy-on-write). For boxes
        that wait for their job.
        """
        self.run({"id": 0, "code": "0", "keep": True, "tools": False, "result_limit": LEAST})
        self._runs = 0
        linecache.cache.clear()

    def next_job(self) -> dict[str, Any] | None:
        """Wait for init's next job, where threads of an earlier one may still wait for answers of tools."""
        return self._channel.next_job()

    def send(self, message: dict[str, Any]) -> None:
        """Send init a message, not mixed up with what threads of the code send."""
        self._channel.send(message)

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Run a job's code, and give the message that tells what came of it.

        The last statement's value is told if it is an expression. `await` may stand outside of functions: then all of
        the code runs in an event loop, which is kept for the next job. If the state is not kept (`keep`), threads
        that are no daemons are waited for and `atexit` handlers run, as at the end of a program, so that the output
        is complete.

        Args:
            job: The message of type `job`.

        Returns:
            The message of type `result`. As JSON it has no more than `result_limit` bytes (and never needs more than
            `LEAST`). Never raises.
        """
        result: dict[str, Any] = {
            "type": "result", "id": job["id"], "status": "ok", "value": None, "has_value": False, "repr": None,
            "error": None, "exit_code": None, "images": [], "truncated": [],
        }  # fmt: skip
        process = os.getpid()
        _open_streams()
        self._toolbox.open(job["tools"])
        self._channel.allow(job["tools"])
        self._runs += 1
        value = None
        error: BaseException | None = None
        compiling = True
        try:
            parts = self._compile(job["code"])
            compiling = False
            value = self._code.evaluate(parts)
        except BaseException as raised:
            error = raised
        sys.settrace(None)
        sys.setprofile(None)
        if os.getpid() != process:
            _end_child(error)
        depth = sys.getrecursionlimit()
        try:
            sys.setrecursionlimit(RECURSION_LIMIT)
            self._code.context.run(self._tell, result, job, value, error, compiling)
            if "<coroutine object " in (result["repr"] or ""):
                # It is told as a value: Python's own warning would be about this file.
                import warnings

                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", RuntimeWarning)
                    value = None
        except BaseException as raised:
            name = type(raised).__name__
            told = {"type": name, "message": "the result could not be made", "traceback": ""}
            result.update(status="error", value=None, has_value=False, repr=None, images=[], error=told)
        finally:
            self._channel.allow(False)
            sys.setrecursionlimit(depth)
        _flush()
        return result

    def _compile(self, code: str) -> list[CodeType]:
        """Compile all but a last expression, and that.

        Raises:
            SyntaxError: Also for what no Python source can hold.
        """
        name = "<code>" if self._runs == 1 else f"<code {self._runs}>"
        lines = code.splitlines(keepends=True)
        linecache.cache[name] = (len(code), None, lines, name)
        _refuse_characters(code, name)
        flags = self._future | _ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        try:
            tree: Any = compile(code, name, "exec", flags | _ast.PyCF_ONLY_AST, dont_inherit=True)
            last = None
            if tree.body and isinstance(tree.body[-1], _ast.Expr):
                last = _ast.Expression(tree.body.pop().value)
            body = compile(tree, name, "exec", flags, dont_inherit=True)
            self._future |= body.co_flags & _FUTURE
            if last is None:
                return [body]
            return [body, compile(last, name, "eval", flags | self._future, dont_inherit=True)]
        except SyntaxError as error:
            if error.text is None and error.filename == name and 0 < (error.lineno or 0) <= len(lines):
                error.text = lines[
                    (error.lineno or 1) - 1
                ]  # found after parsing, when Python looks for a file
            raise

    def _tell(
        self,
        result: dict[str, Any],
        job: dict[str, Any],
        value: Any,
        error: BaseException | None,
        compiling: bool,
    ) -> None:
        most = max(job["result_limit"], LEAST)
        part = (most - OVERHEAD) // 4  # so that message, traceback and repr leave something for the value
        left = most - OVERHEAD
        if isinstance(error, SystemExit):
            result.update(status="exited", exit_code=_exit_code(error))
        elif error is not None:
            told = tracebacks.explain(error, _OURS, compiling=compiling)
            told["type"] = values.cut(told["type"], 200)
            told["message"] = values.cut(told["message"], min(MESSAGE, part // 2))
            told["traceback"] = tracebacks.cut_middle(told["traceback"], min(TRACEBACK, part))
            result.update(status="error", error=told)
            left -= len(dumps(told))
        elif value is not None:
            left -= self._tell_value(result, value, part, left)
        images, dropped = display.figures(left)
        result["images"] = images
        if dropped:
            result["truncated"].append("images")
        if not job["keep"]:
            self._finish()

    def _tell_value(self, result: dict[str, Any], value: Any, part: int, left: int) -> int:
        """Put value and repr into the result; gives the bytes they take."""
        try:
            text, short = values.shown(value, REPR)
        except BaseException as error:
            text, short = f"<its repr raised {type(error).__name__}>", False
        result["repr"] = values.cut(text, min(part, 6 * REPR))
        size = len(dumps(result["repr"]))
        if short or result["repr"] != text:
            result["truncated"].append("repr")
        try:
            result["value"], taken = values.plain(value, left - size)
            result["has_value"] = True
            size += taken
        except values.TooLargeError:
            result["truncated"].append("value")
        except BaseException:
            return size  # nothing that JSON can hold: the repr tells it
        return size

    def _finish(self) -> None:
        """End as a program does: the event loop, other threads, `atexit` handlers."""
        try:
            self._code.close()
        except BaseException:
            _print_quietly(traceback.format_exc())
        end_program()


def end_program() -> None:
    """Wait for threads that are no daemons, then run `atexit` handlers, in the order of `Py_FinalizeEx`."""
    try:
        if (threading := sys.modules.get("threading")) is not None:
            threading._shutdown()
        atexit._run_exitfuncs()
    except BaseException:
        _print_quietly(traceback.format_exc())


def _end_child(error: BaseException | None) -> NoReturn:
    """End a process that the code forked and that came to the end of the code: it is not the one that answers."""
    code = 0
    if isinstance(error, SystemExit):
        code = _exit_code(error)
    elif error is not None:
        code = 1
        _print_quietly(tracebacks.explain(error, _OURS, compiling=False)["traceback"])
    end_program()
    _flush()
    os._exit(code)


def _exit_code(error: SystemExit) -> int:
    """Give the status that a process ends with, as Python does; what is no number is told on standard error."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return int.__int__(error.code) & 0xFF
    try:
        _print_quietly(f"{error.code}\n")
    except BaseException:
        return 1  # it has no text
    return 1


def _refuse_characters(code: str, name: str) -> None:
    """Raise for characters that no source can hold; the compiler's own answers differ from version to version."""
    place = code.find("\0")
    problem = "source code cannot contain null characters"
    if place < 0 and not code.isascii():
        try:
            code.encode()
        except UnicodeEncodeError as error:
            place = error.start
            problem = "source code cannot contain a lone surrogate"
    if place >= 0:
        start = code.rfind("\n", 0, place) + 1
        line = code[start:].split("\n", 1)[0].replace("\0", "\N{SYMBOL FOR NULL}")
        line = line.encode(errors="replace").decode()
        raise SyntaxError(problem, (name, code.count("\n", 0, place) + 1, place - start + 1, line))


def _open_streams() -> None:
    """Give the code its standard streams, whatever it or the job before did to them.

    UTF-8 whatever the locale; what UTF-8 cannot hold is written as an escape instead of being an error. Lines are
    written as they end, so that output streams. Those for output stay the same between jobs, as handlers of `logging`
    hold them; the one for input is new, as nothing that an earlier job left unread belongs to this one.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream: Any = _streams.get(name)
        if number == 0 or not _usable(stream):
            stream = _streams[name] = _stream(number, name)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


_streams: dict[str, Any] = {}


def _usable(stream: Any) -> bool:
    try:
        return stream is not None and not stream.closed
    except ValueError:
        return False  # its buffer was detached, and has a new owner


def _stream(number: int, name: str) -> Any:
    try:
        raw = io.FileIO(number, "wb" if number else "rb", closefd=False)
    except OSError:
        return None  # the job before closed the descriptor
    raw.name = f"<{name}>"
    buffer: Any = io.BufferedWriter(raw) if number else io.BufferedReader(raw)
    escapes = "backslashreplace" if number else "surrogateescape"
    return io.TextIOWrapper(buffer, "utf-8", escapes, line_buffering=number > 0)


def _flush() -> None:
    for stream in (getattr(sys, "stdout", None), getattr(sys, "stderr", None), *_streams.values()):
        try:
            if stream is not None:
                stream.flush()
        except BaseException:  # noqa: S112 -- closed, full, or something that is no stream at all
            continue


def _print_quietly(text: str) -> None:
    try:
        sys.stderr.write(text)
    except BaseException:
        return  # closed, or something that is no stream at all


def _add_site_builtins() -> None:
    """Add what `site` adds to the builtins of every interpreter: it is not loaded here."""
    builtins.exit = _sitebuiltins.Quitter("exit", "Ctrl-D (i.e. EOF)")
    builtins.quit = _sitebuiltins.Quitter("quit", "Ctrl-D (i.e. EOF)")
    builtins.copyright = _sitebuiltins._Printer("copyright", sys.copyright)
    builtins.credits = _sitebuiltins._Printer("credits", "See https://www.python.org/ for more information.")
    builtins.license = _sitebuiltins._Printer("license", "See https://docs.python.org/3/license.html")
    builtins.help = _sitebuiltins._Helper()
