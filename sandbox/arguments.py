"""What callers may ask of the sandbox's tools, checked before anything runs.

The only file of the sandbox that needs pydantic: it is imported with the first list or call, not at the start.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .execution import InputFile
from .refusal import CallRefusedError

MOST_CODE = 4 << 20
"""Characters of code."""

MOST_FILES = 256
MOST_PATH = 1024
"""Bytes of an input file's path; a part of it has up to 255 (`NAME_MAX`)."""

MOST_DEPTH = 16
MOST_PACKAGES = 32
MOST_PROBLEMS = 8
"""Wrong arguments that one refusal names."""

MIB = 1 << 20


class _Arguments(BaseModel):
    # A wrong value is repeated in no error: it may be megabytes.
    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)


class GivenFile(_Arguments):
    """A file for the code."""

    path: str = Field(description="Relative path under /workspace, such as data/in.csv.")
    text: str | None = Field(default=None, description="What it holds, as text (written as UTF-8).")
    base64: str | None = Field(default=None, description="What it holds, as Base64; instead of text.")

    @field_validator("path")
    @classmethod
    def _relative(cls, path: str) -> str:
        return checked_path(path)

    @model_validator(mode="after")
    def _one_content(self) -> GivenFile:
        if (self.text is None) == (self.base64 is None):
            raise ValueError("give either text or base64")
        return self

    def data(self) -> bytes:
        """Give its bytes.

        Raises:
            ValueError: If it is no Base64, or no Unicode text.
        """
        if self.base64 is None:
            return (self.text or "").encode()
        try:
            return base64.b64decode(self.base64, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(f"{self.path!r}: what it holds is not valid Base64") from None


class AskedLimits(_Arguments):
    """Limits for this call; each can only be lowered below the operator's."""

    wall: float | None = Field(default=None, gt=0, allow_inf_nan=False, description="Seconds.")
    cpu: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Seconds of processor time."
    )
    memory: float | None = Field(default=None, ge=32, allow_inf_nan=False, description="MiB of memory.")
    processes: int | None = Field(default=None, ge=1, description="Processes and threads at the same time.")
    output: int | None = Field(
        default=None, ge=1, description="Bytes of standard output, and as many of standard error."
    )

    def asked(self) -> dict[str, float]:
        """Give them by the names and in the units of `Limits`."""
        values = self.model_dump(exclude_none=True)
        if "memory" in values:
            values["memory"] = values["memory"] * MIB
        return values


Packages = Annotated[list[str], Field(max_length=MOST_PACKAGES)]


class ExecuteArguments(_Arguments):
    """Arguments of `python_execute`."""

    code: str = Field(
        max_length=MOST_CODE,
        description="Python source. The value of its last expression is the result. Files go to /workspace, "
        "the working folder.",
    )
    stdin: str | None = Field(default=None, description="What it can read from standard input.")
    files: Annotated[list[GivenFile], Field(max_length=MOST_FILES)] | None = Field(
        default=None, description="Files put into /workspace first."
    )
    limits: AskedLimits | None = Field(default=None)
    packages: Packages | None = Field(
        default=None,
        description="Packages the code needs, such as numpy. sandbox_status lists what there is.",
    )
    session: str | None = Field(
        default=None, description="Session to run in, from session_start: variables and files stay."
    )

    def input_files(self, most: int) -> tuple[InputFile, ...]:
        """Give the files, each one once.

        Args:
            most: Bytes of all together.

        Raises:
            CallRefusedError: If they cannot all be written, or are too large.
        """
        made: dict[str, InputFile] = {}
        folders: set[str] = set()
        left = most
        for given in self.files or ():
            # Told by its length first: what is too large is not decoded.
            least = len(given.text or "") if given.base64 is None else len(given.base64) // 4 * 3 - 2
            try:
                data = given.data() if least <= left else None
            except ValueError as exc:  # UnicodeEncodeError is one: a lone surrogate in embedded mode
                raise _wrong(f"files: {exc}") from None
            left -= least if data is None else len(data)
            if data is None or left < 0:
                raise _wrong(f"files: together they are larger than the {most} bytes that /workspace holds")
            parts = given.path.split("/")
            above = {"/".join(parts[:count]) for count in range(1, len(parts))}
            if given.path in made:
                raise _wrong(f"files: {given.path!r} is given twice")
            if given.path in folders or above & made.keys():
                raise _wrong(f"files: {given.path!r} would be a file and a folder at once")
            made[given.path] = InputFile(given.path, data)
            folders |= above
        return tuple(made.values())

    def input_bytes(self, most: int) -> bytes:
        """Give what standard input holds.

        Raises:
            CallRefusedError: If it is larger than `most` bytes, or no Unicode text.
        """
        try:
            data = (self.stdin or "").encode()
        except UnicodeEncodeError:
            raise _wrong("stdin: not Unicode text (a lone surrogate)") from None
        if len(data) > most:
            raise _wrong(f"stdin: larger than {most} bytes; give it as a file")
        return data


