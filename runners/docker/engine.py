"""One Docker engine: requests to its API, each with a deadline and with errors that say what to do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from ..errors import InstallError, MachineAwayError, RunnerError
from .address import Address

if TYPE_CHECKING:
    import aiodocker
    import aiohttp

PATIENCE = 30.0
"""Seconds the engine has to answer a request that is no long work."""

MISSING = "Containers need an extra: run `pip install 'toolscore[docker]'`, and start ToolScore again."


class EngineError(RunnerError):
    """The engine refused a request.

    Args:
        status: HTTP status of its answer; 0 for an error in the course of one.
        message: What it said.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def need_library() -> None:
    """Load what speaks with engines.

    Raises:
        InstallError: If the extra is not installed.
    """
    try:
        import aiodocker as _used  # noqa: F401
    except ImportError:
        raise InstallError(MISSING) from None


class Engine:
    """Speaks with one engine. Connections are made when they are needed, as many as are.

    Args:
        address: Where it is.
    """

    def __init__(self, address: Address) -> None:
        need_library()
        self.address = address
        self._docker: aiodocker.Docker | None = None
        self._version: str | None = None
        self._agreeing = asyncio.Lock()
        self.told: dict[str, Any] = {}
        """What it said of itself: `Version`, `Os`, `Arch`, `ApiVersion`."""

    async def aclose(self) -> None:
        """Close all connections. A later request opens new ones."""
        docker, self._docker = self._docker, None
        if docker is not None:
            await docker.close()
            await docker.connector.close()  # which it leaves to whoever gave it

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        patience: float = PATIENCE,
    ) -> Any:
        """Make a request and give its answer, read as JSON where it is that.

        Args:
            method: HTTP method.
            path: Path below the version, such as `/containers/json`.
            params: Parameters; objects are written as JSON.
            body: Object for its body.
            patience: Seconds it may take.

        Raises:
            EngineError: If the engine refuses.
            MachineAwayError: If it cannot be reached, or does not answer.
        """
        async with self.stream(method, path, params=params, body=body, patience=patience) as response:
            try:
                async with asyncio.timeout(patience):
                    data = await response.read()
            except TimeoutError:
                raise self._mute(patience) from None
            except Exception as error:
                raise self._away(error) from error
        if "json" not in response.headers.get("Content-Type", ""):
            return data
        return json.loads(data) if data else None

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        patience: float = PATIENCE,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Make a request whose answer is read as it comes; `patience` is for its beginning only.

        Raises:
            EngineError: If the engine refuses.
            MachineAwayError: If it cannot be reached, or does not answer.
        """
        import aiohttp

        version = await self.version()
        response: aiohttp.ClientResponse | None = None
        said = dict(headers or {})
        if body is not None:
            data = json.dumps(body).encode()
            said["Content-Type"] = "application/json"
        try:
            docker = self._client()
            base = "http://docker" if self.address.socket is not None else self.address.url
            async with asyncio.timeout(patience):
                response = await docker.session.request(
                    method,
                    f"{base}{version}{path}",
                    params=_written(params),
                    data=data,
                    headers=said,
                    timeout=aiohttp.ClientTimeout(total=None),
                )
                refused = await response.read() if response.status >= 400 else None
        except TimeoutError:
            if response is not None:
                response.close()
            raise self._mute(patience) from None
        except (aiohttp.ClientError, OSError) as error:
            raise self._away(error) from error
        if refused is not None:
            response.close()
            raise EngineError(response.status, _message(refused))
        try:
            yield response
        finally:
            response.close()

    async def version(self) -> str:
        """Agree on a version of the API: the one the engine prefers. Gives the beginning of all paths."""
        if self._version is None:
            async with self._agreeing:
                if self._version is None:
                    await self._agree()
        return self._version or ""

    async def _agree(self) -> None:
        self._version = ""  # what follows is asked without one
        try:
            told: dict[str, Any] = await self.ask("GET", "/version", patience=10.0)
        except BaseException:
            self._version = None
            raise
        self.told = told
        self._version = f"/v{told['ApiVersion']}"

    def _client(self) -> aiodocker.Docker:
        if self._docker is None:
            import aiodocker
            import aiohttp

            address = self.address
            connector: aiohttp.BaseConnector
            # Each log that is followed holds a connection, so that their number must not be bounded.
            if address.socket is not None:
                connector = aiohttp.UnixConnector(address.socket, limit=0)
            else:
                connector = aiohttp.TCPConnector(limit=0, ssl=address.tls or True)
            self._docker = aiodocker.Docker(address.url, connector=connector)
        return self._docker

    def _mute(self, seconds: float) -> MachineAwayError:
        return MachineAwayError(
            f"The Docker engine at {self.address.text} did not answer within {seconds:g} s. See its own log; what "
            "waits for it goes on once it answers."
        )

    def _away(self, error: BaseException) -> MachineAwayError:
        self._version = None  # what comes back may be another version
        reason = getattr(error, "os_error", None) or error
        said = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        return MachineAwayError(
            f"The Docker engine at {self.address.text} cannot be reached: {said}. Start it, or set docker.host or "
            "DOCKER_HOST to where it is; what waits for it goes on once it answers."
        )


def _written(params: Mapping[str, Any] | None) -> dict[str, str]:
    found = {}
    for key, value in (params or {}).items():
        if isinstance(value, bool):
            found[key] = "1" if value else "0"
        elif isinstance(value, str | int | float):
            found[key] = str(value)
        elif value is not None:
            found[key] = json.dumps(value)
    return found


def _message(body: bytes) -> str:
    try:
        found = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        found = body.decode("utf-8", "replace")
    return str(found).strip() or "it gave no reason"
