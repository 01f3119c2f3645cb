"""What can go wrong below the tool library. Each error's text says what happened and what to do next."""

from __future__ import annotations


class RunnerError(Exception):
    """The base of every error of this floor.

    Args:
        message: What happened and what to do next, in sentences a person or a model can act on.
        stderr: The end of what the server or installer wrote on its standard error, where there is any.
    """

    def __init__(self, message: str, *, stderr: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.stderr = stderr

    def __str__(self) -> str:
        """Give the message, followed by the tail of standard error where there is one."""
        return (
            f"{self.message}\n--- its standard error ends with ---\n{self.stderr}"
            if self.stderr
            else self.message
        )


class SourceError(RunnerError):
    """The source is not one ToolScore knows, or says something impossible."""


class InstallError(RunnerError):
    """Fetching or building a server failed; nothing of it is left."""


class SettingsMissingError(InstallError):
    """What is to be installed needs settings that were not given; nothing of it is left.

    Args:
        message: What happened and what to do next.
        missing: Each as an entry of the catalog says it: `name`, `place`, `description`, `secret`, `format`.
    """

    def __init__(self, message: str, missing: list[dict[str, object]]) -> None:
        super().__init__(message)
        self.missing = missing


class SpecError(RunnerError):
    """A spec cannot be used as it is. Trying again changes nothing, so that server is not tried again."""


class UnmadeError(SpecError):
    """What a server is started from is still being made here. It is started anew once it is there."""


class MissingVariableError(SpecError):
    """A `${NAME}` in a spec has no value. It disables that server only.

    Args:
        variable: The name that is not set.
        where: The part of the spec that uses it, such as `env.API_KEY`.
        secret: Whether a named secret would do.
    """

    def __init__(self, variable: str, where: str, *, secret: bool = True) -> None:
        written = variable if secret else f"env:{variable}"
        first = f"run `toolscore secret set {variable}`, or set" if secret else "set"
        super().__init__(
            f"${{{written}}} is not set, and {where} uses it: {first} the environment variable {variable} for "
            f"ToolScore, or write ${{{written}:-default}}, and start the server again."
        )
        self.variable = variable


class StartError(RunnerError):
    """A server did not come up: it could not be started, exited, hung, or did not speak MCP."""


class MachineAwayError(StartError):
    """What a server is to run on cannot be reached. Nothing is wrong with the server, which is tried until it is."""


class AuthorizationNeededError(StartError):
    """A server wants to be authorized by a person first. Trying again changes nothing until somebody does.

    Args:
        server: Its name.
        why: What was wrong with what is kept, as a sentence; empty where nothing is.
    """

    def __init__(self, server: str, why: str = "") -> None:
        text = f"server '{server}' needs authorization: run `toolscore authorize {server}`."
        super().__init__(f"{text} {why}".rstrip())
        self.why = why


class ChildGoneError(RunnerError):
    """The line to the server is closed.

    Args:
        message: What is known about why.
        written: Whether the request in question had been written, so that its outcome is unknown.
    """

    def __init__(self, message: str, *, written: bool, stderr: str = "") -> None:
        super().__init__(message, stderr=stderr)
        self.written = written


class ChildTimeoutError(RunnerError):
    """The server did not answer a request within its deadline; the request was cancelled."""


class FaultError(RunnerError):
    """A request is answered with a JSON-RPC error, whoever answers it.

    Args:
        code: The JSON-RPC error code.
        message: Its message.
        data: Its data.
    """

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data

    def as_error(self) -> dict[str, object]:
        """Give it as the `error` member of a JSON-RPC answer."""
        error: dict[str, object] = {"code": self.code, "message": self.message}
        if self.data is not None:
            error["data"] = self.data
        return error


class ChildFaultError(FaultError):
    """The server answered a request with a JSON-RPC error; code, message and data are untouched."""