class StartArguments(_Arguments):
    """Arguments of `session_start`."""

    packages: Packages | None = Field(default=None, description="Packages the session needs.")
    ttl: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Seconds it lives at the most."
    )
    idle: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Seconds without use after which it ends."
    )


class EndArguments(_Arguments):
    """Arguments of `session_end`."""

    session: str = Field(description="The session, from session_start.")


class StatusArguments(_Arguments):
    """Arguments of `sandbox_status`: none."""


Model = TypeVar("Model", bound=_Arguments)


def parsed(model: type[Model], tool: str, arguments: Mapping[str, Any]) -> Model:
    """Check arguments.

    Args:
        model: What they must be.
        tool: Whose they are, for the error.
        arguments: As they came.

    Raises:
        CallRefusedError: If they are not.
    """
    try:
        return model.model_validate(arguments)
    except ValidationError as exc:
        found = exc.errors(include_url=False, include_input=False, include_context=False)
        lines = [
            f"{'.'.join(str(part) for part in error['loc']) or 'arguments'}: "
            f"{error['msg'].removeprefix('Value error, ')}"
            for error in found[:MOST_PROBLEMS]
        ]
        more = f" (and {len(found) - MOST_PROBLEMS} more)" if len(found) > MOST_PROBLEMS else ""
        raise _wrong(f"{'; '.join(lines)}{more}", tool) from None


def checked_path(path: str) -> str:
    """Give an input file's path without its `.` parts.

    Raises:
        ValueError: If it is not the name of a file below `/workspace`.
    """
    if path.startswith("/"):
        raise ValueError("must be relative to /workspace, not absolute")
    parts = [part for part in path.split("/") if part != "."]
    if not path or not parts or "" in parts:
        raise ValueError("must be a path such as data/in.csv, without empty parts")
    if ".." in parts:
        raise ValueError("must not leave /workspace: '..' is not allowed")
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        raise ValueError("must not hold control characters")
    try:
        encoded = [part.encode() for part in parts]
    except UnicodeEncodeError:
        raise ValueError("must be Unicode text") from None
    if len(parts) > MOST_DEPTH or len(path.encode()) > MOST_PATH or any(len(part) > 255 for part in encoded):
        raise ValueError(
            f"is too long: {MOST_DEPTH} parts of 255 bytes, {MOST_PATH} bytes in all at the most"
        )
    return "/".join(parts)


def schema(model: type[BaseModel]) -> dict[str, Any]:
    """Give a model's JSON Schema as a tool shows it: without titles, optional members not nullable, no references."""
    full = model.model_json_schema()
    shown = _plain(full, full.get("$defs", {}))
    shown.pop("description", None)
    return {"type": "object", "properties": {}, **shown}


def _plain(node: Any, defined: Mapping[str, Any]) -> Any:
    if isinstance(node, list):
        return [_plain(item, defined) for item in node]
    if not isinstance(node, dict):
        return node
    if reference := node.get("$ref"):
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return _plain({**defined[reference.rpartition("/")[2]], **rest}, defined)
    if isinstance(choices := node.get("anyOf"), list):
        given = [choice for choice in choices if choice != {"type": "null"}]
        if len(given) == 1 and len(choices) == 2:
            rest = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
            return _plain({**given[0], **rest}, defined)
    return {
        key: {name: _plain(item, defined) for name, item in value.items()}
        if key == "properties"
        else _plain(value, defined)
        for key, value in node.items()
        if key not in ("title", "$defs")
    }


def _wrong(problem: str, tool: str = "python_execute") -> CallRefusedError:
    return CallRefusedError(
        "invalid_arguments", f"Nothing was run. {problem}. Correct the arguments and call {tool} again."
    )
